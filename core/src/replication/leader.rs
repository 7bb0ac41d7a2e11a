//! A partition that is led here: who is sent what, what is believed of whom, and how far the high watermark has come.
//!
//! What a peer says is input. It counts only from a replica of the partition, from the process that is registered, in
//! this leader epoch and in the session that is under way; anything else is as if it had not come (KAFKA-13837,
//! KAFKA-14078). What cannot be true ends the session.

use std::time::Duration;

use super::in_sync::InSync;
use super::progress::{Progress, State};
use super::{Agreement, Ends, Lane, Member, Peers, Settings, View, agree};
use crate::ids::{BrokerEpoch, LeaderEpoch, NodeId, Offset, Session, TopicPartition};
use crate::peer::{Acked, Answer, Append, Batches, Cut, Epochs, Greet, Proposal, Replica};
use crate::time::Instant;

/// What is sent in the lane [`Lane::Gated`] at a time: small beside a second of any rate that somebody would choose.
const GATED_BYTES: usize = 64 << 10;

/// What the node must know of a step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use = "whoever waits for the high watermark is woken by it"]
pub struct Facts {
    /// The high watermark, where it has advanced.
    pub high_watermark: Option<Offset>,
    /// The log start that clients see, where it is known now or has advanced.
    pub start: Option<Offset>,
    /// [`Leader::propose`] has something to say.
    pub proposes: bool,
}

/// How far a follower is behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Behind {
    /// How many offsets it lacks, as far as it has said.
    pub records: u64,
    /// For how long it has not had all that its leader had.
    pub time: Duration,
}

/// What a follower is to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing any more.
    Nothing,
    /// A greeting.
    Greet(Greet),
    /// Where its log is to end.
    Cut(Cut),
    /// The high watermark and the log start, without batches.
    News(Append),
    /// Batches from `from` on, at most `bytes_max` bytes of them, except that one is sent whatever its size. Those in
    /// memory go to [`Leader::send`] in this turn. Where they must be read from a segment, the lane of the tail ends
    /// with [`Leader::wait_for_catch_up`], and the lane of catching up with the read, then [`Leader::send_read`] or
    /// [`Leader::read_failed`].
    Batches {
        /// Where what was sent ends.
        from: Offset,
        /// How many bytes.
        bytes_max: usize,
        /// The session that the bytes are for.
        session: Session,
    },
}

/// A partition that this node leads, in one leader epoch.
#[derive(Debug)]
pub struct Leader {
    node: Replica,
    partition: TopicPartition,
    leader_epoch: LeaderEpoch,
    /// Where the log ended when this epoch began.
    epoch_start: Offset,
    log: Ends,
    high_watermark: Offset,
    /// The log start that clients see, once the whole set, while it is large enough, has told where theirs is.
    shown_start: Option<Offset>,
    in_sync: InSync,
    /// At most all replicas, those of brokers that are not registered included.
    min_in_sync: usize,
    followers: Vec<Progress>,
    /// A setting has it send only so many bytes a second to those that are not in sync.
    is_slowed: bool,
    sessions: Session,
    settings: Settings,
}

impl Leader {
    /// Leads from now on, behind whatever the log holds. `high_watermark` is what this node knew of it before.
    ///
    /// # Panics
    /// Where `node` is not in sync: nobody else is elected.
    #[expect(clippy::too_many_arguments, reason = "each is one fact, and all of them are needed from the start")]
    pub fn new(
        partition: TopicPartition,
        node: Replica,
        view: &View,
        min_in_sync: usize,
        log: Ends,
        high_watermark: Offset,
        settings: Settings,
        now: Instant,
        peers: &mut Peers,
    ) -> Leader {
        assert!(view.in_sync.contains(&node.node), "a leader is in sync");
        let high_watermark = high_watermark.max(log.start).min(log.end);
        let mut leader = Leader {
            node,
            partition,
            leader_epoch: view.leader_epoch,
            epoch_start: log.end,
            log,
            high_watermark,
            shown_start: None,
            in_sync: InSync::new(view.partition_epoch, &view.in_sync),
            min_in_sync,
            followers: Vec::new(),
            is_slowed: false,
            sessions: Session(0),
            settings,
        };
        leader.follow_up(&view.replicas, now, peers);
        leader.advance();
        leader
    }

