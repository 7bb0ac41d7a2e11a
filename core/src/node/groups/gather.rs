//! Requests about many groups: ListGroups, DescribeGroups, ConsumerGroupDescribe, DeleteGroups, OffsetFetch.
//!
//! Their groups belong to several coordinators. Some groups are asked about in each step; when all have been, the answer
//! waits until each of these coordinators has committed what it had decided by then.

use std::collections::BTreeSet;

use super::append::Waiter;
use super::{NEXT_STEP, Node, ROOM_RETRY, Reason, refuse, size};
use crate::boundary::{Effect, Outbox, ReplyTo};
use crate::group::{Coordinator, FetchStop, Surroundings, partition_of};
use crate::time::Now;
use crate::wire::consumer_group_describe::{
    self as consumer, ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse,
};
use crate::wire::delete_groups::{DeletableGroupResult, DeleteGroupsRequest, DeleteGroupsResponse};
use crate::wire::describe_groups::{DescribeGroupsRequest, DescribeGroupsResponse, DescribedGroup};
use crate::wire::list_groups::{ListGroupsRequest, ListGroupsResponse};
use crate::wire::offset_fetch::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopics, OffsetFetchResponse,
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponseTopic,
};
use crate::wire::{self, ErrorCode, Response, Str};

/// How much is looked at in one step, in offsets and members together, at some 0.1 µs each; one group's members more, if
/// it alone has more.
const LOOKED_AT_ONCE: usize = 512;

/// To find a group takes as long as to look at so many offsets.
const GROUP_WORK: usize = 32;

/// How many offsets of groups that are deleted are removed in one step, at some 0.4 µs each.
const DELETED_AT_ONCE: usize = 256;

/// How many groups a list looks at in one step.
const LISTED_AT_ONCE: usize = 256;

/// What a client may do to a group, as bits by the numbers of Kafka's operations: read (3), delete (6), describe (8),
/// describe configs (10), alter configs (11).
const GROUP_OPERATIONS: i32 = 1 << 3 | 1 << 6 | 1 << 8 | 1 << 10 | 1 << 11;

/// From this version on OffsetFetch is about several groups.
const SEVERAL_FROM: i16 = 8;

/// How much of one answer lies in memory, or leaves by the wire, in bytes: as much as the largest request. What is named
/// behind that is refused, where a few kilobytes could name a large group thousands of times.
const ANSWER_BYTES_MAX: usize = 100 << 20;

/// From this version on OffsetFetch has a code for the whole group. Before there is one in each partition alone.
const GROUP_CODE_FROM: i16 = 2;

/// A request about many groups that is being worked on.
pub(super) struct Gather {
    pub(super) to: ReplyTo,
    asked: Asked,
    /// How many of its groups, or of all coordinators, have been asked.
    done: usize,
    answer: Answer,
    /// The group that the coordinator asked for a list has told of last, where it has more.
    after: Option<Str>,
    /// Where the offsets of the group that was asked last go on, where it has more.
    fetched: Option<FetchStop>,
    /// The partitions whose coordinators have been asked.
    touched: BTreeSet<i32>,
    /// The groups that are answered. One that is named again is passed over, but for offsets: those asked for may differ.
    told: BTreeSet<Str>,
    /// About how long the answer is so far, in bytes.
    bytes: usize,
}

/// What is asked.
enum Asked {
    /// Of these partitions.
    List(ListGroupsRequest, Vec<i32>),
    Describe(DescribeGroupsRequest),
    DescribeConsumer(ConsumerGroupDescribeRequest),
    Delete(DeleteGroupsRequest),
    Fetch(Vec<OffsetFetchRequestGroup>),
}

impl Asked {
    fn len(&self) -> usize {
        match self {
            Asked::List(_, partitions) => partitions.len(),
            Asked::Describe(request) => request.groups.len(),
            Asked::DescribeConsumer(request) => request.group_ids.len(),
            Asked::Delete(request) => request.groups_names.len(),
            Asked::Fetch(groups) => groups.len(),
        }
    }

    /// The group at a place, where one answer is enough for all places that name it.
    fn name(&self, index: usize) -> Option<&Str> {
        match self {
            Asked::Describe(request) => Some(&request.groups[index]),
            Asked::DescribeConsumer(request) => Some(&request.group_ids[index]),
            Asked::Delete(request) => Some(&request.groups_names[index]),
            Asked::List(..) | Asked::Fetch(_) => None,
        }
    }
}

