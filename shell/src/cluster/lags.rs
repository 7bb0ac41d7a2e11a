//! What every broker that serves says of itself: whether it takes records, where the logs that it holds end, leaders first,
//! and which of those that it leads it does not serve. So a follower is behind by what it still lacks of what its leader had
//! when it was asked.

use std::collections::BTreeMap;
use std::slice;
use std::thread;
use std::time::Duration;

use chronik_core::wire::describe_log_dirs::DescribeLogDirsRequest;
use chronik_core::wire::list_offsets::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic, ListOffsetsTopicResponse,
};
use chronik_core::wire::{ErrorCode, Response};

use super::Fault;
use super::link::{Link, told};
use super::view::{Partition, View, unasked};
use crate::cli::options::Address;

/// How long a broker may take at most, which is one of many: one that is frozen never answers.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// Partitions that one request asks for.
const ASKED_AT_ONCE: usize = 2_000;
/// The `replica_id` of who asks about a broker's own replicas, and the timestamp that stands for the log's end.
const DEBUGGING: i32 = -2;
const LATEST: i64 = -1;

/// A partition: the topic's name and the index.
type Name = (String, i32);

/// What brokers told of the logs that they hold.
#[derive(Clone, Debug, Default)]
pub(super) struct Lags {
    /// Of each broker that was asked what a follower lacks of a partition, in records; where nobody knows, there is nothing.
    behind: BTreeMap<i32, BTreeMap<Name, i64>>,
    /// Brokers that are said to serve and do not answer, with why.
    silent: BTreeMap<i32, String>,
    /// Brokers whose data folder takes no records, with the error that they tell.
    full: BTreeMap<i32, String>,
    /// Partitions that their leaders do not serve, with the error that these answer.
    unserved: BTreeMap<Name, String>,
}

/// One broker while it is asked.
struct Asked {
    node: i32,
    link: Result<Link, Fault>,
    ends: BTreeMap<Name, i64>,
    /// What is led and not served, with the error.
    unserved: BTreeMap<Name, String>,
    /// Why its data folder takes no records, if it takes none.
    full: Option<String>,
}

impl Lags {
    /// Asks all brokers that serve. One by itself is asked on the link to it: what it tells clients to connect to may not be
    /// reached from here, as inside its container.
    pub(super) fn of(view: &View, link: Link, timeout: Duration) -> Lags {
        let mut only = view.is_of_one().then_some(link);
        let serving = view.nodes.iter().filter(|(_, node)| !node.is_fenced);
        let serving: Vec<_> = serving.map(|(node, told)| (*node, &told.address, only.take())).collect();
        let timeout = timeout.min(ANSWER_WITHIN);
        let connect = |(node, address, link): (i32, &Address, Option<Link>)| {
            let link = link.map_or_else(|| Link::connect(slice::from_ref(address), timeout), Ok);
            Asked { node, link, ends: BTreeMap::new(), unserved: BTreeMap::new(), full: None }.ask_for_folder()
        };
        let mut brokers = at_once(serving, connect);
        // Who asks the followers later than the leaders takes nothing for a lag that has only just been written.
        let is_led = |partition: &Partition, node| partition.leader == Some(node);
        brokers = at_once(brokers, |broker| broker.ask(view, &is_led));
        let is_followed =
            |partition: &Partition, node| partition.leader != Some(node) && partition.replicas.contains(&node);
        brokers = at_once(brokers, |broker| broker.ask(view, &is_followed));
        Lags::between(view, brokers)
    }

    fn between(view: &View, brokers: Vec<Asked>) -> Lags {
        let mut lags = Lags::default();
        let mut ends = BTreeMap::new();
        for broker in brokers {
            if let Some(error) = broker.full {
                lags.full.insert(broker.node, error);
            }
            lags.unserved.extend(broker.unserved);
            match broker.link {
                Ok(_) => drop(ends.insert(broker.node, broker.ends)),
                Err(why) => drop(lags.silent.insert(broker.node, why.to_string())),
            }
        }
        for (&node, of_node) in &ends {
            let behind = lags.behind.entry(node).or_default();
            for (name, &end) in of_node {
                let leader = view.partitions.get(name).and_then(|partition| partition.leader);
                let leader = leader.filter(|leader| *leader != node).and_then(|leader| ends.get(&leader)?.get(name));
                if let Some(leader) = leader {
                    behind.insert(name.clone(), (leader - end).max(0));
                }
            }
        }
        lags
    }

    /// Records that a node lacks in all partitions that it follows; `None` where that is not known of all.
    pub(super) fn of_node(&self, view: &View, node: i32) -> Option<i64> {
        let known = self.behind.get(&node)?;
        let mut followed = view.partitions.iter().filter(|(_, partition)| {
            partition.leader.is_some_and(|leader| leader != node) && partition.replicas.contains(&node)
        });
        followed.try_fold(0, |sum: i64, (name, _)| Some(sum.saturating_add(*known.get(name)?)))
    }

