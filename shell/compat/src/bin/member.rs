//! A member of a group in a process of its own, so that it can be killed. It reads and commits nothing.
//!
//! Called with the group and the topic, then librdkafka's settings as `name=value`.

use std::time::Duration;
use std::{env, process};

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};

fn main() {
    let mut arguments = env::args().skip(1);
    let (Some(group), Some(topic)) = (arguments.next(), arguments.next()) else {
        eprintln!("usage: member GROUP TOPIC NAME=VALUE...");
        process::exit(2);
    };
    let mut config = ClientConfig::new();
    config.set("group.id", group).set("enable.auto.commit", "false");
    for setting in arguments {
        let (name, value) = setting.split_once('=').expect("a setting has a name and a value");
        config.set(name, value);
    }
    let consumer: BaseConsumer = config.create().expect("the settings are librdkafka's");
    consumer.subscribe(&[&topic]).expect("a subscription needs no broker");
    loop {
        // What goes wrong shows in the group that this member is missing from.
        let _ = consumer.poll(Duration::from_millis(100));
    }
}
