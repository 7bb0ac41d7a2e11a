//! What the broker runs with, once the command line, the environment and the file have been weighed.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use chronik_core::config::BrokerConfig;
use chronik_core::ids::NodeId;
use serde::Deserialize;
use tracing_subscriber::filter::Targets;

pub use super::address::Address;

/// Everything that a person can choose about one broker.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// This broker's number, 0 or more; fixed for the life of its data folder.
    pub node_id: NodeId,
    /// The folder that holds everything the broker keeps.
    pub data_dir: PathBuf,
    /// What an acknowledgement promises.
    pub durability: Durability,
    /// Which thread commits the journal.
    pub commit: CommitThread,
    /// Where clients connect; never empty, names and ports distinct. The first is the one inside its cluster.
    pub listeners: Vec<Listener>,
    /// Where `/metrics`, `/health` and `/ready` are served, if anywhere.
    pub metrics_addr: Option<Address>,
    /// As what it is part of a cluster; none where it stands alone.
    pub cluster: Option<ClusterOptions>,
    /// Kafka's broker settings.
    pub kafka: BrokerConfig,
    /// What is logged, and how.
    pub log: LogOptions,
}

/// As what a broker is part of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterOptions {
    /// Where it listens for other nodes. Port 0 takes any free port.
    pub raft_addr: Address,
    /// The address that the others are told to connect to; port 0 stands for the one that is bound.
    pub raft_advertised: Address,
    /// The other nodes and where they listen for it, as they were named.
    pub peers: BTreeMap<NodeId, Address>,
    /// Whether to make a cluster with them where none of them knows of one.
    pub bootstrap: bool,
}

/// A socket that clients connect to, with the address that they are told to use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// What the operator calls it: letters, digits, `-` and `_`.
    pub name: String,
    /// Where it is bound. Port 0 takes any free port.
    pub bind: Address,
    /// The host that clients of this listener are told to connect to.
    pub advertised_host: String,
    /// The port that clients of this listener are told to connect to; 0 stands for the one that is bound.
    pub advertised_port: u16,
}

impl Listener {
    /// The address that clients are told, once the listener is bound to `bound_port`.
    pub fn advertised(&self, bound_port: u16) -> Address {
        let port = if self.advertised_port == 0 { bound_port } else { self.advertised_port };
        Address { host: self.advertised_host.clone(), port }
    }
}

/// What has happened to a record by the time that its producer is told so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// It is on the disk: it survives a power cut
    #[default]
    Sync,
    /// The operating system has it: it survives a crash of the broker, not of the machine
    Os,
}

/// Which thread writes and syncs the journal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CommitThread {
    /// The one that serves the connections, unless a commit is large or that thread is busy: then one of its own
    #[default]
    Auto,
    /// The one that serves the connections, always: fewest hops between threads
    Inline,
    /// One of its own, always: a slow sync does not hold up reads
    Thread,
}

/// What is logged, and how.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogOptions {
    /// Which events are logged.
    pub level: LogLevel,
    /// How each is written.
    pub format: LogFormat,
}

/// How a logged event is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One line for people
    #[default]
    Text,
    /// One JSON object on a line, for collectors
    Json,
}

/// A level for everything, and levels for single modules: `info`, or `info,chronik_core=debug`. What the state machine has
/// to say is `chronik_core`'s, and what the server around it does is in modules of `chronik_server`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct LogLevel(String);

impl LogLevel {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

    /// The directives as they were given, known to be well-formed.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for LogLevel {
    fn default() -> LogLevel {
        LogLevel("info".to_owned())
    }
}

impl fmt::Display for LogLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for LogLevel {
    type Err = String;

    fn from_str(text: &str) -> Result<LogLevel, String> {
        let directives: Vec<&str> = text.split(',').map(str::trim).collect();
        for directive in &directives {
            // tracing would take a misspelt level for the name of a module and log all of it.
            let level = directive.split_once('=').map_or(*directive, |(_module, level)| level);
            if !LogLevel::LEVELS.contains(&level.to_ascii_lowercase().as_str()) {
                return Err(format!("`{level}` is no log level: give one of {}", LogLevel::LEVELS.join(", ")));
            }
        }
        let text = directives.join(",");
        text.parse::<Targets>().map_err(|why| format!("`{text}` are no log levels: {why}"))?;
        Ok(LogLevel(text))
    }
}

impl TryFrom<String> for LogLevel {
    type Error = String;
    fn try_from(text: String) -> Result<LogLevel, String> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_log_level_is_refused_wherever_it_stands() {
        for good in ["info", "WARN", "off", "warn,chronik_core::node=debug"] {
            assert_eq!(good.parse::<LogLevel>().map(|level| level.to_string()), Ok(good.to_owned()));
        }
        for bad in ["inof", "", "info,", "info,chronik_core=loud"] {
            assert!(bad.parse::<LogLevel>().is_err(), "{bad:?} was taken for a log level");
        }
    }

    #[test]
    fn the_bound_port_is_advertised_where_none_is_given() {
        let bind = Address { host: "0.0.0.0".to_owned(), port: 0 };
        let mut listener =
            Listener { name: "default".to_owned(), bind, advertised_host: "localhost".to_owned(), advertised_port: 0 };
        assert_eq!(listener.advertised(41_000).to_string(), "localhost:41000");
        listener.advertised_port = 9092;
        assert_eq!(listener.advertised(41_000).to_string(), "localhost:9092");
    }
}
