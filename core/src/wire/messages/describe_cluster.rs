//! DescribeCluster (key 60): the members. KIP-700, KIP-919 (controllers), KIP-1073 (fenced brokers).

use super::super::table::prelude::*;

messages! {
    /// Asks for the cluster's members.
    pub struct DescribeClusterRequest {
        /// Whether to say what the client may do to the cluster.
        include_cluster_authorized_operations: bool, 0..;
        /// Who is asked for: 1 brokers, 2 controllers.
        endpoint_type: i8 = 1, 1..;
        /// Whether to list brokers that are fenced.
        include_fenced_brokers: bool, 2..;
    }

    /// The cluster's members.
    pub struct DescribeClusterResponse {
        /// How long the client is asked to pause for its quota, in milliseconds.
        throttle_time_ms: i32, 0..;
        /// An [`ErrorCode`](crate::wire::ErrorCode), 0 if all went well.
        error_code: i16, 0..;
        /// More about the error for people; null if there is none.
        error_message: Option<Str>, 0.., null 0..;
        /// Who is described: 1 brokers, 2 controllers.
        endpoint_type: i8 = 1, 1..;
        /// The cluster.
        cluster_id: Str, 0..;
        /// The broker to send administration to, -1 if unknown.
        controller_id: i32 = -1, 0..;
        /// The brokers or controllers.
        brokers: Vec<DescribeClusterBroker>, 0..;
        /// What the client may do to the cluster, a bit per operation; `i32::MIN` if that was not asked for.
        cluster_authorized_operations: i32 = i32::MIN, 0..;
    }

    /// A broker or controller.
    pub struct DescribeClusterBroker {
        /// The broker.
        broker_id: i32, 0..;
        /// Its address for clients.
        host: Str, 0..;
        /// Its port for clients.
        port: i32, 0..;
        /// Its rack; null if it has none.
        rack: Option<Str>, 0.., null 0..;
        /// Whether it is fenced: known, and serving nobody.
        is_fenced: bool, 2..;
    }
}
