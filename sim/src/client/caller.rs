//! A client that asks one thing after another: a connection to each broker that it asks, made again when it is lost, and
//! one request at a time in all. What asks consumers, admins and the auditor share.

use std::collections::BTreeMap;
use std::time::Duration;

use chronik_core::time::Instant;
use chronik_core::wire::{Request, Response};

use super::wire::{Alarm, Got};
use super::wires::{Node, Wires};
use super::{ClientNow, Happened, Wanted};
use crate::plan::Plan;

/// The wait after an answer that says to try again ...
const AGAIN_MS_MIN: u64 = 100;
/// ... and after many in a row.
const AGAIN_MS_MAX: u64 = 800;

/// How long who takes turns leaves out a broker that could not be reached.
const TRIES_AGAIN_AFTER: Duration = Duration::from_secs(20);

/// One request at a time.
pub(super) struct Caller {
    wires: Wires<()>,
    /// Whom it asks now.
    to: Node,
    alarm: Alarm,
    got: Vec<(Node, Got<()>)>,
    again_at: Instant,
    again: u32,
    /// When a broker could not be reached that was to be asked. `None` where none of them goes for good.
    missed: Option<BTreeMap<Node, Instant>>,
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
    /// A client of the plan that gives up what is not answered within `timeout`; it draws under `stream`.
    pub(super) fn new(plan: &Plan, name: &str, timeout: Duration, stream: u64) -> Caller {
        let wires = Wires::new(plan, name, timeout, stream);
        let missed = (plan.founders() < plan.nodes()).then(BTreeMap::new);
        Caller {
            to: wires.home(),
            wires,
            alarm: Alarm::default(),
            got: Vec::new(),
            again_at: Instant(0),
            again: 0,
            missed,
        }
    }

    /// Takes what happened, and returns what came of the request if that is over.
    pub(super) fn take(&mut self, now: ClientNow, happened: Happened, wanted: &mut Vec<Wanted>) -> Option<Outcome> {
        self.alarm.pass(now);
        self.wires.take(now, &happened, wanted, &mut self.got);
        let mut outcome = None;
        for (node, got) in self.got.drain(..) {
            if let (Got::Lost(_), Some(missed)) = (&got, &mut self.missed)
                && node == self.to
            {
                missed.insert(node, now.instant);
            }
            match got {
                Got::Answer { at, response, .. } => outcome = Some(Outcome::Answered(at, response)),
                Got::Lost(unanswered) if !unanswered.is_empty() => outcome = Some(Outcome::Lost),
                Got::Opened | Got::Lost(_) => {}
            }
        }
        outcome
    }

    /// Whether there are several brokers.
    pub(super) fn has_many(&self) -> bool {
        self.wires.are_many()
    }

    /// Whether one of several brokers could not be reached, or was lost, since this was last asked.
    pub(super) fn has_lost(&mut self) -> bool {
        self.wires.has_lost()
    }

    /// Whose turn it is among so many brokers: as clients in the field do, it does not try soon again who could not be
    /// reached, if some may be gone for good.
    pub(super) fn turn(&self, now: Instant, turn: u32, nodes: Node) -> Node {
        let is_away = |node: &Node| {
            self.missed.as_ref().and_then(|missed| missed.get(node)).is_some_and(|&at| now < at + TRIES_AGAIN_AFTER)
        };
        let mut turns = (0..nodes).map(|further| 1 + turn.wrapping_add(further) % nodes);
        turns.find(|node| !is_away(node)).unwrap_or(1 + turn % nodes)
    }

    /// Whom it asks now.
    pub(super) fn asks(&self) -> Node {
        self.to
    }

    /// Has a connection made to a broker, to any where none is named, and tells whether something may be asked of it now.
    pub(super) fn is_free(&mut self, now: ClientNow, to: Option<Node>, wanted: &mut Vec<Wanted>) -> bool {
        if self.wires.in_flight() > 0 {
            return false;
        }
        self.to = to.unwrap_or_else(|| self.wires.home());
        self.wires.open(now, self.to, wanted) && self.again_at <= now.instant
    }

    /// Asks the broker that was found free.
    pub(super) fn ask(&mut self, now: ClientNow, request: &Request, version: i16, wanted: &mut Vec<Wanted>) {
        self.wires.send(now, self.to, request, version, Some(()), wanted);
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
        self.ask(now, request, version, wanted);
        self.wires.wait_for(self.to, timeout);
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
        // Nothing was in flight: the answer that was wrong had come.
        self.wires.broken(now, self.to, operation, what, wanted);
    }

    /// Ends the step: says when the next one is wanted. `wants_to_ask` says whether there is something to ask, `due`
    /// when something else is.
    pub(super) fn rest(&mut self, now: ClientNow, wants_to_ask: bool, due: Option<Instant>, wanted: &mut Vec<Wanted>) {
        // Nothing is asked, nor is a connection made, while an answer is waited for, if only to a greeting.
        let may_ask = wants_to_ask && self.wires.in_flight() == 0;
        let again = (may_ask && self.wires.is_open(self.to) && self.again_at > now.instant).then_some(self.again_at);
        let wake = [due, again, self.wires.wake(|node| may_ask && node == self.to)].into_iter().flatten().min();
        self.alarm.set(now, wake, wanted);
    }

    pub(super) fn close(&mut self, wanted: &mut Vec<Wanted>) {
        self.wires.close(wanted);
    }

    pub(super) fn describe(&self) -> String {
        match self.wires.in_flight() {
            0 => self.wires.describe(),
            _ => "waits for an answer".to_owned(),
        }
    }
}
