//! Idempotent producers: ids, duplicates, gaps, and what a restart may not forget.

use kafka_protocol::messages::describe_producers_request::TopicRequest;
use kafka_protocol::messages::{DescribeProducersRequest, InitProducerIdRequest, TransactionalId};

use crate::support::batch::Batch;
use crate::support::broker::Broker;
use crate::support::client::Client;
use crate::support::code;
use crate::support::topic::{Topic, text};

fn init(client: &mut Client, version: i16) -> (i64, i16) {
    let mut request = InitProducerIdRequest::default().with_transactional_id(None).with_transaction_timeout_ms(60_000);
    if version >= 3 {
        request = request.with_producer_id((-1).into()).with_producer_epoch(-1);
    }
    let response = client.call(version, &request);
    assert_eq!(response.error_code, code::NONE, "version {version}");
    (response.producer_id.0, response.producer_epoch)
}

#[test]
fn every_version_hands_out_an_id_that_nobody_else_has() {
    let broker = Broker::start();
    let mut client = broker.client();
    let mut ids: Vec<_> =
        client.versions::<InitProducerIdRequest>().map(|version| init(&mut client, version)).collect();
    assert!(ids.iter().all(|&(id, epoch)| id >= 0 && epoch == 0), "{ids:?}");
    let handed_out = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), handed_out);
}

#[test]
fn a_repeated_batch_is_answered_with_its_first_offset_and_written_once() {
    let broker = Broker::start();
    let mut client = broker.client();
    let topic = Topic::create(&mut client, "repeat", 1, &[]);
    let (id, epoch) = init(&mut client, 4);
    // A broker remembers five batches of each producer, so any of the last five may be repeated.
    for number in 0..5 {
        assert_eq!(
            topic.produce(&mut client, 0, &Batch::numbered(10).by(id, epoch, 10 * number)),
            i64::from(10 * number)
        );
    }
    for number in 0..5 {
        assert_eq!(
            topic.produce(&mut client, 0, &Batch::numbered(10).by(id, epoch, 10 * number)),
            i64::from(10 * number)
        );
    }
    assert_eq!(topic.read(&mut client, 0, 0).len(), 50);
}

#[test]
fn repeats_that_arrive_together_are_written_once() {
    let broker = Broker::start();
    let mut client = broker.client();
    let topic = Topic::create(&mut client, "together", 1, &[]);
    let (id, epoch) = init(&mut client, 4);
    let batch = Batch::numbered(10).by(id, epoch, 0);
    let request = topic.produce_request(9, 0, -1, batch.encode());
    let sent: Vec<_> = (0..5).map(|_| client.send(9, &request).expect("the connection is open")).collect();
    for correlation_id in sent {
        let mut response =
            client.receive::<kafka_protocol::messages::ProduceRequest>(9, correlation_id).expect("an answer");
        let answer = response.responses.remove(0).partition_responses.remove(0);
        assert_eq!((answer.error_code, answer.base_offset), (code::NONE, 0));
    }
    assert_eq!(topic.read(&mut client, 0, 0).len(), 10);
}

#[test]
fn a_gap_in_the_sequence_is_refused() {
    let broker = Broker::start();
    let mut client = broker.client();
    let topic = Topic::create(&mut client, "gap", 1, &[]);
    let (id, epoch) = init(&mut client, 4);
    topic.produce(&mut client, 0, &Batch::numbered(10).by(id, epoch, 0));
    let gap = Batch::numbered(10).by(id, epoch, 20);
    assert_eq!(topic.refusal(&mut client, gap.encode()), code::OUT_OF_ORDER_SEQUENCE_NUMBER);
    assert_eq!(topic.produce(&mut client, 0, &Batch::numbered(10).by(id, epoch, 10)), 10);
}

#[test]
fn a_repeat_after_kill_9_is_still_known() {
    let Some(mut broker) = Broker::start_own(&[]) else { return };
    let mut client = broker.client();
    let topic = Topic::create(&mut client, "restart", 1, &[]);
    let (id, epoch) = init(&mut client, 4);
    topic.produce(&mut client, 0, &Batch::numbered(10).by(id, epoch, 0));
    broker.kill();
    broker.restart();
    let mut client = broker.client();
    assert_eq!(topic.produce(&mut client, 0, &Batch::numbered(10).by(id, epoch, 0)), 0);
    assert_eq!(topic.produce(&mut client, 0, &Batch::numbered(10).by(id, epoch, 10)), 10);
    assert_eq!(topic.read(&mut client, 0, 0).len(), 20);
    assert!(init(&mut client, 4).0 > id, "an id is never handed out twice");
}

#[test]
fn producers_of_a_partition_are_described() {
    let broker = Broker::start();
    let mut client = broker.client();
    let topic = Topic::create(&mut client, "producers", 1, &[]);
    let (id, epoch) = init(&mut client, 4);
    topic.produce(&mut client, 0, &Batch::numbered(10).by(id, epoch, 0));
    let of = TopicRequest::default().with_name(topic.name.clone()).with_partition_indexes(vec![0, 9]);
    let request = DescribeProducersRequest::default().with_topics(vec![of]);
    for version in client.versions::<DescribeProducersRequest>() {
        let mut partitions = client.call(version, &request).topics.remove(0).partitions;
        partitions.sort_by_key(|partition| partition.partition_index);
        assert_eq!(partitions[0].error_code, code::NONE, "version {version}");
        let producer = &partitions[0].active_producers[0];
        let told = (producer.producer_id.0, producer.last_sequence, producer.current_txn_start_offset);
        assert_eq!(told, (id, 9, -1), "version {version}");
        assert_eq!(partitions[1].error_code, code::UNKNOWN_TOPIC_OR_PARTITION, "version {version}");
    }
}

#[test]
fn transactions_are_refused_until_they_are_served() {
    let Some(broker) = Broker::start_own(&[]) else { return };
    let mut client = broker.client();
    let topic = Topic::create(&mut client, "transactions", 1, &[]);
    let (id, epoch) = init(&mut client, 4);
    let request = InitProducerIdRequest::default()
        .with_transactional_id(Some(TransactionalId(text("t"))))
        .with_transaction_timeout_ms(60_000)
        .with_producer_id((-1).into())
        .with_producer_epoch(-1);
    assert_ne!(client.call(4, &request).error_code, code::NONE);
    assert_ne!(topic.refusal(&mut client, Batch::numbered(1).by(id, epoch, 0).transactional().encode()), code::NONE);
    assert_eq!(topic.list_offset(&mut client, 5, -1).offset, 0);
}
