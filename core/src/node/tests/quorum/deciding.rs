//! Who decides, what clients are told of it, and what the others make of the silence of one.

use super::*;
use crate::wire::create_topics::CreatableTopicConfig;
use crate::wire::init_producer_id::InitProducerIdRequest;

#[test]
fn whoever_is_asked_has_it_decided_and_knows_when_it_answers() {
    let mut cluster = Cluster::running(3);
    for node in 1..=3 {
        let name = format!("by{node}");
        cluster.create(node, &name);
        assert!(cluster.topics(node).contains(&name), "whom the client asked finds what it made");
    }
    cluster.pass(1_000);
    cluster.agree();
    let one = cluster.ask_to_create(1, "same", 30_000);
    let two = cluster.ask_to_create(2, "same", 30_000);
    cluster.pass(50);
    let codes = BTreeSet::from([cluster.created(1, one), cluster.created(2, two)]);
    assert_eq!(codes, BTreeSet::from([Some(0), Some(ErrorCode::TopicAlreadyExists.code())]));
}

#[test]
fn the_death_of_who_decides_is_survived_and_what_was_told_stays_true() {
    let mut cluster = Cluster::running(3);
    cluster.create(1, "before");
    let first = cluster.controller().expect("somebody decides");
    cluster.kill(first);
    let other = cluster.running_nodes()[0];
    let waiting = cluster.ask_to_create(other, "meanwhile", 30_000);
    assert_eq!(cluster.created(other, waiting), None, "nobody decides: it waits as long as its client");
    cluster.pass(15_000);
    assert_eq!(cluster.created(other, waiting), Some(0), "{}", cluster.lines);
    let image = cluster.node(other).controller.image();
    assert_eq!(image.broker(NodeId(first)).map(|broker| broker.standing), Some(Standing::Fenced));
    let leads =
        |topic: &str| image.topic_named::<str>(topic).into_iter().flat_map(|topic| topic.partitions.iter().cloned());
    assert!(leads("before").all(|state| state.leader != Some(NodeId(first))), "the dead lead nothing");
    cluster.start(first);
    cluster.pass(15_000);
    assert!(cluster.is_settled(), "{}", cluster.lines);
    cluster.agree();
    assert_eq!(cluster.topics(first), ["before", "meanwhile"]);
}

#[test]
fn whoever_is_cut_off_answers_in_time_that_nobody_decides() {
    let mut cluster = Cluster::running(3);
    let alone = (1..=3).find(|node| Some(*node) != cluster.controller()).expect("two follow");
    cluster.cut_off(alone);
    let sequence = cluster.ask_to_create(alone, "never", 5_000);
    cluster.pass(4_900);
    assert_eq!(cluster.created(alone, sequence), None);
    cluster.pass(300);
    assert_eq!(cluster.created(alone, sequence), Some(ErrorCode::RequestTimedOut.code()));
    cluster.heal();
    cluster.pass(15_000);
    assert!(cluster.is_settled(), "{}", cluster.lines);
}

#[test]
fn a_leader_that_is_cut_off_decides_nothing_that_stays() {
    let mut cluster = Cluster::running(3);
    let old = cluster.controller().expect("somebody decides");
    cluster.cut_off(old);
    let lost = cluster.ask_to_create(old, "t", 60_000);
    cluster.pass(15_000);
    let new = cluster.controller().expect("two of three elect another");
    let kept = cluster.ask_to_create(new, "t", 60_000);
    cluster.pass(50);
    assert_eq!(cluster.created(new, kept), Some(0));
    assert_eq!(cluster.created(old, lost), None);
    cluster.heal();
    cluster.pass(15_000);
    assert_eq!(cluster.created(old, lost), Some(ErrorCode::TopicAlreadyExists.code()), "{}", cluster.lines);
    cluster.agree();
}

