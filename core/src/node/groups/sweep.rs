//! What concerns all groups, some of them in each step: topics that have changed or gone, and offsets that expire.
//!
//! A sweep goes through the coordinators in the order of their partitions. It waits for one that is being loaded, so
//! that no group is passed over; one that has failed comes back from its log, and keeps what the sweep would have taken
//! until it expires.

use std::time::Duration;

use super::{GROUP_OFFSETS, NEXT_STEP, Node, ROOM_RETRY, Reason, State};
use crate::boundary::Outbox;
use crate::ids::TopicId;
use crate::time::Now;
use crate::wire::Str;

/// A way through all groups.
#[derive(Debug)]
pub(super) struct Sweep {
    what: What,
    /// Where it goes on: the partition, and in it the group that it has looked at last.
    partition: i32,
    after: Option<Str>,
}

#[derive(Debug)]
enum What {
    /// Topics have come, gone or grown.
    Changed,
    /// A topic is deleted, and the offsets in it with it.
    Forget(Str, TopicId),
    /// Offsets and groups expire (KIP-211).
    Expire,
}

impl Node {
    /// Topics have come, gone or grown: coordinators are told, soon and once.
    pub(in crate::node) fn topics_changed(&mut self) {
        self.groups.topics_version += 1;
        let is_known =
            self.groups.sweeps.iter().any(|sweep| matches!(sweep.what, What::Changed) && sweep.partition == 0);
        if !is_known {
            self.sweep(What::Changed);
        }
    }

    /// A topic is deleted.
    pub(in crate::node) fn forget_topic(&mut self, name: &Str, id: TopicId) {
        if **name != *GROUP_OFFSETS {
            self.sweep(What::Forget(name.clone(), id));
        }
    }

    /// It is time to look for what has expired.
    pub(in crate::node) fn expire_groups(&mut self, now: Now) {
        let interval = self.broker_config().groups.offsets_retention_check_interval_ms;
        self.deadlines.insert((now.instant + Duration::from_millis(interval), Reason::Expire));
        if !self.groups.sweeps.iter().any(|sweep| matches!(sweep.what, What::Expire)) {
            self.sweep(What::Expire);
        }
    }

    fn sweep(&mut self, what: What) {
        if self.groups.seats.is_empty() {
            return;
        }
        if self.groups.sweeps.is_empty() {
            // At once: whoever is told of the time at which this happens does not know it.
            self.deadlines.insert((crate::time::Instant::default(), Reason::Sweep));
        }
        self.groups.sweeps.push_back(Sweep { what, partition: 0, after: None });
    }

    /// Goes on with the oldest sweep, for one step.
    pub(in crate::node) fn sweep_on(&mut self, now: Now, out: &mut Outbox) {
        let Some(mut sweep) = self.groups.sweeps.pop_front() else { return };
        if self.stopping {
            return;
        }
        let pause = self.sweep_some(now, &mut sweep, out);
        if self.groups.seats.range(sweep.partition..).next().is_some() {
            self.groups.sweeps.push_front(sweep);
        }
        if !self.groups.sweeps.is_empty() {
            self.deadlines.insert((now.instant + pause, Reason::Sweep));
        }
    }

    /// Looks at the next groups. Returns how long to wait before it goes on.
    fn sweep_some(&mut self, now: Now, sweep: &mut Sweep, out: &mut Outbox) -> Duration {
        let Some((&partition, seat)) = self.groups.seats.range(sweep.partition..).next() else { return NEXT_STEP };
        if partition != sweep.partition {
            (sweep.partition, sweep.after) = (partition, None);
        }
        match seat.state {
            State::Waiting | State::Loading(_) | State::Beginning(..) => return ROOM_RETRY,
            State::Serving(_) if self.check_serving(partition).is_ok() => {}
            State::Serving(_) | State::Failed => {
                (sweep.partition, sweep.after) = (partition + 1, None);
                return NEXT_STEP;
            }
        }
        if !self.may_write_groups() {
            return ROOM_RETRY;
        }
        // A group would be assigned the first partitions, and a few more, and a few more.
        if matches!(sweep.what, What::Changed) && self.is_half_applied() {
            return NEXT_STEP;
        }
        let after = sweep.after.take();
        sweep.after = self.call(now, partition, out, |coordinator, with| match &sweep.what {
            What::Changed => {
                coordinator.topics_changed(with);
                None
            }
            What::Forget(name, id) => coordinator.forget_topic(with, name, *id, after),
            What::Expire => coordinator.expire(with, after),
        });
        if sweep.after.is_none() {
            sweep.partition = partition + 1;
        }
        NEXT_STEP
    }
}
