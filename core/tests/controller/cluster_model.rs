//! Any run of what can happen to brokers leaves an image whose invariants hold, whose snapshot rebuilds it, in which
//! epochs have only risen, nothing is due, and nobody leads who may not.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use chronik_core::controller::image::{MetadataImage, Snapshot};
use chronik_core::controller::records::{PartitionState, Standing};
use chronik_core::controller::{Controller, Figures, PARTITIONS_PER_ENTRY_MAX, Registered};
use chronik_core::ids::{BrokerEpoch, NodeId, TopicPartition};
use chronik_core::peer::Damaged;
use proptest::prelude::*;

use super::cluster::candidate;
use super::{Cluster, topic};
use chronik_core::wire::alter_partition_reassignments::{
    AlterPartitionReassignmentsRequest, ReassignablePartition, ReassignableTopic,
};
use chronik_core::wire::create_topics::CreateTopicsRequest;
use chronik_core::wire::elect_leaders::{ElectLeadersRequest, TopicPartitions};
use chronik_core::wire::incremental_alter_configs::{
    AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest,
};
use chronik_core::wire::unregister_broker::UnregisterBrokerRequest;

#[derive(Clone, Debug)]
enum Step {
    Create {
        name: &'static str,
        assignment: Vec<Vec<i32>>,
        unclean: bool,
    },
    Register(i32),
    Fence(i32),
    Unfence(i32),
    Shutdown(i32),
    Damaged(i32),
    Propose {
        from: i32,
        partition: usize,
        members: Vec<i32>,
        by_another_process: bool,
    },
    Sweep,
    Rebalance,
    /// `None` for all partitions.
    Elect {
        unclean: bool,
        partition: Option<usize>,
    },
    /// To nobody: it is to stay.
    Reassign {
        partition: usize,
        to: Option<Vec<i32>>,
    },
    Unregister(i32),
    /// The least number of in-sync replicas, of a topic or, without a name, of all.
    Least {
        name: Option<&'static str>,
        value: &'static str,
    },
    Snapshot(usize),
    /// What is due, this many entries of it.
    Due(usize),
}

fn node() -> impl Strategy<Value = i32> {
    1..5i32
}

fn replicas() -> impl Strategy<Value = Vec<i32>> {
    (Just(vec![1, 2, 3, 4]).prop_shuffle(), 1..5usize).prop_map(|(nodes, count)| nodes[..count].to_vec())
}

/// Replicas of several partitions, as many of each.
fn assignment() -> impl Strategy<Value = Vec<Vec<i32>>> {
    (prop::collection::vec(Just(vec![1, 2, 3, 4]).prop_shuffle(), 1..4), 1..5usize)
        .prop_map(|(nodes, count)| nodes.into_iter().map(|nodes| nodes[..count].to_vec()).collect())
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => (prop::sample::select(vec!["a", "b", "c"]), assignment(), any::<bool>()).prop_map(|(name, assignment, unclean)| Step::Create { name, assignment, unclean }),
        2 => node().prop_map(Step::Register),
        3 => node().prop_map(Step::Fence),
        5 => node().prop_map(Step::Unfence),
        1 => node().prop_map(Step::Shutdown),
        1 => node().prop_map(Step::Damaged),
        8 => (node(), any::<usize>(), replicas(), prop::bool::weighted(0.1)).prop_map(
            |(from, partition, members, by_another_process)| Step::Propose {
                from, partition, members, by_another_process
            }
        ),
        1 => Just(Step::Sweep),
        1 => Just(Step::Rebalance),
        2 => (any::<bool>(), prop::option::of(any::<usize>()))
            .prop_map(|(unclean, partition)| Step::Elect { unclean, partition }),
        4 => (any::<usize>(), prop::option::weighted(0.8, replicas()))
            .prop_map(|(partition, to)| Step::Reassign { partition, to }),
        1 => node().prop_map(Step::Unregister),
        1 => (prop::option::of(prop::sample::select(vec!["a", "b"])), prop::sample::select(vec!["1", "2", "3"]))
            .prop_map(|(name, value)| Step::Least { name, value }),
        1 => (0..3usize).prop_map(Step::Snapshot),
        4 => (0..3usize).prop_map(Step::Due),
    ]
}

fn partitions(controller: &Controller) -> BTreeMap<TopicPartition, PartitionState> {
    let topics = controller.image().topics_from("");
    topics
        .flat_map(|topic| {
            let states = (0..).zip(topic.partitions.iter());
            states.map(|(partition, state)| (TopicPartition { topic: topic.id, partition }, state.clone()))
        })
        .collect()
}

