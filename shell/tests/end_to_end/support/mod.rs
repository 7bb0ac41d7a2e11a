//! A broker process to test, a client to test it with, and the batches that pass between them.

pub(crate) mod batch;
pub(crate) mod broker;
pub(crate) mod client;
pub(crate) mod cluster;
pub(crate) mod group;
pub(crate) mod topic;

/// Kafka's error codes, as far as the tests expect them.
pub(crate) mod code {
    pub(crate) const NONE: i16 = 0;
    pub(crate) const OFFSET_OUT_OF_RANGE: i16 = 1;
    pub(crate) const CORRUPT_MESSAGE: i16 = 2;
    pub(crate) const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
    pub(crate) const REQUEST_TIMED_OUT: i16 = 7;
    pub(crate) const MESSAGE_TOO_LARGE: i16 = 10;
    pub(crate) const NOT_COORDINATOR: i16 = 16;
    pub(crate) const INVALID_TOPIC: i16 = 17;
    pub(crate) const INVALID_REQUIRED_ACKS: i16 = 21;
    pub(crate) const ILLEGAL_GENERATION: i16 = 22;
    pub(crate) const UNKNOWN_MEMBER_ID: i16 = 25;
    pub(crate) const REBALANCE_IN_PROGRESS: i16 = 27;
    pub(crate) const INVALID_TIMESTAMP: i16 = 32;
    pub(crate) const UNSUPPORTED_VERSION: i16 = 35;
    pub(crate) const TOPIC_ALREADY_EXISTS: i16 = 36;
    pub(crate) const INVALID_PARTITIONS: i16 = 37;
    pub(crate) const INVALID_REPLICATION_FACTOR: i16 = 38;
    pub(crate) const INVALID_REPLICA_ASSIGNMENT: i16 = 39;
    pub(crate) const INVALID_CONFIG: i16 = 40;
    pub(crate) const INVALID_REQUEST: i16 = 42;
    pub(crate) const OUT_OF_ORDER_SEQUENCE_NUMBER: i16 = 45;
    pub(crate) const GROUP_ID_NOT_FOUND: i16 = 69;
    pub(crate) const FETCH_SESSION_ID_NOT_FOUND: i16 = 70;
    pub(crate) const INVALID_FETCH_SESSION_EPOCH: i16 = 71;
    pub(crate) const UNKNOWN_LEADER_EPOCH: i16 = 75;
    pub(crate) const MEMBER_ID_REQUIRED: i16 = 79;
    pub(crate) const ELECTION_NOT_NEEDED: i16 = 84;
    pub(crate) const NO_REASSIGNMENT_IN_PROGRESS: i16 = 85;
    pub(crate) const INVALID_RECORD: i16 = 87;
    pub(crate) const INVALID_UPDATE_VERSION: i16 = 95;
    pub(crate) const UNKNOWN_TOPIC_ID: i16 = 100;
    pub(crate) const BROKER_ID_NOT_REGISTERED: i16 = 102;
    pub(crate) const INCONSISTENT_CLUSTER_ID: i16 = 104;
    pub(crate) const DUPLICATE_VOTER: i16 = 126;
    pub(crate) const VOTER_NOT_FOUND: i16 = 127;

    /// What a producer with acks=all may hear while partitions move, and repeats: unknown topic, leader not available,
    /// not leader, timed out, not enough replicas, the same after the append, storage error, fenced and unknown leader
    /// epoch.
    pub(crate) const PASSING_FOR_PRODUCERS: [i16; 9] = [3, 5, 6, 7, 19, 20, 56, 74, 75];

    /// What a consumer may hear instead of records, and repeats: unknown topic, leader not available, not leader, timed
    /// out, storage error, fenced and unknown leader epoch, an end that the leader does not know yet, unknown topic id.
    pub(crate) const PASSING_FOR_CONSUMERS: [i16; 9] = [3, 5, 6, 7, 56, 74, 75, 78, 100];

    /// What a member of a group may hear from a node that is not its coordinator any more, or not yet, and repeats:
    /// timed out, loading, not available, not the coordinator.
    pub(crate) const PASSING_FOR_MEMBERS: [i16; 4] = [7, 14, 15, 16];
}
