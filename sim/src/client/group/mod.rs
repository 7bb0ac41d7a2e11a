//! Members of consumer groups by both protocols, and who looks after groups from outside.
//!
//! ```text
//!   Member ──► Classic   JoinGroup, SyncGroup, Heartbeat, LeaveGroup; a leader runs an `assignor`
//!     │   └──► Next      ConsumerGroupHeartbeat (KIP-848)
//!     └──────► offsets ◄── GroupAdmin
//! ```
//!
//! A member sends one request at a time, so that nothing is being read when it says what it reads.

mod admin;
mod assignor;
mod classic;
mod member;
mod next;
pub(super) mod offsets;

use std::time::Duration;

use chronik_core::wire::find_coordinator::{FindCoordinatorRequest, FindCoordinatorResponse};
use chronik_core::wire::{ErrorCode, Request, Str};

use super::Wanted;
use super::reading::known_code;
use super::topics::Topics;
use super::wires::Node;
use crate::history::{InGroup, Place, What};
use crate::plan::GroupProtocol;

pub(super) use admin::GroupAdmin;
pub(super) use member::Member;

/// How a member behaves.
#[derive(Clone, Copy, Debug)]
pub(super) struct Settings {
    pub(super) group: u32,
    pub(super) protocol: GroupProtocol,
    pub(super) instance: Option<u32>,
    pub(super) session_timeout: Duration,
    pub(super) rebalance_timeout: Duration,
    pub(super) heartbeat: Duration,
    pub(super) request_timeout: Duration,
    pub(super) uses_regex: bool,
    pub(super) age: u8,
}

/// What the machine of a protocol may look at.
struct Sight<'a> {
    settings: &'a Settings,
    /// The group's name.
    group: &'a Str,
    /// The static member's name.
    instance: Option<&'a Str>,
    /// The topics that the member subscribes to.
    subscribed: &'a [usize],
    topics: &'a Topics,
}

impl Sight<'_> {
    fn record(&self, what: InGroup) -> Wanted {
        record(self.settings.group, None, what)
    }

    /// How many partitions a topic has as far as it is known, by its index.
    fn partitions(&self, topic: u32) -> i32 {
        let topic = self.topics.get(topic as usize);
        if topic.id.is_some() { topic.partitions } else { 0 }
    }
}

/// What an answer means to the member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    /// All is well.
    Well,
    /// Ask again, after a while: something else was going on.
    Later,
    /// Ask again, after a while: the coordinator is being loaded.
    Again,
    /// Look for the coordinator again, after a while.
    Elsewhere,
    /// It is not let in for now.
    Barred,
    /// It is out for good.
    Out,
}

/// What an error says that any request to a coordinator may be answered with; `None` for others.
fn of_coordinator(code: ErrorCode) -> Option<Told> {
    use ErrorCode as E;
    match code {
        E::CoordinatorLoadInProgress => Some(Told::Again),
        E::CoordinatorNotAvailable | E::NotCoordinator => Some(Told::Elsewhere),
        _ => None,
    }
}

fn record(group: u32, operation: Option<u32>, what: InGroup) -> Wanted {
    Wanted::Record(operation, What::Group { group, what })
}

/// What a group is called.
pub(super) fn group_name(group: u32) -> Str {
    Str::from(format!("group-{group}").as_str())
}

/// What a static member is called.
fn instance_name(instance: u32) -> Str {
    Str::from(format!("static-{instance}").as_str())
}

/// Asks who coordinates a group.
pub(super) fn find_coordinator(group: &Str, version: i16) -> Request {
    /// From this version on several may be asked for.
    const MANY_FROM: i16 = 4;
    let mut request = FindCoordinatorRequest::default();
    if version >= MANY_FROM {
        request.coordinator_keys = vec![group.clone()];
    } else {
        request.key = group.clone();
    }
    request.into()
}

/// Which coordinator was told of, or why none.
///
/// # Errors
/// Where the answer makes no sense.
pub(super) fn found(group: &Str, response: &FindCoordinatorResponse) -> Result<Result<Node, ErrorCode>, String> {
    let (code, port, node) = match response.coordinators.as_slice() {
        [] => (response.error_code, response.port, response.node_id),
        [one] if one.key == *group => (one.error_code, one.port, one.node_id),
        others => return Err(format!("one coordinator was asked for, {} are told", others.len())),
    };
    let code = known_code(code)?;
    match code {
        ErrorCode::None if port <= 0 => Err(format!("the coordinator has port {port}")),
        ErrorCode::None => match Node::try_from(node) {
            Ok(node) if node > 0 => Ok(Ok(node)),
            _ => Err(format!("the coordinator is node {node}")),
        },
        ErrorCode::CoordinatorNotAvailable | ErrorCode::CoordinatorLoadInProgress => Ok(Err(code)),
        code => Err(format!("a search for a coordinator is answered with {code}")),
    }
}

/// Partitions by topic, each topic once, in order.
fn by_topic(places: impl IntoIterator<Item = Place>) -> Vec<(u32, Vec<i32>)> {
    let mut topics: Vec<(u32, Vec<i32>)> = Vec::new();
    let mut places: Vec<Place> = places.into_iter().collect();
    places.sort_unstable();
    for Place { topic, partition } in places {
        match topics.last_mut() {
            Some((last, partitions)) if *last == topic => partitions.push(partition),
            _ => topics.push((topic, vec![partition])),
        }
    }
    topics
}

fn topic_index(index: usize) -> u32 {
    u32::try_from(index).expect("a plan has few topics")
}