/// Any of the partitions, by its topic's name.
fn nth(cluster: &Cluster, at: usize) -> Option<(String, i32)> {
    let all: Vec<TopicPartition> = partitions(&cluster.controller).into_keys().collect();
    let TopicPartition { topic, partition } = *all.get(at % all.len().max(1))?;
    Some((cluster.controller.image().topic(topic)?.name.to_string(), partition))
}

/// What goes on beside the cluster.
#[derive(Default)]
struct Beside {
    /// The number of the next process.
    process: u64,
    /// The image when the snapshot began that is being taken.
    snapped: MetadataImage,
    /// Its parts.
    parts: Vec<u8>,
}

fn take(cluster: &mut Cluster, beside: &mut Beside, step: &Step) {
    let Beside { process, snapped, parts } = beside;
    let image = |cluster: &Cluster, node_id: i32| cluster.controller.image().broker(NodeId(node_id)).cloned();
    match step {
        Step::Create { name, assignment, unclean } => {
            let setting = [("unclean.leader.election.enable", if *unclean { "true" } else { "false" })];
            let mut asked = topic(name, -1, &setting);
            asked.assignments = (0..)
                .zip(assignment)
                .map(|(partition_index, broker_ids)| chronik_core::wire::create_topics::CreatableReplicaAssignment {
                    partition_index,
                    broker_ids: broker_ids.clone(),
                })
                .collect();
            let request = CreateTopicsRequest { topics: vec![asked], ..Default::default() };
            let decision = cluster.controller.create_topics(&mut cluster.rng, &request);
            cluster.commit(decision);
        }
        Step::Register(node_id) => {
            *process += 1;
            let candidate = candidate(*node_id, *process);
            let was_known = image(cluster, *node_id).is_some();
            loop {
                // A broker that was removed is refused while something is nowhere else.
                let Ok(decision) = cluster.controller.register_broker(&candidate) else { return };
                match cluster.commit(decision) {
                    Registered::As(broker_epoch) => {
                        let duties = cluster.controller.image().partition_index().duties(candidate.node_id).clone();
                        assert!(duties.leads.is_empty(), "process {broker_epoch} leads in no epoch from before it");
                        if !was_known {
                            assert!(duties.shares.is_empty() && duties.eligible.is_empty() && duties.backed.is_empty());
                        }
                        break;
                    }
                    Registered::NotYet => {}
                }
            }
        }
        Step::Fence(node_id) => {
            let Some(known) = image(cluster, *node_id) else { return };
            let decision = cluster.controller.fence(known.node_id, known.broker_epoch).expect("the last process");
            cluster.commit(decision);
        }
        Step::Unfence(node_id) => {
            let Some(known) = image(cluster, *node_id) else { return };
            let decision = cluster.controller.unfence(known.node_id, known.broker_epoch).expect("the last process");
            cluster.commit(decision);
        }
        Step::Damaged(node_id) => {
            let node_id = NodeId(*node_id);
            let held = cluster.controller.image().partition_index().duties(node_id).holds.iter().copied();
            let before = partitions(&cluster.controller);
            let damaged = held.map(|partition| Damaged { partition, leader_epoch: before[&partition].leader_epoch });
            let damaged: Vec<Damaged> = damaged.take(PARTITIONS_PER_ENTRY_MAX).collect();
            let decision = cluster.controller.damaged(node_id, &damaged);
            cluster.commit(decision);
            for Damaged { partition, leader_epoch } in damaged {
                let state = cluster.controller.image().partition(partition).expect("none is deleted");
                let is_the_last = before[&partition].isr == [node_id];
                assert!(is_the_last || state.leader_epoch > leader_epoch, "{partition}: what it said is void");
                assert!(is_the_last || !state.isr.contains(&node_id), "{partition}: the others do without it");
                assert!(is_the_last || !state.eligible.contains(&node_id), "{partition}: it holds nothing");
            }
        }
        Step::Shutdown(node_id) => {
            let Some(known) = image(cluster, *node_id) else { return };
            let decision =
                cluster.controller.begin_shutdown(known.node_id, known.broker_epoch).expect("the last process");
            cluster.commit(decision);
        }
        Step::Propose { from, partition, members, by_another_process } => {
            let all: Vec<TopicPartition> = partitions(&cluster.controller).into_keys().collect();
            let (Some(known), false) = (image(cluster, *from), all.is_empty()) else { return };
            let TopicPartition { topic, partition } = all[partition % all.len()];
            let proposal = cluster.proposal(topic, partition, members);
            let epoch = BrokerEpoch(known.broker_epoch - i64::from(*by_another_process));
            let decision = cluster.controller.alter_in_sync(NodeId(*from), epoch, &[proposal]);
            cluster.commit(decision);
        }
        Step::Sweep => {
            let mut after = None;
            while let Some(decision) = cluster.controller.elect_unclean(&mut after) {
                cluster.commit(decision);
            }
        }
        Step::Rebalance => {
            let mut after = None;
            while let Some(decision) = cluster.controller.rebalance(&mut after) {
                cluster.commit(decision);
            }
        }
        Step::Elect { unclean, partition } => {
            let topic_partitions = partition.and_then(|partition| nth(cluster, partition)).map(|(topic, partition)| {
                vec![TopicPartitions { topic: topic.into(), partitions: vec![partition, partition] }]
            });
            let request =
                ElectLeadersRequest { election_type: i8::from(*unclean), topic_partitions, ..Default::default() };
            let (decision, _) = cluster.controller.elect_leaders(&request);
            cluster.commit(decision);
        }
        Step::Reassign { partition, to } => {
            let Some((topic, partition_index)) = nth(cluster, *partition) else { return };
            let partition = ReassignablePartition { partition_index, replicas: to.clone() };
            let partitions = vec![partition.clone(), partition];
            let request = AlterPartitionReassignmentsRequest {
                topics: vec![ReassignableTopic { name: topic.into(), partitions }],
                ..Default::default()
            };
            let decision = cluster.controller.alter_partition_reassignments(&request);
            cluster.commit(decision);
        }
        Step::Unregister(node_id) => {
            let request = UnregisterBrokerRequest { broker_id: *node_id };
            let decision = cluster.controller.unregister_broker(&request);
            cluster.commit(decision);
        }
        Step::Least { name, value } => {
            let config = AlterableConfig {
                name: "min.insync.replicas".into(),
                config_operation: 0,
                value: Some((*value).into()),
            };
            let resource = AlterConfigsResource {
                resource_type: if name.is_some() { 2 } else { 4 },
                resource_name: name.unwrap_or_default().into(),
                configs: vec![config],
            };
            let request = IncrementalAlterConfigsRequest { resources: vec![resource], validate_only: false };
            let decision = cluster.controller.incremental_alter_configs(&request);
            cluster.commit(decision);
        }
        Step::Snapshot(records) => match &mut cluster.snapshot {
            None => {
                let image = cluster.controller.image();
                cluster.snapshot = Some(Snapshot::begin(image));
                parts.clear();
                *snapped = image.clone();
            }
            Some(snapshot) => {
                let (part, more) = snapshot.next_part(cluster.controller.image(), *records);
                parts.extend(part);
                if !more {
                    cluster.snapshot = None;
                    let again = MetadataImage::decode_snapshot(snapped.index(), parts);
                    assert_eq!(again.as_ref(), Ok(&*snapped), "a snapshot is of the moment when it began");
                }
            }
        },
        Step::Due(entries) => {
            for _ in 0..*entries {
                let Some(decision) = cluster.controller.due() else { return };
                cluster.commit(decision);
            }
        }
    }
}

