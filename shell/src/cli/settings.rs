//! One layer of settings: what was said by flags, or by environment variables, or in the file.
//!
//! All three are read into the same [`Settings`], in which a setting that was not mentioned is absent, so that the
//! precedence between them is one function, [`Settings::over`].

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt::Display;
use std::path::PathBuf;
use std::str::FromStr;

use chronik_core::config::{BrokerConfig, ConfigError};
use clap::error::{ContextKind, ContextValue};
use clap::{Args, FromArgMatches};
use serde::de::Error;
use serde::{Deserialize, Deserializer};

use super::UsageError;
use super::address::{Address, HostAndMaybePort, check_host};
use super::options::{CommitThread, Durability, LogFormat, LogLevel};

/// What one source says. Docstrings are the texts of `--help`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Settings {
    /// Port that Kafka clients connect to; 0 takes any free one [default: 9092]
    #[arg(long, value_name = "PORT", value_parser = port, allow_negative_numbers = true)]
    #[serde(alias = "kafka_port", deserialize_with = "written_port")]
    pub(super) kafka_port: Option<u16>,

    /// Host or IP address to listen on [default: 0.0.0.0, which is every interface]
    #[arg(long, value_name = "HOST", value_parser = host)]
    pub(super) bind: Option<String>,

    /// Address that clients are told to connect to [default: what is listened on; localhost where that is every interface]
    #[arg(long, value_name = "HOST[:PORT]")]
    #[serde(alias = "advertised_addr")]
    pub(super) advertised_addr: Option<HostAndMaybePort>,

    /// A further way in, with its own address; repeat it for several. Replaces --bind, --kafka-port and
    /// --advertised-addr, which describe the only listener when there is one
    #[arg(long, value_name = "NAME=HOST:PORT[,ADVERTISED_HOST[:PORT]]", value_delimiter = ';')]
    #[serde(skip)]
    pub(super) listener: Vec<ListenerSetting>,

    /// Folder that holds everything the broker keeps [default: ./data]
    #[arg(long, value_name = "FOLDER")]
    #[serde(alias = "data_dir")]
    pub(super) data_dir: Option<PathBuf>,

    /// This broker's number, fixed for the life of its data folder [default: 1]
    #[arg(long, value_name = "NUMBER", value_parser = node_number, allow_negative_numbers = true)]
    #[serde(alias = "node_id", deserialize_with = "written_node_number")]
    pub(super) node_id: Option<i32>,

    /// What an acknowledgement promises [default: sync]
    #[arg(long, value_name = "MODE")]
    pub(super) durability: Option<Durability>,

    /// Which thread commits the journal [default: auto]
    #[arg(long, value_name = "THREAD")]
    pub(super) commit: Option<CommitThread>,

    /// Serve /metrics (Prometheus text), /health and /ready here [default: not served]
    #[arg(long, value_name = "HOST:PORT")]
    #[serde(alias = "metrics_addr")]
    pub(super) metrics_addr: Option<Address>,

    /// In a cluster: host or IP address and port to listen on for the other nodes
    #[arg(long, value_name = "HOST:PORT")]
    #[serde(alias = "raft_addr")]
    pub(super) raft_addr: Option<Address>,

    /// In a cluster: address that the other nodes are told to connect to [default: that of --raft-addr; where it is every
    /// interface, the host that clients are told]
    #[arg(long, value_name = "HOST[:PORT]")]
    #[serde(alias = "raft_advertised_addr")]
    pub(super) raft_advertised_addr: Option<HostAndMaybePort>,

    /// In a cluster: the other nodes, each as its number and the address that it listens on for nodes
    #[arg(long, value_name = "NUMBER@HOST:PORT,...")]
    pub(super) peers: Option<PeerList>,

    /// In a cluster: where no node knows of one yet, make one of this node and --peers; may stand on every node, and
    /// stay there [default: false]
    #[arg(long, value_name = "true|false", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(super) bootstrap: Option<bool>,

    /// Read settings from this TOML file; flags and environment variables win over it
    #[arg(long, value_name = "FILE")]
    #[serde(skip)]
    pub(super) config: Option<PathBuf>,

    /// A Kafka broker setting, such as num.partitions=3; repeat it for several
    #[arg(long, value_name = "KEY=VALUE", value_delimiter = ';')]
    #[serde(skip)]
    pub(super) set: Vec<KafkaSetting>,

    /// Least important events to log: off, error, warn, info, debug, trace; MODULE=LEVEL for one module [default: info]
    #[arg(long, value_name = "LEVEL[,MODULE=LEVEL]")]
    #[serde(alias = "log_level")]
    pub(super) log_level: Option<LogLevel>,

    /// How events are logged, on standard error [default: text]
    #[arg(long, value_name = "FORMAT")]
    #[serde(alias = "log_format")]
    pub(super) log_format: Option<LogFormat>,
}

