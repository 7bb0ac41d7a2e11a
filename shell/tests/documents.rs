//! What README and docs say of the program, held against the program.

use std::ffi::OsString;

use chronik_core::config::BROKER_KEYS;
use chronik_core::wire::ApiKey;
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
    for api in ApiKey::ALL.iter().filter(|api| api.is_served()) {
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
