//! Who works in a dense plan: producers that want the whole in-sync set to have it, those who read what they wrote, and
//! now and then an admin, or one who moves partitions meanwhile.

use super::super::moves;
use super::{Dice, Part, Root};
use crate::plan::{Action, ClientKind, ClientPlan, GroupProtocol, Operation, TopicPlan};

/// Clients begin after this, in milliseconds.
const START_MS: u64 = 100;
/// The last operation comes so long before the end, in milliseconds.
const CALM_MS: u64 = 100;

/// What each client of a kind does in its own way.
struct Habits<'a> {
    root: &'a Root,
    topics: &'a [TopicPlan],
    client: u64,
    duration_ms: u64,
}

/// The clients of a plan. Each is drawn by its place here, whether it takes part or not.
pub(super) fn clients(root: &Root, topics: &[TopicPlan], nodes: u32, duration_ms: u64) -> Vec<ClientPlan> {
    let mut client = 0;
    let mut next = || {
        client += 1;
        (Habits { root, topics, client, duration_ms }, root.dense(Part::Client, client))
    };
    let mut clients = Vec::new();
    for (is_idempotent, acks) in [(true, -1), (true, -1), (false, -1), (false, 1)] {
        let (habits, mut dice) = next();
        // Some only: the more of it a leader acknowledges alone, the less may be claimed.
        if acks == -1 || dice.one_in(3) {
            clients.push(habits.producer(&mut dice, is_idempotent, acks));
        }
    }
    let (habits, mut dice) = next();
    clients.push(habits.consumer(&mut dice));
    for is_next in [false, true] {
        let (habits, mut dice) = next();
        clients.push(habits.member(&mut dice, is_next));
    }
    let (habits, mut dice) = next();
    if dice.one_in(2) {
        clients.push(habits.admin(&mut dice));
    }
    if moves(root) {
        let (habits, mut dice) = next();
        let of_operation = |number| root.dense_operation(habits.client, number);
        clients.push(moves::admin(&mut dice, of_operation, (topics, nodes), duration_ms, 700));
    }
    clients
}

/// Whether somebody moves partitions: in every other plan.
pub(super) fn moves(root: &Root) -> bool {
    root.dense(Part::Client, 0).one_in(2)
}