/// A listener as it was written down.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct ListenerSetting {
    pub(super) name: String,
    pub(super) bind: Address,
    #[serde(default, alias = "advertised_addr")]
    pub(super) advertised_addr: Option<HostAndMaybePort>,
}

/// Other nodes of a cluster, as they were written down.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct PeerList(pub(super) Vec<(i32, Address)>);

/// The parsers of numbers say which ones there are: Rust's own speak of digits and types.
fn port(text: &str) -> Result<u16, String> {
    text.parse().map_err(|_| format!("give a number from 0 to {}", u16::MAX))
}

/// A node's number, or a partition's.
pub(super) fn node_number(text: &str) -> Result<i32, String> {
    let number = text.parse().ok().filter(|number: &i32| *number >= 0);
    number.ok_or_else(|| format!("give a number from 0 to {}", i32::MAX))
}

fn host(text: &str) -> Result<String, String> {
    check_host(text).map(|()| text.to_owned()).map_err(|why| why.to_string())
}

fn written_port<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u16>, D::Error> {
    written(from, port)
}

fn written_node_number<'de, D: Deserializer<'de>>(from: D) -> Result<Option<i32>, D::Error> {
    written(from, node_number)
}

/// A number in the file, with the same words for one that is none.
fn written<'de, D: Deserializer<'de>, T>(
    from: D,
    parse: impl Fn(&str) -> Result<T, String>,
) -> Result<Option<T>, D::Error> {
    let value = toml::Value::deserialize(from)?;
    let text = value.as_integer().map_or_else(String::new, |number| number.to_string());
    parse(&text).map(Some).map_err(|why| D::Error::custom(format!("invalid value: {value}: {why}")))
}

/// One of Kafka's broker settings, by its own name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct KafkaSetting {
    pub(super) name: String,
    pub(super) value: String,
}

impl Settings {
    /// This layer where it says something, the one `below` it where it does not.
    ///
    /// Listeners are taken from one layer as a whole: a list stitched together from several could not be shortened.
    /// Kafka's settings are many independent ones, so they are weighed name by name.
    pub(super) fn over(self, below: Settings) -> Settings {
        Settings {
            kafka_port: self.kafka_port.or(below.kafka_port),
            bind: self.bind.or(below.bind),
            advertised_addr: self.advertised_addr.or(below.advertised_addr),
            listener: if self.listener.is_empty() { below.listener } else { self.listener },
            data_dir: self.data_dir.or(below.data_dir),
            node_id: self.node_id.or(below.node_id),
            durability: self.durability.or(below.durability),
            commit: self.commit.or(below.commit),
            metrics_addr: self.metrics_addr.or(below.metrics_addr),
            raft_addr: self.raft_addr.or(below.raft_addr),
            raft_advertised_addr: self.raft_advertised_addr.or(below.raft_advertised_addr),
            peers: self.peers.or(below.peers),
            bootstrap: self.bootstrap.or(below.bootstrap),
            config: self.config.or(below.config),
            set: {
                let named = |set: Vec<KafkaSetting>| set.into_iter().map(|KafkaSetting { name, value }| (name, value));
                let weighed: BTreeMap<_, _> = named(below.set).chain(named(self.set)).collect();
                weighed.into_iter().map(|(name, value)| KafkaSetting { name, value }).collect()
            },
            log_level: self.log_level.or(below.log_level),
            log_format: self.log_format.or(below.log_format),
        }
    }

