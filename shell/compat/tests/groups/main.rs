//! Groups of librdkafka's consumer under both protocols.

mod fleet;

use std::process::{Child, Command};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use chronik_compat::client::{PATIENCE, admin, config, create, options, produce, producer, values};
use chronik_compat::{Broker, fresh_name};
use fleet::{CLASSIC, CONSUMER, COOPERATIVE, Fleet, Settings, await_that};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::message::Message as _;
use rdkafka::producer::FutureRecord;
use rdkafka::{Offset, TopicPartitionList};

async fn two_then_ten_members_share(settings: Settings) {
    let broker = Broker::start();
    let mut fleet = Fleet::new(&broker, "share", settings).await;
    fleet.produce(600).await;
    for count in [2, 8] {
        for _ in 0..count {
            fleet.join(&broker, &[]);
        }
        fleet.await_balanced(12);
        fleet.await_all_seen();
        fleet.reads_once(120).await;
    }
    fleet.never_overlapped();
    fleet.await_committed(840);
    let topic = fleet.topic.clone();
    drop(fleet);
    let mut restarted = Fleet::of(&broker, &topic, &topic, &topic, settings);
    for _ in 0..3 {
        restarted.join(&broker, &[]);
    }
    restarted.await_balanced(12);
    restarted.reads_once(60).await;
    assert_eq!(restarted.times_seen(), 60, "a restarted group goes on where the last one stopped");
}

#[tokio::test]
async fn classic_members_share_partitions() {
    two_then_ten_members_share(CLASSIC).await;
}

#[tokio::test]
async fn cooperative_members_share_partitions() {
    two_then_ten_members_share(COOPERATIVE).await;
}

#[tokio::test]
async fn consumer_members_share_partitions() {
    two_then_ten_members_share(CONSUMER).await;
}

/// A member in another process, killed when this value goes.
struct Mortal(Child);

impl Mortal {
    fn join(broker: &Broker, fleet: &Fleet, settings: &[(&str, &str)]) -> Mortal {
        let mut command = Command::new(env!("CARGO_BIN_EXE_member"));
        command.args([&fleet.group, &fleet.topic, &format!("bootstrap.servers={}", broker.address())]);
        command.args(settings.iter().map(|(name, value)| format!("{name}={value}")));
        Mortal(command.spawn().expect("the member can be run"))
    }
}

