//! Claims about the command line as a whole: which source wins, and what is said when one cannot be obeyed.

use std::fs;
use std::path::{Path, PathBuf};

use chronik_core::config::BrokerConfig;
use chronik_core::ids::Uuid;

use super::options::{ClusterOptions, CommitThread, Durability, LogFormat};
use super::settings::os;
use super::*;
use crate::cluster::Command;

fn parsed(args: &[&str], environment: &[(&str, &str)]) -> Result<Invocation, UsageError> {
    let args = std::iter::once("chronik-server").chain(args.iter().copied()).map(os);
    parse(args, environment.iter().map(|(name, value)| (os(name), os(value))))
}

fn options_with(args: &[&str], environment: &[(&str, &str)]) -> Options {
    match parsed(args, environment) {
        Ok(Invocation::Serve { options, .. }) => *options,
        other => panic!("{args:?} with {environment:?} gave {other:?}"),
    }
}

fn options(args: &[&str]) -> Options {
    options_with(args, &[])
}

fn warnings(args: &[&str]) -> Vec<String> {
    match parsed(args, &[]) {
        Ok(Invocation::Serve { warnings, .. }) => warnings,
        other => panic!("{args:?} gave {other:?}"),
    }
}

fn check_error(args: &[&str], expect: &str) {
    let why = parsed(args, &[]).expect_err("a bad command line was taken").to_string();
    assert_eq!(why, expect, "for {args:?}");
}

/// A file that is gone when the test is.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str, text: &str) -> Scratch {
        let path = std::env::temp_dir().join(format!("chronik-cli-{}-{name}.toml", std::process::id()));
        fs::write(&path, text).expect("the temporary folder is writable");
        Scratch(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().expect("a temporary path in UTF-8")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        fs::remove_file(&self.0).ok();
    }
}

#[test]
fn with_nothing_said_the_defaults_hold() {
    let options = options(&[]);
    assert_eq!(options.node_id, NodeId(1));
    assert_eq!(options.data_dir, Path::new("./data"));
    assert_eq!(options.durability, Durability::Sync);
    assert_eq!(options.commit, CommitThread::Auto);
    assert_eq!(options.metrics_addr, None);
    assert_eq!(options.kafka, BrokerConfig::default());
    assert_eq!(options.log.level.as_str(), "info");
    assert_eq!(options.log.format, LogFormat::Text);
    let [listener] = options.listeners.as_slice() else { panic!("not one listener") };
    assert_eq!(listener.bind.to_string(), "0.0.0.0:9092");
    assert_eq!(listener.advertised(9092).to_string(), "localhost:9092");
}

#[test]
fn flag_wins_over_environment_over_file_over_default() {
    let file = Scratch::new(
        "precedence",
        "[server]\nnode-id = 3\nkafka-port = 3\ndata-dir = '/3'\n[kafka]\nnum.partitions = 3\nlog.retention.check.interval.ms = 3",
    );
    let environment = [
        ("CHRONIK_CONFIG", file.path()),
        ("CHRONIK_NODE_ID", "2"),
        ("CHRONIK_KAFKA_PORT", "2"),
        ("CHRONIK_SET", "num.partitions=2"),
    ];
    let options = options_with(&["--node-id", "1", "--set", "delete.topic.enable=false"], &environment);
    assert_eq!(options.node_id, NodeId(1), "the flag");
    assert_eq!(options.listeners[0].bind.port, 2, "the environment");
    assert_eq!(options.data_dir, Path::new("/3"), "the file");
    assert_eq!(options.durability, Durability::Sync, "the default");
    assert!(!options.kafka.delete_topic_enable, "the flag");
    assert_eq!(options.kafka.num_partitions, 2, "the environment");
    assert_eq!(options.kafka.log_retention_check_interval_ms, 3, "the file");
}

#[test]
fn flags_are_taken_before_and_after_the_subcommand() {
    let both = options(&[
        "--kafka-port",
        "1",
        "--set",
        "num.partitions=3",
        "standalone",
        "--data-dir",
        "/d",
        "--set",
        "delete.topic.enable=false",
    ]);
    assert_eq!(both.listeners[0].bind.port, 1);
    assert_eq!(both.data_dir, Path::new("/d"));
    assert_eq!((both.kafka.num_partitions, both.kafka.delete_topic_enable), (3, false));
    let later = options(&["--node-id", "1", "standalone", "--node-id", "2"]);
    assert_eq!(later.node_id, NodeId(2), "the flag nearer to the end wins");
}

