//! How an assignment is made for the group's epoch: its members are gathered, who is to own what is worked out, and what
//! changes is decided.
//!
//! ```text
//!         it is due                all are gathered               it is found               all is decided
//!  (rest) ─────────► Gathering ────────────────────► Asked ────────────────────► Deciding ─────────────────► (rest)
//! ```
//!
//! A small group does all of this in the step of the heartbeat that it is due with. A large one takes a slice in each
//! step, and has the rest worked out beside the sequencer ([`Question`](crate::group::Question)). Heartbeats and joins
//! that come meanwhile wait for its end, some ten milliseconds with 10,000 partitions: each is answered with what the
//! assignment gives it, as if it had been made in one step.
//!
//! The group lives on meanwhile. Where its epoch rises, the assignment is still that of the epoch that it was begun for,
//! and the next heartbeat begins another: so members who come one after the other do not keep all from being assigned.
//! Who has gone is given nothing. A crash, or a member that takes a step in the middle of the decisions, meets some of
//! the new targets under the epoch of the old ones. That does no harm: what is owned follows from who has given up what,
//! never from targets alone, and the group's epoch is ahead of its assignment's until the last decision.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use crate::boundary::ReplyTo;
use crate::group::question::Asked;
use crate::group::record::{ConsumerGroupTargetAssignmentMetadataValue, Key, Value};
use crate::group::{Context, Settings, TimerKind};
use crate::time::Instant;
use crate::wire::consumer_group_heartbeat::{ConsumerGroupHeartbeatResponse, TopicPartitions};
use crate::wire::{ErrorCode, Response, Str};

use super::Group;
use super::assign::{Assigned, Assigning, Assignor, Candidate, Topic};
use super::member::{About, Partitions, target_value};
use super::refusal::Refusal;

/// Up to so many members and partitions together a group is assigned in one step, at somewhat more than a microsecond
/// each.
const WORK_IN_STEP: usize = 64;

/// How many members are gathered in one step: a look-up and a few shared values each.
const GATHERED_AT_ONCE: usize = 256;

/// How many members and partitions together are given targets, or what they may own, in one step; one member's more, if
/// it alone has more. Each takes a part of the microsecond that an assignment takes in all.
const DECIDED_AT_ONCE: usize = 256;

/// Up to so many members and partitions together a group is assigned anew whenever that is due.
const WORK_AT_ONCE: u32 = 2_000;

/// How long a larger group waits from one assignment to the next, for each member and partition. One takes about a
/// microsecond, so a group takes a hundredth of the coordinator's time at most: with 10,000 partitions a second passes.
const PAUSE_PER_WORK: Duration = Duration::from_micros(100);

/// Whether an assignment for the group's epoch is in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Made {
    /// It is, or the next one is not due yet.
    Now,
    /// It is being made: whoever asks waits.
    Soon,
}

/// The assignment that is being made, and who waits for it.
#[derive(Debug, Default)]
pub(super) struct Making {
    stage: Option<Stage>,
    waiting: VecDeque<Waiting>,
    /// Those that need not wait any more, with what they are refused for, if they are.
    ready: VecDeque<(Waiting, Option<Refusal>)>,
}

#[derive(Debug)]
enum Stage {
    Gathering(Box<Gathering>),
    /// Who is to own what is worked out, under this number.
    Asked {
        number: u64,
        epoch: i32,
        work: u32,
    },
    /// These targets are still to be decided.
    Deciding {
        epoch: i32,
        work: u32,
        changed: VecDeque<(Str, Partitions)>,
    },
}

/// A member whose request waits for the assignment.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) to: ReplyTo,
    pub(super) member: Str,
    /// What it says that it owns; `None` where it does not say.
    pub(super) claimed: Option<Vec<TopicPartitions>>,
    pub(super) subscription_changed: bool,
    pub(super) asks: Asks,
}

/// What a waiting member asks.
#[derive(Debug)]
pub(super) enum Asks {
    /// ConsumerGroupHeartbeat, and whether it is told what it may own in any case.
    Heartbeat { tells: bool },
    /// JoinGroup: the protocol that it names first, and how long it may take to sync.
    Join { protocol: Option<Str>, wait: Duration },
}

/// Who takes part in an assignment, as far as it has been gathered.
#[derive(Debug)]
struct Gathering {
    epoch: i32,
    topics: Vec<Topic>,
    /// The topics' places by their names.
    places: BTreeMap<Str, usize>,
    members: Vec<Candidate>,
    /// How many members ask for each assignor.
    votes: BTreeMap<Str, usize>,
    /// The member that was gathered last.
    after: Option<Str>,
    /// What that subscribes to. Most groups have one subscription: it is put into places once.
    last: Option<(About, Arc<[usize]>)>,
}

