//! What operators ask of three real nodes by `chronik-server cluster`, and what they do to them by mistake: each mistake
//! is answered in one line that says what to do, and loses nothing.

use std::fs;
use std::thread;

use crate::support::broker::{Broker, Ended, run_to_end};
use crate::support::cluster::{Cluster, NODES, Producer, wait_for};

/// `chronik-server cluster` with these arguments, asked of one node; `seconds` is how long an answer may take.
fn ask(broker: &Broker, seconds: u32, arguments: &[&str]) -> Ended {
    let seconds = seconds.to_string();
    let mut all = vec!["cluster", "--bootstrap-servers", broker.address(), "--timeout", &seconds];
    all.extend(arguments);
    run_to_end(&all)
}

/// It was declined with exit code 1, in one line that has all of these words.
fn expect_declined(ended: &Ended, words: &[&str]) {
    assert_eq!(ended.status.code(), Some(1), "{}{}", ended.stdout, ended.stderr);
    let faults: Vec<_> = ended.stderr.lines().filter(|line| line.starts_with("chronik-server: ")).collect();
    let [fault] = faults.as_slice() else { panic!("not one line of fault:\n{}", ended.stderr) };
    for word in words {
        assert!(fault.contains(word), "{word:?} is missing from {fault:?}");
    }
}

/// The words of the row of each node in what `cluster status` prints.
fn rows(status: &Ended) -> Vec<Vec<String>> {
    let table = status.stdout.lines().skip_while(|line| !line.starts_with("NODE")).skip(1);
    let rows = table.take_while(|line| !line.is_empty());
    rows.map(|line| line.split_whitespace().map(str::to_owned).collect()).collect()
}

#[test]
fn status_tells_how_far_every_node_is_behind_and_who_does_not_answer() {
    let Some(mut cluster) = Cluster::start() else { return };
    let topic = cluster.create(1, "status", 3);
    cluster.wait_until_in_sync(&topic, &NODES, &NODES);
    let mut producer = Producer::new(&cluster, 0);
    producer.write(&cluster, &topic, 5);
    wait_for("all is well, and nobody lacks a record", || {
        let told = ask(cluster.node(1), 10, &["status"]);
        let lags: Vec<_> = rows(&told).iter().filter_map(|row| row.last().cloned()).collect();
        (told.status.code() == Some(0) && lags == ["0", "0", "0"]).then_some(())
    });
    let controller = cluster.controller();
    let victim = NODES.into_iter().find(|node| *node != controller).expect("there are three");
    cluster.freeze(victim);
    // Whether it has been missed already or not.
    let told = ask(cluster.node(controller), 10, &["status"]);
    cluster.thaw(victim);
    assert_eq!(told.status.code(), Some(1), "{}", told.stdout);
    let row = &rows(&told)[victim as usize - 1];
    assert_eq!(row.last().map(String::as_str), Some("-"), "{}", told.stdout);
    let (silent, fenced) =
        (format!("UNHEALTHY: node {victim} is said to serve, but"), format!("serving: node {victim}"));
    assert!(told.stdout.contains(&silent) || told.stdout.contains(&fenced), "{}", told.stdout);
}

#[test]
fn nothing_is_changed_below_a_majority_and_all_is_there_afterwards() {
    let Some(mut cluster) = Cluster::start() else { return };
    let topic = cluster.create(1, "minority", 1);
    cluster.wait_until_in_sync(&topic, &NODES, &NODES);
    let mut producer = Producer::new(&cluster, 0);
    producer.write(&cluster, &topic, 5);
    cluster.kill(2);
    cluster.kill(3);
    for command in [&["remove-node", "3"][..], &["drain", "1"], &["rebalance"], &["add-node", "4@127.0.0.1:1"]] {
        expect_declined(&ask(cluster.node(1), 3, command), &["nobody decides", "a majority of the voters must run"]);
    }
    let told = ask(cluster.node(1), 10, &["status"]);
    assert_eq!(told.status.code(), Some(1), "{}{}", told.stdout, told.stderr);
    assert!(told.stdout.contains("UNHEALTHY: there is no controller"), "{}", told.stdout);
    cluster.restart(2);
    cluster.restart(3);
    cluster.wait_until_in_sync(&topic, &NODES, &NODES);
    producer.write(&cluster, &topic, 1);
    producer.check(&cluster, &topic);
}

#[test]
fn a_voter_that_lost_its_folder_is_not_added_before_it_is_removed() {
    let Some(mut cluster) = Cluster::start() else { return };
    cluster.kill(3);
    fs::remove_dir_all(cluster.node(3).data_dir()).expect("a folder of the test's own");
    let added = wait_for("node 3 is missed", || {
        let ended = ask(cluster.node(1), 20, &["add-node", "3@127.0.0.1:1"]);
        (ended.status.code() != Some(0)).then_some(ended)
    });
    expect_declined(&added, &["node 3 is a voter already", "remove-node 3"]);
}

#[test]
fn a_new_node_whose_peers_are_others_than_it_thinks_says_so_and_ends() {
    let Some(cluster) = Cluster::start() else { return };
    let mut stranger = cluster.stranger(4, &[(2, 1)]);
    expect_declined(&stranger, &["node 1 answers where node 2 was to be", "correct --peers"]);
    stranger = cluster.stranger(2, &[(3, 2)]);
    expect_declined(&stranger, &["node 2 is no other node than the one here", "correct --peers", "--node-id"]);
}

#[test]
fn two_voters_become_one_that_serves() {
    let Some(mut cluster) = Cluster::start() else { return };
    assert_eq!(cluster.terminate(3).code(), Some(0));
    // Its process has ended, and is missed a moment later: that is waited for.
    let removed = ask(cluster.node(1), 30, &["remove-node", "3"]);
    assert_eq!(removed.status.code(), Some(0), "{}{}", removed.stdout, removed.stderr);
    let (address, node) = (cluster.node(1).address().to_owned(), "2");
    let removing = thread::spawn(move || {
        run_to_end(&["cluster", "remove-node", node, "--bootstrap-servers", &address, "--timeout", "30"])
    });
    wait_for("node 2 votes no more", || {
        let told = ask(cluster.node(1), 10, &["status"]);
        let votes_no_more = rows(&told).iter().any(|row| row[0] == node && row[4] != "voter" && row[4] != "leader");
        (votes_no_more || removing.is_finished()).then_some(())
    });
    if removing.is_finished() {
        let ended = removing.join().expect("the command ends");
        panic!("it does not wait for node 2 to stop: {}{}", ended.stdout, ended.stderr);
    }
    assert_eq!(cluster.terminate(2).code(), Some(0));
    let removed = removing.join().expect("the command ends");
    assert_eq!(removed.status.code(), Some(0), "{}{}", removed.stdout, removed.stderr);
    wait_for("node 1 is well by itself", || {
        let told = ask(cluster.node(1), 10, &["status"]);
        (told.status.code() == Some(0) && rows(&told).len() == 1).then_some(())
    });
    cluster.create(1, "alone", 1);
}

#[test]
fn who_asks_where_nodes_listen_for_each_other_is_told_that_it_is_no_place_for_clients() {
    let Some(cluster) = Cluster::start() else { return };
    let ended = run_to_end(&["cluster", "status", "--bootstrap-servers", &cluster.raft_addr(1), "--timeout", "20"]);
    assert_eq!(ended.status.code(), Some(2), "{}", ended.stderr);
    assert!(ended.stderr.contains("is that where it listens for clients"), "{}", ended.stderr);
}
