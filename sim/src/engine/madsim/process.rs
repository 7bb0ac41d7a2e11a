//! A broker's process: recovery, then the production server until it ends.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use chronik_core::node::{Node, NodeOptions};
use chronik_core::time::Instant;
use chronik_server::server::{Clock, Clustered, OnPass, Parts, Server};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use super::disk::Disk;
use super::machine::Machine;
use super::stream::ServerStream;
use super::world::{How, Said, World, lock};
use crate::engine::MS;
use crate::engine::chance::{LINKS, RECOVERY};
use crate::engine::node::{self, PEER_PORT};
use crate::engine::standings::{LOOK_MS, Noted};
use crate::history::What;
use crate::plan::CLIENT_PORT;

/// Runs one process on a machine from its start to its end, and says how that came, unless it is killed.
pub(super) async fn run(world: Arc<World>, machine: usize) {
    // madsim runs it once when its machine is made.
    if lock(&world.machines[machine].troubles).is_off {
        return;
    }
    let incarnation = lock(&world.machines[machine].process).incarnation;
    let how = match serve(&world, machine).await {
        Ok(()) => How::Stopped,
        Err(how) => how,
    };
    world.say(Said::Ended(machine, incarnation, how));
}

async fn serve(world: &Arc<World>, machine: usize) -> Result<(), How> {
    let at = &world.machines[machine];
    let listener = listen(at, CLIENT_PORT).await?;
    let mut options = node::options(&world.plan, at.number, lock(&at.troubles).replaced);
    let cluster = if options.cluster.is_some() {
        options.cluster_id = lock(&at.cluster_id).as_str().into();
        Some(clustered(world, machine, listen(at, PEER_PORT).await?))
    } else {
        None
    };
    let (limits, idle_time_max) = (options.limits, options.broker.connections_max_idle_ms.map(Duration::from_millis));
    // While it was about to listen.
    if lock(&at.troubles).is_off {
        return Ok(());
    }
    let (clock, node) = recover(world, machine, options)?;
    let (stop, stopped) = oneshot::channel();
    {
        let mut process = lock(&at.process);
        (process.stop, process.is_up) = (Some(stop), true);
    }
    let parts = Parts {
        node,
        clock,
        limits,
        idle_time_max,
        listeners: vec![listener],
        cluster,
        on_pass: Some(on_pass(world.clone(), machine)),
    };
    let wires = world.clone();
    let server = Server::assemble(
        parts,
        |report| Ok::<_, Infallible>(Disk::new(world.clone(), machine, report)),
        move |socket, peer| ServerStream::new(wires.clone(), machine, socket, peer),
    );
    let Ok(server) = server;
    server.run(stopped).await.map_err(|fatal| How::Fatal(fatal.to_string()))
}

async fn listen(at: &Machine, port: u16) -> Result<TcpListener, How> {
    TcpListener::bind((at.ip(), port)).await.map_err(|why| How::Failed(format!("cannot listen: {why}")))
}

/// What a broker of a cluster has besides. Its machine keeps the cluster's id, as a data folder does.
fn clustered(world: &Arc<World>, machine: usize, listener: TcpListener) -> Clustered {
    let at = &world.machines[machine];
    let incarnation = lock(&at.process).incarnation;
    let world = world.clone();
    Clustered {
        listener,
        jitter: at.chance.keyed(LINKS).keyed(incarnation).bits(),
        // What the system does about silence is the engine's.
        prepare: |_| Ok(()),
        on_cluster_known: Box::new(move |id| {
            let mut known = lock(&world.machines[machine].cluster_id);
            if !known.is_empty() && *known != id {
                return Err(format!("the data folder belongs to cluster {known}, not to {id}"));
            }
            id.clone_into(&mut known);
            Ok(())
        }),
    }
}

/// Looks at the node after each pass: its invariants hold, and what it believes is noted where there are others.
fn on_pass(world: Arc<World>, machine: usize) -> OnPass {
    let mut noted = Noted::default();
    let mut looks_at = Instant::default();
    let mut round = 0;
    Box::new(move |node| {
        node.invariants_in_turn(round);
        round += 1;
        if world.machines.len() == 1 {
            return;
        }
        let now = world.now();
        let looks = looks_at <= now;
        if looks {
            looks_at = Instant(now.0 + LOOK_MS * MS);
        }
        let at = &world.machines[machine];
        let news = noted.news(at.number, node, &mut lock(&world.held), looks);
        for what in news {
            world.trace(at.lane(), || what.to_string());
            world.record_of(machine, what);
        }
    })
}

fn recover(world: &World, machine: usize, options: NodeOptions) -> Result<(Clock, Node), How> {
    let at = &world.machines[machine];
    let (cuts_index, dying) = {
        let mut troubles = lock(&at.troubles);
        (std::mem::take(&mut troubles.cuts_index), troubles.dies_in_recovery.take())
    };
    if cuts_index {
        at.disk.truncate_index(at.chance.keyed(RECOVERY).rng());
    }
    if let Some((changes, _)) = dying {
        at.disk.die_after(u64::from(changes));
    }
    let clock = Clock::start();
    let entropy = at.chance.entropy(lock(&at.process).incarnation);
    let recovered = Node::recover(options, &at.disk, entropy, clock.now());
    if let Some((_, loses_power)) = dying {
        at.disk.revive();
        return Err(How::DiedInRecovery(loses_power));
    }
    let (node, report) = recovered.map_err(|why| How::Failed(why.to_string()))?;
    node.invariants();
    world.trace(at.lane(), || format!("serves after recovery: {report:?}"));
    world.record_of(machine, What::Started { notes: report.notes });
    Ok((clock, node))
}