    /// The flags behind a subcommand, and where they say nothing those `before` it.
    pub(super) fn over_flags(self, before: Settings) -> Result<Settings, UsageError> {
        before.check_kafka("--set")?;
        self.check_kafka("--set")?;
        Ok(self.over(before))
    }

    /// Refuses a setting that Kafka does not know, a value that it may not have, and one that is given twice in this
    /// layer; `whose` names the layer to the reader. Whether some contradict each other, all layers together say.
    pub(super) fn check_kafka(&self, whose: impl Display) -> Result<(), UsageError> {
        BrokerConfig::check_part(self.pairs()).map_err(|why| UsageError(format!("{whose}: {}", advised(&why))))
    }

    /// Kafka's broker settings, where this is all of them.
    pub(super) fn kafka(&self) -> Result<BrokerConfig, ConfigError> {
        BrokerConfig::parse(self.pairs())
    }

    fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.set.iter().map(|KafkaSetting { name, value }| (name.as_str(), value.as_str()))
    }

    /// The layer that environment variables make, and the names of those that look like settings and are none.
    pub(super) fn from_environment(
        environment: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<(Settings, Vec<String>), UsageError> {
        let flags = Settings::augment_args(clap::Command::new("chronik-server").no_binary_name(true));
        let mut settings = Settings::default();
        let mut unknown = Vec::new();
        for (variable, value) in environment {
            let Some(variable) = variable.to_str().filter(|name| name.starts_with(PREFIX)) else { continue };
            // Compose files and CI systems set a variable to nothing where they mean to leave it out.
            if value.is_empty() {
                continue;
            }
            let Some(flag) =
                flags.get_arguments().filter_map(clap::Arg::get_long).find(|flag| variable_of(flag) == variable)
            else {
                unknown.push(variable.to_owned());
                continue;
            };
            let mut argument = OsString::from(format!("--{flag}="));
            argument.push(&value);
            let said = flags
                .clone()
                .try_get_matches_from([argument])
                .and_then(|matches| Settings::from_arg_matches(&matches))
                .map_err(|why| UsageError::in_variable(variable, &why))?;
            said.check_kafka(format_args!("in the environment: {variable}"))?;
            settings = said.over(settings);
        }
        unknown.sort_unstable();
        Ok((settings, unknown))
    }
}

const PREFIX: &str = "CHRONIK_";

/// What is wrong with a Kafka setting, and where to look where nothing can be guessed.
pub(super) fn advised(why: &ConfigError) -> String {
    match why {
        ConfigError::Unknown { nearest: None, .. } => {
            format!(
                "{why} Give one of Kafka's broker settings; docs/operations/configuration.md lists those that are obeyed"
            )
        }
        why => why.to_string(),
    }
}

/// The environment variable that says the same as the flag `--{flag}`.
pub(super) fn variable_of(flag: &str) -> String {
    format!("{PREFIX}{}", flag.to_ascii_uppercase().replace('-', "_"))
}

impl UsageError {
    /// What clap has to say about the command line, on one line.
    pub(super) fn on_command_line(why: &clap::Error) -> UsageError {
        UsageError(format!("{} (see `chronik-server --help`)", first_words(why)))
    }

    fn in_variable(variable: &str, why: &clap::Error) -> UsageError {
        let words = first_words(why);
        // clap names the flag that it was given; the reader set a variable.
        let words = match why.get(ContextKind::InvalidArg) {
            Some(ContextValue::String(flag)) => words.replace(flag.as_str(), variable),
            _ => words,
        };
        // Of bytes that are no text it names nothing.
        let words = if words.contains(variable) { words } else { format!("{variable}: {words}") };
        UsageError(format!("in the environment: {words} (see `chronik-server --help`)"))
    }
}

