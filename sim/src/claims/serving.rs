//! A fetch is answered with what there is, as soon as there is something.
//!
//! Judged by what was acknowledged, while nothing is wrong.

use std::time::Duration;

use chronik_core::ids::{Offset, TopicPartition};
use chronik_core::time::Instant;
use chronik_core::wire::ErrorCode;

use super::answers::transfer;
use super::facts::{Facts, Partition};
use super::{Claim, Found};
use crate::history::{ClientId, What};
use crate::plan::{Action, ClientKind};

pub(super) const DATA_IS_SERVED: Claim = Claim {
    name: "data-is-served",
    meaning: "While nothing is wrong a fetch of what was acknowledged is answered soon, and with a batch at least.",
};

pub(super) const SESSIONS_FORGET_NOBODY: Claim = Claim {
    name: "sessions-forget-nobody",
    meaning: "Whoever polls all partitions in a session hears in turn of each that has data.",
};

/// What an answer may take beyond its way.
const SOON: Duration = Duration::from_millis(200);

/// So many polls without a word of a partition that has data are too many: each of a plan's partitions has its turn.
const POLLS_MAX: u32 = 80;

pub(super) fn judge(facts: &Facts<'_>, found: &mut Found) {
    // What was acknowledged may be gone where a loss is excused.
    if facts.faults.last_era() > 0 || facts.plan.is_beyond_promises {
        return;
    }
    let ends: Vec<Ends> = facts.partitions.iter().map(|partition| Ends::of(facts, partition)).collect();
    let mut event = 0;
    while event < facts.events.len() {
        let What::Fetched { asked_at, .. } = facts.events[event].what else {
            event += 1;
            continue;
        };
        // The answer to one request: one instant, one client.
        let (at, client) = (facts.events[event].at, facts.events[event].client);
        let is_of_it = |other: &usize| {
            let other = &facts.events[*other];
            (other.at, other.client) == (at, client) && matches!(other.what, What::Fetched { .. })
        };
        let until = (event..facts.events.len()).take_while(is_of_it).last().map_or(event + 1, |last| last + 1);
        answered(facts, &ends, &Answer { from: event, until, asked_at, at, client }, found);
        event = until;
    }
    sessions(facts, &ends, found);
}

/// How far a partition was acknowledged over time.
#[derive(Debug)]
struct Ends(Vec<(Instant, Offset)>);

impl Ends {
    fn of(facts: &Facts<'_>, partition: &Partition) -> Ends {
        let mut ends: Vec<(Instant, Offset)> = Vec::new();
        for ack in partition.acks.iter().filter(|ack| ack.base.0 >= 0) {
            let is_certain =
                facts.sends.at(ack.sent).is_by_id || facts.topics.name_is_certain(partition.id.topic, ack.event);
            let end = Offset(ack.base.0 + i64::from(ack.records));
            if is_certain && ends.last().is_none_or(|&(_, known)| known < end) {
                ends.push((facts.events[ack.event].at, end));
            }
        }
        Ends(ends)
    }

    /// When something above an offset was acknowledged first.
    fn above(&self, offset: Offset) -> Option<Instant> {
        self.0.get(self.0.partition_point(|&(_, end)| end <= offset)).map(|&(at, _)| at)
    }
}

struct Answer {
    from: usize,
    until: usize,
    asked_at: Instant,
    at: Instant,
    client: ClientId,
}

