//! Members of one group, each on a thread of its own, and a ledger of what they were given and what they read.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use chronik_compat::Broker;
use chronik_compat::client::{PATIENCE, config, create, producer};
use rdkafka::client::ClientContext;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, Rebalance};
use rdkafka::error::KafkaResult;
use rdkafka::message::Message as _;
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::{Offset, TopicPartitionList};

/// Partitions of a fleet's topic.
pub(crate) const PARTITIONS: i32 = 12;

/// Settings of librdkafka, by name.
pub(crate) type Settings = &'static [(&'static str, &'static str)];

/// The classic protocol; a session ends after 6 s.
pub(crate) const CLASSIC: Settings =
    &[("group.protocol", "classic"), ("session.timeout.ms", "6000"), ("heartbeat.interval.ms", "200")];
/// The same with cooperative rebalancing (KIP-429).
pub(crate) const COOPERATIVE: Settings = &[
    ("group.protocol", "classic"),
    ("session.timeout.ms", "6000"),
    ("heartbeat.interval.ms", "200"),
    ("partition.assignment.strategy", "cooperative-sticky"),
];
/// The next protocol (KIP-848); the broker sets its session.
pub(crate) const CONSUMER: Settings = &[("group.protocol", "consumer")];

/// A number that says which member it is, for as long as the fleet lives.
pub(crate) type Number = usize;

#[derive(Default)]
struct Ledger {
    /// Who has a partition, by its own account.
    owners: BTreeMap<(String, i32), Number>,
    /// Who has read a value, once for every time.
    seen: BTreeMap<String, Vec<Number>>,
    /// Partitions that were given to one member while another had them.
    overlaps: Vec<String>,
    /// Partitions that members were given and had taken from them, one count for both.
    moves: BTreeMap<Number, usize>,
    /// Partitions that were taken from members.
    revoked: usize,
}

struct Watcher {
    ledger: Arc<Mutex<Ledger>>,
    number: Number,
}

impl ClientContext for Watcher {}

impl ConsumerContext for Watcher {
    fn pre_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        if let Rebalance::Revoke(_) = rebalance {
            // The next owner goes on where this one stops. There may be nothing to commit.
            let _ = consumer.commit_consumer_state(CommitMode::Sync);
        }
        let mut ledger = locked(&self.ledger);
        match rebalance {
            Rebalance::Assign(given) => {
                for place in places(given) {
                    if let Some(before) = ledger.owners.insert(place.clone(), self.number) {
                        ledger.overlaps.push(format!("{place:?} of member {before} was given to {}", self.number));
                    }
                    *ledger.moves.entry(self.number).or_default() += 1;
                }
            }
            Rebalance::Revoke(taken) => {
                for place in places(taken) {
                    if ledger.owners.get(&place) == Some(&self.number) {
                        ledger.owners.remove(&place);
                    }
                    *ledger.moves.entry(self.number).or_default() += 1;
                    ledger.revoked += 1;
                }
            }
            Rebalance::Error(_) => {}
        }
    }
}

fn places(list: &TopicPartitionList) -> Vec<(String, i32)> {
    list.elements().iter().map(|element| (element.topic().to_owned(), element.partition())).collect()
}

fn locked(ledger: &Mutex<Ledger>) -> MutexGuard<'_, Ledger> {
    ledger.lock().expect("no thread panics with the ledger")
}

struct Member {
    number: Number,
    leaves: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

/// A group and its members. What they read they commit before they ask for more.
pub(crate) struct Fleet {
    pub(crate) topic: String,
    pub(crate) group: String,
    address: String,
    settings: Settings,
    subscription: String,
    producer: FutureProducer,
    members: Vec<Member>,
    joined: Number,
    produced: BTreeSet<String>,
    ledger: Arc<Mutex<Ledger>>,
}

impl Fleet {
    /// A new topic, and a group of that name.
    pub(crate) async fn new(broker: &Broker, purpose: &str, settings: Settings) -> Fleet {
        let topic = create(broker, purpose, PARTITIONS, &[]).await;
        Fleet::of(broker, &topic, &topic, &topic, settings)
    }

    /// A group whose members subscribe to `subscription`, a topic or, after `^`, a pattern; `topic` is produced to.
    pub(crate) fn of(broker: &Broker, topic: &str, group: &str, subscription: &str, settings: Settings) -> Fleet {
        Fleet {
            topic: topic.to_owned(),
            group: group.to_owned(),
            address: broker.address().to_owned(),
            settings,
            subscription: subscription.to_owned(),
            producer: producer(broker, &[("linger.ms", "0"), ("reconnect.backoff.max.ms", "100")]),
            members: Vec::new(),
            joined: 0,
            produced: BTreeSet::new(),
            ledger: Arc::default(),
        }
    }