/// A topic `t` of three partitions, each on all three nodes.
fn create_replicated(cluster: &mut Cluster) {
    let topic =
        CreatableTopic { name: "t".into(), num_partitions: 3, replication_factor: 3, ..CreatableTopic::default() };
    let request = CreateTopicsRequest { topics: vec![topic], timeout_ms: 5_000, ..CreateTopicsRequest::default() };
    let Response::CreateTopics(_) = cluster.answer(1, 7, request.into()) else { panic!("another answer") };
}

/// The first replica and the leader of each partition of `t`.
fn leaders(cluster: &Cluster, node: i32) -> Vec<(NodeId, NodeId)> {
    let topic = cluster.node(node).controller.image().topic_named::<str>("t").expect("it is there");
    topic.partitions.iter().map(|state| (state.replicas[0], state.leader.expect("all are led"))).collect()
}

#[test]
fn first_replicas_get_back_what_they_could_lead() {
    let mut cluster = Cluster::running(3);
    create_replicated(&mut cluster);
    cluster.kill(2);
    cluster.pass(15_000);
    assert!(leaders(&cluster, 1).iter().all(|(_, leader)| *leader != NodeId(2)), "others lead what it led");
    cluster.start(2);
    cluster.pass(30_000);
    assert!(leaders(&cluster, 1).iter().all(|(first, leader)| first == leader), "{}", cluster.lines);
}

#[test]
fn elections_that_are_asked_for_are_told_when_they_are_known() {
    let mut cluster = Cluster::running(3);
    create_replicated(&mut cluster);
    cluster.kill(2);
    cluster.pass(15_000);
    cluster.start(2);
    for asked in [1, 3] {
        let request = ElectLeadersRequest { election_type: 0, timeout_ms: 5_000, ..ElectLeadersRequest::default() };
        let sequence = cluster.ask(asked, 2, request.into());
        cluster.pass(500);
        let answer = cluster.broker(asked).replies.remove(&sequence);
        let Some(Response::ElectLeaders(answer)) = answer else { panic!("another answer: {answer:?}") };
        assert_eq!(answer.error_code, 0);
        let elected = answer.replica_election_results.iter().flat_map(|topic| &topic.partition_result);
        let led = leaders(&cluster, asked);
        for result in elected.filter(|result| result.error_code == 0) {
            let (first, leader) = led[usize::try_from(result.partition_id).expect("it is there")];
            assert_eq!(first, leader, "who is told of an election finds its leader");
        }
    }
}

/// What broker 2 is, as the others' metadata has it.
fn standing_of_2(cluster: &Cluster) -> Option<Standing> {
    cluster.node(1).controller.image().broker(NodeId(2)).map(|broker| broker.standing)
}

#[test]
fn a_broker_whose_process_has_ended_is_fenced_long_before_its_silence_would_be_noticed() {
    let mut cluster = Cluster::running(3);
    create_replicated(&mut cluster);
    cluster.kill(2);
    cluster.miss(2);
    // Where it led the quorum as well, another one does before.
    cluster.pass(5_000);
    assert!(cluster.lines.contains("the process of node 2 has ended: it is fenced"), "{}", cluster.lines);
    assert!(leaders(&cluster, 1).iter().all(|(_, leader)| *leader != NodeId(2)), "others lead what it led");
    cluster.start(2);
    cluster.pass(15_000);
    assert!(cluster.is_settled(), "{}", cluster.lines);
}

#[test]
fn a_broker_that_was_taken_for_dead_serves_again_when_it_is_reached() {
    let mut cluster = Cluster::running(3);
    cluster.cut_off(2);
    cluster.miss(2);
    cluster.pass(5_000);
    assert_eq!(standing_of_2(&cluster), Some(Standing::Fenced), "{}", cluster.lines);
    cluster.heal();
    cluster.pass(15_000);
    assert!(cluster.is_settled(), "{}", cluster.lines);
}

#[test]
fn a_broker_that_has_not_been_met_is_waited_for() {
    let mut cluster = Cluster::running(3);
    [1, 2, 3].into_iter().for_each(|node| cluster.kill(node));
    [1, 3].into_iter().for_each(|node| cluster.start(node));
    cluster.miss(2);
    cluster.pass(6_000);
    assert!(cluster.controller().is_some(), "{}", cluster.lines);
    assert_eq!(standing_of_2(&cluster), Some(Standing::Active), "{}", cluster.lines);
    cluster.pass(15_000);
    assert_eq!(standing_of_2(&cluster), Some(Standing::Fenced), "{}", cluster.lines);
}

