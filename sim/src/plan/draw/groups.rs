//! Consumer groups, drawn: who is in them, how members come and go, and what goes wrong just then.
//!
//! Every other plan has groups. Their clients come behind the others and their faults beside the others', so that a plan
//! is what it would be without them, and more.

use std::collections::BTreeMap;

use super::stories::death;
use super::{DURATION_MS, Dice, Key, Root};
use crate::plan::{Action, ClientKind, ClientPlan, Fault, FaultKind, GroupProtocol, Operation, TopicPlan};

/// Members begin after this, in milliseconds.
const START_MS: u64 = 200;
/// Nothing new is begun this long before the end, in milliseconds.
const CALM_MS: u64 = 1_000;
/// The group of those that commit without being members.
const ALONE: u32 = 9;

/// What all members of a group have in common.
#[derive(Clone, Copy, Debug)]
struct Common {
    group: u32,
    kind: Kind,
    session_timeout_ms: u64,
    rebalance_timeout_ms: u64,
    is_static: bool,
    /// Members come and go all the time, or seldom.
    is_restless: bool,
}

/// What members a group has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Range,
    Sticky,
    Next,
    /// Classic members first, then some of the next protocol, and then classic ones again.
    Mixed,
}

/// Whether a seed's plan has groups.
pub(super) fn has_groups(root: &Root) -> bool {
    root.of(Key::Groups).one_in(2)
}

/// The broker's settings for groups.
pub(super) fn settings(root: &Root, broker: &mut BTreeMap<String, String>) {
    let mut dice = root.numbered(Key::Groups, 1);
    let mut set = |name: &str, value: u64| drop(broker.insert(name.to_owned(), value.to_string()));
    set("group.initial.rebalance.delay.ms", dice.pick(&[0, 0, 50, 300, 1_000]));
    set("offsets.topic.num.partitions", dice.between(1, 4));
    if dice.one_in(2) {
        set("offsets.topic.segment.bytes", dice.scale(4 << 10, 64 << 10));
    }
    if dice.one_in(3) {
        set("offsets.retention.minutes", 1);
        set("offsets.retention.check.interval.ms", dice.pick(&[500, 2_000, 10_000]));
    }
    set("group.min.session.timeout.ms", 1_000);
    let interval = dice.between(150, 1_000);
    set("group.consumer.heartbeat.interval.ms", interval);
    set("group.consumer.session.timeout.ms", interval + dice.between(800, 5_000));
    if dice.one_in(8) {
        set("group.max.size", dice.between(1, 3));
        set("group.consumer.max.size", dice.between(1, 3));
    }
}

/// Members of one or two groups, and perhaps who looks after them. `first` is the first of these clients' index.
pub(super) fn clients(root: &Root, topics: &[TopicPlan], first: usize) -> Vec<ClientPlan> {
    let mut dice = root.numbered(Key::Groups, 2);
    let groups = dice.number(1, 2);
    let mut clients = Vec::new();
    for group in 0..groups {
        let mut dice = root.numbered(Key::Groups, 10 + u64::from(group));
        let common = Common {
            group,
            kind: dice.pick(&[Kind::Range, Kind::Range, Kind::Sticky, Kind::Next, Kind::Next, Kind::Mixed]),
            session_timeout_ms: dice.scale(1_000, 6_000),
            rebalance_timeout_ms: dice.scale(1_500, 6_000),
            is_static: dice.one_in(3),
            is_restless: dice.one_in(2),
        };
        let members = if groups == 1 { dice.between(2, 5) } else { dice.between(1, 3) };
        for member in 0..members {
            let client = first + clients.len();
            clients.push(self::member(root, topics, common, member, client));
        }
    }
    if dice.one_in(2) {
        clients.push(admin(root, topics, groups, first + clients.len()));
    }
    clients
}

