//! Who belongs to the quorum, and how that changes.
//!
//! A member is a node *and* its data folder: a node that comes back with another folder has forgotten its votes and is
//! somebody else. Changes go by joint consensus only: an entry `Enter` names the new voters and learners, from which on
//! both the old and the new majority must agree; an entry `Leave`, which the leader adds by itself, ends that.
//!
//! | from | entry | to |
//! |---|---|---|
//! | settled | `Enter` that changes something | joint |
//! | joint | `Leave` | settled |
//! | any | any other | as it was: every member judges alike, so none needs to be told |

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::codec::{Malformed, Reader, put_length};
use crate::ids::{NodeId, Uuid};

/// How many members there may be, learners included. Far above what anybody runs: every broker is a member.
pub const MAX_MEMBERS: usize = 1000;

/// One who takes part: a node as long as it has this data folder.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Member {
    /// Its number, 0 or more.
    pub node: NodeId,
    /// Its data folder.
    pub directory: Uuid,
}

impl fmt::Debug for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.node, self.directory)
    }
}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// A member's name in votes, 1 or more: the node id plus one, and 32 bits of the folder's. That two folders of one node
/// share these bits happens once in four billion; such a second folder is not admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MemberKey(pub u64);

impl MemberKey {
    /// The node's part of it.
    pub fn node(self) -> NodeId {
        NodeId(i32::try_from((self.0 >> 32).saturating_sub(1)).unwrap_or(i32::MAX))
    }
}

impl Member {
    /// Its name in votes.
    pub fn key(self) -> MemberKey {
        let folder = self
            .directory
            .0
            .chunks_exact(4)
            .fold(0, |bits, word| bits ^ word.iter().fold(0u32, |number, byte| number << 8 | u32::from(*byte)));
        let node = u64::try_from(self.node.0).expect("a node id is 0 or more") + 1;
        MemberKey(node << 32 | u64::from(folder))
    }

    pub(super) const BYTES: usize = 20;

    pub(super) fn encode(self, out: &mut Vec<u8>) {
        out.extend(self.node.0.to_be_bytes());
        out.extend(self.directory.0);
    }

    pub(super) fn read(reader: &mut Reader) -> Result<Member, Malformed> {
        Ok(Member { node: reader.node()?, directory: reader.uuid()? })
    }
}

/// Who belongs to the quorum. Nobody at all, in a node that has not heard from a leader yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Membership {
    pub(super) since: u64,
    pub(super) voters: BTreeSet<Member>,
    pub(super) learners: BTreeSet<Member>,
    /// The voters before, while both majorities count.
    pub(super) outgoing: BTreeSet<Member>,
}

impl Membership {
    /// That of a new cluster, which begins at the first position of the log.
    ///
    /// # Errors
    /// Where there is no voter, too many, or two with one key.
    pub fn of(voters: impl IntoIterator<Item = Member>) -> Result<Membership, Malformed> {
        Membership { since: 1, voters: voters.into_iter().collect(), ..Membership::default() }.checked()
    }

    /// The position in the log from which on it holds; 0 for nobody's.
    pub fn since(&self) -> u64 {
        self.since
    }

    /// Who counts for majorities, and after the change that is under way.
    pub fn voters(&self) -> &BTreeSet<Member> {
        &self.voters
    }

    /// Who only follows.
    pub fn learners(&self) -> &BTreeSet<Member> {
        &self.learners
    }

    /// Who counted before the change that is under way: a majority of them is still needed. Empty if none is.
    pub fn outgoing(&self) -> &BTreeSet<Member> {
        &self.outgoing
    }

