//! The assignors of the coordinator: which member is to own which partitions. Pure functions of who subscribes to what,
//! and of what the assignment before said.

mod range;
#[cfg(test)]
mod tests;
mod uniform;

use std::sync::Arc;

use crate::ids::TopicId;
use crate::wire::Str;

use super::member::Partitions;
use super::regex::RECORD_OVERHEAD_BYTES;

/// A topic that somebody subscribes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Topic {
    pub(crate) id: TopicId,
    pub(crate) partitions: u32,
}

/// A member, as an assignor sees it.
#[derive(Debug)]
pub(crate) struct Subscriber<'a> {
    pub(crate) id: &'a Str,
    pub(crate) instance_id: Option<&'a Str>,
    /// The topics that it subscribes to, as rising indexes into the topics.
    pub(crate) topics: Vec<usize>,
    /// What it was to own by the assignment before.
    pub(crate) before: Option<&'a Partitions>,
}

/// A member, for an assignment that is made elsewhere: it shares what it can with its group.
#[derive(Debug)]
pub(crate) struct Candidate {
    pub(crate) id: Str,
    pub(crate) instance_id: Option<Str>,
    /// As [`Subscriber::topics`].
    pub(crate) topics: Arc<[usize]>,
    /// As [`Subscriber::before`].
    pub(crate) before: Option<Arc<Partitions>>,
}

/// An assignment that is to be made.
#[derive(Debug)]
pub(crate) struct Assigning {
    pub(crate) assignor: Assignor,
    /// Those that somebody subscribes to, rising by id.
    pub(crate) topics: Vec<Topic>,
    /// Rising by id.
    pub(crate) members: Vec<Candidate>,
}

/// An assignment.
#[derive(Debug)]
pub(crate) struct Assigned {
    /// What is another than before, by the ids of members.
    pub(crate) changed: Vec<(Str, Partitions)>,
    /// What the largest record about any of these may take, in bytes.
    pub(crate) bytes_max: usize,
}

impl Assigning {
    /// Makes it.
    pub(crate) fn assign(self) -> Assigned {
        let members = self.members.iter().map(|member| Subscriber {
            id: &member.id,
            instance_id: member.instance_id.as_ref(),
            topics: member.topics.to_vec(),
            before: member.before.as_deref(),
        });
        let members: Vec<Subscriber<'_>> = members.collect();
        let targets = self.assignor.assign(&self.topics, &members);
        let changed: Vec<(Str, Partitions)> = members
            .iter()
            .zip(targets)
            .filter(|(member, target)| member.before != Some(target))
            .map(|(member, target)| (member.id.clone(), target))
            .collect();
        let bytes_max = changed.iter().map(|(_, target)| bytes_of(target)).max().unwrap_or(0);
        Assigned { changed, bytes_max }
    }
}

/// What the record of what a member owns may take once it has this target, at most. While it gives up what it had
/// before it holds both, hence twice.
fn bytes_of(target: &Partitions) -> usize {
    // A partition takes four bytes and four for its epoch; a topic takes its id, two lengths and a tag.
    let topics: usize = target.values().map(|partitions| 16 + 16 + 8 * partitions.len()).sum();
    2 * topics + RECORD_OVERHEAD_BYTES
}

/// An assignor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Assignor {
    /// Members have equally many partitions, and keep what they have.
    Uniform,
    /// Each topic in ranges, so that partitions of one index of several topics meet in one member.
    Range,
}

impl Assignor {
    /// The assignor with this name.
    pub(crate) fn by_name(name: &str) -> Option<Assignor> {
        match name {
            "uniform" => Some(Assignor::Uniform),
            "range" => Some(Assignor::Range),
            _ => None,
        }
    }

    /// What each member is to own. `topics` rise by id, `members` by theirs; the answer is in the order of `members`.
    pub(crate) fn assign(self, topics: &[Topic], members: &[Subscriber<'_>]) -> Vec<Partitions> {
        match self {
            Assignor::Uniform => uniform::assign(topics, members),
            Assignor::Range => range::assign(topics, members),
        }
    }
}
