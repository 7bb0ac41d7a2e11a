//! The life of a broker in a cluster: it registers, tells that it lives, and is fenced when it does not.
//!
//! What a broker is, the metadata log says, to itself as to others: it is registered when it has applied a registration
//! of its own process. Every broker heartbeats to whoever leads the quorum, which also tells itself.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::super::{Node, Reason};
use super::peers::forgotten;
use super::proposals::{Asker, Then};
use crate::boundary::{Effect, Level, Neighbour, Outbox};
use crate::controller::records::{Listener, PartitionState, PeerAddress, Registration, Standing};
use crate::controller::{Candidate, PARTITIONS_PER_ENTRY_MAX, Refused, Registered as Outcome};
use crate::ids::{BrokerEpoch, LeaderEpoch, NodeId, TopicPartition};
use crate::journal::Class;
use crate::peer::{
    self, Address, AlterInSync, AlterInSyncAnswer, DAMAGED_MAX, Damaged, Heartbeat, HeartbeatAnswer, Message, Referral,
    Register,
};
use crate::raft::Member;
use crate::time::{Instant, Now};
use crate::wire::ErrorCode;

/// How long a tick of the quorum is.
pub(super) const TICK: Duration = Duration::from_millis(100);

/// How long a node waits for its registration before it asks again.
const REGISTER_AGAIN: Duration = Duration::from_secs(1);

/// Nodes that are met before the metadata tell of them, at most: far more than ever come at a time.
const INTRODUCED_MAX: usize = 1_000;

/// How often an operator is told whom a node waits for.
const TELL_AGAIN: Duration = Duration::from_secs(10);

/// What an operator is told of a node that has met all of its peers.
const NO_CLUSTER: &str = "this node is of no cluster yet, nor is any that it has met: start one of the first ones with \
                          --bootstrap and with all the others in --peers, or add this one to a cluster (add-node)";

/// How long a stop waits until others lead what this broker led.
const STOP_TIME_MAX: Duration = Duration::from_secs(10);

/// What one entry about partitions takes of the journal at most, in bytes.
const PARTITIONS_BYTES: u64 = 64 << 10;

/// What a broker remembers of its own life and, while it leads the quorum, of others'.
#[derive(Debug, Default)]
pub(super) struct Life {
    next_register: Instant,
    next_heartbeat: Instant,
    next_line: Instant,
    /// When somebody was last known to lead the quorum.
    led_at: Instant,
    /// When each broker was heard of, or this leadership began.
    heard: BTreeMap<NodeId, Instant>,
    led_since: Option<Instant>,
    /// Who has been connected with this process, and has not gone since.
    reached: BTreeSet<NodeId>,
    /// Who was, and whose process seems to have ended.
    gone: BTreeSet<NodeId>,
    /// When was last looked who is silent.
    looked: Option<Instant>,
    /// When the process was asked to stop.
    stopping_since: Option<Instant>,
    may_stop: bool,
    /// Damaged partitions up to here have been told of in this round; `None` where one begins.
    told_damage: Option<TopicPartition>,
    /// Whether this process has told of all of them once.
    has_told_damage: bool,
    /// The number of which this process was told that its broker is registered under it no more.
    forgotten: Option<BrokerEpoch>,
}

impl Life {
    /// A broker is connected.
    pub(super) fn reached(&mut self, node: NodeId) {
        self.reached.insert(node);
        self.gone.remove(&node);
    }

    /// A broker's process seems to have ended. One that was never met may only not have begun yet: when all nodes start
    /// after a power cut, nobody is fenced for being the last.
    pub(super) fn lost(&mut self, node: NodeId) {
        if self.reached.remove(&node) {
            self.gone.insert(node);
        }
    }
}

impl Node {
    /// The number of this process among all registrations, once it is registered.
    pub(in crate::node) fn broker_epoch(&self) -> Option<BrokerEpoch> {
        self.registration().map(|known| BrokerEpoch(known.broker_epoch))
    }

