//! Who looks after a cluster while it works, drawn: moves, ends of moves, elections of first replicas, questions.

use super::Dice;
use crate::plan::{Action, ClientKind, ClientPlan, Operation, TopicPlan};

/// Nothing is moved before topics are there and written to, in milliseconds.
const START_MS: u64 = 1_500;

/// The cluster admin of a plan that lasts so long: an operation about every `apart_ms`, each with dice of its own. Some
/// change how many replicas a partition has, between two and three.
pub(super) fn admin(
    dice: &mut Dice,
    of_operation: impl Fn(u64) -> Dice,
    (topics, nodes): (&[TopicPlan], u32),
    duration_ms: u64,
    apart_ms: u64,
) -> ClientPlan {
    let kind = ClientKind::ClusterAdmin { request_timeout_ms: dice.scale(500, 3_000) };
    let resizes = dice.one_in(3);
    let until_ms = duration_ms - START_MS / 3;
    let operation = |number| {
        let mut dice = of_operation(number);
        let at_ms = dice.between(START_MS, until_ms - 1);
        let topic = usize::try_from(dice.below(topics.len() as u64)).expect("it is an index");
        let partitions = u64::try_from(topics[topic].partitions).expect("a topic has partitions");
        let partition = i32::try_from(dice.below(partitions)).expect("few");
        let what = match dice.below(8) {
            0..=3 => {
                let replication = topics[topic].replication;
                let size = if resizes && replication > 1 { dice.number(2, nodes.min(3)) } else { replication };
                Action::MoveReplicas { topic, partition, to: some_of(&mut dice, nodes, size) }
            }
            4 => Action::CancelMove { topic, partition },
            5 | 6 => Action::ElectLeader { topic, partition },
            _ => Action::AskCluster { which: u8::try_from(dice.below(2)).expect("small") },
        };
        Operation { at_ms, what }
    };
    let mut operations: Vec<Operation> = (0..(until_ms - START_MS) / apart_ms).map(operation).collect();
    operations.sort_by_key(|operation| operation.at_ms);
    ClientPlan { kind, operations }
}

/// So many different brokers, in any order.
fn some_of(dice: &mut Dice, nodes: u32, count: u32) -> Vec<u32> {
    let mut rest: Vec<u32> = (1..=nodes).collect();
    let mut pick = |_| rest.swap_remove(usize::try_from(dice.below(rest.len() as u64)).expect("it is an index"));
    (0..count).map(&mut pick).collect()
}
