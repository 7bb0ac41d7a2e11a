//! What an operator sees of a cluster: metrics, and lines of the log.

use super::*;
use crate::wire::create_topics::CreatableTopicConfig;

/// The value of a metric on a node, by its name with its labels.
fn metric(cluster: &Cluster, node: i32, name: &str) -> Option<u64> {
    let text = cluster.node(node).metrics();
    let line = text.lines().find_map(|line| line.strip_prefix("chronik_")?.strip_prefix(name)?.strip_prefix(' '));
    line.map(|value| value.parse().expect("a number"))
}

/// The sum over all nodes that run.
fn sum(cluster: &Cluster, name: &str) -> u64 {
    cluster.running_nodes().into_iter().map(|node| metric(cluster, node, name).expect("it is told")).sum()
}

fn create(cluster: &mut Cluster, replicas: &[&[i32]], settings: &[(&'static str, &'static str)]) {
    let assignments = (0..)
        .zip(replicas)
        .map(|(partition_index, nodes)| CreatableReplicaAssignment { partition_index, broker_ids: nodes.to_vec() });
    let configs =
        settings.iter().map(|&(name, value)| CreatableTopicConfig { name: name.into(), value: Some(value.into()) });
    let topic = CreatableTopic {
        name: "t".into(),
        num_partitions: -1,
        replication_factor: -1,
        assignments: assignments.collect(),
        configs: configs.collect(),
    };
    let request = CreateTopicsRequest { topics: vec![topic], timeout_ms: 5_000, ..CreateTopicsRequest::default() };
    let Response::CreateTopics(answer) = cluster.answer(1, 7, request.into()) else { panic!("another answer") };
    assert_eq!(answer.topics[0].error_code, 0, "{answer:?}");
}

#[test]
fn the_loss_of_a_broker_is_told_and_so_is_its_return() {
    let mut cluster = Cluster::running(3);
    let controller = cluster.controller().expect("somebody decides");
    let others: Vec<i32> = (1..=3).filter(|node| *node != controller).collect();
    let (stays, away) = (others[0], others[1]);
    create(&mut cluster, &[&[controller, stays, away], &[stays, away, controller], &[away, controller, stays]], &[]);
    assert_eq!(sum(&cluster, "active_controller"), 1);
    assert_eq!(metric(&cluster, controller, "raft_state{state=\"leader\"}"), Some(1));
    assert_eq!(metric(&cluster, stays, "raft_term"), metric(&cluster, controller, "raft_term"));
    assert_eq!(metric(&cluster, stays, "raft_applied_index"), metric(&cluster, stays, "raft_committed_index"));
    assert_eq!(sum(&cluster, "cluster_partitions_under_replicated"), 0);
    assert_eq!(sum(&cluster, "partitions_led"), 3);

    cluster.kill(away);
    cluster.pass(15_000);
    for node in [controller, stays] {
        let told = |name| metric(&cluster, node, name);
        assert_eq!(told("cluster_partitions_under_replicated"), Some(3), "{}", cluster.lines);
        assert_eq!((told("cluster_partitions_offline"), told("cluster_partitions_under_min_isr")), (Some(0), Some(0)));
        assert_eq!((told("cluster_partitions_at_min_isr"), told("brokers_fenced")), (Some(3), Some(1)));
    }
    assert_eq!((sum(&cluster, "in_sync_shrinks_total"), sum(&cluster, "in_sync_expands_total")), (3, 0));
    assert_eq!(metric(&cluster, controller, "leader_elections_total"), Some(1));
    assert_eq!(sum(&cluster, "unclean_leader_elections_total"), 0);
    for line in [
        format!("node {controller}: this node is the controller from now on: term="),
        format!("node {stays}: node {away} is fenced"),
        format!("node {controller}: led by this node from now on: t-2 epoch="),
        format!("node {stays}: in-sync set is smaller: t-1 from {stays},{away},{controller} to {stays},{controller}"),
    ] {
        assert!(cluster.lines.contains(&line), "{line}: {}", cluster.lines);
    }

    cluster.produce(controller, "t");
    cluster.pass(2_000);
    let lag = |cluster: &Cluster, of: &str| {
        metric(cluster, controller, &format!("replication_{of}{{follower=\"{away}\"}}")).expect("it follows")
    };
    assert_eq!((lag(&cluster, "lag_records"), lag(&cluster, "out_of_sync")), (1, 2));
    assert!(lag(&cluster, "lag_ms_max") >= 1_000, "{}", lag(&cluster, "lag_ms_max"));
    assert!(metric(&cluster, controller, "replication_sent_bytes_total") > Some(0), "another follower has it");
    assert!(metric(&cluster, stays, "replicated_bytes_total") > Some(0));

    cluster.start(away);
    cluster.pass(15_000);
    assert_eq!(sum(&cluster, "cluster_partitions_under_replicated"), 0, "{}", cluster.lines);
    assert!(sum(&cluster, "in_sync_expands_total") >= 3);
    assert_eq!((lag(&cluster, "lag_records"), lag(&cluster, "out_of_sync")), (0, 0));
    assert!(cluster.lines.contains(&format!("node {stays}: node {away} is unfenced")), "{}", cluster.lines);
    assert!(cluster.lines.contains("in-sync set is larger"), "{}", cluster.lines);
}