    /// Leads no longer: gives back what its followers have of their peers' credits.
    pub fn resign(mut self, now: Instant, peers: &mut Peers) {
        for follower in &mut self.followers {
            follower.part(None, self.log.end, now, peers);
        }
    }

    /// Who it is, as it was registered when it began to lead.
    pub fn node(&self) -> &Replica {
        &self.node
    }

    /// The epoch that it leads in.
    pub fn leader_epoch(&self) -> LeaderEpoch {
        self.leader_epoch
    }

    /// Everything below is durable on the whole in-sync set.
    pub fn high_watermark(&self) -> Offset {
        self.high_watermark
    }

    /// The log start that clients see: no later leader shows an earlier one. None until the whole in-sync set, and a large
    /// enough one, has said in this epoch where its logs start: until then another may lead next that shows what is gone
    /// here.
    pub fn start(&self) -> Option<Offset> {
        self.shown_start
    }

    /// Whether the high watermark has reached the start of its epoch. Until then an older leader may have shown a later
    /// one, so whoever asks for the end is told OFFSET_NOT_AVAILABLE (KIP-207).
    pub fn has_reached_epoch(&self) -> bool {
        self.high_watermark >= self.epoch_start
    }

    /// The in-sync set as committed, of which `min.insync.replicas` are needed.
    pub fn in_sync(&self) -> &[NodeId] {
        self.in_sync.committed()
    }

    /// How many replicas must be in sync for acks=all, as far as this leader has heard.
    pub fn min_in_sync(&self) -> usize {
        self.min_in_sync
    }

    /// Whether too few replicas are in sync for acks=all.
    pub fn is_below_minimum(&self) -> bool {
        self.in_sync().len() < self.min_in_sync
    }

    /// Whether somebody follows this leader, so that more than its own disk is waited for.
    pub fn has_followers(&self) -> bool {
        !self.followers.is_empty()
    }

    /// Whether this broker follows.
    pub fn is_followed_by(&self, node: NodeId) -> bool {
        self.follower(node).is_some()
    }

    /// The follower that a consumer had better read from `offset` on, of those that `is_near` to it: one that lives, has
    /// that offset, and of these the one that has most (KIP-392).
    pub fn nearest(&self, offset: Offset, is_near: impl Fn(NodeId) -> bool) -> Option<NodeId> {
        let has_it = |follower: &&Progress| {
            let holds = follower.durable.is_some_and(|durable| durable >= offset) && follower.start <= offset;
            holds && follower.member.may_join && is_near(follower.member.replica.node)
        };
        let best = self.followers.iter().filter(has_it).max_by_key(|follower| follower.durable)?;
        Some(best.member.replica.node)
    }

    /// How far each follower is behind, for people.
    pub fn behind(&self, now: Instant) -> impl Iterator<Item = (NodeId, Behind)> {
        self.followers.iter().map(move |follower| (follower.member.replica.node, follower.behind(self.log, now)))
    }

    /// What each follower is known to have durably in its session, for people.
    pub fn progress(&self) -> impl Iterator<Item = (NodeId, Option<Offset>)> {
        self.followers.iter().map(|follower| (follower.member.replica.node, follower.durable))
    }

    // What happens to its own log.

    /// A batch was appended; the log ends at `end`.
    pub fn appended(&mut self, end: Offset, now: Instant, peers: &mut Peers) {
        assert!(end > self.log.end, "an append makes a log longer");
        let before = std::mem::replace(&mut self.log.end, end);
        for follower in &mut self.followers {
            follower.appended(before, end, &self.settings, now);
            follower.queue_batches(end, self.settings.partition_credit, self.partition, now, peers);
        }
    }

