//! Members that follow the protocol, crash, sleep and come back, under a coordinator that is replaced now and then: in a
//! generation every partition has one owner, and once all are awake they soon own everything.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;

use crate::group::classic::{Group, State};
use crate::group::record::Record;
use crate::group::testing::{BEGINNING, Rig, client};
use crate::group::{Outcome, Timers};
use crate::rng::Rng;
use crate::wire::heartbeat::HeartbeatRequest;
use crate::wire::join_group::{JoinGroupRequest, JoinGroupRequestProtocol, JoinGroupResponse};
use crate::wire::leave_group::{LeaveGroupRequest, MemberIdentity};
use crate::wire::sync_group::{SyncGroupRequest, SyncGroupRequestAssignment};
use crate::wire::{ErrorCode, Response, Str};

const PARTITIONS: u8 = 7;
const SESSION_MS: i32 = 10_000;
const REBALANCE_MS: i32 = 20_000;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn every_partition_has_one_owner_in_a_generation_and_every_rebalance_ends(seed in any::<u64>()) {
        let mut world = World::new(seed);
        for _ in 0..150 {
            world.disturb();
            world.second();
        }
        world.wake_all();
        // A dead member is found out when it does not join in time, or does not sync in time, or its session ends.
        let bound = 2 * (SESSION_MS + REBALANCE_MS) / 1_000;
        for _ in 0..bound {
            world.second();
        }
        world.is_settled();
    }
}

/// What a member does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Outside,
    Waits,
    /// It is to sync.
    Joined,
    Owns,
}

struct Actor {
    version: i16,
    instance: Option<Str>,
    id: Str,
    generation: i32,
    /// The last generation that it was assigned something in.
    assigned: i32,
    phase: Phase,
    /// Whom it leads.
    leads: Vec<Str>,
    /// The one request that it waits for: answers to others are of an earlier life.
    asked: u64,
    topics: u8,
    asleep: u64,
}

struct World {
    rig: Rig,
    chance: Rng,
    group: Group,
    actors: Vec<Actor>,
    askers: BTreeMap<u64, usize>,
    last_record: Option<Record>,
    /// Who was assigned a partition in a generation.
    owners: BTreeMap<(i32, u8), Str>,
}

impl World {
    fn new(seed: u64) -> World {
        let mut chance = Rng::from_number(seed);
        let actors = (0..2 + chance.below(4)).map(|number| Actor {
            version: [3, 9][chance.below(2) as usize],
            instance: None,
            id: Str::EMPTY,
            generation: -1,
            assigned: -1,
            phase: Phase::Outside,
            leads: Vec::new(),
            asked: 0,
            topics: 0,
            asleep: number,
        });
        let mut actors: Vec<Actor> = actors.collect();
        for (number, actor) in actors.iter_mut().enumerate().filter(|(_, actor)| actor.version == 9) {
            actor.instance = (chance.below(2) == 0).then(|| Str::from(format!("static-{number}")));
        }
        World {
            rig: Rig::new(),
            chance,
            group: Group::new(Str::from_static("g")),
            actors,
            askers: BTreeMap::new(),
            last_record: None,
            owners: BTreeMap::new(),
        }
    }

    /// Something may happen to somebody.
    fn disturb(&mut self) {
        let who = self.chance.below(self.actors.len() as u64) as usize;
        match self.chance.below(40) {
            0 => self.actors[who].asleep = self.chance.below(30),
            1 => {
                // A crash: whatever it knew is gone, but for its name.
                let actor = &mut self.actors[who];
                (actor.id, actor.phase, actor.asked) = (Str::EMPTY, Phase::Outside, 0);
                actor.asleep = self.chance.below(30);
            }
            2 => self.leave(who),
            3 => {
                let actor = &mut self.actors[who];
                actor.topics += 1;
                if actor.phase == Phase::Owns {
                    actor.phase = Phase::Outside;
                }
            }
            4 => self.replace_coordinator(),
            _ => {}
        }
    }