/// What a partition's state may become.
fn check_step(before: &BTreeMap<TopicPartition, PartitionState>, step: &Step, cluster: &Cluster) {
    // Whom a leader has seen in sync holds everything.
    let seen: &[i32] = if let Step::Propose { members, .. } = step { members } else { &[] };
    for (partition, now) in partitions(&cluster.controller) {
        let Some(was) = before.get(&partition) else { continue };
        if *was == now {
            continue;
        }
        assert!(now.partition_epoch > was.partition_epoch, "{partition}: any change has an epoch");
        assert!(now.leader_epoch >= was.leader_epoch);
        assert!(now.leader == was.leader || now.leader_epoch > was.leader_epoch, "{partition}: a leader has an epoch");
        let is_clean = now.unclean_epoch == was.unclean_epoch;
        let held =
            |node_id: &NodeId| was.isr.contains(node_id) || was.eligible.contains(node_id) || seen.contains(&node_id.0);
        if let Some(leader) = now.leader
            && now.leader != was.leader
            && is_clean
        {
            assert!(held(&leader), "{partition}: who did not hold all that was acknowledged leads: {was:?} {now:?}");
        }
    }
}

/// For each partition, who surely holds all that was acknowledged.
type Holders = BTreeMap<TopicPartition, BTreeSet<NodeId>>;

