//! Nodes that come and go.

use std::io::Write;
use std::slice;
use std::thread;
use std::time::{Duration, Instant};

use chronik_core::ids::{NodeId, Uuid};
use chronik_core::wire::add_raft_voter::{AddRaftVoterRequest, AddRaftVoterResponse, Listener};
use chronik_core::wire::describe_quorum::ReplicaState;
use chronik_core::wire::remove_raft_voter::RemoveRaftVoterRequest;
use chronik_core::wire::unregister_broker::UnregisterBrokerRequest;
use chronik_core::wire::{ErrorCode, Response};

use super::link::{Link, check};
use super::view::{View, unasked};
use super::{Fault, Outcome};
use crate::cli::options::Address;

/// What the address for other nodes is called among a voter's addresses.
const RAFT_LISTENER: &str = "RAFT";
/// How long a node may take to say that it is there.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// Between two looks at a cluster that does not know a new node yet.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Makes a node a voter. It must run, and be told of the others; one that was just started is waited for, as long as an
/// answer may take.
pub(super) fn add(
    link: &mut Link,
    node: NodeId,
    raft_addr: &Address,
    directory_id: Option<Uuid>,
    out: &mut impl Write,
) -> Result<Outcome, Fault> {
    let deadline = Instant::now() + link.timeout();
    loop {
        let view = View::of_decided(link)?;
        if let Some(voter) = voter(&view, node) {
            let folder = voter.replica_directory_id;
            if !serves(&view, node) {
                return Err(Fault::Refused(format!(
                    "node {node} is a voter already, with the data folder {folder}, and does not serve: start it with that \
                     folder, or run `chronik-server cluster remove-node {node}` first where the folder is lost"
                )));
            }
            writeln!(out, "node {node} is a voter already")?;
            return Ok(Outcome::Well);
        }
        let is_over = Instant::now() >= deadline;
        match directory_id.or_else(|| folder_of(&view, node)) {
            Some(directory_id) => {
                let answer = ask_to_add(link, &view, node, directory_id, raft_addr)?;
                if is_over || answer.error_code != ErrorCode::RequestTimedOut.code() {
                    check(&format!("node {node} cannot be added"), answer.error_code, answer.error_message.as_deref())?;
                    let then = "`cluster rebalance` gives it its share of the partitions";
                    writeln!(out, "node {node} votes from now on; {then}")?;
                    return Ok(Outcome::Well);
                }
            }
            None if is_over => {
                return Err(Fault::Refused(format!(
                    "the cluster has not heard of node {node}: it must run, with nodes of the cluster as its `--peers`"
                )));
            }
            None => {}
        }
        thread::sleep(LOOK_EVERY);
    }
}

fn ask_to_add(
    link: &mut Link,
    view: &View,
    node: NodeId,
    directory_id: Uuid,
    raft_addr: &Address,
) -> Result<AddRaftVoterResponse, Fault> {
    let host = raft_addr.host.as_str().into();
    let request = AddRaftVoterRequest {
        cluster_id: Some(view.cluster_id.as_str().into()),
        timeout_ms: link.timeout().as_millis().try_into().unwrap_or(i32::MAX),
        voter_id: node.0,
        voter_directory_id: directory_id,
        listeners: vec![Listener { name: RAFT_LISTENER.into(), host, port: raft_addr.port }],
        ack_when_committed: true,
    };
    let Response::AddRaftVoter(response) = link.ask(request)? else { return Err(unasked()) };
    Ok(response)
}

/// The data folder with which a node follows the quorum.
fn folder_of(view: &View, node: NodeId) -> Option<Uuid> {
    let mut observers = view.quorum.iter().flat_map(|quorum| &quorum.observers);
    observers.find(|member| member.replica_id == node.0).map(|member| member.replica_directory_id)
}