    fn wake_all(&mut self) {
        self.actors.iter_mut().for_each(|actor| actor.asleep = 0);
    }

    /// Everybody that is awake does what it is to do, and a second passes.
    fn second(&mut self) {
        for who in 0..self.actors.len() {
            if self.actors[who].asleep > 0 {
                self.actors[who].asleep -= 1;
                continue;
            }
            match self.actors[who].phase {
                Phase::Outside => self.join(who),
                Phase::Joined => self.sync(who),
                Phase::Owns => self.beat(who),
                Phase::Waits => {}
            }
        }
        self.rig.pass(Duration::from_secs(1));
        while let Some(timer) = self.rig.due() {
            self.group.timer(&mut self.rig.ctx(), timer.kind);
            self.settle();
        }
    }

    fn ask(&mut self, who: usize) -> crate::boundary::ReplyTo {
        let to = self.rig.ask(self.actors[who].version.min(5));
        self.askers.insert(to.sequence, who);
        self.actors[who].asked = to.sequence;
        self.actors[who].phase = Phase::Waits;
        to
    }

    fn join(&mut self, who: usize) {
        let to = crate::boundary::ReplyTo { version: self.actors[who].version, ..self.ask(who) };
        let actor = &self.actors[who];
        let metadata = Bytes::from(vec![actor.topics]);
        let request = JoinGroupRequest {
            session_timeout_ms: SESSION_MS,
            rebalance_timeout_ms: REBALANCE_MS,
            member_id: actor.id.clone(),
            group_instance_id: actor.instance.clone(),
            protocol_type: Str::from("test"),
            protocols: vec![JoinGroupRequestProtocol { name: Str::from("p"), metadata }],
            ..JoinGroupRequest::default()
        };
        self.group.join(&mut self.rig.ctx(), to, &client("c"), request);
        self.settle();
    }

    fn sync(&mut self, who: usize) {
        let to = self.ask(who);
        let actor = &self.actors[who];
        // Partition by partition to one after another, from a member on that chance chooses.
        let first = self.chance.below(100) as usize;
        let share =
            |number: usize| (0..PARTITIONS).filter(move |p| (*p as usize + first) % actor.leads.len() == number);
        let assignments = actor.leads.iter().enumerate().map(|(number, id)| SyncGroupRequestAssignment {
            member_id: id.clone(),
            assignment: share(number).collect::<Vec<u8>>().into(),
        });
        let request = SyncGroupRequest {
            generation_id: actor.generation,
            member_id: actor.id.clone(),
            group_instance_id: actor.instance.clone(),
            protocol_type: Some(Str::from("test")),
            protocol_name: Some(Str::from("p")),
            assignments: assignments.collect(),
            ..SyncGroupRequest::default()
        };
        self.group.sync(&mut self.rig.ctx(), to, request);
        self.settle();
    }

    fn beat(&mut self, who: usize) {
        let to = self.ask(who);
        let actor = &self.actors[who];
        let request = HeartbeatRequest {
            generation_id: actor.generation,
            member_id: actor.id.clone(),
            group_instance_id: actor.instance.clone(),
            ..HeartbeatRequest::default()
        };
        self.group.heartbeat(&mut self.rig.ctx(), to, request);
        self.settle();
    }

    fn leave(&mut self, who: usize) {
        let to = crate::boundary::ReplyTo { version: 5, ..self.ask(who) };
        let actor = &mut self.actors[who];
        let member_id = std::mem::take(&mut actor.id);
        let members = vec![MemberIdentity { member_id, group_instance_id: actor.instance.clone(), reason: None }];
        actor.asleep = self.chance.below(10);
        self.group.leave(&mut self.rig.ctx(), to, LeaveGroupRequest { members, ..LeaveGroupRequest::default() });
        self.settle();
    }

