//! What members and others see of a consumer group.

use std::fmt;

use chronik_core::ids::Offset;
use chronik_core::time::Instant;
use chronik_core::wire::ErrorCode;

/// A partition by its topic's index in the plan: groups know topics by their names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The topic's index.
    pub topic: u32,
    /// The partition's.
    pub partition: i32,
}

/// Names one commit: it travels as the metadata of each of its offsets, so that every answer says whose it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag {
    /// Whose commit.
    pub client: u32,
    /// The how manieth of that client, from 0.
    pub number: u32,
}

/// A committed offset as somebody is told of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Committed {
    /// Of what.
    pub place: Place,
    /// The offset; below 0 where none is committed.
    pub offset: Offset,
    /// Which commit it is of; `None` where none is committed.
    pub tag: Option<Tag>,
}

/// What happens between a client and a group.
#[derive(Clone, Debug, PartialEq)]
pub enum InGroup {
    /// A member is about to ask to be let in.
    Joins {
        /// Which static member it is, if one.
        instance: Option<u32>,
    },
    /// JoinGroup was answered: there is a generation.
    Joined {
        /// When it asked.
        asked_at: Instant,
        /// Who it is.
        member: String,
        /// The generation.
        generation: i32,
        /// Who assigns.
        leader: String,
    },
    /// A member was told which partitions it has, all of them.
    Assigned {
        /// When it asked.
        asked_at: Instant,
        /// Who it is.
        member: String,
        /// The generation, or the member's epoch.
        number: i32,
        /// Whether it is a member by the next protocol.
        is_next: bool,
        /// Whether it asked to be let in, under no epoch yet.
        is_first: bool,
        /// The partitions.
        places: Vec<Place>,
    },
    /// A member reads these no longer.
    Released {
        /// The partitions.
        places: Vec<Place>,
    },
    /// A heartbeat was answered well.
    Alive {
        /// When it was sent.
        asked_at: Instant,
        /// Who it is.
        member: String,
        /// The generation, or the member's epoch.
        number: i32,
    },
    /// A member was told that it is none, or not in this generation or epoch.
    Fenced {
        /// How.
        code: ErrorCode,
    },
    /// There is no coordinator that would answer, for now.
    TurnedAway {
        /// Why.
        code: ErrorCode,
    },
    /// A member, or the static member of this number, is about to be taken out.
    Leaves {
        /// Which static member, where somebody else takes it out.
        instance: Option<u32>,
    },
    /// Offsets are about to be committed.
    Commit {
        /// Which commit.
        tag: Tag,
        /// Under which generation or epoch; -1 without membership.
        number: i32,
        /// What.
        offsets: Vec<(Place, Offset)>,
    },
    /// Offsets of a commit were taken.
    Taken {
        /// Which commit.
        tag: Tag,
        /// Of what.
        places: Vec<Place>,
    },
    /// Offsets of a commit were declined, by an error after which they are not committed and will not be.
    Declined {
        /// Which commit.
        tag: Tag,
        /// Why.
        code: ErrorCode,
        /// Of what.
        places: Vec<Place>,
    },
    /// An answer to OffsetFetch.
    Offsets {
        /// When it was asked.
        asked_at: Instant,
        /// What is committed.
        committed: Vec<Committed>,
        /// Whether all of the group's offsets were asked for, so that what is not told is not there.
        is_all: bool,
    },
    /// Offsets are about to be deleted, or the group with all of them.
    Delete {
        /// Of which topic; `None` for the group.
        topic: Option<u32>,
    },
    /// They were deleted.
    Deleted {
        /// Of which topic; `None` for the group.
        topic: Option<u32>,
        /// When it was asked for.
        asked_at: Instant,
    },
    /// A description of the group.
    Described {
        /// When it was asked for.
        asked_at: Instant,
        /// The group's epoch, where told.
        epoch: Option<i32>,
        /// What its members have, of all members.
        places: Vec<Place>,
    },
    /// A member ends its part in the run, so long after everything has healed.
    Settled {
        /// Where it stands.
        stands: Stands,
        /// The generation, or the member's epoch.
        number: i32,
        /// The topics that it subscribes to and that there are, with how many partitions they have.
        subscribed: Vec<(u32, i32)>,
        /// What it has.
        places: Vec<Place>,
    },
}

