//! Whatever members do: a partition belongs to one of them at a time, epochs rise, and when they calm down everything is
//! assigned, evenly, in a few heartbeats.

use std::collections::BTreeSet;

use super::classic::{joining, subscription};
use super::*;
use crate::group::Topics;
use crate::ids::TopicId;
use crate::rng::Rng;
use crate::wire::join_group::JoinGroupRequest;

const TOPICS: [&str; 4] = ["t0", "t1", "t2", "t3"];
/// What members subscribe to: by name, or by expression where there is one.
const SUBSCRIPTIONS: [(&[&str], &str); 5] =
    [(&["t0", "t1"], ""), (&["t0", "t1", "t2", "t3"], ""), (&["t2"], ""), (&[], "t[13]"), (&["t0"], "t.*")];
const ROUND: Duration = Duration::from_secs(5);
/// After so many heartbeats of everybody the group is stable, whatever was before: members learn of an epoch, give up,
/// take over, each with lagging ones that give up three heartbeats late.
const CALM_ROUNDS: usize = 16;

/// A client, as the Java one behaves.
#[derive(Debug, Default)]
struct Client {
    id: String,
    subscription: usize,
    /// Its epoch as it knows it, 0 to join.
    epoch: i32,
    /// What it was told to own.
    told: BTreeSet<(TopicId, i32)>,
    /// What it has taken over and not yet given up.
    owned: BTreeSet<(TopicId, i32)>,
    /// Whether its last heartbeat was answered; if not the next one says everything.
    was_answered: bool,
    /// What it last said that it owns.
    said: Option<BTreeSet<(TopicId, i32)>>,
    /// For how many heartbeats it goes on with what it should give up.
    lags: u64,
    is_silent: bool,
    /// Whether it says a new subscription with its next heartbeat.
    resubscribes: bool,
    /// Whether it uses the classic protocol, and is to join again.
    is_classic: bool,
    joins: bool,
}

impl Client {
    fn request(&mut self) -> ConsumerGroupHeartbeatRequest {
        let joins = self.epoch == 0;
        if self.lags > 0 {
            self.lags -= 1;
        } else {
            self.owned = self.owned.intersection(&self.told).copied().collect();
        }
        let mut request = steady(&self.id, self.epoch);
        let (names, regex) = SUBSCRIPTIONS[self.subscription];
        if joins || !self.was_answered || self.resubscribes {
            request.subscribed_topic_names = Some(names.iter().map(|name| Str::from(*name)).collect());
            request.subscribed_topic_regex = Some(Str::from(regex));
        }
        if joins || !self.was_answered {
            request.rebalance_timeout_ms = 60_000;
        }
        if joins || !self.was_answered || self.said.as_ref() != Some(&self.owned) {
            let owned =
                self.owned.iter().map(|(topic, at)| TopicPartitions { topic_id: *topic, partitions: vec![*at] });
            request.topic_partitions = Some(owned.collect());
            self.said = Some(self.owned.clone());
        }
        request
    }

    fn answer(&mut self, response: &ConsumerGroupHeartbeatResponse) {
        self.was_answered = true;
        match ErrorCode::from_code(response.error_code) {
            Some(ErrorCode::None) => {
                assert!(response.member_epoch >= self.epoch, "{} goes back in epochs", self.id);
                self.resubscribes = false;
                self.epoch = response.member_epoch;
                if let Some(assignment) = &response.assignment {
                    let topics = assignment.topic_partitions.iter();
                    self.told =
                        topics.flat_map(|topic| topic.partitions.iter().map(|at| (topic.topic_id, *at))).collect();
                    self.owned.extend(&self.told);
                }
            }
            Some(ErrorCode::FencedMemberEpoch | ErrorCode::UnknownMemberId) => {
                self.begin_anew();
            }
            other => panic!("{} is refused with {other:?}: {:?}", self.id, response.error_message),
        }
    }

    /// It has lost everything.
    fn begin_anew(&mut self) {
        *self = Client {
            id: self.id.clone(),
            subscription: self.subscription,
            was_answered: true,
            is_classic: self.is_classic,
            joins: true,
            ..Client::default()
        };
    }