    /// The log is durable up to `durable`, and starts at `start`.
    pub fn confirmed(&mut self, durable: Offset, start: Offset, now: Instant, peers: &mut Peers) -> Facts {
        assert!(durable <= self.log.end && start <= durable, "what is durable is in the log");
        self.log.durable = self.log.durable.max(durable);
        self.log.start = self.log.start.max(start);
        self.settle(now, peers)
    }

    // What the metadata say.

    /// The partition has another state. An older one than is known changes nothing (KAFKA-13790), and so does one of
    /// another leader epoch, for which there is another `Leader`.
    pub fn on_view(&mut self, view: &View, now: Instant, peers: &mut Peers) -> Facts {
        if view.leader_epoch != self.leader_epoch || !self.in_sync.replace(view.partition_epoch, &view.in_sync) {
            return Facts::default();
        }
        self.follow_up(&view.replicas, now, peers);
        self.choose_lanes(now, peers);
        for follower in &mut self.followers {
            if !view.in_sync.contains(&follower.member.replica.node) {
                follower.forgive();
            }
        }
        // With fewer members the high watermark may have further to go (KAFKA-13091).
        self.settle(now, peers)
    }

    /// A broker has registered anew, or may or may not join in-sync sets any more.
    pub fn on_member(&mut self, member: &Member, now: Instant, peers: &mut Peers) -> Facts {
        let Some(at) = self.follower(member.replica.node) else { return Facts::default() };
        let known = &mut self.followers[at];
        if member.replica.broker_epoch < known.member.replica.broker_epoch {
            return Facts::default();
        }
        if member.replica == known.member.replica {
            known.member = member.clone();
        } else {
            known.restarted(member.clone());
            self.begin_session(at, now, peers);
        }
        self.settle(now, peers)
    }

    /// A broker that holds a replica is registered, and was not when the metadata told of the replicas.
    pub fn on_newcomer(&mut self, member: &Member, now: Instant, peers: &mut Peers) -> Facts {
        if self.node.node != member.replica.node && self.follower(member.replica.node).is_none() {
            self.followers.push(Progress::new(member.clone(), self.log.end, now));
            self.begin_session(self.followers.len() - 1, now, peers);
        }
        self.on_member(member, now, peers)
    }

    /// Which followers take, or are sent, only so many bytes a second while they are not in sync: all of them where
    /// `leads`, and those that `follows` names. Who is in sync is never slowed down, or what clients wait for would be.
    pub fn slow_down(&mut self, leads: bool, follows: impl Fn(NodeId) -> bool, now: Instant, peers: &mut Peers) {
        self.is_slowed = leads;
        for follower in &mut self.followers {
            follower.is_slowed = follows(follower.member.replica.node);
        }
        self.choose_lanes(now, peers);
    }

    /// Has batches for each follower go in the lane that is for it.
    fn choose_lanes(&mut self, now: Instant, peers: &mut Peers) {
        for follower in &mut self.followers {
            let is_in_sync = self.in_sync.committed().contains(&follower.member.replica.node);
            let lane = match (self.is_slowed, follower.is_slowed) {
                _ if is_in_sync => Lane::Tail,
                (true, _) => Lane::Gated,
                (false, true) => Lane::Slow,
                (false, false) => Lane::Tail,
            };
            if std::mem::replace(&mut follower.lane, lane) != lane {
                // It may wait in the lane before; what comes of that finds nothing to do.
                follower.queue_batches(self.log.end, self.settings.partition_credit, self.partition, now, peers);
            }
        }
    }

    /// Another number of replicas must be in sync.
    pub fn on_min_in_sync(&mut self, min_in_sync: usize, now: Instant, peers: &mut Peers) -> Facts {
        self.min_in_sync = min_in_sync;
        self.settle(now, peers)
    }

