//! `chronik-server cluster`: asks a running cluster how it is, and has it changed, by the admin requests that Kafka's own
//! tools use. Any broker will do: it forwards what it does not decide itself.
//!
//! Sequential, on one blocking connection; `status` besides asks every broker of several for the ends of its logs, each on
//! a connection and a thread of its own. What is decided here, which replica goes where, is pure (`placement`).

mod lags;
mod link;
mod members;
mod moves;
mod placement;
mod status;
mod table;
#[cfg(test)]
mod tests;
mod view;

use std::fmt;
use std::io::{self, Write};
use std::time::Duration;

use chronik_core::ids::{NodeId, Uuid};

use crate::cli::options::Address;
use lags::Lags;
use link::Link;
use view::View;

/// What is asked of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Errand {
    /// Brokers of it, of which the first that answers is asked.
    pub servers: Vec<Address>,
    /// How long a broker may take to answer.
    pub timeout: Duration,
    /// What.
    pub command: Command,
}

/// The commands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// How is it?
    Status,
    /// A node becomes a voter.
    AddNode {
        /// Its number.
        node: NodeId,
        /// Where it listens for other nodes.
        raft_addr: Address,
        /// Its data folder; where none is given, what the cluster knows of it counts.
        directory_id: Option<Uuid>,
    },
    /// A node is forgotten.
    RemoveNode {
        /// Its number.
        node: NodeId,
    },
    /// Replicas and leaders are spread evenly.
    Rebalance,
    /// A node leads a partition.
    MoveLeader {
        /// The topic's name.
        topic: String,
        /// The partition's index.
        partition: i32,
        /// The node.
        node: NodeId,
    },
    /// A node holds no replica any more.
    Drain {
        /// Its number.
        node: NodeId,
    },
}

/// What came of it.
#[derive(Debug)]
pub enum Outcome {
    /// All is well, or done.
    Well,
    /// Something is not as it should be, and has been said.
    Unwell,
}

/// Why an errand was not done.
#[derive(Debug)]
pub enum Fault {
    /// No broker answered as one does.
    Unreachable(String),
    /// The cluster, or this program in its place, declines.
    Refused(String),
    /// What was found cannot be said.
    Unwritable(io::Error),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Unreachable(why) | Fault::Refused(why) => f.write_str(why),
            Fault::Unwritable(why) => write!(f, "cannot write to standard output: {why}"),
        }
    }
}

impl std::error::Error for Fault {}

impl From<io::Error> for Fault {
    fn from(why: io::Error) -> Fault {
        Fault::Unwritable(why)
    }
}

/// Runs an errand, and tells on `out` what is found and done.
///
/// # Errors
/// See [`Fault`].
pub fn run(errand: &Errand, out: &mut impl Write) -> Result<Outcome, Fault> {
    let mut link = Link::connect(&errand.servers, errand.timeout)?;
    match &errand.command {
        Command::Status => {
            let view = View::of(&mut link)?;
            status::tell(&view, &Lags::of(&view, link, errand.timeout), out)
        }
        Command::AddNode { node, raft_addr, directory_id } => {
            members::add(&mut link, *node, raft_addr, *directory_id, out)
        }
        Command::RemoveNode { node } => members::remove(&mut link, *node, out),
        Command::Rebalance => moves::rebalance(&mut link, out),
        Command::MoveLeader { topic, partition, node } => moves::move_leader(&mut link, topic, *partition, *node, out),
        Command::Drain { node } => moves::drain(&mut link, *node, out),
    }
}
