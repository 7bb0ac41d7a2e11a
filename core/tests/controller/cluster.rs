//! Several brokers: who is registered, fenced, elected and in sync.

use chronik_core::config::BrokerConfig;
use chronik_core::controller::records::{MetadataRecord, PartitionState, PeerAddress, Standing};
use chronik_core::controller::{Candidate, Controller, Elected, PARTITIONS_PER_ENTRY_MAX, Registered, Right};
use chronik_core::ids::{BrokerEpoch, LeaderEpoch, NodeId, PartitionEpoch, TopicPartition, Uuid};
use chronik_core::peer::{Damaged, Proposal, ProposalOutcome, Replica};
use chronik_core::wire::ErrorCode;
use chronik_core::wire::create_topics::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig, CreateTopicsRequest,
};
use chronik_core::wire::incremental_alter_configs::{
    AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest,
};
use chronik_core::wire::unregister_broker::UnregisterBrokerRequest;

use super::{Cluster, addresses, error};

/// A process of a broker that asks to be registered; each has a data folder of its own.
pub(super) fn candidate(node_id: i32, process: u64) -> Candidate {
    Candidate {
        node_id: NodeId(node_id),
        directory_id: Uuid([u8::try_from(node_id).expect("few brokers"); 16]),
        process,
        listeners: addresses(),
        peer_address: Some(PeerAddress { host: "localhost".into(), port: 9093 }),
        rack: None,
    }
}

impl Cluster {
    /// A cluster of the active brokers `1..=brokers`.
    pub(super) fn of(brokers: i32) -> Cluster {
        Cluster::of_with(brokers, &[])
    }

    /// The same, with these settings in the file of broker 1.
    pub(super) fn of_with(brokers: i32, pairs: &[(&str, &str)]) -> Cluster {
        let mut cluster = Cluster::with(pairs);
        for node_id in 2..=brokers {
            cluster.join(candidate(node_id, 1));
        }
        cluster
    }

    /// Registers a process, and unfences it.
    pub(super) fn join(&mut self, candidate: Candidate) -> i64 {
        let node_id = candidate.node_id;
        let broker_epoch = self.registered(&candidate);
        let decision = self.controller.unfence(node_id, broker_epoch).expect("it is the last process");
        self.commit(decision);
        self.settle();
        broker_epoch
    }

    /// Registers a process, however many steps that takes.
    pub(super) fn registered(&mut self, candidate: &Candidate) -> i64 {
        loop {
            let decision = self.controller.register_broker(candidate).expect("it may register");
            if let Registered::As(broker_epoch) = self.commit(decision) {
                return broker_epoch;
            }
        }
    }

    fn unregister(&mut self, broker_id: i32) {
        let decision = self.controller.unregister_broker(&UnregisterBrokerRequest { broker_id });
        assert_eq!(self.commit(decision).error_code, 0);
    }

    pub(super) fn epoch(&self, node_id: i32) -> i64 {
        self.controller.image().broker(NodeId(node_id)).expect("it is registered").broker_epoch
    }

    pub(super) fn fence(&mut self, node_id: i32) -> Vec<Elected> {
        let decision = self.controller.fence(NodeId(node_id), self.epoch(node_id)).expect("the last process");
        self.commit(decision);
        self.settle()
    }

    pub(super) fn unfence(&mut self, node_id: i32) -> Vec<Elected> {
        let decision = self.controller.unfence(NodeId(node_id), self.epoch(node_id)).expect("the last process");
        self.commit(decision);
        self.settle()
    }

    /// Carries out all that is due.
    pub(super) fn settle(&mut self) -> Vec<Elected> {
        let mut elected = Vec::new();
        while let Some(decision) = self.controller.due() {
            assert!(decision.records.len() <= PARTITIONS_PER_ENTRY_MAX);
            elected.extend(self.commit(decision));
        }
        elected
    }

    /// Creates the topic `name`, a partition for each of `assignments`, and returns its id.
    pub(super) fn assigned(&mut self, name: &str, assignments: &[&[i32]], configs: &[(&str, &str)]) -> Uuid {
        let configs = configs
            .iter()
            .map(|(name, value)| CreatableTopicConfig { name: (*name).into(), value: Some((*value).into()) });
        let assignments = (0..).zip(assignments).map(|(partition_index, broker_ids)| CreatableReplicaAssignment {
            partition_index,
            broker_ids: broker_ids.to_vec(),
        });
        let topic = CreatableTopic {
            name: name.into(),
            num_partitions: -1,
            replication_factor: -1,
            assignments: assignments.collect(),
            configs: configs.collect(),
        };
        let request = CreateTopicsRequest { topics: vec![topic], ..Default::default() };
        let decision = self.controller.create_topics(&mut self.rng, &request);
        let response = self.commit(decision);
        assert_eq!(response.topics[0].error_code, 0, "{:?}", response.topics[0].error_message);
        response.topics[0].topic_id
    }

