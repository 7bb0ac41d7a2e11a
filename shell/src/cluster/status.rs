//! How the cluster is: what is said of it, and whether it is well.

use std::collections::BTreeMap;
use std::io::Write;

use super::lags::Lags;
use super::table::{self, list};
use super::view::{Partition, View};
use super::{Fault, Outcome};

/// How many partitions are listed that are not as they should be. The rest is counted.
const LISTED_MAX: usize = 20;

/// Tells how it is.
pub(super) fn tell(view: &View, lags: &Lags, out: &mut impl Write) -> Result<Outcome, Fault> {
    let controller = view.controller.map_or("none".to_owned(), |id| format!("node {id}"));
    writeln!(out, "cluster {}, controller {controller}", view.cluster_id)?;
    if let Some(quorum) = &view.quorum {
        let (term, committed) = (quorum.leader_epoch, quorum.high_watermark);
        writeln!(out, "metadata: term {term}, committed up to {committed}")?;
    }
    writeln!(out)?;
    table::write(
        &["NODE#", "ADDRESS", "RACK", "STATE", "QUORUM", "BEHIND#", "LEADS#", "REPLICAS#", "LAG#"],
        &nodes(view, lags),
        out,
    )?;
    writeln!(out)?;
    tell_partitions(view, lags, out)?;
    let complaints = complaints(view, lags);
    if complaints.is_empty() {
        writeln!(out, "healthy")?;
        return Ok(Outcome::Well);
    }
    for complaint in complaints {
        writeln!(out, "UNHEALTHY: {complaint}")?;
    }
    Ok(Outcome::Unwell)
}

fn nodes(view: &View, lags: &Lags) -> Vec<Vec<String>> {
    let mut numbers: Vec<i32> = view.nodes.keys().copied().collect();
    if let Some(quorum) = &view.quorum {
        numbers.extend(quorum.current_voters.iter().chain(&quorum.observers).map(|member| member.replica_id));
    }
    numbers.sort_unstable();
    numbers.dedup();
    let row = |number: i32| {
        let node = view.nodes.get(&number);
        let leads = view.partitions.values().filter(|partition| partition.leader == Some(number)).count();
        let replicas = view.partitions.values().filter(|partition| partition.replicas.contains(&number)).count();
        let (role, behind) = in_quorum(view, number);
        let number_or_dash = |number: Option<i64>| number.map_or("-".to_owned(), |number| number.to_string());
        let state = match node {
            None => "unregistered",
            Some(node) if node.is_fenced => "fenced",
            Some(_) => "up",
        };
        vec![
            number.to_string(),
            node.map_or("-".to_owned(), |node| node.address.to_string()),
            node.and_then(|node| node.rack.clone()).unwrap_or_else(|| "-".to_owned()),
            state.to_owned(),
            role.to_owned(),
            number_or_dash(behind),
            leads.to_string(),
            replicas.to_string(),
            number_or_dash(lags.of_node(view, number)),
        ]
    };
    numbers.into_iter().map(row).collect()
}

/// A node's part in the quorum, and how many entries of the metadata log it lacks.
fn in_quorum(view: &View, number: i32) -> (&'static str, Option<i64>) {
    let Some(quorum) = &view.quorum else { return ("-", None) };
    let end_of = |id: i32| {
        let members = quorum.current_voters.iter().chain(&quorum.observers);
        members.filter(|member| member.replica_id == id).map(|member| member.log_end_offset).find(|end| *end >= 0)
    };
    let behind = end_of(quorum.leader_id).zip(end_of(number)).map(|(leader, end)| (leader - end).max(0));
    let is_among = |members: &[chronik_core::wire::describe_quorum::ReplicaState]| {
        members.iter().any(|member| member.replica_id == number)
    };
    let role = if quorum.leader_id == number {
        "leader"
    } else if is_among(&quorum.current_voters) {
        "voter"
    } else if is_among(&quorum.observers) {
        "observer"
    } else {
        "-"
    };
    (role, behind)
}

