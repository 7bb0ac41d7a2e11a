//! Metadata (key 3): who serves what. KIP-516 (topic ids), KIP-1102 (rebootstrap).

use super::super::table::prelude::*;

messages! {
    /// Asks who serves what.
    pub struct MetadataRequest {
        /// The topics asked for. Null means all; in version 0, which knows no null, an empty list does.
        topics: Option<Vec<MetadataRequestTopic>>, 0.., null 1..;
        /// Whether topics asked for by name may be created, if the broker does such a thing.
        allow_auto_topic_creation: bool = true, 4..;
        /// Whether to say what the client may do to the cluster.
        include_cluster_authorized_operations: bool, 8..=10;
        /// Whether to say what the client may do to each topic.
        include_topic_authorized_operations: bool, 8..;
    }

    /// A topic to describe, by name or from version 10 by id.
    pub struct MetadataRequestTopic {
        /// The topic's id, zero if it goes by its name.
        topic_id: Uuid, 10..;
        /// Its name; null if it goes by its id.
        name: Option<Str>, 0.., null 10..;
    }

    /// The brokers, and the leaders of partitions.
    pub struct MetadataResponse {
        /// How long the client is asked to pause for its quota, in milliseconds.
        throttle_time_ms: i32, 3..;
        /// The brokers that a client may talk to.
        brokers: Vec<MetadataResponseBroker>, 0..;
        /// The cluster.
        cluster_id: Option<Str>, 2.., null 2..;
        /// The broker to send administration to, -1 if unknown.
        controller_id: i32 = -1, 1..;
        /// The topics.
        topics: Vec<MetadataResponseTopic>, 0..;
        /// What the client may do to the cluster, a bit per operation; `i32::MIN` if that was not asked for.
        cluster_authorized_operations: i32 = i32::MIN, 8..=10;
        /// An [`ErrorCode`](crate::wire::ErrorCode), 0 if all went well.
        error_code: i16, 13..;
    }

    /// A broker.
    pub struct MetadataResponseBroker {
        /// The broker.
        node_id: i32, 0..;
        /// Its address for clients.
        host: Str, 0..;
        /// Its port for clients.
        port: i32, 0..;
        /// Its rack; null if it has none.
        rack: Option<Str>, 1.., null 1..;
    }

    /// A topic.
    pub struct MetadataResponseTopic {
        /// An [`ErrorCode`](crate::wire::ErrorCode), 0 if all went well.
        error_code: i16, 0..;
        /// Its name; null where an id was asked for that is unknown.
        name: Option<Str>, 0.., null 12..;
        /// The topic's id, zero if it goes by its name.
        topic_id: Uuid, 10..;
        /// Whether it is one of the broker's own.
        is_internal: bool, 1..;
        /// The partitions.
        partitions: Vec<MetadataResponsePartition>, 0..;
        /// What the client may do to the topic, a bit per operation; `i32::MIN` if that was not asked for.
        topic_authorized_operations: i32 = i32::MIN, 8..;
    }

    /// A partition.
    pub struct MetadataResponsePartition {
        /// An [`ErrorCode`](crate::wire::ErrorCode), 0 if all went well.
        error_code: i16, 0..;
        /// The partition's index.
        partition_index: i32, 0..;
        /// The broker that leads, -1 if none or unknown.
        leader_id: i32, 0..;
        /// The leader epoch, -1 if unknown.
        leader_epoch: i32 = -1, 7..;
        /// All replicas, the preferred leader first.
        replica_nodes: Vec<i32>, 0..;
        /// The in-sync replicas.
        isr_nodes: Vec<i32>, 0..;
        /// The replicas that are down.
        offline_replicas: Vec<i32>, 5..;
    }
}
