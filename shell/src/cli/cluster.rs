//! What a broker of a cluster is told beside what every broker is: where the others are, and where it is for them.

use std::collections::BTreeMap;

use chronik_core::ids::NodeId;

use super::address::{Address, HostAndMaybePort, is_wide, localhost_reaches};
use super::options::{ClusterOptions, Listener};
use super::settings::{PeerList, Settings};
use super::{UsageError, check_advertised, said_by};

/// Refuses what only a broker of a cluster can obey: one that stands alone by mistake would take records that no other
/// has.
pub(super) fn absent(settings: &Settings) -> Result<(), UsageError> {
    let Settings { raft_addr, raft_advertised_addr, peers, bootstrap, .. } = settings;
    let given = [
        ("raft-addr", raft_addr.is_some()),
        ("raft-advertised-addr", raft_advertised_addr.is_some()),
        ("peers", peers.is_some()),
        ("bootstrap", *bootstrap == Some(true)),
    ];
    match given.iter().find(|(_, given)| *given) {
        None => Ok(()),
        Some((flag, _)) => Err(UsageError(format!(
            "{} is for a broker of a cluster: run `chronik-server raft-cluster`, or leave it out",
            said_by(flag)
        ))),
    }
}

/// What `node_id`, whose clients come in by `listeners`, is told about its cluster.
pub(super) fn resolve(
    settings: &Settings,
    node_id: NodeId,
    listeners: &[Listener],
    warnings: &mut Vec<String>,
) -> Result<ClusterOptions, UsageError> {
    let Settings { raft_addr, raft_advertised_addr, peers, bootstrap, .. } = settings;
    let Some(raft_addr) = raft_addr else {
        return Err(UsageError(
            "raft-cluster needs --raft-addr HOST:PORT, where the other nodes connect to this one".to_owned(),
        ));
    };
    let clashes = |listener: &&Listener| listener.bind == *raft_addr && raft_addr.port != 0;
    if let Some(listener) = listeners.iter().find(clashes) {
        return Err(UsageError(format!(
            "--raft-addr: {raft_addr} is where clients connect (listener `{}`): give it another port",
            listener.name
        )));
    }
    check_advertised(raft_advertised_addr.as_ref(), &said_by("raft-advertised-addr"))?;
    let raft_advertised = advertised(raft_addr, raft_advertised_addr.as_ref(), &listeners[0]);
    let peers = others(peers.as_ref(), node_id, &raft_advertised)?;
    if let Some(far) = peers.values().find(|peer| !localhost_reaches(&peer.host))
        && localhost_reaches(&raft_advertised.host)
    {
        warnings.push(format!(
            "telling the other nodes to connect to {raft_advertised}, which on another machine than this one ({}) is \
             itself: give --advertised-addr, or --raft-advertised-addr",
            far.host
        ));
    }
    Ok(ClusterOptions { raft_addr: raft_addr.clone(), raft_advertised, peers, bootstrap: bootstrap.unwrap_or(false) })
}

/// The address that the others are told: they reach this machine as clients do, unless it is said otherwise.
fn advertised(raft_addr: &Address, given: Option<&HostAndMaybePort>, first: &Listener) -> Address {
    match given {
        Some(HostAndMaybePort { host, port }) => Address { host: host.clone(), port: port.unwrap_or(raft_addr.port) },
        // Bound to one address of the machine, this is where it is.
        None if !is_wide(&raft_addr.host) => raft_addr.clone(),
        None => Address { host: first.advertised_host.clone(), port: raft_addr.port },
    }
}

fn others(list: Option<&PeerList>, node_id: NodeId, own: &Address) -> Result<BTreeMap<NodeId, Address>, UsageError> {
    let mut peers: BTreeMap<NodeId, Address> = BTreeMap::new();
    for (number, address) in list.map_or(&[][..], |list| &list.0) {
        let peer = NodeId(*number);
        if peer == node_id {
            return Err(UsageError(format!(
                "--peers names node {peer}, which is this one (--node-id): name the others only"
            )));
        }
        if address.port == 0 {
            return Err(UsageError(format!("--peers: node {peer} cannot be connected to at port 0: give its port")));
        }
        if is_wide(&address.host) {
            return Err(UsageError(format!(
                "--peers: node {peer} cannot be connected to at {}: give the host's name or address",
                address.host
            )));
        }
        if address == own {
            return Err(UsageError(format!("--peers: {address} is this node's own address, not that of node {peer}")));
        }
        if let Some((twin, _)) = peers.iter().find(|(_, known)| *known == address) {
            return Err(UsageError(format!("--peers: nodes {twin} and {peer} cannot both be at {address}")));
        }
        if peers.insert(peer, address.clone()).is_some() {
            return Err(UsageError(format!("--peers names node {peer} twice: name it once")));
        }
    }
    Ok(peers)
}