fn tell_partitions(view: &View, lags: &Lags, out: &mut impl Write) -> Result<(), Fault> {
    let count = |is: fn(&Partition) -> bool| view.partitions.values().filter(|partition| is(partition)).count();
    writeln!(
        out,
        "partitions {}, without a leader {}, under-replicated {}, being moved {}",
        view.partitions.len(),
        count(|partition| partition.leader.is_none()),
        count(Partition::is_under_replicated),
        count(Partition::is_moving)
    )?;
    let is_worth_telling = |name: &(String, i32), partition: &Partition| {
        let is_served = partition.leader.is_some() && !lags.unserved().contains_key(name);
        !is_served || partition.is_under_replicated() || partition.is_moving()
    };
    let mut told = view.partitions.iter().filter(|(name, partition)| is_worth_telling(name, partition));
    let row = |(name, partition): (&(String, i32), &Partition)| {
        let (topic, index) = name;
        let lag = |(node, lag): (i32, Option<i64>)| {
            format!("{node}:{}", lag.map_or("?".to_owned(), |records| records.to_string()))
        };
        let behind = lags.of_partition(name, partition).into_iter().filter(|(_, lag)| *lag != Some(0));
        let behind: Vec<String> = behind.map(lag).collect();
        let moving = format!("+{} -{}", list(&partition.adding), list(&partition.removing));
        vec![
            topic.clone(),
            index.to_string(),
            partition.leader.map_or("none".to_owned(), |id| id.to_string()),
            partition.epoch.to_string(),
            list(&partition.replicas),
            list(&partition.in_sync),
            if partition.is_moving() { moving } else { "-".to_owned() },
            if behind.is_empty() { "-".to_owned() } else { behind.join(",") },
        ]
    };
    let rows: Vec<Vec<String>> = told.by_ref().take(LISTED_MAX).map(row).collect();
    if !rows.is_empty() {
        table::write(
            &["TOPIC", "PARTITION#", "LEADER#", "EPOCH#", "REPLICAS", "IN SYNC", "MOVING", "LAG"],
            &rows,
            out,
        )?;
    }
    match told.count() {
        0 => {}
        more => writeln!(out, "and {more} more")?,
    }
    writeln!(out)?;
    Ok(())
}

/// What is not as it should be. A move under way is no complaint.
fn complaints(view: &View, lags: &Lags) -> Vec<String> {
    let mut complaints = Vec::new();
    if view.controller.is_none() {
        complaints.push("there is no controller".to_owned());
    }
    if let Some(why) = &view.silence {
        complaints.push(format!("the controller does not tell of the quorum: {why}"));
    }
    if view.nodes.is_empty() {
        complaints.push("no node has registered yet".to_owned());
    }
    let fenced: Vec<i32> = view.nodes.iter().filter(|(_, node)| node.is_fenced).map(|(id, _)| *id).collect();
    if !fenced.is_empty() {
        complaints.push(format!("fenced, not serving: node {}", list(&fenced)));
    }
    for (node, why) in lags.silent() {
        complaints.push(format!("node {node} is said to serve, but {why}"));
    }
    for (node, error) in lags.full() {
        let instead = if view.nodes.len() > 1 { ": others may lead instead" } else { "" };
        complaints.push(format!("node {node} takes no records ({error}), as when its disk is full{instead}"));
    }
    if let Some(quorum) = &view.quorum {
        let absent = quorum.current_voters.iter().map(|voter| voter.replica_id);
        let absent: Vec<i32> = absent.filter(|id| !view.nodes.contains_key(id)).collect();
        if !absent.is_empty() {
            complaints.push(format!("voters that have never registered: node {}", list(&absent)));
        }
    }
    for (what, is) in [
        ("without a leader", (|partition| partition.leader.is_none()) as fn(&Partition) -> bool),
        ("under-replicated", Partition::is_under_replicated),
    ] {
        let count = view.partitions.values().filter(|partition| is(partition)).count();
        if count > 0 {
            complaints.push(format!("{count} of {} partitions {what}", view.partitions.len()));
        }
    }
    let mut errors: BTreeMap<&str, usize> = BTreeMap::new();
    for error in lags.unserved().values() {
        *errors.entry(error).or_default() += 1;
    }
    for (error, count) in errors {
        let of = view.partitions.len();
        complaints.push(format!("{count} of {of} partitions whose leader does not serve them ({error})"));
    }
    complaints
}
