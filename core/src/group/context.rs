//! What a coordinator may look at when it decides, and where its decisions go.

use std::time::Duration;

use super::question::{Asked, Question};
use super::record::Record;
use super::timers::{TimerKind, Timers};
use super::{Settings, Timer};
use crate::boundary::ReplyTo;
use crate::ids::{Offset, TopicId};
use crate::rng::Rng;
use crate::time::Now;
use crate::wire::{Response, Str};

/// The topics that there are.
pub trait Topics {
    /// The id and the number of partitions of a topic.
    fn by_name(&self, name: &str) -> Option<(TopicId, u32)>;
    /// The name and the number of partitions of a topic.
    fn by_id(&self, id: TopicId) -> Option<(&Str, u32)>;
    /// The topics from a name on, in the order of their names, each with its id and number of partitions, until `visit`
    /// answers false.
    fn each_from(&self, name: &str, visit: &mut dyn FnMut(&Str, TopicId, u32) -> bool);
    /// Another number whenever a topic has come, gone or grown.
    fn version(&self) -> u64;
}

/// What a coordinator may look at when it decides, and where its decisions go.
pub struct Context<'a> {
    /// What time it is.
    pub now: Now,
    /// The settings in force.
    pub settings: &'a Settings,
    /// The topics that there are.
    pub topics: &'a dyn Topics,
    /// For the ids of members.
    pub rng: &'a mut Rng,
    /// What is decided.
    pub out: &'a mut Outcome,
    /// When the coordinator wants to be called.
    pub timers: &'a mut Timers,
    /// How far the log of decisions is.
    pub log: Written,
}

/// How far a coordinator's log is when it is called.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Everything below is committed.
    pub committed: Offset,
    /// What is decided now comes here.
    pub end: Offset,
}

impl Context<'_> {
    /// Decides that a record is written.
    pub fn write(&mut self, record: Record) {
        self.out.records.push(record);
    }

    /// Up to where the log must be committed before an answer leaves that is given now.
    pub(super) fn answers_at(&self) -> Offset {
        Offset(self.log.end.0.saturating_add(i64::try_from(self.out.records.len()).unwrap_or(i64::MAX)))
    }

    /// Answers a request once everything that has been decided so far is committed.
    pub fn reply(&mut self, to: ReplyTo, response: impl Into<Response>) {
        self.out.replies.push((to, response.into()));
    }

    /// Has something worked out for a group. Returns the question's number.
    pub(super) fn ask(&mut self, group: &Str, what: Asked) -> u64 {
        let number = self.timers.next_number();
        self.out.questions.push(Question { group: group.clone(), number, what });
        number
    }

    /// Calls the group after a while; instead of when it asked for the same before.
    pub fn call_after(&mut self, group: &Str, kind: TimerKind, after: Duration) {
        self.timers.set(Timer { group: group.clone(), kind }, self.now.instant + after);
    }
}

/// What was decided.
#[derive(Debug, Default)]
pub struct Outcome {
    /// To be appended in this order.
    pub records: Vec<Record>,
    /// To be answered when these records, and all that were appended before, are committed.
    pub replies: Vec<(ReplyTo, Response)>,
    /// To be answered beside the sequencer, as soon as may be.
    pub questions: Vec<Question>,
}
