//! The steps that make a plan smaller without taking its operations or faults.
//!
//! None of them may take a plan beyond what the broker promises: no step makes an acknowledgement weaker, a fault
//! longer or a bound tighter.

use crate::plan::{Action, ClientKind, ClientPlan, FaultKind, Plan};
use crate::value::VALUE_BYTES_MIN;

/// What is usual instead of what was drawn.
pub(super) const OPTIONS: [fn(&mut Plan); 8] = [
    |plan| plan.node.clock_skew_ms = 0,
    |plan| plan.node.clock_drift_ppm = 0,
    |plan| plan.node.commits_mixed = false,
    |plan| plan.node.commits_on_thread = false,
    |plan| plan.node.trusts_os = false,
    |plan| plan.network.piece_bytes_max = 0,
    |plan| plan.network.latency_us_max = plan.network.latency_us_min,
    |plan| plan.node.sync_us_max = plan.node.sync_us_min,
];

/// Smaller operations. Each is tried as long as it helps.
pub(super) const OPERATION: [fn(&mut Action); 6] = [
    |action| {
        if let Action::Produce { codec, .. } = action {
            *codec = 0;
        }
    },
    |action| {
        if let Action::Produce { records, .. } = action {
            *records = 1;
        }
    },
    |action| {
        if let Action::Produce { value_bytes, .. } = action {
            *value_bytes = VALUE_BYTES_MIN;
        }
    },
    |action| {
        if let Action::Produce { records, .. } = action {
            *records = (*records / 2).max(1);
        }
    },
    |action| {
        if let Action::Produce { value_bytes, .. } = action {
            *value_bytes = (*value_bytes / 2).max(VALUE_BYTES_MIN);
        }
    },
    |action| match action {
        Action::Poll { topics } | Action::Subscribe { topics } if topics.len() > 1 => drop(topics.pop()),
        Action::CreatePartitions { more, .. } => *more = 1,
        Action::Stall { for_ms } => *for_ms /= 2,
        _ => {}
    },
];

/// A plainer client.
pub(super) const CLIENT: [fn(&mut ClientKind); 4] = [
    |kind| {
        if let ClientKind::Member { uses_regex, .. } = kind {
            *uses_regex = false;
        }
    },
    |kind| {
        if let ClientKind::Member { age, .. } = kind {
            *age = 0;
        }
    },
    |kind| {
        if let ClientKind::Member { instance, .. } = kind {
            *instance = None;
        }
    },
    |kind| match kind {
        ClientKind::Member { topics, .. } if topics.len() > 1 => drop(topics.pop()),
        _ => {}
    },
];

/// Half of what a fault lasts or amounts to.
pub(super) fn halve_fault(fault: &mut FaultKind) {
    match fault {
        FaultKind::Kill { down_ms: ms }
        | FaultKind::PowerLoss { down_ms: ms, .. }
        | FaultKind::Restart { down_ms: ms } => {
            *ms /= 2;
        }
        FaultKind::Pause { for_ms }
        | FaultKind::DiskFull { for_ms }
        | FaultKind::DiskSlow { for_ms, .. }
        | FaultKind::DiskStall { for_ms }
        | FaultKind::LyingSync { for_ms }
        | FaultKind::MuteToServer { for_ms, .. }
        | FaultKind::MuteToClient { for_ms, .. }
        | FaultKind::Delay { for_ms, .. }
        | FaultKind::Fragment { for_ms, .. }
        | FaultKind::SlowReader { for_ms, .. }
        | FaultKind::Refuse { for_ms }
        | FaultKind::Blackhole { for_ms }
        | FaultKind::LinkMuted { for_ms, .. }
        | FaultKind::LinkSlow { for_ms, .. }
        | FaultKind::LinkRefused { for_ms, .. }
        | FaultKind::Isolated { for_ms, .. } => *for_ms /= 2,
        FaultKind::ClockStep { by_ms } => *by_ms /= 2,
        FaultKind::KillInRecovery { changes, .. } => *changes /= 2,
        FaultKind::SyncFails { .. }
        | FaultKind::WriteFails { .. }
        | FaultKind::ReadFails { .. }
        | FaultKind::BitFlip { .. }
        | FaultKind::MisdirectedWrite { .. }
        | FaultKind::TruncatedIndex
        | FaultKind::Reset { .. }
        | FaultKind::HalfOpen { .. }
        | FaultKind::LinkReset { .. } => {}
    }
}

