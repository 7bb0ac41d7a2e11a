//! What the tests of groups stand on: everything that a group is lent, owned in one place, and time that passes on
//! command.
//!
//! ```text
//! let mut rig = Rig::new();
//! rig.topic("orders", 3);
//! let to = rig.ask(9);                                  a request of version 9
//! group.join(&mut rig.ctx(), to, &client("one"), request);
//! assert!(rig.waits(to));
//! rig.pass(Duration::from_secs(3));
//! while let Some(timer) = rig.due() { group.timer(&mut rig.ctx(), timer.kind) }
//! let joined: JoinGroupResponse = rig.reply(to);
//! let written = rig.records();
//! ```

use std::cell::Cell;
use std::collections::BTreeMap;
use std::time::Duration;

use super::record::Record;
use super::{Context, Finding, Outcome, Settings, Surroundings, Timer, Timers, Topics, Written};
use crate::boundary::{Client, ReplyTo};
use crate::ids::{ConnId, ListenerId, Offset, TopicId, Uuid};
use crate::rng::Rng;
use crate::time::{Instant, Now, Timestamp};
use crate::wire::{Response, Str};

/// When a rig's wall clock begins, in milliseconds since 1970: far from zero, and a round number.
pub(crate) const BEGINNING: Timestamp = Timestamp(1_700_000_000_000);

/// Everything that a group is lent.
pub(crate) struct Rig {
    pub(crate) settings: Settings,
    pub(crate) topics: Names,
    pub(crate) rng: Rng,
    /// What was decided and not yet looked at.
    pub(crate) out: Outcome,
    pub(crate) timers: Timers,
    pub(crate) now: Now,
    /// How far the log is: all that is decided is committed at once, unless a test says otherwise.
    pub(crate) log: Written,
    asked: u64,
}

impl Rig {
    /// Kafka's settings, no topic.
    pub(crate) fn new() -> Rig {
        Rig {
            settings: Settings::default(),
            topics: Names::default(),
            rng: Rng::from_number(1),
            out: Outcome::default(),
            timers: Timers::default(),
            now: Now { instant: Instant(1), wall: BEGINNING },
            log: Written { committed: Offset(i64::MAX), end: Offset(0) },
            asked: 0,
        }
    }

    /// A topic appears, or has more partitions. Its id is the same in every test: see [`topic_id`].
    pub(crate) fn topic(&mut self, name: &str, partitions: u32) -> TopicId {
        self.topics.set(name, topic_id(name), partitions);
        topic_id(name)
    }

    /// What a group is lent for one call.
    pub(crate) fn ctx(&mut self) -> Context<'_> {
        Context {
            now: self.now,
            settings: &self.settings,
            topics: &self.topics,
            rng: &mut self.rng,
            out: &mut self.out,
            timers: &mut self.timers,
            log: self.log,
        }
    }

    /// What a coordinator is lent for one call. It has timers of its own.
    pub(crate) fn surroundings(&mut self) -> Surroundings<'_> {
        Surroundings {
            now: self.now,
            settings: &self.settings,
            topics: &self.topics,
            rng: &mut self.rng,
            out: &mut self.out,
            log: self.log,
        }
    }

    /// Where the answer to one more request goes, which its client sends in `version`.
    pub(crate) fn ask(&mut self, version: i16) -> ReplyTo {
        self.asked += 1;
        ReplyTo { conn: ConnId(1), sequence: self.asked, version, listener: ListenerId(0) }
    }

    /// Whether a request has no answer yet.
    pub(crate) fn waits(&self, to: ReplyTo) -> bool {
        self.out.replies.iter().all(|(at, _)| at.sequence != to.sequence)
    }

    /// Takes the answer to a request.
    ///
    /// # Panics
    /// If there is none, or more than one, or one to something else.
    #[track_caller]
    pub(crate) fn reply<T: Answer>(&mut self, to: ReplyTo) -> T {
        let (mut answers, others): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.out.replies).into_iter().partition(|(at, _)| at.sequence == to.sequence);
        self.out.replies = others;
        assert_eq!(answers.len(), 1, "a request has exactly one answer, {to:?} has {answers:?}");
        let (at, answer) = answers.remove(0);
        assert_eq!(at, to, "an answer goes where the request came from");
        T::of(answer)
    }

    /// Takes the records that were decided since the last look, in their order.
    pub(crate) fn records(&mut self) -> Vec<Record> {
        std::mem::take(&mut self.out.records)
    }

    /// Answers the first question that was asked.
    pub(crate) fn answer_one(&mut self) -> Option<Finding> {
        let questions = &mut self.out.questions;
        (!questions.is_empty()).then(|| questions.remove(0).answer())
    }

    /// Time passes, on both clocks. Timers that come due stay for [`Rig::due`].
    pub(crate) fn pass(&mut self, time: Duration) {
        self.now.instant = self.now.instant + time;
        self.now.wall.0 += i64::try_from(time.as_millis()).expect("a test lasts less than an age");
    }

    /// Takes the first timer that is due.
    pub(crate) fn due(&mut self) -> Option<Timer> {
        self.timers.take_due(self.now.instant)
    }
}