    /// One member more, on its way into the group.
    pub(crate) fn join(&mut self, broker: &Broker, more: &[(&str, &str)]) -> Number {
        let number = self.joined;
        self.joined += 1;
        let mut config = config(broker);
        config.remove("message.timeout.ms");
        for &(name, value) in self.settings.iter().chain(more) {
            config.set(name, value);
        }
        config.set("group.id", &self.group).set("enable.auto.commit", "false").set("auto.offset.reset", "earliest");
        // A consumer that is closed takes what is left in its queue: that was not read by anybody.
        config.set("enable.auto.offset.store", "false");
        config.set("reconnect.backoff.max.ms", "100").set("topic.metadata.refresh.interval.ms", "500");
        let watcher = Watcher { ledger: self.ledger.clone(), number };
        let consumer: BaseConsumer<Watcher> =
            config.create_with_context(watcher).expect("the settings are librdkafka's");
        consumer.subscribe(&[&self.subscription]).expect("a subscription needs no broker");
        let (leaves, ledger) = (Arc::new(AtomicBool::new(false)), self.ledger.clone());
        let asked = leaves.clone();
        let thread = thread::spawn(move || consume(&consumer, number, &ledger, &asked));
        self.members.push(Member { number, leaves, thread });
        number
    }

    /// Leaves as a consumer does that is closed; a static member stays in the group.
    pub(crate) fn leave(&mut self, number: Number) {
        let at = self.members.iter().position(|member| member.number == number).expect("it is a member");
        let member = self.members.remove(at);
        member.leaves.store(true, Ordering::Relaxed);
        member.thread.join().expect("a member does not panic");
        locked(&self.ledger).owners.retain(|_, owner| *owner != number);
    }

    /// Members, the eldest first.
    pub(crate) fn members(&self) -> Vec<Number> {
        self.members.iter().map(|member| member.number).collect()
    }

    /// The members of this process have so many partitions in all, none two more than another and none without.
    pub(crate) fn await_balanced(&self, partitions: usize) {
        await_that(|| {
            let ledger = locked(&self.ledger);
            let mut parts: BTreeMap<_, _> = self.members.iter().map(|member| (member.number, 0)).collect();
            for owner in ledger.owners.values() {
                *parts.entry(*owner).or_insert(0) += 1;
            }
            let (least, most) = (parts.values().min().copied(), parts.values().max().copied());
            let is_even = least.zip(most).is_some_and(|(least, most)| least > 0 && most - least <= 1);
            if is_even && ledger.owners.len() == partitions {
                Ok(())
            } else {
                Err(format!("{partitions} partitions are shared: {parts:?}"))
            }
        });
    }

    /// So many new records in turns over `partitions` of `topic`, all acknowledged.
    pub(crate) async fn produce_to(&mut self, topic: &str, partitions: i32, count: usize) -> Vec<String> {
        let begin = self.produced.len();
        let values: Vec<_> = (begin..begin + count).map(|number| format!("{number:06}")).collect();
        let send = |(value, partition): (&String, i32)| {
            let record = FutureRecord::<(), _>::to(topic).partition(partition % partitions).payload(value);
            self.producer.send_result(record).expect("there is room in the queue")
        };
        let sent: Vec<_> = values.iter().zip(0..).map(send).collect();
        for delivery in sent {
            delivery.await.expect("the producer lives").expect("the broker takes it");
        }
        self.produced.extend(values.iter().cloned());
        values
    }

    /// So many new records in turns over the partitions of the fleet's topic.
    pub(crate) async fn produce(&mut self, count: usize) -> Vec<String> {
        let topic = self.topic.clone();
        self.produce_to(&topic, PARTITIONS, count).await
    }

    /// Everything that was ever produced here has been read by someone.
    pub(crate) fn await_all_seen(&self) {
        await_that(|| {
            let ledger = locked(&self.ledger);
            let missing = self.produced.iter().filter(|value| !ledger.seen.contains_key(*value)).count();
            if missing == 0 {
                Ok(())
            } else {
                Err(format!("{missing} records are missing, owners {:?}", ledger.owners))
            }
        });
    }