/// Takes a client out, and the faults that befall it; those after it move up.
pub(super) fn drop_client(plan: &mut Plan, index: usize) {
    plan.clients.remove(index);
    plan.faults.retain(|fault| victim(&fault.what) != Some(index));
    for fault in &mut plan.faults {
        if let Some(client) = victim_mut(&mut fault.what).filter(|client| **client > index) {
            *client -= 1;
        }
    }
}

/// Takes the last broker out, and the faults that befall it; topics lie on those that are left.
pub(super) fn drop_node(plan: &mut Plan) {
    let Some(cluster) = &mut plan.cluster else { return };
    cluster.others.pop();
    if cluster.others.is_empty() {
        plan.cluster = None;
    }
    let nodes = plan.nodes();
    plan.faults.retain(|fault| fault.node <= nodes && peer(&fault.what).is_none_or(|peer| peer <= nodes));
    if plan.cluster.is_none() {
        plan.faults.retain(|fault| !matches!(fault.what, FaultKind::Isolated { .. }));
    }
    plan.topics.iter_mut().for_each(|topic| topic.replication = topic.replication.min(nodes));
    for client in &mut plan.clients {
        client.operations.retain_mut(|operation| match &mut operation.what {
            Action::MoveReplicas { to, .. } => {
                to.retain(|&node| node <= nodes);
                !to.is_empty()
            }
            Action::AddNode { node, .. } | Action::RemoveNode { node } => *node <= nodes,
            _ => true,
        });
    }
}

/// The other broker of a fault between two.
fn peer(fault: &FaultKind) -> Option<u32> {
    match *fault {
        FaultKind::LinkMuted { to, .. } | FaultKind::LinkSlow { to, .. } => Some(to),
        FaultKind::LinkReset { with } | FaultKind::LinkRefused { with, .. } => Some(with),
        _ => None,
    }
}

fn victim(fault: &FaultKind) -> Option<usize> {
    victim_mut(&mut fault.clone()).copied()
}

fn victim_mut(fault: &mut FaultKind) -> Option<&mut usize> {
    match fault {
        FaultKind::Reset { client }
        | FaultKind::MuteToServer { client, .. }
        | FaultKind::MuteToClient { client, .. }
        | FaultKind::HalfOpen { client }
        | FaultKind::Delay { client, .. }
        | FaultKind::Fragment { client, .. }
        | FaultKind::SlowReader { client, .. } => Some(client),
        _ => None,
    }
}

/// Whether an operation names a topic.
pub(super) fn names_topic(plan: &Plan, index: usize) -> bool {
    let mut actions = plan.clients.iter().flat_map(|client| &client.operations).map(|operation| &operation.what);
    let is_subscribed = |client: &ClientPlan| subscribed(&mut client.kind.clone()).contains(&index);
    actions.any(|action| topics(&mut action.clone()).any(|topic| *topic == index))
        || plan.clients.iter().any(is_subscribed)
}

/// Takes a topic out that nobody names; those after it move up.
pub(super) fn drop_topic(plan: &mut Plan, index: usize) {
    plan.topics.remove(index);
    for operation in plan.clients.iter_mut().flat_map(|client| &mut client.operations) {
        for topic in topics(&mut operation.what).filter(|topic| **topic > index) {
            *topic -= 1;
        }
    }
    for client in &mut plan.clients {
        for topic in subscribed(&mut client.kind).iter_mut().filter(|topic| **topic > index) {
            *topic -= 1;
        }
    }
}

/// The topics that a client subscribes to at first.
fn subscribed(kind: &mut ClientKind) -> &mut [usize] {
    match kind {
        ClientKind::Member { topics, .. } => topics,
        _ => &mut [],
    }
}

/// Leaves a topic one partition, to which everything goes that went to another.
pub(super) fn one_partition(plan: &mut Plan, index: usize) {
    plan.topics[index].partitions = 1;
    for operation in plan.clients.iter_mut().flat_map(|client| &mut client.operations) {
        if let Action::Produce { topic, partition, .. }
        | Action::ListOffsets { topic, partition, .. }
        | Action::DeleteRecords { topic, partition, .. }
        | Action::MoveReplicas { topic, partition, .. }
        | Action::CancelMove { topic, partition }
        | Action::ElectLeader { topic, partition }
        | Action::CommitAlone { topic, partition, .. } = &mut operation.what
            && *topic == index
        {
            *partition = 0;
        }
    }
}