    /// Whether clients may rely on this broker: alone always; in a cluster while it is registered and not fenced.
    pub fn is_active(&self) -> bool {
        let is_active = |known: &Registration| known.standing == Standing::Active;
        self.metadata.cluster.is_none() || self.registration().is_some_and(is_active)
    }

    fn registration(&self) -> Option<&Registration> {
        let (node, process) = (self.metadata.quorum.me().node, self.metadata.process);
        self.controller.image().broker(node).filter(|known| known.process == process)
    }

    /// That under which this broker was registered last, by this process or one before it, as far as is known here.
    fn last_broker_epoch(&self) -> Option<BrokerEpoch> {
        let known = self.controller.image().broker(self.metadata.quorum.me().node);
        known.map(|known| BrokerEpoch(known.broker_epoch))
    }

    /// Time has passed: for the quorum, for this broker's life, and for those that it leads.
    pub(in crate::node) fn tick(&mut self, now: Now, out: &mut Outbox) {
        self.metadata.ticks_at = None;
        if self.metadata.cluster.is_none() {
            return;
        }
        if self.has_room_to_tick() {
            self.metadata.quorum.tick();
            self.hand_over(out);
        } else {
            self.checkpoint_soon();
        }
        self.live(now, out);
        self.watch_others(now, out);
        self.tend_snapshot();
        self.tend_asked();
        self.tell_neighbours(now, out);
        self.tell_news(now, out);
        self.survey_lags(now);
        self.metadata.is_due = true;
    }

    /// Has the next tick come, where there is anybody to wait for.
    pub(super) fn plan_tick(&mut self, now: Now) {
        let has_others = !self.metadata.is_alone() || self.registration().is_none();
        let waits = self.metadata.cluster.is_some() && (has_others || !self.metadata.waiting.is_empty());
        if waits && self.metadata.ticks_at.is_none() {
            let at = now.instant + TICK;
            self.metadata.ticks_at = Some(at);
            self.deadlines.insert((at, Reason::Tick));
        }
    }

    /// What this broker has to say about itself is said with the next tick.
    pub(super) fn live_soon(&mut self, now: Now) {
        self.metadata.life.next_register = now.instant;
        self.metadata.life.next_heartbeat = now.instant;
    }

    /// What this broker has to say about itself.
    fn live(&mut self, now: Now, out: &mut Outbox) {
        if self.metadata.cluster_id.is_empty() {
            return self.tell_whom_it_waits_for(now, out);
        }
        if self.quorum_leader().is_some() {
            self.metadata.life.led_at = now.instant;
        }
        let is_stopping = self.is_stopping();
        match self.broker_epoch() {
            // Who ends may have been taken out because of it, and is not to be found registered again.
            None if is_stopping => self.metadata.life.may_stop = true,
            None => self.ask_to_be_registered(now, out),
            // Who was taken out while it was cut off is told nothing any more, and would go by what it knew for ever. To
            // whoever still knows this process the question changes nothing.
            Some(_) if !is_stopping && now.instant >= self.metadata.life.led_at + self.session_timeout() => {
                self.ask_to_be_registered(now, out);
            }
            Some(broker_epoch) => self.heartbeat(now, broker_epoch, out),
        }
        let since = self.metadata.life.stopping_since;
        let is_over = since.is_some_and(|since| now.instant >= since + STOP_TIME_MAX);
        if since.is_some() && (is_over || self.metadata.life.may_stop) {
            self.metadata.life.stopping_since = None;
            self.hand_office_over(out);
            self.stop_now(now, out);
        }
    }

    /// Has another voter lead the quorum, if this node does.
    pub(in crate::node) fn hand_office_over(&mut self, out: &mut Outbox) {
        let quorum = &mut self.metadata.quorum;
        let me = quorum.me().node;
        let voters: Vec<NodeId> = quorum.membership().voters().iter().map(|voter| voter.node).collect();
        let is_there = |node: &NodeId| *node != me && self.metadata.connected.contains(node);
        if let Some(to) = voters.into_iter().find(is_there) {
            // Who does not lead has nothing to hand over.
            let _ = quorum.transfer_leadership(to);
            self.hand_over(out);
        }
    }