    pub(super) fn state(&self, topic: Uuid, partition: i32) -> &PartitionState {
        self.controller.image().partition(TopicPartition { topic, partition }).expect("it exists")
    }

    /// What the leader of a partition would propose as its in-sync set.
    pub(super) fn proposal(&self, topic: Uuid, partition: i32, members: &[i32]) -> Proposal {
        let state = self.state(topic, partition);
        let members = members.iter().map(|node_id| Replica {
            node: NodeId(*node_id),
            broker_epoch: BrokerEpoch(self.controller.image().broker(NodeId(*node_id)).map_or(-1, |b| b.broker_epoch)),
        });
        Proposal {
            partition: TopicPartition { topic, partition },
            leader_epoch: state.leader_epoch,
            partition_epoch: PartitionEpoch(state.partition_epoch),
            attempt: 1,
            members: members.collect(),
        }
    }

    /// Has a broker propose, and returns what became of it.
    pub(super) fn propose(&mut self, from: i32, proposal: Proposal) -> ProposalOutcome {
        let epoch = BrokerEpoch(self.controller.image().broker(NodeId(from)).map_or(-1, |b| b.broker_epoch));
        let decision = self.controller.alter_in_sync(NodeId(from), epoch, std::slice::from_ref(&proposal));
        let answers = self.commit(decision);
        assert_eq!(answers.len(), 1);
        assert_eq!((answers[0].partition, answers[0].attempt), (proposal.partition, proposal.attempt));
        answers[0].outcome
    }

    /// Has the leader of a partition propose this in-sync set, which is carried out.
    pub(super) fn sync(&mut self, topic: Uuid, partition: i32, members: &[i32]) {
        let leader = self.state(topic, partition).leader.expect("it has a leader").0;
        let proposal = self.proposal(topic, partition, members);
        assert_eq!(self.propose(leader, proposal), ProposalOutcome::Committed);
    }

    /// Leader, in-sync set and eligible replicas of a partition, for short.
    pub(super) fn told(&self, topic: Uuid, partition: i32) -> String {
        let state = self.state(topic, partition);
        let numbers = |nodes: &[NodeId]| nodes.iter().map(|node| node.to_string()).collect::<Vec<_>>().join(",");
        let leader = state.leader.map_or("none".to_owned(), |leader| leader.to_string());
        format!("{leader} of {} or {}", numbers(&state.isr), numbers(&state.eligible))
    }
}

#[test]
fn a_broker_is_fenced_until_it_is_unfenced() {
    let mut cluster = Cluster::of(1);
    let broker_epoch = cluster.registered(&candidate(2, 7));
    let registered = cluster.controller.image().broker(NodeId(2)).expect("it is registered").clone();
    assert_eq!((registered.broker_epoch, registered.process, registered.standing), (broker_epoch, 7, Standing::Fenced));
    assert!(!cluster.controller.image().is_active(NodeId(2)));
    cluster.unfence(2);
    assert!(cluster.controller.image().is_active(NodeId(2)));
    let again = cluster.controller.unfence(NodeId(2), broker_epoch).expect("it is the last process");
    assert_eq!(again.records, []);
}

#[test]
fn a_registration_that_came_twice_is_carried_out_once() {
    let mut cluster = Cluster::of(1);
    let broker_epoch = cluster.registered(&candidate(2, 7));
    let again = cluster.controller.register_broker(&candidate(2, 7)).expect("it may");
    assert_eq!((again.records.len(), again.response), (0, Registered::As(broker_epoch)));
    assert_eq!(cluster.registered(&candidate(2, 8)), broker_epoch + 1);
}

#[test]
fn another_folder_under_a_known_number_is_refused_unless_the_broker_was_removed() {
    let mut cluster = Cluster::of(2);
    let other = chronik_core::controller::Candidate { directory_id: Uuid([9; 16]), ..candidate(2, 9) };
    let refused = cluster.controller.register_broker(&other).expect_err("another folder");
    assert_eq!(error(refused.error.code()), "INVALID_REGISTRATION");
    let epoch = cluster.epoch(2);
    cluster.changes(&chronik_core::controller::Decision {
        records: vec![MetadataRecord::RemoveBroker { node_id: NodeId(2) }],
        response: (),
    });
    assert!(cluster.registered(&other) > epoch, "a broker epoch is never used again");
}

