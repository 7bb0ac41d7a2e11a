//! The APIs: their keys, the versions that we speak, and the messages that belong to them.

use std::fmt;
use std::ops::RangeInclusive;

use super::messages::*;
use super::{Field, Malformed, Message, Reader, Schema, Shape, Writer};

macro_rules! apis {
    ($(
        $api:ident = $key:literal, $from:literal ..= $to:literal, flexible $flexible:literal ..,
        $module:ident: $request:ident => $response:ident;
    )*) => {
        /// An API that we speak.
        #[repr(i16)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum ApiKey {
            $(
                #[doc = concat!("Key ", $key, ", in [`", stringify!($module), "`](super::", stringify!($module), ").")]
                $api = $key,
            )*
        }

        impl ApiKey {
            /// All of them, by rising key.
            pub const ALL: &[ApiKey] = &[$(ApiKey::$api),*];

            /// Kafka's name for it.
            pub const fn name(self) -> &'static str {
                match self {
                    $(ApiKey::$api => stringify!($api),)*
                }
            }

            /// The API with this number, if we speak it.
            pub const fn from_code(code: i16) -> Option<ApiKey> {
                match code {
                    $($key => Some(ApiKey::$api),)*
                    _ => None,
                }
            }

            /// The versions that we read and write.
            pub const fn versions(self) -> RangeInclusive<i16> {
                match self {
                    $(ApiKey::$api => $from..=$to,)*
                }
            }

            /// The first version with compact lengths and tagged fields (KIP-482). Versions before it have neither.
            pub const fn flexible_from(self) -> i16 {
                match self {
                    $(ApiKey::$api => $flexible,)*
                }
            }

            /// What its request is made of.
            pub const fn request_schema(self) -> &'static Schema {
                match self {
                    $(ApiKey::$api => <$module::$request as Message>::SCHEMA,)*
                }
            }

            /// What its response is made of.
            pub const fn response_schema(self) -> &'static Schema {
                match self {
                    $(ApiKey::$api => <$module::$response as Message>::SCHEMA,)*
                }
            }
        }

        /// What a client asks.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum Request {
            $(
                #[doc = concat!("[`", stringify!($request), "`]($module::$request).")]
                $api($module::$request),
            )*
        }

        impl Request {
            /// The API that it belongs to.
            pub const fn api_key(&self) -> ApiKey {
                match self {
                    $(Request::$api(_) => ApiKey::$api,)*
                }
            }

            /// Reads the body of a request, after its header.
            ///
            /// # Errors
            /// Where the bytes are not such a request.
            pub fn decode(api_key: ApiKey, version: i16, reader: &mut Reader) -> Result<Request, Malformed> {
                let shape = api_key.shape(version);
                match api_key {
                    $(ApiKey::$api => Field::decode(reader, shape).map(Request::$api),)*
                }
            }

            /// Writes the body, without a header.
            pub fn encode(&self, version: i16, writer: &mut Writer) {
                let shape = self.api_key().shape(version);
                match self {
                    $(Request::$api(request) => request.encode(writer, shape),)*
                }
            }
        }

        /// What a client is answered.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum Response {
            $(
                #[doc = concat!("[`", stringify!($response), "`]($module::$response).")]
                $api($module::$response),
            )*
        }

        impl Response {
            /// The API that it belongs to.
            pub const fn api_key(&self) -> ApiKey {
                match self {
                    $(Response::$api(_) => ApiKey::$api,)*
                }
            }

            /// Reads the body of a response, after its header.
            ///
            /// # Errors
            /// Where the bytes are not such a response.
            pub fn decode(api_key: ApiKey, version: i16, reader: &mut Reader) -> Result<Response, Malformed> {
                let shape = api_key.shape(version);
                match api_key {
                    $(ApiKey::$api => Field::decode(reader, shape).map(Response::$api),)*
                }
            }

            /// Writes the body, without a header.
            pub fn encode(&self, version: i16, writer: &mut Writer) {
                let shape = self.api_key().shape(version);
                match self {
                    $(Response::$api(response) => response.encode(writer, shape),)*
                }
            }
        }

        $(
            impl From<$module::$request> for Request {
                fn from(request: $module::$request) -> Request {
                    Request::$api(request)
                }
            }

            impl From<$module::$request> for Box<Request> {
                fn from(request: $module::$request) -> Box<Request> {
                    Box::new(request.into())
                }
            }

            impl From<$module::$response> for Response {
                fn from(response: $module::$response) -> Response {
                    Response::$api(response)
                }
            }
        )*
    };
}