    /// A group that is balanced reads each new record once.
    pub(crate) async fn reads_once(&mut self, count: usize) {
        let values = self.produce(count).await;
        self.has_read_once(&values);
    }

    /// Each of `values` is read, and no more than once.
    pub(crate) fn has_read_once(&self, values: &[String]) {
        self.await_all_seen();
        let ledger = locked(&self.ledger);
        for value in values {
            assert_eq!(ledger.seen[value].len(), 1, "readers of {value}: {:?}", ledger.seen[value]);
        }
    }

    /// How often anything was read.
    pub(crate) fn times_seen(&self) -> usize {
        locked(&self.ledger).seen.values().map(Vec::len).sum()
    }

    /// How many partitions were given to this member and taken from it, in all.
    pub(crate) fn moves(&self, number: Number) -> usize {
        locked(&self.ledger).moves.get(&number).copied().unwrap_or(0)
    }

    /// How many partitions were taken from members, in all.
    pub(crate) fn revoked(&self) -> usize {
        locked(&self.ledger).revoked
    }

    /// The partitions of this member.
    pub(crate) fn partitions(&self, number: Number) -> Vec<(String, i32)> {
        let ledger = locked(&self.ledger);
        ledger.owners.iter().filter(|(_, owner)| **owner == number).map(|(place, _)| place.clone()).collect()
    }

    /// No member was given a partition while another had it.
    pub(crate) fn never_overlapped(&self) {
        assert_eq!(locked(&self.ledger).overlaps, [""; 0]);
    }

    /// The sum of the committed offsets of the fleet's topic becomes `wanted`.
    pub(crate) fn await_committed(&self, wanted: i64) {
        await_that(|| {
            let found = self.ask_committed();
            if found == Ok(wanted) { Ok(()) } else { Err(format!("{wanted} records are committed, not {found:?}")) }
        });
    }

    /// The sum of the committed offsets of the fleet's topic, as soon as a coordinator says.
    pub(crate) fn committed(&self) -> i64 {
        let mut answer = self.ask_committed();
        await_that(|| {
            if answer.is_err() {
                answer = self.ask_committed();
            }
            answer.as_ref().map(|_| ()).map_err(ToString::to_string)
        });
        answer.expect("it was just waited for")
    }

    fn ask_committed(&self) -> KafkaResult<i64> {
        let mut config = rdkafka::ClientConfig::new();
        config.set("bootstrap.servers", &self.address).set("group.id", &self.group);
        let consumer: BaseConsumer = config.create().expect("the settings are librdkafka's");
        let mut ask = TopicPartitionList::new();
        ask.add_partition_range(&self.topic, 0, PARTITIONS - 1);
        let answer = consumer.committed_offsets(ask, PATIENCE)?;
        let offset = |at| if let Offset::Offset(offset) = at { Some(offset) } else { None };
        Ok(answer.elements().iter().filter_map(|element| offset(element.offset())).sum())
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        for member in &self.members {
            member.leaves.store(true, Ordering::Relaxed);
        }
        for member in self.members.drain(..) {
            let ended = member.thread.join();
            assert!(ended.is_ok() || thread::panicking(), "a member panicked");
        }
    }
}

fn consume(consumer: &BaseConsumer<Watcher>, number: Number, ledger: &Mutex<Ledger>, leaves: &AtomicBool) {
    let mut is_behind = false;
    while !leaves.load(Ordering::Relaxed) {
        match consumer.poll(Duration::from_millis(50)) {
            Some(Ok(message)) => {
                let value = String::from_utf8_lossy(message.payload().unwrap_or_default()).into_owned();
                locked(ledger).seen.entry(value).or_default().push(number);
                // It fails for a partition that was taken meanwhile, whose next owner reads the record again.
                is_behind |= consumer.store_offset_from_message(&message).is_ok();
            }
            // Errors of a broker that restarts pass; those that do not show in what is missing.
            Some(Err(_)) => {}
            None if is_behind => {
                // Where it fails the partitions go to somebody else, who reads these records again.
                is_behind = consumer.commit_consumer_state(CommitMode::Sync).is_err();
            }
            None => {}
        }
    }
    let _ = consumer.commit_consumer_state(CommitMode::Sync);
}

/// Waits until `condition` holds; what it says otherwise is told when it does not within 20 s.
pub(crate) fn await_that(mut condition: impl FnMut() -> Result<(), String>) {
    let deadline = Instant::now() + PATIENCE;
    while let Err(claim) = condition() {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {claim}");
        thread::sleep(Duration::from_millis(20));
    }
}
