//! Who looks after a cluster while it works: moves partitions to other brokers, stops that again, has their first replicas
//! lead them, has brokers come and go, and asks how things are.
//!
//! One operation at a time, a request each but where a broker comes or goes (`change`), sent to another broker with every operation: what the controller decides any
//! of them passes on. What is not answered is sent again to the next one, so a change may be carried out twice; it says
//! what shall be, not what shall be done. Whatever a broker declines by an error that is known is fine: a move to a broker
//! that has not registered yet, the end of a move that is over.

mod change;

use std::collections::BTreeSet;
use std::time::Duration;

use chronik_core::time::Instant;
use chronik_core::wire::alter_partition_reassignments::{
    AlterPartitionReassignmentsRequest, ReassignablePartition, ReassignableTopic,
};
use chronik_core::wire::describe_quorum::{DescribeQuorumPartition, DescribeQuorumRequest, DescribeQuorumTopic};
use chronik_core::wire::elect_leaders::{ElectLeadersRequest, TopicPartitions};
use chronik_core::wire::list_partition_reassignments::ListPartitionReassignmentsRequest;
use chronik_core::wire::{ErrorCode, Request, Response, Str};

use change::{Change, Next};

use super::caller::{Caller, Outcome};
use super::reading::known_code;
use super::schedule::Schedule;
use super::wires::Node;
use super::{Client, ClientNow, Happened, Wanted, stream};
use crate::history::What;
use crate::plan::{Action, Operation, Plan};

/// An operation is given up when it has not succeeded for so long ...
const GIVE_UP_AFTER: Duration = Duration::from_secs(10);
/// One that has a broker come or go, when it has not for so long.
const GIVE_UP_CHANGES_AFTER: Duration = Duration::from_secs(15);
/// Another broker is asked for it when one has not answered for so long.
const ASKS_ANOTHER_AFTER: Duration = Duration::from_secs(1);
/// ... or has failed so often.
const FAILURES_MAX: u32 = 4;
/// How long a broker may wait for what it was asked for, in milliseconds.
const TIMEOUT_MS: i32 = 5_000;
/// The topic by which Kafka's clients ask for the metadata log.
const METADATA_LOG: &str = "__cluster_metadata";

/// A cluster admin.
pub(super) struct ClusterAdmin {
    name: String,
    caller: Caller,
    topics: Vec<Str>,
    nodes: Node,
    schedule: Schedule,
    doing: Option<Doing>,
    /// Who was removed, and has not come back.
    removed: BTreeSet<Node>,
    is_asked: bool,
    is_done: bool,
}

/// An operation under way.
#[derive(Debug)]
struct Doing {
    operation: u32,
    what: Action,
    since: Instant,
    failures: u32,
    last: Option<ErrorCode>,
    /// A broker that comes or goes.
    change: Option<Change>,
    /// When a broker last answered.
    heard_at: Instant,
}

impl Doing {
    /// When it is given up.
    fn gives_up_at(&self) -> Instant {
        self.since + if self.change.is_some() { GIVE_UP_CHANGES_AFTER } else { GIVE_UP_AFTER }
    }

    fn is_over(&self, now: ClientNow) -> bool {
        self.gives_up_at() <= now.instant || self.change.is_none() && self.failures > FAILURES_MAX
    }

    /// Who of so many brokers is asked: not the one that comes or goes, and not for ever one that does not answer.
    fn asks(&self, now: ClientNow, nodes: Node, caller: &Caller) -> Node {
        let Some(change) = &self.change else {
            return caller.turn(now.instant, self.operation + self.failures, nodes);
        };
        let silent = (now.instant.0 - self.heard_at.0) / u64::try_from(ASKS_ANOTHER_AFTER.as_nanos()).expect("short");
        let turn = self.operation + self.failures + u32::try_from(silent).expect("it is given up before");
        1 + (change.node() + turn % (nodes - 1).max(1)) % nodes
    }
}

impl ClusterAdmin {
    pub(super) fn new(plan: &Plan, index: u32, timeout: Duration, operations: &[Operation]) -> ClusterAdmin {
        let name = format!("cluster-admin-{index}");
        ClusterAdmin {
            caller: Caller::new(plan, &name, timeout, stream(index)),
            name,
            topics: plan.topics.iter().map(|topic| topic.name.as_str().into()).collect(),
            nodes: plan.nodes(),
            schedule: Schedule::new(operations),
            doing: None,
            removed: BTreeSet::new(),
            is_asked: false,
            is_done: false,
        }
    }

