//! A timer for a deadline that is pushed back all the time.

use std::pin::Pin;
use std::task::Context;

use tokio::time::{Instant, Sleep, sleep_until};

/// Fires no later than the deadline that was watched last. With every byte that comes a deadline moves a little; the
/// timer does not, it looks again when it fires.
#[derive(Debug, Default)]
pub(super) struct Timer {
    sleep: Option<Pin<Box<Sleep>>>,
    wakes_at: Option<Instant>,
}

impl Timer {
    /// Whether the deadline has come. If not, the task will be woken then.
    pub(super) fn is_over(&mut self, deadline: Instant, now: Instant, cx: &mut Context<'_>) -> bool {
        if deadline <= now {
            return true;
        }
        if self.wakes_at.is_some_and(|wakes_at| now < wakes_at && wakes_at <= deadline) {
            return false;
        }
        self.wakes_at = Some(deadline);
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        sleep.as_mut().reset(deadline);
        sleep.as_mut().poll(cx).is_ready()
    }
}