    fn tell_whom_it_waits_for(&mut self, now: Now, out: &mut Outbox) {
        if now.instant < self.metadata.life.next_line {
            return;
        }
        let is_first = self.metadata.life.next_line == Instant::default();
        self.metadata.life.next_line = now.instant + TELL_AGAIN;
        let missing: Vec<String> = self.missing_founders().iter().map(ToString::to_string).collect();
        if missing.is_empty() {
            // Who has just been met may be about to found one.
            if !is_first {
                out.log(Level::Info, NO_CLUSTER);
            }
            return;
        }
        let missing = missing.join(", ");
        out.log(Level::Info, format!("waiting for node {missing} to be part of a cluster"));
        if let Some((node, id)) = self.founded_without_all() {
            let why = "with --bootstrap all nodes name the same ones: correct --peers, or leave --bootstrap out here";
            out.log(
                Level::Warn,
                format!("node {node} is of cluster {id}, which was founded without node {missing}; {why}"),
            );
        }
    }

    fn ask_to_be_registered(&mut self, now: Now, out: &mut Outbox) {
        if now.instant < self.metadata.life.next_register {
            return;
        }
        self.metadata.life.next_register = now.instant + REGISTER_AGAIN;
        let Some(cluster) = &self.metadata.cluster else { return };
        let me = self.metadata.quorum.me();
        let listeners = self.metadata.advertised.iter();
        let listeners =
            listeners.map(|(name, host, port)| Address { name: name.clone(), host: host.clone(), port: *port });
        let (peer_host, peer_port) = cluster.raft_address.clone();
        let broker_epoch = self.last_broker_epoch().filter(|epoch| self.metadata.life.forgotten != Some(*epoch));
        let register = Register {
            node_id: me.node,
            directory_id: me.directory,
            process: self.metadata.process,
            broker_epoch: broker_epoch.unwrap_or(BrokerEpoch(-1)),
            listeners: listeners.collect(),
            rack: self.broker_config().broker_rack.as_deref().map(Into::into),
            peer_host,
            peer_port,
        };
        match self.quorum_leader() {
            Some((leader, _)) => self.say(leader, Message::Register(register), out),
            // Who is no member yet hears of no leader: the one that leads will know.
            None => {
                let connected: Vec<NodeId> = self.metadata.connected.iter().copied().collect();
                connected.into_iter().for_each(|node| self.say(node, Message::Register(register.clone()), out));
            }
        }
    }

    fn heartbeat(&mut self, now: Now, broker_epoch: BrokerEpoch, out: &mut Outbox) {
        let Some((leader, _)) = self.quorum_leader() else { return };
        if now.instant < self.metadata.life.next_heartbeat {
            return;
        }
        let is_fenced = self.registration().is_some_and(|known| known.standing == Standing::Fenced);
        let damaged = self.damage_to_tell();
        let has_more = self.metadata.life.told_damage.is_some();
        let interval = if is_fenced || has_more { TICK } else { self.heartbeat_interval() };
        self.metadata.life.next_heartbeat = now.instant + interval;
        let wants_stop = self.is_stopping();
        let applied = self.controller.image().index();
        // Nobody is to elect it for a partition of which it could have told that it cannot lead.
        let wants_fence = is_fenced && !self.metadata.life.has_told_damage;
        let heartbeat = Heartbeat { broker_epoch, applied, wants_fence, wants_stop, damaged };
        self.say(leader, Message::Heartbeat(heartbeat), out);
    }

    fn session_timeout(&self) -> Duration {
        Duration::from_millis(self.broker_config().broker_session_timeout_ms)
    }