/// Only who holds all that was acknowledged leads, unless an unclean election says otherwise. What is acknowledged is
/// what the in-sync set holds while it is large enough; then nobody else need have it.
fn check_holders(
    holders: &mut Holders,
    before: &BTreeMap<TopicPartition, PartitionState>,
    step: &Step,
    was_known: bool,
    cluster: &Cluster,
) {
    let all = partitions(&cluster.controller);
    holders.retain(|partition, _| all.contains_key(partition));
    for (partition, state) in all {
        let isr: BTreeSet<NodeId> = state.isr.iter().copied().collect();
        let holders = holders.entry(partition).or_insert_with(|| isr.clone());
        let was = before.get(&partition);
        match step {
            // Whom the leader has seen in sync has caught up.
            Step::Propose { .. } => holders.extend(&isr),
            Step::Damaged(node_id) if isr != [NodeId(*node_id)].into() => {
                holders.remove(&NodeId(*node_id));
            }
            Step::Register(node_id) if !was_known && cluster.controller.image().broker(NodeId(*node_id)).is_some() => {
                let lost = NodeId(*node_id);
                // Where nobody else has anything it is as good as can be.
                if isr != [lost].into() {
                    holders.remove(&lost);
                } else {
                    *holders = isr.clone();
                }
            }
            _ => {}
        }
        if was.is_some_and(|was| was.unclean_epoch != state.unclean_epoch) {
            *holders = isr.clone();
        }
        if let Some(leader) = state.leader {
            assert!(holders.contains(&leader), "{partition}: {leader} lacks what was acknowledged: {was:?} {state:?}");
            let least = cluster.controller.election_rules(partition.topic).min_in_sync(state.replication_factor());
            if isr.len() >= least {
                *holders = isr;
            }
        }
    }
}

/// The figures are what a walk over all partitions finds.
fn check_figures(cluster: &Cluster) {
    let all = partitions(&cluster.controller);
    let image = cluster.controller.image();
    let count = |is: &dyn Fn(&PartitionState) -> bool| all.values().filter(|state| is(state)).count();
    let beside_min = |is: Ordering| {
        let is_it = |partition: &TopicPartition, state: &PartitionState| {
            let rules = cluster.controller.election_rules(partition.topic);
            state.isr.len().cmp(&rules.min_in_sync(state.replication_factor())) == is
        };
        all.iter().filter(|(partition, state)| state.is_under_replicated() && is_it(partition, state)).count()
    };
    let expect = Figures {
        topics: image.topic_count(),
        partitions: all.len(),
        offline: count(&|state| state.leader.is_none()),
        under_replicated: count(&|state| state.isr.len() < state.replication_factor()),
        under_min_isr: beside_min(Ordering::Less),
        at_min_isr: beside_min(Ordering::Equal),
        reassigning: count(&|state| state.is_reassigning()),
        preferred_leader_imbalance: count(&|state| state.leader != state.replicas.first().copied()),
        active_brokers: image.brokers().filter(|broker| broker.standing == Standing::Active).count(),
        fenced_brokers: image.brokers().filter(|broker| broker.standing != Standing::Active).count(),
    };
    assert_eq!(cluster.controller.figures(), expect);
}

/// What holds once nothing is due.
fn check_settled(cluster: &Cluster) {
    let image = cluster.controller.image();
    for (partition, state) in partitions(&cluster.controller) {
        assert!(state.leader.is_none_or(|leader| image.is_active(leader)), "{partition}: {state:?}");
        let could = |node_id: &&NodeId| image.is_active(**node_id);
        let candidates = state.isr.iter().chain(&state.eligible);
        assert!(state.leader.is_some() || candidates.clone().find(could).is_none(), "{partition}: {state:?}");
        assert!(state.isr.len() == 1 || state.isr.iter().all(|node_id| image.is_active(*node_id)), "{partition}");
        let least = cluster.controller.election_rules(partition.topic).min_in_sync(state.replication_factor());
        assert!(state.eligible.is_empty() || state.isr.len() < least, "{partition}: {state:?}");
    }
}

proptest! {
    #[test]
    fn any_run_of_brokers_keeps_the_image_sound(steps in prop::collection::vec(step(), 1..60)) {
        let mut cluster = Cluster::of(4);
        let mut holders = Holders::new();
        let mut beside = Beside { process: 10, ..Beside::default() };
        for step in &steps {
            let before = partitions(&cluster.controller);
            let was_known = match step {
                Step::Register(node_id) => cluster.controller.image().broker(NodeId(*node_id)).is_some(),
                _ => true,
            };
            take(&mut cluster, &mut beside, step);
            check_step(&before, step, &cluster);
            check_holders(&mut holders, &before, step, was_known, &cluster);
            check_figures(&cluster);
        }
        cluster.settle();
        check_settled(&cluster);
        let image = cluster.controller.image();
        let again = MetadataImage::decode_snapshot(image.index(), &image.encode_snapshot());
        prop_assert_eq!(again.as_ref(), Ok(image));
    }
}
