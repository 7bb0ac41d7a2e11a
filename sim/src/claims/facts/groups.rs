//! Consumer groups as their clients saw them: what happened in each, and when somebody surely was a member.
//!
//! A member is one for sure from an answer that says so on until its session may be over, counted from when it asked;
//! a rebalance that it takes no part in may end it, too, and so may whoever takes its place or takes it out.

use std::collections::BTreeMap;
use std::time::Duration;

use chronik_core::time::Instant;

use crate::history::{ClientId, Event, InGroup, What};
use crate::plan::{ClientKind, FaultKind, Plan};

/// What takes a member out may be on its way for so long, and take it out when it arrives.
const ON_ITS_WAY: Duration = Duration::from_secs(15);
/// Clocks that drift make any time span shorter by at most this part of it.
const DRIFT: u32 = 1_000;
/// A member of the next protocol may be silent for so long where the plan says nothing else.
const SESSION: Duration = Duration::from_secs(45);

/// All groups of a run by number.
#[derive(Debug, Default)]
pub(in crate::claims) struct Groups(BTreeMap<u32, Group>);

/// A group.
#[derive(Debug, Default)]
pub(in crate::claims) struct Group {
    /// The events that are about it.
    pub events: Vec<usize>,
    /// When members were taken out by others, or replaced: when, by whom, which static member.
    taken: Vec<(Instant, ClientId, u32)>,
    /// When who surely was a member, and of which topics it had partitions, if it had any.
    lives: Vec<Life>,
    /// Since when it is kept also while it is empty, so that its numbers do not begin again: it has offsets, and nobody
    /// deletes them or lets them expire. One that changes its protocol begins again all the same.
    pub kept_since: Option<Instant>,
    /// Whether all its members are of one protocol.
    pub is_pure: bool,
    /// Whether it has static members.
    pub has_static: bool,
}

/// A time for which somebody surely was a member.
#[derive(Debug)]
struct Life {
    client: ClientId,
    from: Instant,
    to: Instant,
    topics: Vec<u32>,
}

impl Groups {
    pub(super) fn of(plan: &Plan, events: &[Event]) -> Groups {
        let mut groups = Groups::default();
        for (index, event) in events.iter().enumerate() {
            if let What::Group { group, what } = &event.what {
                let known = groups.0.entry(*group).or_insert_with(|| Group::new(plan, *group));
                known.events.push(index);
                match what {
                    InGroup::Joins { instance: Some(instance) } | InGroup::Leaves { instance: Some(instance) } => {
                        known.taken.push((event.at, event.client, *instance));
                    }
                    _ => {}
                }
            }
        }
        // A topic takes the offsets in it with it.
        let loses_offsets = plan.node.broker.contains_key("offsets.retention.minutes")
            || events
                .iter()
                .any(|event| matches!(event.what, What::DeleteTopic { .. } | What::Fault(FaultKind::ClockStep { .. })));
        for group in groups.0.values_mut() {
            group.live(plan, events);
            if !loses_offsets && group.is_pure {
                group.kept(events);
            }
        }
        groups
    }

    pub(in crate::claims) fn all(&self) -> impl Iterator<Item = (u32, &Group)> {
        self.0.iter().map(|(number, group)| (*number, group))
    }
}

impl Group {
    fn new(plan: &Plan, number: u32) -> Group {
        let members = plan.clients.iter().filter_map(|client| match client.kind {
            ClientKind::Member { group, protocol, instance, .. } if group == number => {
                Some((protocol.is_next(), instance.is_some()))
            }
            _ => None,
        });
        let (members, are_static): (Vec<bool>, Vec<bool>) = members.unzip();
        let has_static = are_static.contains(&true);
        let is_pure = members.windows(2).all(|pair| pair[0] == pair[1]);
        Group { is_pure, has_static, ..Group::default() }
    }

    /// Finds since when it has offsets that stay.
    fn kept(&mut self, events: &[Event]) {
        for &index in &self.events {
            match &events[index].what {
                What::Group { what: InGroup::Delete { .. }, .. } => {
                    self.kept_since = None;
                    return;
                }
                What::Group { what: InGroup::Taken { .. }, .. } => {
                    self.kept_since.get_or_insert(events[index].at);
                }
                _ => {}
            }
        }
    }

    /// Whether it is the same group at both times, and did not begin again meanwhile.
    pub(in crate::claims) fn is_same(&self, from: Instant, to: Instant) -> bool {
        self.kept_since.is_some_and(|since| since <= from) || self.is_live(from, to, None)
    }

