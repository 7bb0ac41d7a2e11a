//! Whatever members send, in whatever order, the group stays sound and answers every request once.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;

use crate::boundary::ReplyTo;
use crate::group::classic::{Group, State};
use crate::group::record::Record;
use crate::group::testing::{BEGINNING, Rig, client};
use crate::group::{Outcome, Timers};
use crate::wire::heartbeat::HeartbeatRequest;
use crate::wire::join_group::{JoinGroupRequest, JoinGroupRequestProtocol, JoinGroupResponse};
use crate::wire::leave_group::{LeaveGroupRequest, MemberIdentity};
use crate::wire::sync_group::{SyncGroupRequest, SyncGroupRequestAssignment};
use crate::wire::{ErrorCode, Response, Str};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn every_request_is_answered_once_and_a_load_knows_what_was_told(
        small_records in any::<bool>(),
        steps in proptest::collection::vec(step(), 1..120),
    ) {
        let mut world = World::new();
        if small_records {
            // Room for a group without members, and for one with a single short one.
            world.rig.settings.record_bytes_max = 150;
        }
        for step in &steps {
            world.take(step);
        }
        world.fall_silent();
    }
}

#[test]
fn what_a_member_says_keeps_no_request_alive() {
    let mut rig = Rig::new();
    rig.settings.group_initial_rebalance_delay = Duration::ZERO;
    let mut group = Group::new(Str::from_static("g"));
    let frame = Bytes::from(b"gmconsumerrangesaidgiven".to_vec());
    let text = |from, to| Str::from_utf8(frame.slice(from..to)).expect("ASCII");
    let to = rig.ask(3);
    let protocol = JoinGroupRequestProtocol { name: text(10, 15), metadata: frame.slice(15..19) };
    let request = JoinGroupRequest {
        group_id: text(0, 1),
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 60_000,
        protocol_type: text(2, 10),
        protocols: vec![protocol],
        ..JoinGroupRequest::default()
    };
    group.join(&mut rig.ctx(), to, &client("c"), request);
    while let Some(timer) = rig.due() {
        group.timer(&mut rig.ctx(), timer.kind);
    }
    let joined: JoinGroupResponse = rig.reply(to);
    let to = rig.ask(4);
    let member_id = joined.member_id;
    let request = SyncGroupRequest {
        group_id: text(0, 1),
        generation_id: 1,
        member_id: member_id.clone(),
        assignments: vec![SyncGroupRequestAssignment { member_id, assignment: frame.slice(19..) }],
        ..SyncGroupRequest::default()
    };
    group.sync(&mut rig.ctx(), to, request);
    assert_eq!(group.state(), State::Stable);
    drop(std::mem::take(&mut rig.out));
    drop(joined.members);
    assert!(frame.is_unique(), "something still holds a slice of a request");
}

#[test]
fn a_member_that_says_more_than_a_record_holds_is_refused() {
    let mut rig = Rig::new();
    rig.settings.record_bytes_max = 1_000;
    let mut group = Group::new(Str::from_static("g"));
    let to = rig.ask(3);
    let protocol = |name| JoinGroupRequestProtocol { name: Str::from_static(name), metadata: vec![0; 600].into() };
    let request = JoinGroupRequest {
        session_timeout_ms: 10_000,
        protocol_type: Str::from_static("consumer"),
        protocols: vec![protocol("p"), protocol("q")],
        ..JoinGroupRequest::default()
    };
    group.join(&mut rig.ctx(), to, &client("c"), request);
    let refused: JoinGroupResponse = rig.reply(to);
    assert_eq!((refused.error_code, group.size()), (ErrorCode::UnknownServerError.code(), 0));
}

#[derive(Clone, Debug)]
enum Step {
    Join { version: i16, id: usize, instance: usize, protocols: usize, session: usize, rebalance: usize },
    Sync { id: usize, instance: usize, generation: i32, assigned: usize },
    Beat { id: usize, instance: usize, generation: i32 },
    Commit { id: usize, instance: usize, generation: i32 },
    Leave { version: i16, ids: Vec<(usize, usize)> },
    Pass { ms: u64 },
    Resize { max: usize },
    Reload,
}

