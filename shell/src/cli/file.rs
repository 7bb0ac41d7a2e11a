//! The configuration file: `[server]`, `[[listener]]` and `[kafka]` in TOML.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::fs;
use std::path::Path;

use chronik_core::config::{BrokerConfig, ConfigError};
use serde::Deserialize;
use toml::de::{DeTable, DeValue};
use toml::{Spanned, Table};

use super::UsageError;
use super::settings::{KafkaSetting, ListenerSetting, Settings, advised};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    server: Settings,
    #[serde(default)]
    listener: Vec<ListenerSetting>,
    /// Only that it is a table: its settings are read with their places.
    #[serde(default, rename = "kafka")]
    _kafka: Table,
}

/// The layer that the file at `path` makes.
pub(super) fn read(path: &Path) -> Result<Settings, UsageError> {
    let text = fs::read_to_string(path).map_err(|why| {
        UsageError(format!(
            "cannot read the configuration file {}: {why}: name a file that the user that runs the broker can read with \
             --config (or CHRONIK_CONFIG), or leave it out",
            path.display()
        ))
    })?;
    parse(&text, path.display())
}

fn parse(text: &str, name: impl Display) -> Result<Settings, UsageError> {
    let fault = |why: toml::de::Error| UsageError(located(text, &name, &why));
    let file: File = toml::from_str(text).map_err(fault)?;
    let document = DeTable::parse(text).map_err(fault)?;
    let set = match document.get_ref().get("kafka").map(Spanned::get_ref) {
        Some(DeValue::Table(kafka)) => kafka_settings(kafka, text, &name)?,
        _ => Vec::new(),
    };
    Ok(Settings { listener: file.listener, set, ..file.server })
}

/// What is under `[kafka]`. Each is judged by itself, so that the line is known of the one that cannot be.
fn kafka_settings(kafka: &DeTable<'_>, text: &str, name: impl Display) -> Result<Vec<KafkaSetting>, UsageError> {
    let mut written = Vec::new();
    flatten("", kafka, &mut written);
    written.sort_by_key(|written| written.at);
    let mut known = BTreeSet::new();
    let mut set = Vec::new();
    for Written { at, name: key, value } in written {
        let fault = |why: String| UsageError(format!("{name}, line {}, [kafka]: {why}", line_at(text, at)));
        let Some(value) = value else {
            return Err(fault(format!("`{key}` must be a text, a number, true or false")));
        };
        let pair = (key.as_str(), value.as_str());
        BrokerConfig::check_part([pair]).map_err(|why| fault(advised(&why)))?;
        if !known.insert(key.clone()) {
            return Err(fault(ConfigError::Twice { name: key }.to_string()));
        }
        set.push(KafkaSetting { name: key, value });
    }
    Ok(set)
}

/// The number of the line that holds byte `at` of `text`, from 1.
fn line_at(text: &str, at: usize) -> usize {
    text.get(..at).unwrap_or(text).matches('\n').count() + 1
}

/// Where the fault is and what it is, on one line.
fn located(text: &str, name: impl Display, why: &toml::de::Error) -> String {
    let fault = why.message().lines().map(str::trim).collect::<Vec<_>>().join("; ");
    // Every key is listed in both its spellings; one is enough for the reader.
    let is_second_spelling = |word: &str| word.starts_with('`') && word.ends_with('`') && word.contains('_');
    let fault = fault.split(", ").filter(|word| !is_second_spelling(word)).collect::<Vec<_>>().join(", ");
    let Some(span) = why.span() else { return format!("{name}: {fault}") };
    let number = line_at(text, span.start);
    let line = text.lines().nth(number - 1).unwrap_or_default().trim();
    format!("{name}, line {number} `{line}`: {fault}")
}

/// One Kafka setting as the file has it.
struct Written {
    /// The byte at which its value begins.
    at: usize,
    name: String,
    /// `None` where no Kafka setting can have it.
    value: Option<String>,
}

