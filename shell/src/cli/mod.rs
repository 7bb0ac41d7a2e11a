//! The command line: what a person asks of the binary, as values.
//!
//! A setting may be given by a flag, by an environment variable or in the file, and the first of these that gives it
//! wins; where none does, there is a default. What comes out is [`Options`], checked as far as that goes without
//! touching the machine: nothing is bound, opened or resolved here, except that the file is read.

mod address;
mod cluster;
mod errand;
mod file;
pub mod options;
mod settings;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

use chronik_core::ids::NodeId;
use chronik_core::limits;
use clap::error::ErrorKind;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::cluster::Errand;
use address::{Address, HostAndMaybePort, check_host, is_wide, localhost_reaches};
use errand::ErrandArgs;
use options::{Durability, Listener, LogOptions, Options};
use settings::{ListenerSetting, Settings, variable_of};

/// What the binary is asked to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Invocation {
    /// Be a broker.
    Serve {
        /// How.
        options: Box<Options>,
        /// What is probably not meant, a line each, to be logged once there is a log.
        warnings: Vec<String>,
    },
    /// Print what a segment or journal file holds.
    Dump {
        /// The file.
        file: PathBuf,
    },
    /// Ask something of a cluster.
    Cluster(Errand),
    /// Print this and be done: help, or the version.
    Print(String),
}

/// Something about the command line, the environment or the file that cannot be obeyed: one line that names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsageError(String);

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for UsageError {}

/// A streaming broker that speaks the Kafka protocol
#[derive(Parser)]
#[command(name = "chronik-server", version, subcommand_precedence_over_arg = true)]
struct CommandLine {
    #[command(flatten)]
    settings: Settings,
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Subcommand)]
enum Action {
    /// Run one broker that is a cluster by itself; the default
    Standalone(Box<Settings>),
    /// Run one broker of a cluster
    RaftCluster(Box<Settings>),
    /// Ask a running cluster how it is, or have it changed; by way of any of its brokers
    Cluster(ErrandArgs),
    /// Print what a segment or journal file holds, record by record, without changing it
    Dump {
        /// The file
        file: PathBuf,
    },
    /// Print the version
    Version,
}

/// As what a broker runs.
#[derive(Clone, Copy)]
enum Role {
    Standalone,
    InCluster,
}