    /// Takes the replicas as they are now.
    fn follow_up(&mut self, replicas: &[Member], now: Instant, peers: &mut Peers) {
        let end = self.log.end;
        self.followers.retain_mut(|follower| {
            let stays = replicas.iter().any(|member| member.replica.node == follower.member.replica.node);
            if !stays {
                follower.part(None, end, now, peers);
            }
            stays
        });
        let node = self.node.node;
        for member in replicas.iter().filter(|member| member.replica.node != node) {
            match self.follower(member.replica.node) {
                Some(at) if self.followers[at].member.replica == member.replica => {
                    self.followers[at].member = member.clone();
                }
                Some(at) if self.followers[at].member.replica.broker_epoch < member.replica.broker_epoch => {
                    self.followers[at].restarted(member.clone());
                    self.begin_session(at, now, peers);
                }
                Some(_) => {}
                None => {
                    self.followers.push(Progress::new(member.clone(), end, now));
                    self.begin_session(self.followers.len() - 1, now, peers);
                }
            }
        }
    }

    fn follower(&self, node: NodeId) -> Option<usize> {
        self.followers.iter().position(|follower| follower.member.replica.node == node)
    }

    // Sessions.

    /// A connection with a peer is new, in either direction: what was under way on the one before may be lost.
    pub fn connected(&mut self, node: NodeId, now: Instant, peers: &mut Peers) {
        if let Some(at) = self.follower(node) {
            self.begin_session(at, now, peers);
        }
    }

    /// Nothing can be sent to a peer any more.
    pub fn disconnected(&mut self, node: NodeId, now: Instant, peers: &mut Peers) {
        if let Some(at) = self.follower(node) {
            self.followers[at].part(None, self.log.end, now, peers);
        }
    }

    fn begin_session(&mut self, at: usize, now: Instant, peers: &mut Peers) {
        let follower = &mut self.followers[at];
        follower.part(None, self.log.end, now, peers);
        if peers.is_connected(follower.member.replica.node) {
            self.sessions.0 += 1;
            follower.greet(self.sessions, self.partition, now, peers);
        }
    }

    /// Begins anew, a moment later where the session has come to nothing: two that cannot agree must not fill the line.
    fn begin_again(&mut self, at: usize, now: Instant, peers: &mut Peers) {
        match self.followers[at].has_got_on() {
            true => self.begin_session(at, now, peers),
            false => self.followers[at].part(Some(now + self.settings.backoff), self.log.end, now, peers),
        }
    }

    /// The follower that says something, if it is one and says it in its session.
    fn speaker(&self, from: NodeId, epoch: LeaderEpoch, broker: BrokerEpoch, session: Session) -> Option<usize> {
        let at = self.follower(from).filter(|_| epoch == self.leader_epoch)?;
        let follower = &self.followers[at];
        let is_it = follower.member.replica.broker_epoch == broker && follower.session == session;
        (is_it && !matches!(follower.state, State::Apart { .. })).then_some(at)
    }

    /// A follower tells of its epochs; `ours` are those of this log.
    pub fn on_epochs(
        &mut self,
        from: NodeId,
        told: &Epochs,
        ours: &[(LeaderEpoch, Offset)],
        now: Instant,
        peers: &mut Peers,
    ) {
        let Some(at) = self.speaker(from, told.leader_epoch, told.broker_epoch, told.session) else { return };
        let follower = &mut self.followers[at];
        let State::Greeting { below, is_said: true } = follower.state else { return };
        follower.state = match agree(ours, self.log, told, below) {
            Agreement::Cut(to) => State::Cutting { to, starts_anew: false, is_said: false },
            Agreement::StartAnew(to) => State::Cutting { to, starts_anew: true, is_said: false },
            Agreement::Older(below) => State::Greeting { below, is_said: false },
        };
        follower.queue(Lane::Control, self.partition, now, peers);
    }

