//! A broker that comes or goes, as whoever operates the cluster has it done: `add-node`, and `drain`, a stop and
//! `remove-node`.
//!
//! | step | goes on when |
//! |---|---|
//! | start | the machine was told to |
//! | seek | the quorum knows the broker as one that follows |
//! | vote | it has a vote |
//! | | |
//! | drain | it holds no replica, by what a broker knows; then it is stopped, and looked at again until it is fenced |
//! | find | the quorum was asked under which folder it votes |
//! | unvote | it has no vote |
//! | forget | it is not registered any more |
//!
//! Whoever holds nothing when it is stopped may have been given something in that moment. So what counts is what is known
//! of it when it is fenced, since then it is given nothing any more; if it holds something it is started again.

use std::collections::BTreeMap;
use std::time::Duration;

use chronik_core::ids::Uuid;
use chronik_core::time::Instant;
use chronik_core::wire::add_raft_voter::AddRaftVoterRequest;
use chronik_core::wire::alter_partition_reassignments::{
    AlterPartitionReassignmentsRequest, ReassignablePartition, ReassignableTopic,
};
use chronik_core::wire::describe_quorum::{DescribeQuorumResponse, ReplicaState};
use chronik_core::wire::metadata::{MetadataRequest, MetadataResponse};
use chronik_core::wire::remove_raft_voter::RemoveRaftVoterRequest;
use chronik_core::wire::unregister_broker::UnregisterBrokerRequest;
use chronik_core::wire::{ErrorCode, Request, Response, Str};

use super::{TIMEOUT_MS, describe_quorum, may_pass};
use crate::client::Wanted;
use crate::client::reading::known_code;
use crate::client::topics::METADATA_VERSION;
use crate::client::wires::Node;
use crate::history::{self, Order, What};

/// A move that was asked for is asked for again after this, if it has not arrived: somebody else may have stopped it.
const MOVE_AGAIN: Duration = Duration::from_secs(2);
/// No topic of a plan has more replicas than this; a partition that is being moved lies on more brokers.
const REPLICAS_MAX: usize = 3;
/// The version of DescribeQuorum that tells of folders.
const QUORUM_VERSION: i16 = 2;

/// One broker's way into the cluster or out of it.
#[derive(Debug)]
pub(super) struct Change {
    node: Node,
    step: Step,
    /// The broker is told to stop, and nothing but what it holds says that it goes.
    is_stopped: bool,
    /// Where partitions are to go that it holds, and when that was asked for.
    moves: BTreeMap<(Str, i32), (Vec<i32>, Instant)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Start {
        empties: bool,
    },
    Seek,
    Vote(Uuid),
    Drain,
    /// Has these partitions moved, and goes back to look.
    Move(Vec<(Str, i32)>),
    Find,
    Unvote(Uuid),
    Forget,
}

/// What an answer leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// There is more to ask.
    Go,
    /// The same is to be asked a while later.
    Wait,
    /// All is done.
    Done,
    /// It is declined.
    Refused(ErrorCode),
}

impl Change {
    /// The broker is to be started, and to vote.
    pub(super) fn adds(node: Node, empties: bool) -> Change {
        Change { node, step: Step::Start { empties }, is_stopped: false, moves: BTreeMap::new() }
    }

    /// The broker is to go.
    pub(super) fn removes(node: Node) -> Change {
        Change { step: Step::Drain, ..Change::adds(node, false) }
    }

    /// Whose.
    pub(super) fn node(&self) -> Node {
        self.node
    }

    /// Does what needs no answer.
    pub(super) fn begin(&mut self, wanted: &mut Vec<Wanted>) {
        if let Step::Start { empties } = self.step {
            wanted.push(Wanted::Order(self.node, Order::Start { empties }));
            self.step = Step::Seek;
        }
    }

    /// It is given up: a broker that was stopped and may hold something runs on.
    pub(super) fn give_up(&mut self, wanted: &mut Vec<Wanted>) {
        if self.is_stopped {
            self.run_on(wanted);
        }
    }

