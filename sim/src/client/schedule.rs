//! What a client is to do, in order of time.

use chronik_core::time::Instant;

use super::wire::at_ms;
use super::{ClientNow, Happened};
use crate::plan::Operation;

/// A client's operations, and which is next.
#[derive(Debug)]
pub(super) struct Schedule {
    operations: Vec<Operation>,
    next: usize,
    /// All faults are over: nothing is waited for any more.
    is_healed: bool,
}

impl Schedule {
    pub(super) fn new(operations: &[Operation]) -> Schedule {
        Schedule { operations: operations.to_vec(), next: 0, is_healed: false }
    }

    /// Takes note of what happened, where it concerns what is due.
    pub(super) fn take(&mut self, happened: &Happened) {
        self.is_healed |= *happened == Happened::Healed;
    }

    /// The next operation with its index, if it is due.
    pub(super) fn due(&self, now: ClientNow) -> Option<(u32, &Operation)> {
        let operation = self.operations.get(self.next)?;
        let is_due = self.is_healed || at_ms(operation.at_ms) <= now.instant;
        is_due.then(|| (u32::try_from(self.next).expect("a plan has few operations"), operation))
    }

    /// The next operation has begun.
    pub(super) fn go_on(&mut self) {
        self.next += 1;
    }

    /// When the next operation is due that is not due yet.
    pub(super) fn wake(&self, now: ClientNow) -> Option<Instant> {
        let at = at_ms(self.operations.get(self.next)?.at_ms);
        (at > now.instant).then_some(at)
    }

    /// Whether all operations have begun.
    pub(super) fn is_over(&self) -> bool {
        self.next == self.operations.len()
    }

    /// How far it has come, for people.
    pub(super) fn describe(&self) -> String {
        format!("{} of {} operations begun", self.next, self.operations.len())
    }
}