fn member(root: &Root, topics: &[TopicPlan], common: Common, member: u64, client: usize) -> ClientPlan {
    let mut dice = root.numbered(Key::Groups, 100 + 100 * u64::from(common.group) + member);
    let is_next = match common.kind {
        Kind::Next => true,
        // The first is classic and stays so: it lives to see both changes.
        Kind::Mixed => member > 0 && dice.one_in(2),
        Kind::Range | Kind::Sticky => false,
    };
    let protocol = match (is_next, common.kind) {
        (true, _) if dice.one_in(3) => GroupProtocol::NextRange,
        (true, _) => GroupProtocol::NextUniform,
        (false, Kind::Sticky) => GroupProtocol::CooperativeSticky,
        (false, _) => GroupProtocol::Range,
    };
    // Now and then two are the same static member.
    let instance = common.is_static.then(|| if dice.one_in(12) { 0 } else { u32::try_from(member).expect("few") });
    let heartbeat_ms = (common.session_timeout_ms / 3).min(dice.between(150, 1_000));
    let kind = ClientKind::Member {
        group: common.group,
        protocol,
        instance,
        session_timeout_ms: common.session_timeout_ms,
        rebalance_timeout_ms: common.rebalance_timeout_ms,
        heartbeat_ms,
        request_timeout_ms: dice.scale(800, 3_000),
        topics: subscription(&mut dice, topics),
        uses_regex: is_next && dice.one_in(4),
        age: if dice.one_in(2) { 0 } else { u8::try_from(dice.between(1, 2)).expect("small") },
    };
    let mut operations = life(&mut dice, topics, common, is_next);
    let client = client as u64;
    let (polls, commits) = (dice.between(60, 200), dice.between(20, 120));
    let has_stale = dice.one_in(2);
    for number in 0..polls + commits {
        let mut dice = root.operation(client, number);
        let what = match number < polls {
            true => Action::Poll { topics: Vec::new() },
            false => Action::Commit { is_stale: has_stale && dice.one_in(12) },
        };
        operations.push(Operation { at_ms: dice.between(START_MS, DURATION_MS - 1), what });
    }
    operations.sort_by_key(|operation| operation.at_ms);
    ClientPlan { kind, operations }
}

fn subscription(dice: &mut Dice, topics: &[TopicPlan]) -> Vec<usize> {
    let all: Vec<usize> = (0..topics.len()).collect();
    if dice.one_in(3) { vec![dice.pick(&all)] } else { all }
}

/// How a member comes and goes: a chapter after the other.
fn life(dice: &mut Dice, topics: &[TopicPlan], common: Common, is_next: bool) -> Vec<Operation> {
    let mut operations = Vec::new();
    let mut at_ms = match (common.kind, is_next) {
        // By then the others have a generation.
        (Kind::Mixed, true) => dice.between(8_000, 25_000),
        _ => dice.between(START_MS, 6_000),
    };
    let mut act = |at_ms: u64, what| operations.push(Operation { at_ms, what });
    act(at_ms, Action::Join);
    let pace = if common.is_restless { 8_000 } else { 30_000 };
    loop {
        at_ms += dice.scale(pace / 4, pace);
        // Longer than its session, or not.
        let away_ms = dice.scale(common.session_timeout_ms / 4, 3 * common.session_timeout_ms);
        if at_ms + away_ms + CALM_MS > DURATION_MS {
            break;
        }
        match dice.below(6) {
            0 | 1 => {
                act(at_ms, Action::Leave);
                if dice.one_in(5) {
                    return operations;
                }
                act(at_ms + away_ms, Action::Join);
            }
            2 => {
                act(at_ms, Action::Vanish);
                act(at_ms + away_ms, Action::Join);
            }
            3 => {
                // Started again at once, as a process that is updated.
                act(at_ms, Action::Vanish);
                act(at_ms + dice.between(1, 400), Action::Join);
            }
            4 => act(at_ms, Action::Stall { for_ms: away_ms }),
            _ => act(at_ms, Action::Subscribe { topics: subscription(dice, topics) }),
        }
        at_ms += away_ms;
    }
    operations
}

fn admin(root: &Root, topics: &[TopicPlan], groups: u32, client: usize) -> ClientPlan {
    let mut dice = root.numbered(Key::Groups, 3);
    let kind = ClientKind::GroupAdmin { request_timeout_ms: dice.scale(800, 3_000) };
    let deletes = dice.one_in(2);
    let count = dice.between(20, 90);
    let operation = |number| {
        let mut dice = root.operation(client as u64, number);
        let group = u32::try_from(dice.below(groups.into())).expect("few");
        let topic = usize::try_from(dice.below(topics.len() as u64)).expect("it is an index");
        let partitions = u64::try_from(topics[topic].partitions).expect("a topic has partitions");
        let partition = i32::try_from(dice.below(partitions)).expect("few");
        let alone = if dice.one_in(4) { group } else { ALONE };
        let which = u8::try_from(dice.below(200)).expect("small");
        let what = match dice.below(12) {
            0..=3 => Action::AskGroup { group, which },
            4 if deletes => Action::DeleteGroup { group: alone },
            5 if deletes => Action::DeleteOffsets { group: alone, topic },
            6 if dice.one_in(2) => Action::RemoveMember { group, instance: dice.number(0, 3) },
            7 | 8 => Action::Bother { group, which },
            _ => Action::CommitAlone { group: alone, topic, partition },
        };
        Operation { at_ms: dice.between(START_MS, DURATION_MS - 1), what }
    };
    let mut operations: Vec<Operation> = (0..count).map(operation).collect();
    operations.sort_by_key(|operation| operation.at_ms);
    ClientPlan { kind, operations }
}