#[test]
fn a_broker_that_stops_in_order_leads_nothing_any_more() {
    let mut cluster = Cluster::running(3);
    cluster.create(1, "t");
    cluster.step(2, Input::Stop);
    cluster.pass(12_000);
    assert!(cluster.brokers[&2].stopped, "{}", cluster.lines);
    let standing = cluster.node(1).controller.image().broker(NodeId(2)).map(|broker| broker.standing);
    assert_ne!(standing, Some(Standing::Active));
    cluster.start(2);
    cluster.pass(15_000);
    assert!(cluster.is_settled(), "{}", cluster.lines);
}

#[test]
fn who_decides_and_slept_itself_fences_nobody_for_that() {
    let mut cluster = Cluster::running(3);
    let awake = Instant(cluster.now.instant.0 + 60_000_000_000);
    cluster.advance_to(awake);
    cluster.pass(5_000);
    assert!(!cluster.lines.contains("is fenced"), "{}", cluster.lines);
    assert!(cluster.is_settled(), "{}", cluster.lines);
}

#[test]
fn what_happens_is_the_same_each_time() {
    let run = || {
        let mut cluster = Cluster::running(3);
        cluster.create(1, "t");
        let leader = cluster.controller().expect("somebody decides");
        cluster.kill(leader);
        cluster.pass(20_000);
        cluster.lines
    };
    assert_eq!(run(), run());
}

#[test]
fn a_block_of_producer_ids_that_the_quorum_did_not_take_is_nobodys() {
    let mut cluster = Cluster::running(3);
    let decides = cluster.controller().expect("somebody decides");
    // While it hands its office over the quorum takes nothing.
    let broker = cluster.broker(decides);
    broker.node.as_mut().expect("it runs").hand_office_over(&mut broker.out);
    for sequence in 0..2 {
        let request =
            wire::Request::from(InitProducerIdRequest { producer_id: -1, producer_epoch: -1, ..Default::default() });
        let to = ReplyTo { conn: ConnId(1), sequence, version: 4, listener: ListenerId(0) };
        cluster.step(decides, Input::Request { to, request: Request::Other(Box::new(request)) });
    }
    assert!(cluster.brokers[&decides].replies.is_empty(), "{:?}", cluster.brokers[&decides].replies);
}

#[test]
fn an_answer_to_the_process_before_is_not_taken_for_ones_own() {
    let mut cluster = Cluster::running(3);
    let decides = cluster.controller().expect("somebody decides");
    let asks = (1..=3).find(|node| *node != decides).expect("one of two");
    let away = 6 - decides - asks;
    cluster.kill(away);
    cluster.slow = Some(asks);
    cluster.ask_to_create(asks, "before", 30_000);
    cluster.kill(asks);
    cluster.unwritten.clear();
    cluster.start(asks);
    for _ in 0..100 {
        if cluster.node(asks).quorum_leader().is_some() {
            break;
        }
        cluster.pass(1);
    }
    assert_eq!(cluster.controller(), Some(decides), "{}", cluster.lines);
    let sequence = cluster.ask_to_create(asks, "after", 30_000);
    cluster.catch_up();
    cluster.pass(500);
    let Some(Response::CreateTopics(answer)) = cluster.broker(asks).replies.remove(&sequence) else {
        panic!("no answer: {}", cluster.lines)
    };
    assert_eq!(answer.topics[0].name, "after");
}

