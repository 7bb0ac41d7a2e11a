//! How far a group has come: its committed offsets, and when they expire (KIP-211).

use std::collections::BTreeMap;

use crate::ids::TopicId;
use crate::time::Timestamp;
use crate::wire::Str;

/// A committed offset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Committed {
    /// The offset that is read next.
    pub(super) offset: i64,
    /// The leader epoch of the record before it, -1 where the client did not say (KIP-320).
    pub(super) leader_epoch: i32,
    /// What the client keeps with it.
    pub(super) metadata: Str,
    /// When it was committed, by the coordinator's clock.
    pub(super) at: Timestamp,
    /// When it expires, where the client asked for a time of its own (OffsetCommit 2 to 4); `None` by the broker's rule.
    pub(super) expires: Option<Timestamp>,
    /// The topic's id where it was known, else zero.
    pub(super) topic_id: TopicId,
}

/// The committed offsets of one group.
#[derive(Debug, Default)]
pub(super) struct Offsets {
    pub(super) by_topic: BTreeMap<Str, BTreeMap<i32, Committed>>,
}