    /// A follower's log ends where it was told to.
    pub fn on_cut_done(&mut self, from: NodeId, acked: &Acked, now: Instant, peers: &mut Peers) -> Facts {
        let Some(at) = self.speaker(from, acked.leader_epoch, acked.broker_epoch, acked.session) else {
            return Facts::default();
        };
        let State::Cutting { to, is_said: true, .. } = self.followers[at].state else { return Facts::default() };
        if acked.end != to {
            self.begin_again(at, now, peers);
            return Facts::default();
        }
        self.followers[at].agreed(to);
        self.acknowledge(at, acked, now, peers)
    }

    /// A follower tells how far it has come.
    pub fn on_acked(&mut self, from: NodeId, acked: &Acked, now: Instant, peers: &mut Peers) -> Facts {
        let Some(at) = self.speaker(from, acked.leader_epoch, acked.broker_epoch, acked.session) else {
            return Facts::default();
        };
        match self.followers[at].state {
            State::Streaming(_) => self.acknowledge(at, acked, now, peers),
            _ => Facts::default(),
        }
    }

    /// What was sent does not follow what a follower has, or it has nobody who greets it.
    pub fn on_mismatch(&mut self, from: NodeId, acked: &Acked, now: Instant, peers: &mut Peers) {
        let Some(at) = self.follower(from).filter(|_| acked.leader_epoch == self.leader_epoch) else { return };
        let follower = &self.followers[at];
        if follower.member.replica.broker_epoch != acked.broker_epoch {
            return;
        }
        match &follower.state {
            // It is greeted anyway.
            State::Greeting { is_said: false, .. } => {}
            _ if acked.session == Session(0) => self.begin_session(at, now, peers),
            State::Apart { .. } => {}
            _ if acked.session == follower.session => self.begin_again(at, now, peers),
            _ => {}
        }
    }

    fn acknowledge(&mut self, at: usize, acked: &Acked, now: Instant, peers: &mut Peers) -> Facts {
        let follower = &mut self.followers[at];
        let sent = follower.stream().map(|stream| stream.sent);
        let &Acked { durable_end, end, start, .. } = acked;
        // After an unclean election, or from a broken peer: nobody has what we have not sent.
        let is_sound = Offset(0) <= start && start <= durable_end && durable_end <= end && Some(end) <= sent;
        if !is_sound {
            self.begin_again(at, now, peers);
            return Facts::default();
        }
        follower.acknowledge(durable_end, start, self.log.end, &self.settings, now, peers);
        if !self.in_sync.counted().any(|node| node == follower.member.replica.node) {
            follower.forgive();
        }
        follower.queue_batches(self.log.end, self.settings.partition_credit, self.partition, now, peers);
        self.settle(now, peers)
    }

    // What to send.

    /// What a follower is to be sent, now that its turn has come in a lane ([`Peers::next`]). Where that leaves something
    /// to be sent, and credit for it, the follower is queued behind the others.
    pub fn next(&mut self, node: NodeId, lane: Lane, now: Instant, peers: &mut Peers) -> Next {
        let Some(at) = self.follower(node) else { return Next::Nothing };
        let (partition, leader_epoch) = (self.partition, self.leader_epoch);
        let news = self.news();
        let follower = &mut self.followers[at];
        follower.dequeued(lane);
        let session = follower.session;
        match (&mut follower.state, lane) {
            (State::Greeting { below, is_said }, Lane::Control) if !*is_said => {
                *is_said = true;
                Next::Greet(Greet { partition, leader_epoch, session, below: *below })
            }
            (State::Cutting { to, starts_anew, is_said }, Lane::Control) if !*is_said => {
                *is_said = true;
                Next::Cut(Cut { partition, leader_epoch, session, to: *to, starts_anew: *starts_anew })
            }
            (State::Streaming(stream), Lane::News) => {
                let previous_end = stream.sent;
                // Who has something to acknowledge is told with what comes after that: one that takes nothing in, since its
                // disk has no room, must not be sent more and more.
                if stream.unacked_bytes > 0 || follower.knows(news) {
                    return Next::Nothing;
                }
                follower.tell(news);
                Next::News(self.message(session, previous_end, Batches::default()))
            }
            (State::Streaming(stream), Lane::Tail | Lane::CatchUp | Lane::Slow | Lane::Gated) => {
                if !stream.has_more(self.log.end, self.settings.partition_credit) {
                    return Next::Nothing;
                }
                if stream.sent < self.log.start {
                    // What it needs next is gone. It starts anew behind that.
                    self.begin_session(at, now, peers);
                    return Next::Nothing;
                }
                let credit = self.settings.partition_credit - stream.unacked_bytes;
                let mut bytes_max = credit.min(self.settings.read_bytes_max);
                stream.reads_in = (lane != Lane::Tail).then_some(lane);
                if lane == Lane::Gated {
                    // In advance, or many reads would be under way before the first is paid for.
                    bytes_max = bytes_max.min(GATED_BYTES);
                    stream.spent = bytes_max;
                    peers.gate().spend(bytes_max, now);
                }
                Next::Batches { from: stream.sent, bytes_max, session }
            }
            _ => Next::Nothing,
        }
    }

