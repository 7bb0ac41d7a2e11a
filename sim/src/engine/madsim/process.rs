//! The broker's process: recovery, then the production server until it ends.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use chronik_core::node::Node;
use chronik_server::server::{Clock, Parts, Server};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use super::disk::Disk;
use super::stream::ServerStream;
use super::world::{How, Said, World, lock};
use crate::engine::chance::RECOVERY;
use crate::engine::{Lane, node};
use crate::history::What;

/// Where the broker listens.
pub(super) const ADDRESS: &str = "10.0.0.1:9092";

/// Runs one process from its start to its end, and says how that came, unless it is killed.
pub(super) async fn run(world: Arc<World>) {
    let incarnation = lock(&world.process).incarnation;
    let how = match serve(&world).await {
        Ok(()) => How::Stopped,
        Err(how) => how,
    };
    world.say(Said::Ended(incarnation, how));
}

async fn serve(world: &Arc<World>) -> Result<(), How> {
    let failed = |why: std::io::Error| How::Failed(format!("cannot listen: {why}"));
    let listener = TcpListener::bind(ADDRESS).await.map_err(failed)?;
    let (clock, node) = recover(world)?;
    let (stop, stopped) = oneshot::channel();
    {
        let mut process = lock(&world.process);
        (process.stop, process.is_up) = (Some(stop), true);
    }
    let options = node::options(&world.plan, 1);
    let parts = Parts {
        node,
        clock,
        limits: options.limits,
        idle_time_max: options.broker.connections_max_idle_ms.map(Duration::from_millis),
        listeners: vec![listener],
        cluster: None,
    };
    let wires = world.clone();
    let server = Server::assemble(
        parts,
        |report| Ok::<_, Infallible>(Disk::new(world.clone(), report)),
        move |socket, peer| ServerStream::new(wires.clone(), socket, peer),
    );
    let Ok(server) = server;
    server.run(stopped).await.map_err(|fatal| How::Fatal(fatal.to_string()))
}

fn recover(world: &World) -> Result<(Clock, Node), How> {
    let (cuts_index, dying) = {
        let mut troubles = lock(&world.troubles);
        (std::mem::take(&mut troubles.cuts_index), troubles.dies_in_recovery.take())
    };
    if cuts_index {
        world.disk.truncate_index(world.chance.keyed(RECOVERY).rng());
    }
    if let Some((changes, _)) = dying {
        world.disk.die_after(u64::from(changes));
    }
    let clock = Clock::start();
    let entropy = world.chance.entropy(lock(&world.process).incarnation);
    let recovered = Node::recover(node::options(&world.plan, 1), &world.disk, entropy, clock.now());
    if let Some((_, loses_power)) = dying {
        world.disk.revive();
        return Err(How::DiedInRecovery(loses_power));
    }
    let (node, report) = recovered.map_err(|why| How::Failed(why.to_string()))?;
    node.invariants();
    world.trace(Lane::Node(1), || format!("serves after recovery: {report:?}"));
    world.record(What::Started { notes: report.notes });
    Ok((clock, node))
}
