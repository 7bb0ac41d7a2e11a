//! A partition that is led here: what its followers say, and what they are sent.

use super::{Partition, Played, Role, Stage};
use crate::ids::{NodeId, Offset, Session};
use crate::peer::{Acked, Answer, Append, Batches, Epochs, Proposal};
use crate::replication::{Facts, Lane, Leader, Member, Next, Peers, View};
use crate::time::Instant;

impl Partition {
    pub(super) fn lead(&mut self, view: &View, min_in_sync: usize, stage: &mut Stage<'_>) -> Played {
        let Stage { me, settings, now, peers } = stage;
        if let Role::Leading(leader) = &mut self.role
            && leader.leader_epoch() == view.leader_epoch
        {
            // With fewer replicas fewer can be asked for.
            let asked = leader.on_min_in_sync(min_in_sync, *now, peers);
            let facts = leader.on_view(view, *now, peers);
            return Played { proposes: asked.proposes || facts.proposes, ..Played::default() };
        }
        let (known, _) = self.known();
        let ceases_to_lead = self.leave_role(*now, peers);
        let (me, settings) = ((*me).clone(), **settings);
        let leader = Leader::new(self.id, me, view, min_in_sync, self.ends(), known, settings, *now, peers);
        self.role = Role::Leading(Box::new(leader));
        Played { begins_to_lead: true, ceases_to_lead, ..Played::default() }
    }

    /// Its leader's view of it, where it is led here.
    pub fn leader(&self) -> Option<&Leader> {
        match &self.role {
            Role::Leading(leader) => Some(leader),
            Role::Idle | Role::Following(_) => None,
        }
    }

    fn leader_mut(&mut self) -> Option<&mut Leader> {
        match &mut self.role {
            Role::Leading(leader) => Some(leader),
            Role::Idle | Role::Following(_) => None,
        }
    }

    /// Whether too few replicas are in sync for what is written to be safe.
    pub fn is_below_minimum(&self) -> bool {
        self.leader().is_some_and(Leader::is_below_minimum)
    }

    /// Whether somebody follows, so that what is written waits for more than this broker's disk.
    pub fn has_followers(&self) -> bool {
        self.leader().is_some_and(Leader::has_followers)
    }

    /// Whether the end that consumers may ask for is known: the high watermark has reached the start of the leader's epoch.
    pub fn has_reached_epoch(&self) -> bool {
        self.leader().is_none_or(Leader::has_reached_epoch)
    }

    /// A batch was appended, which ends at `end`: its followers are to be sent it.
    pub fn appended(&mut self, end: Offset, now: Instant, peers: &mut Peers) {
        self.leader_mut().expect("who leads appends").appended(end, now, peers);
    }

    /// `min.insync.replicas` may have another value.
    pub fn need(&mut self, min_in_sync: usize, now: Instant, peers: &mut Peers) -> Facts {
        self.tell(|leader| leader.on_min_in_sync(min_in_sync, now, peers))
    }

    /// Which followers take, or are sent, only so many bytes a second while they are not in sync.
    pub fn slow_down(&mut self, leads: bool, follows: impl Fn(NodeId) -> bool, now: Instant, peers: &mut Peers) {
        if let Some(leader) = self.leader_mut() {
            leader.slow_down(leads, follows, now, peers);
        }
    }

    /// A connection with a peer is new, in either direction.
    pub fn connected(&mut self, node: NodeId, now: Instant, peers: &mut Peers) {
        if let Some(leader) = self.leader_mut() {
            leader.connected(node, now, peers);
        }
    }

    /// Nothing can be sent to a peer any more.
    pub fn disconnected(&mut self, node: NodeId, now: Instant, peers: &mut Peers) {
        if let Some(leader) = self.leader_mut() {
            leader.disconnected(node, now, peers);
        }
    }

    /// A broker has registered anew, or may or may not join in-sync sets any more.
    pub fn on_member(&mut self, member: &Member, now: Instant, peers: &mut Peers) -> Facts {
        self.tell(|leader| leader.on_member(member, now, peers))
    }

    /// A broker that holds a replica is registered, and was not when the metadata told of the replicas.
    pub fn on_newcomer(&mut self, member: &Member, now: Instant, peers: &mut Peers) -> Facts {
        self.tell(|leader| leader.on_newcomer(member, now, peers))
    }

