//! How a node serves groups: which coordinator a request is for, and when its answer may leave.
//!
//! A group belongs to one partition of `__consumer_offsets`, by the hash of its name; whoever leads that partition
//! coordinates it. Each partition has a [`Seat`] here:
//!
//! ```text
//!            log is empty
//!          ┌──────────────► Serving ──┐ the log cannot be written, or is damaged
//!  led ────┤                   ▲      ▼
//!          │                   │    Failed ─► Waiting (after a pause)
//!          │                   │      ▲
//!          └─► Waiting ─► Loading ─► Beginning
//!            it has records    they are read and replayed, then all groups begin where they stood
//! ```
//!
//! | state | what a request is told |
//! | --- | --- |
//! | Waiting, Loading, Beginning | COORDINATOR_LOAD_IN_PROGRESS |
//! | Failed, damaged, led elsewhere | NOT_COORDINATOR |
//! | any, while the node stops | COORDINATOR_NOT_AVAILABLE |
//!
//! A coordinator decides records and replies. The records are appended as a client's would be, and the replies leave when
//! the partition's high watermark has reached the end that its log has by then: also those of calls that wrote nothing,
//! since what they tell of may not be committed yet (KAFKA-15910).
//!
//! The journal's room is asked for before a coordinator is called, but how much a call will write is known only
//! afterwards. What finds no room waits in `unwritten`, and while it does no coordinator is called: so the memory of a
//! coordinator is never ahead of its log by more than one call, and nothing is told of that call.
//!
//! A commit of one partition takes 3 to 5 µs of the sequencer: two lookups, a record of about 100 bytes, a checksum, and
//! the append.
//!
//! What is not here: what a coordinator decides ([`crate::group`]).

mod append;
mod commit;
mod find;
mod gather;
mod load;
mod metrics;
mod questions;
mod refuse;
mod size;
mod sweep;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use slab::Slab;

use super::{Node, Reason};
use crate::boundary::{Client, Effect, Level, Outbox, ReplyTo};
use crate::config::BrokerConfig;
use crate::controller::GROUP_OFFSETS;
use crate::controller::image::MetadataImage;
use crate::group::{Coordinator, Migration, Outcome, Reached, Settings, Surroundings, Topics, Written, partition_of};
use crate::ids::{Offset, TopicId, TopicPartition};
use crate::rng::Rng;
use crate::time::{Instant, Now};
use crate::wire::{self, ErrorCode, Str};

use append::{Unwritten, Waiter};
use commit::LongCommit;
use gather::{Gather, Gathered};
use load::{Load, Loads};
use metrics::Surveys;
use questions::Questions;
use sweep::Sweep;

/// The stream of chance that ids of members are drawn from.
const MEMBERS: u64 = 2;

/// How many timers of one coordinator are called in one step.
const REACHED_AT_ONCE: usize = 16;

/// The shortest time: what is due already comes with the next step, not in this one.
const NEXT_STEP: Duration = Duration::from_nanos(1);

/// How long timers and sweeps wait that may write, where there is no room for it, and timers behind requests that wait.
const ROOM_RETRY: Duration = Duration::from_millis(10);

/// How long a coordinator stays away that could not write or could not be loaded.
const FAILED_PAUSE: Duration = Duration::from_secs(1);

/// The groups that this node coordinates.
pub(super) struct Groups {
    settings: Settings,
    rng: Rng,
    topic: Option<TopicId>,
    /// By partition of the topic.
    seats: BTreeMap<i32, Seat>,
    /// Another number whenever a topic has come, gone or grown.
    topics_version: u64,
    /// Decided, and not written for want of room, in the order in which it was decided.
    unwritten: VecDeque<Unwritten>,
    /// Requests that wait for room, or behind what is unwritten.
    delayed: VecDeque<(ReplyTo, Client, wire::Request)>,
    /// While it is under way, all other requests wait.
    long_commit: Option<LongCommit>,
    /// Likewise while a group is deleted that takes several steps.
    is_deleting: bool,
    /// Requests about many groups that are being worked on.
    gathers: VecDeque<Gather>,
    /// Answers about many groups that wait for several partitions.
    gathered: Slab<Gathered>,
    questions: Questions,
    loads: Loads,
    sweeps: VecDeque<Sweep>,
    surveys: Surveys,
}