#[test]
fn what_is_asked_for_an_earlier_process_is_refused() {
    let cluster = Cluster::of(2);
    let (stale, nobody) = (cluster.epoch(2) - 1, NodeId(9));
    let code = |refused: Result<_, chronik_core::controller::Refused>| {
        error(refused.map(|_: chronik_core::controller::Decision<()>| ()).expect_err("refused").error.code())
    };
    assert_eq!(code(cluster.controller.fence(NodeId(2), stale)), "STALE_BROKER_EPOCH");
    assert_eq!(code(cluster.controller.unfence(NodeId(2), stale)), "STALE_BROKER_EPOCH");
    assert_eq!(code(cluster.controller.begin_shutdown(nobody, 1)), "BROKER_ID_NOT_REGISTERED");
}

#[test]
fn a_process_leads_nothing_in_an_epoch_that_began_before_it() {
    let mut cluster = Cluster::of(3);
    let topic = cluster.assigned("t", &[&[2, 1, 3]], &[]);
    let alone = cluster.assigned("alone", &[&[2]], &[]);
    let first = cluster.controller.register_broker(&candidate(2, 99)).expect("it may");
    assert_eq!(first.response, Registered::NotYet);
    cluster.registered(&candidate(2, 99));
    assert_eq!(cluster.told(topic, 0), "1 of 1,3 or ");
    // Its only replica stays in sync, and leads again once it may, in a new epoch.
    assert_eq!(cluster.told(alone, 0), "none of 2 or ");
    let before = cluster.state(alone, 0).leader_epoch;
    cluster.unfence(2);
    assert_eq!(cluster.told(alone, 0), "2 of 2 or ");
    assert!(cluster.state(alone, 0).leader_epoch > before);
}

#[test]
fn a_fenced_broker_leads_nothing_and_the_next_in_order_does() {
    let mut cluster = Cluster::of(3);
    let topic = cluster.assigned("t", &[&[1, 2, 3], &[2, 3, 1], &[3, 1, 2]], &[]);
    let elected = cluster.fence(2);
    let partition = TopicPartition { topic, partition: 1 };
    let (before, leader) = (Some(NodeId(2)), Some(NodeId(3)));
    assert_eq!(elected, [Elected { partition, before, leader, by: Right::InSync }]);
    assert_eq!(cluster.told(topic, 0), "1 of 1,3 or ");
    assert_eq!(cluster.told(topic, 1), "3 of 3,1 or ");
    assert_eq!(cluster.told(topic, 2), "3 of 3,1 or ");
    assert_eq!(cluster.state(topic, 0).leader_epoch, LeaderEpoch(0), "whoever leads goes on");
    assert_eq!(cluster.state(topic, 1).leader_epoch, LeaderEpoch(1));
}

#[test]
fn ten_thousand_partitions_fail_over_in_small_entries() {
    let mut cluster = Cluster::of(2);
    let assignments: Vec<&[i32]> = (0..1000).map(|_| &[2, 1][..]).collect();
    let topic = cluster.assigned("t", &assignments, &[]);
    let decision = cluster.controller.fence(NodeId(2), cluster.epoch(2)).expect("the last process");
    cluster.commit(decision);
    let mut entries = 0;
    while let Some(decision) = cluster.controller.due() {
        assert_eq!(decision.records.len(), PARTITIONS_PER_ENTRY_MAX);
        cluster.commit(decision);
        entries += 1;
    }
    assert_eq!(entries, 1000 / PARTITIONS_PER_ENTRY_MAX);
    assert_eq!(cluster.told(topic, 999), "1 of 1 or ");
}

#[test]
fn the_last_in_sync_replica_stays_though_it_is_fenced() {
    let mut cluster = Cluster::of(2);
    let topic = cluster.assigned("t", &[&[1, 2]], &[]);
    cluster.fence(2);
    cluster.fence(1);
    assert_eq!(cluster.told(topic, 0), "none of 1 or ");
    cluster.unfence(2);
    assert_eq!(cluster.told(topic, 0), "none of 1 or ", "who is behind does not lead");
    cluster.unfence(1);
    assert_eq!(cluster.told(topic, 0), "1 of 1 or ");
}

