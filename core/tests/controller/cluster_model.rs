//! Any run of what can happen to brokers leaves an image whose invariants hold, whose snapshot rebuilds it, in which
//! epochs have only risen, nothing is due, and nobody leads who may not.

use std::collections::BTreeMap;

use chronik_core::controller::image::MetadataImage;
use chronik_core::controller::records::PartitionState;
use chronik_core::controller::{Controller, Registered};
use chronik_core::ids::{BrokerEpoch, NodeId, TopicPartition};
use proptest::prelude::*;

use super::cluster::candidate;
use super::{Cluster, topic};
use chronik_core::wire::create_topics::CreateTopicsRequest;

#[derive(Clone, Debug)]
enum Step {
    Create {
        name: &'static str,
        assignment: Vec<Vec<i32>>,
        unclean: bool,
    },
    Register {
        node_id: i32,
        has_lost: bool,
    },
    Fence(i32),
    Unfence(i32),
    Shutdown(i32),
    Propose {
        from: i32,
        partition: usize,
        members: Vec<i32>,
        by_another_process: bool,
    },
    Sweep,
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
        2 => (node(), prop::bool::weighted(0.3)).prop_map(|(node_id, has_lost)| Step::Register { node_id, has_lost }),
        3 => node().prop_map(Step::Fence),
        5 => node().prop_map(Step::Unfence),
        1 => node().prop_map(Step::Shutdown),
        8 => (node(), any::<usize>(), replicas(), prop::bool::weighted(0.1)).prop_map(
            |(from, partition, members, by_another_process)| Step::Propose {
                from, partition, members, by_another_process
            }
        ),
        1 => Just(Step::Sweep),
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

fn take(cluster: &mut Cluster, process: &mut u64, step: &Step) {
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
        Step::Register { node_id, has_lost } => {
            *process += 1;
            let mut candidate = candidate(*node_id, *process);
            candidate.has_lost = *has_lost;
            loop {
                let decision = cluster.controller.register_broker(&candidate).expect("it is its own folder");
                match cluster.commit(decision) {
                    Registered::As(broker_epoch) => {
                        let duties = cluster.controller.image().partition_index().duties(candidate.node_id).clone();
                        assert!(duties.leads.is_empty(), "process {broker_epoch} leads in no epoch from before it");
                        if *has_lost {
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
        Step::Due(entries) => {
            for _ in 0..*entries {
                let Some(decision) = cluster.controller.due() else { return };
                cluster.commit(decision);
            }
        }
    }
}

/// What a partition's state may become.
fn check_step(before: &BTreeMap<TopicPartition, PartitionState>, cluster: &Cluster) {
    for (partition, now) in partitions(&cluster.controller) {
        let Some(was) = before.get(&partition) else { continue };
        if *was == now {
            continue;
        }
        assert!(now.partition_epoch > was.partition_epoch, "{partition}: any change has an epoch");
        assert!(now.leader_epoch >= was.leader_epoch);
        assert!(now.leader == was.leader || now.leader_epoch > was.leader_epoch, "{partition}: a leader has an epoch");
        let is_clean = now.unclean_epoch == was.unclean_epoch;
        let held = |node_id: &NodeId| was.isr.contains(node_id) || was.eligible.contains(node_id);
        if let Some(leader) = now.leader
            && now.leader != was.leader
            && is_clean
        {
            assert!(held(&leader), "{partition}: who did not hold all that was acknowledged leads: {was:?} {now:?}");
        }
    }
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
        let mut process = 10;
        for step in &steps {
            let before = partitions(&cluster.controller);
            take(&mut cluster, &mut process, step);
            check_step(&before, &cluster);
        }
        cluster.settle();
        check_settled(&cluster);
        let image = cluster.controller.image();
        let again = MetadataImage::decode_snapshot(image.index(), &image.encode_snapshot());
        prop_assert_eq!(again.as_ref(), Ok(image));
    }
}
