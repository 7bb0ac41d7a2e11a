//! Replicas and leaderships on their way from node to node.
//!
//! Moves are asked for in rounds, and a round is waited for before the next, so that what is interrupted leaves little
//! under way. What is under way goes on without us.
//!
//! A move ends when all replicas that are to stay are in sync, so none is begun of a partition that keeps one on a node that
//! is down. A node that is down itself is drained together with those others, since neither could be before the other.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::thread;
use std::time::{Duration, Instant};

use chronik_core::ids::NodeId;
use chronik_core::wire::alter_partition_reassignments::{
    AlterPartitionReassignmentsRequest, ReassignablePartition, ReassignableTopic,
};
use chronik_core::wire::elect_leaders::{ElectLeadersRequest, TopicPartitions};
use chronik_core::wire::list_partition_reassignments::{
    ListPartitionReassignmentsRequest, ListPartitionReassignmentsTopics,
};
use chronik_core::wire::{ErrorCode, Response};

use super::link::{Link, check, told};
use super::placement::{Moves, Name, Placement};
use super::view::{Partition, View, unasked};
use super::{Fault, Outcome, table};

/// How many partitions are moved at a time.
const ROUND: usize = 100;

/// How often it is looked whether they have arrived.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// How long nothing may arrive before it is given up to wait.
const STALLED_AFTER: Duration = Duration::from_secs(15 * 60);

/// Who is elected: the first of the replicas, where it is in sync.
const PREFERRED: i8 = 0;

/// Takes all replicas off a node, and waits until they are gone: those that others have begun to move, and those of
/// topics that were made meanwhile, too.
pub(super) fn drain(link: &mut Link, node: NodeId, out: &mut impl Write) -> Result<Outcome, Fault> {
    let mut is_known = false;
    loop {
        let view = View::of_decided(link)?;
        let holds = |(_, partition): &(&Name, &Partition)| partition.replicas.contains(&node.0);
        let held: Vec<&Name> = view.partitions.iter().filter(holds).map(|(name, _)| name).collect();
        is_known |= view.nodes.contains_key(&node.0) || !held.is_empty();
        if !is_known {
            return Err(Fault::Refused(format!("the cluster knows no node {node}")));
        }
        if held.is_empty() {
            writeln!(out, "node {node} holds no replica")?;
            return Ok(Outcome::Well);
        }
        let moves =
            Placement::new(&view.nodes, &view.partitions, Some(node.0)).drain(node.0).map_err(Fault::Refused)?;
        let leaving: Vec<&Name> = held.into_iter().filter(|name| !moves.contains_key(*name)).collect();
        let (held_up, moves): (Moves, Moves) = moves.into_iter().partition(|(name, to)| is_held_up(&view, name, to));
        if moves.is_empty()
            && leaving.is_empty()
            && let Some(why) = why_held_up(&view, node, &held_up)
        {
            return Err(Fault::Refused(format!("{} partitions stay on node {node}: {why}", held_up.len())));
        }
        let also = replaced_too(&view, node, &moves);
        if !also.is_empty() {
            writeln!(out, "their replicas on node {}, down as well, are replaced with them", table::list(&also))?;
        }
        carry_out(link, &view, moves, out)?;
        wait(link, &leaving, |under_way| writeln!(out, "{under_way} partitions that others move have yet to arrive"))?;
    }
}

/// Spreads replicas and leaders, and waits until that is done.
pub(super) fn rebalance(link: &mut Link, out: &mut impl Write) -> Result<Outcome, Fault> {
    let view = View::of_decided(link)?;
    let moving = view.partitions.values().filter(|partition| partition.is_moving()).count();
    if moving > 0 {
        return Err(Fault::Refused(format!(
            "{moving} partitions are being moved already: wait until they have arrived (`cluster status`)"
        )));
    }
    let moves = Placement::new(&view.nodes, &view.partitions, None).balance();
    let held_up = moves.iter().filter(|(name, to)| is_held_up(&view, name, to));
    if let Some(why) = who_is_down(&view, held_up.map(|(_, to)| to)) {
        return Err(Fault::Refused(format!("not all partitions that are to be moved would arrive: {why}")));
    }
    carry_out(link, &view, moves, out)?;
    elect(link, None)?;
    writeln!(out, "replicas and leaders are spread evenly")?;
    Ok(Outcome::Well)
}

