//! The process: how it starts, how it refuses to start, how it ends, and what it finds again.

use std::fs;
use std::net::TcpListener;
use std::os::unix::process::ExitStatusExt as _;

use crate::support::batch::Batch;
use crate::support::broker::{Broker, Folder, free_port, run_to_end};
use crate::support::topic::Topic;

/// Runs the binary with arguments that it must refuse: it fails, and says why in one line that names `culprit`.
fn check_refusal(arguments: &[&str], culprit: &str) {
    let ended = run_to_end(arguments);
    assert!(ended.status.code().is_some_and(|code| code != 0), "{arguments:?}: {}", ended.status);
    let printed = format!("{}{}", ended.stdout, ended.stderr);
    let naming: Vec<_> = printed.lines().filter(|line| line.contains(culprit)).collect();
    assert!(!naming.is_empty(), "{arguments:?}: nothing names {culprit:?}:\n{printed}");
    assert!(!printed.contains("panicked"), "{arguments:?}:\n{printed}");
}

fn arguments<'a>(port: &'a str, data_dir: &'a str) -> Vec<&'a str> {
    vec!["--bind", "127.0.0.1", "--kafka-port", port, "--data-dir", data_dir]
}

#[test]
fn sigterm_ends_it_in_order_with_exit_code_0() {
    let Some(mut broker) = Broker::start_own(&[]) else { return };
    let mut client = broker.client();
    let topic = Topic::create(&mut client, "sigterm", 1, &[]);
    topic.produce(&mut client, 0, &Batch::numbered(10));
    // A fetch that would wait for long must not hold up the end.
    let waiting = topic.fetch_request(11, &[(0, 10)]).with_max_wait_ms(60_000);
    client.send(11, &waiting).expect("the connection is open");
    let status = broker.terminate();
    assert_eq!((status.code(), status.signal()), (Some(0), None));
    broker.restart();
    let mut client = broker.client();
    assert_eq!(topic.read(&mut client, 0, 0).len(), 10);
    assert_eq!(topic.describe(&mut client).topic_id, topic.created.topic_id);
}

#[test]
fn a_port_in_use_is_named() {
    let Some(_) = Broker::start_own(&[]) else { return };
    let taken = TcpListener::bind("127.0.0.1:0").expect("the loopback interface has a free port");
    let port = taken.local_addr().expect("a bound socket has an address").port().to_string();
    let folder = Folder::new();
    check_refusal(&arguments(&port, folder.path().to_str().expect("UTF-8")), &port);
}

#[test]
fn a_data_folder_in_use_is_named() {
    let Some(broker) = Broker::start_own(&[]) else { return };
    let (port, data_dir) = (free_port().to_string(), broker.data_dir());
    let data_dir = data_dir.to_str().expect("UTF-8");
    check_refusal(&arguments(&port, data_dir), data_dir);
    broker.client();
}

#[test]
fn a_data_folder_that_is_a_file_is_named() {
    let folder = Folder::new();
    let file = folder.path().join("file");
    fs::write(&file, "not a folder").expect("a temporary file can be written");
    let file = file.to_str().expect("UTF-8");
    check_refusal(&arguments(&free_port().to_string(), file), file);
}

#[test]
fn a_bad_flag_is_named() {
    check_refusal(&["--no-such-flag"], "--no-such-flag");
    check_refusal(&["--kafka-port", "many"], "many");
    check_refusal(&["--durability", "perhaps"], "perhaps");
}

#[test]
fn a_config_key_that_does_not_exist_is_named() {
    let folder = Folder::new();
    let config = folder.path().join("chronik.toml");
    fs::write(&config, "[kafka]\n\"no.such.key\" = 1\n").expect("a temporary file can be written");
    let (port, data) = (free_port().to_string(), folder.path().join("data"));
    let mut with_config = arguments(&port, data.to_str().expect("UTF-8"));
    with_config.extend(["--config", config.to_str().expect("UTF-8")]);
    check_refusal(&with_config, "no.such.key");
}

#[test]
fn its_version_is_its_own() {
    let ended = run_to_end(&["version"]);
    assert_eq!(ended.status.code(), Some(0));
    assert!(ended.stdout.contains(env!("CARGO_PKG_VERSION")), "{}", ended.stdout);
}