    /// Does whatever can be done now.
    fn advance(&mut self, now: ClientNow, wanted: &mut Vec<Wanted>) {
        while !self.is_asked {
            self.begin(now);
            let Some(doing) = &mut self.doing else { break };
            if doing.is_over(now) {
                let last = doing.last;
                self.finish(false, last, wanted);
                continue;
            }
            let to = doing.asks(now, self.nodes, &self.caller);
            if !self.caller.is_free(now, Some(to), wanted) {
                break;
            }
            let Some((request, version)) = request(doing, &self.topics, wanted) else {
                self.finish(false, None, wanted);
                continue;
            };
            self.caller.ask(now, &request, version, wanted);
            self.is_asked = true;
        }
        if !self.is_done && self.doing.is_none() && self.schedule.is_over() {
            self.is_done = true;
            self.caller.close(wanted);
            wanted.push(Wanted::Record(None, What::Done));
        }
    }

    fn begin(&mut self, now: ClientNow) {
        if self.doing.is_some() {
            return;
        }
        let Some((operation, due)) = self.schedule.due(now) else { return };
        let what = due.what.clone();
        let change = match what {
            Action::AddNode { node, keeps_disk } => {
                let was_removed = self.removed.remove(&node);
                Some(Change::adds(node, was_removed && !keeps_disk))
            }
            Action::RemoveNode { node } => Some(Change::removes(node)),
            _ => None,
        };
        let (since, heard_at) = (now.instant, now.instant);
        self.doing = Some(Doing { operation, what, since, failures: 0, last: None, change, heard_at });
        self.schedule.go_on();
    }

    fn finish(&mut self, is_ok: bool, code: Option<ErrorCode>, wanted: &mut Vec<Wanted>) {
        if let Some(mut doing) = self.doing.take() {
            match (&mut doing.change, &doing.what) {
                (Some(change), _) if !is_ok => change.give_up(wanted),
                (_, &Action::RemoveNode { node }) => _ = self.removed.insert(node),
                _ => {}
            }
            wanted.push(Wanted::Record(Some(doing.operation), What::Finished { is_ok, code }));
        }
        self.caller.go_on();
    }

    fn take(&mut self, now: ClientNow, outcome: Outcome, wanted: &mut Vec<Wanted>) -> Result<(), String> {
        self.is_asked = false;
        let Some(doing) = &mut self.doing else { return Ok(()) };
        let code = match outcome {
            Outcome::Lost => {
                doing.failures += 1;
                if let Some(change) = &mut doing.change {
                    change.lost();
                }
                return Ok(());
            }
            Outcome::Answered(_, response) if doing.change.is_some() => return self.changed(now, &response, wanted),
            Outcome::Answered(_, response) => verdict(&response)?,
        };
        match code {
            ErrorCode::None => self.finish(true, None, wanted),
            code if may_pass(code) => {
                doing.failures += 1;
                doing.last = Some(code);
                self.caller.back_off(now);
            }
            code => self.finish(false, Some(code), wanted),
        }
        Ok(())
    }

    /// An answer about a broker that comes or goes.
    fn changed(&mut self, now: ClientNow, response: &Response, wanted: &mut Vec<Wanted>) -> Result<(), String> {
        let Some(Doing { operation, change: Some(change), heard_at, .. }) = &mut self.doing else { return Ok(()) };
        *heard_at = now.instant;
        let (next, what) = change.take(now.instant, response, wanted)?;
        wanted.extend(what.map(|what| Wanted::Record(Some(*operation), what)));
        match next {
            Next::Go => self.caller.go_on(),
            Next::Wait => self.caller.back_off(now),
            Next::Done => self.finish(true, None, wanted),
            Next::Refused(code) => self.finish(false, Some(code), wanted),
        }
        Ok(())
    }
}

