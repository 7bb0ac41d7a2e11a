//! Whether two brokers are the ones that they mean to talk to.
//!
//! A cluster's id may be unknown on either side (empty) until its first controller has made one; the folder of another
//! node is unknown until it has been met once. What is not known excludes nothing.

use super::{Hello, Refused, RefusedBecause};
use crate::boundary::Neighbours;
use crate::ids::{NodeId, Uuid};
use crate::wire::Str;

/// The oldest format of messages that this program reads.
pub const FORMAT_FIRST: u16 = 0;

/// The newest format of messages that it reads, and writes to those who read it as well.
pub const FORMAT_LAST: u16 = 0;

/// Whether a broker may talk to us, who are `me` among these.
pub(super) fn check_caller(caller: &Hello, neighbours: &Neighbours) -> Result<(), Refused> {
    let me = &neighbours.me;
    check_kin(me, caller)?;
    let node = caller.node_id;
    if node.0 < 0 || node == me.node_id {
        return Err(refused(RefusedBecause::AnotherNode, format!("node {node} is no other node than the one here")));
    }
    // One that is not known here may be known to others of the cluster already: a member that is about to join.
    check_folder(caller, neighbours.peers.get(&node).and_then(|peer| peer.directory_id))
}

/// Whether the broker that answers `me` is the one that was meant.
pub(super) fn check_answerer(
    answerer: &Hello,
    me: &Hello,
    meant: NodeId,
    directory_id: Option<Uuid>,
) -> Result<(), Refused> {
    check_kin(me, answerer)?;
    if answerer.node_id != meant {
        let text = format!("node {} answers where node {meant} was to be", answerer.node_id);
        return Err(refused(RefusedBecause::AnotherNode, text));
    }
    check_folder(answerer, directory_id)
}

/// Whether a broker that has answered is still whom one among these means, now that more may be known.
pub fn may_answer(answerer: &Hello, neighbours: &Neighbours) -> bool {
    let directory_id = neighbours.peers.get(&answerer.node_id).and_then(|peer| peer.directory_id);
    check_answerer(answerer, &neighbours.me, answerer.node_id, directory_id).is_ok()
}

/// Whether they are of one cluster, and have a format in common.
fn check_kin(me: &Hello, other: &Hello) -> Result<(), Refused> {
    let (ours, theirs) = (&me.cluster_id, &other.cluster_id);
    if !ours.is_empty() && !theirs.is_empty() && ours != theirs {
        let text = format!(
            "node {} is of cluster {ours}, and node {} of {theirs}: correct --peers, or have the one that is to change \
             begin with an empty data folder",
            me.node_id, other.node_id
        );
        return Err(refused(RefusedBecause::AnotherCluster, text));
    }
    if me.format_last.min(other.format_last) < me.format_first.max(other.format_first) {
        let Hello { node_id, format_first, format_last, .. } = other;
        let text = format!(
            "node {} reads formats {} to {}, and node {node_id} {format_first} to {format_last}",
            me.node_id, me.format_first, me.format_last
        );
        return Err(refused(RefusedBecause::NoCommonFormat, text));
    }
    Ok(())
}

fn check_folder(hello: &Hello, known: Option<Uuid>) -> Result<(), Refused> {
    match known.filter(|&known| known != hello.directory_id) {
        None => Ok(()),
        Some(known) => {
            let Hello { node_id, directory_id, .. } = hello;
            let text = format!(
                "node {node_id} is known with the data folder {known} and comes with {directory_id}: bring that folder \
                 back, or take the node out of the cluster (remove-node) and in again (add-node)"
            );
            Err(refused(RefusedBecause::AnotherFolder, text))
        }
    }
}

fn refused(reason: RefusedBecause, message: String) -> Refused {
    Refused { reason, message: Str::from(message) }
}
