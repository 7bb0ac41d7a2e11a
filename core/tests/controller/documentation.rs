//! `docs/configuration.md` says what the tables in the code say.

use std::fmt::Write as _;

use chronik_core::config::{BrokerKey, Effect, Key, TOPIC_KEYS, Update, broker_keys};

const PREFACE: &str = "\
# Configuration

Chronik takes Kafka's settings under their own names. This page lists all of Kafka 4.3's but its internal ones: those
that are obeyed, and those that are known, kept and shown, but change nothing, with the reason. A name that is in
neither list is an error.

It is written by the test `controller::documentation` from the tables in `core/src/config`, and compared with them.

A topic's setting comes from the first of these that has it: the topic itself, this broker's dynamic setting, the
dynamic default for all brokers, the configuration file, the default below. Broker settings stand in the file's table
`[kafka]`; those that say \"for all brokers\" or \"for one broker\" can be changed by clients while the broker runs
(`kafka-configs --entity-type brokers`, with `--entity-default` for all).
";

#[test]
fn docs_configuration_md_follows_from_the_tables() {
    let generated = generate();
    let committed = include_str!("../../../docs/configuration.md");
    if committed != generated {
        let path = concat!(env!("CARGO_TARGET_TMPDIR"), "/configuration.md");
        std::fs::write(path, &generated).expect("the target folder can be written");
        panic!("docs/configuration.md is out of date: replace it by {path}");
    }
}

fn generate() -> String {
    let mut page = PREFACE.to_owned();
    let is_obeyed = |key: &Key| key.effect == Effect::Obeyed;

    page += "\n## Topic settings that are obeyed\n\n| setting | type | default | allowed | broker settings that stand in | what it does |\n|---|---|---|---|---|---|\n";
    for known in TOPIC_KEYS.iter().filter(|known| is_obeyed(&known.key) && !known.internal) {
        let stands: Vec<String> = known.broker.iter().map(|stand| format!("`{}`", stand.name)).collect();
        row(&mut page, &known.key, &[&stands.join(", "), known.key.doc]);
    }
    page +=
        "\n## Topic settings without effect\n\n| setting | type | default | allowed | why |\n|---|---|---|---|---|\n";
    for known in TOPIC_KEYS.iter().filter(|known| !is_obeyed(&known.key)) {
        row(&mut page, &known.key, &[why(&known.key)]);
    }

    let mut brokers: Vec<&BrokerKey> = broker_keys().collect();
    brokers.sort_by_key(|known| known.key.name);
    page += "\n## Broker settings that are obeyed\n\n| setting | type | default | allowed | clients may change it | what it does |\n|---|---|---|---|---|---|\n";
    for known in brokers.iter().filter(|known| is_obeyed(&known.key)) {
        let update = match known.update {
            Update::ReadOnly => "no",
            Update::PerBroker => "for one broker",
            Update::Anywhere => "for one broker, for all brokers",
            Update::ForAll => "for all brokers",
        };
        row(&mut page, &known.key, &[update, known.key.doc]);
    }
    page +=
        "\n## Broker settings without effect\n\n| setting | type | default | allowed | why |\n|---|---|---|---|---|\n";
    for known in brokers.iter().filter(|known| !is_obeyed(&known.key)) {
        row(&mut page, &known.key, &[why(&known.key)]);
    }
    page
}

fn row(page: &mut String, key: &Key, rest: &[&str]) {
    let default = match key.default {
        None => "none".to_owned(),
        Some("") => "empty".to_owned(),
        Some(default) => format!("`{default}`"),
    };
    write!(page, "| `{}` | {} | {default} | {} |", key.name, key.kind.name(), key.allowed)
        .expect("a String takes all text");
    for cell in rest {
        write!(page, " {cell} |").expect("a String takes all text");
    }
    page.push('\n');
}

fn why(key: &Key) -> &'static str {
    match key.effect {
        Effect::Obeyed => "",
        Effect::Without(why) => why,
    }
}