    /// The next damaged partitions whose other replicas may rely on this one. They are told of again and again: what is said
    /// may be lost, and who could lead instead may come back.
    fn damage_to_tell(&mut self) -> Vec<Damaged> {
        use std::ops::Bound::{Excluded, Unbounded};
        let from = self.metadata.life.told_damage.map_or(Unbounded, Excluded);
        let next: Vec<TopicPartition> = self.damaged.range((from, Unbounded)).take(DAMAGED_MAX).copied().collect();
        let is_round = next.len() < DAMAGED_MAX;
        self.metadata.life.has_told_damage |= is_round;
        self.metadata.life.told_damage = next.last().copied().filter(|_| !is_round);
        let has_others = |state: &PartitionState| state.replicas.len() > 1;
        let told = next.into_iter().filter(|id| self.controller.image().partition(*id).is_some_and(has_others));
        let told: Vec<TopicPartition> = told.filter(|id| self.is_relied_on(*id)).collect();
        let damaged = told.into_iter().map(|partition| {
            let slot = self.by_id[&partition];
            let leader_epoch = self.host(slot).partition.relied_on_in().unwrap_or(LeaderEpoch(-1));
            Damaged { partition, leader_epoch }
        });
        damaged.collect()
    }

    /// Damage was found: the next tick tells whoever decides.
    pub(in crate::node) fn tell_damage_soon(&mut self) {
        self.metadata.life.next_heartbeat = Instant::default();
    }

    fn heartbeat_interval(&self) -> Duration {
        Duration::from_millis(self.broker_config().broker_heartbeat_interval_ms)
    }

    /// Whether the process has been asked to stop, and waits for that or for its last checkpoint.
    fn is_stopping(&self) -> bool {
        self.stopping || self.metadata.life.stopping_since.is_some()
    }

    /// The process is asked to stop. Whether that waits until others lead what it leads.
    pub(in crate::node) fn stops_later(&mut self, now: Now) -> bool {
        let has_others = self.metadata.cluster.is_some() && !self.metadata.is_alone();
        if !has_others || self.broker_epoch().is_none() || self.metadata.life.stopping_since.is_some() {
            return false;
        }
        self.metadata.life.stopping_since = Some(now.instant);
        self.metadata.life.next_heartbeat = now.instant;
        true
    }

    /// The node leads the quorum no more.
    pub(super) fn watch_nobody(&mut self) {
        self.metadata.life.heard.clear();
        (self.metadata.life.led_since, self.metadata.life.looked) = (None, None);
    }

    /// What is to be done for others by who leads: fences who is silent, and has partitions settled for it.
    fn watch_others(&mut self, now: Now, out: &mut Outbox) {
        if !self.may_propose_partitions() {
            if self.may_propose() {
                self.make_room();
            }
            return;
        }
        let leading = self.metadata.leading.as_ref().expect("who proposes decides");
        let naming = leading.name_cluster();
        if !naming.records.is_empty() {
            let _ = self.propose(&naming.records, out);
            return;
        }
        let patience = self.session_timeout();
        // Who did not look has not listened either: what was said meanwhile is heard after this tick.
        let a_while = (patience / 2).max(2 * TICK);
        let has_slept = self.metadata.life.looked.is_some_and(|looked| now.instant >= looked + a_while);
        self.metadata.life.looked = Some(now.instant);
        if has_slept {
            self.metadata.life.led_since = None;
        }
        let since = *self.metadata.life.led_since.get_or_insert(now.instant);
        if let Some((node, epoch, why)) = self.missed(now, since, patience) {
            out.log(Level::Info, format!("{why}: it is fenced"));
            let leading = self.metadata.leading.as_ref().expect("it was just there");
            if let Ok(decision) = leading.fence(node, epoch) {
                let _ = self.propose(&decision.records, out);
            }
        }
        self.settle_partitions(out);
        self.sweep_partitions(now, out);
        self.dismiss_learners(out);
    }

    /// A broker that serves, as far as the log says, and is not there: its broker epoch, and how that shows. Nobody was
    /// listened to before `since`.
    fn missed(&self, now: Now, since: Instant, patience: Duration) -> Option<(NodeId, i64, String)> {
        let life = &self.metadata.life;
        let why = |node: NodeId| {
            if life.gone.contains(&node) {
                return Some(format!("the process of node {node} has ended"));
            }
            let heard = life.heard.get(&node).map_or(since, |heard| (*heard).max(since));
            (now.instant >= heard + patience).then(|| format!("nothing was heard of node {node} for {patience:?}"))
        };
        let mut serving = self.metadata.leading.as_ref()?.image().brokers();
        serving.find_map(|broker| {
            let serves = broker.standing != Standing::Fenced;
            let why = if serves { why(broker.node_id) } else { None };
            why.map(|why| (broker.node_id, broker.broker_epoch, why))
        })
    }