#[test]
fn an_unclean_election_is_said_loudly() {
    let mut cluster = Cluster::running(3);
    let controller = cluster.controller().expect("somebody decides");
    let others: Vec<i32> = (1..=3).filter(|node| *node != controller).collect();
    let settings = [("unclean.leader.election.enable", "true"), ("min.insync.replicas", "1")];
    create(&mut cluster, &[&[others[0], others[1]]], &settings);
    cluster.kill(others[1]);
    cluster.pass(15_000);
    cluster.kill(others[0]);
    cluster.start(others[1]);
    cluster.pass(20_000);
    assert_eq!(sum(&cluster, "unclean_leader_elections_total"), 1, "{}", cluster.lines);
    let line = format!("led by an unclean election, records may be lost: t-0 by node {}", others[1]);
    assert!(cluster.lines.contains(&line), "{}", cluster.lines);
}

#[test]
fn the_move_of_very_many_partitions_is_one_line_that_counts() {
    let mut cluster = Cluster::running(3);
    let controller = cluster.controller().expect("somebody decides");
    let away = (1..=3).find(|node| *node != controller).expect("two follow");
    let replicas = [away, controller];
    create(&mut cluster, &[&replicas[..]; 500], &[]);
    cluster.kill(away);
    cluster.pass(15_000);
    let lines = |what: &str| cluster.lines.lines().filter(|line| line.contains(what)).collect::<Vec<_>>();
    let led = lines("led by this node from now on: t-");
    assert!(led.len() <= 3, "{led:?}");
    let more_of = |line: &&str| line.rsplit_once(", and ")?.1.strip_suffix(" more")?.parse::<usize>().ok();
    let more: usize = led.iter().filter_map(more_of).sum();
    assert_eq!(more + 3 * led.len(), 500, "{led:?}");
    assert!(lines("in-sync set is smaller: t-").len() <= 3);
}

#[test]
fn the_page_on_metrics_has_all_of_a_cluster() {
    let page = include_str!("../../../../../docs/operations/metrics.md");
    let alone = Rig::new().node.metrics();
    let cluster = Cluster::running(3);
    let text = cluster.node(1).metrics();
    let names = |text: &str| {
        text.lines()
            .filter_map(|line| Some(line.strip_prefix("# TYPE ")?.split(' ').next()?.to_owned()))
            .collect::<BTreeSet<_>>()
    };
    for name in names(&text).difference(&names(&alone)) {
        assert!(page.contains(&format!("`{name}")), "{name}");
    }
}

#[test]
fn a_broker_by_itself_tells_nothing_of_a_cluster() {
    let rig = Rig::new();
    assert!(!rig.node.metrics().contains("chronik_raft_"), "it has none");
}