    fn run_on(&mut self, wanted: &mut Vec<Wanted>) {
        self.is_stopped = false;
        wanted.push(Wanted::Order(self.node, Order::Start { empties: false }));
    }

    /// What is to be asked next, in which version, and what the history is told of it.
    pub(super) fn request(&self) -> (Request, i16, Option<What>) {
        let node = i32::try_from(self.node).expect("few brokers");
        let changes = |change| Some(What::ChangeMembers { node: self.node, change });
        match &self.step {
            Step::Start { .. } | Step::Seek | Step::Find => (describe_quorum(), QUORUM_VERSION, None),
            &Step::Vote(voter_directory_id) => {
                let timeout_ms = TIMEOUT_MS;
                let request =
                    AddRaftVoterRequest { timeout_ms, voter_id: node, voter_directory_id, ..Default::default() };
                (request.into(), 1, changes(history::Change::Vote))
            }
            Step::Drain => {
                let request = MetadataRequest { topics: None, allow_auto_topic_creation: false, ..Default::default() };
                (request.into(), METADATA_VERSION, None)
            }
            Step::Move(partitions) => (self.reassignment(partitions), 0, None),
            &Step::Unvote(voter_directory_id) => {
                let request = RemoveRaftVoterRequest { cluster_id: None, voter_id: node, voter_directory_id };
                (request.into(), 0, changes(history::Change::NoVote))
            }
            Step::Forget => (UnregisterBrokerRequest { broker_id: node }.into(), 0, changes(history::Change::Forget)),
        }
    }

    fn reassignment(&self, partitions: &[(Str, i32)]) -> Request {
        let topics = partitions.iter().map(|place| ReassignableTopic {
            name: place.0.clone(),
            partitions: vec![ReassignablePartition {
                partition_index: place.1,
                replicas: self.moves.get(place).map(|(to, _)| to.clone()),
            }],
        });
        AlterPartitionReassignmentsRequest {
            timeout_ms: TIMEOUT_MS,
            allow_replication_factor_change: true,
            topics: topics.collect(),
        }
        .into()
    }

    /// No answer came: what was asked may have been carried out.
    pub(super) fn lost(&mut self) {
        if let Step::Move(_) = self.step {
            self.step = Step::Drain;
        }
    }

    /// Takes an answer.
    ///
    /// # Errors
    /// Where there is an error in it that does not exist.
    pub(super) fn take(
        &mut self,
        now: Instant,
        response: &Response,
        wanted: &mut Vec<Wanted>,
    ) -> Result<(Next, Option<What>), String> {
        let done = |change| Some(What::MembersChanged { node: self.node, change });
        Ok(match response {
            Response::DescribeQuorum(response) => {
                known_code(response.error_code)?;
                (self.found(response), None)
            }
            Response::Metadata(response) => (self.drained(now, response, wanted), None),
            // What did not begin is found where it was.
            Response::AlterPartitionReassignments(_) => {
                self.step = Step::Drain;
                (Next::Wait, None)
            }
            Response::AddRaftVoter(response) => match known_code(response.error_code)? {
                ErrorCode::None | ErrorCode::DuplicateVoter => (Next::Done, done(history::Change::Vote)),
                code => {
                    self.step = Step::Seek;
                    (declined(code), None)
                }
            },
            Response::RemoveRaftVoter(response) => match known_code(response.error_code)? {
                ErrorCode::None | ErrorCode::VoterNotFound => {
                    let done = done(history::Change::NoVote);
                    self.step = Step::Forget;
                    (Next::Go, done)
                }
                code => (declined(code), None),
            },
            Response::UnregisterBroker(response) => match known_code(response.error_code)? {
                ErrorCode::None | ErrorCode::BrokerIdNotRegistered => (Next::Done, done(history::Change::Forget)),
                // It is not fenced as yet, by what the controller knows.
                ErrorCode::InvalidRequest => {
                    let (node, change) = (self.node, history::Change::Forget);
                    (Next::Wait, Some(What::MembersStay { node, change }))
                }
                code => (declined(code), None),
            },
            _ => (Next::Wait, None),
        })
    }