    /// JoinGroup, of a consumer that rebalances cooperatively.
    fn joining(&mut self, topics: &crate::group::testing::Names) -> JoinGroupRequest {
        let mut owned = BTreeMap::<&Str, Vec<i32>>::new();
        for (topic, at) in &self.owned {
            if let Some((name, _)) = topics.by_id(*topic) {
                owned.entry(name).or_default().push(*at);
            }
        }
        let owned: Vec<(&str, &[i32])> = owned.iter().map(|(name, at)| (name.as_str(), at.as_slice())).collect();
        let mut request = joining(&self.id, &[]);
        for protocol in &mut request.protocols {
            protocol.metadata = subscription(SUBSCRIPTIONS[self.subscription].0, &owned);
        }
        self.resubscribes = false;
        request
    }

    /// What SyncGroup brings: what it is not given any more it gives up, and joins again to say so.
    fn synced(&mut self, given: Vec<(String, Vec<i32>)>) {
        let topics = given.iter();
        self.told = topics.flat_map(|(name, of)| of.iter().map(|at| (topic_id(name), *at))).collect();
        self.joins = !self.owned.is_subset(&self.told);
        self.owned = self.told.clone();
    }
}

struct World {
    scene: Scene,
    clients: Vec<Client>,
    rng: Rng,
    joined: usize,
    epoch: i32,
}

impl World {
    fn one_in(&mut self, chance: u64) -> bool {
        self.rng.below(chance) == 0
    }

    fn any_client(&mut self) -> Option<usize> {
        let count = self.clients.len() as u64;
        (count > 0).then(|| self.rng.below(count) as usize)
    }

    /// Something happens.
    fn upset(&mut self, may_differ: bool) {
        match self.rng.below(10) {
            0..=2 if self.clients.len() < 8 => {
                self.joined += 1;
                let subscription = if may_differ { self.rng.below(SUBSCRIPTIONS.len() as u64) as usize } else { 1 };
                let id = format!("m{:03}", self.joined);
                let is_classic = may_differ && self.one_in(3);
                self.clients.push(Client { id, subscription, is_classic, joins: true, ..Client::default() });
            }
            3 => {
                if let Some(at) = self.any_client() {
                    let client = self.clients.remove(at);
                    if client.is_classic && client.epoch > 0 && !client.is_silent {
                        self.scene.classic_leave(&[(&client.id, None)]);
                    } else if client.epoch > 0 && !client.is_silent {
                        self.scene.beat(steady(&client.id, -1));
                    } else {
                        self.clients.push(client);
                    }
                }
            }
            4 => {
                if let Some(at) = self.any_client() {
                    self.clients[at].is_silent = true;
                }
            }
            5 if may_differ => {
                if let Some(at) = self.any_client() {
                    self.clients[at].subscription = self.rng.below(SUBSCRIPTIONS.len() as u64) as usize;
                    self.clients[at].resubscribes = true;
                }
            }
            6 => {
                let name = TOPICS[self.rng.below(4) as usize];
                let before = self.scene.rig.topics.by_name(name).map_or(0, |(_, count)| count);
                self.scene.rig.topic(name, before + 1 + self.rng.below(3) as u32);
                self.scene.topics_changed();
            }
            7 => self.scene.fail_over(),
            8 => {
                if let Some(at) = self.any_client() {
                    self.clients[at].lags = self.rng.below(4);
                }
            }
            _ => {}
        }
    }

    /// Everybody has a heartbeat, which may get lost on its way there or back.
    fn round(&mut self, may_lose: bool) {
        self.scene.pass(ROUND);
        for at in 0..self.clients.len() {
            if self.clients[at].is_silent {
                continue;
            }
            if self.clients[at].is_classic {
                self.classic_turn(at, may_lose);
                self.check();
                continue;
            }
            let (lost, unanswered) = (may_lose && self.one_in(8), may_lose && self.one_in(8));
            let repeated = may_lose && self.one_in(12);
            let request = self.clients[at].request();
            if lost {
                self.clients[at].was_answered = false;
            } else {
                let mut response = self.scene.beat(request.clone());
                if repeated {
                    response = self.scene.beat(request);
                }
                if unanswered { self.clients[at].was_answered = false } else { self.clients[at].answer(&response) }
            }
            self.check();
        }
        let group = &self.scene.group;
        // One that the coordinator has given up by now knows that its session has ended.
        self.clients.retain(|client| !client.is_silent || group.members.contains_key(client.id.as_str()));
    }