/// What is known so far.
enum Answer {
    List(ListGroupsResponse),
    Describe(DescribeGroupsResponse),
    DescribeConsumer(ConsumerGroupDescribeResponse),
    Delete(DeleteGroupsResponse),
    Fetch(Vec<OffsetFetchResponseGroup>),
}

/// An answer that waits for several partitions.
pub(super) struct Gathered {
    to: ReplyTo,
    answer: Answer,
    left: usize,
}

impl Node {
    /// Begins to work on a request about many groups. Most are done at once, and pass those by that are not.
    pub(super) fn gather(&mut self, now: Now, to: ReplyTo, request: wire::Request, out: &mut Outbox) {
        use wire::Request as R;
        let (asked, answer) = match request {
            R::ListGroups(request) => {
                let partitions = self.groups.seats.keys().copied().collect();
                (Asked::List(request, partitions), Answer::List(ListGroupsResponse::default()))
            }
            R::DescribeGroups(request) => {
                (Asked::Describe(request), Answer::Describe(DescribeGroupsResponse::default()))
            }
            R::ConsumerGroupDescribe(request) => {
                (Asked::DescribeConsumer(request), Answer::DescribeConsumer(ConsumerGroupDescribeResponse::default()))
            }
            R::DeleteGroups(request) => (Asked::Delete(request), Answer::Delete(DeleteGroupsResponse::default())),
            R::OffsetFetch(request) => (Asked::Fetch(groups_of(to.version, request)), Answer::Fetch(Vec::new())),
            other => unreachable!("{other:?} is about one group, or none"),
        };
        let (touched, told) = (BTreeSet::new(), BTreeSet::new());
        let gather = Gather { to, asked, done: 0, answer, after: None, fetched: None, touched, told, bytes: 0 };
        match self.gather_some(now, gather, out) {
            // Everybody waits for this one.
            Some(gather) if self.groups.is_deleting => self.groups.gathers.push_front(gather),
            Some(gather) => self.groups.gathers.push_back(gather),
            None => {}
        }
    }

    /// Works on the oldest request that is not done, for one step. It is ended before the next one goes on, so that few
    /// large answers lie in memory.
    pub(in crate::node) fn gather_on(&mut self, now: Now, out: &mut Outbox) {
        if let Some(gather) = self.groups.gathers.pop_front()
            && let Some(gather) = self.gather_some(now, gather, out)
        {
            self.groups.gathers.push_front(gather);
        } else if !self.groups.gathers.is_empty() {
            self.deadlines.insert((now.instant + NEXT_STEP, Reason::Gather));
        }
    }

    /// Asks about some groups. Gives back what is not done, and sees to it that it goes on.
    fn gather_some(&mut self, now: Now, mut gather: Gather, out: &mut Outbox) -> Option<Gather> {
        let writes = matches!(gather.asked, Asked::Delete(_)) && self.no_space.is_none();
        if !self.groups.unwritten.is_empty() || (writes && !self.may_write_groups()) {
            self.deadlines.insert((now.instant + ROOM_RETRY, Reason::Gather));
            return Some(gather);
        }
        let mut budget = match gather.asked {
            Asked::List(..) => LISTED_AT_ONCE,
            _ => LOOKED_AT_ONCE,
        };
        while gather.done < gather.asked.len() {
            if budget == 0 || !self.groups.unwritten.is_empty() {
                self.deadlines.insert((now.instant + NEXT_STEP, Reason::Gather));
                return Some(gather);
            }
            self.ask_one(now, &mut gather, &mut budget, out);
        }
        self.gathered(gather, out);
        None
    }

    /// Ends all requests about many groups, at once: there is no coordinator left that would take long.
    pub(super) fn end_gathers(&mut self, now: Now, out: &mut Outbox) {
        for mut gather in std::mem::take(&mut self.groups.gathers) {
            let mut budget = usize::MAX;
            while gather.done < gather.asked.len() {
                self.ask_one(now, &mut gather, &mut budget, out);
            }
            self.gathered(gather, out);
        }
    }

