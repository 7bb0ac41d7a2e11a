//! Clients and what they do, drawn.

use super::{DURATION_MS, Dice, Key, Root};
use crate::plan::{Action, ClientKind, ClientPlan, NodePlan, Operation, TopicPlan};

/// Clients begin after this, in milliseconds.
const START_MS: u64 = 100;

/// No batch of ordinary size is larger than this, in bytes: sixteen partitions' together fit a request of which the
/// smallest journal still takes many.
const BATCH_BYTES: u64 = 4 << 10;

/// A hostile client has so many misdeeds to choose from.
const MISDEEDS: u8 = crate::client::MISDEEDS;

/// What each client of a kind does in its own way.
struct Habits<'a> {
    root: &'a Root,
    topics: &'a [TopicPlan],
    node: &'a NodePlan,
    client: u64,
    count: u64,
}

/// The clients of a plan: two to eight, a producer and a consumer among them; together they have more than a hundred
/// operations a second. There is at most one admin, so that its picture of the topics is right.
pub(super) fn clients(root: &Root, topics: &[TopicPlan], node: &NodePlan) -> Vec<ClientPlan> {
    let mut dice = root.of(Key::Clients);
    let has_admin = dice.one_in(2);
    let has_hostile = dice.one_in(4);
    let producers = dice.between(1, 3);
    let consumers = dice.between(1, 3);
    let rate = dice.between(110, 200);
    let produced_permille = dice.between(500, 800);
    let seconds = DURATION_MS / 1_000;
    let produces = rate * seconds * produced_permille / 1_000;
    let polls = rate * seconds - produces;
    let kinds = [(Role::Producer, producers, produces), (Role::Consumer, consumers, polls)];
    let admins = [(Role::Admin, u64::from(has_admin), seconds), (Role::Hostile, u64::from(has_hostile), seconds)];
    let mut clients = Vec::new();
    for (role, count, operations) in kinds.into_iter().chain(admins) {
        for _ in 0..count {
            let client = clients.len() as u64;
            let mut dice = root.numbered(Key::Clients, client);
            let habits = Habits { root, topics, node, client, count: operations.div_ceil(count) };
            clients.push(match role {
                Role::Producer => habits.producer(&mut dice),
                Role::Consumer => habits.consumer(&mut dice),
                Role::Admin => habits.admin(&mut dice),
                Role::Hostile => habits.hostile(),
            });
        }
    }
    clients
}

#[derive(Clone, Copy, Debug)]
enum Role {
    Producer,
    Consumer,
    Admin,
    Hostile,
}

