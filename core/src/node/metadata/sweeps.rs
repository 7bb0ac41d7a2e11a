//! What whoever leads the quorum looks for every so often, some partitions with each tick: first replicas that could lead
//! what others lead, and partitions that nobody leads and that their topics allow an unclean election for.

use std::time::Duration;

use super::super::Node;
use crate::boundary::Outbox;
use crate::ids::TopicPartition;
use crate::time::{Instant, Now};

/// How often partitions without a leader are looked at where nothing has happened by which they could get one.
const UNCLEAN_EVERY: Duration = Duration::from_secs(300);

/// One of them.
#[derive(Debug, Default)]
struct Sweep {
    /// When the next one begins; `None` before the first.
    next: Option<Instant>,
    /// Whether one is under way, and up to where it has come.
    is_running: bool,
    after: Option<TopicPartition>,
}

impl Sweep {
    /// Whether there is something to do now. The first one begins `every` after this was asked first.
    fn is_due(&mut self, now: Instant, every: Duration) -> bool {
        let next = *self.next.get_or_insert(now + every);
        if !self.is_running && next <= now {
            self.next = Some(now + every);
            self.begin();
        }
        self.is_running
    }

    fn begin(&mut self) {
        (self.is_running, self.after) = (true, None);
    }
}

/// Both.
#[derive(Debug, Default)]
pub(super) struct Sweeps {
    preferred: Sweep,
    unclean: Sweep,
}

impl Node {
    /// A broker may be there, or a setting be such, that partitions without a leader could get one.
    pub(in crate::node) fn look_for_leaders(&mut self) {
        self.metadata.sweeps.unclean.begin();
    }

    /// Looks at the next partitions.
    pub(super) fn sweep_partitions(&mut self, now: Now, out: &mut Outbox) {
        if !self.may_propose_partitions() {
            return;
        }
        let config = self.controller.config();
        let every = Duration::from_secs(config.leader_imbalance_check_interval_seconds);
        let rebalances = config.auto_leader_rebalance_enable;
        let leading = self.metadata.leading.as_ref().expect("who proposes decides");
        let Sweeps { preferred, unclean } = &mut self.metadata.sweeps;
        let decision = if unclean.is_due(now.instant, UNCLEAN_EVERY) {
            let decision = leading.elect_unclean(&mut unclean.after);
            unclean.is_running = decision.is_some();
            decision
        } else if rebalances && preferred.is_due(now.instant, every) {
            let decision = leading.rebalance(&mut preferred.after);
            preferred.is_running = decision.is_some();
            decision
        } else {
            None
        };
        let Some(decision) = decision else { return };
        // Where it is not taken, the next sweep finds the same.
        let _ = self.propose(&decision.records, out);
    }
}
