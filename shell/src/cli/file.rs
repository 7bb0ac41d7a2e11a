//! The configuration file: `[server]`, `[[listener]]` and `[kafka]` in TOML.

use std::fmt::Display;
use std::fs;
use std::path::Path;

use serde::Deserialize;
use toml::{Table, Value};

use super::UsageError;
use super::settings::{KafkaSetting, ListenerSetting, Settings};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    server: Settings,
    #[serde(default)]
    listener: Vec<ListenerSetting>,
    #[serde(default)]
    kafka: Table,
}

/// The layer that the file at `path` makes.
pub(super) fn read(path: &Path) -> Result<Settings, UsageError> {
    let text = fs::read_to_string(path)
        .map_err(|why| UsageError(format!("cannot read the configuration file {}: {why}", path.display())))?;
    parse(&text, path.display())
}

fn parse(text: &str, name: impl Display) -> Result<Settings, UsageError> {
    let file: File = toml::from_str(text).map_err(|why| UsageError(located(text, &name, &why)))?;
    let mut set = Vec::new();
    flatten("", file.kafka, &mut set)
        .map_err(|key| UsageError(format!("{name}: `{key}` under [kafka] must be a text, a number, true or false")))?;
    let settings = Settings { listener: file.listener, set, ..file.server };
    settings.check_kafka(format_args!("{name}, [kafka]"))?;
    Ok(settings)
}

/// Where the fault is and what it is, on one line.
fn located(text: &str, name: impl Display, why: &toml::de::Error) -> String {
    let fault = why.message().lines().map(str::trim).collect::<Vec<_>>().join("; ");
    // Every key is listed in both its spellings; one is enough for the reader.
    let is_second_spelling = |word: &str| word.starts_with('`') && word.ends_with('`') && word.contains('_');
    let fault = fault.split(", ").filter(|word| !is_second_spelling(word)).collect::<Vec<_>>().join(", ");
    let Some(span) = why.span() else { return format!("{name}: {fault}") };
    let before = text.get(..span.start).unwrap_or(text);
    let number = before.matches('\n').count() + 1;
    let line = text.lines().nth(number - 1).unwrap_or_default().trim();
    format!("{name}, line {number} `{line}`: {fault}")
}

/// Kafka's names are dotted, and TOML reads an unquoted `num.partitions = 3` as a table `num`: both spellings mean the
/// same here. Answers the key of a value that no Kafka setting can have.
fn flatten(prefix: &str, table: Table, set: &mut Vec<KafkaSetting>) -> Result<(), String> {
    for (key, value) in table {
        let name = if prefix.is_empty() { key } else { format!("{prefix}.{key}") };
        let value = match value {
            Value::String(text) => text,
            Value::Integer(number) => number.to_string(),
            Value::Float(number) => number.to_string(),
            Value::Boolean(flag) => flag.to_string(),
            Value::Table(inner) => {
                flatten(&name, inner, set)?;
                continue;
            }
            Value::Array(_) | Value::Datetime(_) => return Err(name),
        };
        set.push(KafkaSetting { name, value });
    }
    Ok(())
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
            "chronik.toml, line 2 `kafka-port = 70000`: invalid value: integer `70000`, expected u16",
        );
        check_error(
            "[server]\nmetrics-addr = 'here'",
            "chronik.toml, line 2 `metrics-addr = 'here'`: `here` has no port: write HOST:PORT",
        );
        check_error(
            "[kafka]\nnum.partitions = [3]",
            "chronik.toml: `num.partitions` under [kafka] must be a text, a number, true or false",
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
