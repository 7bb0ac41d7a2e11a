//! Retention: which old segments a partition lets go of, by its topic's settings.

use std::time::Duration;

use super::{Node, Reason, logs};
use crate::boundary::{Level, Outbox};
use crate::time::{Now, Timestamp};

/// How many producers and segments one step looks at, at about 0.05 µs each, but always those of one partition.
const SEEN_AT_ONCE: usize = 2_000;

impl Node {
    /// Deletes what retention lets go of in the next partitions, and comes back for the others.
    pub(super) fn retention(&mut self, now: Now, out: &mut Outbox) {
        let slots = self.partitions_after(self.retention_after, self.limits.partitions_at_once);
        let mut more = slots.len() == self.limits.partitions_at_once;
        let (mut seen, mut last) = (0, None);
        for &(id, slot) in &slots {
            let log = self.host(slot).partition.log();
            let weight = log.producers().count() + log.segments().len();
            if seen > 0 && seen + weight > SEEN_AT_ONCE {
                more = true;
                break;
            }
            self.retain(now.wall, slot, out);
            (seen, last) = (seen + weight, Some(id));
        }
        self.retention_after = last.filter(|_| more);
        let pause = if more { Duration::from_millis(1) } else { self.retention_interval };
        self.deadlines.insert((now.instant + pause, Reason::Retention));
    }

    fn retain(&mut self, now: Timestamp, slot: u32, out: &mut Outbox) {
        let expiry = i64::try_from(self.producer_expiration_ms).unwrap_or(i64::MAX);
        let hosted = self.hosts[slot as usize].as_mut().expect("a hosted partition");
        let name = logs::display(&hosted.name, hosted.partition.id());
        hosted.partition.log_mut().expire_producers(Timestamp(now.0.saturating_sub(expiry)));
        // Followers follow their leader's log start.
        let is_led = hosted.partition.is_led() && hosted.partition.damage().is_none();
        // Below the minimum clients are told the start that there was: what is gone behind it would be asked for again and
        // again. It costs no more room than is taken already, since nothing above the high watermark, which stands
        // still as well, may go.
        if !hosted.config.cleanup_policy.deletes || !is_led || hosted.partition.is_below_minimum() {
            return;
        }
        if !self.has_room_to_advance() {
            // The next round comes when a checkpoint has made some.
            return self.checkpoint_soon();
        }
        let hosted = self.hosts[slot as usize].as_mut().expect("a hosted partition");
        let config = hosted.config.clone();
        let high_watermark = hosted.partition.advanced().high_watermark;
        let log = hosted.partition.log_mut();
        let oldest = config.retention_ms.map(|ms| now.0.saturating_sub(i64::try_from(ms).unwrap_or(i64::MAX)));
        let expired = |segment: &crate::log::Segment| {
            let newest = if segment.max_timestamp >= 0 { segment.max_timestamp } else { segment.since.0 };
            oldest.is_some_and(|oldest| newest < oldest)
        };
        // The active segment goes too once all that it holds is old, by way of being closed.
        if log.segments().next_back().is_some_and(|active| active.bytes > 0 && expired(active)) {
            log.roll(&mut self.journal);
        }
        let mut bytes = log.bytes();
        let mut to = log.coming_start();
        for (segment, next) in log.segments().zip(log.segments().skip(1)) {
            let over = config.retention_bytes.is_some_and(|limit| bytes - segment.bytes >= limit);
            if !(over || expired(segment)) || next.base > high_watermark {
                break;
            }
            bytes -= segment.bytes;
            to = to.max(next.base);
        }
        if to > log.coming_start() {
            out.log(Level::Info, format!("retention moves the log start of {name} to {to}"));
            self.advance_start(slot, to);
        }
    }
}