apis! {
    Produce = 0, 3..=13, flexible 9.., produce: ProduceRequest => ProduceResponse;
    Fetch = 1, 4..=18, flexible 12.., fetch: FetchRequest => FetchResponse;
    ListOffsets = 2, 1..=11, flexible 6.., list_offsets: ListOffsetsRequest => ListOffsetsResponse;
    Metadata = 3, 0..=13, flexible 9.., metadata: MetadataRequest => MetadataResponse;
    OffsetCommit = 8, 2..=10, flexible 8.., offset_commit: OffsetCommitRequest => OffsetCommitResponse;
    OffsetFetch = 9, 1..=10, flexible 6.., offset_fetch: OffsetFetchRequest => OffsetFetchResponse;
    FindCoordinator = 10, 0..=6, flexible 3.., find_coordinator: FindCoordinatorRequest => FindCoordinatorResponse;
    JoinGroup = 11, 0..=9, flexible 6.., join_group: JoinGroupRequest => JoinGroupResponse;
    Heartbeat = 12, 0..=4, flexible 4.., heartbeat: HeartbeatRequest => HeartbeatResponse;
    LeaveGroup = 13, 0..=5, flexible 4.., leave_group: LeaveGroupRequest => LeaveGroupResponse;
    SyncGroup = 14, 0..=5, flexible 4.., sync_group: SyncGroupRequest => SyncGroupResponse;
    DescribeGroups = 15, 0..=6, flexible 5.., describe_groups: DescribeGroupsRequest => DescribeGroupsResponse;
    ListGroups = 16, 0..=5, flexible 3.., list_groups: ListGroupsRequest => ListGroupsResponse;
    ApiVersions = 18, 0..=4, flexible 3.., api_versions: ApiVersionsRequest => ApiVersionsResponse;
    CreateTopics = 19, 2..=7, flexible 5.., create_topics: CreateTopicsRequest => CreateTopicsResponse;
    DeleteTopics = 20, 1..=6, flexible 4.., delete_topics: DeleteTopicsRequest => DeleteTopicsResponse;
    DeleteRecords = 21, 0..=2, flexible 2.., delete_records: DeleteRecordsRequest => DeleteRecordsResponse;
    InitProducerId = 22, 0..=5, flexible 2.., init_producer_id: InitProducerIdRequest => InitProducerIdResponse;
    OffsetForLeaderEpoch = 23, 2..=4, flexible 4..,
        offset_for_leader_epoch: OffsetForLeaderEpochRequest => OffsetForLeaderEpochResponse;
    DescribeConfigs = 32, 1..=4, flexible 4.., describe_configs: DescribeConfigsRequest => DescribeConfigsResponse;
    AlterConfigs = 33, 0..=2, flexible 2.., alter_configs: AlterConfigsRequest => AlterConfigsResponse;
    DescribeLogDirs = 35, 1..=5, flexible 2.., describe_log_dirs: DescribeLogDirsRequest => DescribeLogDirsResponse;
    CreatePartitions = 37, 0..=3, flexible 2.., create_partitions: CreatePartitionsRequest => CreatePartitionsResponse;
    DeleteGroups = 42, 0..=2, flexible 2.., delete_groups: DeleteGroupsRequest => DeleteGroupsResponse;
    ElectLeaders = 43, 0..=2, flexible 2.., elect_leaders: ElectLeadersRequest => ElectLeadersResponse;
    IncrementalAlterConfigs = 44, 0..=1, flexible 1..,
        incremental_alter_configs: IncrementalAlterConfigsRequest => IncrementalAlterConfigsResponse;
    AlterPartitionReassignments = 45, 0..=1, flexible 0..,
        alter_partition_reassignments: AlterPartitionReassignmentsRequest => AlterPartitionReassignmentsResponse;
    ListPartitionReassignments = 46, 0..=0, flexible 0..,
        list_partition_reassignments: ListPartitionReassignmentsRequest => ListPartitionReassignmentsResponse;
    OffsetDelete = 47, 0..=0, flexible 1.., offset_delete: OffsetDeleteRequest => OffsetDeleteResponse;
    DescribeQuorum = 55, 0..=2, flexible 0.., describe_quorum: DescribeQuorumRequest => DescribeQuorumResponse;
    UpdateFeatures = 57, 0..=2, flexible 0.., update_features: UpdateFeaturesRequest => UpdateFeaturesResponse;
    DescribeCluster = 60, 0..=2, flexible 0.., describe_cluster: DescribeClusterRequest => DescribeClusterResponse;
    DescribeProducers = 61, 0..=0, flexible 0..,
        describe_producers: DescribeProducersRequest => DescribeProducersResponse;
    UnregisterBroker = 64, 0..=0, flexible 0..,
        unregister_broker: UnregisterBrokerRequest => UnregisterBrokerResponse;
    ConsumerGroupHeartbeat = 68, 0..=1, flexible 0..,
        consumer_group_heartbeat: ConsumerGroupHeartbeatRequest => ConsumerGroupHeartbeatResponse;
    ConsumerGroupDescribe = 69, 0..=1, flexible 0..,
        consumer_group_describe: ConsumerGroupDescribeRequest => ConsumerGroupDescribeResponse;
    DescribeTopicPartitions = 75, 0..=0, flexible 0..,
        describe_topic_partitions: DescribeTopicPartitionsRequest => DescribeTopicPartitionsResponse;
    AddRaftVoter = 80, 0..=1, flexible 0.., add_raft_voter: AddRaftVoterRequest => AddRaftVoterResponse;
    RemoveRaftVoter = 81, 0..=0, flexible 0..,
        remove_raft_voter: RemoveRaftVoterRequest => RemoveRaftVoterResponse;
}