fn step() -> impl Strategy<Value = Step> {
    let (id, instance, generation) = (0..12usize, 0..6usize, -2..2i32);
    prop_oneof![
        8 => (0..10i16, id.clone(), instance.clone(), 0..6usize, 0..5usize, 0..5usize).prop_map(
            |(version, id, instance, protocols, session, rebalance)| {
                Step::Join { version, id, instance, protocols, session, rebalance }
            }
        ),
        6 => (id.clone(), instance.clone(), generation.clone(), 0..4usize).prop_map(
            |(id, instance, generation, assigned)| Step::Sync { id, instance, generation, assigned }
        ),
        2 => (id.clone(), instance.clone(), generation.clone())
            .prop_map(|(id, instance, generation)| Step::Beat { id, instance, generation }),
        1 => (id.clone(), instance.clone(), generation)
            .prop_map(|(id, instance, generation)| Step::Commit { id, instance, generation }),
        2 => (0..6i16, proptest::collection::vec((id, instance), 0..3))
            .prop_map(|(version, ids)| Step::Leave { version, ids }),
        6 => prop_oneof![0..20u64, 0..4_000u64, 0..70_000u64].prop_map(|ms| Step::Pass { ms }),
        1 => (1..5usize).prop_map(|max| Step::Resize { max }),
        1 => Just(Step::Reload),
    ]
}

struct World {
    rig: Rig,
    group: Group,
    /// Ids that were told to somebody, the newest last.
    told: Vec<Str>,
    /// Requests that have no answer yet.
    open: BTreeSet<u64>,
    last_record: Option<Record>,
    generation: i32,
}

impl World {
    fn new() -> World {
        World {
            rig: Rig::new(),
            group: Group::new(Str::from_static("g")),
            told: Vec::new(),
            open: BTreeSet::new(),
            last_record: None,
            generation: 0,
        }
    }

    fn ask(&mut self, version: i16) -> ReplyTo {
        let to = self.rig.ask(version);
        self.open.insert(to.sequence);
        to
    }

    /// None, one of the newest that were told, or one that nobody was told.
    fn id(&self, choice: usize) -> Str {
        match choice {
            0..=2 => Str::EMPTY,
            3 => Str::from_static("ghost"),
            _ => self.told.iter().rev().nth(choice - 4).cloned().unwrap_or_default(),
        }
    }

