//! How a member comes to its target: the next state of what it owns, by what it is to own, what others still have, and
//! what it says that it owns itself (KIP-848, "Reconciliation").
//!
//! A member gives up before it is given. While it has not given up what its target takes away it stays in its epoch;
//! then it takes the target's epoch with all that is free, and the rest as others give it up. So a partition is owned
//! by at most one member at any time.

use crate::ids::TopicId;
use crate::wire::ErrorCode;
use crate::wire::consumer_group_heartbeat::TopicPartitions;

use super::member::{Current, Owned, Partitions, State};
use super::refusal::Refusal;

/// What a member's next state depends on.
pub(super) struct Reconciliation<'a> {
    /// What it owns.
    pub(super) current: &'a Current,
    /// What it is to own.
    pub(super) target: &'a Partitions,
    /// The epoch of the assignment that says so.
    pub(super) target_epoch: i32,
    /// What it says that it owns; `None` where it does not say.
    pub(super) claimed: Option<&'a [TopicPartitions]>,
    /// Whether its subscription has changed, so that it may own what it no longer subscribes to.
    pub(super) subscription_changed: bool,
}

impl Reconciliation<'_> {
    /// What the member owns next. `subscribes` tells whether it subscribes to a topic, `is_taken` whether another
    /// member has not given a partition up.
    ///
    /// # Errors
    /// Where the member must begin anew: its state was written by a later version.
    pub(super) fn next(
        &self,
        subscribes: impl Fn(TopicId) -> bool,
        is_taken: impl Fn(TopicId, i32) -> bool,
    ) -> Result<Current, Refusal> {
        let current = self.current;
        match current.state {
            State::Stable if current.epoch != self.target_epoch => Ok(self.towards_target(subscribes, is_taken)),
            State::Unrevoked if self.claims_any(&current.revoking) => {
                Ok(if self.subscription_changed { self.without_unsubscribed(subscribes) } else { current.clone() })
            }
            State::Stable => {
                Ok(if self.subscription_changed { self.without_unsubscribed(subscribes) } else { current.clone() })
            }
            State::Unrevoked | State::Unreleased => Ok(self.towards_target(subscribes, is_taken)),
            State::Unknown if self.claimed.is_some_and(<[TopicPartitions]>::is_empty) => {
                Ok(self.towards_target(subscribes, is_taken))
            }
            State::Unknown => Err(Refusal::new(
                ErrorCode::FencedMemberEpoch,
                "The consumer group member is in a unknown state. The member must abandon all its partitions and rejoin.",
            )),
        }
    }

    /// Whether the member may still own any of `partitions`. One that does not say what it owns may own all.
    fn claims_any(&self, partitions: &Owned) -> bool {
        let Some(claimed) = self.claimed else { return true };
        claimed.iter().any(|topic| {
            partitions
                .get(&topic.topic_id)
                .is_some_and(|of_topic| topic.partitions.iter().any(|partition| of_topic.contains_key(partition)))
        })
    }

    fn towards_target(&self, subscribes: impl Fn(TopicId) -> bool, is_taken: impl Fn(TopicId, i32) -> bool) -> Current {
        let mut kept = Owned::new();
        let mut revoking = Owned::new();
        for (topic, partitions) in &self.current.assigned {
            let target = self.target.get(topic).filter(|_| subscribes(*topic)).map_or(&[][..], Vec::as_slice);
            for (partition, since) in partitions {
                let to = if target.binary_search(partition).is_ok() { &mut kept } else { &mut revoking };
                to.entry(*topic).or_default().insert(*partition, *since);
            }
        }
        if !revoking.is_empty() && self.claims_any(&revoking) {
            return self.step(State::Unrevoked, self.current.epoch, kept, revoking);
        }

        let mut state = State::Stable;
        for (topic, partitions) in self.target.iter().filter(|(topic, _)| subscribes(**topic)) {
            for partition in partitions {
                if is_taken(*topic, *partition) {
                    state = State::Unreleased;
                } else {
                    let of_topic = kept.entry(*topic).or_default();
                    of_topic.entry(*partition).or_insert(self.target_epoch);
                }
            }
        }
        kept.retain(|_, partitions| !partitions.is_empty());
        self.step(state, self.target_epoch, kept, Owned::new())
    }

    /// Takes away what the member no longer subscribes to, whatever its target is.
    fn without_unsubscribed(&self, subscribes: impl Fn(TopicId) -> bool) -> Current {
        let current = self.current;
        let mut assigned = current.assigned.clone();
        let mut revoking = current.revoking.clone();
        for (topic, partitions) in &current.assigned {
            if !subscribes(*topic) {
                assigned.remove(topic);
                revoking.entry(*topic).or_default().extend(partitions);
            }
        }
        if assigned == current.assigned {
            current.clone()
        } else if self.claims_any(&revoking) {
            self.step(State::Unrevoked, current.epoch, assigned, revoking)
        } else {
            self.step(current.state, current.epoch, assigned, Owned::new())
        }
    }

    fn step(&self, state: State, epoch: i32, assigned: Owned, revoking: Owned) -> Current {
        Current { epoch, previous_epoch: self.current.epoch, state, assigned, revoking }
    }
}