#[test]
fn below_min_insync_replicas_who_leaves_may_still_lead() {
    // Of three replicas, two must be in sync where nobody says otherwise.
    let mut cluster = Cluster::of(4);
    let topic = cluster.assigned("t", &[&[1, 2, 3]], &[]);
    cluster.fence(2);
    assert_eq!(cluster.told(topic, 0), "1 of 1,3 or ");
    cluster.fence(3);
    assert_eq!(cluster.told(topic, 0), "1 of 1 or 3");
    cluster.fence(1);
    assert_eq!(cluster.told(topic, 0), "none of 1 or 3");
    let elected = cluster.unfence(3);
    assert_eq!(elected.iter().map(|elected| elected.by).collect::<Vec<_>>(), [Right::Eligible]);
    assert_eq!(cluster.told(topic, 0), "3 of 3 or 1");
    // The set is large enough again: whoever is outside may be behind by now.
    cluster.unfence(2);
    cluster.sync(topic, 0, &[2, 3]);
    assert_eq!(cluster.told(topic, 0), "3 of 2,3 or ");
}

#[test]
fn whoever_takes_the_number_of_a_broker_that_was_removed_is_neither_in_sync_nor_eligible() {
    let mut cluster = Cluster::of(4);
    let topic = cluster.assigned("t", &[&[1, 2, 3], &[2, 3, 4]], &[]);
    cluster.fence(2);
    cluster.unregister(2);
    cluster.registered(&candidate(2, 9));
    assert_eq!(cluster.told(topic, 0), "1 of 1,3 or ");
    assert_eq!(cluster.told(topic, 1), "3 of 3,4 or ");
    // The last one standing is not believed where another one is known to hold all that was acknowledged.
    cluster.fence(3);
    cluster.fence(4);
    assert_eq!(cluster.told(topic, 1), "none of 4 or 3");
    cluster.unregister(4);
    cluster.registered(&candidate(4, 9));
    assert_eq!(cluster.told(topic, 1), "none of 3 or ");
}

#[test]
fn others_do_without_a_damaged_replica_where_they_can() {
    let check = |configs: &[(&str, &str)], away: &[i32], damaged: i32, expect: &str| {
        let mut cluster = Cluster::of(3);
        let topic = cluster.assigned("t", &[&[1, 2, 3]], configs);
        away.iter().for_each(|node_id| _ = cluster.fence(*node_id));
        let told = Damaged {
            partition: TopicPartition { topic, partition: 0 },
            leader_epoch: cluster.state(topic, 0).leader_epoch,
        };
        let (told, node_id) = ([told.clone(), told], NodeId(damaged));
        let decision = cluster.controller.damaged(node_id, &told);
        let changes = !decision.records.is_empty();
        cluster.commit(decision);
        assert_eq!(cluster.told(topic, 0), expect, "{configs:?}, without {away:?}, {damaged} is damaged");
        let state = cluster.state(topic, 0);
        assert_eq!(state.leader_epoch > told[0].leader_epoch, changes, "what it acknowledged before is void");
        // Nothing is due that undoes it, and what is told twice is done once.
        assert_eq!(cluster.settle(), []);
        let again = cluster.controller.damaged(node_id, &told);
        assert_eq!(again.records, []);
    };
    let (one, two) = ([("min.insync.replicas", "1")], [("min.insync.replicas", "2")]);
    check(&one, &[], 1, "2 of 2,3 or ");
    check(&one, &[], 2, "1 of 1,3 or ");
    check(&one, &[2], 1, "3 of 3 or ");
    check(&two, &[2], 1, "3 of 3 or ");
    check(&two, &[2, 3], 3, "1 of 1 or ");
    // It is outside, and its leader may be about to propose it.
    check(&two, &[2], 2, "1 of 1,3 or ");
    // Nobody else is in sync: one that holds all that was acknowledged is waited for, else nothing changes.
    check(&two, &[2, 3], 1, "none of 3 or ");
    check(&one, &[2, 3], 1, "1 of 1 or ");
    check(&[("min.insync.replicas", "1"), ("unclean.leader.election.enable", "true")], &[2, 3], 1, "1 of 1 or ");
}

