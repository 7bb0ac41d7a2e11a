//! Commits and deletions of very many offsets, a part in each step.
//!
//! While one is under way no other request about groups is taken: none passes it by whose offsets are newer, and no
//! member comes or goes between two of its parts. The answer leaves when all of it is committed. A crash in the middle
//! keeps the parts that were on disk: nobody was told of any.

use std::ops::Range;

use super::append::Waiter;
use super::{NEXT_STEP, Node, ROOM_RETRY, Reason, refuse};
use crate::boundary::{Effect, Outbox, ReplyTo};
use crate::group::{Coordinator, Surroundings};
use crate::time::Now;
use crate::wire::offset_commit::{OffsetCommitRequest, OffsetCommitRequestTopic, OffsetCommitResponse};
use crate::wire::offset_delete::{OffsetDeleteRequest, OffsetDeleteRequestTopic, OffsetDeleteResponse};
use crate::wire::{self, ErrorCode, Response};

/// How many offsets are committed in one step, at about a microsecond each.
const COMMITTED_AT_ONCE: usize = 64;

/// What the records of one part take at most, but for metadata and long names, in bytes.
const PART_BYTES: u64 = 64 << 10;

/// A commit, or a deletion, under way.
pub(super) struct LongCommit {
    pub(super) to: ReplyTo,
    pub(super) partition: i32,
    work: Work,
    /// Where the next part begins: the topic, and in it the partition, by their places in the request.
    next: (usize, usize),
}

/// What is to be done, and the answer so far. The request is without its topics.
enum Work {
    Commit(OffsetCommitRequest, Vec<OffsetCommitRequestTopic>, OffsetCommitResponse),
    Delete(OffsetDeleteRequest, Vec<OffsetDeleteRequestTopic>, OffsetDeleteResponse),
}

/// Whether a request takes more than one step.
pub(super) fn is_long(request: &wire::Request) -> bool {
    // A topic is looked up, whether partitions are named or not.
    let partitions: usize = match request {
        wire::Request::OffsetCommit(request) => request.topics.iter().map(|topic| topic.partitions.len().max(1)).sum(),
        wire::Request::OffsetDelete(request) => request.topics.iter().map(|topic| topic.partitions.len().max(1)).sum(),
        _ => 0,
    };
    partitions > COMMITTED_AT_ONCE
}

/// The places of the next part: topics, each with the partitions of it. `partitions` tells how many a topic has.
fn next_places(next: &mut (usize, usize), partitions: impl Fn(usize) -> Option<usize>) -> Vec<(usize, Range<usize>)> {
    let mut places = Vec::new();
    let mut left = COMMITTED_AT_ONCE;
    while left > 0
        && let Some(count) = partitions(next.0)
    {
        let (topic, first) = *next;
        let taken = (count - first).min(left);
        places.push((topic, first..first + taken));
        left -= taken.max(1);
        *next = if first + taken == count { (topic + 1, 0) } else { (topic, first + taken) };
    }
    places
}

impl LongCommit {
    /// Does the next part. Returns whether that was the last.
    fn go_on(&mut self, coordinator: &mut Coordinator, with: &mut Surroundings<'_>) -> bool {
        // The first topic of this part is the last one of the part before.
        let continues = self.next.1 > 0;
        match &mut self.work {
            Work::Commit(header, topics, answer) => {
                let places = next_places(&mut self.next, |at| topics.get(at).map(|topic| topic.partitions.len()));
                let part = places.into_iter().map(|(at, partitions)| OffsetCommitRequestTopic {
                    name: topics[at].name.clone(),
                    topic_id: topics[at].topic_id,
                    partitions: topics[at].partitions[partitions].to_vec(),
                });
                let part = OffsetCommitRequest { topics: part.collect(), ..header.clone() };
                let mut told = coordinator.commit_part(with, self.to.version, &part).topics.into_iter();
                if continues && let (Some(last), Some(first)) = (answer.topics.last_mut(), told.next()) {
                    last.partitions.extend(first.partitions);
                }
                answer.topics.extend(told);
                self.next.0 == topics.len()
            }
            Work::Delete(header, topics, answer) => {
                let places = next_places(&mut self.next, |at| topics.get(at).map(|topic| topic.partitions.len()));
                let part = places.into_iter().map(|(at, partitions)| OffsetDeleteRequestTopic {
                    name: topics[at].name.clone(),
                    partitions: topics[at].partitions[partitions].to_vec(),
                });
                let part = OffsetDeleteRequest { topics: part.collect(), ..header.clone() };
                let told = coordinator.delete_offsets_part(with, &part);
                if told.error_code != 0 {
                    // It is of the group, and so of all parts.
                    *answer = told;
                    return true;
                }
                let mut told = told.topics.into_iter();
                if continues && let (Some(last), Some(first)) = (answer.topics.last_mut(), told.next()) {
                    last.partitions.extend(first.partitions);
                }
                answer.topics.extend(told);
                self.next.0 == topics.len()
            }
        }
    }