impl Gathering {
    fn work(&self, members: usize) -> usize {
        members + self.topics.iter().map(|topic| topic.partitions as usize).sum::<usize>()
    }

    /// The question of who is to own what. The assignor is the one that most members ask for, the first by name of
    /// several; where nobody asks, the first that there is.
    fn into_question(self, settings: &Settings) -> Assigning {
        let preferred = self.votes.into_iter().rev().max_by_key(|(_, count)| *count);
        let assignor = preferred.and_then(|(name, _)| Assignor::by_name(&name));
        let default = || settings.consumer_assignors.first().and_then(|name| Assignor::by_name(name));
        let assignor = assignor.or_else(default).unwrap_or(Assignor::Uniform);
        Assigning { assignor, topics: self.topics, members: self.members }
    }
}

impl Group {
    /// Makes the assignment for the group's epoch if there is none yet: decides what each member is to own.
    ///
    /// So that a large group whose members come one after the other does not keep the coordinator busy, its next
    /// assignment waits for the first heartbeat after a while ([`PAUSE_PER_WORK`]).
    ///
    /// # Errors
    /// Where a member would be to own more than a record holds. The assignment before stays in force.
    pub(super) fn assign(&mut self, ctx: &mut Context<'_>) -> Result<Made, Refusal> {
        if self.making.stage.is_some() {
            return Ok(Made::Soon);
        }
        if self.epoch <= self.assignment_epoch || self.next_assignment.is_some_and(|at| ctx.now.instant < at) {
            return Ok(Made::Now);
        }
        let mut gathering = self.begin_gathering(ctx);
        if gathering.work(self.members.len()) > WORK_IN_STEP {
            self.making.stage = Some(Stage::Gathering(Box::new(gathering)));
            self.assign_on_soon(ctx);
            return Ok(Made::Soon);
        }
        self.gather(ctx, &mut gathering, usize::MAX);
        let Assigned { changed, bytes_max } = gathering.into_question(ctx.settings).assign();
        self.check_targets(ctx, bytes_max)?;
        let mut changed = changed.into();
        self.decide_targets(ctx, &mut changed, usize::MAX);
        self.end_assigning(ctx, self.epoch, 0);
        Ok(Made::Now)
    }

    /// Lets a member's request wait until the assignment that is being made is in force.
    pub(super) fn wait_for_assignment(&mut self, waiting: Waiting) {
        assert!(self.making.stage.is_some(), "nobody waits for what nobody makes");
        self.making.waiting.push_back(waiting);
    }

    /// Whether an assignment is being made, or somebody is to be told of one.
    #[cfg(test)]
    pub(super) fn is_assigning(&self) -> bool {
        self.making.stage.is_some() || !self.making.ready.is_empty()
    }

    /// Goes on with the assignment that is being made, for one step.
    pub(super) fn assigning_due(&mut self, ctx: &mut Context<'_>) {
        if self.making.ready.is_empty() {
            self.assign_some(ctx);
        } else {
            self.answer_some(ctx);
        }
        let goes_on = matches!(self.making.stage, Some(Stage::Gathering(_) | Stage::Deciding { .. }));
        if goes_on || !self.making.ready.is_empty() {
            self.assign_on_soon(ctx);
        }
    }

    /// It has been worked out who is to own what.
    pub(super) fn take_assignment(&mut self, ctx: &mut Context<'_>, asked: u64, assigned: Assigned) {
        let Some(Stage::Asked { number, epoch, work }) = self.making.stage else { return };
        if number != asked {
            return;
        }
        let Assigned { changed, bytes_max } = assigned;
        self.making.stage = match self.check_targets(ctx, bytes_max) {
            Ok(()) => Some(Stage::Deciding { epoch, work, changed: changed.into() }),
            Err(refusal) => {
                self.make_ready(Some(&refusal));
                None
            }
        };
        self.assign_on_soon(ctx);
    }

    /// A member goes, for good or for a while: what it waits for is not for it any more.
    pub(super) fn refuse_waiting(&mut self, ctx: &mut Context<'_>, member: &Str) {
        let Making { waiting, ready, .. } = &mut self.making;
        if waiting.is_empty() && ready.is_empty() {
            return;
        }
        let mut gone = Vec::new();
        waiting.retain_mut(|one| *one.member != **member || keep_not(&mut gone, one));
        ready.retain_mut(|(one, _)| *one.member != **member || keep_not(&mut gone, one));
        for (to, asks) in gone {
            let refusal = Refusal::new(ErrorCode::UnknownMemberId, "The member has left the group.");
            ctx.out.replies.push((to, refused(to, &asks, member, refusal)));
        }
    }