#[test]
fn an_unclean_election_happens_only_where_the_topic_asks_for_it() {
    let check = |configs: &[(&str, &str)], expect: &str| {
        let mut cluster = Cluster::of(2);
        let topic = cluster.assigned("t", &[&[1, 2]], configs);
        cluster.sync(topic, 0, &[1]);
        let elected = cluster.fence(1);
        assert_eq!(cluster.told(topic, 0), expect);
        let state = cluster.state(topic, 0);
        let is_unclean = elected.iter().any(|elected| elected.by == Right::Unclean);
        assert_eq!(state.unclean_epoch, is_unclean.then_some(state.leader_epoch));
    };
    check(&[], "none of 1 or ");
    check(&[("unclean.leader.election.enable", "false")], "none of 1 or ");
    check(&[("unclean.leader.election.enable", "true")], "2 of 2 or ");
}

#[test]
fn a_return_makes_an_unclean_election_possible() {
    let mut cluster = Cluster::of(2);
    let topic = cluster.assigned("t", &[&[1, 2]], &[("unclean.leader.election.enable", "true")]);
    cluster.fence(2);
    cluster.fence(1);
    cluster.unfence(2);
    assert_eq!(cluster.told(topic, 0), "none of 1 or ", "the sweep comes later");
    let mut after = None;
    let mut elected = Vec::new();
    while let Some(decision) = cluster.controller.elect_unclean(&mut after) {
        elected.extend(cluster.commit(decision));
    }
    assert_eq!(elected.iter().map(|elected| elected.by).collect::<Vec<_>>(), [Right::Unclean]);
    assert_eq!(cluster.told(topic, 0), "2 of 2 or ");
}

#[test]
fn a_broker_that_stops_in_order_may_stop_when_it_leads_nothing() {
    let mut cluster = Cluster::of(2);
    let topic = cluster.assigned("t", &[&[2, 1]], &[]);
    let alone = cluster.assigned("alone", &[&[2]], &[]);
    let decision = cluster.controller.begin_shutdown(NodeId(2), cluster.epoch(2)).expect("the last process");
    assert!(!cluster.controller.may_stop(NodeId(2)));
    cluster.commit(decision);
    assert!(!cluster.controller.may_stop(NodeId(2)));
    cluster.settle();
    assert!(cluster.controller.may_stop(NodeId(2)));
    assert_eq!(cluster.told(topic, 0), "1 of 1 or ");
    assert_eq!(cluster.told(alone, 0), "none of 2 or ");
    let back = cluster.controller.unfence(NodeId(2), cluster.epoch(2)).expect("the last process");
    assert_eq!(back.records, [], "who stops does not come back but as another process");
}

#[test]
fn an_in_sync_set_is_changed_by_its_leader_on_the_state_that_it_knows() {
    let mut cluster = Cluster::of(3);
    let topic = cluster.assigned("t", &[&[1, 2, 3]], &[]);
    let check = |cluster: &mut Cluster, from: i32, change: &dyn Fn(&mut Proposal), expect: ProposalOutcome| {
        let mut proposal = cluster.proposal(topic, 0, &[1, 2]);
        change(&mut proposal);
        let before = cluster.state(topic, 0).clone();
        assert_eq!(cluster.propose(from, proposal), expect);
        assert_eq!(*cluster.state(topic, 0) == before, expect != ProposalOutcome::Committed);
    };
    use ProposalOutcome::{Committed, Ineligible, Stale};
    check(&mut cluster, 2, &|_| {}, Stale);
    check(&mut cluster, 9, &|_| {}, Stale);
    check(&mut cluster, 1, &|proposal| proposal.leader_epoch = LeaderEpoch(1), Stale);
    check(&mut cluster, 1, &|proposal| proposal.partition_epoch = PartitionEpoch(1), Stale);
    check(&mut cluster, 1, &|proposal| proposal.partition.partition = 7, Stale);
    check(&mut cluster, 1, &|proposal| proposal.members.clear(), Ineligible);
    check(&mut cluster, 1, &|proposal| _ = proposal.members.remove(0), Ineligible);
    check(&mut cluster, 1, &|proposal| proposal.members[1] = proposal.members[0].clone(), Ineligible);
    check(&mut cluster, 1, &|proposal| proposal.members[1].node = NodeId(9), Ineligible);
    check(&mut cluster, 1, &|proposal| proposal.members[1].broker_epoch = BrokerEpoch(1), Ineligible);
    check(&mut cluster, 1, &|_| {}, Committed);
    assert_eq!(cluster.told(topic, 0), "1 of 1,2 or ");
    // The set that there is settles a proposal by a newer state all the same.
    check(&mut cluster, 1, &|_| {}, Committed);
    assert_eq!(cluster.state(topic, 0).leader_epoch, LeaderEpoch(0));
}

