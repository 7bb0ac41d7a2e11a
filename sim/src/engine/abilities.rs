//! Which engines there are, and what each is able to do to a broker.

use std::fmt;

use crate::plan::{FaultKind, Plan};

/// An engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// The event loop around the broker's state machine.
    Core,
    /// The production shell on simulated sockets and time.
    Madsim,
    /// The production binary with real files and sockets.
    Real,
}

impl Engine {
    /// All of them.
    pub const ALL: [Engine; 3] = [Engine::Core, Engine::Madsim, Engine::Real];

    /// Whether the engine can do this to a broker.
    pub fn can(self, fault: &FaultKind) -> bool {
        match self {
            Engine::Core => true,
            Engine::Madsim => !matches!(fault, FaultKind::ClockStep { .. }),
            Engine::Real => matches!(fault, FaultKind::Kill { .. } | FaultKind::Restart { .. }),
        }
    }

    /// What of a plan the engine carries out, and what claims about its runs are to be judged by.
    pub fn adapt(self, plan: &Plan) -> Plan {
        let mut plan = plan.clone();
        plan.faults.retain(|fault| self.can(&fault.what));
        if self != Engine::Core {
            // There is one clock for the broker and its clients.
            plan.node.clock_skew_ms = 0;
            plan.node.clock_drift_ppm = 0;
        }
        plan
    }

    /// What the engine is able to do, in a sentence.
    pub fn describe(self) -> &'static str {
        match self {
            Engine::Core => "the broker's state machine in an event loop; every fault",
            Engine::Madsim => {
                "the production shell on simulated sockets and time; every fault but clock_step, and no skew or drift \
                 of clocks; only where it was built with --cfg madsim"
            }
            Engine::Real => "the binary with real files and sockets; kill and restart",
        }
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Engine::Core => "core",
            Engine::Madsim => "madsim",
            Engine::Real => "real",
        })
    }
}
