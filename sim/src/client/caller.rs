//! A client that asks one thing after another: a connection that is made again when it is lost, and one request at a
//! time on it. What asks consumers, admins and the auditor share.

use std::time::Duration;

use chronik_core::rng::Rng;
use chronik_core::time::Instant;
use chronik_core::wire::{Request, Response, Str};

use super::wire::{Alarm, Got, Wire};
use super::{ClientNow, Happened, Wanted};

/// The wait after an answer that says to try again ...
const AGAIN_MS_MIN: u64 = 100;
/// ... and after many in a row.
const AGAIN_MS_MAX: u64 = 800;

/// One request at a time.
pub(super) struct Caller {
    wire: Wire<()>,
    alarm: Alarm,
    got: Vec<Got<()>>,
    again_at: Instant,
    again: u32,
}

/// What came of the request.
#[derive(Debug)]
pub(super) enum Outcome {
    /// The answer, and when it was asked.
    Answered(Instant, Response),
    /// No answer: whether it was carried out is not known.
    Lost,
}

impl Caller {
    pub(super) fn new(name: &str, timeout: Duration, jitter: Rng, stream: u64) -> Caller {
        Caller {
            wire: Wire::new(Str::from(name), timeout, jitter, stream),
            alarm: Alarm::default(),
            got: Vec::new(),
            again_at: Instant(0),
            again: 0,
        }
    }

    /// Takes what happened, and returns what came of the request if that is over.
    pub(super) fn take(&mut self, now: ClientNow, happened: Happened, wanted: &mut Vec<Wanted>) -> Option<Outcome> {
        self.alarm.pass(now);
        self.wire.take(now, happened, wanted, &mut self.got);
        let mut outcome = None;
        for got in self.got.drain(..) {
            match got {
                Got::Answer { at, response, .. } => outcome = Some(Outcome::Answered(at, response)),
                Got::Lost(unanswered) if !unanswered.is_empty() => outcome = Some(Outcome::Lost),
                Got::Opened | Got::Lost(_) => {}
            }
        }
        outcome
    }

    /// Has a connection made where there is none, and tells whether something may be asked now.
    pub(super) fn is_free(&mut self, now: ClientNow, wanted: &mut Vec<Wanted>) -> bool {
        self.wire.open(now, wanted) && self.wire.in_flight() == 0 && self.again_at <= now.instant
    }

    /// Asks.
    pub(super) fn ask(&mut self, now: ClientNow, request: &Request, version: i16, wanted: &mut Vec<Wanted>) {
        self.wire.send(now, request, version, Some(()), wanted);
    }

    /// Asks for what may take so long.
    pub(super) fn ask_within(
        &mut self,
        now: ClientNow,
        timeout: Duration,
        request: &Request,
        version: i16,
        wanted: &mut Vec<Wanted>,
    ) {
        self.wire.send(now, request, version, Some(()), wanted);
        self.wire.wait_for(timeout);
    }

    /// An answer said to try again: nothing is asked for a while.
    pub(super) fn back_off(&mut self, now: ClientNow) {
        let wait = (AGAIN_MS_MIN << self.again.min(3)).min(AGAIN_MS_MAX);
        self.again += 1;
        self.again_at = now.instant + Duration::from_millis(wait);
    }

    /// An answer was good.
    pub(super) fn go_on(&mut self) {
        self.again = 0;
    }

    /// The broker broke the protocol: the connection ends.
    pub(super) fn broken(&mut self, now: ClientNow, operation: Option<u32>, what: String, wanted: &mut Vec<Wanted>) {
        self.wire.broken(now, operation, what, wanted, &mut self.got);
        // Nothing was in flight: the answer that was wrong had come.
        self.got.clear();
    }

    /// Ends the step: says when the next one is wanted. `wants_to_ask` says whether there is something to ask, `due`
    /// when something else is.
    pub(super) fn rest(&mut self, now: ClientNow, wants_to_ask: bool, due: Option<Instant>, wanted: &mut Vec<Wanted>) {
        let waits = wants_to_ask && self.wire.is_open() && self.wire.in_flight() == 0;
        let again = (waits && self.again_at > now.instant).then_some(self.again_at);
        let wake = [due, again, self.wire.wake(wants_to_ask)].into_iter().flatten().min();
        self.alarm.set(now, wake, wanted);
    }

    pub(super) fn close(&mut self, wanted: &mut Vec<Wanted>) {
        self.wire.close(wanted);
    }

    pub(super) fn describe(&self) -> &'static str {
        match (self.wire.is_open(), self.wire.in_flight()) {
            (false, _) => "not connected",
            (true, 0) => "connected",
            (true, _) => "waits for an answer",
        }
    }
}