fn answered(facts: &Facts<'_>, ends: &[Ends], answer: &Answer, found: &mut Found) {
    let Answer { from, until, asked_at, at, client } = *answer;
    let Some(plan) = facts.plan.clients.get(client.0 as usize) else { return };
    let ClientKind::Consumer { min_bytes, .. } = plan.kind else { return };
    let Some(transfer) = transfer(facts, client).filter(|_| min_bytes <= 1) else { return };
    // A batch may be there without any of its records where a topic compacts.
    let is_empty = |event: usize| matches!(&facts.events[event].what, What::Fetched { from, next, code: ErrorCode::None, .. } if from == next);
    let is_late = at - asked_at > SOON + 2 * transfer;
    let is_empty = (from..until).all(is_empty);
    if !is_late && !is_empty {
        return;
    }
    for event in from..until {
        let What::Fetched { partition, from, log_start, .. } = facts.events[event].what else { continue };
        if !facts.is_certain(event, partition) || log_start > from {
            continue;
        }
        let Some(there) = ends[facts.place_of(event)].above(from) else { continue };
        let waited = at.0.saturating_sub(there.max(asked_at).0);
        let is_late = is_late && Duration::from_nanos(waited) > SOON + 2 * transfer;
        let is_empty = is_empty && there < asked_at;
        if (is_late || is_empty) && facts.calm.is_calm(client, asked_at, at) {
            let name = facts.name(partition);
            return found.add(DATA_IS_SERVED, event, || {
                format!(
                    "{name}: {} fetched from {from} at {} and is answered {} at {}, though data was acknowledged there at \
                     {}",
                    facts.who(event),
                    super::facts::time(asked_at),
                    if is_empty { "without data" } else { "only" },
                    facts.when(event),
                    super::facts::time(there),
                )
            });
        }
    }
}

/// What a consumer last heard of a partition, and how many polls it had done by then.
#[derive(Clone, Copy, Debug)]
struct Heard {
    next: Offset,
    at: Instant,
    polls: u32,
}

fn sessions(facts: &Facts<'_>, ends: &[Ends], found: &mut Found) {
    for (index, plan) in facts.plan.clients.iter().enumerate() {
        let ClientKind::Consumer { uses_session: true, version: 13.., .. } = plan.kind else { continue };
        // Who polls some topics only takes the others out of its session and puts them behind each time.
        let is_all =
            |action: &Action| !matches!(action, Action::Poll { topics } if topics.len() < facts.plan.topics.len());
        if plan.operations.iter().all(|operation| is_all(&operation.what)) {
            session(facts, ends, ClientId(u32::try_from(index).expect("few clients")), found);
        }
    }
}

fn session(facts: &Facts<'_>, ends: &[Ends], client: ClientId, found: &mut Found) {
    let operations = &facts.plan.clients[client.0 as usize].operations;
    let is_poll = |operation: Option<u32>| {
        let operation = operation.and_then(|index| operations.get(index as usize));
        operation.is_some_and(|operation| matches!(operation.what, Action::Poll { .. }))
    };
    let mut heard: Vec<Option<Heard>> = vec![None; facts.partitions.len()];
    let mut polls = 0;
    for (event, happened) in facts.events.iter().enumerate().filter(|(_, happened)| happened.client == client) {
        match happened.what {
            What::Finished { is_ok: true, .. } if is_poll(happened.operation) => polls += 1,
            // It begins again, wherever it is.
            What::Listed { .. } => heard[facts.place_of(event)] = None,
            What::Fetched { partition, code, next, .. } => {
                let place = facts.place_of(event);
                if let Some(before) = heard[place] {
                    silent(facts, ends, place, partition, before, (event, polls), found);
                }
                heard[place] = (code == ErrorCode::None).then_some(Heard { next, at: happened.at, polls });
            }
            What::Done => {
                for (place, heard) in heard.iter().enumerate() {
                    let id = facts.partitions[place].id;
                    if let Some(before) = heard.filter(|_| !facts.topics.may_be_deleted(id.topic)) {
                        silent(facts, ends, place, id, before, (event, polls), found);
                    }
                }
            }
            _ => {}
        }
    }
}