    fn into_answer(self) -> (ReplyTo, Response) {
        let answer = match self.work {
            Work::Commit(_, _, answer) => answer.into(),
            Work::Delete(_, _, answer) => answer.into(),
        };
        (self.to, answer)
    }

    /// The answer where it cannot be ended: of its parts nobody knows which are kept.
    pub(super) fn refuse(self, code: ErrorCode) -> (ReplyTo, Response) {
        let request: wire::Request = match self.work {
            Work::Commit(header, topics, _) => OffsetCommitRequest { topics, ..header }.into(),
            Work::Delete(header, topics, _) => OffsetDeleteRequest { topics, ..header }.into(),
        };
        (self.to, refuse::request(&request, self.to.version, code))
    }
}

impl Node {
    /// Begins with a commit, or a deletion, that takes several steps.
    pub(super) fn begin_long_commit(
        &mut self,
        now: Now,
        to: ReplyTo,
        partition: i32,
        request: wire::Request,
        out: &mut Outbox,
    ) {
        let work = match request {
            wire::Request::OffsetCommit(mut request) => {
                let topics = std::mem::take(&mut request.topics);
                Work::Commit(request, topics, OffsetCommitResponse::default())
            }
            wire::Request::OffsetDelete(mut request) => {
                let topics = std::mem::take(&mut request.topics);
                Work::Delete(request, topics, OffsetDeleteResponse::default())
            }
            other => unreachable!("{other:?} is never long"),
        };
        self.groups.long_commit = Some(LongCommit { to, partition, work, next: (0, 0) });
        self.commit_on(now, out);
    }

    /// Goes on with a long commit, for one step.
    pub(in crate::node) fn commit_on(&mut self, now: Now, out: &mut Outbox) {
        let Some(long) = &self.groups.long_commit else { return };
        let partition = long.partition;
        if !self.groups.unwritten.is_empty() || self.long_commit_waits_for_room() {
            self.checkpoint_soon();
            self.deadlines.insert((now.instant + ROOM_RETRY, Reason::Commit));
            return;
        }
        let checked = self.check_serving(partition).and_then(|()| self.check_log(partition));
        let mut long = self.groups.long_commit.take().expect("it was there");
        if let Err(code) = checked {
            let (to, response) = long.refuse(code);
            return out.push(Effect::Reply { to, response: Some(response) });
        }
        let is_over = self.call(now, partition, out, |coordinator, with| long.go_on(coordinator, with));
        if let Err(code) = self.check_serving(partition) {
            // The log has refused it, and the coordinator is gone.
            let (to, response) = long.refuse(code);
            return out.push(Effect::Reply { to, response: Some(response) });
        }
        if is_over {
            let (to, answer) = long.into_answer();
            return self.park(partition, Waiter::Reply(to, Box::new(answer)), out);
        }
        self.groups.long_commit = Some(long);
        self.deadlines.insert((now.instant + NEXT_STEP, Reason::Commit));
    }

    /// Whether a long commit is under way, and its next part finds no room.
    pub(super) fn long_commit_waits_for_room(&self) -> bool {
        self.groups.long_commit.is_some() && self.no_space.is_none() && !self.has_room_for_groups(PART_BYTES)
    }
}