    fn replace_coordinator(&mut self) {
        let resigned = self.group.resign(ErrorCode::NotCoordinator);
        self.rig.out.replies.extend(resigned);
        self.rig.timers = Timers::default();
        self.group = Group::new(Str::from_static("g"));
        if let Some(record) = &self.last_record {
            self.group.replay(record.value.as_ref(), BEGINNING);
        }
        self.group.begin(&mut self.rig.ctx());
        self.settle();
        assert!(self.askers.is_empty(), "who resigns leaves nobody waiting");
    }

    fn settle(&mut self) {
        self.group.invariants(&self.rig.timers);
        let Outcome { records, replies, .. } = std::mem::take(&mut self.rig.out);
        if let Some(record) = records.into_iter().last() {
            self.last_record = Some(record);
        }
        for (to, response) in replies {
            let who = self.askers.remove(&to.sequence).expect("a request is answered once");
            if self.actors[who].asked == to.sequence {
                self.hear(who, response);
            }
        }
    }

    fn hear(&mut self, who: usize, response: Response) {
        let actor = &mut self.actors[who];
        let (error_code, done) = match &response {
            Response::JoinGroup(response) => (response.error_code, Phase::Joined),
            Response::SyncGroup(response) => (response.error_code, Phase::Owns),
            Response::Heartbeat(response) => (response.error_code, Phase::Owns),
            Response::LeaveGroup(response) => (response.error_code, Phase::Outside),
            other => panic!("{other:?}"),
        };
        actor.phase = Phase::Outside;
        match ErrorCode::from_code(error_code).expect("one of Kafka's") {
            ErrorCode::None => actor.phase = done,
            ErrorCode::RebalanceInProgress | ErrorCode::NotCoordinator | ErrorCode::MemberIdRequired => {}
            // As clients do: somebody new, and a static member that was fenced by itself lives on in its new self.
            ErrorCode::UnknownMemberId | ErrorCode::IllegalGeneration | ErrorCode::FencedInstanceId => {
                actor.id = Str::EMPTY;
            }
            code => panic!("{}", code.name()),
        }
        match response {
            Response::JoinGroup(response) => self.joined(who, response),
            Response::SyncGroup(response) => {
                let actor = &mut self.actors[who];
                if response.error_code == 0 {
                    // One that was never assigned is not remembered, so its number may be that of another one later.
                    assert!(actor.generation >= actor.assigned, "generations rise");
                    actor.assigned = actor.generation;
                }
                let owner = actor.instance.as_ref().unwrap_or(&actor.id);
                for partition in response.assignment {
                    let first = self.owners.entry((actor.generation, partition)).or_insert_with(|| owner.clone());
                    assert_eq!(first, owner, "{partition} has two owners in generation {}", actor.generation);
                }
            }
            _ => {}
        }
    }

    fn joined(&mut self, who: usize, response: JoinGroupResponse) {
        let actor = &mut self.actors[who];
        if matches!(response.error_code, 0 | 79) {
            actor.id = response.member_id;
            actor.leads = response.members.into_iter().map(|member| member.member_id).collect();
            if response.skip_assignment {
                actor.leads.clear();
            }
        }
        if response.error_code == 0 {
            actor.generation = response.generation_id;
        }
    }

    /// Everybody is in one generation, and every partition has an owner there that knows of it.
    fn is_settled(&self) {
        assert_eq!(self.group.state(), State::Stable);
        assert_eq!(self.group.size(), self.actors.len(), "the dead are gone");
        assert!(self.askers.is_empty(), "nobody waits");
        for actor in &self.actors {
            assert_eq!((actor.phase, actor.generation), (Phase::Owns, self.group.generation()));
        }
        let owned =
            (0..PARTITIONS).filter(|partition| self.owners.contains_key(&(self.group.generation(), *partition)));
        assert_eq!(owned.count(), PARTITIONS as usize);
    }
}