    /// Records that each follower of a partition lacks, where that is known.
    pub(super) fn of_partition(&self, name: &Name, partition: &Partition) -> Vec<(i32, Option<i64>)> {
        let follows = |node: &&i32| partition.leader.is_some_and(|leader| leader != **node);
        let followers = partition.replicas.iter().filter(follows);
        followers.map(|node| (*node, self.behind.get(node).and_then(|known| known.get(name).copied()))).collect()
    }

    /// Brokers whose data folder takes no records, with the error that they tell.
    pub(super) fn full(&self) -> &BTreeMap<i32, String> {
        &self.full
    }

    /// Partitions that their leaders do not serve, with the error that these answer.
    pub(super) fn unserved(&self) -> &BTreeMap<Name, String> {
        &self.unserved
    }

    /// Brokers that are said to serve and do not answer, with why.
    pub(super) fn silent(&self) -> &BTreeMap<i32, String> {
        &self.silent
    }
}

impl Asked {
    fn ask_for_folder(mut self) -> Asked {
        if let Ok(link) = &mut self.link {
            match folder_error(link) {
                Ok(error) => self.full = error,
                Err(why) => self.link = Err(why),
            }
        }
        self
    }

    /// Asks for the ends of those partitions that `wants`; one that has failed once is asked no more.
    fn ask(mut self, view: &View, wants: &(dyn Fn(&Partition, i32) -> bool + Sync)) -> Asked {
        let wanted: Vec<&Name> =
            view.partitions.iter().filter(|(_, partition)| wants(partition, self.node)).map(|(name, _)| name).collect();
        for some in wanted.chunks(ASKED_AT_ONCE) {
            let Ok(link) = &mut self.link else { break };
            match ask_for_ends(link, some) {
                Ok(told) => told.into_iter().for_each(|(name, end)| self.take(view, name, end)),
                Err(why) => self.link = Err(why),
            }
        }
        self
    }

    fn take(&mut self, view: &View, name: Name, end: Result<i64, i16>) {
        let leads = view.partitions.get(&name).is_some_and(|partition| partition.leader == Some(self.node));
        match end {
            Ok(end) => drop(self.ends.insert(name, end)),
            Err(code) if leads && !is_passing(code) => drop(self.unserved.insert(name, told(code, None))),
            Err(_) => {}
        }
    }
}

/// The error that a broker tells of its data folder.
fn folder_error(link: &mut Link) -> Result<Option<String>, Fault> {
    // Of the folders alone, without any of the topics in them.
    let request = DescribeLogDirsRequest { topics: Some(Vec::new()) };
    let Response::DescribeLogDirs(response) = link.ask(request)? else { return Err(unasked()) };
    let error = response.results.iter().map(|folder| folder.error_code).find(|code| *code != 0);
    Ok(error.map(|code| told(code, None)))
}

/// Whether a broker answers this of a partition that has moved, or is gone, since the cluster was looked at.
fn is_passing(code: i16) -> bool {
    let passing = [ErrorCode::NotLeaderOrFollower, ErrorCode::UnknownTopicOrPartition, ErrorCode::UnknownTopicId];
    passing.iter().any(|error| error.code() == code)
}

/// Where a log ends, or the code that was answered instead.
type End = (Name, Result<i64, i16>);

/// Where a broker's logs of these end, or the error that it answers.
fn ask_for_ends(link: &mut Link, partitions: &[&Name]) -> Result<Vec<End>, Fault> {
    let mut topics: Vec<ListOffsetsTopic> = Vec::new();
    for (topic, index) in partitions {
        if topics.last().is_none_or(|last| *last.name != **topic) {
            topics.push(ListOffsetsTopic { name: topic.as_str().into(), partitions: Vec::new() });
        }
        let asked = ListOffsetsPartition { partition_index: *index, current_leader_epoch: -1, timestamp: LATEST };
        topics.last_mut().expect("one was pushed").partitions.push(asked);
    }
    let request = ListOffsetsRequest { replica_id: DEBUGGING, topics, ..ListOffsetsRequest::default() };
    let Response::ListOffsets(response) = link.ask(request)? else { return Err(unasked()) };
    let of_topic = |topic: ListOffsetsTopicResponse| {
        let name = topic.name.to_string();
        topic.partitions.into_iter().map(move |told| {
            let end = if told.error_code == 0 { Ok(told.offset) } else { Err(told.error_code) };
            ((name.clone(), told.partition_index), end)
        })
    };
    Ok(response.topics.into_iter().flat_map(of_topic).collect())
}

/// Does `work` for each, all at a time: none waits for one that does not answer.
fn at_once<T: Send, U: Send>(all: Vec<T>, work: impl Fn(T) -> U + Sync) -> Vec<U> {
    let work = &work;
    thread::scope(|scope| {
        let threads: Vec<_> = all.into_iter().map(|one| scope.spawn(move || work(one))).collect();
        threads.into_iter().map(|thread| thread.join().expect("the work does not panic")).collect()
    })
}