impl Habits<'_> {
    /// Operations in order of time; each is drawn by its own key.
    fn operations(&self, mut draw: impl FnMut(&mut Dice, u64) -> Action) -> Vec<Operation> {
        let mut operations: Vec<Operation> = (0..self.count)
            .map(|number| {
                let mut dice = self.root.operation(self.client, number);
                let at_ms = dice.between(START_MS, DURATION_MS - 1);
                Operation { at_ms, what: draw(&mut dice, at_ms) }
            })
            .collect();
        operations.sort_by_key(|operation| operation.at_ms);
        operations
    }

    fn topic(&self, dice: &mut Dice) -> usize {
        usize::try_from(dice.below(self.topics.len() as u64)).expect("it is an index")
    }

    /// One partition of one topic, as the topic is when it is created.
    fn place(&self, dice: &mut Dice) -> (usize, i32) {
        let topic = self.topic(dice);
        let partitions = u64::try_from(self.topics[topic].partitions).expect("a topic has partitions");
        (topic, i32::try_from(dice.below(partitions)).expect("few"))
    }

    fn producer(&self, dice: &mut Dice) -> ClientPlan {
        let is_idempotent = dice.one_in(2);
        let request_timeout_ms = dice.scale(300, 6_000);
        // Of what nobody acknowledges little can be claimed: the first producer wants to hear of its batches.
        let acks: &[i16] = if self.client == 0 { &[-1, 1] } else { &[-1, -1, 1, 1, 0] };
        let kind = ClientKind::Producer {
            is_idempotent,
            acks: if is_idempotent { -1 } else { dice.pick(acks) },
            in_flight_max: dice.number(1, 5),
            request_timeout_ms,
            delivery_timeout_ms: request_timeout_ms + dice.scale(1_000, 15_000),
            version: dice.pick(&[3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 12, 13, 13, 13]),
            first_sequence: if dice.one_in(4) { i32::MAX - dice.signed_number(0, 300) } else { 0 },
            late_ms_max: if dice.one_in(3) { dice.scale(10, 20_000) } else { 0 },
        };
        let compresses = dice.one_in(2);
        let codecs: &[u8] = if dice.one_in(2) { &[3] } else { &[1, 2, 3, 4] };
        let records_max = dice.number(1, 12);
        let has_large = dice.one_in(3);
        let favours_one = dice.one_in(3);
        let favourite = self.place(dice);
        let operations = self.operations(|dice, _| {
            let is_favourite = favours_one && !dice.one_in(4);
            let (topic, partition) = if is_favourite { favourite } else { self.place(dice) };
            let records = dice.number(1, records_max);
            let is_large = has_large && dice.one_in(40);
            let bytes = match is_large {
                // Now and then more than a file of the journal holds, which is to be refused.
                true if dice.one_in(20) => self.node.journal_file_bytes + (1 << 10),
                true => dice.scale(BATCH_BYTES, self.node.journal_file_bytes / 3),
                false => dice.scale(30 * u64::from(records), BATCH_BYTES),
            };
            let value_bytes = u32::try_from(bytes / u64::from(records)).expect("files are below 4 GiB");
            let codec = if compresses && dice.one_in(6) { dice.pick(codecs) } else { 0 };
            Action::Produce { topic, partition, records, value_bytes, codec }
        });
        ClientPlan { kind, operations }
    }

    fn consumer(&self, dice: &mut Dice) -> ClientPlan {
        let max_wait_ms = dice.pick(&[0, 5, 50, 500]);
        let kind = ClientKind::Consumer {
            request_timeout_ms: dice.scale(1_000, 5_000),
            max_wait_ms,
            min_bytes: dice.pick(&[0, 1, 1, 1, 1_000, 20_000]),
            max_bytes: dice.pick(&[1 << 10, 64 << 10, 1 << 20, 50 << 20]),
            partition_max_bytes: dice.pick(&[1, 1 << 10, 16 << 10, 1 << 20]),
            uses_session: dice.one_in(2),
            is_read_committed: dice.one_in(3),
            version: dice.pick(&[4, 5, 6, 7, 8, 9, 10, 11, 12, 12, 13, 13, 14, 15, 16, 17, 18]),
        };
        let has_rewinds = dice.one_in(2);
        let has_subsets = dice.one_in(3);
        let all: Vec<usize> = (0..self.topics.len()).collect();
        let operations = self.operations(|dice, _| match dice.below(100) {
            0 if has_rewinds && dice.one_in(3) => Action::Rewind,
            1 | 2 => self.list_offsets(dice),
            _ if has_subsets && dice.one_in(3) => {
                let one = self.topic(dice);
                Action::Poll { topics: vec![one] }
            }
            _ => Action::Poll { topics: all.clone() },
        });
        ClientPlan { kind, operations }
    }

    fn list_offsets(&self, dice: &mut Dice) -> Action {
        let (topic, partition) = self.place(dice);
        let timestamp = match dice.below(4) {
            0 => i64::try_from(dice.below(DURATION_MS)).expect("a minute"),
            special => -i64::try_from(special).expect("small"),
        };
        Action::ListOffsets { topic, partition, timestamp }
    }

    fn admin(&self, dice: &mut Dice) -> ClientPlan {
        let kind = ClientKind::Admin { request_timeout_ms: dice.scale(500, 5_000) };
        let recreates = dice.one_in(2);
        let grows = dice.one_in(3);
        let deletes_records = dice.one_in(2);
        let alters = dice.one_in(2);
        // One topic comes and goes; the others stay, so that what is written to them has time to grow old.
        let fleeting = self.topic(dice);
        let mut created = Vec::new();
        let mut operations = self.operations(|dice, at_ms| match dice.below(10) {
            0 | 1 if recreates => {
                let what = Action::CreateTopic { topic: fleeting };
                created.push(Operation { at_ms: (at_ms + dice.scale(10, 1_000)).min(DURATION_MS), what });
                Action::DeleteTopic { topic: fleeting }
            }
            2 if grows && dice.one_in(4) => Action::CreatePartitions { topic: self.topic(dice), more: 1 },
            3 | 4 if deletes_records => {
                let (topic, partition) = self.place(dice);
                Action::DeleteRecords { topic, partition, permille: dice.number(0, 1_000) }
            }
            5 | 6 if alters => self.alter(dice),
            7 => self.list_offsets(dice),
            _ => Action::Ask { which: u8::try_from(dice.below(7)).expect("small") },
        });
        operations.append(&mut created);
        operations.sort_by_key(|operation| operation.at_ms);
        ClientPlan { kind, operations }
    }

    fn alter(&self, dice: &mut Dice) -> Action {
        let (name, value) = match dice.below(5) {
            0 => ("internal.segment.bytes", dice.scale(8 << 10, 256 << 10).to_string()),
            1 => ("segment.ms", dice.between(1_000, 20_000).to_string()),
            2 => ("file.delete.delay.ms", dice.pick(&[0, 100, 2_000]).to_string()),
            3 => ("max.message.bytes", dice.scale(1 << 10, 64 << 10).to_string()),
            _ => ("compression.type", dice.pick(&["producer", "lz4", "uncompressed"]).to_owned()),
        };
        let value = (!dice.one_in(4)).then_some(value);
        Action::AlterConfig { topic: self.topic(dice), name: name.to_owned(), value }
    }

    fn hostile(&self) -> ClientPlan {
        let operations = self.operations(|dice, _| {
            let which = u8::try_from(dice.below(MISDEEDS.into())).expect("there are few");
            Action::Misbehave { which }
        });
        ClientPlan { kind: ClientKind::Hostile, operations }
    }
}
