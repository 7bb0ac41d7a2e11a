//! One plan on one engine, judged; a panic of the broker's code is a claim that does not hold.

use std::any::Any;
use std::cell::RefCell;
use std::ffi::OsString;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

use crate::claims::{Claim, Violation};
use crate::engine::{Run, Watch};
use crate::history::History;
use crate::plan::Plan;

pub use crate::engine::EngineName;

/// What carries a plan out.
pub type Engine = fn(&Plan, &Watch) -> Run;

/// What the tools work with, handed in so that they can be tried on engines and claims made for a test.
#[derive(Clone, Copy)]
pub struct Parts {
    /// The plan of a seed for so many brokers, or as many as it draws, within what they promise.
    pub draw: fn(u64, Option<u32>) -> Plan,
    /// The plan of a seed, beyond it.
    pub draw_beyond: fn(u64, Option<u32>) -> Plan,
    /// The event loop around the broker's state machine.
    pub core: Engine,
    /// The production shell on simulated sockets, where this binary has it.
    pub madsim: Option<Engine>,
    /// The claims.
    pub judge: fn(&Plan, &History) -> Vec<Violation>,
    /// What the claims are called, and say.
    pub claims: fn() -> &'static [Claim],
    /// What is counted in a run: faults that took effect, and other rare things. Each should happen in a long hunt.
    pub counters: &'static [&'static str],
    /// The bugs that can be planted.
    pub canaries: Canaries,
}

/// A name, and what it stands for in one line.
pub type Named = (String, String);

/// The bugs that can be planted.
#[derive(Clone, Copy)]
pub struct Canaries {
    /// Their names, each with what it breaks, or a sentence that says why they cannot be read.
    pub names: fn() -> Result<Vec<Named>, String>,
    /// Becomes the simulator with this one in it and these arguments. Returns only a sentence that says why it cannot.
    pub become_planted: fn(&str, &[OsString]) -> String,
    /// The one that this process has in it, for the commands that replay its runs.
    pub planted: fn() -> Option<String>,
    /// Plants each in turn, hunts it and prints a table, or returns a sentence that says why it cannot.
    pub score: fn() -> Result<(), String>,
}

impl Parts {
    /// The engine of a name, where this binary has it.
    pub fn engine(&self, name: EngineName) -> Option<Engine> {
        match name {
            EngineName::Core => Some(self.core),
            EngineName::Madsim => self.madsim,
        }
    }
}

/// The claim that no assertion of the broker fails.
pub const NO_PANIC: &str = "no-panic";

/// The claim that a run is a function of its plan, which only a second run can show.
pub const SAME_TWICE: &str = "same-twice";

/// What came of a trial.
#[derive(Clone, Debug, Default)]
pub struct Trial {
    /// The run; empty where it panicked, since then nothing of it is left.
    pub run: Run,
    /// What does not hold, in the order of the events that show it.
    pub violations: Vec<Violation>,
}

impl Trial {
    /// Whether an assertion ended it.
    pub fn has_panicked(&self) -> bool {
        self.violations.first().is_some_and(|violation| violation.claim == NO_PANIC)
    }
}

/// Carries a plan out and judges it.
pub fn examine(parts: &Parts, engine: Engine, plan: &Plan, watch: &Watch) -> Trial {
    let run = match catch(|| engine(plan, watch)) {
        Ok(run) => run,
        Err(panic) => {
            return Trial { run: Run::default(), violations: vec![panic.violation("the broker or its engine")] };
        }
    };
    match catch(|| (parts.judge)(plan, &run.history)) {
        Ok(violations) => Trial { run, violations },
        Err(panic) => Trial { run, violations: vec![panic.violation("the judge of the run")] },
    }
}

