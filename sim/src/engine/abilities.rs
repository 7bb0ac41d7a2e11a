//! Which engines there are, and what each is able to do to a broker.

use std::fmt;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::plan::{FaultKind, Plan};

/// An engine by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EngineName {
    /// The event loop around the broker's state machine.
    Core,
    /// The production shell on simulated sockets and time.
    Madsim,
}

impl EngineName {
    /// Whether the engine can do this to a broker.
    pub fn can(self, fault: &FaultKind) -> bool {
        match self {
            EngineName::Core => true,
            EngineName::Madsim => !matches!(fault, FaultKind::ClockStep { .. }),
        }
    }

    /// What of a plan the engine carries out. A run may be judged by the whole plan as well: clocks that could have
    /// differed only allow more.
    pub fn adapt(self, plan: &Plan) -> Plan {
        let mut plan = plan.clone();
        plan.faults.retain(|fault| self.can(&fault.what));
        if self == EngineName::Madsim {
            // There is one clock for brokers and clients.
            plan.node.clock_skew_ms = 0;
            plan.node.clock_drift_ppm = 0;
            for machine in plan.cluster.iter_mut().flat_map(|cluster| &mut cluster.others) {
                machine.clock_skew_ms = 0;
                machine.clock_drift_ppm = 0;
            }
        }
        plan
    }

    /// What the engine is able to do, in a sentence.
    pub fn describe(self) -> &'static str {
        match self {
            EngineName::Core => "the broker's state machine in an event loop; every fault, clusters too",
            EngineName::Madsim => {
                "the production shell on simulated sockets and time, clusters too; every fault but clock_step, and no skew \
                 or drift of clocks; only where it was built with --cfg madsim"
            }
        }
    }
}

impl fmt::Display for EngineName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            EngineName::Core => "core",
            EngineName::Madsim => "madsim",
        })
    }
}