/// What an operation asks for, and in which version; `None` where it is none of such an admin.
fn request(doing: &mut Doing, topics: &[Str], wanted: &mut Vec<Wanted>) -> Option<(Request, i16)> {
    if let Some(change) = &mut doing.change {
        change.begin(wanted);
        let (request, version, what) = change.request();
        wanted.extend(what.map(|what| Wanted::Record(Some(doing.operation), what)));
        return Some((request, version));
    }
    let mut record = |what| wanted.push(Wanted::Record(Some(doing.operation), what));
    let parity = i16::from(doing.operation % 2 == 1);
    match &doing.what {
        Action::MoveReplicas { topic, partition, to } => {
            let name = topics[*topic].clone();
            record(What::MoveReplicas { topic: name.to_string(), partition: *partition, to: Some(to.clone()) });
            let replicas = to.iter().map(|&node| i32::try_from(node).expect("few brokers")).collect();
            Some((reassignment(name, *partition, Some(replicas)), parity))
        }
        Action::CancelMove { topic, partition } => {
            let name = topics[*topic].clone();
            record(What::MoveReplicas { topic: name.to_string(), partition: *partition, to: None });
            Some((reassignment(name, *partition, None), parity))
        }
        Action::ElectLeader { topic, partition } => {
            let name = topics[*topic].clone();
            record(What::ElectLeader { topic: name.to_string(), partition: *partition });
            let topic_partitions = Some(vec![TopicPartitions { topic: name, partitions: vec![*partition] }]);
            let request = ElectLeadersRequest { election_type: 0, topic_partitions, timeout_ms: TIMEOUT_MS };
            Some((request.into(), 1 + parity))
        }
        Action::AskCluster { which } if which % 2 == 0 => {
            let request = ListPartitionReassignmentsRequest { timeout_ms: TIMEOUT_MS, topics: None };
            Some((request.into(), 0))
        }
        Action::AskCluster { .. } => Some((describe_quorum(), 1 + parity)),
        _ => None,
    }
}

fn describe_quorum() -> Request {
    let partitions = vec![DescribeQuorumPartition { partition_index: 0 }];
    let topics = vec![DescribeQuorumTopic { topic_name: METADATA_LOG.into(), partitions }];
    DescribeQuorumRequest { topics }.into()
}

/// Moves a partition, or stops that.
fn reassignment(name: Str, partition_index: i32, replicas: Option<Vec<i32>>) -> Request {
    let partitions = vec![ReassignablePartition { partition_index, replicas }];
    let topics = vec![ReassignableTopic { name, partitions }];
    AlterPartitionReassignmentsRequest { timeout_ms: TIMEOUT_MS, allow_replication_factor_change: true, topics }.into()
}

/// The first error of an answer.
///
/// # Errors
/// Where there is an error that does not exist, or not exactly one partition is answered about.
fn verdict(response: &Response) -> Result<ErrorCode, String> {
    let (whole, partitions): (i16, Vec<i16>) = match response {
        Response::AlterPartitionReassignments(response) => {
            let partitions = response.responses.iter().flat_map(|topic| &topic.partitions);
            (response.error_code, partitions.map(|partition| partition.error_code).collect())
        }
        Response::ElectLeaders(response) => {
            let partitions = response.replica_election_results.iter().flat_map(|topic| &topic.partition_result);
            (response.error_code, partitions.map(|partition| partition.error_code).collect())
        }
        Response::ListPartitionReassignments(response) => return known_code(response.error_code),
        Response::DescribeQuorum(response) => return known_code(response.error_code),
        _ => return Ok(ErrorCode::None),
    };
    match (known_code(whole)?, &partitions[..]) {
        (ErrorCode::None, &[code]) => known_code(code),
        (ErrorCode::None, told) => Err(format!("one partition was asked for, {} are answered", told.len())),
        (code, _) => Ok(code),
    }
}

fn may_pass(code: ErrorCode) -> bool {
    use ErrorCode as E;
    matches!(
        code,
        E::NotController
            | E::RequestTimedOut
            | E::BrokerNotAvailable
            | E::LeaderNotAvailable
            | E::NotLeaderOrFollower
            | E::CoordinatorNotAvailable
            | E::KafkaStorageError
    )
}

impl Client for ClusterAdmin {
    fn step(&mut self, now: ClientNow, happened: Happened, wanted: &mut Vec<Wanted>) {
        self.schedule.take(&happened);
        if let Some(outcome) = self.caller.take(now, happened, wanted)
            && let Err(what) = self.take(now, outcome, wanted)
        {
            let operation = self.doing.as_ref().map(|doing| doing.operation);
            self.caller.broken(now, operation, what, wanted);
            self.finish(false, None, wanted);
        }
        self.advance(now, wanted);
        let gives_up_at = self.doing.as_ref().map(Doing::gives_up_at);
        let changes = self.doing.as_ref().is_some_and(|doing| doing.change.is_some()) && !self.is_asked;
        let another = changes.then(|| now.instant + ASKS_ANOTHER_AFTER);
        let due = [self.schedule.wake(now), gives_up_at, another].into_iter().flatten();
        let due = due.filter(|at| *at > now.instant).min();
        self.caller.rest(now, self.doing.is_some(), due, wanted);
    }

    fn is_done(&self) -> bool {
        self.is_done
    }

    fn describe(&self) -> String {
        let (state, schedule) = (self.caller.describe(), self.schedule.describe());
        let doing = self.doing.as_ref().map_or("nothing".to_owned(), |doing| format!("{:?}", doing.what));
        format!("{}: {state}, {schedule}, does {doing}", self.name)
    }
}
