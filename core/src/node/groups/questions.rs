//! What coordinators have worked out beside the sequencer: who is to be told the answer.

use std::collections::BTreeMap;

use super::{Node, State};
use crate::boundary::{DiskOp, Effect, Outbox, QuestionId};
use crate::group::{Finding, Question};
use crate::time::Now;

/// The questions that are not answered.
#[derive(Debug, Default)]
pub(super) struct Questions {
    /// For the coordinator of which partition each is.
    of: BTreeMap<QuestionId, i32>,
    asked: u64,
}

impl Questions {
    /// A partition's coordinator is gone: it is told nothing any more, and neither is the one that comes after it.
    pub(super) fn forget(&mut self, partition: i32) {
        self.of.retain(|_, of| *of != partition);
    }
}

impl Node {
    /// Has worked out what a coordinator asks.
    pub(super) fn ask(&mut self, partition: i32, asked: Vec<Question>, out: &mut Outbox) {
        let questions = &mut self.groups.questions;
        for question in asked {
            questions.asked += 1;
            let id = QuestionId(questions.asked);
            questions.of.insert(id, partition);
            out.push(Effect::Disk(DiskOp::Question(id, Box::new(question))));
        }
    }

    /// A question is answered: its coordinator looks at that with the next step, unless it is gone.
    pub(in crate::node) fn found(&mut self, now: Now, id: QuestionId, finding: Finding) {
        let Some(partition) = self.groups.questions.of.remove(&id) else { return };
        let seat = self.groups.seats.get_mut(&partition);
        let Some(State::Serving(coordinator)) = seat.map(|seat| &mut seat.state) else {
            unreachable!("who ends a coordinator forgets its questions")
        };
        coordinator.found(finding);
        let deadline = coordinator.deadline();
        self.wake(now, partition, deadline);
    }
}