/// Has a node forgotten that does not serve, or is one of two voters: for good, or until it comes back with an empty data folder.
pub(super) fn remove(link: &mut Link, node: NodeId, out: &mut impl Write) -> Result<Outcome, Fault> {
    // One that does not answer has ended a moment ago, and is missed soon, or is slow for a moment.
    let mut view = wait(link, node, |link, view| !serves(view, node) || answers(link, view, node))?;
    let holds = view.partitions.values().filter(|partition| partition.replicas.contains(&node.0)).count();
    // One that does not serve may have lost its disk, and comes back under its number with an empty one.
    if holds > 0 && serves(&view, node) {
        return Err(Fault::Refused(format!(
            "node {node} holds {holds} replicas: run `chronik-server cluster drain {node}` first, or stop it \
             where it is to come back with an empty data folder"
        )));
    }
    let votes = voter(&view, node).is_some();
    let is_one_of_two = votes && view.quorum.as_ref().is_some_and(|quorum| quorum.current_voters.len() == 2);
    // The cluster forgets nobody who serves; its vote would be gone before that is said.
    if serves(&view, node) && !is_one_of_two {
        return Err(Fault::Refused(format!("node {node} holds nothing any more, and still serves: stop it first")));
    }
    if !votes && !view.nodes.contains_key(&node.0) {
        return Err(Fault::Refused(format!("the cluster knows no node {node}")));
    }
    if votes {
        take_vote(link, node, &mut view)?;
        writeln!(out, "node {node} votes no more")?;
    }
    if serves(&view, node) {
        // Of two voters none may be stopped before it votes no more: the other one alone would be no majority.
        writeln!(out, "stop it now: it is forgotten as soon as it serves no more")?;
        view = wait(link, node, |_, view| !serves(view, node))?;
    }
    if view.nodes.contains_key(&node.0) {
        let Response::UnregisterBroker(response) = link.ask(UnregisterBrokerRequest { broker_id: node.0 })? else {
            return Err(unasked());
        };
        let what = format!("node {node} cannot be forgotten");
        check(&what, response.error_code, response.error_message.as_deref())?;
        writeln!(out, "node {node} is forgotten: stop it, if it still runs")?;
    }
    if holds > 0 {
        writeln!(
            out,
            "{holds} replicas of it are still counted on: add it again with an empty data folder, or move them (`chronik-server \
             cluster drain {node}`)"
        )?;
    }
    Ok(Outcome::Well)
}

/// Takes a voter out of the quorum. Where that changes already, as it does for a moment after another node was forgotten,
/// it is asked again, as long as an answer may take.
fn take_vote(link: &mut Link, node: NodeId, view: &mut View) -> Result<(), Fault> {
    let deadline = Instant::now() + link.timeout();
    while let Some(voter) = voter(view, node) {
        let request = RemoveRaftVoterRequest {
            cluster_id: Some(view.cluster_id.as_str().into()),
            voter_id: node.0,
            voter_directory_id: voter.replica_directory_id,
        };
        let Response::RemoveRaftVoter(response) = link.ask(request)? else { return Err(unasked()) };
        if response.error_code != ErrorCode::RequestTimedOut.code() || Instant::now() >= deadline {
            let what = format!("node {node} cannot be taken out of the quorum");
            return check(&what, response.error_code, response.error_message.as_deref());
        }
        thread::sleep(LOOK_EVERY);
        *view = View::of_decided(link)?;
    }
    Ok(())
}

/// The cluster once this is so of it, for which it is waited as long as an answer may take; it is not as long as a node
/// serves.
fn wait(link: &mut Link, node: NodeId, is_so: impl Fn(&Link, &View) -> bool) -> Result<View, Fault> {
    let deadline = Instant::now() + link.timeout();
    loop {
        let view = View::of_decided(link)?;
        if is_so(link, &view) {
            return Ok(view);
        }
        if Instant::now() >= deadline {
            return Err(Fault::Refused(format!(
                "node {node} still serves, as the cluster knows it: stop it, and run this again"
            )));
        }
        thread::sleep(LOOK_EVERY);
    }
}

/// Whether a node takes connections here.
fn answers(link: &Link, view: &View, node: NodeId) -> bool {
    let timeout = link.timeout().min(ANSWER_WITHIN);
    view.nodes.get(&node.0).is_some_and(|known| Link::connect(slice::from_ref(&known.address), timeout).is_ok())
}

fn serves(view: &View, node: NodeId) -> bool {
    view.nodes.get(&node.0).is_some_and(|node| !node.is_fenced)
}

fn voter(view: &View, node: NodeId) -> Option<&ReplicaState> {
    view.quorum.iter().flat_map(|quorum| &quorum.current_voters).find(|voter| voter.replica_id == node.0)
}