    /// Proposes the next changes of partitions that the standing of brokers calls for.
    pub(super) fn settle_partitions(&mut self, out: &mut Outbox) {
        if !self.may_propose_partitions() {
            return;
        }
        let decision = self.metadata.leading.as_ref().and_then(|leading| leading.due());
        // Where it is not taken, the next tick finds the same.
        self.metadata.settling = decision.is_some_and(|decision| self.propose(&decision.records, out).is_ok());
        self.metadata.is_due = true;
    }

    /// Proposes more of them, an entry a step: thousands of partitions may wait for a leader. Whether there is more to do at
    /// once.
    pub(super) fn settle_on(&mut self, out: &mut Outbox) -> bool {
        if !self.metadata.settling || !self.may_propose_partitions() {
            return false;
        }
        self.settle_partitions(out);
        self.metadata.settling
    }

    pub(super) fn may_propose_partitions(&self) -> bool {
        self.may_propose() && self.journal.has_room(PARTITIONS_BYTES, Class::Critical)
    }

    /// A process asks to be registered.
    pub(super) fn register_peer(&mut self, now: Now, from: NodeId, register: Register, out: &mut Outbox) {
        if register.node_id != from {
            return;
        }
        if self.metadata.leading.is_none() {
            return self.refer(from, &register, out);
        }
        if !self.may_propose_partitions() {
            return;
        }
        let leading = self.metadata.leading.as_ref().expect("who proposes decides");
        if let Err(refused) = leading.check_not_removed(from, register.broker_epoch) {
            // It may be met by nobody any more, and is told as soon as there is a connection to it.
            self.introduce(from, &register);
            return self.tell_registered(from, &register, Err(refused), out);
        }
        let me = Member { node: from, directory: register.directory_id };
        if let Err(why) = self.take_in_member(me, out) {
            let refused = Refused { error: ErrorCode::InvalidRegistration, message: why };
            return self.tell_registered(from, &register, Err(refused), out);
        }
        let leading = self.metadata.leading.as_ref().expect("who proposes decides");
        let candidate = Candidate {
            node_id: from,
            directory_id: register.directory_id,
            process: register.process,
            listeners: register
                .listeners
                .iter()
                .map(|listener| {
                    let Address { name, host, port } = listener.clone();
                    Listener { name, host, port }
                })
                .collect(),
            peer_address: Some(PeerAddress { host: register.peer_host.clone(), port: register.peer_port }),
            rack: register.rack.clone(),
        };
        let decision = match leading.register_broker(&candidate) {
            Ok(decision) => decision,
            Err(refused) => return self.tell_registered(from, &register, Err(refused), out),
        };
        if self.propose(&decision.records, out).is_err() {
            return;
        }
        self.metadata.life.heard.insert(from, now.instant);
        self.metadata.introduced.insert(from, (register.peer_host.clone(), register.peer_port));
        let then = match decision.response {
            Outcome::As(broker_epoch) => Then::Registered(Box::new(register), BrokerEpoch(broker_epoch)),
            Outcome::NotYet => Then::Register(Box::new(register)),
        };
        self.when_applied(now, Asker::Node { node: from, id: 0, version: 0 }, then, out);
    }

    /// Another node decides. Who is no member hears nothing of that by itself, and may have been told of none of the
    /// others: it is told who does, once there is a connection to it, with a later one of its questions.
    fn refer(&mut self, to: NodeId, register: &Register, out: &mut Outbox) {
        let is_member = self.metadata.quorum.membership().members().iter().any(|known| known.node == to);
        if is_member {
            return;
        }
        let Some((leader, _)) = self.quorum_leader() else { return };
        let known = self.metadata.neighbours.as_ref().and_then(|known| known.peers.get(&leader));
        let Some(Neighbour { host, port, .. }) = known else { return };
        let referral = Referral { node_id: leader, peer_host: host.clone(), peer_port: *port };
        self.introduce(to, register);
        self.say(to, Message::Referral(referral), out);
    }

