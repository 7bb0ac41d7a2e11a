//! The event loop around the broker's state machine.

use super::{Run, Watch};
use crate::plan::Plan;

/// Carries a plan out.
pub fn run(_plan: &Plan, _watch: &Watch) -> Run {
    Run::default()
}