/// Kafka's names are dotted, and TOML reads an unquoted `num.partitions = 3` as a table `num`: both spellings mean the
/// same here.
fn flatten(prefix: &str, table: &DeTable<'_>, set: &mut Vec<Written>) {
    for (key, value) in table {
        let name = if prefix.is_empty() { key.to_string() } else { format!("{prefix}.{key}") };
        let text = match value.get_ref() {
            DeValue::String(text) => Some(text.to_string()),
            DeValue::Integer(number) => {
                i64::from_str_radix(number.as_str(), number.radix()).ok().map(|number| number.to_string())
            }
            DeValue::Float(number) => number.as_str().parse::<f64>().ok().map(|number| number.to_string()),
            DeValue::Boolean(flag) => Some(flag.to_string()),
            DeValue::Table(inner) => {
                flatten(&name, inner, set);
                continue;
            }
            DeValue::Array(_) | DeValue::Datetime(_) => None,
        };
        set.push(Written { at: value.span().start, name, value: text });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_error(text: &str, expect: &str) {
        let why = parse(text, "chronik.toml").expect_err("a bad file was taken");
        assert_eq!(why.to_string(), expect);
    }

    #[test]
    fn server_keys_are_the_flags_in_either_spelling() {
        let kebab = "[server]\nkafka-port = 1\ndata-dir = '/d'\nadvertised-addr = 'h:1'\nlog-level = 'debug'";
        let snake = "[server]\nkafka_port = 1\ndata_dir = '/d'\nadvertised_addr = 'h:1'\nlog_level = 'debug'";
        let read = parse(kebab, "kebab").expect("a good file");
        assert_eq!(read, parse(snake, "snake").expect("a good file"));
        assert_eq!(read.kafka_port, Some(1));
    }

    #[test]
    fn kafka_settings_are_taken_quoted_and_unquoted() {
        let text = "[kafka]\n\"auto.create.topics.enable\" = true\nnum.partitions = 3\nlog.retention.ms = -1\n\
                    log.segment.bytes = \"1048576\"\nlog.cleaner.min.cleanable.ratio = 0.5";
        let mut set: Vec<String> = parse(text, "file")
            .expect("a good file")
            .set
            .into_iter()
            .map(|KafkaSetting { name, value }| format!("{name}={value}"))
            .collect();
        set.sort();
        assert_eq!(
            set,
            [
                "auto.create.topics.enable=true",
                "log.cleaner.min.cleanable.ratio=0.5",
                "log.retention.ms=-1",
                "log.segment.bytes=1048576",
                "num.partitions=3",
            ]
        );
    }

    #[test]
    fn listeners_are_tables() {
        let text = "[[listener]]\nname = 'internal'\nbind = '0.0.0.0:9092'\n\
                    [[listener]]\nname = 'external'\nbind = '0.0.0.0:9093'\nadvertised-addr = 'broker.example.org:443'";
        let listeners = parse(text, "file").expect("a good file").listener;
        assert_eq!(listeners[0].advertised_addr, None);
        assert_eq!(listeners[1].advertised_addr.as_ref().and_then(|addr| addr.port), Some(443));
    }

    #[test]
    fn a_fault_is_named_with_its_line() {
        check_error(
            "[server]\nkafka-port = 70000",
            "chronik.toml, line 2 `kafka-port = 70000`: invalid value: 70000: give a number from 0 to 65535",
        );
        check_error(
            "[server]\nkafka-port = 'x'",
            "chronik.toml, line 2 `kafka-port = 'x'`: invalid value: \"x\": give a number from 0 to 65535",
        );
        check_error(
            "[server]\nnode-id = -1",
            "chronik.toml, line 2 `node-id = -1`: invalid value: -1: give a number from 0 to 2147483647",
        );
        check_error(
            "[server]\nmetrics-addr = 'here'",
            "chronik.toml, line 2 `metrics-addr = 'here'`: `here` has no port: write HOST:PORT",
        );
        check_error(
            "[kafka]\nnum.partitions = [3]",
            "chronik.toml, line 2, [kafka]: `num.partitions` must be a text, a number, true or false",
        );
        check_error(
            "[kafka]\ndelete.topic.enable = true\n[server]\n[kafka.num]\npartition = 3",
            "chronik.toml, line 5, [kafka]: Unknown broker config name: num.partition. Did you mean num.partitions?",
        );
        check_error(
            "[kafka]\n\n\"num.partitions\" = 0",
            "chronik.toml, line 3, [kafka]: Invalid value \"0\" for num.partitions: allowed is at least 1.",
        );
        check_error(
            "[kafka]\nnum.partitions = 2\n\"num.partitions\" = 2",
            "chronik.toml, line 3, [kafka]: The config num.partitions is given twice.",
        );
        check_error(
            "[kafka]\nflying.carpets = 2",
            "chronik.toml, line 2, [kafka]: Unknown broker config name: flying.carpets. Give one of Kafka's broker \
             settings; docs/operations/configuration.md lists those that are obeyed",
        );
        check_error(
            "[servers]\n",
            "chronik.toml, line 1 `[servers]`: unknown field `servers`, expected one of `server`, `listener`, `kafka`",
        );
        let why = parse("[server]\n\nkafka-prt = 1", "chronik.toml").expect_err("an unknown key was taken").to_string();
        assert!(why.contains("`data-dir`") && !why.contains('_'), "{why}");
        assert!(
            why.starts_with("chronik.toml, line 3 `kafka-prt = 1`: unknown field `kafka-prt`, expected one of"),
            "{why}"
        );
        assert_eq!(why.lines().count(), 1);
    }
}