    /// Has a broker be met of which the metadata tell nothing yet, so that it can be answered.
    fn introduce(&mut self, node: NodeId, register: &Register) {
        let introduced = &mut self.metadata.introduced;
        if introduced.len() < INTRODUCED_MAX || introduced.contains_key(&node) {
            introduced.insert(node, (register.peer_host.clone(), register.peer_port));
        }
    }

    /// Tells another broker where this one is to be answered, if it has a vote: who was away when that was decided may be
    /// needed to elect it, and has no address of it.
    pub(super) fn introduce_itself(&mut self, to: NodeId, out: &mut Outbox) {
        let me = self.metadata.quorum.me();
        let Some(cluster) = self.metadata.cluster.as_ref().filter(|_| self.metadata.quorum.membership().is_voter(me))
        else {
            return;
        };
        let (peer_host, peer_port) = cluster.raft_address.clone();
        self.say(to, Message::Referral(Referral { node_id: me.node, peer_host, peer_port }), out);
    }

    /// A broker says where it is reached, which is forgotten once the log says it; or, to one that is nobody yet, who else
    /// is to be asked for the registration: that one is asked like all others as soon as there is a connection to it.
    pub(super) fn referred(&mut self, from: NodeId, referral: Referral) {
        let is_nobody = self.metadata.quorum.membership().members().is_empty();
        let is_own = referral.node_id == from;
        let introduced = &mut self.metadata.introduced;
        let has_place = introduced.len() < INTRODUCED_MAX || introduced.contains_key(&referral.node_id);
        if (is_nobody || is_own) && has_place {
            introduced.insert(referral.node_id, (referral.peer_host, referral.peer_port));
        }
    }

    /// Has a new member follow the log.
    fn take_in_member(&mut self, member: Member, out: &mut Outbox) -> Result<(), String> {
        let membership = self.metadata.quorum.membership();
        if membership.contains(member) {
            return Ok(());
        }
        if membership.members().iter().any(|known| known.node == member.node) {
            return Err(forgotten(member.node, "another folder is a member of the quorum"));
        }
        let (voters, mut learners) = (membership.voters().clone(), membership.learners().clone());
        learners.insert(member);
        // Where another change is under way, the next question finds that over.
        if self.propose_members((voters, learners), out).is_ok() {
            out.log(Level::Info, format!("node {} follows the metadata log from now on", member.node));
        }
        Ok(())
    }

    pub(super) fn tell_registered(
        &mut self,
        to: NodeId,
        register: &Register,
        done: Result<BrokerEpoch, Refused>,
        out: &mut Outbox,
    ) {
        let (error, message, broker_epoch) = match done {
            Ok(broker_epoch) => (ErrorCode::None, None, broker_epoch),
            Err(refused) => (refused.error, Some(refused.message.into()), BrokerEpoch(-1)),
        };
        let index = self.controller.image().index();
        let process = register.process;
        let registered = peer::Registered { process, error_code: error.code(), message, broker_epoch, index };
        self.say(to, Message::Registered(registered), out);
    }

    /// What became of this process's registration. That it is done, the log says as well.
    pub(super) fn registration_answered(&mut self, now: Now, registered: &peer::Registered, out: &mut Outbox) {
        if registered.process != self.metadata.process {
            return;
        }
        if registered.error_code == ErrorCode::BrokerIdNotRegistered.code() {
            // It was taken out while it could not be told, and runs on: it is a new broker now.
            self.metadata.life.forgotten = self.last_broker_epoch();
            self.metadata.life.next_register = now.instant;
        } else if registered.error_code != ErrorCode::None.code() {
            let why = registered.message.as_ref().map_or("it is refused", |message| message.as_str());
            out.push(Effect::Fatal(format!("this broker cannot be part of the cluster: {why}")));
        }
    }

