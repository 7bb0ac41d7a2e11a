//! What `chronik-server cluster` is told.

use std::str::FromStr;
use std::time::Duration;

use chronik_core::ids::{NodeId, Uuid};
use clap::{Args, Subcommand};

use super::UsageError;
use super::address::Address;
use super::settings::{PeerList, node_number};
use crate::cluster::{Command, Errand};

/// How long a broker may take to answer unless it is said otherwise: a new voter is waited for until it has caught up.
const TIMEOUT_SECONDS: u32 = 60;

#[derive(Args)]
pub(super) struct ErrandArgs {
    /// Brokers of the cluster; the first that answers is asked [default: localhost:9092]
    #[arg(long, global = true, value_name = "HOST:PORT,...")]
    bootstrap_servers: Option<Servers>,

    /// How long a broker may take to answer [default: 60]
    #[arg(long, global = true, value_name = "SECONDS", value_parser = seconds, allow_negative_numbers = true)]
    timeout: Option<u32>,

    #[command(subcommand)]
    command: ErrandCommand,
}

#[derive(Subcommand)]
enum ErrandCommand {
    /// Tell how the cluster is: nodes, quorum, partitions. Exit code 0: healthy, 1: unhealthy, 2: no broker answers
    Status,
    /// Have a node that runs become a voter of the metadata quorum
    AddNode {
        /// The node, and where it listens for other nodes
        #[arg(value_name = "NUMBER@HOST:PORT")]
        node: PeerList,
        /// The id of its data folder, as `meta.toml` in it has it [default: the one that it comes with]
        #[arg(long, value_name = "ID", value_parser = directory_id)]
        directory_id: Option<Uuid>,
    },
    /// Take a node out of the cluster that does not run, once it holds no replicas (see `drain`) or has lost them
    RemoveNode {
        /// The node's number
        #[arg(value_name = "NODE", value_parser = node_number, allow_negative_numbers = true)]
        node: i32,
    },
    /// Spread replicas and leaders evenly over the nodes, and wait until that is done
    Rebalance,
    /// Have a node lead a partition
    MoveLeader {
        /// The topic's name
        topic: String,
        /// The partition's index
        #[arg(value_parser = node_number, allow_negative_numbers = true)]
        partition: i32,
        /// The node's number; one of the partition's replicas, in sync
        #[arg(value_parser = node_number, allow_negative_numbers = true)]
        node: i32,
    },
    /// Move all replicas off a node, and wait until they are gone
    Drain {
        /// The node's number
        #[arg(value_name = "NODE", value_parser = node_number, allow_negative_numbers = true)]
        node: i32,
    },
}

fn seconds(text: &str) -> Result<u32, String> {
    let seconds = text.parse().ok().filter(|seconds| *seconds > 0);
    seconds.ok_or_else(|| format!("give a number of seconds from 1 to {}", u32::MAX))
}

fn directory_id(text: &str) -> Result<Uuid, String> {
    text.parse().map_err(|_| "give the 22 characters that stand as directory-id in its meta.toml".to_owned())
}

/// Brokers, as they were written down.
#[derive(Clone, Debug)]
struct Servers(Vec<Address>);

impl FromStr for Servers {
    type Err = String;

    fn from_str(text: &str) -> Result<Servers, String> {
        let words = text.split(',').map(str::trim).filter(|word| !word.is_empty());
        let servers: Vec<Address> = words
            .map(str::parse)
            .collect::<Result<_, _>>()
            .map_err(|why: super::address::NotAnAddress| why.to_string())?;
        if servers.is_empty() { Err("there is no address in it".to_owned()) } else { Ok(Servers(servers)) }
    }
}

impl ErrandArgs {
    pub(super) fn errand(self) -> Result<Errand, UsageError> {
        let ErrandArgs { bootstrap_servers, timeout, command } = self;
        let servers = bootstrap_servers
            .map_or_else(|| vec![Address { host: "localhost".to_owned(), port: 9092 }], |servers| servers.0);
        let timeout = Duration::from_secs(timeout.unwrap_or(TIMEOUT_SECONDS).into());
        let command = match command {
            ErrandCommand::Status => Command::Status,
            ErrandCommand::AddNode { node: PeerList(nodes), directory_id } => {
                let Ok([(node, raft_addr)]) = <[_; 1]>::try_from(nodes) else {
                    return Err(UsageError("add-node: nodes are added one at a time: name one".to_owned()));
                };
                Command::AddNode { node: NodeId(node), raft_addr, directory_id }
            }
            ErrandCommand::RemoveNode { node } => Command::RemoveNode { node: NodeId(node) },
            ErrandCommand::Rebalance => Command::Rebalance,
            ErrandCommand::MoveLeader { topic, partition, node } => {
                Command::MoveLeader { topic, partition, node: NodeId(node) }
            }
            ErrandCommand::Drain { node } => Command::Drain { node: NodeId(node) },
        };
        Ok(Errand { servers, timeout, command })
    }
}