    /// A member of the classic protocol says that it is there, joins again if it is to, and fetches its assignment.
    fn classic_turn(&mut self, at: usize, may_lose: bool) {
        let (lost, unjoined, unsynced) =
            (may_lose && self.one_in(8), may_lose && self.one_in(8), may_lose && self.one_in(8));
        let client = &mut self.clients[at];
        client.joins |= client.resubscribes;
        if lost {
            return;
        }
        if !client.joins {
            match self.scene.classic_beat(&client.id, client.epoch) {
                ErrorCode::None => return,
                ErrorCode::RebalanceInProgress => client.joins = true,
                ErrorCode::IllegalGeneration | ErrorCode::UnknownMemberId => client.begin_anew(),
                other => panic!("{} is refused with {other:?}", client.id),
            }
        }
        let joined = self.scene.classic_join(client.joining(&self.scene.rig.topics));
        assert_eq!(joined.error_code, 0, "{} joins", client.id);
        if unjoined {
            return;
        }
        assert!(joined.generation_id >= client.epoch, "{} goes back in generations", client.id);
        client.epoch = joined.generation_id;
        let synced = self.scene.classic_sync(&client.id, client.epoch);
        if unsynced {
            return;
        }
        match synced {
            Ok(given) => client.synced(given),
            Err(ErrorCode::RebalanceInProgress) => client.joins = true,
            Err(other) => panic!("{} is refused with {other:?}", client.id),
        }
    }

    fn check(&mut self) {
        let group = &self.scene.group;
        assert!(group.epoch() >= self.epoch, "the group goes back in epochs");
        self.epoch = group.epoch();
        let mut owners = BTreeMap::new();
        for client in self.clients.iter().filter(|client| group.members.contains_key(client.id.as_str())) {
            for partition in &client.owned {
                let other = owners.insert(*partition, &client.id);
                assert_eq!(other, None, "{partition:?} is owned by {} too", client.id);
            }
        }
    }

    /// Nothing happens any more.
    fn calm_down(&mut self) {
        self.scene.pass(Duration::from_secs(60));
        self.scene.pass(Duration::ZERO);
        let group = &self.scene.group;
        self.clients.retain(|client| !client.is_silent || group.members.contains_key(client.id.as_str()));
        self.clients.retain(|client| !client.is_silent);
        for _ in 0..CALM_ROUNDS {
            self.round(false);
        }
        if self.clients.is_empty() {
            return;
        }
        assert_eq!(self.scene.group.state(), "Stable", "{:#?}", self.scene.group.members);
        let subscribed = self.scene.group.subscribed();
        let mut all = BTreeSet::new();
        for name in subscribed {
            if let Some((id, count)) = self.scene.rig.topics.by_name(name) {
                all.extend((0..count as i32).map(|at| (id, at)));
            }
        }
        let owned: BTreeSet<_> = self.clients.iter().flat_map(|client| client.owned.iter().copied()).collect();
        assert_eq!(owned, all, "everything that is subscribed to is owned");
        let written = self.scene.records_written();
        self.round(false);
        assert_eq!(self.scene.records_written(), written, "a stable group writes nothing");
    }
}

fn run(seed: u64, may_differ: bool) {
    let scene = Scene::new(&[("t0", 3), ("t1", 1)]);
    let rng = Rng::from_number(seed);
    let mut world = World { scene, clients: Vec::new(), rng, joined: 0, epoch: 0 };
    for _ in 0..2 {
        for _ in 0..25 {
            world.upset(may_differ);
            world.round(true);
        }
        world.calm_down();
        if !may_differ && !world.clients.is_empty() {
            let counts = || world.clients.iter().map(|client| client.owned.len());
            let (least, most) = (counts().min().unwrap_or(0), counts().max().unwrap_or(0));
            assert!(most - least <= 1, "seed {seed}: {least} to {most} partitions for a member");
        }
    }
}

#[test]
fn one_subscription_for_all() {
    for seed in 0..30 {
        run(seed, false);
    }
}

#[test]
fn different_subscriptions_and_protocols() {
    for seed in 100..130 {
        run(seed, true);
    }
}
