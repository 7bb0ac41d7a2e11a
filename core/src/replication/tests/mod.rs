//! Scenarios for each rule, and a little world in which all of them meet.

mod authority;
mod claims;
mod following;
mod histories;
mod hostile;
mod leading;
mod model;
mod store;
mod world;

use super::*;
use crate::ids::{BrokerEpoch, TopicPartition, Uuid};

const PARTITION: TopicPartition = TopicPartition { topic: Uuid([4; 16]), partition: 0 };

fn member(node: i32, broker_epoch: i64) -> Member {
    Member { replica: Replica { node: NodeId(node), broker_epoch: BrokerEpoch(broker_epoch) }, may_join: true }
}