/// Has a node lead a partition.
pub(super) fn move_leader(
    link: &mut Link,
    topic: &str,
    index: i32,
    node: NodeId,
    out: &mut impl Write,
) -> Result<Outcome, Fault> {
    let view = View::of_decided(link)?;
    let name = (topic.to_owned(), index);
    let Some(partition) = view.partitions.get(&name) else {
        return Err(Fault::Refused(format!("there is no partition {index} of `{topic}`")));
    };
    let replicas = may_lead(partition, node)
        .map_err(|why| Fault::Refused(format!("node {node} cannot lead partition {index} of `{topic}`: {why}")))?;
    // Also where it leads already: else the first of the replicas would lead again before long
    // (`auto.leader.rebalance.enable`).
    if replicas != partition.replicas {
        carry_out(link, &view, Moves::from([(name.clone(), replicas)]), out)?;
    }
    if partition.leader != Some(node.0) {
        elect(link, Some(&name))?;
    }
    writeln!(out, "node {node} leads partition {index} of `{topic}`")?;
    Ok(Outcome::Well)
}

/// The replicas with this one in front.
fn may_lead(partition: &Partition, node: NodeId) -> Result<Vec<i32>, String> {
    if partition.is_moving() {
        return Err("it is being moved".to_owned());
    }
    let mut replicas = partition.replicas.clone();
    let Some(place) = replicas.iter().position(|replica| *replica == node.0) else {
        return Err(format!("its replicas are on {}", table::list(&replicas)));
    };
    if !partition.in_sync.contains(&node.0) {
        return Err(format!("in sync are {}", table::list(&partition.in_sync)));
    }
    replicas[..=place].rotate_right(1);
    Ok(replicas)
}

/// Whether a partition never arrives there while nodes that are down stay so. One whose replicas change places only is there
/// at once.
fn is_held_up(view: &View, name: &Name, to: &[i32]) -> bool {
    let is_new = |node: &i32| view.partitions.get(name).is_none_or(|partition| !partition.settled().contains(node));
    to.iter().any(is_new) && to.iter().any(|node| view.is_down(*node))
}

/// The other nodes whose replicas these moves replace.
fn replaced_too(view: &View, drained: NodeId, moves: &Moves) -> Vec<i32> {
    let gone = moves.iter().flat_map(|(name, to)| {
        let before = view.partitions.get(name).map(Partition::settled).unwrap_or_default();
        before.into_iter().filter(move |node| *node != drained.0 && !to.contains(node))
    });
    gone.collect::<BTreeSet<_>>().into_iter().collect()
}

/// Why no replica of these comes off a node that is drained, and what to do about it.
fn why_held_up(view: &View, drained: NodeId, held_up: &Moves) -> Option<String> {
    if !view.is_down(drained.0) {
        return who_is_down(view, held_up.values());
    }
    // Of no use to drain the others first: that would be held up by this one.
    let mut told = Vec::new();
    let in_sync = |name: &Name| view.partitions.get(name).map_or(&[][..], |partition| &partition.in_sync);
    let (copied, lost): (Vec<_>, Vec<_>) =
        held_up.iter().partition(|(name, _)| in_sync(name).iter().any(|node| !view.is_down(*node)));
    for (node, count) in count_down(view, copied.into_iter().map(|(_, to)| to)) {
        told.push(format!(
            "node {node} is down as well and holds {count} of them, and no other node that is up could take them: bring it \
             back, or add a node first"
        ));
    }
    if !lost.is_empty() {
        let holders: BTreeSet<i32> = lost.iter().flat_map(|(name, _)| in_sync(name)).copied().collect();
        let holders = table::list(&holders.into_iter().collect::<Vec<_>>());
        told.push(format!("{} of them have no replica in sync that is up: bring node {holders} back", lost.len()));
    }
    told.into_iter().reduce(|before, next| format!("{before}; {next}"))
}