/// A partition of `__consumer_offsets`, and who coordinates its groups.
struct Seat {
    slot: u32,
    state: State,
    /// Answers that wait for the high watermark, in the order of the ends that they wait for.
    parked: VecDeque<(Offset, Waiter)>,
    /// When the coordinator's next timer is set for.
    timer: Option<Instant>,
}

/// Where a seat is in its life.
enum State {
    /// Its turn to be loaded has not come.
    Waiting,
    Loading(Box<Load>),
    /// All of its records are replayed; its groups begin, those up to this one have.
    Beginning(Box<Coordinator>, Option<Str>),
    Serving(Box<Coordinator>),
    /// It could not be loaded or written; it is tried again after a pause.
    Failed,
}

impl Groups {
    pub(super) fn new(rng: &Rng) -> Groups {
        Groups {
            settings: Settings::default(),
            rng: rng.keyed(MEMBERS, 0),
            topic: None,
            seats: BTreeMap::new(),
            topics_version: 0,
            unwritten: VecDeque::new(),
            delayed: VecDeque::new(),
            long_commit: None,
            is_deleting: false,
            gathers: VecDeque::new(),
            gathered: Slab::new(),
            questions: Questions::default(),
            loads: Loads::default(),
            sweeps: VecDeque::new(),
            surveys: Surveys::default(),
        }
    }

    /// Forgets requests that nobody waits for any more and that have not begun.
    pub(super) fn forget(&mut self, conn: crate::ids::ConnId) {
        self.delayed.retain(|(to, ..)| to.conn != conn);
        // What is being deleted is the first.
        self.is_deleting &= self.gathers.front().is_some_and(|gather| gather.to.conn != conn);
        self.gathers.retain(|gather| gather.to.conn != conn);
        self.long_commit.take_if(|long| long.to.conn == conn);
    }

    /// The partitions that are being loaded, each with its slot.
    #[cfg(test)]
    pub(super) fn loading(&self) -> impl Iterator<Item = (i32, u32)> {
        let seats = self.seats.iter().filter(|(_, seat)| matches!(seat.state, State::Loading(_)));
        seats.map(|(&partition, seat)| (partition, seat.slot))
    }

    /// Whether a request is under way that none passes by.
    fn is_held_up(&self) -> bool {
        self.long_commit.is_some() || self.is_deleting
    }

    /// Whether requests, or decisions, wait for room.
    pub(super) fn has_waiting(&self) -> bool {
        !self.unwritten.is_empty() || (!self.is_held_up() && !self.delayed.is_empty())
    }
}

/// The topics that there are, as coordinators see them.
struct Known<'a> {
    image: &'a MetadataImage,
    version: u64,
}

fn count(topic: &crate::controller::image::Topic) -> u32 {
    u32::try_from(topic.partitions.len()).expect("partitions are numbered by an i32")
}

impl Topics for Known<'_> {
    fn by_name(&self, name: &str) -> Option<(TopicId, u32)> {
        self.image.topic_named(name).map(|topic| (topic.id, count(topic)))
    }

    fn by_id(&self, id: TopicId) -> Option<(&Str, u32)> {
        self.image.topic(id).map(|topic| (&topic.name, count(topic)))
    }

    fn each_from(&self, name: &str, visit: &mut dyn FnMut(&Str, TopicId, u32) -> bool) {
        for topic in self.image.topics_from(name) {
            if !visit(&topic.name, topic.id, count(topic)) {
                return;
            }
        }
    }

    fn version(&self) -> u64 {
        self.version
    }
}