    /// The quorum was told of.
    fn found(&mut self, response: &DescribeQuorumResponse) -> Next {
        let Some(quorum) = response.topics.iter().flat_map(|topic| &topic.partitions).next() else { return Next::Wait };
        if quorum.error_code != ErrorCode::None.code() {
            return Next::Wait;
        }
        let node = i32::try_from(self.node).expect("few brokers");
        let folder = |members: &[ReplicaState]| {
            members.iter().find(|member| member.replica_id == node).map(|member| member.replica_directory_id)
        };
        let (votes, follows) = (folder(&quorum.current_voters), folder(&quorum.observers));
        let next = match (&self.step, votes, follows) {
            (Step::Find, Some(folder), _) => Step::Unvote(folder),
            (Step::Find, None, _) => Step::Forget,
            (Step::Seek, Some(_), _) => return Next::Done,
            (Step::Seek, None, Some(folder)) => Step::Vote(folder),
            _ => return Next::Wait,
        };
        // From here on it goes, whatever becomes of it.
        self.is_stopped = false;
        self.step = next;
        Next::Go
    }

    /// A broker told what it knows of the others and of who holds what.
    fn drained(&mut self, now: Instant, response: &MetadataResponse, wanted: &mut Vec<Wanted>) -> Next {
        let node = i32::try_from(self.node).expect("few brokers");
        let alive: Vec<i32> = response.brokers.iter().map(|broker| broker.node_id).collect();
        // Who has been of the cluster for a while knows of a topic.
        if alive.is_empty() || response.topics.is_empty() {
            return Next::Wait;
        }
        let mut holds = Vec::new();
        for topic in &response.topics {
            let Some(name) = topic.name.as_ref().filter(|_| topic.error_code == ErrorCode::None.code()) else {
                return Next::Wait;
            };
            let held = topic.partitions.iter().filter(|partition| partition.replica_nodes.contains(&node));
            holds.extend(held.map(|partition| ((name.clone(), partition.partition_index), &partition.replica_nodes)));
        }
        match (holds.is_empty(), self.is_stopped) {
            (true, false) => {
                self.is_stopped = true;
                wanted.push(Wanted::Order(self.node, Order::Stop));
                Next::Wait
            }
            _ if self.is_stopped && alive.contains(&node) => Next::Wait,
            (true, true) => {
                self.step = Step::Find;
                Next::Go
            }
            (false, true) => {
                self.run_on(wanted);
                Next::Wait
            }
            (false, false) => {
                let mut due = Vec::new();
                for (place, replicas) in holds {
                    let asked = self.moves.get(&place).map(|(_, at)| *at);
                    if asked.is_some_and(|at| at + MOVE_AGAIN > now) {
                        continue;
                    }
                    if let Some(to) = without(node, replicas, &alive, place.1) {
                        self.moves.insert(place.clone(), (to, now));
                        due.push(place);
                    }
                }
                if due.is_empty() {
                    return Next::Wait;
                }
                self.step = Step::Move(due);
                Next::Go
            }
        }
    }
}

/// The replicas with another broker in the place of this one; `None` while there is none. `turn` tells partitions apart,
/// so that they go to different ones.
fn without(node: i32, replicas: &[i32], alive: &[i32], turn: i32) -> Option<Vec<i32>> {
    let mut to: Vec<i32> = replicas.to_vec();
    let place = to.iter().position(|replica| *replica == node)?;
    if to.len() > REPLICAS_MAX {
        to.remove(place);
        to.truncate(REPLICAS_MAX);
        return Some(to);
    }
    let free: Vec<i32> = alive.iter().copied().filter(|other| !replicas.contains(other)).collect();
    let turn = usize::try_from(turn).unwrap_or_default();
    to[place] = *free.get(turn % free.len().max(1))?;
    Some(to)
}

