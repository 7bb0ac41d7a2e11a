//! The messages, each declared once.
//!
//! The rules of change: a kind or version, once released, keeps its meaning and its bytes; a new field is a new version
//! of its kind, which is sent only to a peer whose [`Hello`] says that it reads it. There is one version of each so far.

use bytes::Bytes;

use super::field::Field;
use super::{Batches, Malformed};
use crate::ids::{BrokerEpoch, LeaderEpoch, NodeId, Offset, PartitionEpoch, Session, TopicPartition, Uuid};
use crate::wire::{Reader, Str, Writer};

/// How many epochs a follower tells at once: as many as a partition sees leaders in any ordinary month. More are asked
/// for where these are not enough.
pub const EPOCHS_MAX: usize = 64;

/// How many damaged partitions one heartbeat tells of: as many as one entry of the metadata log changes. What there is
/// beyond them the next ones tell.
pub const DAMAGED_MAX: usize = 200;

/// How many members a proposal may name: more than any partition has replicas.
pub const MEMBERS_MAX: usize = 1_000;

/// Structs that are their fields, one after another.
macro_rules! structs {
    ($(
        $(#[$doc:meta])*
        pub struct $name:ident { $( $(#[$field_doc:meta])* $field:ident : $type:ty, )* }
    )*) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct $name { $( $(#[$field_doc])* pub $field: $type, )* }

        impl Field for $name {
            const MIN_BYTES: usize = 0 $( + <$type>::MIN_BYTES )*;

            fn write(&self, writer: &mut Writer) {
                $( self.$field.write(writer); )*
            }

            fn read(reader: &mut Reader) -> Result<$name, Malformed> {
                Ok($name { $( $field: <$type>::read(reader)?, )* })
            }
        }
    )*};
}

/// Enums that are one byte.
macro_rules! cases {
    ($(
        $(#[$doc:meta])*
        pub enum $name:ident { $( $(#[$case_doc:meta])* $case:ident = $number:literal, )* }
    )*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum $name { $( $(#[$case_doc])* $case = $number, )* }

        impl Field for $name {
            const MIN_BYTES: usize = 1;

            fn write(&self, writer: &mut Writer) {
                (*self as u8).write(writer);
            }

            fn read(reader: &mut Reader) -> Result<$name, Malformed> {
                match u8::read(reader)? {
                    $( $number => Ok($name::$case), )*
                    other => Err(Malformed::UnknownCase(other)),
                }
            }
        }
    )*};
}

/// All messages, with their numbers. All of them have one version, 0, as yet.
macro_rules! messages {
    ($( $(#[$doc:meta])* $number:literal $name:ident ( $type:ty ), )*) => {
        /// What a broker says to another one.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum Message { $( $(#[$doc])* $name($type), )* }

        impl Message {
            pub(super) fn kind(&self) -> u8 {
                match self { $( Message::$name(_) => $number, )* }
            }

            pub(super) fn version(&self) -> u8 {
                0
            }

            pub(super) fn write(&self, writer: &mut Writer) {
                match self { $( Message::$name(content) => content.write(writer), )* }
            }

            pub(super) fn read(kind: u8, version: u8, reader: &mut Reader) -> Result<Message, Malformed> {
                match (kind, version) {
                    $( ($number, 0) => Ok(Message::$name(<$type>::read(reader)?)), )*
                    $( ($number, _) => Err(Malformed::UnknownVersion { kind, version }), )*
                    _ => Err(Malformed::UnknownKind(kind)),
                }
            }
        }
    };
}

messages! {
    /// Whoever dials says who it is.
    1 Hello(Hello),
    /// The listener is of the same cluster, and says who it is.
    2 Welcome(Hello),
    /// The listener will not talk.
    3 Refused(Refused),
    /// Whoever dialled has heard the answer, and can be answered from now on.
    4 Begun(Begun),
    /// A message of raft's, which raft reads.
    10 Metadata(Bytes),
    /// A process of a broker asks to be registered.
    11 Register(Register),
    /// It is registered, or not.
    12 Registered(Registered),
    /// A broker lives.
    13 Heartbeat(Heartbeat),
    /// What it may do.
    14 HeartbeatAnswer(HeartbeatAnswer),
    /// A client's request that another broker must decide.
    15 Forward(Forward),
    /// What became of it.
    16 Forwarded(Forwarded),
    /// Leaders ask the controller to change in-sync sets.
    17 AlterInSync(AlterInSync),
    /// What became of each change.
    18 AlterInSyncAnswer(AlterInSyncAnswer),
    /// Where a broker is reached: the one that says it, or one that decides, where another was asked for a registration.
    19 Referral(Referral),
    /// A leader begins sessions.
    30 Greet(Vec<Greet>),
    /// A follower says which epochs its log has.
    31 Epochs(Vec<Epochs>),
    /// A leader says up to where logs agree.
    32 Cut(Vec<Cut>),
    /// A follower's log ends there, durably.
    33 CutDone(Vec<Acked>),
    /// A leader's batches, high watermark and log start.
    34 Append(Vec<Append>),
    /// How far a follower has come.
    35 Acked(Vec<Acked>),
    /// What came does not follow what the follower has; or it follows a leader that it was not greeted by.
    36 Mismatch(Vec<Acked>),
}

/// Whoever dialled has heard the answer. What the listener says because of the connection is answered by one the other
/// way, which might else not stand yet, and the answer be lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Begun;

impl Field for Begun {
    const MIN_BYTES: usize = 0;

    fn write(&self, _: &mut Writer) {}

    fn read(_: &mut Reader) -> Result<Begun, Malformed> {
        Ok(Begun)
    }
}

structs! {
    /// Who a broker is. Both sides check that the cluster is theirs, and the node the one that they meant.
    pub struct Hello {
        /// The cluster.
        cluster_id: Str,
        /// The node.
        node_id: NodeId,
        /// Its data folder: a node with another folder is another node.
        directory_id: Uuid,
        /// Its process, a random number drawn at each start.
        process: u64,
        /// The oldest format of messages that it reads.
        format_first: u16,
        /// The newest. What is said has the newest that both read.
        format_last: u16,
    }

    /// Why a listener will not talk.
    pub struct Refused {
        /// Which reason it is.
        reason: RefusedBecause,
        /// The same for people.
        message: Str,
    }

    /// A process of a broker asks to be registered. Its answer names the same process.
    pub struct Register {
        /// The node.
        node_id: NodeId,
        /// Its data folder.
        directory_id: Uuid,
        /// The process, as in [`Hello`].
        process: u64,
        /// The number under which its broker was registered last, as far as it knows; -1 where it was not, or is no more.
        broker_epoch: BrokerEpoch,
        /// Its addresses for clients.
        listeners: Vec<Address>,
        /// Where it stands.
        rack: Option<Str>,
        /// Where it listens for other brokers: the host, as those resolve it.
        peer_host: Str,
        /// And the port.
        peer_port: u16,
    }

    /// An address for clients that come in by the listener of this name.
    pub struct Address {
        /// The listener's name.
        name: Str,
        /// The host, as clients resolve it.
        host: Str,
        /// The port.
        port: u16,
    }

    /// What became of a registration.
    pub struct Registered {
        /// The process that asked.
        process: u64,
        /// 0, or Kafka's code of an error.
        error_code: i16,
        /// The error for people.
        message: Option<Str>,
        /// The number of the process.
        broker_epoch: BrokerEpoch,
        /// The entry of the metadata log that registers it.
        index: u64,
    }

    /// A broker, and where it listens for others.
    pub struct Referral {
        /// Its node.
        node_id: NodeId,
        /// Its host, as the one that says so has it.
        peer_host: Str,
        /// And the port.
        peer_port: u16,
    }

    /// A broker lives. One is outstanding at a time.
    pub struct Heartbeat {
        /// The process.
        broker_epoch: BrokerEpoch,
        /// Up to which entry of the metadata log it has come.
        applied: u64,
        /// It would rather stay fenced, since it has more damaged partitions than it has told of since it began.
        wants_fence: bool,
        /// It would like to stop.
        wants_stop: bool,
        /// Partitions whose log is damaged here, though others may count on it: at most [`DAMAGED_MAX`].
        damaged: Vec<Damaged>,
    }

    /// A replica whose log is damaged.
    pub struct Damaged {
        /// Of which partition.
        partition: TopicPartition,
        /// The newest leader epoch in which it may have acknowledged anything; -1 where this process never has.
        leader_epoch: LeaderEpoch,
    }

    /// What a broker may do.
    pub struct HeartbeatAnswer {
        /// The process that is answered.
        broker_epoch: BrokerEpoch,
        /// 0, or Kafka's code of an error: not the controller, another process has registered.
        error_code: i16,
        /// Whether it is fenced.
        is_fenced: bool,
        /// Whether it leads nothing any more, so that it may stop.
        may_stop: bool,
    }

    /// A client's request that another broker must decide.
    pub struct Forward {
        /// By what the answer is found again.
        id: u64,
        /// The name of the listener that the client came in by.
        listener: Str,
        /// For how long the client will wait, in milliseconds.
        timeout_ms: u32,
        /// The number of its API.
        api_key: i16,
        /// The version that the client asked in, and is answered in.
        api_version: i16,
        /// The request, without a header.
        request: Bytes,
    }

    /// What became of a request that was forwarded.
    pub struct Forwarded {
        /// As in [`Forward`].
        id: u64,
        /// Up to which entry of the metadata log a broker must have come before it tells the client.
        index: u64,
        /// The response, without a header; none where the receiver is not the controller, and has done nothing.
        response: Option<Bytes>,
    }

    /// Changes of in-sync sets, all that one turn of a node has.
    pub struct AlterInSync {
        /// The term in which the receiver is believed to be the controller. In any other it refuses, so that what was
        /// under way to a former controller is not carried out when it becomes one again.
        term: u64,
        /// The process that asks.
        broker_epoch: BrokerEpoch,
        /// The changes.
        partitions: Vec<Proposal>,
    }

    /// A leader's proposal of an in-sync set.
    pub struct Proposal {
        /// Which partition.
        partition: TopicPartition,
        /// The leader's epoch.
        leader_epoch: LeaderEpoch,
        /// The state that the proposal changes. It is carried out only where that is the newest.
        partition_epoch: PartitionEpoch,
        /// Rises with each time that the leader proposes anything, the same proposal again included.
        attempt: u64,
        /// The whole new set, each with the process that was seen to be in sync (KIP-903).
        members: Vec<Replica>,
    }

    /// A process of a broker, as one that holds a replica.
    pub struct Replica {
        /// The broker.
        node: NodeId,
        /// The process.
        broker_epoch: BrokerEpoch,
    }

    /// What became of changes of in-sync sets.
    pub struct AlterInSyncAnswer {
        /// The term of the controller that answers, or the one that was asked for.
        term: u64,
        /// What became of each, in any order; none where the receiver is not the controller of that term.
        partitions: Vec<Answer>,
    }

    /// What became of a proposal.
    pub struct Answer {
        /// Which partition.
        partition: TopicPartition,
        /// The leader epoch that was proposed in.
        leader_epoch: LeaderEpoch,
        /// The state that was to be changed.
        partition_epoch: PartitionEpoch,
        /// Which attempt is answered.
        attempt: u64,
        /// What became of it.
        outcome: ProposalOutcome,
    }

    /// A leader begins a session with a follower of one partition.
    pub struct Greet {
        /// Which partition.
        partition: TopicPartition,
        /// The leader's epoch.
        leader_epoch: LeaderEpoch,
        /// The session.
        session: Session,
        /// Which epochs it wants to hear of: the newest of those that begin below.
        below: Offset,
    }

    /// The epochs of a follower's log.
    pub struct Epochs {
        /// Which partition.
        partition: TopicPartition,
        /// The leader's epoch.
        leader_epoch: LeaderEpoch,
        /// The session.
        session: Session,
        /// The follower's process.
        broker_epoch: BrokerEpoch,
        /// Where its log starts.
        start: Offset,
        /// Where its log ends, durably or not.
        end: Offset,
        /// Everything below is held by the whole in-sync set, as far as it has heard; 0 where an unclean election has made
        /// that void.
        high_watermark: Offset,
        /// Epochs with their starts, oldest first, at most [`EPOCHS_MAX`]: the newest of
        /// those asked for.
        epochs: Vec<(LeaderEpoch, Offset)>,
    }

    /// Up to where both logs are the same.
    pub struct Cut {
        /// Which partition.
        partition: TopicPartition,
        /// The leader's epoch.
        leader_epoch: LeaderEpoch,
        /// The session.
        session: Session,
        /// Where the follower's log is to end.
        to: Offset,
        /// Nothing of the follower's log is of use: it is to be empty, and to start there too.
        starts_anew: bool,
    }

    /// A leader's batches for one partition.
    pub struct Append {
        /// Which partition.
        partition: TopicPartition,
        /// The leader's epoch.
        leader_epoch: LeaderEpoch,
        /// The session.
        session: Session,
        /// Where the follower's log must end for these to follow.
        previous_end: Offset,
        /// The leader's high watermark.
        high_watermark: Offset,
        /// Where the leader's log starts.
        start: Offset,
        /// The batches; none where only the high watermark or the start is news.
        batches: Batches,
    }

    /// How far a follower has come with one partition.
    pub struct Acked {
        /// Which partition.
        partition: TopicPartition,
        /// The leader's epoch.
        leader_epoch: LeaderEpoch,
        /// The session; 0 where the follower asks to be greeted.
        session: Session,
        /// The follower's process.
        broker_epoch: BrokerEpoch,
        /// Everything below is durable.
        durable_end: Offset,
        /// Where its log ends, durably or not.
        end: Offset,
        /// Where its log starts, durably.
        start: Offset,
    }
}

cases! {
    /// Why a listener will not talk.
    pub enum RefusedBecause {
        /// It belongs to another cluster.
        AnotherCluster = 1,
        /// It is another node than the one that was meant, or the caller's own number is its.
        AnotherNode = 2,
        /// There is no format that both read.
        NoCommonFormat = 3,
        /// The node is known with another data folder.
        AnotherFolder = 4,
    }

    /// What became of a proposal.
    pub enum ProposalOutcome {
        /// It is committed: the metadata log says the rest.
        Committed = 0,
        /// The partition's state is not the one that was to be changed, or its leader another: the metadata log says
        /// what it is.
        Stale = 1,
        /// A member may not be one: it is fenced, about to stop, or another process by now (KIP-841, KIP-903). Nothing
        /// has changed.
        Ineligible = 2,
    }
}