/// Reads `args`, of which the first is the program's own name, the `environment`, and the file that they name.
///
/// # Errors
/// At the first thing that cannot be obeyed, or that contradicts another.
pub fn parse(
    args: impl IntoIterator<Item = OsString>,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Invocation, UsageError> {
    let parsed = command().try_get_matches_from(args).and_then(|matches| CommandLine::from_arg_matches(&matches));
    let CommandLine { settings: before, action } = match parsed {
        Ok(parsed) => parsed,
        Err(told) if matches!(told.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => {
            return Ok(Invocation::Print(told.to_string()));
        }
        Err(why) => return Err(UsageError::on_command_line(&why)),
    };
    let alone = |name: &str| {
        if before == Settings::default() {
            Ok(())
        } else {
            Err(UsageError(format!("`{name}` takes none of the broker's flags: leave them out")))
        }
    };
    match action {
        Some(Action::Dump { file }) => alone("dump").map(|()| Invocation::Dump { file }),
        Some(Action::Cluster(args)) => alone("cluster").and_then(|()| args.errand()).map(Invocation::Cluster),
        Some(Action::Version) => alone("version").map(|()| Invocation::Print(version())),
        Some(Action::Standalone(after)) => serve(after.over_flags(before)?, environment, Role::Standalone),
        Some(Action::RaftCluster(after)) => serve(after.over_flags(before)?, environment, Role::InCluster),
        None => serve(before, environment, Role::Standalone),
    }
}

/// The version, as `chronik-server version` prints it.
pub fn version() -> String {
    format!("chronik-server {} ({}-{})\n", env!("CARGO_PKG_VERSION"), std::env::consts::ARCH, std::env::consts::OS)
}

fn command() -> clap::Command {
    // The variables are read by `Settings`, layer by layer, so clap is only told to mention them.
    let mention = |arg: clap::Arg| match (arg.get_long().map(variable_of), arg.get_help()) {
        (Some(variable), Some(help)) => {
            let help = format!("{help} [env: {variable}]");
            arg.help(help)
        }
        _ => arg,
    };
    CommandLine::command()
        .mut_args(mention)
        .mut_subcommand("standalone", |standalone| standalone.mut_args(mention).after_long_help(limits::describe()))
        .mut_subcommand("raft-cluster", |cluster| cluster.mut_args(mention).after_long_help(limits::describe()))
        .after_long_help(limits::describe())
}

fn serve(
    flags: Settings,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
    role: Role,
) -> Result<Invocation, UsageError> {
    flags.check_kafka("--set")?;
    let (variables, unknown) = Settings::from_environment(environment)?;
    let said = flags.over(variables);
    let settings = match &said.config {
        Some(path) => {
            let written = file::read(path)?;
            said.over(written)
        }
        None => said,
    };
    let mut warnings = Vec::new();
    if !unknown.is_empty() {
        warnings.push(format!("ignoring environment variables that name no setting: {}", unknown.join(", ")));
    }
    let options = Box::new(resolve(settings, role, &mut warnings)?);
    Ok(Invocation::Serve { options, warnings })
}

/// Puts defaults where nothing was said, and refuses what does not fit together.
fn resolve(settings: Settings, role: Role, warnings: &mut Vec<String>) -> Result<Options, UsageError> {
    let listeners = listeners(&settings, warnings)?;
    let node_id = NodeId(settings.node_id.unwrap_or(1));
    let cluster = match role {
        Role::Standalone => cluster::absent(&settings).map(|()| None)?,
        Role::InCluster => Some(cluster::resolve(&settings, node_id, &listeners, warnings)?),
    };
    if cluster.is_some() && settings.durability == Some(Durability::Os) {
        return Err(UsageError(
            "--durability os and raft-cluster do not go together: after a power cut a node that has lost records would \
             still count as one that has them; leave --durability at sync"
                .to_owned(),
        ));
    }
    let kafka = settings.kafka().map_err(|why| UsageError(why.to_string()))?;
    for (name, why) in kafka.without_effect() {
        warnings.push(format!("the Kafka setting {name} has no effect here: {why}"));
    }
    for (name, _) in kafka.to_be_shared().filter(|_| cluster.is_some()) {
        warnings.push(format!(
            "the Kafka setting {name} counts while this broker is the only one; of several all go by one value: set it for \
             all brokers (kafka-configs --entity-type brokers --entity-default)"
        ));
    }
    let Settings { data_dir, durability, commit, metrics_addr, log_level, log_format, .. } = settings;
    Ok(Options {
        node_id,
        data_dir: data_dir.unwrap_or_else(|| PathBuf::from("./data")),
        durability: durability.unwrap_or_default(),
        commit: commit.unwrap_or_default(),
        listeners,
        metrics_addr,
        cluster,
        kafka,
        log: LogOptions { level: log_level.unwrap_or_default(), format: log_format.unwrap_or_default() },
    })
}

fn listeners(settings: &Settings, warnings: &mut Vec<String>) -> Result<Vec<Listener>, UsageError> {
    let Settings { kafka_port, bind, advertised_addr, listener, .. } = settings;
    if listener.is_empty() {
        let bind =
            Address { host: bind.clone().unwrap_or_else(|| "0.0.0.0".to_owned()), port: kafka_port.unwrap_or(9092) };
        let only = ListenerSetting { name: "default".to_owned(), bind, advertised_addr: advertised_addr.clone() };
        check_advertised(advertised_addr.as_ref(), &said_by("advertised-addr"))?;
        return Ok(vec![resolve_listener(&only, "--bind", "--advertised-addr", warnings)?]);
    }
    let single = [
        ("--kafka-port", kafka_port.is_some()),
        ("--bind", bind.is_some()),
        ("--advertised-addr", advertised_addr.is_some()),
    ];
    if let Some((flag, _)) = single.iter().find(|(_, given)| *given) {
        return Err(UsageError(format!(
            "{flag} describes the only listener, and there are listeners by name (--listener, {}, or [[listener]]): \
             give its value there, or leave it out",
            variable_of("listener")
        )));
    }
    let mut names = BTreeSet::new();
    let mut binds = BTreeSet::new();
    let mut resolved = Vec::new();
    for setting in listener {
        let ListenerSetting { name, bind, .. } = setting;
        let well_named = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
        if !well_named {
            return Err(UsageError(format!("listener `{name}`: name it with letters, digits, `-` and `_`")));
        }
        if !names.insert(name) {
            return Err(UsageError(format!("two listeners are named `{name}`: rename one")));
        }
        if bind.port != 0 && !binds.insert((&bind.host, bind.port)) {
            return Err(UsageError(format!("listener `{name}`: {bind} is another listener's: give it another port")));
        }
        let whose = format!("listener `{name}`");
        check_advertised(setting.advertised_addr.as_ref(), &whose)?;
        let remedy = format!("its ADVERTISED_HOST ({name}=HOST:PORT,ADVERTISED_HOST)");
        resolved.push(resolve_listener(setting, &whose, &remedy, warnings)?);
    }
    Ok(resolved)
}

/// A setting that any layer may have, as its flag and its variable.
fn said_by(flag: &str) -> String {
    format!("--{flag} ({})", variable_of(flag))
}

/// Refuses an address, given in `whose`, that nobody who is told it can connect to.
fn check_advertised(address: Option<&HostAndMaybePort>, whose: &str) -> Result<(), UsageError> {
    match address {
        Some(HostAndMaybePort { host, .. }) if is_wide(host) => Err(UsageError(format!(
            "{whose}: {host} cannot be advertised, for nobody can connect to it: give the host's name or address"
        ))),
        Some(HostAndMaybePort { port: Some(0), .. }) => Err(UsageError(format!(
            "{whose}: port 0 cannot be advertised, for nobody can connect to it: give the port that leads here, or leave \
             it out for the one that is listened on"
        ))),
        _ => Ok(()),
    }
}

/// Decides what one listener advertises. `whose` names where its host was given, `remedy` where its advertised
/// address is to be given.
fn resolve_listener(
    setting: &ListenerSetting,
    whose: &str,
    remedy: &str,
    warnings: &mut Vec<String>,
) -> Result<Listener, UsageError> {
    let ListenerSetting { name, bind, advertised_addr } = setting;
    check_host(&bind.host).map_err(|why| UsageError(format!("{whose}: {why}")))?;
    let (advertised_host, advertised_port) = match advertised_addr {
        Some(HostAndMaybePort { host, port }) => (host.clone(), port.unwrap_or(bind.port)),
        None if localhost_reaches(&bind.host) => {
            if is_wide(&bind.host) {
                warnings.push(format!(
                    "listening on every interface ({bind}) but telling clients to connect to localhost, so clients on \
                     other machines will fail: give {remedy}"
                ));
            }
            ("localhost".to_owned(), bind.port)
        }
        // Bound to one address of the machine, the broker is not to be found at localhost.
        None => (bind.host.clone(), bind.port),
    };
    Ok(Listener { name: name.clone(), bind: bind.clone(), advertised_host, advertised_port })
}

#[cfg(test)]
mod tests;