    /// Asks the coordinator of the next group, or the next coordinator.
    fn ask_one(&mut self, now: Now, gather: &mut Gather, budget: &mut usize, out: &mut Outbox) {
        let (index, version) = (gather.done, gather.to.version);
        gather.done += 1;
        if gather.asked.name(index).is_some_and(|group| gather.told.contains(group)) {
            *budget = budget.saturating_sub(GROUP_WORK);
            return;
        }
        match (&gather.asked, &mut gather.answer) {
            (Asked::List(request, partitions), Answer::List(answer)) => {
                let partition = partitions[index];
                let after = gather.after.take();
                let listed = self.check_serving(partition).and_then(|()| {
                    self.ask_coordinator(now, partition, &mut gather.touched, out, |coordinator, _| {
                        coordinator.list(request, after.as_ref(), budget, &mut answer.groups)
                    })
                });
                match listed {
                    Ok(more) => {
                        gather.after = more;
                        if gather.after.is_some() {
                            gather.done = index;
                        }
                        return;
                    }
                    // It is another's: that one tells of its groups.
                    Err(ErrorCode::NotCoordinator) => {}
                    Err(code) => answer.error_code = code.into(),
                }
            }
            (Asked::Describe(request), Answer::Describe(answer)) => {
                let group = &request.groups[index];
                let partition = has_room(gather.bytes).and_then(|()| self.coordinating(group));
                let described = partition.and_then(|partition| {
                    self.ask_coordinator(now, partition, &mut gather.touched, out, |coordinator, _| {
                        coordinator.describe(version, group)
                    })
                });
                let mut described = described.unwrap_or_else(|code| DescribedGroup {
                    error_code: code.into(),
                    error_message: message(code),
                    group_id: group.clone(),
                    ..DescribedGroup::default()
                });
                if request.include_authorized_operations && described.error_code == 0 {
                    described.authorized_operations = GROUP_OPERATIONS;
                }
                *budget = budget.saturating_sub(described.members.len());
                gather.bytes += size::described(&described);
                answer.groups.push(described);
            }
            (Asked::DescribeConsumer(request), Answer::DescribeConsumer(answer)) => {
                let group = &request.group_ids[index];
                let partition = has_room(gather.bytes).and_then(|()| self.coordinating(group));
                let described = partition.and_then(|partition| {
                    self.ask_coordinator(now, partition, &mut gather.touched, out, |coordinator, with| {
                        coordinator.describe_consumer(with, group)
                    })
                });
                let mut described = described.unwrap_or_else(|code| consumer::DescribedGroup {
                    error_code: code.into(),
                    error_message: message(code),
                    group_id: group.clone(),
                    ..consumer::DescribedGroup::default()
                });
                if request.include_authorized_operations && described.error_code == 0 {
                    described.authorized_operations = GROUP_OPERATIONS;
                }
                *budget = budget.saturating_sub(described.members.len());
                gather.bytes += size::described_consumer(&described);
                answer.groups.push(described);
            }
            (Asked::Delete(request), Answer::Delete(answer)) => {
                let group = &request.groups_names[index];
                let partition = self.coordinating(group).and_then(|partition| self.check_deletable(partition));
                let count = if *budget == usize::MAX { *budget } else { DELETED_AT_ONCE };
                let deleted = partition.and_then(|partition| {
                    self.ask_coordinator(now, partition, &mut gather.touched, out, |coordinator, with| {
                        coordinator.delete(with, group, count)
                    })
                });
                let code = deleted.unwrap_or_else(Some);
                // Nobody finds a group of which half is deleted.
                self.groups.is_deleting = code.is_none();
                let Some(code) = code else {
                    (gather.done, *budget) = (index, 0);
                    return;
                };
                answer.results.push(DeletableGroupResult { group_id: group.clone(), error_code: code.into() });
            }
            (Asked::Fetch(groups), Answer::Fetch(answer)) => {
                let group = &groups[index];
                let from = gather.fetched.take();
                if from.is_none() {
                    answer.push(OffsetFetchResponseGroup {
                        group_id: group.group_id.clone(),
                        ..OffsetFetchResponseGroup::default()
                    });
                }
                let told = answer.last_mut().expect("the group has been begun");
                let before = (told.topics.len(), told.topics.last().map_or(0, |topic| topic.partitions.len()));
                let partition = has_room(gather.bytes).and_then(|()| self.coordinating(&group.group_id));
                let fetched = partition.and_then(|partition| {
                    self.ask_coordinator(now, partition, &mut gather.touched, out, |coordinator, with| {
                        coordinator.fetch_offsets(with, version, group, from, budget, told)
                    })
                });
                match fetched {
                    Ok(more) => {
                        gather.fetched = more;
                        gather.bytes += size::fetched(told, before);
                    }
                    Err(code) => *told = refused_fetch(group, version, code),
                }
                if gather.fetched.is_some() {
                    (gather.done, *budget) = (index, 0);
                    return;
                }
            }
            _ => unreachable!("an answer is of its question's kind"),
        }
        gather.told.extend(gather.asked.name(index).cloned());
        *budget = budget.saturating_sub(GROUP_WORK);
    }

