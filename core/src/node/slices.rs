//! Long work, a slice at a time: what one request may name thousands of would keep everybody else waiting.
//!
//! A step of the node takes about 100 µs at most. What takes longer at its largest is begun at once, and if one slice
//! does not end it, goes on here: with a slice in each step that [`Reason::Slice`] asks for, which a driver makes between
//! its other inputs. There are several kinds of such work, which take turns, so that none waits for much of another. Of
//! each the oldest is ended before the next goes on, so that one unfinished answer lies in memory and not one for each
//! client; the answers of others, small ones above all, pass by.
//!
//! An answer in slices is not of one moment: each topic or partition is as it was when its slice came, after the request
//! came and before its answer leaves.

use std::collections::VecDeque;

use super::fetch::Remains;
use super::metadata::Then;
use super::{Node, Reason};
use crate::boundary::{Effect, Outbox, ReplyTo};
use crate::controller::{Describing, Listing};
use crate::ids::{ConnId, TopicPartition};
use crate::time::Now;
use crate::wait::FetchId;
use crate::wire::describe_configs::{
    DescribeConfigsRequest, DescribeConfigsResource, DescribeConfigsResponse, DescribeConfigsResult,
};
use crate::wire::describe_log_dirs::DescribeLogDirsTopic;
use crate::wire::describe_producers::{
    DescribeProducersRequest, DescribeProducersResponse, PartitionResponse, TopicResponse,
};
use crate::wire::describe_topic_partitions::DescribeTopicPartitionsRequest;
use crate::wire::offset_for_leader_epoch::{
    OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse, OffsetForLeaderTopicResult,
};
use crate::wire::{ErrorCode, Response, Str};

/// Topics and partitions that a slice of Metadata describes, at about 0.1 µs each.
const DESCRIBED: usize = 600;
/// Partitions on their way to other brokers that a slice of ListPartitionReassignments lists, at about 0.3 µs each.
const LISTED: usize = 300;
/// Settings that a slice of DescribeConfigs describes, at about 0.4 µs each.
const SETTINGS: usize = 100;
/// Settings in one answer to DescribeConfigs; what is named behind them is refused. They take about 100 MiB, as much as the
/// largest request, where four bytes of a request name a broker of hundreds.
const SETTINGS_MAX: usize = 350_000;
/// Partitions and producers that a slice of DescribeProducers tells of, at about 0.2 µs for a partition; one partition's
/// producers more, if it alone has more.
const PRODUCERS: usize = 500;
/// Partitions and producers in one answer to DescribeProducers, which take about 100 MiB. What is named behind them is
/// refused: four bytes of a request name a partition with thousands of producers, again and again.
const PRODUCERS_MAX: usize = 2_500_000;
/// The kinds of work that take turns.
const KINDS: u8 = 6;

/// What is on its way, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Slices {
    queue: VecDeque<(ReplyTo, Long)>,
    /// Fetches that have got what they wait for. One that has been answered meanwhile is passed over.
    ready: VecDeque<FetchId>,
    /// Fetches of many partitions, the oldest first.
    fetches: VecDeque<FetchId>,
    /// What is left of those that are over.
    remains: VecDeque<Remains>,
    /// The kind of work that the last slice was of.
    last_kind: u8,
    /// Whether a deadline stands for the next slice.
    is_planned: bool,
}

/// Something long.
#[derive(Debug)]
pub(super) enum Long {
    Metadata(Describing),
    /// Topics, as a step has time for.
    Topics(DescribeTopicPartitionsRequest),
    /// The results so far, and how many settings are in them.
    Configs(DescribeConfigsRequest, Vec<DescribeConfigsResult>, usize),
    Reassignments(Listing),
    /// The topics so far, and how many partitions and producers are in them.
    Producers(DescribeProducersRequest, Vec<TopicResponse>, usize),
    /// All partitions: those after one, and what was found so far.
    LogDirs(Option<TopicPartition>, Vec<DescribeLogDirsTopic>),
    /// The answer to a change of settings, while not all partitions have those of their broker.
    Altered(Box<Response>),
    /// The answer to a change of topics, while not all of their partitions have come or gone.
    Moved(Box<Response>),
    /// The number of a ListOffsets request among those that search.
    Offsets(usize),
    /// The topics so far.
    EpochEnds(OffsetForLeaderEpochRequest, Vec<OffsetForLeaderTopicResult>),
}

impl Long {
    /// The same with nothing of it done, where that is possible.
    fn anew(self) -> Long {
        match self {
            Long::Metadata(describing) => Long::Metadata(describing.anew()),
            Long::Topics(request) => Long::Topics(request),
            Long::Configs(request, ..) => Long::Configs(request, Vec::new(), 0),
            Long::Reassignments(listing) => Long::Reassignments(listing.anew()),
            Long::Producers(request, ..) => Long::Producers(request, Vec::new(), 0),
            Long::LogDirs(..) => Long::LogDirs(None, Vec::new()),
            Long::Altered(response) => Long::Altered(response),
            Long::Moved(response) => Long::Moved(response),
            Long::Offsets(query) => Long::Offsets(query),
            Long::EpochEnds(request, _) => Long::EpochEnds(request, Vec::new()),
        }
    }
}