impl Drop for Mortal {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn a_member_leaves_and_one_dies(settings: Settings, mortal: &[(&str, &str)]) {
    let broker = Broker::start();
    let mut fleet = Fleet::new(&broker, "follow", settings).await;
    for _ in 0..3 {
        fleet.join(&broker, &[]);
    }
    fleet.await_balanced(12);
    fleet.leave(0);
    fleet.await_balanced(12);
    fleet.reads_once(60).await;
    let mortal = Mortal::join(&broker, &fleet, mortal);
    fleet.await_balanced(8);
    fleet.produce(60).await;
    drop(mortal);
    fleet.await_balanced(12);
    fleet.await_all_seen();
    fleet.never_overlapped();
}

#[tokio::test]
async fn a_classic_member_leaves_and_one_dies() {
    a_member_leaves_and_one_dies(CLASSIC, &[("session.timeout.ms", "2000"), ("heartbeat.interval.ms", "200")]).await;
}

#[tokio::test]
async fn a_consumer_member_leaves_and_one_dies() {
    a_member_leaves_and_one_dies(CONSUMER, CONSUMER).await;
}

/// Who comes back in time must not be late on a busy machine.
const LASTING: Settings =
    &[("group.protocol", "classic"), ("session.timeout.ms", "20000"), ("heartbeat.interval.ms", "200")];

async fn static_members_restart(settings: Settings) {
    let broker = Broker::start();
    let mut fleet = Fleet::new(&broker, "static", settings).await;
    let one = fleet.join(&broker, &[("group.instance.id", "one")]);
    let two = fleet.join(&broker, &[("group.instance.id", "two")]);
    fleet.await_balanced(12);
    fleet.reads_once(60).await;
    let (changes, before) = (fleet.moves(one), fleet.partitions(two));
    fleet.leave(two);
    let meanwhile = fleet.produce(60).await;
    let again = fleet.join(&broker, &[("group.instance.id", "two")]);
    fleet.await_balanced(12);
    fleet.has_read_once(&meanwhile);
    assert_eq!(fleet.partitions(again), before, "its partitions waited for it");
    assert_eq!(fleet.moves(one), changes, "the other did not notice");
}

#[tokio::test]
async fn static_classic_members_restart_without_a_rebalance() {
    static_members_restart(LASTING).await;
}

#[tokio::test]
async fn static_consumer_members_restart_without_a_rebalance() {
    static_members_restart(CONSUMER).await;
}

async fn members_are_replaced_one_by_one(settings: Settings) {
    let broker = Broker::start();
    let mut fleet = Fleet::new(&broker, "roll", settings).await;
    for _ in 0..3 {
        fleet.join(&broker, &[]);
    }
    fleet.await_balanced(12);
    for old in fleet.members() {
        fleet.produce(60).await;
        fleet.leave(old);
        fleet.produce(60).await;
        fleet.join(&broker, &[]);
        fleet.await_balanced(12);
    }
    fleet.reads_once(60).await;
    fleet.never_overlapped();
    fleet.await_committed(420);
}

#[tokio::test]
async fn rolling_restart_of_classic_members() {
    members_are_replaced_one_by_one(CLASSIC).await;
}

#[tokio::test]
async fn rolling_restart_of_cooperative_members() {
    members_are_replaced_one_by_one(COOPERATIVE).await;
}

#[tokio::test]
async fn rolling_restart_of_consumer_members() {
    members_are_replaced_one_by_one(CONSUMER).await;
}

/// KIP-429: who keeps a partition never stops reading it.
#[tokio::test]
async fn cooperative_sticky_moves_what_must_move() {
    let broker = Broker::start();
    let mut fleet = Fleet::new(&broker, "sticky", COOPERATIVE).await;
    fleet.join(&broker, &[]);
    fleet.join(&broker, &[]);
    fleet.await_balanced(12);
    let before = fleet.revoked();
    fleet.join(&broker, &[]);
    fleet.await_balanced(12);
    assert_eq!(fleet.revoked() - before, 4);
    fleet.reads_once(60).await;
    fleet.never_overlapped();
}

async fn the_broker_is_killed(settings: Settings) {
    let mut broker = Broker::start();
    let mut fleet = Fleet::new(&broker, "killed", settings).await;
    for _ in 0..3 {
        fleet.join(&broker, &[]);
    }
    fleet.await_balanced(12);
    fleet.reads_once(120).await;
    fleet.await_committed(120);
    if !broker.kill_and_restart() {
        return;
    }
    assert_eq!(fleet.committed(), 120, "what was committed is still committed");
    fleet.produce(120).await;
    fleet.await_all_seen();
    fleet.await_balanced(12);
    fleet.reads_once(60).await;
    fleet.await_committed(300);
    fleet.never_overlapped();
}

#[tokio::test]
async fn the_broker_of_cooperative_members_is_killed() {
    the_broker_is_killed(COOPERATIVE).await;
}

#[tokio::test]
async fn the_broker_of_classic_members_is_killed() {
    the_broker_is_killed(CLASSIC).await;
}

#[tokio::test]
async fn the_broker_of_consumer_members_is_killed() {
    the_broker_is_killed(CONSUMER).await;
}

async fn a_pattern_is_subscribed_to(settings: Settings) {
    let broker = Broker::start();
    let topics = [create(&broker, "regex-a", 4, &[]).await, create(&broker, "regex-b", 4, &[]).await];
    let other = create(&broker, "regex-c", 4, &[]).await;
    let names = topics.join("|");
    let mut fleet = Fleet::of(&broker, &topics[0], &fresh_name("regex"), &format!("^({names})$"), settings);
    fleet.join(&broker, &[]);
    fleet.join(&broker, &[]);
    fleet.await_balanced(8);
    for topic in &topics {
        let values = fleet.produce_to(topic, 4, 20).await;
        fleet.has_read_once(&values);
    }
    produce(&producer(&broker, &[]), &other, 0, &values(1)).await;
    assert_eq!(fleet.times_seen(), 40, "another topic is not read");
}

#[tokio::test]
async fn classic_members_subscribe_to_a_pattern() {
    a_pattern_is_subscribed_to(CLASSIC).await;
}

#[tokio::test]
async fn consumer_members_subscribe_to_a_pattern() {
    a_pattern_is_subscribed_to(CONSUMER).await;
}

fn subscriber(broker: &Broker, settings: Settings, group: &str, topic: &str, reset: &str) -> BaseConsumer {
    let mut config = config(broker);
    config.remove("message.timeout.ms");
    for &(name, value) in settings {
        config.set(name, value);
    }
    config.set("group.id", group).set("enable.auto.commit", "false").set("auto.offset.reset", reset);
    let consumer: BaseConsumer = config.create().expect("the settings are librdkafka's");
    consumer.subscribe(&[topic]).expect("a subscription needs no broker");
    consumer
}

/// The offset of the next record that the consumer gets.
fn next(consumer: &BaseConsumer) -> i64 {
    let mut found = None;
    await_that(|| {
        found =
            consumer.poll(Duration::from_millis(100)).map(|polled| polled.expect("no error of the consumer").offset());
        found.map(|_| ()).ok_or_else(|| "a record comes".to_owned())
    });
    found.expect("it was just there")
}

async fn a_group_starts_where_it_should(settings: Settings) {
    let broker = Broker::start();
    let topic = create(&broker, "start", 1, &[]).await;
    let producer = producer(&broker, &[]);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is past 1970").as_millis() as i64;
    for number in 0..100 {
        let record = FutureRecord::<(), _>::to(&topic).partition(0).payload("x").timestamp(now - 60_000 + 100 * number);
        producer.send_result(record).expect("room").await.expect("the producer lives").expect("the broker takes it");
    }
    let at = |reset: &str| format!("{topic}-{reset}");
    assert_eq!(next(&subscriber(&broker, settings, &at("earliest"), &topic, "earliest")), 0);
    let latest = subscriber(&broker, settings, &at("latest"), &topic, "latest");
    // It is where it should be once it has a position: what comes from then on is what it gets.
    let mut is_there = false;
    while !is_there {
        if let Some(polled) = latest.poll(Duration::from_millis(50)) {
            let got = polled.expect("no error of the consumer").offset();
            assert!(got >= 100, "it starts at the end, not at {got}");
            break;
        }
        let watermarks = latest.assignment().expect("it is known").count();
        is_there = watermarks == 1 && latest.position().is_ok() && produced_is_seen(&latest, &producer, &topic).await;
    }

    let group = at("committed");
    let first = subscriber(&broker, settings, &group, &topic, "earliest");
    assert_eq!(next(&first), 0);
    let mut ask = TopicPartitionList::new();
    ask.add_partition_offset(&topic, 0, Offset::Offset(now - 60_000 + 6_950)).expect("a timestamp is not negative");
    let found = first.offsets_for_times(ask, PATIENCE).expect("the broker answers");
    assert_eq!(found.elements()[0].offset(), Offset::Offset(70));
    found.find_partition(&topic, 0).expect("it was asked for").set_metadata("so far");
    first.commit(&found, CommitMode::Sync).expect("it is a member");
    drop(first);
    let second = subscriber(&broker, settings, &group, &topic, "earliest");
    assert_eq!(next(&second), 70, "offsets are reset by timestamp");
    let mut ask = TopicPartitionList::new();
    ask.add_partition(&topic, 0);
    let committed = second.committed_offsets(ask, PATIENCE).expect("the broker answers");
    assert_eq!((committed.elements()[0].offset(), committed.elements()[0].metadata()), (Offset::Offset(70), "so far"));
}

/// Produces one more record; whether the consumer gets it, and it as the first.
async fn produced_is_seen(consumer: &BaseConsumer, producer: &rdkafka::producer::FutureProducer, topic: &str) -> bool {
    let at = produce(producer, topic, 0, &values(1)).await[0];
    let got =
        consumer.poll(Duration::from_millis(500)).map(|polled| polled.expect("no error of the consumer").offset());
    assert!(got.is_none_or(|got| got >= 100), "it starts at the end, not at {got:?}, when {at} is new");
    got.is_some()
}

#[tokio::test]
async fn a_classic_group_starts_where_it_should() {
    a_group_starts_where_it_should(CLASSIC).await;
}

#[tokio::test]
async fn a_consumer_group_starts_where_it_should() {
    a_group_starts_where_it_should(CONSUMER).await;
}

#[tokio::test]
async fn groups_are_listed_and_deleted() {
    let broker = Broker::start();
    let mut fleet = Fleet::new(&broker, "listed", CLASSIC).await;
    let member = fleet.join(&broker, &[]);
    fleet.await_balanced(12);
    fleet.reads_once(12).await;
    let consumer: BaseConsumer = config(&broker).set("group.id", "none").create().expect("librdkafka's settings");
    let listed = consumer.fetch_group_list(Some(&fleet.group), PATIENCE).expect("the broker answers");
    let group = &listed.groups()[0];
    assert_eq!((group.state(), group.protocol_type(), group.members().len()), ("Stable", "consumer", 1));
    let refused = admin(&broker).delete_groups(&[&fleet.group], &options()).await.expect("the broker answers");
    assert_eq!(refused, [Err((fleet.group.clone(), RDKafkaErrorCode::NonEmptyGroup))]);
    fleet.leave(member);
    let deleted = admin(&broker).delete_groups(&[&fleet.group], &options()).await.expect("the broker answers");
    assert_eq!(deleted, [Ok(fleet.group.clone())]);
    assert_eq!(fleet.committed(), 0, "its offsets went with it");
}