/// The topics that an operation names.
fn topics(action: &mut Action) -> impl Iterator<Item = &mut usize> {
    match action {
        Action::Poll { topics } | Action::Subscribe { topics } => topics.iter_mut(),
        Action::Produce { topic, .. }
        | Action::ListOffsets { topic, .. }
        | Action::CreateTopic { topic }
        | Action::DeleteTopic { topic }
        | Action::CreatePartitions { topic, .. }
        | Action::DeleteRecords { topic, .. }
        | Action::AlterConfig { topic, .. }
        | Action::DeleteOffsets { topic, .. }
        | Action::MoveReplicas { topic, .. }
        | Action::CancelMove { topic, .. }
        | Action::ElectLeader { topic, .. }
        | Action::CommitAlone { topic, .. } => std::slice::from_mut(topic).iter_mut(),
        Action::Rewind
        | Action::Ask { .. }
        | Action::Misbehave { .. }
        | Action::Join
        | Action::Leave
        | Action::Vanish
        | Action::Stall { .. }
        | Action::Commit { .. }
        | Action::AskGroup { .. }
        | Action::DeleteGroup { .. }
        | Action::RemoveMember { .. }
        | Action::Bother { .. }
        | Action::AddNode { .. }
        | Action::RemoveNode { .. }
        | Action::AskCluster { .. } => [].iter_mut(),
    }
}

/// Everything happens in half of the time, in the same order; what lasts, lasts as long.
pub(super) fn hurry(plan: &mut Plan) {
    plan.duration_ms = plan.duration_ms.div_ceil(2);
    plan.faults.iter_mut().for_each(|fault| fault.at_ms /= 2);
    let operations = plan.clients.iter_mut().flat_map(|client| &mut client.operations);
    operations.for_each(|operation| operation.at_ms /= 2);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Fault, Operation};
    use crate::testing;

    #[test]
    fn without_a_client_the_faults_still_befall_the_same_others() {
        let mut plan = testing::plan();
        let reset = |client| Fault::new(0, FaultKind::Reset { client });
        plan.faults = [0, 1, 2].map(reset).to_vec();
        drop_client(&mut plan, 1);
        assert_eq!(plan.clients.len(), 2);
        assert_eq!(plan.faults, [0, 1].map(reset));
    }

    #[test]
    fn without_a_broker_nothing_befalls_it_and_no_topic_lies_on_it() {
        let mut plan = testing::cluster_plan(3);
        let to = |brokers: &[u32]| Operation {
            at_ms: 0,
            what: Action::MoveReplicas { topic: 0, partition: 0, to: brokers.to_vec() },
        };
        plan.clients[0].operations = vec![to(&[3, 1]), to(&[3])];
        drop_node(&mut plan);
        assert_eq!(plan.clients[0].operations, [to(&[1])]);
        assert_eq!((plan.nodes(), plan.topics[0].replication), (2, 2));
        assert!(plan.faults.iter().all(|fault| fault.node <= 2 && peer(&fault.what).is_none()));
        drop_node(&mut plan);
        let alone = testing::plan();
        assert_eq!((&plan.cluster, &plan.topics), (&alone.cluster, &alone.topics));
        assert_eq!(plan.faults[..alone.faults.len()], alone.faults);
    }

    #[test]
    fn without_a_topic_the_operations_still_name_the_same_others() {
        let mut plan = testing::plan();
        let poll = |topics: &[usize]| Operation { at_ms: 0, what: Action::Poll { topics: topics.to_vec() } };
        plan.clients.truncate(1);
        plan.clients[0].operations = vec![poll(&[1])];
        assert!(names_topic(&plan, 1) && !names_topic(&plan, 0));
        drop_topic(&mut plan, 0);
        assert_eq!(plan.topics[0].name, "t1");
        assert_eq!(plan.clients[0].operations, [poll(&[0])]);
    }

    #[test]
    fn halving_comes_to_an_end() {
        let mut fault = FaultKind::ClockStep { by_ms: -5_000 };
        for _ in 0..20 {
            halve_fault(&mut fault);
        }
        assert_eq!(fault, FaultKind::ClockStep { by_ms: 0 });
    }
}