impl Slices {
    /// Whether nothing is on its way that somebody waits for.
    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty() && self.ready.is_empty() && self.fetches.is_empty()
    }

    /// Has a fetch served in one of the next slices.
    pub(super) fn serve(&mut self, id: FetchId) {
        self.ready.push_back(id);
    }

    pub(super) fn next_ready(&mut self) -> Option<FetchId> {
        self.ready.pop_front()
    }

    /// Has a fetch go on when those before it have left.
    pub(super) fn go_on_with(&mut self, id: FetchId) {
        self.fetches.push_back(id);
    }

    /// The fetch that the next slice is of.
    pub(super) fn first_fetch(&self) -> Option<FetchId> {
        self.fetches.front().copied()
    }

    /// Nothing more is to be done for that one now.
    pub(super) fn fetch_has_left(&mut self) {
        self.fetches.pop_front();
    }

    /// Nothing more is to be done for a fetch, whether it is the first or not.
    pub(super) fn let_fetch_go(&mut self, id: FetchId) {
        self.fetches.retain(|&known| known != id);
    }

    /// How many fetches go on.
    pub(super) fn fetches(&self) -> usize {
        self.fetches.len()
    }

    /// Goes on with something long when its turn comes.
    pub(super) fn go_on_later(&mut self, to: ReplyTo, long: Long) {
        self.queue.push_back((to, long));
    }

    /// Lets go of something as there is time for it.
    pub(super) fn let_go_of(&mut self, remains: Remains) {
        self.remains.push_back(remains);
    }
}

impl Node {
    /// Begins with something that may be long, and ends it if one slice does.
    pub(super) fn begin_long(&mut self, now: Now, to: ReplyTo, long: Long, out: &mut Outbox) {
        if let Some(long) = self.slice(now, to, long, out)
            && !self.is_ending()
        {
            // What waits for others keeps its request and nothing else.
            let long = if self.slices.queue.is_empty() { long } else { long.anew() };
            self.slices.queue.push_back((to, long));
        }
    }

    /// Goes on for one slice, of the next kind that there is something of.
    pub(super) fn next_slice(&mut self, now: Now, out: &mut Outbox) {
        self.slices.is_planned = false;
        for _ in 0..KINDS {
            self.slices.last_kind = (self.slices.last_kind + 1) % KINDS;
            match self.slices.last_kind {
                0 if !self.slices.ready.is_empty() => return self.serve_ready(out),
                1 if !self.slices.fetches.is_empty() => return self.slice_fetch(now, out),
                2 if self.sessions.has_ended() => return self.unwatch_some(),
                2 => {
                    if let Some(mut remains) = self.slices.remains.pop_front() {
                        if self.let_go_on(&mut remains) {
                            self.slices.remains.push_front(remains);
                        }
                        return;
                    }
                }
                3 if self.is_obeying() => return self.obey_some(),
                4 if !self.moves.is_empty() => return self.move_some(now, out),
                5 => {
                    if let Some((to, long)) = self.slices.queue.pop_front() {
                        if let Some(long) = self.slice(now, to, long, out) {
                            self.slices.queue.push_front((to, long));
                        }
                        return;
                    }
                }
                _ => {}
            }
        }
    }

    /// Whether partitions are on their way that the metadata say are here, or are about to say so.
    fn is_moving(&self) -> bool {
        !self.moves.is_empty() || self.is_half_applied()
    }

    /// Has the next step made at once where there is something left to do.
    pub(super) fn plan_slice(&mut self, now: Now) {
        let has_more = !self.slices.is_empty()
            || !self.slices.remains.is_empty()
            || self.sessions.has_ended()
            || self.is_obeying()
            || !self.moves.is_empty();
        if !self.slices.is_planned && has_more {
            self.slices.is_planned = true;
            self.deadlines.insert((now.instant, Reason::Slice));
        }
    }

    /// Lets go of what a connection asked for that is gone.
    pub(super) fn close_long(&mut self, conn: ConnId, out: &mut Outbox) {
        let mut gone = Vec::new();
        self.slices.queue.retain(|(to, long)| {
            if let (true, Long::Offsets(query)) = (to.conn == conn, long) {
                gone.push(*query);
            }
            to.conn != conn
        });
        for query in gone {
            self.end_lookup(query, out);
        }
        self.close_paused(conn, out);
    }