    fn take(&mut self, step: &Step) {
        match *step {
            Step::Join { version, id, instance, protocols, session, rebalance } => {
                let names: &[&str] = [&["p", "q"][..], &["p"], &["q", "p"], &["p", "p"], &["r"], &[]][protocols];
                let protocol = |name: &&str| JoinGroupRequestProtocol {
                    name: Str::from(*name),
                    metadata: Bytes::from_static(b"what a member says"),
                };
                let request = JoinGroupRequest {
                    session_timeout_ms: [6_000, 10_000, 1_800_000, 10_000, -1][session],
                    rebalance_timeout_ms: [60_000, 5_000, 0, i32::MIN, i32::MAX][rebalance],
                    member_id: self.id(id),
                    group_instance_id: if version >= 5 { name(instance) } else { None },
                    protocol_type: Str::from(if protocols == 5 { "" } else { "consumer" }),
                    protocols: names.iter().map(protocol).collect(),
                    ..JoinGroupRequest::default()
                };
                let to = self.ask(version);
                self.group.join(&mut self.rig.ctx(), to, &client("c"), request);
            }
            Step::Sync { id, instance, generation, assigned } => {
                let assignments = self.told.iter().rev().take(assigned);
                let assignments = assignments.map(|id| SyncGroupRequestAssignment {
                    member_id: id.clone(),
                    assignment: Bytes::from_static(b"something"),
                });
                let request = SyncGroupRequest {
                    generation_id: self.group.generation() + generation.max(-1) * generation.abs().min(1),
                    member_id: self.id(id),
                    group_instance_id: name(instance),
                    assignments: assignments.collect(),
                    ..SyncGroupRequest::default()
                };
                let to = self.ask(4);
                self.group.sync(&mut self.rig.ctx(), to, request);
            }
            Step::Beat { id, instance, generation } => {
                let request = HeartbeatRequest {
                    generation_id: self.group.generation() + generation,
                    member_id: self.id(id),
                    group_instance_id: name(instance),
                    ..HeartbeatRequest::default()
                };
                let to = self.ask(4);
                self.group.heartbeat(&mut self.rig.ctx(), to, request);
            }
            Step::Commit { id, instance, generation } => {
                let (id, instance) = (self.id(id), name(instance));
                let generation = if generation == -2 { -1 } else { self.group.generation() + generation };
                // Whether it is admitted is for the scenarios; here it must do no harm.
                let _ = self.group.admit_commit(&mut self.rig.ctx(), &id, instance.as_ref(), generation);
            }
            Step::Leave { version, ref ids } => {
                let identity = |(id, instance): &(usize, usize)| MemberIdentity {
                    member_id: self.id(*id),
                    group_instance_id: name(*instance),
                    reason: None,
                };
                let request = LeaveGroupRequest {
                    member_id: self.id(ids.len() + 3),
                    members: ids.iter().map(identity).collect(),
                    ..LeaveGroupRequest::default()
                };
                let to = self.ask(version);
                self.group.leave(&mut self.rig.ctx(), to, request);
            }
            Step::Pass { ms } => {
                self.rig.pass(Duration::from_millis(ms));
                self.call_what_is_due();
            }
            Step::Resize { max } => self.rig.settings.group_max_size = max,
            Step::Reload => {
                let resigned = self.group.resign(ErrorCode::NotCoordinator);
                self.rig.out.replies.extend(resigned);
                self.rig.timers = Timers::default();
                self.group = self.loaded();
                self.generation = self.group.generation();
                self.group.begin(&mut self.rig.ctx());
                self.settle();
                assert!(self.open.is_empty(), "who resigns leaves nobody waiting");
            }
        }
        self.settle();
    }

    fn loaded(&self) -> Group {
        let mut group = Group::new(Str::from_static("g"));
        if let Some(record) = &self.last_record {
            group.replay(record.value.as_ref(), BEGINNING);
        }
        group
    }

    fn call_what_is_due(&mut self) {
        // A timer that sets itself for the same instant again would go on for ever.
        for _ in 0..10_000 {
            let Some(timer) = self.rig.due() else { return };
            self.group.timer(&mut self.rig.ctx(), timer.kind);
            self.settle();
        }
        panic!("time stands still");
    }

    fn settle(&mut self) {
        let Outcome { records, replies, .. } = std::mem::take(&mut self.rig.out);
        for record in records {
            self.last_record = Some(record);
        }
        for (to, response) in replies {
            assert!(self.open.remove(&to.sequence), "{to:?} is answered twice, with {response:?}");
            if let Response::JoinGroup(response) = response
                && !response.member_id.is_empty()
                && !self.told.contains(&response.member_id)
            {
                self.told.push(response.member_id);
            }
        }
        self.group.invariants(&self.rig.timers);
        assert!(self.group.generation() >= self.generation, "generations rise");
        self.generation = self.group.generation();
        if self.group.state() == State::Stable || self.group.state() == State::Empty && !self.group.is_forgettable() {
            let (told, known) = (self.group.describe(6), self.loaded().describe(6));
            let is_known = self.last_record.is_some();
            assert!(!is_known || told == known, "a load knows {known:?}, but {told:?} was told");
        }
    }

    /// Nobody says anything any more: the group is empty in the end, and nobody waits.
    fn fall_silent(&mut self) {
        for _ in 0..10_000 {
            let Some(at) = self.rig.timers.next() else { break };
            let now = self.rig.now.instant;
            self.rig.pass(at - now);
            self.call_what_is_due();
        }
        assert_eq!((self.group.state(), self.group.size()), (State::Empty, 0));
        assert!(self.open.is_empty(), "somebody waits for ever");
    }
}

fn name(choice: usize) -> Option<Str> {
    [None, None, None, None, Some("x"), Some("y")][choice].map(Str::from)
}