#[test]
fn a_fenced_or_stopping_broker_joins_no_in_sync_set() {
    let mut cluster = Cluster::of(3);
    let topic = cluster.assigned("t", &[&[1, 2, 3]], &[]);
    cluster.fence(2);
    let proposal = cluster.proposal(topic, 0, &[1, 2, 3]);
    assert_eq!(cluster.propose(1, proposal), ProposalOutcome::Ineligible);
    cluster.unfence(2);
    let decision = cluster.controller.begin_shutdown(NodeId(2), cluster.epoch(2)).expect("the last process");
    cluster.commit(decision);
    let proposal = cluster.proposal(topic, 0, &[1, 2, 3]);
    assert_eq!(cluster.propose(1, proposal), ProposalOutcome::Ineligible);
}

#[test]
fn of_two_proposals_for_one_partition_the_second_is_stale() {
    let mut cluster = Cluster::of(3);
    let topic = cluster.assigned("t", &[&[1, 2, 3]], &[]);
    let proposals = [cluster.proposal(topic, 0, &[1, 2]), cluster.proposal(topic, 0, &[1, 3])];
    let epoch = BrokerEpoch(cluster.epoch(1));
    let decision = cluster.controller.alter_in_sync(NodeId(1), epoch, &proposals);
    let outcomes: Vec<_> = cluster.commit(decision).iter().map(|answer| answer.outcome).collect();
    assert_eq!(outcomes, [ProposalOutcome::Committed, ProposalOutcome::Stale]);
    assert_eq!(cluster.told(topic, 0), "1 of 1,2 or ");
}

#[test]
fn the_smallest_in_sync_set_is_one_for_all_brokers() {
    // Alone it is what the file says, and from the second broker on what all know.
    let mut alone = Cluster::with(&[("min.insync.replicas", "3")]);
    let topic = alone.assigned("t", &[&[1]], &[]);
    assert_eq!(alone.controller.election_rules(topic).min_insync_replicas, Some(3));
    alone.join(candidate(2, 1));
    assert_eq!(alone.controller.image().cluster_settings().get("min.insync.replicas").map(String::as_str), Some("3"));
    assert_eq!(alone.controller.election_rules(topic).min_insync_replicas, Some(3));

    // What only one file of several says counts for nobody.
    let mut decides = Cluster::of(3);
    let topic = decides.assigned("t", &[&[1, 2, 3]], &[]);
    let file = BrokerConfig::parse([("min.insync.replicas", "1")]).expect("it is sound");
    let other = Controller::new(NodeId(2), "c".into(), file, decides.controller.image().clone());
    assert_eq!(decides.controller.election_rules(topic), other.election_rules(topic));
}

#[test]
fn no_broker_has_a_smallest_in_sync_set_of_its_own() {
    let mut cluster = Cluster::of(2);
    let alter = |resource_name: &str| IncrementalAlterConfigsRequest {
        resources: vec![AlterConfigsResource {
            resource_type: 4,
            resource_name: resource_name.into(),
            configs: vec![AlterableConfig {
                name: "min.insync.replicas".into(),
                config_operation: 0,
                value: Some("1".into()),
            }],
        }],
        validate_only: false,
    };
    let of_one = cluster.controller.incremental_alter_configs(&alter("1"));
    assert_eq!((of_one.records, of_one.response.responses[0].error_code), (vec![], ErrorCode::InvalidRequest.code()));
    let decision = cluster.controller.incremental_alter_configs(&alter(""));
    assert_eq!(cluster.commit(decision).responses[0].error_code, 0);
}

#[test]
fn topics_are_placed_for_brokers_that_are_yet_to_come() {
    let mut cluster = Cluster::of(2);
    cluster.controller.expect(3);
    let names = ["t".into(), "__consumer_offsets".into()];
    let refused = cluster.controller.auto_create(&mut cluster.rng, &names).response;
    let codes: Vec<_> = refused.iter().map(|(name, refused)| (name.as_str(), refused.error.code())).collect();
    let lacks = ErrorCode::InvalidReplicationFactor.code();
    assert_eq!(codes, [("t", lacks), ("__consumer_offsets", lacks)]);
    cluster.join(candidate(3, 1));
    let decision = cluster.controller.auto_create(&mut cluster.rng, &names);
    assert_eq!(cluster.commit(decision), []);
    for name in ["t", "__consumer_offsets"] {
        assert_eq!(cluster.controller.image().topic_named(name).expect("it was made").replication_factor, 3);
    }
}
