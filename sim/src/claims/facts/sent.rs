//! What clients sent.

use chronik_core::ids::TopicPartition;

use super::Topics;
use crate::history::{Event, What};
use crate::value::Attempt;

/// A batch that was sent to one partition, however often.
#[derive(Clone, Debug)]
pub(in crate::claims) struct Sent {
    pub attempt: Attempt,
    pub to: TopicPartition,
    pub records: u32,
    /// Whether every request named the topic by id.
    pub is_by_id: bool,
    /// The events of the first and the last time.
    pub first: usize,
    pub last: usize,
    /// How often it was sent.
    pub times: u32,
    /// It was declined, each time that it was sent: it has not been appended.
    pub is_refused: bool,
    /// The least and the greatest of the greatest timestamps that it had.
    pub timestamps: (i64, i64),
    /// Producer id, epoch and first sequence; of several the last.
    pub sequence: Option<(i64, i16, i32)>,
    /// Whether it had another sequence at first, because its producer began again.
    pub has_other_sequence: bool,
    /// By which of its client's connections it went first, counted by what the client told of them.
    pub link: u32,
}

/// All that was sent, in the order of attempts.
#[derive(Debug, Default)]
pub(in crate::claims) struct Sends {
    all: Vec<Sent>,
    /// How many records all requests together had: no offset can reach it.
    pub records: u64,
}

/// Whose a record is, of those who sent its attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::claims) enum Origin {
    /// It was sent here: the index of it.
    Here(u32),
    /// It was sent elsewhere only.
    Elsewhere(u32),
    /// Nobody sent it.
    Nobody,
}

impl Sends {
    pub(super) fn of(events: &[Event]) -> Sends {
        let mut sends = Sends::default();
        let mut links: Vec<u32> = Vec::new();
        for (index, event) in events.iter().enumerate() {
            match event.what {
                What::Connected | What::Disconnected { .. } => {
                    if let Some(link) = link_of(&mut links, event) {
                        *link += 1;
                    }
                }
                What::Produce { to, attempt, records, sequence, timestamp, is_by_id, .. } => {
                    sends.records += u64::from(records);
                    sends.all.push(Sent {
                        attempt,
                        to,
                        records,
                        is_by_id,
                        first: index,
                        last: index,
                        times: 1,
                        is_refused: false,
                        timestamps: (timestamp, timestamp),
                        sequence,
                        has_other_sequence: false,
                        link: link_of(&mut links, event).map_or(0, |link| *link),
                    });
                }
                _ => {}
            }
        }
        // Stable: of one attempt the first time stays first.
        sends.all.sort_by_key(|sent| (sent.attempt, sent.to));
        sends.all.dedup_by(|again, sent| {
            let is_same = (again.attempt, again.to) == (sent.attempt, sent.to);
            if is_same {
                sent.join(again);
            }
            is_same
        });
        for event in events {
            if let What::ProduceRefused { to, attempt, .. } = event.what
                && let Ok(index) = sends.all.binary_search_by_key(&(attempt, to), |sent| (sent.attempt, sent.to))
            {
                sends.all[index].is_refused = true;
            }
        }
        sends
    }

    /// What was sent to a partition as this attempt.
    pub(in crate::claims) fn find(&self, attempt: Attempt, to: TopicPartition) -> Option<&Sent> {
        let index = self.all.binary_search_by_key(&(attempt, to), |sent| (sent.attempt, sent.to)).ok()?;
        Some(&self.all[index])
    }

    /// The index of what was sent to a partition as this attempt.
    pub(super) fn index(&self, attempt: Attempt, to: TopicPartition) -> Option<usize> {
        self.all.binary_search_by_key(&(attempt, to), |sent| (sent.attempt, sent.to)).ok()
    }

    /// All that was sent, each at its index.
    pub(super) fn all(&self) -> &[Sent] {
        &self.all
    }

    /// What an index names.
    pub(in crate::claims) fn at(&self, index: u32) -> &Sent {
        &self.all[index as usize]
    }

    /// Who sent what was found in a partition.
    pub(in crate::claims) fn origin(&self, attempt: Attempt, found: TopicPartition, topics: &Topics<'_>) -> Origin {
        let from = self.all.partition_point(|sent| sent.attempt < attempt);
        let mut origin = Origin::Nobody;
        for (index, sent) in (from as u32..).zip(&self.all[from..]).take_while(|(_, sent)| sent.attempt == attempt) {
            if sent.to == found {
                return Origin::Here(index);
            }
            // A name means whichever topic has it where and when the request is carried out.
            let may_be_here = !sent.is_by_id
                && sent.to.partition == found.partition
                && topics.may_share_name(sent.to.topic, found.topic)
                && topics.may_be_met(found.topic, sent.first);
            origin = match origin {
                _ if may_be_here => Origin::Here(index),
                Origin::Nobody => Origin::Elsewhere(index),
                known => known,
            };
        }
        origin
    }
}

impl Sent {
    fn join(&mut self, again: &Sent) {
        self.last = again.last;
        self.times += again.times;
        self.is_by_id &= again.is_by_id;
        self.timestamps.0 = self.timestamps.0.min(again.timestamps.0);
        self.timestamps.1 = self.timestamps.1.max(again.timestamps.1);
        self.has_other_sequence |= self.sequence != again.sequence;
        self.sequence = again.sequence;
    }
}

/// The count of an event's client's connections; `None` for those who are no clients of the plan.
fn link_of<'a>(links: &'a mut Vec<u32>, event: &Event) -> Option<&'a mut u32> {
    /// More than a plan ever has: engine, setup and auditor have numbers at the end of the range.
    const CLIENTS_MAX: usize = 1 << 16;
    let client = event.client.0 as usize;
    if client >= CLIENTS_MAX {
        return None;
    }
    if links.len() <= client {
        links.resize(client + 1, 0);
    }
    links.get_mut(client)
}
