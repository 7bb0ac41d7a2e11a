//! What every test does with librdkafka: clients with its settings, topics, records.

use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::producer::{FutureProducer, FutureRecord};

use crate::{Broker, fresh_name};

/// Longer than anything takes that works.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// As many as the broker's settings say: in a cluster a topic outlives any one node.
const REPLICAS_BY_DEFAULT: i32 = -1;

/// What every client begins with; a record is given up after 20 s.
pub fn config(broker: &Broker) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", broker.address()).set("message.timeout.ms", "20000");
    config
}

/// A producer with `settings` of librdkafka beside the usual ones.
pub fn producer(broker: &Broker, settings: &[(&str, &str)]) -> FutureProducer {
    let mut config = config(broker);
    for &(key, value) in settings {
        config.set(key, value);
    }
    config.create().expect("the settings are librdkafka's")
}

/// An admin client.
pub fn admin(broker: &Broker) -> AdminClient<DefaultClientContext> {
    config(broker).create().expect("the settings are librdkafka's")
}

/// How long the broker may take for what it is asked.
pub fn options() -> AdminOptions {
    AdminOptions::new().operation_timeout(Some(PATIENCE)).request_timeout(Some(PATIENCE))
}

/// The name of a new topic.
pub async fn create(broker: &Broker, purpose: &str, partitions: i32, configs: &[(&str, &str)]) -> String {
    let name = fresh_name(purpose);
    let mut topic = NewTopic::new(&name, partitions, TopicReplication::Fixed(REPLICAS_BY_DEFAULT));
    for &(key, value) in configs {
        topic = topic.set(key, value);
    }
    let created = admin(broker).create_topics(&[topic], &options()).await.expect("the broker answers");
    assert_eq!(created, [Ok(name.clone())]);
    name
}

/// As many different values.
pub fn values(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("value {number}")).collect()
}

/// Sends all values before it waits for the first; returns the offsets that were acknowledged.
pub async fn produce(producer: &FutureProducer, topic: &str, partition: i32, values: &[String]) -> Vec<i64> {
    let sent: Vec<_> = values
        .iter()
        .map(|value| {
            let record = FutureRecord::<(), _>::to(topic).partition(partition).payload(value);
            producer.send_result(record).expect("there is room in the queue")
        })
        .collect();
    let mut offsets = Vec::new();
    for delivery in sent {
        offsets.push(delivery.await.expect("the producer lives").expect("the broker takes it").offset);
    }
    offsets
}
