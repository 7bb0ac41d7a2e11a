//! What a fetch request names.

use crate::ids::{Offset, TopicId};
use crate::wire::Str;
use crate::wire::fetch::{FetchPartition, FetchRequest};

/// A topic as a produce or fetch request names it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::node) enum Topic {
    /// Below version 13.
    Name(Str),
    /// From version 13 on (KIP-516), where there are no names: a zero id names no topic.
    Id(TopicId),
}

/// From this version on consumers read from followers if they are told to.
pub(super) const FOLLOWERS_FROM: i16 = 11;

impl Topic {
    /// From this version on produce and fetch requests name topics by id.
    pub(super) const IDS_FROM: i16 = 13;

    /// Takes of the two what counts in `version`.
    pub(in crate::node) fn named(version: i16, name: &Str, id: TopicId) -> Topic {
        if version < Topic::IDS_FROM { Topic::Name(name.clone()) } else { Topic::Id(id) }
    }

    pub(in crate::node) fn is_by_id(&self) -> bool {
        matches!(self, Topic::Id(_))
    }

    /// The name and the id as an answer repeats them, empty or zero where the request has none.
    pub(super) fn into_answer(self) -> (Str, TopicId) {
        match self {
            Topic::Name(name) => (name, TopicId::ZERO),
            Topic::Id(id) => (Str::default(), id),
        }
    }
}

/// One partition of a fetch request.
#[derive(Clone, Debug)]
pub(in crate::node) struct FetchPart {
    pub(in crate::node) topic: Topic,
    pub(in crate::node) index: i32,
    pub(super) offset: Offset,
    pub(super) max_bytes: usize,
    pub(super) epoch: i32,
    pub(super) reader: Reader,
}

/// Who reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::node) struct Reader {
    /// Whether it knows that followers may be read from (KIP-392).
    pub(super) knows_followers: bool,
    /// Where it stands, as the node's [`Racks`](crate::node::leaders::Racks) number it; 0 where nobody is near.
    pub(super) rack: u16,
}

impl FetchPart {
    /// The same, with nothing of the request that it came in: a session outlives it, and must not keep its memory.
    pub(in crate::node) fn detached(&self) -> FetchPart {
        self.under(match &self.topic {
            Topic::Name(name) => Topic::Name(name.detached()),
            Topic::Id(id) => Topic::Id(*id),
        })
    }

    /// The same, which holds its topic's name or id in this form.
    pub(in crate::node) fn under(&self, topic: Topic) -> FetchPart {
        FetchPart { topic, ..*self }
    }

    /// What a request asks of a partition of `topic`.
    pub(super) fn of(topic: Topic, asked: &FetchPartition, reader: Reader) -> FetchPart {
        FetchPart {
            topic,
            index: asked.partition,
            offset: Offset(asked.fetch_offset),
            max_bytes: usize::try_from(asked.partition_max_bytes).unwrap_or(0),
            epoch: asked.current_leader_epoch,
            reader,
        }
    }

    /// Whether both are of one partition.
    pub(in crate::node) fn is_same(&self, other: &FetchPart) -> bool {
        self.index == other.index && self.topic == other.topic
    }
}

/// The partitions that a request names.
pub(super) fn parts(request: &FetchRequest, version: i16, reader: Reader) -> Vec<FetchPart> {
    let mut parts = Vec::new();
    for fetched in &request.topics {
        let topic = Topic::named(version, &fetched.topic, fetched.topic_id);
        parts.extend(fetched.partitions.iter().map(|asked| FetchPart::of(topic.clone(), asked, reader)));
    }
    parts
}
