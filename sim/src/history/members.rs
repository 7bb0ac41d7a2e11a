//! Who belongs to a cluster: what is asked of it, what is done to machines for it, and what brokers know of it.

use std::fmt;

/// A change of who belongs to a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// A broker gets a vote in the metadata quorum.
    Vote,
    /// Its vote is taken.
    NoVote,
    /// Its registration is forgotten.
    Forget,
}

/// What is done to a broker's machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// It is started, and again whenever its process ends.
    Start {
        /// With an empty disk, in which it is another member under the same number.
        empties: bool,
    },
    /// Its process is asked to stop, and stays down.
    Stop,
}

/// Who belongs to a cluster, as a broker knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Members {
    /// Who has a vote in the metadata quorum, after the change that is under way, if one is.
    pub voters: Vec<u32>,
    /// Whether one is.
    pub is_changing: bool,
    /// Who is registered.
    pub brokers: Vec<u32>,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Change::Vote => "give a vote to",
            Change::NoVote => "take the vote of",
            Change::Forget => "forget",
        })
    }
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Order::Start { empties: false } => "its operator starts it",
            Order::Start { empties: true } => "its operator starts it with an empty disk",
            Order::Stop => "its operator stops it",
        })
    }
}

impl fmt::Display for Members {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Members { voters, is_changing, brokers } = self;
        let so = if *is_changing { "are to vote" } else { "vote" };
        write!(f, "{voters:?} {so}, {brokers:?} are registered")
    }
}
