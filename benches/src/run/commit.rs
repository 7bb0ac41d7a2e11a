//! Committing offsets: each connection for a group of its own, to that group's coordinator. The offsets of a connection
//! rise, so the group's committed offset tells afterwards whether the last acknowledged commit is there.

use super::{Stage, report};
use crate::args::{LoadArgs, Verify};
use crate::cluster::{Cluster, Control, connect};
use crate::failure::Failure;
use crate::produce::{Lane, Template};
use crate::report::Report;
use crate::spread::{divide, spread};
use crate::verify::Verdict;
use crate::wire::{self, Api, CommitTemplate, ErrorCode};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

/// How long the first question about a group may take until it has a coordinator: its topic is created by it.
const COORDINATOR_WITHIN: Duration = Duration::from_secs(60);
const RETRY_AFTER: Duration = Duration::from_millis(20);

/// The offset that a connection commits first.
const FIRST: i64 = 1;

/// A group, and the partitions whose offsets it commits.
struct Group {
    name: String,
    coordinator: String,
    partitions: Vec<i32>,
}

pub(super) fn commit(load: &LoadArgs, is_watched: bool) -> Result<Report, Failure> {
    let mut cluster = Cluster::open(load, true)?;
    // A new topic is known everywhere when it can be asked for its offsets.
    cluster.offsets(wire::LATEST)?;
    let groups = groups(load, &mut cluster)?;
    let mut controls: BTreeMap<String, Control> = BTreeMap::new();
    let mut lanes = Vec::with_capacity(groups.len());
    let requests = (load.concurrency as usize).max(groups.len());
    for ((account, group), slots) in groups.iter().enumerate().zip(divide(requests, groups.len())) {
        let version = control(&mut controls, &group.coordinator)?.version(Api::OffsetCommit)?;
        let template = Template::Commit(Arc::new(CommitTemplate::new(version, &group.name, &load.topic)));
        let stream = connect(&group.coordinator, true)?;
        let (address, partitions) = (group.coordinator.clone(), group.partitions.clone());
        lanes.push(Lane::new(stream, address, template, partitions, Some(account), slots)?);
    }
    let mut stage = Stage::new(load, load.warmup, is_watched, &cluster);
    stage.partitions = groups.len();

    let plan = stage.write_plan(load, false);
    let (written, used) = stage.write(load, lanes, &plan)?;

    let verdict = match load.verify {
        Verify::Off => None,
        Verify::Offsets | Verify::Read => {
            let before = (0..).zip(&groups).map(|(account, _)| (account, FIRST)).collect();
            let mut after = BTreeMap::new();
            for (account, group) in (0..).zip(&groups) {
                let committed = committed(control(&mut controls, &group.coordinator)?, group, &load.topic)?;
                after.insert(account, committed.map_or(FIRST, |committed| committed + 1));
            }
            Some(Verdict::by_offsets(&written.acked, &before, &after))
        }
    };
    Ok(Report { overdue: written.overdue, verdict, ..report(load, &cluster, used, written.measured) })
}

fn control<'a>(controls: &'a mut BTreeMap<String, Control>, address: &str) -> Result<&'a mut Control, Failure> {
    if !controls.contains_key(address) {
        controls.insert(address.to_owned(), Control::open(address, true)?);
    }
    Ok(controls.get_mut(address).expect("it is there by now"))
}

/// The groups, one for each connection, with their coordinators.
fn groups(load: &LoadArgs, cluster: &mut Cluster) -> Result<Vec<Group>, Failure> {
    let shares = spread(&cluster.leaders, load.connections as usize);
    let began = Instant::now();
    let mut groups = Vec::with_capacity(shares.len());
    for (index, share) in shares.into_iter().enumerate() {
        let name = format!("{}-{index}", load.topic);
        let asked = cluster.control(share.leader);
        let coordinator = loop {
            let found = asked.call(
                Api::FindCoordinator,
                |version, correlation| wire::find_coordinator(version, correlation, &name),
                |_, body| wire::read_find_coordinator(body),
            )?;
            match found {
                Ok(address) => break address,
                Err(code) if code.is_passing() && began.elapsed() < COORDINATOR_WITHIN => thread::sleep(RETRY_AFTER),
                Err(code) => return Err(refused(Api::FindCoordinator, &name, code)),
            }
        };
        groups.push(Group { name, coordinator, partitions: share.partitions });
    }
    Ok(groups)
}

/// The highest offset that a group has committed.
fn committed(control: &mut Control, group: &Group, topic: &str) -> Result<Option<i64>, Failure> {
    let offsets = control.call(
        Api::OffsetFetch,
        |version, correlation| wire::fetch_offsets(version, correlation, &group.name, topic, &group.partitions),
        wire::read_fetch_offsets,
    )?;
    let mut highest = None;
    for (_, offset) in offsets {
        highest = highest.max(Some(offset.map_err(|code| refused(Api::OffsetFetch, &group.name, code))?));
    }
    Ok(highest)
}

fn refused(api: Api, group: &str, code: ErrorCode) -> Failure {
    Failure::Refused { api, subject: format!("group {group}"), code, message: None }
}