#[test]
fn localhost_is_advertised_with_a_warning_where_the_bind_is_wide() {
    for wide in [&[][..], &["--bind", "::"]] {
        assert_eq!(options(wide).listeners[0].advertised_host, "localhost");
        assert_eq!(warnings(wide).len(), 1, "for {wide:?}");
    }
    for narrow in [&["--bind", "127.0.0.1"][..], &["--bind", "localhost"], &["--advertised-addr", "broker"]] {
        assert_eq!(warnings(narrow), [""; 0], "for {narrow:?}");
    }
    let one = ["--bind", "10.0.0.5"];
    assert_eq!(options(&one).listeners[0].advertised_host, "10.0.0.5", "localhost would not reach it");
}

#[test]
fn an_advertised_address_takes_the_bound_port_where_it_has_none() {
    let listener = &options(&["--kafka-port", "1000", "--advertised-addr", "broker"]).listeners[0];
    assert_eq!(listener.advertised(1000).to_string(), "broker:1000");
    let listener = &options(&["--kafka-port", "0", "--advertised-addr", "broker:443"]).listeners[0];
    assert_eq!(listener.advertised(41_000).to_string(), "broker:443");
}

#[test]
fn each_listener_has_its_own_advertised_address() {
    let options = options(&[
        "--listener",
        "internal=10.0.0.5:9092",
        "--listener",
        "external=0.0.0.0:9093,broker.example.org:443",
    ]);
    let seen: Vec<String> = options
        .listeners
        .iter()
        .map(|listener| format!("{} {} {}", listener.name, listener.bind, listener.advertised(listener.bind.port)))
        .collect();
    assert_eq!(seen, ["internal 10.0.0.5:9092 10.0.0.5:9092", "external 0.0.0.0:9093 broker.example.org:443"]);
}

#[test]
fn listeners_that_do_not_fit_together_are_refused() {
    check_error(
        &["--listener", "a=h:1", "--kafka-port", "2"],
        "--kafka-port describes the only listener, and there are listeners by name (--listener, CHRONIK_LISTENER, or \
         [[listener]]): give its value there, or leave it out",
    );
    check_error(&["--listener", "a=h:1", "--listener", "a=h:2"], "two listeners are named `a`: rename one");
    check_error(
        &["--listener", "a=h:1", "--listener", "b=h:1"],
        "listener `b`: h:1 is another listener's: give it another port",
    );
    check_error(&["--listener", "a b=h:1"], "listener `a b`: name it with letters, digits, `-` and `_`");
    check_error(
        &["--advertised-addr", "0.0.0.0"],
        "--advertised-addr (CHRONIK_ADVERTISED_ADDR): 0.0.0.0 cannot be advertised, for nobody can connect to it: give the host's name or address",
    );
    let no_port = "port 0 cannot be advertised, for nobody can connect to it: give the port that leads here, or leave it \
                   out for the one that is listened on";
    check_error(&["--advertised-addr", "h:0"], &format!("--advertised-addr (CHRONIK_ADVERTISED_ADDR): {no_port}"));
    check_error(&["--listener", "a=h:1,h:0"], &format!("listener `a`: {no_port}"));
    let cluster = ["raft-cluster", "--raft-addr", "h:1", "--raft-advertised-addr", "h:0"];
    check_error(&cluster, &format!("--raft-advertised-addr (CHRONIK_RAFT_ADVERTISED_ADDR): {no_port}"));
}

