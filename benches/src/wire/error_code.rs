//! The broker's error codes by name, and what a person running a load can do about the likely ones.

use std::fmt;

/// An error code of the Kafka protocol; 0 is no error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ErrorCode(pub(crate) i16);

impl ErrorCode {
    pub(crate) const NONE: ErrorCode = ErrorCode(0);
    pub(crate) const UNKNOWN_TOPIC_OR_PARTITION: ErrorCode = ErrorCode(3);
    pub(crate) const LEADER_NOT_AVAILABLE: ErrorCode = ErrorCode(5);
    pub(crate) const TOPIC_ALREADY_EXISTS: ErrorCode = ErrorCode(36);

    pub(crate) fn is_error(self) -> bool {
        self != ErrorCode::NONE
    }

    /// Whether the same request may succeed a moment later, so that a load counts the error and goes on.
    /// A leader that moved is not among them: this client keeps the connections that it began with.
    pub(crate) fn is_passing(self) -> bool {
        matches!(self.0, 5 | 7 | 13 | 14 | 15 | 19 | 20 | 56 | 89)
    }

    /// Whether a broker says so while the news of a new topic is still on its way to it.
    pub(crate) fn is_settling(self) -> bool {
        self.is_passing() || matches!(self.0, 3 | 6 | 74 | 75 | 78)
    }

    /// What to do about it, where the code alone tells.
    pub(crate) fn remedy(self) -> Option<&'static str> {
        Some(match self.0 {
            1 => "retention or a truncation removed the records; run again",
            2 | 87 => "the broker rejects the records: a defect of one of the two sides",
            3 => "the topic was deleted meanwhile; run again",
            6 | 74 | 75 => "leadership moved during the run; run again",
            10 => "lower --batch-records or --message-size, or raise the topic's max.message.bytes",
            16 => "the group's coordinator moved during the run; run again",
            17 => "choose another --topic, of at most 249 letters, digits, dots, underscores and hyphens",
            25 => "the group has members; choose another --topic, which names the groups too",
            19 | 20 => "too few replicas are in sync; wait for them, or lower min.insync.replicas",
            29..=31 => "this client does not authenticate; allow anonymous access for the measurement",
            32 => "the message.timestamp settings of the topic reject the present time: compare the clocks",
            35 => "the broker advertises a version that it does not serve",
            37 => "choose a positive --partitions within the broker's limit",
            38 => "lower --replication-factor or start more brokers",
            40 => "look at the --topic-config given",
            44 => "a policy of the broker forbids the topic; create it by hand and name it with --topic",
            56 => "the broker cannot write: look at its disk and its log",
            _ => return None,
        })
    }

    fn name(self) -> Option<&'static str> {
        Some(match self.0 {
            -1 => "UNKNOWN_SERVER_ERROR",
            0 => "NONE",
            1 => "OFFSET_OUT_OF_RANGE",
            2 => "CORRUPT_MESSAGE",
            3 => "UNKNOWN_TOPIC_OR_PARTITION",
            4 => "INVALID_FETCH_SIZE",
            5 => "LEADER_NOT_AVAILABLE",
            6 => "NOT_LEADER_OR_FOLLOWER",
            7 => "REQUEST_TIMED_OUT",
            8 => "BROKER_NOT_AVAILABLE",
            9 => "REPLICA_NOT_AVAILABLE",
            10 => "MESSAGE_TOO_LARGE",
            13 => "NETWORK_EXCEPTION",
            14 => "COORDINATOR_LOAD_IN_PROGRESS",
            15 => "COORDINATOR_NOT_AVAILABLE",
            16 => "NOT_COORDINATOR",
            17 => "INVALID_TOPIC_EXCEPTION",
            18 => "RECORD_LIST_TOO_LARGE",
            19 => "NOT_ENOUGH_REPLICAS",
            20 => "NOT_ENOUGH_REPLICAS_AFTER_APPEND",
            21 => "INVALID_REQUIRED_ACKS",
            22 => "ILLEGAL_GENERATION",
            25 => "UNKNOWN_MEMBER_ID",
            28 => "INVALID_COMMIT_OFFSET_SIZE",
            29 => "TOPIC_AUTHORIZATION_FAILED",
            30 => "GROUP_AUTHORIZATION_FAILED",
            31 => "CLUSTER_AUTHORIZATION_FAILED",
            32 => "INVALID_TIMESTAMP",
            33 => "UNSUPPORTED_SASL_MECHANISM",
            34 => "ILLEGAL_SASL_STATE",
            35 => "UNSUPPORTED_VERSION",
            36 => "TOPIC_ALREADY_EXISTS",
            37 => "INVALID_PARTITIONS",
            38 => "INVALID_REPLICATION_FACTOR",
            39 => "INVALID_REPLICA_ASSIGNMENT",
            40 => "INVALID_CONFIG",
            41 => "NOT_CONTROLLER",
            42 => "INVALID_REQUEST",
            43 => "UNSUPPORTED_FOR_MESSAGE_FORMAT",
            44 => "POLICY_VIOLATION",
            45 => "OUT_OF_ORDER_SEQUENCE_NUMBER",
            56 => "KAFKA_STORAGE_ERROR",
            58 => "SASL_AUTHENTICATION_FAILED",
            60 => "REASSIGNMENT_IN_PROGRESS",
            70 => "FETCH_SESSION_ID_NOT_FOUND",
            71 => "INVALID_FETCH_SESSION_EPOCH",
            74 => "FENCED_LEADER_EPOCH",
            75 => "UNKNOWN_LEADER_EPOCH",
            76 => "UNSUPPORTED_COMPRESSION_TYPE",
            78 => "OFFSET_NOT_AVAILABLE",
            87 => "INVALID_RECORD",
            89 => "THROTTLING_QUOTA_EXCEEDED",
            100 => "UNKNOWN_TOPIC_ID",
            _ => return None,
        })
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => write!(out, "{name} ({})", self.0),
            None => write!(out, "error {}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kafka_protocol::error::ResponseError;

    #[test]
    fn names_agree_with_an_independent_table() {
        for code in -1..150 {
            let ours = ErrorCode(code);
            let (Some(name), Some(theirs)) = (ours.name(), ResponseError::try_from_code(code)) else { continue };
            let joined: String = name.split('_').flat_map(str::chars).collect();
            assert_eq!(joined.to_lowercase(), format!("{theirs:?}").to_lowercase(), "code {code}");
        }
    }

    #[test]
    fn an_unknown_code_is_still_printed() {
        assert_eq!(ErrorCode(9999).to_string(), "error 9999");
        assert_eq!(ErrorCode(10).to_string(), "MESSAGE_TOO_LARGE (10)");
    }
}