#[test]
fn a_request_that_names_too_much_is_refused_as_a_whole() {
    let mut cluster = Cluster::running(1);
    let topics = |count: usize| DeleteTopicsRequest {
        topic_names: (0..count).map(|number| format!("t{number}").as_str().into()).collect(),
        timeout_ms: 1_000,
        ..DeleteTopicsRequest::default()
    };
    for (count, code) in [(10_000, ErrorCode::UnknownTopicOrPartition), (10_001, ErrorCode::PolicyViolation)] {
        let Response::DeleteTopics(answer) = cluster.answer(1, 5, topics(count).into()) else {
            panic!("another answer")
        };
        assert_eq!(answer.responses.len(), count);
        assert!(answer.responses.iter().all(|one| one.error_code == code.code()), "{:?}", answer.responses[0]);
    }
}

/// A node that does not decide.
fn follower(cluster: &Cluster) -> i32 {
    (1..=3).find(|node| Some(*node) != cluster.controller()).expect("two follow")
}

#[test]
fn requests_of_many_bytes_go_to_who_decides_one_after_another() {
    let mut cluster = Cluster::running(3);
    let node = follower(&cluster);
    let config = CreatableTopicConfig { name: "nonsense".into(), value: Some("v".repeat(30_000).as_str().into()) };
    let configs = vec![config; 350];
    let topic = CreatableTopic {
        name: "large".into(),
        num_partitions: 1,
        replication_factor: 1,
        configs,
        ..CreatableTopic::default()
    };
    let request = CreateTopicsRequest { topics: vec![topic], timeout_ms: 30_000, ..CreateTopicsRequest::default() };
    let asked: Vec<u64> = (0..5).map(|_| cluster.ask_only(node, 7, request.clone().into())).collect();
    // Two have 20 MB.
    assert_eq!(cluster.forwards(), 2);
    cluster.pass(1_000);
    for sequence in asked {
        let code = cluster.created(node, sequence).expect("an answer");
        assert_ne!(code, ErrorCode::RequestTimedOut.code());
    }
}

#[test]
fn who_decides_and_has_no_room_is_asked_again_with_patience() {
    let mut cluster = Cluster::running(3);
    let (node, decides) = (follower(&cluster), cluster.controller().expect("somebody decides"));
    let topic =
        CreatableTopic { name: "t".into(), num_partitions: 1, replication_factor: 1, ..CreatableTopic::default() };
    let request = CreateTopicsRequest { topics: vec![topic], timeout_ms: 30_000, ..CreateTopicsRequest::default() };
    let sequence = cluster.ask_only(node, 7, request.into());
    let mut asked = 0;
    for _ in 0..50 {
        let forwards = cluster.said.iter().filter_map(|(_, _, message)| match message {
            peer::Message::Forward(forward) => Some(forward.id),
            _ => None,
        });
        let forwards: Vec<u64> = forwards.collect();
        cluster.said.retain(|(_, _, message)| !matches!(message, peer::Message::Forward(_)));
        asked += forwards.len();
        for id in forwards {
            let nothing = peer::Forwarded { id, index: 0, response: None };
            cluster.said.push_back((decides, node, peer::Message::Forwarded(nothing)));
        }
        cluster.settle();
        cluster.advance_to(Instant(cluster.now.instant.0 + 100_000_000));
        for node in 1..=3 {
            cluster.step(node, Input::Deadline);
        }
    }
    assert!((4..12).contains(&asked), "asked {asked} times in five seconds");
    cluster.pass(2_000);
    assert_eq!(cluster.created(node, sequence), Some(0), "{}", cluster.lines);
}

#[test]
fn many_requests_that_waited_for_somebody_to_decide_are_taken_up_some_at_a_time() {
    let mut cluster = Cluster::running(3);
    let node = follower(&cluster);
    cluster.cut_off(node);
    cluster.pass(5_000);
    let asked: Vec<u64> = (0..200).map(|number| cluster.ask_to_create(node, &format!("t{number}"), 60_000)).collect();
    assert_eq!(cluster.forwarded_at_once, 0);
    cluster.heal();
    cluster.pass(15_000);
    assert!((1..=32).contains(&cluster.forwarded_at_once), "{} at once", cluster.forwarded_at_once);
    for sequence in asked {
        assert_eq!(cluster.created(node, sequence), Some(0), "{}", cluster.lines);
    }
}
