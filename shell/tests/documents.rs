//! What README and docs say of the program, held against the program.

use std::ffi::OsString;

use chronik_core::config::BROKER_KEYS;
use chronik_core::wire::ApiKey;
use chronik_server::cli::options::{ClusterOptions, Options};
use chronik_server::cli::{self, Invocation};

const README: &str = include_str!("../../README.md");
const CONFIGURATION: &str = include_str!("../../docs/operations/configuration.md");

/// The rows of `document`'s tables, as their cells, of which the first is `` `first` `` or `first`.
fn row<'a>(document: &'a str, first: &str) -> Option<Vec<&'a str>> {
    let cells = |line: &'a str| line.trim_matches('|').split('|').map(str::trim).collect::<Vec<_>>();
    document
        .lines()
        .filter(|line| line.starts_with('|'))
        .map(cells)
        .find(|cells| cells.first().is_some_and(|cell| cell.trim_matches('`') == first))
}

#[test]
fn readme_has_every_api_with_its_versions() {
    for api in ApiKey::ALL {
        let row = row(README, api.name()).unwrap_or_else(|| panic!("{} is not in README's table", api.name()));
        let versions = api.versions();
        let expect = if versions.start() == versions.end() {
            versions.start().to_string()
        } else {
            format!("{}-{}", versions.start(), versions.end())
        };
        assert_eq!(row[1..3], [(*api as i16).to_string(), expect], "{}", api.name());
    }
}

#[test]
fn the_configuration_page_has_every_obeyed_setting_with_its_default() {
    let rows = BROKER_KEYS.iter().map(|known| {
        let key = &known.key;
        format!("| `{}` | {} | {} |", key.name, key.default.unwrap_or("not set"), key.doc)
    });
    let missing: Vec<String> = rows.filter(|row| !CONFIGURATION.lines().any(|line| line == row)).collect();
    assert!(missing.is_empty(), "missing from the page:\n{}", missing.join("\n"));
}

#[test]
fn the_example_file_is_taken() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/operations/chronik.toml");
    let args = ["chronik-server", "--config", file].map(OsString::from);
    let Invocation::Serve { options, warnings } = cli::parse(args, []).expect("the example is a good file") else {
        panic!("the example does not make a broker");
    };
    assert_eq!(options.listeners.len(), 2);
    assert_eq!(options.kafka.num_partitions, 3);
    assert_eq!(warnings, [""; 0], "the example shows only what has an effect and warns of nothing");
}

const COMPOSE: &str = include_str!("../../docs/operations/compose.yaml");
const UNIT: &str = include_str!("../../docs/operations/chronik-server.service");
const CLUSTER: &str = include_str!("../../docs/operations/cluster.md");

fn options(args: &[&str], variables: &[(&str, &str)]) -> Options {
    let variables = variables.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
    match cli::parse(args.iter().map(OsString::from), variables) {
        Ok(Invocation::Serve { options, warnings }) => {
            assert_eq!(warnings, [""; 0], "an example warns of nothing");
            *options
        }
        other => panic!("{args:?} gave {other:?}"),
    }
}

#[test]
fn the_unit_runs_a_node_of_the_example_file() {
    let command = UNIT.lines().find_map(|line| line.strip_prefix("ExecStart=")).expect("a command");
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/operations/cluster.toml");
    let args: Vec<&str> =
        command.split_whitespace().map(|arg| if arg.ends_with(".toml") { file } else { arg }).collect();
    let cluster = options(&args, &[]).cluster.expect("a node of a cluster");
    assert_eq!((cluster.peers.len(), cluster.bootstrap), (2, true));
    assert_eq!(cluster.raft_advertised.to_string(), "broker-1.example.org:9192");
}

#[test]
fn the_containers_are_one_cluster() {
    let variables: Vec<(&str, &str)> = COMPOSE
        .lines()
        .map(str::trim)
        .filter(|line| line.starts_with("CHRONIK_"))
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name, value.trim_matches('"')))
        .collect();
    let starts: Vec<usize> = (0..variables.len()).filter(|&at| variables[at].0 == "CHRONIK_NODE_ID").collect();
    let (settings, nodes) = variables.split_at(starts[0]);
    let nodes: Vec<ClusterOptions> = nodes
        .chunks(nodes.len() / starts.len())
        .map(|of_node| options(&["chronik-server", "raft-cluster"], &[settings, of_node].concat()))
        .map(|options| options.cluster.expect("a node of a cluster"))
        .collect();
    assert_eq!(nodes.len(), 3);
    for node in &nodes {
        let others = nodes.iter().filter(|other| *other != node).map(|other| &other.raft_advertised);
        assert!(node.peers.values().eq(others), "each names the others, where they are");
    }
}

#[test]
fn the_page_on_clusters_shows_commands_that_are_taken() {
    let joined = CLUSTER.replace("\\\n", "");
    let commands = joined.lines().filter_map(|line| {
        let line = line.strip_prefix("$ ").unwrap_or(line);
        line.starts_with("chronik-server ").then(|| line.split(" #").next().expect("a part"))
    });
    let mut count = 0;
    for command in commands {
        let args = command.split_whitespace().map(|arg| OsString::from(arg.trim_matches('"')));
        let taken = cli::parse(args, []);
        assert!(matches!(taken, Ok(Invocation::Serve { .. } | Invocation::Cluster(_))), "{command}: {taken:?}");
        count += 1;
    }
    assert!(count >= 10, "{count} commands were found");
}