/// clap's explanation without its paragraphs: the fault, its hints, and not the usage that follows.
fn first_words(why: &clap::Error) -> String {
    let text = why.to_string();
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let kept: Vec<&str> =
        lines.take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more")).collect();
    let mut words = String::new();
    for line in kept {
        let line = line.strip_prefix("error: ").unwrap_or(line);
        // What is allowed, and what is missing, belongs to the words before it; a hint stands for itself.
        let choice = line.strip_prefix('[').and_then(|line| line.strip_suffix(']'));
        words.push_str(match choice {
            _ if words.is_empty() => "",
            Some(_) => ": ",
            None if words.ends_with(':') => " ",
            None => "; ",
        });
        words.push_str(choice.unwrap_or(line));
    }
    words
}

impl FromStr for ListenerSetting {
    type Err = String;

    fn from_str(text: &str) -> Result<ListenerSetting, String> {
        let (name, addresses) = text.split_once('=').ok_or("a listener is written NAME=HOST:PORT")?;
        let (bind, advertised) = match addresses.split_once(',') {
            Some((bind, advertised)) => (bind, Some(advertised)),
            None => (addresses, None),
        };
        Ok(ListenerSetting {
            name: name.to_owned(),
            bind: bind.parse::<Address>().map_err(|why| why.to_string())?,
            advertised_addr: advertised.map(HostAndMaybePort::from_str).transpose().map_err(|why| why.to_string())?,
        })
    }
}

impl FromStr for PeerList {
    type Err = String;

    fn from_str(text: &str) -> Result<PeerList, String> {
        let words = text.split(',').map(str::trim).filter(|word| !word.is_empty());
        let peers = words.map(|word| {
            let (number, address) =
                word.split_once('@').ok_or_else(|| format!("`{word}` is no node: write NUMBER@HOST:PORT"))?;
            let number = number.parse::<i32>().ok().filter(|number| *number >= 0);
            let number = number.ok_or_else(|| format!("`{word}`: a node's number is one from 0 to {}", i32::MAX))?;
            let address = address.parse::<Address>().map_err(|why| format!("`{word}`: {why}"))?;
            Ok((number, address))
        });
        peers.collect::<Result<_, String>>().map(PeerList)
    }
}

impl TryFrom<String> for PeerList {
    type Error = String;
    fn try_from(text: String) -> Result<PeerList, String> {
        text.parse()
    }
}

impl FromStr for KafkaSetting {
    type Err = String;

    fn from_str(text: &str) -> Result<KafkaSetting, String> {
        match text.split_once('=') {
            Some((name, value)) if !name.trim().is_empty() => {
                Ok(KafkaSetting { name: name.trim().to_owned(), value: value.trim().to_owned() })
            }
            _ => Err("a setting is written KEY=VALUE".to_owned()),
        }
    }
}