/// Where a member stands at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stands {
    /// It does not want to be in the group.
    Outside,
    /// It wants to be, and was not let in when it last asked.
    Barred,
    /// It has not been told what it has, or something else is under way.
    Moving,
    /// It has been told what it has, and nothing else is under way.
    Settled,
}

impl Tag {
    /// The tag that an offset's metadata holds.
    pub fn parse(metadata: &str) -> Option<Tag> {
        let (client, number) = metadata.strip_prefix("commit ")?.split_once('.')?;
        Some(Tag { client: client.parse().ok()?, number: number.parse().ok()? })
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "commit {}.{}", self.client, self.number)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "topic {}-{}", self.topic, self.partition)
    }
}

/// Partitions, for people.
pub struct Places<'a>(pub &'a [Place]);

impl fmt::Display for Places<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[")?;
        for (index, place) in self.0.iter().enumerate() {
            write!(f, "{}{}-{}", if index > 0 { " " } else { "" }, place.topic, place.partition)?;
        }
        f.write_str("]")
    }
}

impl fmt::Display for InGroup {
    /// One line, for timelines and reports.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            InGroup::Joins { instance: None } => f.write_str("asks to be let in"),
            InGroup::Joins { instance: Some(instance) } => write!(f, "asks to be let in as static member {instance}"),
            InGroup::Joined { member, generation, leader, .. } => {
                write!(f, "{member} is in generation {generation}, led by {leader}")
            }
            InGroup::Assigned { member, number, places, .. } => {
                write!(f, "{member} has in {number}: {}", Places(places))
            }
            InGroup::Released { places } => write!(f, "gives up {}", Places(places)),
            InGroup::Alive { member, number, .. } => write!(f, "{member} is alive in {number}"),
            InGroup::Fenced { code } => write!(f, "is out: {code:?}"),
            InGroup::TurnedAway { code } => write!(f, "is turned away: {code:?}"),
            InGroup::Leaves { instance: None } => f.write_str("leaves"),
            InGroup::Leaves { instance: Some(instance) } => write!(f, "takes out static member {instance}"),
            InGroup::Commit { tag, number, offsets, .. } => {
                write!(f, "{tag} under {number}:")?;
                offsets
                    .iter()
                    .try_for_each(|(place, offset)| write!(f, " {}-{} at {}", place.topic, place.partition, offset.0))
            }
            InGroup::Taken { tag, places } => write!(f, "{tag} is taken for {}", Places(places)),
            InGroup::Declined { tag, code, places } => write!(f, "{tag} is declined for {}: {code:?}", Places(places)),
            InGroup::Offsets { committed, is_all, .. } => {
                write!(f, "committed is{}:", if *is_all { " in all" } else { "" })?;
                committed.iter().try_for_each(|Committed { place, offset, tag }| {
                    write!(f, " {}-{} at {}", place.topic, place.partition, offset.0)?;
                    tag.map_or(Ok(()), |tag| write!(f, " ({tag})"))
                })
            }
            InGroup::Delete { topic: None } => f.write_str("delete the group"),
            InGroup::Delete { topic: Some(topic) } => write!(f, "delete the offsets of topic {topic}"),
            InGroup::Deleted { topic: None, .. } => f.write_str("the group is deleted"),
            InGroup::Deleted { topic: Some(topic), .. } => write!(f, "the offsets of topic {topic} are deleted"),
            InGroup::Described { epoch, places, .. } => {
                write!(f, "is described with {}", Places(places))?;
                epoch.map_or(Ok(()), |epoch| write!(f, " in epoch {epoch}"))
            }
            InGroup::Settled { stands, number, places, .. } => {
                let how = match stands {
                    Stands::Outside => "outside",
                    Stands::Barred => "before the door",
                    Stands::Moving => "not stable",
                    Stands::Settled => "stable",
                };
                write!(f, "ends {how} in {number}, with {}", Places(places))
            }
        }
    }
}
