//! In-sync sets: what leaders propose goes to the controller, all of a turn in one message.

use crate::boundary::Outbox;
use crate::ids::NodeId;
use crate::node::Node;
use crate::peer::{AlterInSync, Message};
use crate::time::Now;

use super::walk::{Walk, What};

/// Proposals in one message at most.
const PROPOSED_AT_ONCE: usize = 500;

impl Node {
    /// Somebody else decides from now on, in another term, or nobody is known to.
    pub(in crate::node) fn follow_controller(&mut self, controller: Option<(NodeId, u64)>) {
        if self.replicas.controller == controller {
            return;
        }
        self.replicas.controller = controller;
        if controller.is_some() {
            self.replicas.walks.push_back(Walk::new(What::Controller));
        }
    }

    /// Asks the controller for what leaders propose.
    pub(super) fn propose_in_sync(&mut self, now: Now, out: &mut Outbox) {
        if self.replicas.proposing.is_empty() {
            return;
        }
        let (Some((to, term)), Some(me)) = (self.replicas.controller, self.replicas.me.clone()) else { return };
        let mut partitions = Vec::new();
        while partitions.len() < PROPOSED_AT_ONCE
            && let Some(slot) = self.replicas.proposing.pop_first()
        {
            let Some(hosted) = &mut self.hosts[slot as usize] else { continue };
            partitions.extend(hosted.partition.propose(now.instant));
            // It is sent again where no answer comes.
            self.replicas.stir(slot);
        }
        if partitions.is_empty() {
            return;
        }
        let message = Message::AlterInSync(AlterInSync { term, broker_epoch: me.broker_epoch, partitions });
        self.say(to, message, out);
    }
}