/// `text` as the operating system hands it in.
#[cfg(test)]
pub(super) fn os(text: &str) -> OsString {
    text.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(environment: &[(&str, &str)]) -> Result<(Settings, Vec<String>), UsageError> {
        Settings::from_environment(environment.iter().map(|(name, value)| (os(name), os(value))))
    }

    fn check(variable: &str, value: &str, expect: &str) {
        let why = said(&[(variable, value)]).expect_err("a bad value was taken");
        assert_eq!(why.to_string(), expect);
    }

    #[test]
    fn every_flag_has_a_variable() {
        let (settings, unknown) = said(&[
            ("CHRONIK_KAFKA_PORT", "1"),
            ("CHRONIK_BIND", "::1"),
            ("CHRONIK_ADVERTISED_ADDR", "broker"),
            ("CHRONIK_LISTENER", "in=0.0.0.0:1;out=0.0.0.0:2,host:3"),
            ("CHRONIK_DATA_DIR", "/d"),
            ("CHRONIK_NODE_ID", "7"),
            ("CHRONIK_DURABILITY", "os"),
            ("CHRONIK_COMMIT", "thread"),
            ("CHRONIK_METRICS_ADDR", "localhost:9100"),
            ("CHRONIK_RAFT_ADDR", "0.0.0.0:9192"),
            ("CHRONIK_RAFT_ADVERTISED_ADDR", "broker:9292"),
            ("CHRONIK_PEERS", "2@two:9192, 3@[::1]:9192"),
            ("CHRONIK_BOOTSTRAP", "true"),
            ("CHRONIK_CONFIG", "file"),
            ("CHRONIK_SET", "num.partitions=3;delete.topic.enable=false"),
            ("CHRONIK_LOG_LEVEL", "debug"),
            ("CHRONIK_LOG_FORMAT", "json"),
        ])
        .expect("good values");
        assert_eq!(unknown, [""; 0]);
        assert_eq!(settings.listener.len(), 2);
        assert_eq!(settings.set.len(), 2);
        let Settings { kafka_port, bind, advertised_addr, data_dir, node_id, peers, bootstrap, .. } = settings;
        assert_eq!((peers.map(|peers| peers.0.len()), bootstrap), (Some(2), Some(true)));
        assert_eq!((kafka_port, bind.as_deref(), node_id), (Some(1), Some("::1"), Some(7)));
        assert_eq!(advertised_addr.map(|addr| addr.host), Some("broker".to_owned()));
        assert_eq!(data_dir, Some(PathBuf::from("/d")));
    }

    #[test]
    fn a_bad_value_is_laid_to_its_variable() {
        check(
            "CHRONIK_KAFKA_PORT",
            "tcp://10.0.0.1:9092",
            "in the environment: invalid value 'tcp://10.0.0.1:9092' for 'CHRONIK_KAFKA_PORT': give a number from 0 to 65535 \
             (see `chronik-server --help`)",
        );
        check(
            "CHRONIK_DURABILITY",
            "never",
            "in the environment: invalid value 'never' for 'CHRONIK_DURABILITY': possible values: sync, os (see \
             `chronik-server --help`)",
        );
        check(
            "CHRONIK_PEERS",
            "2@two:9192,three:9192",
            "in the environment: invalid value '2@two:9192,three:9192' for 'CHRONIK_PEERS': `three:9192` is no node: write \
             NUMBER@HOST:PORT (see `chronik-server --help`)",
        );
        check(
            "CHRONIK_NODE_ID",
            "-1",
            "in the environment: invalid value '-1' for 'CHRONIK_NODE_ID': give a number from 0 to 2147483647 (see \
             `chronik-server --help`)",
        );
        check(
            "CHRONIK_BIND",
            "a b",
            "in the environment: invalid value 'a b' for 'CHRONIK_BIND': `a b` is neither a host name nor an IP address \
             (see `chronik-server --help`)",
        );
    }

    #[test]
    fn a_value_that_is_no_text_is_laid_to_its_variable() {
        use std::os::unix::ffi::OsStringExt;
        let value = OsString::from_vec(b"\xff".to_vec());
        let why = Settings::from_environment([(os("CHRONIK_KAFKA_PORT"), value)]).expect_err("no number").to_string();
        assert!(why.starts_with("in the environment: CHRONIK_KAFKA_PORT: "), "{why}");
    }

    #[test]
    fn an_empty_variable_says_nothing_and_a_misspelt_one_is_named() {
        let (settings, unknown) = said(&[("CHRONIK_BIND", ""), ("CHRONIK_KAFKA_PROT", "1"), ("PATH", "/bin")])
            .expect("nothing that could be wrong");
        assert_eq!(settings, Settings::default());
        assert_eq!(unknown, ["CHRONIK_KAFKA_PROT"]);
    }

    #[test]
    fn kafka_settings_are_weighed_name_by_name_and_listeners_as_a_whole() {
        let (above, _) = said(&[("CHRONIK_SET", "num.partitions=1;log.retention.ms=2"), ("CHRONIK_LISTENER", "x=h:1")])
            .expect("good values");
        let (below, _) = said(&[
            ("CHRONIK_SET", "log.retention.ms=3;log.segment.bytes=4194304"),
            ("CHRONIK_LISTENER", "y=h:1;z=h:2"),
        ])
        .expect("good values");
        let weighed = above.over(below);
        let set: Vec<String> = weighed.set.iter().map(|s| format!("{}={}", s.name, s.value)).collect();
        assert_eq!(set, ["log.retention.ms=2", "log.segment.bytes=4194304", "num.partitions=1"]);
        assert_eq!(weighed.listener.iter().map(|l| l.name.as_str()).collect::<Vec<_>>(), ["x"]);
    }
}