    /// The batches that [`Leader::next`] asked for, which end at `up_to`; the part of a message that carries them.
    ///
    /// # Panics
    /// Where it did not ask for batches in the lane of the tail just now.
    pub fn send(&mut self, node: NodeId, batches: Batches, up_to: Offset, now: Instant, peers: &mut Peers) -> Append {
        let at = self.follower(node).expect("its turn has come");
        self.send_in(at, Lane::Tail, batches, up_to, now, peers)
    }

    /// The batches that [`Leader::next`] asked for in the lane of the tail are not in memory.
    pub fn wait_for_catch_up(&mut self, node: NodeId, now: Instant, peers: &mut Peers) {
        let at = self.follower(node).expect("its turn has come");
        self.followers[at].queue(Lane::CatchUp, self.partition, now, peers);
    }

    /// The batches that [`Leader::next`] asked for in the lane of catching up have been read, and end at `up_to`. The
    /// message that carries them, unless the session has ended meanwhile.
    pub fn send_read(
        &mut self,
        node: NodeId,
        session: Session,
        batches: Batches,
        up_to: Offset,
        now: Instant,
        peers: &mut Peers,
    ) -> Option<Append> {
        let (at, lane) = self.read_ended(node, session, peers)?;
        if lane == Lane::Gated {
            peers.gate().spend(batches.bytes(), now);
        }
        let stream = self.followers[at].stream()?;
        if stream.sent < self.log.start {
            self.begin_session(at, now, peers);
            return None;
        }
        (stream.sent < up_to).then(|| self.send_in(at, lane, batches, up_to, now, peers))
    }

    /// The batches that [`Leader::next`] asked for cannot be read. The session ends, since only a deadline brings the next
    /// attempt where nothing more is written; it is a moment away, as the disk may go on failing.
    pub fn read_failed(&mut self, node: NodeId, session: Session, now: Instant, peers: &mut Peers) {
        if let Some((at, _)) = self.read_ended(node, session, peers) {
            self.followers[at].part(Some(now + self.settings.backoff), self.log.end, now, peers);
        }
    }

    /// A read is done for: whose it was and in which lane, unless its session has ended. What was spent on it in advance
    /// is given back.
    fn read_ended(&mut self, node: NodeId, session: Session, peers: &mut Peers) -> Option<(usize, Lane)> {
        let at = self.follower(node).filter(|&at| self.followers[at].session == session)?;
        let stream = self.followers[at].stream()?;
        let lane = stream.reads_in.take()?;
        peers.gate().refund(std::mem::take(&mut stream.spent));
        Some((at, lane))
    }