impl ApiKey {
    /// The number on the wire.
    pub const fn code(self) -> i16 {
        self as i16
    }

    /// The versions to name in ApiVersions: those that we speak, but Produce from 0 on, since librdkafka takes the
    /// absence of its version 0 for a broker too old for everything else (KAFKA-18659).
    pub const fn advertised(self) -> RangeInclusive<i16> {
        let versions = self.versions();
        match self {
            ApiKey::Produce => 0..=*versions.end(),
            _ => versions,
        }
    }

    /// What to answer to ApiVersions: every API and its advertised versions.
    pub fn advertised_apis() -> Vec<api_versions::ApiVersion> {
        let advertised = |&api: &ApiKey| {
            let (min_version, max_version) = api.advertised().into_inner();
            api_versions::ApiVersion { api_key: api.code(), min_version, max_version }
        };
        ApiKey::ALL.iter().map(advertised).collect()
    }

    /// Whether we read and write `version`.
    pub fn speaks(self, version: i16) -> bool {
        self.versions().contains(&version)
    }

    /// The version of a request's header: 2 has tagged fields, 1 has not.
    pub const fn request_header_version(self, version: i16) -> i16 {
        if version >= self.flexible_from() { 2 } else { 1 }
    }

    /// The version of a response's header: 1 has tagged fields, 0 has not. ApiVersions stays at 0, as a client must be
    /// able to read the answer to a version that the broker does not know (KIP-511).
    pub const fn response_header_version(self, version: i16) -> i16 {
        match self {
            ApiKey::ApiVersions => 0,
            _ if version >= self.flexible_from() => 1,
            _ => 0,
        }
    }

    pub(super) const fn shape(self, version: i16) -> Shape {
        Shape::message(version, version >= self.flexible_from())
    }
}

impl fmt::Display for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_produce_is_advertised_beyond_what_we_speak() {
        for api in ApiKey::advertised_apis() {
            let key = ApiKey::from_code(api.api_key).unwrap();
            let expect = if key == ApiKey::Produce { 0..=13 } else { key.versions() };
            assert_eq!(api.min_version..=api.max_version, expect, "{key}");
        }
        assert!(!ApiKey::Produce.speaks(2) && ApiKey::Produce.speaks(3));
    }
}