    /// Whether a change is under way.
    pub fn is_joint(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// Whether `member` belongs to it in any way.
    pub fn contains(&self, member: Member) -> bool {
        self.is_voter(member) || self.learners.contains(&member)
    }

    /// Whether `member` counts for a majority, be it the old one or the new one.
    pub fn is_voter(&self, member: Member) -> bool {
        self.voters.contains(&member) || self.outgoing.contains(&member)
    }

    /// Whether `member` decides everything, and nobody else belongs to it.
    pub fn is_alone(&self, member: Member) -> bool {
        self.voters.len() == 1 && self.voters.contains(&member) && self.learners.is_empty() && self.outgoing.is_empty()
    }

    /// Everybody, each once, in order.
    pub fn members(&self) -> BTreeSet<Member> {
        self.voters.iter().chain(&self.learners).chain(&self.outgoing).copied().collect()
    }

    /// Everybody by their keys.
    pub(super) fn names(&self) -> BTreeMap<MemberKey, Member> {
        self.members().into_iter().map(|member| (member.key(), member)).collect()
    }

    /// What it becomes by `change` at position `at`; `None` if that does not apply to it.
    pub(super) fn after(&self, at: u64, change: &Change) -> Option<Membership> {
        match change {
            Change::Enter { .. } if self.is_joint() || self.voters.is_empty() => None,
            Change::Enter { voters, learners } if (voters, learners) == (&self.voters, &self.learners) => None,
            Change::Enter { voters, learners } => {
                let outgoing = self.voters.clone();
                Membership { since: at, voters: voters.clone(), learners: learners.clone(), outgoing }.checked().ok()
            }
            Change::Leave if !self.is_joint() => None,
            Change::Leave => Some(Membership { since: at, outgoing: BTreeSet::new(), ..self.clone() }),
        }
    }

    fn checked(self) -> Result<Membership, Malformed> {
        let members = self.members();
        let keys: BTreeSet<MemberKey> = members.iter().map(|member| member.key()).collect();
        let sound = !self.voters.is_empty()
            && self.voters.is_disjoint(&self.learners)
            && members.len() <= MAX_MEMBERS
            && keys.len() == members.len();
        if sound { Ok(self) } else { Err(Malformed::NoMembership) }
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend(self.since.to_be_bytes());
        for members in [&self.voters, &self.learners, &self.outgoing] {
            put_members(out, members);
        }
    }

    /// Reads one that has voters.
    pub(super) fn read(reader: &mut Reader) -> Result<Membership, Malformed> {
        let since = reader.index()?;
        let (voters, learners) = (read_members(reader)?, read_members(reader)?);
        Membership { since, voters, learners, outgoing: read_members(reader)? }.checked()
    }
}

/// An entry of the log that changes who belongs to the quorum.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// From here on these as well as those before must agree.
    Enter {
        /// Who is to count, at least one.
        voters: BTreeSet<Member>,
        /// Who is to follow only; none of the voters.
        learners: BTreeSet<Member>,
    },
    /// From here on those before count no longer.
    Leave,
}

impl Change {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Change::Enter { voters, learners } => {
                out.push(1);
                put_members(out, voters);
                put_members(out, learners);
            }
            Change::Leave => out.push(2),
        }
    }

    pub(super) fn read(reader: &mut Reader) -> Result<Change, Malformed> {
        match reader.u8()? {
            1 => {
                let (voters, learners) = (read_members(reader)?, read_members(reader)?);
                let all = Membership { voters, learners, ..Membership::default() }.checked()?;
                Ok(Change::Enter { voters: all.voters, learners: all.learners })
            }
            2 => Ok(Change::Leave),
            kind => Err(Malformed::UnknownKind(kind)),
        }
    }
}

fn put_members(out: &mut Vec<u8>, members: &BTreeSet<Member>) {
    put_length(out, members.len());
    members.iter().for_each(|member| member.encode(out));
}

/// A list of members in order, each once: there is one way to write each set.
fn read_members(reader: &mut Reader) -> Result<BTreeSet<Member>, Malformed> {
    let members = reader.list(Member::BYTES, Member::read)?;
    if members.is_sorted_by(|one, next| one < next) {
        Ok(members.into_iter().collect())
    } else {
        Err(Malformed::NoMembership)
    }
}