    /// Ends the making of an assignment, and refuses all that wait for it.
    pub(super) fn stop_assigning(&mut self, code: ErrorCode) -> Vec<(ReplyTo, Response)> {
        let Making { waiting, ready, .. } = std::mem::take(&mut self.making);
        let all = waiting.into_iter().chain(ready.into_iter().map(|(waiting, _)| waiting));
        all.map(|one| (one.to, refused(one.to, &one.asks, &one.member, Refusal::new(code, code.name())))).collect()
    }

    fn assign_on_soon(&self, ctx: &mut Context<'_>) {
        ctx.call_after(&self.name, TimerKind::Assigning, Duration::ZERO);
    }

    fn assign_some(&mut self, ctx: &mut Context<'_>) {
        self.making.stage = match self.making.stage.take() {
            // Nobody is left who would be given anything.
            _ if self.members.is_empty() => {
                self.make_ready(None);
                None
            }
            Some(Stage::Gathering(mut gathering)) => {
                if gathering.after.is_none() && gathering.epoch != self.epoch {
                    *gathering = self.begin_gathering(ctx);
                }
                if self.gather(ctx, &mut gathering, GATHERED_AT_ONCE) {
                    let epoch = gathering.epoch;
                    let work = u32::try_from(gathering.work(gathering.members.len())).unwrap_or(u32::MAX);
                    let question = gathering.into_question(ctx.settings);
                    let number = ctx.ask(&self.name, Asked::Assignment(question));
                    Some(Stage::Asked { number, epoch, work })
                } else {
                    Some(Stage::Gathering(gathering))
                }
            }
            Some(Stage::Deciding { epoch, work, mut changed }) => {
                self.decide_targets(ctx, &mut changed, DECIDED_AT_ONCE);
                if changed.is_empty() {
                    self.end_assigning(ctx, epoch, work);
                    self.make_ready(None);
                    None
                } else {
                    Some(Stage::Deciding { epoch, work, changed })
                }
            }
            other => other,
        };
    }

    fn begin_gathering(&self, ctx: &Context<'_>) -> Gathering {
        let mut topics: Vec<(Topic, Str)> = Vec::new();
        for name in self.subscribed() {
            if let Some((id, partitions)) = ctx.topics.by_name(name) {
                topics.push((Topic { id, partitions }, name.clone()));
            }
        }
        topics.sort_unstable_by_key(|(topic, _)| topic.id);
        let places = topics.iter().enumerate().map(|(at, (_, name))| (name.clone(), at)).collect();
        Gathering {
            epoch: self.epoch,
            topics: topics.into_iter().map(|(topic, _)| topic).collect(),
            places,
            members: Vec::new(),
            votes: BTreeMap::new(),
            after: None,
            last: None,
        }
    }

    /// Gathers so many members. Returns whether those were the last. What the log says of members that are not there is
    /// taken out of it on the way.
    fn gather(&mut self, ctx: &mut Context<'_>, gathering: &mut Gathering, count: usize) -> bool {
        let behind = match gathering.after.take() {
            Some(after) => Bound::Excluded(after),
            None => Bound::Unbounded,
        };
        let mut members = self.members.range::<Str, _>((behind.as_ref(), Bound::Unbounded));
        let mut last = None;
        for (id, member) in members.by_ref().take(count) {
            let about = &member.about;
            let topics = match &gathering.last {
                Some((last, topics)) if last.topics == about.topics && last.regex == about.regex => topics.clone(),
                _ => {
                    let topics: Arc<[usize]> = self.places_of(about, &gathering.places).into();
                    gathering.last = Some((about.clone(), topics.clone()));
                    topics
                }
            };
            if let Some(assignor) = &about.assignor {
                *gathering.votes.entry(assignor.clone()).or_default() += 1;
            }
            let before = self.targets.get(id).cloned();
            gathering.members.push(Candidate {
                id: id.clone(),
                instance_id: about.instance_id.clone(),
                topics,
                before,
            });
            last = Some(id);
        }
        let is_last = members.next().is_none();
        let last = last.filter(|_| !is_last).cloned();
        let until = last.as_ref().map_or(Bound::Unbounded, Bound::Included);
        let of_nobody = self.targets.range::<Str, _>((behind.as_ref(), until));
        let gone: Vec<Str> =
            of_nobody.map(|(id, _)| id).filter(|id| !self.members.contains_key(*id)).cloned().collect();
        for member in gone {
            self.decide(ctx, Key::TargetAssignmentMember { group: self.name.clone(), member }, None);
        }
        gathering.after = last;
        is_last
    }

