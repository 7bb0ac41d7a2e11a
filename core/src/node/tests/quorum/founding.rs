//! Who founds a cluster, who is let into one, and who is not.

use super::*;

#[test]
fn three_nodes_found_a_cluster_elect_one_and_are_registered() {
    let cluster = Cluster::running(3);
    cluster.agree();
    let image = cluster.node(1).controller.image();
    assert!(image.cluster_id().is_some(), "the log says what the cluster is called");
    assert_eq!(image.brokers().len(), 3);
    assert!(image.brokers().all(|broker| broker.standing == Standing::Active && broker.process != 0));
}

#[test]
fn a_cluster_is_not_founded_before_all_folders_are_known() {
    let mut cluster = Cluster::of(3);
    cluster.start(1);
    cluster.start(2);
    cluster.pass(15_000);
    assert_eq!(cluster.controller(), None);
    assert!(cluster.lines.contains("waiting for node 3"), "{}", cluster.lines);
    cluster.start(3);
    cluster.pass(15_000);
    assert!(cluster.is_settled(), "{}", cluster.lines);
}

#[test]
fn where_nobody_founds_a_cluster_each_node_says_so() {
    let mut cluster = Cluster::of(2);
    cluster.bootstrap.clear();
    cluster.told_of = BTreeMap::from([(1, BTreeSet::from([2])), (2, BTreeSet::from([1]))]);
    (1..=2).for_each(|node| cluster.start(node));
    cluster.pass(5_000);
    assert!(!cluster.lines.contains("of no cluster yet"), "{}", cluster.lines);
    cluster.pass(10_000);
    for node in 1..=2 {
        let line = format!("node {node}: this node is of no cluster yet, nor is any that it has met");
        assert_eq!(cluster.lines.matches(&line).count(), 1, "{}", cluster.lines);
    }
}

#[test]
fn who_knows_of_a_cluster_founds_no_other() {
    let mut cluster = Cluster::of(3);
    // Node 3 was there before: alone, it is a cluster.
    cluster.bootstrap = BTreeSet::from([3]);
    cluster.start(3);
    cluster.pass(1_000);
    cluster.create(3, "old");
    cluster.bootstrap = BTreeSet::from([1, 2, 3]);
    // Node 1 hears of it before it hears of node 2, which knows nothing.
    cluster.start(1);
    cluster.pass(1_000);
    cluster.start(2);
    cluster.pass(15_000);
    assert!(cluster.is_settled(), "{}", cluster.lines);
    assert_eq!([cluster.topics(1), cluster.topics(2)], [["old"], ["old"]], "{}", cluster.lines);
    cluster.agree();
}

#[test]
fn a_node_that_was_wiped_is_refused_and_told_what_to_do() {
    let mut cluster = Cluster::running(3);
    cluster.wipe(3);
    cluster.start(3);
    cluster.pass(3_000);
    let why = cluster.brokers[&3].fatal.clone().expect("it must not vote again");
    assert!(why.contains("remove-node") && why.contains("add-node"), "{why}");
}

#[test]
fn a_whole_cluster_comes_back_with_all_that_it_was_told() {
    let mut cluster = Cluster::running(3);
    cluster.create(2, "t");
    (1..=3).for_each(|node| cluster.kill(node));
    (1..=3).for_each(|node| cluster.start(node));
    cluster.pass(15_000);
    assert!(cluster.is_settled(), "{}", cluster.lines);
    assert_eq!(cluster.topics(3), ["t"]);
    cluster.agree();
}