fn declined(code: ErrorCode) -> Next {
    if may_pass(code) { Next::Wait } else { Next::Refused(code) }
}

#[cfg(test)]
mod tests {
    use chronik_core::wire::alter_partition_reassignments::AlterPartitionReassignmentsResponse;
    use chronik_core::wire::metadata::{MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic};

    use super::*;

    /// What a broker knows: who lives, and who holds the only partition.
    fn metadata(alive: &[i32], replicas: &[i32]) -> Response {
        let broker = |&node_id: &i32| MetadataResponseBroker { node_id, ..Default::default() };
        let partition = MetadataResponsePartition { replica_nodes: replicas.to_vec(), ..Default::default() };
        let name = Some("orders".into());
        let topic = MetadataResponseTopic { name, partitions: vec![partition], ..Default::default() };
        let brokers = alive.iter().map(broker).collect();
        MetadataResponse { brokers, topics: vec![topic], ..Default::default() }.into()
    }

    fn take(change: &mut Change, response: &Response) -> (Next, Vec<Wanted>) {
        let mut wanted = Vec::new();
        let (next, _) = change.take(Instant(1_000_000_000), response, &mut wanted).expect("all errors are known");
        (next, wanted)
    }

    #[test]
    fn who_goes_is_drained_then_stopped_and_forgotten_once_it_is_fenced() {
        let mut change = Change::removes(1);
        assert_eq!(take(&mut change, &metadata(&[1, 2, 3, 4], &[1, 2, 3])), (Next::Go, Vec::new()));
        assert!(matches!(change.request().0, Request::AlterPartitionReassignments(_)));
        take(&mut change, &AlterPartitionReassignmentsResponse::default().into());
        assert_eq!(
            take(&mut change, &metadata(&[1, 2, 3, 4], &[1, 2, 3])),
            (Next::Wait, Vec::new()),
            "it is on its way"
        );
        let stop = vec![Wanted::Order(1, Order::Stop)];
        assert_eq!(take(&mut change, &metadata(&[1, 2, 3, 4], &[4, 2, 3])), (Next::Wait, stop));
        assert_eq!(
            take(&mut change, &metadata(&[1, 2, 3, 4], &[4, 2, 3])),
            (Next::Wait, Vec::new()),
            "it still serves"
        );
        assert_eq!(take(&mut change, &metadata(&[2, 3, 4], &[4, 2, 3])), (Next::Go, Vec::new()));
        assert!(matches!(change.request().0, Request::DescribeQuorum(_)));
    }

    #[test]
    fn who_was_given_something_when_it_stopped_runs_on() {
        let mut change = Change::removes(1);
        take(&mut change, &metadata(&[1, 2, 3, 4], &[4, 2, 3]));
        let start = vec![Wanted::Order(1, Order::Start { empties: false })];
        assert_eq!(take(&mut change, &metadata(&[2, 3, 4], &[1, 2, 3])), (Next::Wait, start.clone()));
        take(&mut change, &metadata(&[1, 2, 3, 4], &[4, 2, 3]));
        let mut wanted = Vec::new();
        change.give_up(&mut wanted);
        assert_eq!(wanted, start, "and so does who is given up before that is known");
    }

    #[test]
    fn somebody_who_lives_takes_the_place_of_who_goes() {
        assert_eq!(without(1, &[2, 1, 3], &[1, 2, 3, 4], 0), Some(vec![2, 4, 3]));
        assert_eq!(without(1, &[1], &[2, 3], 1), Some(vec![3]));
        assert_eq!(without(1, &[1, 2, 3], &[2, 3], 0), None, "there is nobody else");
        assert_eq!(without(1, &[2, 1, 3, 4], &[1, 2, 3, 4], 0), Some(vec![2, 3, 4]), "it is being moved");
    }
}