    fn send_in(
        &mut self,
        at: usize,
        lane: Lane,
        batches: Batches,
        up_to: Offset,
        now: Instant,
        peers: &mut Peers,
    ) -> Append {
        assert!(up_to <= self.log.end, "what is sent is in the log");
        let news = self.news();
        let follower = &mut self.followers[at];
        follower.tell(news);
        let bytes = batches.bytes();
        let stream = follower.stream().expect("batches are sent in a stream");
        assert!(stream.sent < up_to, "batches end behind what was sent before");
        let previous_end = stream.sent;
        stream.send(up_to, bytes, lane);
        let (node, session) = (follower.member.replica.node, follower.session);
        peers.charge(node, lane, bytes);
        let follower = &mut self.followers[at];
        follower.queue_batches(self.log.end, self.settings.partition_credit, self.partition, now, peers);
        self.message(session, previous_end, batches)
    }

    fn news(&self) -> (Offset, Offset) {
        (self.high_watermark, self.log.start)
    }

    fn message(&self, session: Session, previous_end: Offset, batches: Batches) -> Append {
        let (high_watermark, start) = self.news();
        Append {
            partition: self.partition,
            leader_epoch: self.leader_epoch,
            session,
            previous_end,
            high_watermark,
            start,
            batches,
        }
    }

    // The high watermark, the start, and who is in sync.

    /// Follows whatever has changed.
    fn settle(&mut self, now: Instant, peers: &mut Peers) -> Facts {
        let before = (self.high_watermark, self.shown_start);
        self.advance();
        let news = self.news();
        let due = now + self.settings.news_within;
        for follower in &mut self.followers {
            if matches!(follower.state, State::Streaming(_)) && !follower.knows(news) {
                follower.queue(Lane::News, self.partition, due, peers);
            }
        }
        Facts {
            high_watermark: (self.high_watermark > before.0).then_some(self.high_watermark),
            start: self.shown_start.filter(|_| self.shown_start > before.1),
            proposes: self.has_to_propose(now),
        }
    }

    /// Moves high watermark and shown start to what all that count are known to have. Whose state is not known in this
    /// session holds both back.
    fn advance(&mut self) {
        let mut least = (self.log.durable, self.log.start);
        for node in self.in_sync.counted().filter(|node| *node != self.node.node) {
            let Some(follower) = self.follower(node).map(|at| &self.followers[at]) else { return };
            let Some(durable) = follower.durable else { return };
            least = (least.0.min(durable), least.1.min(follower.start));
        }
        // Below the minimum nothing is safe enough to be shown, or to be acknowledged: who has left the set since then may
        // lead next, with the end and the start that it had (KIP-966).
        if !self.is_below_minimum() {
            self.high_watermark = self.high_watermark.max(least.0);
            self.shown_start = self.shown_start.max(Some(least.1));
        }
    }

    /// Whether a follower outside the set has all that the set has promised: the high watermark, and the start of this
    /// epoch, below which an older leader may have promised more than this one knows of (KAFKA-7128).
    fn has_caught_up(&self, follower: &Progress, now: Instant) -> bool {
        let has_all = |durable: Offset| durable >= self.high_watermark && durable >= self.epoch_start;
        follower.durable.is_some_and(has_all)
            && follower.start >= self.shown_start.unwrap_or(self.log.start)
            && follower.member.may_join
            && !follower.broke_word
            && !follower.has_fallen_behind(&self.settings, now)
    }

    /// Whether a member stays.
    fn stays(&self, node: NodeId, now: Instant) -> bool {
        let Some(at) = self.follower(node) else { return node == self.node.node };
        let follower = &self.followers[at];
        follower.member.may_join && !follower.broke_word && !follower.has_fallen_behind(&self.settings, now)
    }

    fn has_to_propose(&self, now: Instant) -> bool {
        let committed = self.in_sync.committed();
        let joins = |follower: &Progress| {
            !committed.contains(&follower.member.replica.node) && self.has_caught_up(follower, now)
        };
        self.in_sync.may_propose(now)
            && (self.followers.iter().any(joins) || committed.iter().any(|node| !self.stays(*node, now)))
    }