#[test]
fn a_fault_is_one_line_that_names_it() {
    check_error(
        &["--kafka-prt", "1"],
        "unexpected argument '--kafka-prt' found; tip: a similar argument exists: '--kafka-port' (see `chronik-server --help`)",
    );
    check_error(
        &["--kafka-port", "70000"],
        "invalid value '70000' for '--kafka-port <PORT>': give a number from 0 to 65535 (see `chronik-server --help`)",
    );
    check_error(
        &["--set", "num.partition=3"],
        "--set: Unknown broker config name: num.partition. Did you mean num.partitions?",
    );
    check_error(
        &["--set", "num.partitions=3", "--set", "num.partitions=4"],
        "--set: The config num.partitions is given twice.",
    );
    check_error(
        &["--set", "flying.carpets=3"],
        "--set: Unknown broker config name: flying.carpets. Give one of Kafka's broker settings; \
         docs/operations/configuration.md lists those that are obeyed",
    );
    check_error(
        &["--bind", "a b"],
        "invalid value 'a b' for '--bind <HOST>': `a b` is neither a host name nor an IP address (see `chronik-server --help`)",
    );
    for args in [&["--node-id=-1"][..], &["--node-id", "-1"]] {
        check_error(
            args,
            "invalid value '-1' for '--node-id <NUMBER>': give a number from 0 to 2147483647 (see `chronik-server --help`)",
        );
    }
    check_error(
        &["--durability", "never"],
        "invalid value 'never' for '--durability <MODE>': possible values: sync, os (see `chronik-server --help`)",
    );
    check_error(&["dump"], "the following required arguments were not provided: <FILE> (see `chronik-server --help`)");
    check_error(
        &["cluster", "drain", "-1"],
        "invalid value '-1' for '<NODE>': give a number from 0 to 2147483647 (see `chronik-server --help`)",
    );
    check_error(&["--node-id", "1", "version"], "`version` takes none of the broker's flags: leave them out");
    check_error(
        &["--config", "/nowhere/chronik.toml"],
        "cannot read the configuration file /nowhere/chronik.toml: No such file or directory (os error 2): name a file \
         that the user that runs the broker can read with --config (or CHRONIK_CONFIG), or leave it out",
    );
    for args in [&["frobnicate"][..], &["dump"], &["--log-level", "inof"], &["--set", "x"], &["--data-dir"]] {
        let why = parsed(args, &[]).expect_err("a bad command line was taken").to_string();
        assert_eq!(why.lines().count(), 1, "{why:?} for {args:?}");
    }
}

#[test]
fn settings_of_several_layers_are_judged_together() {
    let (session, heartbeat) = ("group.consumer.session.timeout.ms=4000", "group.consumer.heartbeat.interval.ms=1000");
    options_with(&["--set", heartbeat], &[("CHRONIK_SET", session)]);
    options_with(&["--set", heartbeat, "standalone", "--set", session], &[]);
    check_error(
        &["--set", session],
        "Invalid values: group.consumer.heartbeat.interval.ms must not exceed group.consumer.session.timeout.ms.",
    );
    check_error(
        &["--set", "broker.session.timeout.ms=3999"],
        "Invalid values: broker.heartbeat.interval.ms must not exceed half of broker.session.timeout.ms.",
    );
    for command in ["standalone", "raft-cluster"] {
        check_error(
            &[command, "--set", "num.partitions=3", "--set", "num.partitions=4"],
            "--set: The config num.partitions is given twice.",
        );
    }
}

#[test]
fn levels_may_be_set_apart_by_spaces_and_must_be_read() {
    assert_eq!(options(&["--log-level", "info, chronik_core=debug"]).log.level.as_str(), "info,chronik_core=debug");
    let why = parsed(&["--log-level", "a[{b=info"], &[]).expect_err("no levels").to_string();
    assert!(why.contains("are no log levels"), "{why}");
}

const CLUSTER: [&str; 7] =
    ["raft-cluster", "--node-id", "1", "--raft-addr", "0.0.0.0:9192", "--peers", "2@two:9192,3@[fe80::3]:9193"];

fn cluster(args: &[&str]) -> ClusterOptions {
    options(args).cluster.expect("a broker of a cluster")
}

#[test]
fn a_broker_of_a_cluster_is_told_where_the_others_are_and_where_it_is() {
    let plain = cluster(&CLUSTER);
    let peers: Vec<String> = plain.peers.iter().map(|(node, address)| format!("{node} at {address}")).collect();
    assert_eq!(peers, ["2 at two:9192", "3 at [fe80::3]:9193"]);
    assert_eq!((plain.raft_addr.to_string().as_str(), plain.bootstrap), ("0.0.0.0:9192", false));
    let check = |more: &[&str], expect: &str| {
        let args = [more, &CLUSTER].concat();
        assert_eq!(cluster(&args).raft_advertised.to_string(), expect, "{more:?}");
    };
    check(&["--advertised-addr", "one:9092"], "one:9192");
    check(&["--advertised-addr", "one:9092", "--raft-advertised-addr", "inside"], "inside:9192");
    check(&["--raft-advertised-addr", "inside:1"], "inside:1");
    let narrow = cluster(&["raft-cluster", "--advertised-addr", "outside", "--raft-addr", "10.0.0.1:0"]);
    assert_eq!((narrow.raft_advertised.to_string().as_str(), narrow.peers.len()), ("10.0.0.1:0", 0));
    assert_eq!(options(&[]).cluster, None);
}