fn silent(
    facts: &Facts<'_>,
    ends: &[Ends],
    place: usize,
    id: TopicPartition,
    before: Heard,
    (event, polls): (usize, u32),
    found: &mut Found,
) {
    if polls - before.polls < POLLS_MAX {
        return;
    }
    // Polls that were done before the data was there say nothing; how many they were is told by how long they took.
    let Some(there) = ends[place].above(before.next).map(|at| at.max(before.at)) else { return };
    let (client, until) = (facts.events[event].client, facts.events[event].at);
    // Of several leaders each poll asks one, and while something is wrong perhaps never the one that has the partition:
    // others answer until a session is over and somebody else leads.
    let may_tell = |at: Instant| !facts.has_several() || facts.calm.is_calm(client, at, at);
    let is_poll = |other: &&crate::history::Event| {
        let is_its = other.client == client && matches!(other.what, What::Finished { is_ok: true, .. });
        is_its && other.at > there && other.at < until && may_tell(other.at)
    };
    let count = facts.events[..event].iter().filter(is_poll).count();
    if count >= (POLLS_MAX * facts.plan.nodes()) as usize {
        found.add(SESSIONS_FORGET_NOBODY, event, || {
            format!(
                "{}: {} hears nothing of it between {} and {}, in {count} polls, though data above {} was acknowledged by \
                 {}",
                facts.name(id),
                facts.who(event),
                super::facts::time(before.at),
                facts.when(event),
                before.next,
                super::facts::time(there),
            )
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::claims::told::{READER, Told, records, told};
    use crate::plan::Operation;
    use crate::testing::cluster_plan;

    const CONSUMER: ClientId = ClientId(READER);

    #[test]
    fn a_fetch_of_what_is_there_brings_a_batch() {
        let sent = || told().wait(5_000).appends(0, 0, 2, 0);
        sent().fetches(CONSUMER, 2, Vec::new(), (0, 2)).holds();
        sent().fetches(CONSUMER, 0, Vec::new(), (0, 2)).breaks(DATA_IS_SERVED, "is answered without data");
        let slow = sent().fault(crate::plan::FaultKind::DiskSlow { for_ms: 100, factor: 9 });
        slow.fetches(CONSUMER, 0, Vec::new(), (0, 2)).holds();
    }

    #[test]
    fn a_fetch_that_waits_is_answered_when_there_is_something() {
        let asked = told().wait(5_000);
        let asked_at = asked.now;
        let answered = |told: Told| told.fetches_as_of(asked_at, CONSUMER, 0, records(0, &[(0, 0, 2)]), (0, 2));
        answered(asked.wait(400).appends(0, 0, 2, 0)).holds();
        answered(told().wait(5_000).appends(0, 0, 2, 0).wait(400)).breaks(DATA_IS_SERVED, "is answered only at");
    }

    #[test]
    fn a_session_forgets_nobody() {
        let polls = |told: Told, count| {
            let poll = Operation { at_ms: 0, what: Action::Poll { topics: Vec::new() } };
            let told = told.under(|plan| {
                let consumer = &mut plan.clients[READER as usize];
                consumer.operations = vec![poll];
                let ClientKind::Consumer { uses_session, .. } = &mut consumer.kind else { return };
                *uses_session = true;
            });
            let finished = || What::Finished { is_ok: true, code: None };
            (0..count).fold(told, |told, _| told.client(READER, 0, finished()))
        };
        let read_at = |ms| told().wait(ms).fetches(CONSUMER, 0, Vec::new(), (0, 0)).appends(0, 0, 2, 0);
        let read = || read_at(5_000);
        polls(read(), 90).says(CONSUMER, None, What::Done).breaks(SESSIONS_FORGET_NOBODY, "in 90 polls");
        polls(read(), 20).says(CONSUMER, None, What::Done).holds();
        polls(read(), 20).reads(READER, 0, &[(0, 0, 2)]).says(CONSUMER, None, What::Done).holds();
        // Where there are several leaders, each poll asks one of them, and leaves out who is gone.
        let read_of_three = || read_at(20_000).under(|plan| plan.cluster = cluster_plan(3).cluster);
        polls(read_of_three(), 230).says(CONSUMER, None, What::Done).holds();
        polls(read_of_three(), 250).says(CONSUMER, None, What::Done).breaks(SESSIONS_FORGET_NOBODY, "in 250 polls");
        polls(read_of_three().loses_power(), 250).says(CONSUMER, None, What::Done).holds();
    }
}