/// Faults that strike when a group is at its weakest: in a rebalance, in a commit, in a load. `clients` are all of the
/// plan's, those from `first` on are of groups; `loses_power` says whether the machine may die.
pub(super) fn faults(root: &Root, loses_power: bool, clients: &[ClientPlan], first: usize) -> Vec<Fault> {
    let mut dice = root.numbered(Key::Groups, 4);
    if dice.one_in(3) {
        return Vec::new();
    }
    let times = |is_it: fn(&Action) -> bool| -> Vec<u64> {
        let operations = clients[first..].iter().flat_map(|client| &client.operations);
        operations.filter(|operation| is_it(&operation.what)).map(|operation| operation.at_ms).collect()
    };
    let moves = times(|what| matches!(what, Action::Join | Action::Leave | Action::Vanish | Action::Subscribe { .. }));
    let commits = times(|what| matches!(what, Action::Commit { .. } | Action::CommitAlone { .. }));
    let deletions = times(|what| matches!(what, Action::DeleteGroup { .. } | Action::DeleteOffsets { .. }));
    let mut faults = Vec::new();
    for number in 0..dice.between(1, 5) {
        let mut dice = root.numbered(Key::Groups, 1_000 + number);
        let mut push = |at_ms, what| faults.push(Fault::new(at_ms, what));
        let client = first + usize::try_from(dice.below((clients.len() - first) as u64)).expect("it is an index");
        match dice.below(7) {
            // A rebalance takes a few heartbeats.
            0 | 1 if !moves.is_empty() => {
                let at_ms = dice.pick(&moves) + dice.scale(1, 2_000);
                push(at_ms, death(&mut dice, loses_power));
            }
            // What is told too early shows where the disk has not got it yet.
            2 if !commits.is_empty() => {
                let at_ms = dice.pick(&commits);
                push(
                    at_ms.saturating_sub(dice.between(0, 300)),
                    FaultKind::DiskStall { for_ms: dice.scale(400, 3_000) },
                );
                push(at_ms + dice.between(1, 300), death(&mut dice, loses_power));
            }
            3 if !moves.is_empty() => {
                let at_ms = dice.pick(&moves);
                push(
                    at_ms.saturating_sub(dice.between(0, 20)),
                    FaultKind::DiskStall { for_ms: dice.scale(400, 3_000) },
                );
                push(at_ms + dice.scale(20, 2_000), death(&mut dice, loses_power));
            }
            4 => {
                // Twice in a row: the second time groups are being loaded.
                let at_ms = dice.between(5_000, DURATION_MS - 5_000);
                push(at_ms, FaultKind::DiskSlow { for_ms: 3_000, factor: dice.number(2, 100) });
                push(at_ms + 1, death(&mut dice, loses_power));
                push(at_ms + dice.scale(50, 1_500), death(&mut dice, loses_power));
            }
            5 if !deletions.is_empty() => {
                push(dice.pick(&deletions) + dice.between(0, 50), death(&mut dice, loses_power));
            }
            // A member that is not heard loses its session, and does not know.
            _ => {
                let (at_ms, for_ms) = (dice.between(3_000, DURATION_MS - 10_000), dice.scale(500, 8_000));
                push(
                    at_ms,
                    match dice.below(4) {
                        0 => FaultKind::MuteToServer { client, for_ms },
                        1 => FaultKind::HalfOpen { client },
                        2 => FaultKind::Reset { client },
                        _ => FaultKind::MuteToClient { client, for_ms },
                    },
                );
            }
        }
    }
    faults.retain(|fault| fault.at_ms <= DURATION_MS - CALM_MS);
    faults
}