/// The settings of groups, as the broker's say; a record has at most `record_bytes_max` bytes.
fn settings(config: &BrokerConfig, record_bytes_max: usize) -> Settings {
    let groups = &config.groups;
    let ms = Duration::from_millis;
    Settings {
        group_min_session_timeout: ms(groups.group_min_session_timeout_ms),
        group_max_session_timeout: ms(groups.group_max_session_timeout_ms),
        group_max_size: groups.group_max_size as usize,
        group_initial_rebalance_delay: ms(groups.group_initial_rebalance_delay_ms),
        offset_metadata_max_bytes: groups.offset_metadata_max_bytes as usize,
        offsets_retention: Duration::from_secs(60 * groups.offsets_retention_minutes),
        consumer_session_timeout: ms(groups.group_consumer_session_timeout_ms),
        consumer_heartbeat_interval: ms(groups.group_consumer_heartbeat_interval_ms),
        consumer_max_size: groups.group_consumer_max_size as usize,
        consumer_assignors: groups.group_consumer_assignors.clone(),
        consumer_migration_policy: Migration::by_name(groups.group_consumer_migration_policy)
            .expect("a setting has one of the values that it may have"),
        consumer_regex_refresh_interval: ms(groups.group_consumer_regex_refresh_interval_ms),
        record_bytes_max,
    }
}

impl Node {
    /// Takes over what the broker's settings say.
    pub(super) fn apply_group_settings(&mut self) {
        self.groups.settings = settings(self.controller.config(), self.record_bytes_max());
    }

    /// The topic that keeps what groups must not lose is there. Its partitions coordinate, each where it is led.
    pub(super) fn groups_live_in(&mut self, topic: TopicId) {
        self.groups.topic = Some(topic);
    }

    /// It is no more.
    pub(super) fn groups_lose_topic(&mut self) {
        self.groups.topic = None;
    }

    /// A partition of `__consumer_offsets` is led here: its coordinator serves once it has been loaded.
    pub(super) fn seat(&mut self, id: TopicPartition, slot: u32) {
        let log = self.host(slot).partition.log();
        let is_empty = log.start() == log.end();
        let state = if is_empty { State::Serving(Box::default()) } else { State::Waiting };
        self.groups.seats.insert(id.partition, Seat { slot, state, parked: VecDeque::new(), timer: None });
        if !is_empty {
            self.groups.loads.waiting.push_back(id.partition);
            self.deadlines.insert((Instant::default(), Reason::Load));
        }
    }

    /// A partition of `__consumer_offsets` goes away: nobody coordinates its groups any more (KAFKA-19274).
    pub(super) fn unseat(&mut self, id: TopicPartition, out: &mut Outbox) {
        if self.host_of_seat(id).is_none() {
            return;
        }
        self.resign(id.partition, ErrorCode::NotCoordinator, out);
        let Some(seat) = self.groups.seats.remove(&id.partition) else { return };
        // What was decided is told when the journal has it, and with it the end of the topic: no crash takes back the
        // one and keeps the other.
        for (_, waiter) in seat.parked {
            match waiter {
                Waiter::Reply(to, response) => self.reply_at(self.journal.end(), to, *response, out),
                Waiter::Gather(gathered) => self.settle_gathered(gathered, out),
            }
        }
    }

    /// A partition of `__consumer_offsets` is led elsewhere from now on. What was decided here and is not committed may be
    /// cut from its log, so nobody is told of it but that another broker coordinates.
    pub(super) fn unseat_leader(&mut self, id: TopicPartition, out: &mut Outbox) {
        if self.host_of_seat(id).is_none() {
            return;
        }
        self.resign(id.partition, ErrorCode::NotCoordinator, out);
        self.refuse_gathers(id.partition, ErrorCode::NotCoordinator);
        let Some(seat) = self.groups.seats.remove(&id.partition) else { return };
        for (_, waiter) in seat.parked {
            self.refuse_waiter(id.partition, waiter, ErrorCode::NotCoordinator, out);
        }
    }

    /// Where a partition is hosted that has a seat.
    fn host_of_seat(&self, id: TopicPartition) -> Option<u32> {
        let slot = self.groups.seats.get(&id.partition)?.slot;
        let hosted = self.hosts[slot as usize].as_ref()?;
        (hosted.partition.id() == id).then_some(slot)
    }