    /// A follower tells of its epochs.
    pub fn on_epochs(&mut self, from: NodeId, told: &Epochs, now: Instant, peers: &mut Peers) {
        if let Role::Leading(leader) = &mut self.role {
            leader.on_epochs(from, told, self.log.epochs().entries(), now, peers);
        }
    }

    /// A follower's log ends where it was told to.
    pub fn on_cut_done(&mut self, from: NodeId, acked: &Acked, now: Instant, peers: &mut Peers) -> Facts {
        self.tell(|leader| leader.on_cut_done(from, acked, now, peers))
    }

    /// A follower tells how far it has come.
    pub fn on_acked(&mut self, from: NodeId, acked: &Acked, now: Instant, peers: &mut Peers) -> Facts {
        self.tell(|leader| leader.on_acked(from, acked, now, peers))
    }

    /// What was sent does not follow what a follower has, or it has nobody who greets it.
    pub fn on_mismatch(&mut self, from: NodeId, acked: &Acked, now: Instant, peers: &mut Peers) {
        if let Some(leader) = self.leader_mut() {
            leader.on_mismatch(from, acked, now, peers);
        }
    }

    /// The controller has answered a proposal.
    pub fn on_answer(&mut self, answer: &Answer, now: Instant, peers: &mut Peers) -> Facts {
        self.tell(|leader| leader.on_answer(answer, now, peers))
    }

    /// Another controller decides from now on.
    pub fn on_controller(&mut self, now: Instant) {
        if let Some(leader) = self.leader_mut() {
            leader.on_controller(now);
        }
    }

    /// When [`Partition::on_deadline`] is to be called if nothing else happens first.
    pub fn deadline(&self, now: Instant) -> Option<Instant> {
        self.leader().filter(|leader| leader.has_followers())?.deadline(now)
    }

    /// The same where nobody can be asked for another in-sync set.
    pub fn greets_at(&self) -> Option<Instant> {
        self.leader()?.greets_at()
    }

    /// Time has passed.
    pub fn on_deadline(&mut self, now: Instant, peers: &mut Peers) -> Facts {
        self.tell(|leader| leader.on_deadline(now, peers))
    }

    /// What the controller is to be asked for now, if anything.
    pub fn propose(&mut self, now: Instant) -> Option<Proposal> {
        self.leader_mut()?.propose(now)
    }

    /// A leader is told something; nobody else hears of it.
    fn tell(&mut self, what: impl FnOnce(&mut Leader) -> Facts) -> Facts {
        self.leader_mut().map_or(Facts::default(), what)
    }

    /// What a follower is to be sent, now that its turn has come in a lane.
    pub fn next(&mut self, node: NodeId, lane: Lane, now: Instant, peers: &mut Peers) -> Next {
        self.leader_mut().map_or(Next::Nothing, |leader| leader.next(node, lane, now, peers))
    }

    /// Sends a follower whose turn has come batches from memory, which end at `up_to`.
    pub fn send(&mut self, node: NodeId, batches: Batches, up_to: Offset, now: Instant, peers: &mut Peers) -> Append {
        self.leader_mut().expect("its turn has come").send(node, batches, up_to, now, peers)
    }

    /// The batches for a follower whose turn has come are not in memory.
    pub fn wait_for_catch_up(&mut self, node: NodeId, now: Instant, peers: &mut Peers) {
        self.leader_mut().expect("its turn has come").wait_for_catch_up(node, now, peers);
    }

    /// Batches have been read for a follower, and end at `up_to`. The message that carries them, unless the session has
    /// ended meanwhile.
    pub fn send_read(
        &mut self,
        (node, session): (NodeId, Session),
        batches: Batches,
        up_to: Offset,
        now: Instant,
        peers: &mut Peers,
    ) -> Option<Append> {
        self.leader_mut()?.send_read(node, session, batches, up_to, now, peers)
    }

    /// The batches for a follower cannot be read.
    pub fn read_failed(&mut self, (node, session): (NodeId, Session), now: Instant, peers: &mut Peers) {
        if let Some(leader) = self.leader_mut() {
            leader.read_failed(node, session, now, peers);
        }
    }

    /// Asserts what always holds.
    pub fn invariants(&self) {
        self.log.invariants();
        if let Role::Leading(leader) = &self.role {
            leader.invariants();
        }
    }
}
