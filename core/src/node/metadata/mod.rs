//! The cluster's metadata: this node's part in the quorum that agrees on its log, and what becomes of decisions.
//!
//! There are two views. [`Node::controller`](super::Node) is what has committed and was applied, in the order of the log:
//! requests are answered from it, and partitions come, change and go by its changes alone. The node that leads the quorum
//! has besides a view that all it has proposed is in: there it decides, and replays at once what it has decided, so that
//! two requests for one name cannot both succeed.
//!
//! ```text
//! request ──► decided on the leading view ──► proposed ──► journal ──► committed ──► applied ──► answered
//!                        └─ replayed there at once                                     └─ partitions change
//! ```
//!
//! | the leading view | when |
//! |---|---|
//! | begins | the node leads the quorum, and has applied the first entry of its own term: all that leaders before it committed is known, and nothing of its own is under way |
//! | ends | the node leads no more; there is nothing to undo, since nobody has acted on it |
//!
//! The journal keeps what the quorum must not forget (`RecordKind::Quorum`), and how far the log was applied
//! (`RecordKind::Applied`), before any record that rests on that. A journal has room for each of them when it is written:
//! what a client asks for waits for room, and what a peer says, a tick above all, is as if it had not come.
//!
//! Not here: what is decided (`controller`), and what a change means for partitions (`topics`).

mod drive;
mod proposals;
mod recall;
mod refusals;

use std::collections::{BTreeMap, VecDeque};

use crate::controller::Controller;
use crate::ids::Lsn;
use crate::raft::{Entry, LogId, Quorum};

pub(super) use proposals::Then;
pub(super) use recall::{Recalled, encode_state_head};

/// A node's part in the metadata quorum.
pub(super) struct Metadata {
    quorum: Quorum,
    /// While the node leads the quorum and knows what there is: the metadata as it will be when all that was proposed has
    /// committed.
    leading: Option<Controller>,
    /// What was proposed last, under this leadership.
    proposed: Option<LogId>,
    /// Bytes of what was proposed under this leadership and is not applied.
    under_way: usize,
    /// Entries that have committed and are not applied.
    committed: VecDeque<Entry>,
    /// What waits for an entry to be applied: by its index and the order in which they came.
    parked: BTreeMap<(u64, u64), proposals::Parked>,
    next_parked: u64,
    /// The newest record of metadata in the journal.
    newest: Option<Lsn>,
    /// Whether there is something to do for the quorum, or an entry to apply.
    is_due: bool,
}

impl Metadata {
    pub(super) fn new(quorum: Quorum, newest: Option<Lsn>) -> Metadata {
        Metadata {
            quorum,
            leading: None,
            proposed: None,
            under_way: 0,
            committed: VecDeque::new(),
            parked: BTreeMap::new(),
            next_parked: 0,
            newest,
            is_due: false,
        }
    }

    /// Whether there is something to do at the end of a step.
    pub(super) fn is_due(&self) -> bool {
        self.is_due
    }

    /// The part in the quorum itself.
    pub(super) fn quorum(&self) -> &Quorum {
        &self.quorum
    }

    /// The newest record of metadata in the journal.
    pub(super) fn newest(&self) -> Option<Lsn> {
        self.newest
    }

    /// Whether nobody else belongs to the quorum.
    pub(super) fn is_alone(&self) -> bool {
        self.quorum.membership().is_alone(self.quorum.me())
    }
}