    /// One slice; what is left after it.
    fn slice(&mut self, now: Now, to: ReplyTo, long: Long, out: &mut Outbox) -> Option<Long> {
        match long {
            // Who has been told of a partition finds it here.
            Long::Metadata(describing) if self.is_moving() => return Some(Long::Metadata(describing)),
            Long::Topics(request) if self.is_half_applied() => return Some(Long::Topics(request)),
            Long::Topics(request) => {
                let response = self.controller.describe_topic_partitions(self.listener(to), &request);
                out.push(Effect::Reply { to, response: Some(Response::DescribeTopicPartitions(response)) });
            }
            Long::Metadata(mut describing) => {
                if !self.controller.describe(self.listener(to), &mut describing, DESCRIBED) {
                    return Some(Long::Metadata(describing));
                }
                let missing = describing.missing();
                if !missing.is_empty() {
                    let missing = missing.to_vec();
                    let then = Then::Long(Long::Metadata(describing.again()));
                    self.create_missing(now, to, &missing, then, out);
                    return None;
                }
                let response = Response::Metadata(self.controller.described(self.listener(to), describing).response);
                out.push(Effect::Reply { to, response: Some(response) });
            }
            Long::Configs(request, mut results, before) => {
                let mut settings = 0;
                while let Some(resource) = request.resources.get(results.len()) {
                    if settings >= SETTINGS {
                        return Some(Long::Configs(request, results, before + settings));
                    }
                    let result = match before + settings < SETTINGS_MAX {
                        true => self.controller.describe_resource(&request, resource),
                        false => too_many(resource),
                    };
                    settings += result.configs.len().max(1);
                    results.push(result);
                }
                let response = DescribeConfigsResponse { results, ..DescribeConfigsResponse::default() };
                out.push(Effect::Reply { to, response: Some(Response::DescribeConfigs(response)) });
            }
            Long::Reassignments(mut listing) => {
                if self.controller.list_on(&mut listing, LISTED) {
                    return Some(Long::Reassignments(listing));
                }
                let response = Response::ListPartitionReassignments(listing.into_response());
                out.push(Effect::Reply { to, response: Some(response) });
            }
            Long::Producers(request, mut topics, before) => {
                let mut told = 0;
                while let Some((topic, partition)) = next_partition(&request, &mut topics) {
                    if told >= PRODUCERS {
                        return Some(Long::Producers(request, topics, before + told));
                    }
                    let name = &request.topics[topic].name;
                    let answer = match before + told < PRODUCERS_MAX {
                        true => self.describe_producers(name, partition),
                        false => too_many_producers(partition),
                    };
                    told += 1 + answer.active_producers.len();
                    topics[topic].partitions.push(answer);
                }
                let response = DescribeProducersResponse { topics, ..DescribeProducersResponse::default() };
                out.push(Effect::Reply { to, response: Some(Response::DescribeProducers(response)) });
            }
            Long::LogDirs(after, mut topics) => {
                let after = self.measure_partitions(after, &mut topics);
                if after.is_some() {
                    return Some(Long::LogDirs(after, topics));
                }
                let response = Response::DescribeLogDirs(self.log_dirs(topics));
                out.push(Effect::Reply { to, response: Some(response) });
            }
            // Who has been told of a change finds it in force.
            Long::Altered(response) if self.is_obeying() => return Some(Long::Altered(response)),
            Long::Moved(response) if !self.moves.is_empty() => return Some(Long::Moved(response)),
            Long::Altered(response) | Long::Moved(response) => {
                out.push(Effect::Reply { to, response: Some(*response) });
            }
            Long::Offsets(query) => return self.look_up(query, out).then_some(Long::Offsets(query)),
            Long::EpochEnds(request, mut topics) => {
                if self.find_epoch_ends(&request, &mut topics) {
                    return Some(Long::EpochEnds(request, topics));
                }
                let response = OffsetForLeaderEpochResponse { topics, ..OffsetForLeaderEpochResponse::default() };
                out.push(Effect::Reply { to, response: Some(Response::OffsetForLeaderEpoch(response)) });
            }
        }
        None
    }
}

/// The next partition that has no answer in `topics`: the place of its topic, which is begun, and its own number.
fn next_partition(request: &DescribeProducersRequest, topics: &mut Vec<TopicResponse>) -> Option<(usize, i32)> {
    loop {
        if let Some(last) = topics.len().checked_sub(1)
            && let Some(&partition) = request.topics[last].partition_indexes.get(topics[last].partitions.len())
        {
            return Some((last, partition));
        }
        let topic = request.topics.get(topics.len())?;
        let partitions = Vec::with_capacity(topic.partition_indexes.len());
        topics.push(TopicResponse { name: topic.name.clone(), partitions });
    }
}

/// A partition that there is no room for in the answer.
fn too_many_producers(partition_index: i32) -> PartitionResponse {
    PartitionResponse {
        partition_index,
        error_code: ErrorCode::PolicyViolation.code(),
        error_message: Some(Str::from_static("The request asks for too many producers at once; ask in several parts.")),
        ..PartitionResponse::default()
    }
}

/// A resource that there is no room for in the answer.
fn too_many(resource: &DescribeConfigsResource) -> DescribeConfigsResult {
    DescribeConfigsResult {
        error_code: ErrorCode::PolicyViolation.code(),
        error_message: Some(Str::from_static("The request asks for too many settings at once; ask in several parts.")),
        resource_type: resource.resource_type,
        resource_name: resource.resource_name.clone(),
        ..DescribeConfigsResult::default()
    }
}