    /// A broker lives.
    pub(super) fn heartbeat_of(&mut self, now: Now, from: NodeId, heartbeat: &Heartbeat, out: &mut Outbox) {
        let Some(leading) = &self.metadata.leading else { return };
        let BrokerEpoch(epoch) = heartbeat.broker_epoch;
        let Some(known) = leading.image().broker(from).filter(|known| known.broker_epoch == epoch) else {
            let answer = HeartbeatAnswer {
                broker_epoch: heartbeat.broker_epoch,
                error_code: ErrorCode::StaleBrokerEpoch.code(),
                is_fenced: true,
                may_stop: false,
            };
            return self.say(from, Message::HeartbeatAnswer(answer), out);
        };
        let standing = known.standing;
        self.metadata.life.heard.insert(from, now.instant);
        // First of all: it must not be elected for these when it is unfenced.
        self.do_without(from, &heartbeat.damaged, out);
        let Some(leading) = &self.metadata.leading else { return };
        let decision = match standing {
            Standing::Active | Standing::Fenced if heartbeat.wants_stop => leading.begin_shutdown(from, epoch),
            Standing::Active if heartbeat.wants_fence => leading.fence(from, epoch),
            // That it knows its broker epoch says that it has applied its registration.
            Standing::Fenced if !heartbeat.wants_fence => leading.unfence(from, epoch),
            _ => Ok(crate::controller::Decision { records: Vec::new(), response: () }),
        };
        if let Ok(decision) = decision
            && !decision.records.is_empty()
            && self.may_propose_partitions()
        {
            let _ = self.propose(&decision.records, out);
            self.settle_partitions(out);
        }
        let answer = HeartbeatAnswer {
            broker_epoch: heartbeat.broker_epoch,
            error_code: ErrorCode::None.code(),
            is_fenced: self.controller.image().broker(from).is_none_or(|known| known.standing == Standing::Fenced),
            may_stop: self.controller.may_stop(from),
        };
        self.say(from, Message::HeartbeatAnswer(answer), out);
    }

    /// A broker's replicas of these partitions are damaged.
    fn do_without(&mut self, node: NodeId, damaged: &[Damaged], out: &mut Outbox) {
        let mut count = 0;
        for part in damaged.chunks(PARTITIONS_PER_ENTRY_MAX) {
            let leading = self.metadata.leading.as_ref().filter(|_| self.may_propose_partitions());
            let Some(decision) = leading.map(|leading| leading.damaged(node, part)) else { break };
            // Where it is not taken, the next heartbeat tells the same.
            if self.propose(&decision.records, out).is_err() {
                break;
            }
            count += decision.records.len();
        }
        if count > 0 {
            out.log(
                Level::Info,
                format!("node {node} tells of damaged replicas, others do without them: count={count}"),
            );
        }
    }

    /// What this broker may do.
    pub(super) fn heartbeat_answered(&mut self, answer: &HeartbeatAnswer, out: &mut Outbox) {
        if Some(answer.broker_epoch) != self.broker_epoch() {
            return;
        }
        if answer.error_code == ErrorCode::StaleBrokerEpoch.code() {
            out.log(Level::Warn, "the controller knows another process of this broker");
        }
        self.metadata.life.may_stop = answer.may_stop;
    }

    /// A leader proposes in-sync sets.
    pub(super) fn alter_in_sync(&mut self, now: Now, from: NodeId, alter: AlterInSync, out: &mut Outbox) {
        let AlterInSync { term, broker_epoch, partitions } = alter;
        let is_for_me = term == self.metadata.quorum.term();
        if !is_for_me || self.metadata.leading.is_none() {
            let answer = AlterInSyncAnswer { term, partitions: Vec::new() };
            return self.say(from, Message::AlterInSyncAnswer(answer), out);
        }
        for part in partitions.chunks(PARTITIONS_PER_ENTRY_MAX) {
            if !self.may_propose_partitions() {
                // As if it had been lost: it is proposed again.
                return;
            }
            let leading = self.metadata.leading.as_ref().expect("who proposes decides");
            let decision = leading.alter_in_sync(from, broker_epoch, part);
            if self.propose(&decision.records, out).is_err() {
                return;
            }
            let then = Then::InSync(term, decision.response);
            self.when_applied(now, Asker::Node { node: from, id: 0, version: 0 }, then, out);
        }
    }
}