/// The longest part of a run that does not panic, with its timeline: a run is a function of its plan, so one that is
/// stopped before the event that panics tells what came before it.
pub fn until_panic(engine: Engine, plan: &Plan) -> Run {
    let stopped =
        |before: u64, trace: bool| catch(|| engine(plan, &Watch { trace, until: Some(before), print_at: None }));
    let (mut fine, mut panics) = (0, 1);
    while let Ok(run) = stopped(panics, false) {
        if run.events < panics {
            // It ends by itself: what panicked was not the engine, and all of the run came before.
            return stopped(panics, true).unwrap_or_default();
        }
        (fine, panics) = (panics, panics.saturating_mul(2));
    }
    while panics - fine > 1 {
        let middle = fine + (panics - fine) / 2;
        if stopped(middle, false).is_ok() { fine = middle } else { panics = middle }
    }
    stopped(fine, true).unwrap_or_default()
}

/// A caught panic.
struct Panic {
    message: String,
    place: String,
}

impl Panic {
    fn violation(self, who: &str) -> Violation {
        let text = format!("no assertion of the broker fails, but {who} panicked at {}: {}", self.place, self.message);
        Violation { claim: NO_PANIC, event: usize::MAX, text }
    }
}

thread_local! {
    /// Where this thread is inside [`catch`]: what the hook was told.
    static CAUGHT: RefCell<Option<Vec<Panic>>> = const { RefCell::new(None) };
}

/// Runs `work`; a panic is returned instead of being printed.
fn catch<T>(work: impl FnOnce() -> T) -> Result<T, Panic> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let panic = Panic {
                message: message(info.payload()),
                place: info.location().map_or_else(|| "an unknown place".to_string(), ToString::to_string),
            };
            let is_ours = CAUGHT.with_borrow_mut(|caught| caught.as_mut().map(|caught| caught.push(panic)).is_some());
            if !is_ours {
                before(info);
            }
        }));
    });
    CAUGHT.set(Some(Vec::new()));
    // What a panic leaves half done is dropped with the closure's captures, of which every one is read only.
    let result = panic::catch_unwind(AssertUnwindSafe(work));
    let caught = CAUGHT.take().unwrap_or_default();
    // The first panic is the cause; a later one is of a destructor, or of an engine that hands it on.
    result.map_err(|_| {
        caught.into_iter().next().unwrap_or_else(|| Panic {
            message: "on another thread".to_string(),
            place: "an unknown place".to_string(),
        })
    })
}

/// What a panic says: a text of either kind that `panic!` makes.
fn message(payload: &dyn Any) -> String {
    let text = payload.downcast_ref::<&str>().copied().or(payload.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("without a message").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn an_assertion_that_fails_is_a_claim_that_does_not_hold_with_its_message_and_place() {
        let parts = testing::parts();
        let trial = examine(&parts, |_, _| panic!("offsets fell"), &testing::plan(), &Watch::default());
        assert!(trial.has_panicked());
        let text = &trial.violations[0].text;
        assert!(text.contains("offsets fell") && text.contains("trial.rs:"), "{text}");
    }

    #[test]
    fn a_panic_of_the_judge_keeps_the_run() {
        let parts = Parts { judge: |_, _| panic!("no such partition"), ..testing::parts() };
        let trial = examine(&parts, parts.core, &testing::plan(), &Watch::default());
        assert!(trial.has_panicked());
        assert!(trial.run.events > 0);
    }

    #[test]
    fn what_came_before_a_panic_is_found_by_stopping_earlier() {
        for at in [1, 2, 37, 64] {
            let run = until_panic(testing::PANICS, &Plan { seed: at, ..testing::plan() });
            assert_eq!(run.events, at, "all events before the one that panics");
            assert_eq!(run.trace.len() as u64, at);
        }
    }

    #[test]
    fn a_run_that_does_not_panic_is_told_whole() {
        let plan = Plan { seed: 1_000_000, ..testing::plan() };
        assert_eq!(until_panic(testing::PANICS, &plan).events, testing::EVENTS);
    }
}