    /// Calls the coordinator of a partition for an answer. What it says counts only if it serves on: one that cannot write
    /// what it decided by that resigns at once.
    fn ask_coordinator<T>(
        &mut self,
        now: Now,
        partition: i32,
        touched: &mut BTreeSet<i32>,
        out: &mut Outbox,
        ask: impl FnOnce(&mut Coordinator, &mut Surroundings<'_>) -> T,
    ) -> Result<T, ErrorCode> {
        touched.insert(partition);
        let told = self.call(now, partition, out, ask);
        self.check_serving(partition).map(|()| told)
    }

    /// All has been asked: the answer leaves when all of it is committed.
    fn gathered(&mut self, gather: Gather, out: &mut Outbox) {
        let Gather { to, mut answer, touched, .. } = gather;
        if let Answer::List(answer) = &mut answer
            && answer.error_code != 0
        {
            answer.groups.clear();
        }
        // One more than there are partitions, so that it does not leave before all of them have been looked at.
        let id = self.groups.gathered.insert(Gathered { to, answer, left: touched.len() + 1 });
        for partition in touched {
            self.park(partition, Waiter::Gather(id), out);
        }
        self.settle_gathered(id, out);
    }

    /// One of the partitions that an answer waits for has committed.
    pub(super) fn settle_gathered(&mut self, id: usize, out: &mut Outbox) {
        let gathered = &mut self.groups.gathered[id];
        gathered.left -= 1;
        if gathered.left == 0 {
            let Gathered { to, answer, .. } = self.groups.gathered.remove(id);
            out.push(Effect::Reply { to, response: Some(response(to.version, answer)) });
        }
    }

    /// What a partition's coordinator decided for an answer will not be written.
    pub(super) fn refuse_gathered(&mut self, id: usize, partition: i32, code: ErrorCode) {
        let count = self.group_partitions();
        let Gathered { to, answer, .. } = &mut self.groups.gathered[id];
        take_back(answer, to.version, code, |group| belongs(group, partition, count));
    }

    /// Takes back what a partition's coordinator has told for answers that are not complete: what it decided will not be
    /// written, or may be cut from the log.
    pub(super) fn refuse_gathers(&mut self, partition: i32, code: ErrorCode) {
        let count = self.group_partitions();
        let is_its = |group: &str| belongs(group, partition, count);
        for gather in self.groups.gathers.iter_mut().filter(|gather| gather.touched.contains(&partition)) {
            take_back(&mut gather.answer, gather.to.version, code, is_its);
            // Nothing more is told of a group of which a part has been.
            if let (Asked::Fetch(groups), Answer::Fetch(answer)) = (&gather.asked, &mut gather.answer)
                && gather.fetched.is_some()
                && is_its(&groups[gather.done].group_id)
            {
                let told = answer.last_mut().expect("a part of it has been told");
                *told = refused_fetch(&groups[gather.done], gather.to.version, code);
                (gather.done, gather.fetched) = (gather.done + 1, None);
            }
        }
    }

    /// How many partitions groups belong to, while the topic is there.
    fn group_partitions(&self) -> Option<u32> {
        let topic = self.groups.topic.and_then(|topic| self.controller.image().topic(topic));
        topic.map(super::count)
    }

    /// Whether a group of this partition may be deleted: whether that can be written.
    fn check_deletable(&self, partition: i32) -> Result<i32, ErrorCode> {
        self.check_writable(partition, &DeleteGroupsRequest::default().into())
    }
}

/// Whether a group belongs to a partition of so many; to any, where that is not known.
fn belongs(group: &str, partition: i32, count: Option<u32>) -> bool {
    count.is_none_or(|count| partition_of(group, count) == partition)
}

/// Makes what an answer says of some groups a refusal.
fn take_back(answer: &mut Answer, version: i16, code: ErrorCode, is_its: impl Fn(&str) -> bool) {
    match answer {
        Answer::List(answer) => (answer.error_code, answer.groups) = (code.into(), Vec::new()),
        Answer::Describe(answer) => {
            for group in answer.groups.iter_mut().filter(|group| is_its(&group.group_id)) {
                let group_id = group.group_id.clone();
                *group = DescribedGroup { error_code: code.into(), group_id, ..DescribedGroup::default() };
            }
        }
        Answer::DescribeConsumer(answer) => {
            for group in answer.groups.iter_mut().filter(|group| is_its(&group.group_id)) {
                let group_id = group.group_id.clone();
                *group = consumer::DescribedGroup {
                    error_code: code.into(),
                    group_id,
                    ..consumer::DescribedGroup::default()
                };
            }
        }
        Answer::Delete(answer) => {
            let results = answer.results.iter_mut().filter(|result| is_its(&result.group_id));
            results.for_each(|result| result.error_code = code.into());
        }
        Answer::Fetch(groups) => {
            for group in groups.iter_mut().filter(|group| is_its(&group.group_id)) {
                group.error_code = code.into();
                if version < GROUP_CODE_FROM {
                    refuse::fetched(&mut group.topics, code);
                } else {
                    group.topics = Vec::new();
                }
            }
        }
    }
}

/// Whether an answer of so many bytes may grow further.
fn has_room(bytes: usize) -> Result<(), ErrorCode> {
    if bytes < ANSWER_BYTES_MAX { Ok(()) } else { Err(ErrorCode::PolicyViolation) }
}

/// What a refusal says beside its code.
fn message(code: ErrorCode) -> Option<Str> {
    let is_full = code == ErrorCode::PolicyViolation;
    is_full.then(|| Str::from_static("The request asks for too much at once; ask in several parts."))
}

/// The groups that a request for offsets is about.
pub(super) fn groups_of(version: i16, request: OffsetFetchRequest) -> Vec<OffsetFetchRequestGroup> {
    if version >= SEVERAL_FROM {
        return request.groups;
    }
    let topics = request.topics.map(|topics| {
        let topics = topics.into_iter().map(|topic| OffsetFetchRequestTopics {
            name: topic.name,
            partition_indexes: topic.partition_indexes,
            ..OffsetFetchRequestTopics::default()
        });
        topics.collect()
    });
    vec![OffsetFetchRequestGroup { group_id: request.group_id, topics, ..OffsetFetchRequestGroup::default() }]
}

/// The answer for a group of which nothing can be told.
pub(super) fn refused_fetch(
    group: &OffsetFetchRequestGroup,
    version: i16,
    code: ErrorCode,
) -> OffsetFetchResponseGroup {
    let topics = if version < GROUP_CODE_FROM { refuse::fetch_topics(group, code) } else { Vec::new() };
    OffsetFetchResponseGroup { group_id: group.group_id.clone(), topics, error_code: code.into() }
}

fn response(version: i16, answer: Answer) -> Response {
    match answer {
        Answer::List(answer) => answer.into(),
        Answer::Describe(answer) => answer.into(),
        Answer::DescribeConsumer(answer) => answer.into(),
        Answer::Delete(answer) => answer.into(),
        Answer::Fetch(groups) => fetched(version, groups).into(),
    }
}

/// The answer for the groups of a request for offsets.
pub(super) fn fetched(version: i16, groups: Vec<OffsetFetchResponseGroup>) -> OffsetFetchResponse {
    if version >= SEVERAL_FROM {
        return OffsetFetchResponse { groups, ..OffsetFetchResponse::default() };
    }
    let group = groups.into_iter().next().expect("before version 8 a request is about one group");
    let topics = group.topics.into_iter().map(|topic| OffsetFetchResponseTopic {
        name: topic.name,
        partitions: topic
            .partitions
            .into_iter()
            .map(|partition| OffsetFetchResponsePartition {
                partition_index: partition.partition_index,
                committed_offset: partition.committed_offset,
                committed_leader_epoch: partition.committed_leader_epoch,
                metadata: partition.metadata,
                error_code: partition.error_code,
            })
            .collect(),
    });
    let topics = topics.collect();
    OffsetFetchResponse { topics, error_code: group.error_code, ..OffsetFetchResponse::default() }
}