    fn refuse_waiter(&mut self, partition: i32, waiter: Waiter, code: ErrorCode, out: &mut Outbox) {
        match waiter {
            Waiter::Reply(to, mut response) => {
                refuse::response(&mut response, code);
                out.push(Effect::Reply { to, response: Some(*response) });
            }
            Waiter::Gather(gathered) => {
                self.refuse_gathered(gathered, partition, code);
                self.settle_gathered(gathered, out);
            }
        }
    }

    /// The node stops: whoever waits in a group is sent to look for another coordinator.
    pub(super) fn stop_groups(&mut self, now: Now, out: &mut Outbox) {
        let partitions: Vec<i32> = self.groups.seats.keys().copied().collect();
        for partition in partitions {
            self.resign(partition, ErrorCode::NotCoordinator, out);
        }
        for (to, _, request) in std::mem::take(&mut self.groups.delayed) {
            let response = refuse::request(&request, to.version, ErrorCode::CoordinatorNotAvailable);
            out.push(Effect::Reply { to, response: Some(response) });
        }
        self.end_gathers(now, out);
    }

    /// Ends what a partition's coordinator does. What it has decided and written is told when that is committed, what it has
    /// not written to nobody.
    pub(super) fn resign(&mut self, partition: i32, code: ErrorCode, out: &mut Outbox) {
        self.set_timer(partition, None);
        self.groups.questions.forget(partition);
        let Some(seat) = self.groups.seats.get_mut(&partition) else { return };
        match std::mem::replace(&mut seat.state, State::Failed) {
            State::Serving(coordinator) => {
                for (to, response) in coordinator.resign(code) {
                    out.push(Effect::Reply { to, response: Some(response) });
                }
            }
            State::Loading(_) | State::Beginning(..) => self.end_turn(partition),
            State::Waiting | State::Failed => {}
        }
        if let Some(long) = self.groups.long_commit.take_if(|long| long.partition == partition) {
            let (to, response) = long.refuse(code);
            out.push(Effect::Reply { to, response: Some(response) });
        }
        let (gone, kept): (VecDeque<_>, _) = std::mem::take(&mut self.groups.unwritten)
            .into_iter()
            .partition(|unwritten| unwritten.partition == partition);
        self.groups.unwritten = kept;
        if !gone.is_empty() {
            self.refuse_gathers(partition, code);
        }
        for waiter in gone.into_iter().flat_map(|unwritten: Unwritten| unwritten.waiters) {
            self.refuse_waiter(partition, waiter, code, out);
        }
    }

    /// A partition is damaged: if it is one of `__consumer_offsets`, it coordinates no groups any more.
    pub(super) fn resign_damaged(&mut self, slot: u32, out: &mut Outbox) {
        let partition = self.host(slot).partition.id().partition;
        if self.groups.seats.get(&partition).is_some_and(|seat| seat.slot == slot) {
            self.resign(partition, ErrorCode::NotCoordinator, out);
        }
    }

    /// A coordinator cannot go on: its log is damaged, or cannot be written. It is built anew from the log after a pause.
    pub(super) fn fail_coordinator(&mut self, now: Now, partition: i32, why: &str, out: &mut Outbox) {
        out.log(Level::Warn, format!("{GROUP_OFFSETS}-{partition} coordinates no groups for now: {why}"));
        self.resign(partition, ErrorCode::NotCoordinator, out);
        self.deadlines.insert((now.instant + FAILED_PAUSE, Reason::Reload(partition)));
    }

    /// The pause of a coordinator that failed is over.
    pub(super) fn reload(&mut self, now: Now, partition: i32) {
        let Some(seat) = self.groups.seats.get_mut(&partition) else { return };
        if !self.stopping && matches!(seat.state, State::Failed) {
            seat.state = State::Waiting;
            self.groups.loads.waiting.push_back(partition);
            self.deadlines.insert((now.instant, Reason::Load));
        }
    }

    /// The partition that a group belongs to.
    fn partition_of(&self, group: &str) -> Option<i32> {
        let topic = self.controller.image().topic(self.groups.topic?)?;
        Some(partition_of(group, count(topic)))
    }

