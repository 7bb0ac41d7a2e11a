//! Commits of very many offsets, a part in each step.
//!
//! While one is under way no other request about groups is taken: none passes it by whose offsets are newer, and no
//! member comes or goes between two of its parts. The answer leaves when all of it is committed. A crash in the middle
//! keeps the parts that were on disk: nobody was told of any.

use super::append::Waiter;
use super::{NEXT_STEP, Node, ROOM_RETRY, Reason, refuse};
use crate::boundary::{Effect, Outbox, ReplyTo};
use crate::time::Now;
use crate::wire::offset_commit::{OffsetCommitRequest, OffsetCommitRequestTopic, OffsetCommitResponse};
use crate::wire::{ErrorCode, Response};

/// How many offsets are committed in one step, at about a microsecond each.
const COMMITTED_AT_ONCE: usize = 64;

/// What the records of one part take at most, but for metadata and long names, in bytes.
const PART_BYTES: u64 = 64 << 10;

/// A commit under way.
pub(super) struct LongCommit {
    pub(super) to: ReplyTo,
    pub(super) partition: i32,
    /// The request without its topics.
    header: OffsetCommitRequest,
    topics: Vec<OffsetCommitRequestTopic>,
    /// Where the next part begins: the topic, and in it the partition, by their places in the request.
    next: (usize, usize),
    answer: OffsetCommitResponse,
}

/// Whether a commit takes more than one step.
pub(super) fn is_long(request: &OffsetCommitRequest) -> bool {
    // A topic is looked up, whether partitions are named or not.
    request.topics.iter().map(|topic| topic.partitions.len().max(1)).sum::<usize>() > COMMITTED_AT_ONCE
}

impl LongCommit {
    fn next_part(&mut self) -> OffsetCommitRequest {
        let mut topics = Vec::new();
        let mut left = COMMITTED_AT_ONCE;
        while left > 0
            && let Some(topic) = self.topics.get(self.next.0)
        {
            let rest = &topic.partitions[self.next.1..];
            let taken = rest.len().min(left);
            topics.push(OffsetCommitRequestTopic {
                name: topic.name.clone(),
                topic_id: topic.topic_id,
                partitions: rest[..taken].to_vec(),
            });
            left -= taken.max(1);
            self.next = if taken == rest.len() { (self.next.0 + 1, 0) } else { (self.next.0, self.next.1 + taken) };
        }
        OffsetCommitRequest { topics, ..self.header.clone() }
    }

    /// Adds the answer to a part, whose first topic is the last one of the part before if it `continues` that.
    fn take(&mut self, part: OffsetCommitResponse, continues: bool) {
        let mut topics = part.topics.into_iter();
        if continues && let (Some(last), Some(first)) = (self.answer.topics.last_mut(), topics.next()) {
            last.partitions.extend(first.partitions);
        }
        self.answer.topics.extend(topics);
    }

    /// The answer where it cannot be ended: of its parts nobody knows which are kept.
    pub(super) fn refuse(self, code: ErrorCode) -> (ReplyTo, Response) {
        let request = OffsetCommitRequest { topics: self.topics, ..self.header };
        (self.to, refuse::request(&request.into(), self.to.version, code))
    }
}

impl Node {
    /// Begins with a commit that takes several steps.
    pub(super) fn begin_long_commit(
        &mut self,
        now: Now,
        to: ReplyTo,
        partition: i32,
        mut request: OffsetCommitRequest,
        out: &mut Outbox,
    ) {
        let topics = std::mem::take(&mut request.topics);
        let (next, answer) = ((0, 0), OffsetCommitResponse::default());
        self.groups.long_commit = Some(LongCommit { to, partition, header: request, topics, next, answer });
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
        let (continues, version) = (long.next.1 > 0, long.to.version);
        let part = long.next_part();
        let answer = self.call(now, partition, out, |coordinator, with| coordinator.commit_part(with, version, &part));
        long.take(answer, continues);
        if let Err(code) = self.check_serving(partition) {
            // The log has refused it, and the coordinator is gone.
            let (to, response) = long.refuse(code);
            return out.push(Effect::Reply { to, response: Some(response) });
        }
        if long.next.0 == long.topics.len() {
            return self.park(partition, Waiter::Reply(long.to, Box::new(long.answer.into())), out);
        }
        self.groups.long_commit = Some(long);
        self.deadlines.insert((now.instant + NEXT_STEP, Reason::Commit));
    }

    /// Whether a long commit is under way, and its next part finds no room.
    pub(super) fn long_commit_waits_for_room(&self) -> bool {
        self.groups.long_commit.is_some() && self.no_space.is_none() && !self.has_room_for_groups(PART_BYTES)
    }
}