/// Of the nodes that are down how many of these partitions each is to hold.
fn count_down<'a>(view: &View, replicas: impl Iterator<Item = &'a Vec<i32>>) -> BTreeMap<i32, usize> {
    let mut down: BTreeMap<i32, usize> = BTreeMap::new();
    for node in replicas.flatten().filter(|node| view.is_down(**node)) {
        *down.entry(*node).or_default() += 1;
    }
    down
}

/// Which nodes hold up partitions that are to have these replicas, and what to do about it.
fn who_is_down<'a>(view: &View, replicas: impl Iterator<Item = &'a Vec<i32>>) -> Option<String> {
    let told = count_down(view, replicas).into_iter().map(|(node, count)| {
        format!(
            "node {node} is down and holds {count} of them: bring it back, or `chronik-server cluster drain {node}` first"
        )
    });
    told.reduce(|before, next| format!("{before}; {next}"))
}

/// Moves partitions, round by round.
fn carry_out(link: &mut Link, view: &View, moves: Moves, out: &mut impl Write) -> Result<(), Fault> {
    let total = moves.len();
    let mut done = 0;
    let mut rest = moves.into_iter();
    loop {
        let round: Moves = rest.by_ref().take(ROUND).collect();
        if round.is_empty() {
            return Ok(());
        }
        begin(link, view, &round)?;
        wait(link, &round.keys().collect::<Vec<_>>(), |under_way| {
            writeln!(out, "moved {} of {total} partitions", done + round.len() - under_way)
        })?;
        done += round.len();
    }
}

/// Begins moves. That they leave the number of replicas as it is the cluster makes sure of, which may have changed since it
/// was looked at; only for one that replaces a move to more or fewer it cannot, as it counts by what was before that.
fn begin(link: &mut Link, view: &View, round: &Moves) -> Result<(), Fault> {
    let is_resized = |name: &Name| view.partitions.get(name).is_some_and(Partition::is_resized);
    let (resized, kept): (Vec<_>, Vec<_>) = round.iter().partition(|(name, _)| is_resized(name));
    ask_to_move(link, &kept, false)?;
    ask_to_move(link, &resized, true)
}

/// Brokers that do not know version 1 of the request take every number of replicas.
fn ask_to_move(link: &mut Link, round: &[(&Name, &Vec<i32>)], may_resize: bool) -> Result<(), Fault> {
    if round.is_empty() {
        return Ok(());
    }
    let topics = by_topic(round.iter().copied()).into_iter().map(|(name, partitions)| ReassignableTopic {
        name: name.into(),
        partitions: partitions
            .into_iter()
            .map(|(partition_index, replicas)| ReassignablePartition {
                partition_index,
                replicas: Some(replicas.clone()),
            })
            .collect(),
    });
    let request = AlterPartitionReassignmentsRequest {
        timeout_ms: timeout_ms(link),
        allow_replication_factor_change: may_resize,
        topics: topics.collect(),
    };
    let Response::AlterPartitionReassignments(response) = link.ask(request)? else { return Err(unasked()) };
    check("partitions cannot be moved", response.error_code, response.error_message.as_deref())?;
    for topic in response.responses {
        for answer in topic.partitions {
            let what = format!("partition {} of `{}` cannot be moved", answer.partition_index, topic.name);
            check(&what, answer.error_code, answer.error_message.as_deref())?;
        }
    }
    Ok(())
}

