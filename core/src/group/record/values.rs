//! The values of the records, as Kafka's schemas have them.

use crate::wire::prelude::*;

messages! {
    /// A committed offset.
    pub struct OffsetCommitValue {
        /// The next offset to read.
        offset: i64, 0..;
        /// The leader epoch of the last record read, -1 if unknown.
        leader_epoch: i32 = -1, 3..;
        /// What the client keeps beside the offset, empty if nothing.
        metadata: Str, 0..;
        /// When it was committed, in milliseconds since 1970.
        commit_timestamp: i64, 0..;
        /// When it ends, in milliseconds since 1970; -1 where the broker's retention decides, as it does for all but
        /// old clients (KIP-211). Where it is not -1 neither leader epoch nor topic id is written.
        expire_timestamp: i64 = -1, 1..=1;
        /// The topic's id, zero if it was not known.
        topic_id: Uuid, 4.., tag 0;
    }

    /// A classic group in one generation.
    pub struct GroupMetadataValue {
        /// What its protocols are about.
        protocol_type: Str, 0..;
        /// The generation.
        generation: i32, 0..;
        /// The protocol chosen; null while there are no members.
        protocol: Option<Str>, 0.., null 0..;
        /// The member that leads; null while there is none.
        leader: Option<Str>, 0.., null 0..;
        /// When its state changed, in milliseconds since 1970; -1 if unknown.
        current_state_timestamp: i64 = -1, 2..;
        /// The members.
        members: Vec<MemberMetadata>, 0..;
    }

    /// A member of a classic group.
    pub struct MemberMetadata {
        /// The member.
        member_id: Str, 0..;
        /// The name of a static member; null for a dynamic one.
        group_instance_id: Option<Str>, 3.., null 3..;
        /// What its client calls itself.
        client_id: Str, 0..;
        /// The address that it joined from.
        client_host: Str, 0..;
        /// How long it may take to join a rebalance, in milliseconds; -1 for as long as the session timeout.
        rebalance_timeout: i32 = -1, 1..;
        /// After how long without a heartbeat it is taken for dead, in milliseconds.
        session_timeout: i32, 0..;
        /// What it said with the protocol chosen.
        subscription: Bytes, 0..;
        /// What it was assigned.
        assignment: Bytes, 0..;
    }

    /// A consumer group.
    pub struct ConsumerGroupMetadataValue {
        /// The group's epoch.
        epoch: i32, 0..;
        /// A hash of the topics subscribed to, 0 if none was made (KIP-1101).
        metadata_hash: i64, 0.., tag 0;
    }

    /// The topics of a consumer group, as brokers before Kafka 4.1 kept them.
    pub struct ConsumerGroupPartitionMetadataValue {
        /// The topics.
        topics: Vec<TopicMetadata>, 0..;
    }

    /// A topic of a consumer group.
    pub struct TopicMetadata {
        /// The topic's id.
        topic_id: Uuid, 0..;
        /// The topic's name.
        topic_name: Str, 0..;
        /// How many partitions it has.
        num_partitions: i32, 0..;
        /// Where its partitions are; empty if their racks are unknown.
        partition_metadata: Vec<PartitionMetadata>, 0..;
    }

    /// Where a partition is.
    pub struct PartitionMetadata {
        /// The partition's index.
        partition: i32, 0..;
        /// The racks of its replicas.
        racks: Vec<Str>, 0..;
    }

    /// A member of a consumer group.
    pub struct ConsumerGroupMemberMetadataValue {
        /// The name of a static member; null for a dynamic one.
        instance_id: Option<Str>, 0.., null 0..;
        /// Its rack; null if it has none.
        rack_id: Option<Str>, 0.., null 0..;
        /// What its client calls itself.
        client_id: Str, 0..;
        /// The address that it joined from.
        client_host: Str, 0..;
        /// The topics subscribed to by name.
        subscribed_topic_names: Vec<Str>, 0..;
        /// The topics subscribed to by regular expression; null or empty if none are.
        subscribed_topic_regex: Option<Str>, 0.., null 0..;
        /// How long it may take to give up partitions, in milliseconds.
        rebalance_timeout_ms: i32 = -1, 0..;
        /// The assignor that it asks for; null if it does not.
        server_assignor: Option<Str>, 0.., null 0..;
        /// What only a member of the classic protocol has; null for one of the consumer protocol. The default is not
        /// null: Kafka leaves out an empty one, and writes the null.
        classic_member_metadata: Option<ClassicMemberMetadata> = Some(ClassicMemberMetadata::default()), 0.., null 0..,
            tag 0;
    }

    /// What a member of the classic protocol brings to a consumer group.
    pub struct ClassicMemberMetadata {
        /// After how long without a heartbeat it is taken for dead, in milliseconds.
        session_timeout_ms: i32, 0..;
        /// The protocols that it can take part in, the one it likes best first.
        supported_protocols: Vec<ClassicProtocol>, 0..;
    }

    /// A protocol that a member can take part in.
    pub struct ClassicProtocol {
        /// The protocol.
        name: Str, 0..;
        /// What the member says with it.
        metadata: Bytes, 0..;
    }

    /// The assignment of a consumer group as a whole.
    pub struct ConsumerGroupTargetAssignmentMetadataValue {
        /// The group's epoch that it was made for.
        assignment_epoch: i32, 0..;
        /// When it was made, in milliseconds since 1970; 0 if unknown (KIP-1263).
        assignment_timestamp: i64, 0.., tag 0;
    }

    /// What a member of a consumer group is to own.
    pub struct ConsumerGroupTargetAssignmentMemberValue {
        /// The partitions.
        topic_partitions: Vec<TopicPartition>, 0..;
    }

    /// Partitions of a topic that a member is to own.
    pub struct TopicPartition {
        /// The topic's id.
        topic_id: Uuid, 0..;
        /// The partitions' indexes.
        partitions: Vec<i32>, 0..;
    }

    /// What a member of a consumer group owns.
    pub struct ConsumerGroupCurrentMemberAssignmentValue {
        /// Its epoch.
        member_epoch: i32, 0..;
        /// The epoch before, which the member may still say if the answer with the new one was lost.
        previous_member_epoch: i32, 0..;
        /// Its state: 0 stable, 1 owes partitions that it must give up, 2 waits for partitions that others have.
        state: i8, 0..;
        /// What it owns.
        assigned_partitions: Vec<TopicPartitions>, 0..;
        /// What it must give up.
        partitions_pending_revocation: Vec<TopicPartitions>, 0..;
    }

    /// Partitions of a topic that a member owns.
    pub struct TopicPartitions {
        /// The topic's id.
        topic_id: Uuid, 0..;
        /// The partitions' indexes.
        partitions: Vec<i32>, 0..;
        /// The epoch at which it was given each of them, to fence commits from before; empty or null if unknown, as
        /// where an older broker wrote it.
        assignment_epochs: Option<Vec<i32>> = Some(Vec::new()), 0.., null 0.., tag 0;
    }

    /// The topics that a regular expression was found to mean.
    pub struct ConsumerGroupRegularExpressionValue {
        /// The topics' names.
        topics: Vec<Str>, 0..;
        /// The version of the metadata in which they were found.
        version: i64, 0..;
        /// When they were found, in milliseconds since 1970.
        timestamp: i64, 0..;
    }
}