#[test]
fn a_cluster_is_told_by_flags_on_either_side_by_variables_and_by_the_file() {
    let expect = ClusterOptions { bootstrap: true, ..cluster(&CLUSTER) };
    let before = ["--bootstrap", "--raft-addr", "0.0.0.0:9192", "--peers", CLUSTER[6], "raft-cluster"];
    let around = ["--raft-addr", "0.0.0.0:9192", "raft-cluster", "--peers", CLUSTER[6], "--bootstrap"];
    for args in [before, around] {
        assert_eq!(cluster(&args), expect, "{args:?}");
    }
    let variables =
        [("CHRONIK_RAFT_ADDR", "0.0.0.0:9192"), ("CHRONIK_PEERS", CLUSTER[6]), ("CHRONIK_BOOTSTRAP", "true")];
    assert_eq!(options_with(&["raft-cluster"], &variables).cluster, Some(expect.clone()));
    let file = Scratch::new(
        "cluster",
        "[server]\nraft-addr = '0.0.0.0:9192'\npeers = '2@two:9192,3@[fe80::3]:9193'\nbootstrap = true",
    );
    assert_eq!(cluster(&["raft-cluster", "--config", file.path()]), expect);
    assert!(!cluster(&["raft-cluster", "--config", file.path(), "--bootstrap=false"]).bootstrap);
}

#[test]
fn a_cluster_that_cannot_be_is_refused() {
    let check = |args: &[&str], expect: &str| check_error(&[&["raft-cluster"], args].concat(), expect);
    check(&[], "raft-cluster needs --raft-addr HOST:PORT, where the other nodes connect to this one");
    check(
        &["--raft-addr", "0.0.0.0:9192", "--durability", "os"],
        "--durability os and raft-cluster do not go together: after a power cut a node that has lost records would \
         still count as one that has them; leave --durability at sync",
    );
    check(
        &["--raft-addr", "0.0.0.0:9092"],
        "--raft-addr: 0.0.0.0:9092 is where clients connect (listener `default`): give it another port",
    );
    check(
        &["--raft-addr", "h:1", "--raft-advertised-addr", "::"],
        "--raft-advertised-addr (CHRONIK_RAFT_ADVERTISED_ADDR): :: cannot be advertised, for nobody can connect to it: give \
         the host's name or address",
    );
    let check = |peers: &str, expect: &str| check(&["--raft-addr", "one:9192", "--peers", peers], expect);
    check("1@one:9193", "--peers names node 1, which is this one (--node-id): name the others only");
    check("2@two:1,3@three:1,2@other:1", "--peers names node 2 twice: name it once");
    check("2@two:1,3@two:1", "--peers: nodes 2 and 3 cannot both be at two:1");
    check("2@two:0", "--peers: node 2 cannot be connected to at port 0: give its port");
    check("2@0.0.0.0:1", "--peers: node 2 cannot be connected to at 0.0.0.0: give the host's name or address");
    check("2@one:9192", "--peers: one:9192 is this node's own address, not that of node 2");
    let check = |peers: &str, why: &str| {
        let expect = format!("invalid value '{peers}' for '--peers <NUMBER@HOST:PORT,...>': {why}");
        check(peers, &format!("{expect} (see `chronik-server --help`)"));
    };
    check("two:9192", "`two:9192` is no node: write NUMBER@HOST:PORT");
    check("2@two", "`2@two`: `two` has no port: write HOST:PORT");
    check("x@two:1", "`x@two:1`: a node's number is one from 0 to 2147483647");
    check("4294967296@two:1", "`4294967296@two:1`: a node's number is one from 0 to 2147483647");
}

#[test]
fn a_standalone_broker_is_told_nothing_of_a_cluster() {
    for (flag, value) in [("--raft-addr", "h:1"), ("--peers", "2@two:1"), ("--raft-advertised-addr", "h")] {
        let variable = variable_of(&flag[2..]);
        check_error(
            &[flag, value],
            &format!(
                "{flag} ({variable}) is for a broker of a cluster: run `chronik-server raft-cluster`, or leave it out"
            ),
        );
    }
    assert!(parsed(&["standalone"], &[("CHRONIK_BOOTSTRAP", "true")]).is_err());
    assert!(parsed(&["standalone"], &[("CHRONIK_BOOTSTRAP", "false")]).is_ok());
}