    /// What the controller is to be asked for now, if anything: a new proposal, or one that has no answer.
    pub fn propose(&mut self, now: Instant) -> Option<Proposal> {
        if self.has_to_propose(now) {
            let committed = self.in_sync.committed();
            let followers = self.followers.iter().filter(|follower| {
                let node = follower.member.replica.node;
                if committed.contains(&node) { self.stays(node, now) } else { self.has_caught_up(follower, now) }
            });
            let followers = followers.map(|follower| follower.member.replica.clone());
            let members = std::iter::once(self.node.clone()).chain(followers).collect();
            self.in_sync.propose(members, now);
        }
        let (attempt, members) = self.in_sync.due(now, now + self.settings.proposal_timeout)?;
        Some(Proposal {
            partition: self.partition,
            leader_epoch: self.leader_epoch,
            partition_epoch: self.in_sync.partition_epoch(),
            attempt,
            members,
        })
    }

    /// Whether a proposal is under way.
    pub fn is_proposing(&self) -> bool {
        self.in_sync.is_proposing()
    }

    /// Another controller decides from now on.
    pub fn on_controller(&mut self, now: Instant) {
        self.in_sync.send_again(now);
    }

    /// The controller has answered. Only a state that the metadata log brings changes the set (KAFKA-14154).
    pub fn on_answer(&mut self, answer: &Answer, now: Instant, peers: &mut Peers) -> Facts {
        let again_at = now + self.settings.backoff;
        if answer.leader_epoch != self.leader_epoch || !self.in_sync.answered(answer, again_at) {
            return Facts::default();
        }
        self.settle(now, peers)
    }

    // Time.

    /// When [`Leader::on_deadline`] is to be called if nothing else happens first. It may come to nothing: who is
    /// behind has usually caught up by then.
    pub fn deadline(&self, now: Instant) -> Option<Instant> {
        let committed = self.in_sync.committed();
        let leaves = self
            .followers
            .iter()
            .filter(|follower| committed.contains(&follower.member.replica.node) && self.in_sync.may_propose(now));
        let leaves = leaves.filter_map(|follower| follower.falls_behind(&self.settings));
        leaves.chain(self.greets_at()).chain(self.in_sync.deadline(now)).min()
    }

    /// The same where nobody can be asked for another in-sync set: when a follower is to be greeted again.
    pub fn greets_at(&self) -> Option<Instant> {
        let greets = self.followers.iter().filter_map(|follower| match follower.state {
            State::Apart { until } => until,
            _ => None,
        });
        greets.min()
    }

    /// Time has passed.
    pub fn on_deadline(&mut self, now: Instant, peers: &mut Peers) -> Facts {
        for at in 0..self.followers.len() {
            if matches!(self.followers[at].state, State::Apart { until: Some(until) } if until <= now) {
                self.begin_session(at, now, peers);
            }
        }
        let facts = self.settle(now, peers);
        let is_due = self.in_sync.is_proposing() && self.in_sync.deadline(now).is_some_and(|moment| moment <= now);
        Facts { proposes: facts.proposes || is_due, ..facts }
    }

    /// Asserts what always holds.
    pub fn invariants(&self) {
        assert!(self.log.start <= self.log.durable && self.log.durable <= self.log.end, "{:?}", self.log);
        assert!(self.high_watermark <= self.log.end, "the high watermark is in the log");
        assert!(self.shown_start <= Some(self.log.start), "what is shown to be gone is gone");
        assert!(self.in_sync.committed().contains(&self.node.node), "a leader is in sync");
        for follower in &self.followers {
            if let State::Streaming(stream) = &follower.state {
                assert!(stream.sent <= self.log.end, "what was sent is in the log");
                assert!(follower.durable <= Some(stream.sent), "what is acknowledged was sent");
            }
        }
    }
}
