//! What must hold, each claim under a name of its own, judged by the history alone.

use crate::history::History;
use crate::plan::Plan;

/// A claim that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The claim's name, in words joined by `-`.
    pub claim: &'static str,
    /// The index in the history of the event that shows it.
    pub event: usize,
    /// What was claimed and what is, in Kafka's terms.
    pub text: String,
}

/// Judges a whole run, and returns what does not hold in the order of the events that show it.
pub fn judge(_plan: &Plan, _history: &History) -> Vec<Violation> {
    Vec::new()
}