/// The topics that there are, in a small map.
#[derive(Default)]
pub(crate) struct Names {
    topics: BTreeMap<Str, (TopicId, u32)>,
    version: u64,
    /// How often a topic was looked up by its name.
    pub(crate) looked_up: Cell<usize>,
}

impl Names {
    /// A topic appears, is another one under its name, or has more partitions.
    pub(crate) fn set(&mut self, name: &str, id: TopicId, partitions: u32) {
        self.topics.insert(Str::from(name), (id, partitions));
        self.version += 1;
    }

    /// A topic goes.
    pub(crate) fn remove(&mut self, name: &str) {
        self.topics.remove(name);
        self.version += 1;
    }
}

impl Topics for Names {
    fn by_name(&self, name: &str) -> Option<(TopicId, u32)> {
        self.looked_up.set(self.looked_up.get() + 1);
        self.topics.get(name).copied()
    }

    fn by_id(&self, id: TopicId) -> Option<(&Str, u32)> {
        self.topics.iter().find(|(_, (at, _))| *at == id).map(|(name, (_, partitions))| (name, *partitions))
    }

    fn each_from(&self, name: &str, visit: &mut dyn FnMut(&Str, TopicId, u32) -> bool) {
        for (name, (id, partitions)) in self.topics.range(Str::from(name)..) {
            if !visit(name, *id, *partitions) {
                return;
            }
        }
    }

    fn version(&self) -> u64 {
        self.version
    }
}

/// The id that [`Rig::topic`] gives: the name's own bytes, so that a failed assertion can be read.
pub(crate) fn topic_id(name: &str) -> TopicId {
    let mut bytes = [0; 16];
    for (to, from) in bytes.iter_mut().zip(name.bytes()) {
        *to = from;
    }
    Uuid(bytes)
}

/// A client by its id.
pub(crate) fn client(id: &str) -> Client {
    Client { id: Str::from(id), host: Str::from_static("/127.0.0.1") }
}

/// A response of one API.
pub(crate) trait Answer {
    /// Panics where it is another API's.
    fn of(response: Response) -> Self;
}

macro_rules! answers {
    ($($api:ident: $module:ident::$response:ident;)*) => {
        $(
            impl Answer for crate::wire::$module::$response {
                #[track_caller]
                fn of(response: Response) -> Self {
                    match response {
                        Response::$api(response) => response,
                        other => panic!("another API's answer: {other:?}"),
                    }
                }
            }
        )*
    };
}

answers! {
    JoinGroup: join_group::JoinGroupResponse;
    SyncGroup: sync_group::SyncGroupResponse;
    Heartbeat: heartbeat::HeartbeatResponse;
    LeaveGroup: leave_group::LeaveGroupResponse;
    ConsumerGroupHeartbeat: consumer_group_heartbeat::ConsumerGroupHeartbeatResponse;
    OffsetCommit: offset_commit::OffsetCommitResponse;
    OffsetDelete: offset_delete::OffsetDeleteResponse;
}
