//! A member's side of the protocol, whichever that is.

use chronik_core::time::Instant;
use chronik_core::wire::{ErrorCode, Request, Response, Str};

use crate::client::Wanted;
use crate::client::group::classic::Classic;
use crate::client::group::next::Next;
use crate::client::group::offsets::Credentials;
use crate::client::group::{Sight, Told};
use crate::history::Place;

/// Its side of the protocol.
#[derive(Debug)]
pub(super) enum Role {
    Classic(Classic),
    Next(Next),
}

impl Role {
    pub(super) fn is_in(&self) -> bool {
        match self {
            Role::Classic(classic) => classic.is_in(),
            Role::Next(next) => next.is_in(),
        }
    }

    pub(super) fn is_leaving(&self) -> bool {
        match self {
            Role::Classic(classic) => classic.is_leaving(),
            Role::Next(next) => next.is_leaving(),
        }
    }

    pub(super) fn is_stable(&self) -> bool {
        match self {
            Role::Classic(classic) => classic.is_stable(),
            Role::Next(next) => next.is_stable(),
        }
    }

    pub(super) fn lacks_topics(&self) -> bool {
        matches!(self, Role::Next(next) if next.lacks_topics())
    }

    /// What it reads, in order.
    pub(super) fn owned(&self) -> Vec<Place> {
        let mut owned: Vec<Place> = match self {
            Role::Classic(classic) => classic.owned().collect(),
            Role::Next(next) => next.owned().collect(),
        };
        owned.sort_unstable();
        owned
    }

    /// In whose name it commits, while it is in a generation or an epoch.
    pub(super) fn credentials(&self, instance: Option<&Str>) -> Option<Credentials> {
        let (number, member) = match self {
            Role::Classic(classic) => (classic.generation(), classic.member()),
            Role::Next(next) => (next.epoch(), next.member()),
        };
        (number > 0).then(|| Credentials { number, member: member.clone(), instance: instance.cloned() })
    }

    pub(super) fn join(&mut self, sight: &Sight<'_>, index: u32) {
        match self {
            Role::Classic(classic) => classic.join(),
            Role::Next(next) => next.join(sight, index),
        }
    }

    pub(super) fn resubscribe(&mut self) {
        if let Role::Classic(classic) = self {
            classic.rejoin();
        }
    }

    pub(super) fn leave(&mut self, sight: &Sight<'_>, wanted: &mut Vec<Wanted>) {
        match self {
            Role::Classic(classic) => classic.leave(sight, wanted),
            Role::Next(next) => next.leave(sight, wanted),
        }
    }

    pub(super) fn forget(&mut self, sight: &Sight<'_>, wanted: &mut Vec<Wanted>) {
        match self {
            Role::Classic(classic) => classic.forget(sight, wanted),
            Role::Next(next) => next.forget(sight, wanted),
        }
    }

    pub(super) fn fenced(&mut self, sight: &Sight<'_>, code: ErrorCode, wanted: &mut Vec<Wanted>) -> Told {
        match self {
            Role::Classic(classic) => classic.fenced(sight, code, wanted),
            Role::Next(next) => next.fenced(sight, code, wanted),
        }
    }

    pub(super) fn hurry(&mut self, now: Instant) {
        if let Role::Next(next) = self {
            next.hurry(now);
        }
    }

    pub(super) fn topics_learned(&mut self, sight: &Sight<'_>, wanted: &mut Vec<Wanted>) {
        match self {
            Role::Classic(classic) => classic.topics_learned(sight),
            Role::Next(next) => next.topics_learned(sight, wanted),
        }
    }

    pub(super) fn due_at(&self, subscribed: &[usize]) -> Option<Instant> {
        match self {
            Role::Classic(classic) => classic.due_at(),
            Role::Next(next) => next.due_at(subscribed),
        }
    }

    pub(super) fn request(&mut self, sight: &Sight<'_>, wanted: &mut Vec<Wanted>) -> (Request, i16) {
        match self {
            Role::Classic(classic) => classic.request(sight, wanted),
            Role::Next(next) => next.request(sight, wanted),
        }
    }

    pub(super) fn lost(&mut self, sight: &Sight<'_>, wanted: &mut Vec<Wanted>) {
        match self {
            Role::Classic(classic) => classic.lost(sight, wanted),
            Role::Next(next) => next.lost(sight, wanted),
        }
    }

    pub(super) fn take(
        &mut self,
        sight: &Sight<'_>,
        now: Instant,
        asked_at: Instant,
        response: &Response,
        wanted: &mut Vec<Wanted>,
    ) -> Result<Told, String> {
        match self {
            Role::Classic(classic) => classic.take(sight, now, asked_at, response, wanted),
            Role::Next(next) => next.take(sight, now, asked_at, response, wanted),
        }
    }
}