/// Returns when none of these is under way; calls `tell` whenever that are fewer.
fn wait(link: &mut Link, names: &[&Name], mut tell: impl FnMut(usize) -> std::io::Result<()>) -> Result<(), Fault> {
    if names.is_empty() {
        return Ok(());
    }
    let mut before = names.len();
    let mut since = Instant::now();
    loop {
        let under_way = under_way(link, names)?;
        if under_way < before {
            tell(under_way)?;
            (before, since) = (under_way, Instant::now());
        }
        if under_way == 0 {
            return Ok(());
        }
        if since.elapsed() > STALLED_AFTER {
            return Err(Fault::Refused(stalled(&View::of(link)?, names, under_way)));
        }
        thread::sleep(LOOK_EVERY);
    }
}

/// Why it is waited no longer for these partitions, of which some are under way.
pub(super) fn stalled(view: &View, names: &[&Name], under_way: usize) -> String {
    let moving = names.iter().filter_map(|name| view.partitions.get(*name)).filter(|partition| partition.is_moving());
    let targets: Vec<Vec<i32>> = moving.map(Partition::settled).collect();
    let why = who_is_down(view, targets.iter()).map_or(String::new(), |why| format!(" ({why})"));
    format!(
        "{under_way} partitions have not arrived and none has for {} minutes{why}; they are still on their way \
         (`cluster status` says which)",
        STALLED_AFTER.as_secs() / 60
    )
}

fn under_way(link: &mut Link, names: &[&Name]) -> Result<usize, Fault> {
    let topics = by_topic(names.iter().map(|name| (*name, ()))).into_iter().map(|(name, partitions)| {
        ListPartitionReassignmentsTopics {
            name: name.into(),
            partition_indexes: partitions.into_iter().map(|(index, _)| index).collect(),
        }
    });
    let request = ListPartitionReassignmentsRequest { timeout_ms: timeout_ms(link), topics: Some(topics.collect()) };
    let Response::ListPartitionReassignments(response) = link.ask(request)? else { return Err(unasked()) };
    check("asking what is being moved", response.error_code, response.error_message.as_deref())?;
    Ok(response.topics.iter().map(|topic| topic.partitions.len()).sum())
}

/// Has the first replica of one partition, or of all, lead it.
fn elect(link: &mut Link, only: Option<&Name>) -> Result<(), Fault> {
    let request = ElectLeadersRequest {
        election_type: PREFERRED,
        topic_partitions: only
            .map(|(topic, index)| vec![TopicPartitions { topic: topic.as_str().into(), partitions: vec![*index] }]),
        timeout_ms: timeout_ms(link),
    };
    let Response::ElectLeaders(response) = link.ask(request)? else { return Err(unasked()) };
    check("leaders cannot be elected", response.error_code, None)?;
    let mut failed = Vec::new();
    for topic in response.replica_election_results {
        for answer in topic.partition_result {
            // It leads already.
            if ![0, ErrorCode::ElectionNotNeeded.code()].contains(&answer.error_code) {
                let why = told(answer.error_code, answer.error_message.as_deref());
                failed.push(format!("partition {} of `{}` ({why})", answer.partition_id, topic.topic));
            }
        }
    }
    match &failed[..] {
        [] => Ok(()),
        [first, rest @ ..] => Err(Fault::Refused(format!(
            "the preferred leader could not be elected of {first}{}",
            if rest.is_empty() { String::new() } else { format!(" and {} more", rest.len()) }
        ))),
    }
}

fn by_topic<'a, T>(moves: impl Iterator<Item = (&'a Name, T)>) -> BTreeMap<&'a str, Vec<(i32, T)>> {
    let mut topics: BTreeMap<&str, Vec<(i32, T)>> = BTreeMap::new();
    for ((topic, index), of) in moves {
        topics.entry(topic).or_default().push((*index, of));
    }
    topics
}

fn timeout_ms(link: &Link) -> i32 {
    link.timeout().as_millis().try_into().unwrap_or(i32::MAX)
}