#[test]
fn a_node_that_sends_others_to_themselves_is_warned_of() {
    let said = warnings(&CLUSTER);
    assert!(said.iter().any(|warning| warning.contains("localhost:9192")), "{said:?}");
    let local = ["raft-cluster", "--bind", "127.0.0.1", "--raft-addr", "127.0.0.1:1", "--peers", "2@127.0.0.1:2"];
    assert_eq!(warnings(&local), [""; 0]);
    assert_eq!(warnings(&[&["--advertised-addr", "one"][..], &CLUSTER].concat()), [""; 0]);
}

fn errand(args: &[&str]) -> Errand {
    match parsed(&[&["cluster"], args].concat(), &[]) {
        Ok(Invocation::Cluster(errand)) => errand,
        other => panic!("{args:?} gave {other:?}"),
    }
}

#[test]
fn a_cluster_is_asked_by_way_of_its_brokers() {
    let status = errand(&["status"]);
    assert_eq!(status.command, Command::Status);
    let servers = |errand: &Errand| errand.servers.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!((servers(&status), status.timeout.as_secs()), (vec!["localhost:9092".to_owned()], 60));
    let flags = ["--bootstrap-servers", "a:1, [::1]:2", "--timeout", "5"];
    for args in [[&flags[..], &["drain", "3"]].concat(), [&["drain", "3"], &flags[..]].concat()] {
        let drain = errand(&args);
        assert_eq!((servers(&drain).join(" "), drain.timeout.as_secs()), ("a:1 [::1]:2".to_owned(), 5));
        assert_eq!(drain.command, Command::Drain { node: NodeId(3) });
    }
    let raft_addr = || Address { host: "four".to_owned(), port: 9192 };
    let expect = |directory_id| Command::AddNode { node: NodeId(4), raft_addr: raft_addr(), directory_id };
    assert_eq!(errand(&["add-node", "4@four:9192"]).command, expect(None));
    let id = Uuid([7; 16]);
    assert_eq!(errand(&["add-node", "4@four:9192", "--directory-id", &id.to_string()]).command, expect(Some(id)));
    let command = Command::MoveLeader { topic: "t".to_owned(), partition: 1, node: NodeId(2) };
    assert_eq!(errand(&["move-leader", "t", "1", "2"]).command, command);
    assert_eq!(errand(&["remove-node", "4"]).command, Command::RemoveNode { node: NodeId(4) });
    assert_eq!(errand(&["rebalance"]).command, Command::Rebalance);

    check_error(&["cluster", "add-node", "4@a:1,5@b:2"], "add-node: nodes are added one at a time: name one");
    check_error(
        &["cluster", "status", "--timeout", "0"],
        "invalid value '0' for '--timeout <SECONDS>': give a number of seconds from 1 to 4294967295 (see `chronik-server \
         --help`)",
    );
    check_error(&["--node-id", "1", "cluster", "status"], "`cluster` takes none of the broker's flags: leave them out");
    assert!(parsed(&["cluster"], &[]).is_err());
}

#[test]
fn a_kafka_setting_without_effect_is_warned_of() {
    let [warning] = warnings(&["--bind", "127.0.0.1", "--set", "num.io.threads=8"]).try_into().expect("one warning");
    assert!(warning.starts_with("the Kafka setting num.io.threads has no effect here: "), "{warning}");
}

#[test]
fn a_setting_that_all_brokers_share_is_warned_of_in_the_file_of_one() {
    let minimum = ["--set", "min.insync.replicas=2"];
    assert_eq!(warnings(&[&["--bind", "127.0.0.1"], &minimum[..]].concat()), Vec::<String>::new());
    let of_cluster = warnings(&[&CLUSTER, &minimum[..]].concat());
    let is_told = |warning: &String| warning.starts_with("the Kafka setting min.insync.replicas counts while");
    assert!(of_cluster.iter().any(is_told), "{of_cluster:?}");
}

#[test]
fn help_and_version_are_printed() {
    let Ok(Invocation::Print(help)) = parsed(&["--help"], &[]) else { panic!("no help") };
    for expected in ["[env: CHRONIK_ADVERTISED_ADDR]", "--kafka-port", "dump", "100 MiB", "bytes in flight"] {
        assert!(help.contains(expected), "{expected} is missing from\n{help}");
    }
    for args in [&["version"][..], &["--version"]] {
        let Ok(Invocation::Print(text)) = parsed(args, &[]) else { panic!("no version") };
        assert!(text.contains(env!("CARGO_PKG_VERSION")), "{text}");
    }
    assert_eq!(parsed(&["dump", "file"], &[]), Ok(Invocation::Dump { file: PathBuf::from("file") }));
}