impl Habits<'_> {
    /// Operations in order of time, on average so many milliseconds apart; each is drawn by its own key.
    fn operations(&self, from_ms: u64, apart_ms: u64, mut draw: impl FnMut(&mut Dice) -> Action) -> Vec<Operation> {
        let until_ms = self.duration_ms - CALM_MS;
        let mut operations: Vec<Operation> = (0..(until_ms - from_ms) / apart_ms)
            .map(|number| {
                let mut dice = self.root.dense_operation(self.client, number);
                let at_ms = dice.between(from_ms, until_ms - 1);
                Operation { at_ms, what: draw(&mut dice) }
            })
            .collect();
        operations.sort_by_key(|operation| operation.at_ms);
        operations
    }

    /// One partition of one topic; the first topic is written to most.
    fn place(&self, dice: &mut Dice) -> (usize, i32) {
        let topic = usize::try_from(dice.below(self.topics.len() as u64 + 1)).expect("it is small").saturating_sub(1);
        let partitions = u64::try_from(self.topics[topic].partitions).expect("a topic has partitions");
        (topic, i32::try_from(dice.below(partitions)).expect("few"))
    }

    fn producer(&self, dice: &mut Dice, is_idempotent: bool, acks: i16) -> ClientPlan {
        let kind = ClientKind::Producer {
            is_idempotent,
            acks,
            in_flight_max: if dice.one_in(4) { dice.number(1, 4) } else { 5 },
            // Soon enough to try again with the next leader, which then has to know what it has already.
            request_timeout_ms: dice.pick(&[600, 1_500]),
            delivery_timeout_ms: 9_000,
            version: dice.pick(&[9, 12, 13, 13]),
            first_sequence: if dice.one_in(4) { i32::MAX - dice.signed_number(0, 300) } else { 0 },
            late_ms_max: 0,
        };
        let apart_ms = dice.pick(&[15, 26, 26, 50]);
        let operations = self.operations(START_MS, apart_ms, |dice| {
            let (topic, partition) = self.place(dice);
            let records = dice.pick(&[1, 2, 4]);
            let value_bytes = dice.pick(&[40, 200, 200, 6_000]);
            let codec = if dice.one_in(12) { 3 } else { 0 };
            Action::Produce { topic, partition, records, value_bytes, codec }
        });
        ClientPlan { kind, operations }
    }

    fn all(&self) -> Vec<usize> {
        (0..self.topics.len()).collect()
    }

    fn consumer(&self, dice: &mut Dice) -> ClientPlan {
        let kind = ClientKind::Consumer {
            request_timeout_ms: dice.pick(&[1_000, 3_000]),
            max_wait_ms: dice.pick(&[0, 5, 50, 500]),
            min_bytes: dice.pick(&[0, 1, 1, 1_000]),
            max_bytes: 64 << 10,
            partition_max_bytes: 16 << 10,
            uses_session: dice.one_in(2),
            is_read_committed: dice.one_in(3),
            version: dice.pick(&[11, 12, 13, 17, 18]),
        };
        let rewinds = dice.one_in(2);
        let operations = self.operations(START_MS, 50, |dice| match dice.below(60) {
            0 if rewinds => Action::Rewind,
            1..=4 => self.list_offsets(dice),
            _ => Action::Poll { topics: self.all() },
        });
        ClientPlan { kind, operations }
    }

    fn list_offsets(&self, dice: &mut Dice) -> Action {
        let (topic, partition) = self.place(dice);
        let timestamp = dice.pick(&[-1, -1, -2, -3]);
        Action::ListOffsets { topic, partition, timestamp }
    }

    /// The only member of a group of its own: what is committed and told is not about rebalances here, but about
    /// coordinators that come and go.
    fn member(&self, dice: &mut Dice, is_next: bool) -> ClientPlan {
        let classic = [GroupProtocol::Range, GroupProtocol::CooperativeSticky];
        let next = [GroupProtocol::NextUniform, GroupProtocol::NextRange];
        let kind = ClientKind::Member {
            group: u32::from(is_next),
            protocol: dice.pick(if is_next { &next } else { &classic }),
            instance: None,
            session_timeout_ms: dice.pick(&[1_500, 3_000, 6_000]),
            rebalance_timeout_ms: dice.scale(1_500, 4_000),
            heartbeat_ms: 300,
            request_timeout_ms: dice.scale(600, 2_000),
            topics: self.all(),
            uses_regex: false,
            age: 0,
        };
        let mut operations = vec![Operation { at_ms: 4 * START_MS, what: Action::Join }];
        operations.extend(self.operations(8 * START_MS, 75, |dice| match dice.one_in(2) {
            true => Action::Poll { topics: Vec::new() },
            false => Action::Commit { is_stale: false },
        }));
        ClientPlan { kind, operations }
    }

    fn admin(&self, dice: &mut Dice) -> ClientPlan {
        let kind = ClientKind::Admin { request_timeout_ms: dice.scale(500, 3_000) };
        let deletes_records = dice.one_in(2);
        let grows = dice.one_in(3);
        let alters = dice.one_in(2);
        // One that the others can do without: it comes and goes.
        let fleeting = (self.topics.len() > 2 && dice.one_in(3)).then(|| self.topics.len() - 1);
        let mut operations = self.operations(10 * START_MS, 600, |dice| match (dice.below(8), fleeting) {
            (0 | 1, _) if deletes_records => {
                let (topic, partition) = self.place(dice);
                Action::DeleteRecords { topic, partition, permille: dice.number(0, 1_000) }
            }
            (2, _) if grows && dice.one_in(4) => Action::CreatePartitions { topic: self.place(dice).0, more: 1 },
            (3, _) => self.list_offsets(dice),
            (4, _) if alters => {
                let value = dice.one_in(2).then(|| dice.pick(&[0, 100, 2_000]).to_string());
                Action::AlterConfig { topic: self.place(dice).0, name: "file.delete.delay.ms".to_owned(), value }
            }
            (5, Some(topic)) => Action::DeleteTopic { topic },
            _ => Action::Ask { which: u8::try_from(dice.below(7)).expect("small") },
        });
        // Right behind each deletion: an admin does one thing after the other.
        for index in (0..operations.len()).rev() {
            if let Action::DeleteTopic { topic } = operations[index].what {
                let at_ms = operations[index].at_ms;
                operations.insert(index + 1, Operation { at_ms, what: Action::CreateTopic { topic } });
            }
        }
        ClientPlan { kind, operations }
    }
}