    /// Finds when who was a member.
    fn live(&mut self, plan: &Plan, events: &[Event]) {
        // By client, the topics that it has partitions of.
        let mut topics: BTreeMap<ClientId, Vec<u32>> = BTreeMap::new();
        for &index in &self.events {
            let Event { at, client, what: What::Group { what, .. }, .. } = &events[index] else { continue };
            let asked_at = match what {
                InGroup::Assigned { asked_at, places, .. } => {
                    let mut of: Vec<u32> = places.iter().map(|place| place.topic).collect();
                    of.dedup();
                    topics.insert(*client, of);
                    *asked_at
                }
                InGroup::Alive { asked_at, .. } => *asked_at,
                InGroup::Joins { .. } | InGroup::Leaves { instance: None } | InGroup::Fenced { .. } => {
                    // From here on it may be another member, or none.
                    for life in self.lives.iter_mut().filter(|life| life.client == *client) {
                        life.to = life.to.min(*at);
                    }
                    continue;
                }
                _ => continue,
            };
            let to = asked_at + patience(plan, *client);
            if *at < to && !self.may_be_taken(plan, *client, asked_at, to) {
                let topics = topics.get(client).cloned().unwrap_or_default();
                self.lives.push(Life { client: *client, from: *at, to, topics });
            }
        }
        self.lives.retain(|life| life.from < life.to);
        self.lives.sort_by_key(|life| life.from);
    }

    /// Whether somebody surely was a member all that time; of a topic's readers, where that is asked for.
    pub(in crate::claims) fn is_live(&self, from: Instant, to: Instant, topic: Option<u32>) -> bool {
        let mut until = from;
        let counts = |life: &&Life| topic.is_none_or(|topic| life.topics.contains(&topic));
        for life in self.lives.iter().filter(counts) {
            if life.from > until {
                break;
            }
            until = until.max(life.to);
        }
        until > to
    }

    /// When somebody was a member last, before some time; a reader of a topic, where that is asked for.
    pub(in crate::claims) fn last_live(&self, topic: Option<u32>, before: Instant) -> Option<Instant> {
        let is_asked_for = |life: &&Life| topic.is_none_or(|topic| life.topics.contains(&topic));
        let counts = |life: &&Life| life.from < before && is_asked_for(life);
        self.lives.iter().filter(counts).map(|life| life.to.min(before)).max()
    }

    /// Whether a client may have been taken out or replaced, as the static member that it is, in that time.
    pub(in crate::claims) fn may_be_taken(&self, plan: &Plan, client: ClientId, from: Instant, to: Instant) -> bool {
        let Some(ClientKind::Member { instance: Some(own), .. }) =
            plan.clients.get(client.0 as usize).map(|plan| &plan.kind)
        else {
            return false;
        };
        let strikes = |&(at, by, instance): &(Instant, ClientId, u32)| {
            instance == *own && by != client && at <= to && at + ON_ITS_WAY >= from
        };
        self.taken.iter().any(strikes)
    }
}

/// How long a member surely is one after it asked for something that was answered well.
pub(in crate::claims) fn patience(plan: &Plan, client: ClientId) -> Duration {
    let Some(ClientKind::Member { rebalance_timeout_ms, .. }) = kind(plan, client) else { return Duration::ZERO };
    let patience = session(plan, client).min(Duration::from_millis(*rebalance_timeout_ms));
    patience - patience / DRIFT
}

/// How long a member surely has to give up what it is asked to, from when it is asked.
pub(in crate::claims) fn rebalance_patience(plan: &Plan, client: ClientId) -> Duration {
    let Some(ClientKind::Member { rebalance_timeout_ms, .. }) = kind(plan, client) else { return Duration::ZERO };
    let patience = Duration::from_millis(*rebalance_timeout_ms);
    patience - patience / DRIFT
}

/// How long a member may be silent.
pub(in crate::claims) fn session(plan: &Plan, client: ClientId) -> Duration {
    let Some(ClientKind::Member { protocol, session_timeout_ms, .. }) = kind(plan, client) else {
        return Duration::ZERO;
    };
    let of_broker = plan.node.broker.get("group.consumer.session.timeout.ms").and_then(|text| text.parse().ok());
    match protocol.is_next() {
        true => of_broker.map_or(SESSION, Duration::from_millis),
        false => Duration::from_millis(*session_timeout_ms),
    }
}

fn kind(plan: &Plan, client: ClientId) -> Option<&ClientKind> {
    plan.clients.get(client.0 as usize).map(|plan| &plan.kind)
}