    fn check_targets(&self, ctx: &Context<'_>, bytes_max: usize) -> Result<(), Refusal> {
        if bytes_max > ctx.settings.record_bytes_max {
            let message = format!("Failed to compute a new target assignment for epoch {}", self.epoch);
            return Err(Refusal::new(ErrorCode::UnknownServerError, message));
        }
        Ok(())
    }

    /// Decides the next targets, of about so many members and partitions together.
    fn decide_targets(&mut self, ctx: &mut Context<'_>, changed: &mut VecDeque<(Str, Partitions)>, budget: usize) {
        let mut left = budget;
        while left > 0
            && let Some((member, target)) = changed.pop_front()
        {
            left = left.saturating_sub(1 + size_of(&target));
            if self.members.contains_key(&member) {
                let key = Key::TargetAssignmentMember { group: self.name.clone(), member };
                self.decide(ctx, key, Some(Value::TargetAssignmentMember(target_value(&target))));
            }
        }
    }

    /// The assignment is in force.
    fn end_assigning(&mut self, ctx: &mut Context<'_>, assignment_epoch: i32, work: u32) {
        self.next_assignment = (work > WORK_AT_ONCE).then(|| -> Instant { ctx.now.instant + PAUSE_PER_WORK * work });
        let assignment_timestamp = ctx.now.wall.0;
        let value = ConsumerGroupTargetAssignmentMetadataValue { assignment_epoch, assignment_timestamp };
        self.decide(ctx, Key::TargetAssignment { group: self.name.clone() }, Some(Value::TargetAssignment(value)));
    }

    /// Nobody waits any more.
    fn make_ready(&mut self, refusal: Option<&Refusal>) {
        let Making { waiting, ready, .. } = &mut self.making;
        ready.extend(waiting.drain(..).map(|waiting| (waiting, refusal.cloned())));
    }

    /// Answers some of those that need not wait any more.
    fn answer_some(&mut self, ctx: &mut Context<'_>) {
        let mut left = DECIDED_AT_ONCE;
        while left > 0
            && let Some((waiting, refusal)) = self.making.ready.pop_front()
        {
            let held = self.members.get(&waiting.member).map_or(0, |member| member.current.held().count());
            let target = self.targets.get(&waiting.member).map_or(0, |target| size_of(target));
            left = left.saturating_sub(1 + held + target);
            let response = match refusal {
                Some(refusal) => refused(waiting.to, &waiting.asks, &waiting.member, refusal),
                None => self.go_on(ctx, &waiting),
            };
            ctx.out.replies.push((waiting.to, response));
        }
    }

    fn go_on(&mut self, ctx: &mut Context<'_>, waiting: &Waiting) -> Response {
        let Waiting { to, member, claimed, subscription_changed, asks } = waiting;
        assert!(self.members.contains_key(member), "who goes waits no more");
        let claimed = claimed.as_deref();
        let answer: Result<Response, Refusal> = match asks {
            Asks::Heartbeat { tells } => {
                self.beaten(ctx, member, claimed, *subscription_changed, *tells).map(Response::from)
            }
            Asks::Join { protocol, wait } => {
                self.rejoined(ctx, member, claimed, *subscription_changed, protocol.clone(), *wait).map(Response::from)
            }
        };
        answer.unwrap_or_else(|refusal| refused(*to, asks, member, refusal))
    }

    fn places_of(&self, about: &About, places: &BTreeMap<Str, usize>) -> Vec<usize> {
        let resolved = about.regex.as_ref().and_then(|regex| self.resolved.get(regex));
        let by_expression = resolved.into_iter().flat_map(|resolved| &resolved.topics);
        let topics: BTreeSet<usize> =
            about.topics.iter().chain(by_expression).filter_map(|name| places.get(name).copied()).collect();
        topics.into_iter().collect()
    }
}

/// How many partitions there are.
fn size_of(partitions: &Partitions) -> usize {
    partitions.values().map(Vec::len).sum()
}

/// Takes one that goes: it is not kept.
fn keep_not(gone: &mut Vec<(ReplyTo, Asks)>, one: &mut Waiting) -> bool {
    gone.push((one.to, std::mem::replace(&mut one.asks, Asks::Heartbeat { tells: false })));
    false
}

fn refused(to: ReplyTo, asks: &Asks, member: &Str, refusal: Refusal) -> Response {
    match asks {
        Asks::Heartbeat { .. } => ConsumerGroupHeartbeatResponse::from(refusal).into(),
        Asks::Join { .. } => super::classic_members::join_refused(to.version, refusal.code, member.clone()).into(),
    }
}