    /// The partition that a group belongs to, where its coordinator serves here.
    fn coordinating(&self, group: &str) -> Result<i32, ErrorCode> {
        let partition = self.partition_of(group).ok_or(match self.stopping {
            true => ErrorCode::CoordinatorNotAvailable,
            false => ErrorCode::NotCoordinator,
        })?;
        self.check_serving(partition).map(|()| partition)
    }

    fn check_serving(&self, partition: i32) -> Result<(), ErrorCode> {
        if self.stopping {
            return Err(ErrorCode::CoordinatorNotAvailable);
        }
        let seat = self.groups.seats.get(&partition).ok_or(ErrorCode::NotCoordinator)?;
        let hosted = self.hosts[seat.slot as usize].as_ref().expect("a seat's partition is hosted");
        match seat.state {
            _ if hosted.partition.damage().is_some() => Err(ErrorCode::NotCoordinator),
            State::Serving(_) => Ok(()),
            State::Waiting | State::Loading(_) | State::Beginning(..) => Err(ErrorCode::CoordinatorLoadInProgress),
            State::Failed => Err(ErrorCode::NotCoordinator),
        }
    }

    /// Takes a request about groups, or lets it wait where the journal has no room for what it may write.
    pub(super) fn group_request(
        &mut self,
        now: Now,
        to: ReplyTo,
        client: Client,
        request: wire::Request,
        out: &mut Outbox,
    ) {
        if self.groups.delayed.is_empty() && self.admits(&request) {
            return self.take_group_request(now, to, &client, request, out);
        }
        self.groups.delayed.push_back((to, client, request));
    }

    /// Takes up what waited for room.
    pub(super) fn resume_groups(&mut self, now: Now, out: &mut Outbox) {
        self.write_on(now, out);
        while self.groups.delayed.front().is_some_and(|(_, _, request)| self.admits(request)) {
            let (to, client, request) = self.groups.delayed.pop_front().expect("one was at the front");
            self.take_group_request(now, to, &client, request, out);
        }
        if self.groups_wait_for_room() && self.no_space.is_none() {
            self.checkpoint_soon();
        }
    }

    fn take_group_request(&mut self, now: Now, to: ReplyTo, client: &Client, request: wire::Request, out: &mut Outbox) {
        use wire::Request as R;
        let group = match &request {
            R::JoinGroup(request) => &request.group_id,
            R::SyncGroup(request) => &request.group_id,
            R::Heartbeat(request) => &request.group_id,
            R::LeaveGroup(request) => &request.group_id,
            R::ConsumerGroupHeartbeat(request) => &request.group_id,
            R::OffsetCommit(request) => &request.group_id,
            R::OffsetDelete(request) => &request.group_id,
            _ => return self.gather(now, to, request, out),
        };
        let partition = match self.coordinating(group).and_then(|partition| self.check_writable(partition, &request)) {
            Ok(partition) => partition,
            Err(code) => {
                let response = Some(refuse::request(&request, to.version, code));
                return out.push(Effect::Reply { to, response });
            }
        };
        if commit::is_long(&request) {
            return self.begin_long_commit(now, to, partition, request, out);
        }
        self.call(now, partition, out, |coordinator, with| match request {
            R::JoinGroup(request) => coordinator.join(with, to, client, request),
            R::SyncGroup(request) => coordinator.sync(with, to, request),
            R::Heartbeat(request) => coordinator.heartbeat(with, to, request),
            R::LeaveGroup(request) => coordinator.leave(with, to, request),
            R::ConsumerGroupHeartbeat(request) => coordinator.consumer_heartbeat(with, to, client, request),
            R::OffsetCommit(request) => coordinator.commit(with, to, &request),
            R::OffsetDelete(request) => coordinator.delete_offsets(with, to, &request),
            other => unreachable!("{other:?} is about many groups"),
        });
    }

