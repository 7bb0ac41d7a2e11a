//! How a cluster begins: who its first voters are, and what it is called.
//!
//! | from | what happens | to |
//! |---|---|---|
//! | nobody | the node is told to bootstrap, and has heard of the data folders of all peers that it was told of | voter of a new cluster |
//! | nobody | a peer is of a cluster, and the node is not told to bootstrap, or would found another | learner, when that has taken it in |
//!
//! All who bootstrap found the same cluster, each by itself: its id follows from its voters and their folders, so that two
//! that differ in a single one never talk to each other.

use super::super::{Node, Reason};
use crate::boundary::{Effect, Level, Outbox};
use crate::controller::image::MetadataImage;
use crate::controller::records::PeerAddress;
use crate::ids::{NodeId, Uuid};
use crate::peer::Hello;
use crate::raft::{Member, Membership, Quorum, Restored};
use crate::time::Now;
use crate::wire::Str;

use super::Recalled;

/// The id of the cluster that these found: 128 bits of FNV-1a over their nodes and folders. Nobody gains by a collision.
pub(super) fn cluster_id(voters: &Membership) -> Uuid {
    const BASIS: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
    let bytes =
        voters.voters().iter().flat_map(|voter| voter.node.0.to_be_bytes().into_iter().chain(voter.directory.0));
    let hash = bytes.fold(BASIS, |hash, byte| (hash ^ u128::from(byte)).wrapping_mul(PRIME));
    Uuid(hash.to_be_bytes())
}

impl Node {
    /// Ends a start: finds out which cluster the node is of, and has it begin to live in it.
    pub(in crate::node) fn begin_peers(&mut self, now: Now) {
        if self.metadata.is_clustered() {
            // During a start there was nobody to be told.
            self.metadata.neighbours = None;
            if let Some(at) = self.metadata.ticks_at.replace(now.instant) {
                self.deadlines.remove(&(at, Reason::Tick));
            }
            self.deadlines.insert((now.instant, Reason::Tick));
        }
    }

    /// By what other brokers know this process, and where they reach it; none where there are no others.
    pub(in crate::node) fn peers_address(&self) -> Option<(u64, PeerAddress)> {
        let (host, port) = self.metadata.cluster.as_ref()?.raft_address.clone();
        Some((self.metadata.process, PeerAddress { host, port }))
    }

    /// The number by which this process introduces itself.
    #[cfg(test)]
    pub(in crate::node) fn metadata_process(&self) -> u64 {
        self.metadata.process
    }

    /// A broker has introduced itself.
    pub(super) fn greeted(&mut self, hello: &Hello, out: &mut Outbox) {
        if !self.metadata.is_clustered() {
            return;
        }
        self.metadata.folders.insert(hello.node_id, (hello.directory_id, hello.cluster_id.clone()));
        let is_nobody = self.metadata.quorum.membership().voters().is_empty();
        if !is_nobody || self.is_installing() {
            return;
        }
        let bootstraps = self.metadata.cluster.as_ref().is_some_and(|cluster| cluster.bootstrap);
        let found = match bootstraps {
            true => self.founded_before(),
            false => Some(hello.cluster_id.clone()).filter(|id| !id.is_empty()),
        };
        match found {
            None if bootstraps => self.found_if_complete(out),
            Some(id) if id != self.metadata.cluster_id => {
                if !self.metadata.cluster_id.is_empty() {
                    let why = format!("node {} is of cluster {id}", hello.node_id);
                    return out.push(Effect::Fatal(format!("{why}, and others are of {}", self.metadata.cluster_id)));
                }
                out.log(Level::Info, format!("joining cluster {id}"));
                self.join(id);
            }
            _ => {}
        }
    }

    /// The cluster that a peer is of and that is not the one that this node would found: it was founded before, with other
    /// folders, and this node comes to it late, whoever else does. Asked when all folders are known.
    fn founded_before(&self) -> Option<Str> {
        let mine = Str::from(cluster_id(&self.founders()?).to_string());
        let mut theirs = self.metadata.folders.values().map(|(_, id)| id);
        theirs.find(|id| !id.is_empty() && **id != mine).cloned()
    }

    /// A peer that is of a cluster, and this one waits for others before it would found one.
    pub(super) fn founded_without_all(&self) -> Option<(NodeId, &Str)> {
        let mut told = self.metadata.folders.iter().map(|(node, (_, id))| (*node, id));
        told.find(|(_, id)| !id.is_empty())
    }

    /// Founds the cluster once all folders are known.
    fn found_if_complete(&mut self, out: &mut Outbox) {
        let Some(membership) = self.founders() else { return };
        let id = Str::from(cluster_id(&membership).to_string());
        // Who has joined another cluster stays with it, and who has voted must not forget that: it is sent the log.
        let is_of_another = !self.metadata.cluster_id.is_empty() && self.metadata.cluster_id != id;
        if is_of_another || self.metadata.quorum.term() > 0 {
            return;
        }
        out.log(Level::Info, format!("founding cluster {id} of {} nodes", membership.voters().len()));
        self.join(id);
        let mut recalled = Recalled::new(self.metadata.quorum.me());
        for record in recalled.found(membership) {
            self.journal_quorum(&record);
        }
        self.controller.pass(recalled.image.index());
        let options = self.metadata.raft_options.clone();
        self.metadata.quorum = Quorum::new(options, recalled.quorum).expect("a founded log is one");
    }

    /// The voters of the cluster to be founded; `None` while a folder is not known.
    fn founders(&self) -> Option<Membership> {
        let me = self.metadata.quorum.me();
        let peers = self.metadata.cluster.as_ref()?.peers.keys();
        let others = peers.map(|&node| {
            let directory = self.metadata.folders.get(&node)?.0;
            Some(Member { node, directory })
        });
        let voters: Option<Vec<Member>> = others.chain([Some(me)]).collect();
        Membership::of(voters?).ok()
    }

    /// Takes on a cluster's identity. The log is empty as yet; but a process before this one may have come as far, and what
    /// it has promised still holds.
    fn join(&mut self, id: Str) {
        self.metadata.raft_options.cluster = id.parse().unwrap_or(Uuid::ZERO);
        self.controller = self.controller.clone().of_cluster(id.clone());
        self.metadata.cluster_id = id;
        let options = self.metadata.raft_options.clone();
        self.metadata.quorum =
            Quorum::new(options, Restored::promised(self.metadata.quorum.vote())).expect("an empty log is one");
    }

    /// Whom a node waits for that is part of no cluster.
    pub(super) fn missing_founders(&self) -> Vec<NodeId> {
        let Some(cluster) = &self.metadata.cluster else { return Vec::new() };
        let known = &self.metadata.folders;
        cluster.peers.keys().copied().filter(|node| !known.contains_key(node)).collect()
    }
}

/// Which cluster a node is of, by what a start found: the image and the membership, and what the folder says. Empty where
/// it is of none yet.
pub(super) fn known_cluster(image: &MetadataImage, membership: &Membership, me: Member, folder: &Str) -> Str {
    match image.cluster_id() {
        Some(id) => id.clone(),
        // Nobody is taken in or out before the log says what the cluster is called.
        // Nor does a folder say it that has never served alone.
        None if membership.since() == 1 && (folder.is_empty() || !membership.is_alone(me)) => {
            Str::from(cluster_id(membership).to_string())
        }
        None => folder.clone(),
    }
}
