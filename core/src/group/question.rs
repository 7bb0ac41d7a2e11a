//! What a coordinator does not work out itself, since it takes longer than a step may: who is to own what in a large
//! group, and whatever has to do with a client's regular expression.
//!
//! It asks a [`Question`], which the node has answered beside the sequencer, and is told the [`Finding`] later. Both are
//! values: the answer depends on nothing but the question. Whoever asked keeps the question's number, and takes no
//! finding with another: groups end, and begin anew under their names. A coordinator that is gone is told nothing.

use super::consumer::assign::{Assigned, Assigning};
use super::consumer::refusal::Refusal;
use super::consumer::regex::{Matched, Matching, compile};
use crate::wire::Str;

/// Something to be worked out.
#[derive(Debug)]
pub struct Question {
    /// Whose.
    pub(super) group: Str,
    /// Which of the coordinator's.
    pub(super) number: u64,
    pub(super) what: Asked,
}

/// What is to be worked out.
#[derive(Debug)]
pub(super) enum Asked {
    /// Who is to own what.
    Assignment(Assigning),
    /// Which of some topics an expression matches.
    Matches(Matching),
    /// Whether an expression that a member sends is one.
    Expression { member: Str, expression: Str },
}

/// What was worked out.
#[derive(Debug)]
pub struct Finding {
    pub(super) group: Str,
    pub(super) number: u64,
    pub(super) what: Found,
}

/// The answer to each kind of question.
#[derive(Debug)]
pub(super) enum Found {
    Assignment(Assigned),
    Matches(Matched),
    Expression { member: Str, verdict: Result<(), Refusal> },
}

impl Question {
    /// Works it out. That may take a while: some ten milliseconds for an assignment of 10,000 partitions, and up to a
    /// second for topics that a hostile expression is matched with.
    pub fn answer(self) -> Finding {
        let what = match self.what {
            Asked::Assignment(assigning) => Found::Assignment(assigning.assign()),
            Asked::Matches(matching) => Found::Matches(matching.run()),
            Asked::Expression { member, expression } => {
                Found::Expression { member, verdict: compile(&expression).map(drop) }
            }
        };
        Finding { group: self.group, number: self.number, what }
    }
}
