//! Replicas that are slowed down while they are not in sync, since a setting names them (KIP-73): so that those that are
//! made anew leave room for what clients wait for.
//!
//! What a leader sends to them has a lane of its own, which opens now and then ([`Lane::Gated`](crate::replication::Lane)).
//! A follower appends what comes and acknowledges it when it is paid for: its leaders, each of which has little on the
//! way to it in that lane, wait for that, so that the rate holds for all of them together. Who has joined the in-sync set
//! acknowledges at once.

use std::collections::BTreeMap;

use crate::ids::{NodeId, TopicPartition};
use crate::node::Node;
use crate::peer::Acked;
use crate::replication::{Said, Throttle};
use crate::time::{Instant, Now};

/// Acknowledgements that leave in one turn, at some 0.2 µs each.
const RELEASED_AT_ONCE: usize = 200;

/// What replicas that are slowed down take here, all together.
#[derive(Debug, Default)]
pub(super) struct Intake {
    throttle: Throttle,
    /// The newest acknowledgement of each partition, while what came before is not paid for; and whose it is.
    held: BTreeMap<TopicPartition, (NodeId, Acked)>,
}

impl Intake {
    /// When acknowledgements leave that are held.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.throttle.opens_at().filter(|_| !self.held.is_empty())
    }
}

impl Node {
    /// The rates may be others.
    pub(super) fn obey_rates(&mut self) {
        let config = self.controller.config();
        let (leads, follows) = (config.leader_replication_throttled_rate, config.follower_replication_throttled_rate);
        self.replicas.peers.slow_down_to(leads);
        self.replicas.intake.throttle.obey(follows);
    }

    /// A partition's part may be another, or its topic's settings: who is slowed down may be others.
    pub(super) fn slow_down(&mut self, now: Now, slot: u32) {
        let me = self.replicas.node_id;
        let hosted = self.hosts[slot as usize].as_mut().expect("a hosted partition");
        let (id, config) = (hosted.partition.id(), hosted.config.clone());
        if hosted.partition.has_followers() {
            let leads = config.leader_throttled.names(id.partition, me);
            let follows = |node| config.follower_throttled.names(id.partition, node);
            hosted.partition.slow_down(leads, follows, now.instant, &mut self.replicas.peers);
        }
        if !self.is_slow(slot)
            && let Some((leader, acked)) = self.replicas.intake.held.remove(&id)
        {
            self.replicas.say((leader, Said::Acked(acked)));
        }
    }

    /// Whether what comes for a partition counts.
    fn is_slow(&self, slot: u32) -> bool {
        let Some(hosted) = &self.hosts[slot as usize] else { return false };
        let (id, me) = (hosted.partition.id(), self.replicas.node_id);
        hosted.partition.is_followed()
            && hosted.config.follower_throttled.names(id.partition, me)
            && self.controller.image().partition(id).is_some_and(|state| !state.isr.contains(&me))
    }

    /// Bytes have come for a partition that is followed.
    pub(super) fn take_slowly(&mut self, now: Now, slot: u32, bytes: usize) {
        if self.replicas.intake.throttle.is_bound() && self.is_slow(slot) {
            self.replicas.intake.throttle.spend(bytes, now.instant);
        }
    }

    /// A follower has something to say: at the end of the turn, or when what it took is paid for.
    pub(in crate::node) fn tell_its_leader(&mut self, now: Now, slot: u32, (leader, said): (NodeId, Said)) {
        let is_open = self.replicas.intake.throttle.is_open(now.instant);
        let is_held = !is_open && self.is_slow(slot);
        let intake = &mut self.replicas.intake;
        match said {
            Said::Acked(acked) if is_held => _ = intake.held.insert(acked.partition, (leader, acked)),
            Said::Acked(acked) => {
                intake.held.remove(&acked.partition);
                self.replicas.say((leader, Said::Acked(acked)));
            }
            said @ Said::CutDone(_) => self.replicas.say((leader, said)),
        }
    }

    /// What was held leaves, once it is paid for.
    pub(super) fn release_acks(&mut self, now: Now) {
        if !self.replicas.intake.throttle.is_open(now.instant) {
            return;
        }
        for _ in 0..RELEASED_AT_ONCE {
            let Some((_, (leader, acked))) = self.replicas.intake.held.pop_first() else { return };
            self.replicas.say((leader, Said::Acked(acked)));
        }
    }
}