    /// Calls a coordinator that serves, or begins to, and sees to what it decides.
    fn call<T>(
        &mut self,
        now: Now,
        partition: i32,
        out: &mut Outbox,
        ask: impl FnOnce(&mut Coordinator, &mut Surroundings<'_>) -> T,
    ) -> T {
        let mut outcome = Outcome::default();
        let log = self.written(partition);
        let Groups { settings, rng, seats, topics_version, .. } = &mut self.groups;
        let topics = Known { image: self.controller.image(), version: *topics_version };
        let Some(State::Serving(coordinator) | State::Beginning(coordinator, _)) =
            seats.get_mut(&partition).map(|seat| &mut seat.state)
        else {
            unreachable!("whoever calls a coordinator has found that it serves, or begins")
        };
        let mut with = Surroundings { now, settings, topics: &topics, rng, out: &mut outcome, log };
        let told = ask(coordinator, &mut with);
        let deadline = coordinator.deadline();
        self.wake(now, partition, deadline);
        self.conclude(now, partition, outcome, out);
        told
    }

    /// How far the log of a partition of the groups' is.
    fn written(&self, partition: i32) -> Written {
        let hosted = self.groups.seats.get(&partition).and_then(|seat| self.hosts[seat.slot as usize].as_ref());
        hosted.map_or(Written::default(), |hosted| {
            let partition = &hosted.partition;
            Written { committed: partition.advanced().high_watermark, end: partition.log().end() }
        })
    }

    /// Sets a coordinator's timer for the next step or later.
    fn wake(&mut self, now: Now, partition: i32, at: Option<Instant>) {
        self.set_timer(partition, at.map(|at| at.max(now.instant + NEXT_STEP)));
    }

    /// Sets a coordinator's timer, instead of its earlier setting.
    fn set_timer(&mut self, partition: i32, at: Option<Instant>) {
        let Some(seat) = self.groups.seats.get_mut(&partition) else { return };
        if seat.timer == at {
            return;
        }
        if let Some(before) = std::mem::replace(&mut seat.timer, at) {
            self.deadlines.remove(&(before, Reason::Group(partition)));
        }
        self.deadlines.extend(at.map(|at| (at, Reason::Group(partition))));
    }

    /// Asserts what always holds of the groups.
    pub(super) fn group_invariants(&self) {
        for (&partition, seat) in &self.groups.seats {
            let hosted = self.hosts[seat.slot as usize].as_ref().expect("a seat's partition is hosted");
            let id = TopicPartition { topic: self.groups.topic.expect("there are seats"), partition };
            assert_eq!(hosted.partition.id(), id, "a seat is of its partition");
            let high_watermark = hosted.partition.advanced().high_watermark;
            let ends = || seat.parked.iter().map(|&(end, _)| end);
            assert!(ends().is_sorted(), "answers wait in the order of what they wait for");
            assert!(ends().all(|end| end > high_watermark), "nobody waits for what is committed");
            assert!(ends().all(|end| end <= hosted.partition.log().end()), "nobody waits for what is not written");
            let is_set = seat.timer.is_none_or(|at| self.deadlines.contains(&(at, Reason::Group(partition))));
            assert!(is_set, "a timer has its deadline");
        }
        let mut unwritten = self.groups.unwritten.iter().map(|unwritten| unwritten.partition);
        assert!(unwritten.all(|partition| self.groups.seats.contains_key(&partition)), "what is decided has a place");
    }

    /// A coordinator's timer is due.
    pub(super) fn reach_group(&mut self, now: Now, partition: i32, out: &mut Outbox) {
        let Some(seat) = self.groups.seats.get_mut(&partition) else { return };
        seat.timer = None;
        for _ in 0..REACHED_AT_ONCE {
            if self.check_serving(partition).is_err() {
                return;
            }
            // Heartbeats may be among the requests that wait. They wait for a while only: for what is under way, or for room,
            // for which nothing here is needed.
            let are_held_back = self.groups.is_held_up() || !self.groups.delayed.is_empty();
            if are_held_back || !self.may_write_groups() {
                return self.wake(now, partition, Some(now.instant + ROOM_RETRY));
            }
            match self.call(now, partition, out, |coordinator, with| coordinator.reach(with)) {
                Reached::Little => {}
                Reached::Nothing | Reached::Much => return,
            }
        }
    }
}
