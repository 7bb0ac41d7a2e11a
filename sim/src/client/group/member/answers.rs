//! What a member makes of the answers that it gets.

use chronik_core::ids::TopicPartition;
use chronik_core::time::Instant;
use chronik_core::wire::fetch::FetchResponse;
use chronik_core::wire::{ErrorCode, Response};

use super::{Asked, Member};
use crate::client::caller::Outcome;
use crate::client::group::{Told, found, of_coordinator, offsets};
use crate::client::lane::is_about_topic;
use crate::client::reading::{EARLIEST, Fetching, Sought, known_code, listed};
use crate::client::{ClientNow, Wanted};
use crate::history::{InGroup, Place, Tag};

/// An operation that is answered with so many errors is given up.
const ERRORS_MAX: u32 = 4;

impl Member {
    pub(super) fn take(&mut self, now: ClientNow, outcome: Outcome, wanted: &mut Vec<Wanted>) -> Result<(), String> {
        let Some(asked) = self.asked.take() else { return Ok(()) };
        let Outcome::Answered(at, response) = outcome else {
            // A coordinator that does not answer may be another one by now.
            self.coordinator = None;
            self.topics_at = None;
            if let Asked::Membership = asked {
                self.with(|role, sight| role.lost(sight, wanted));
            }
            if let Asked::Commit { .. } = asked {
                self.finish(false, None, wanted);
            }
            return Ok(());
        };
        match (asked, response) {
            (Asked::Coordinator, Response::FindCoordinator(response)) => {
                self.coordinator = found(&self.group, &response)?.ok();
                if self.coordinator.is_none() {
                    self.caller.back_off(now);
                }
                Ok(())
            }
            (Asked::Metadata, Response::Metadata(response)) => {
                self.topics.learn(&response, wanted)?;
                self.topics_at = Some(now.instant);
                self.with(|role, sight| role.topics_learned(sight, wanted));
                Ok(())
            }
            (Asked::Membership, response) => {
                let told = self.with(|role, sight| role.take(sight, now.instant, at, &response, wanted))?;
                self.told(now, told, wanted);
                Ok(())
            }
            (Asked::Offsets { version, places }, Response::OffsetFetch(response)) => {
                match offsets::fetched(version, &self.group, Some(&places), &response, &self.topics)? {
                    Ok(committed) => {
                        for known in &committed {
                            if let Some(part) = self.parts.get_mut(&known.place) {
                                part.position = known.tag.map(|_| known.offset);
                                part.has_no_commit = known.tag.is_none();
                            }
                        }
                        let what = InGroup::Offsets { asked_at: at, committed, is_all: false };
                        wanted.push(self.record(self.operation(), what));
                    }
                    Err(code) => self.failed(now, code, wanted)?,
                }
                Ok(())
            }
            (Asked::Starts(sought), Response::ListOffsets(response)) => {
                let offsets = listed(&sought, EARLIEST, at, &response, self.operation(), wanted)?;
                let mut failed = None;
                for (Sought { partition, .. }, offset) in sought.iter().zip(offsets) {
                    match (self.parts.values_mut().find(|part| part.id == *partition), offset) {
                        (Some(part), Ok(offset)) => part.position = Some(offset),
                        (_, Err(code)) => failed = Some(code),
                        (None, Ok(_)) => {}
                    }
                }
                failed.map_or(Ok(()), |code| self.failed(now, code, wanted))
            }
            (Asked::Fetch(places), Response::Fetch(response)) => self.fetched(now, &places, at, &response, wanted),
            (Asked::Commit { version, tag, is_stale, offsets }, Response::OffsetCommit(response)) => {
                let told = offsets::committed(version, &offsets, &response, &self.topics)?;
                self.committed(now, tag, is_stale, &told, wanted)
            }
            (_, response) => unreachable!("{} is decoded as what was asked", response.api_key()),
        }
    }

    fn told(&mut self, now: ClientNow, told: Told, wanted: &mut Vec<Wanted>) {
        let code = match told {
            Told::Again => Some(ErrorCode::CoordinatorLoadInProgress),
            Told::Elsewhere => Some(ErrorCode::NotCoordinator),
            _ => None,
        };
        wanted.extend(code.map(|code| self.record(None, InGroup::TurnedAway { code })));
        self.is_barred = matches!(told, Told::Barred | Told::Out);
        match told {
            Told::Well => return self.caller.go_on(),
            Told::Later | Told::Again | Told::Barred | Told::Out => {}
            Told::Elsewhere => self.coordinator = None,
        }
        self.caller.back_off(now);
    }

    fn committed(
        &mut self,
        now: ClientNow,
        tag: Tag,
        is_stale: bool,
        told: &[(Place, ErrorCode)],
        wanted: &mut Vec<Wanted>,
    ) -> Result<(), String> {
        let with = |wanted_code: ErrorCode| {
            told.iter().filter(move |(_, code)| *code == wanted_code).map(|(place, _)| *place).collect::<Vec<Place>>()
        };
        let taken = with(ErrorCode::None);
        if !taken.is_empty() {
            wanted.push(self.record(self.operation(), InGroup::Taken { tag, places: taken }));
        }
        let mut codes: Vec<ErrorCode> =
            told.iter().map(|(_, code)| *code).filter(|code| *code != ErrorCode::None).collect();
        codes.sort_unstable_by_key(|code| code.code());
        codes.dedup();
        for &code in codes.iter().filter(|code| offsets::is_declined(**code)) {
            wanted.push(self.record(self.operation(), InGroup::Declined { tag, code, places: with(code) }));
        }
        match codes.first() {
            None => {
                self.finish(true, None, wanted);
                Ok(())
            }
            // It knew that.
            Some(code) if is_stale && of_coordinator(*code).is_none() => {
                self.finish(true, Some(*code), wanted);
                Ok(())
            }
            Some(code) => self.failed(now, *code, wanted),
        }
    }

    /// What was asked for the operation's sake was answered with an error.
    fn failed(&mut self, now: ClientNow, code: ErrorCode, wanted: &mut Vec<Wanted>) -> Result<(), String> {
        use ErrorCode as E;
        let mut is_over = false;
        match code {
            code if of_coordinator(code).is_some() => {
                wanted.push(self.record(self.operation(), InGroup::TurnedAway { code }));
                self.coordinator.take_if(|_| of_coordinator(code) != Some(Told::Again));
            }
            E::UnknownMemberId | E::IllegalGeneration | E::FencedInstanceId | E::RebalanceInProgress => {
                let told = self.with(|role, sight| role.fenced(sight, code, wanted));
                self.is_barred |= told == Told::Out;
                is_over = true;
            }
            // The next heartbeat tells the epoch.
            E::StaleMemberEpoch | E::GroupIdNotFound => {
                self.role.hurry(now.instant);
                is_over = true;
            }
            code if is_about_topic(code) => {
                self.topics_at = None;
                is_over = true;
            }
            E::KafkaStorageError | E::OffsetNotAvailable | E::RequestTimedOut | E::OffsetOutOfRange => {}
            code => return Err(format!("a member is answered with {code}")),
        }
        self.caller.back_off(now);
        if let Some(doing) = &mut self.doing {
            doing.errors += 1;
            if is_over || doing.errors >= ERRORS_MAX {
                self.finish(false, Some(code), wanted);
            }
        }
        Ok(())
    }

    fn fetched(
        &mut self,
        now: ClientNow,
        places: &[Place],
        asked_at: Instant,
        response: &FetchResponse,
        wanted: &mut Vec<Wanted>,
    ) -> Result<(), String> {
        match known_code(response.error_code)? {
            ErrorCode::None => {}
            code => return Err(format!("a fetch is answered with {code}")),
        }
        let operation = self.operation();
        let (mut told, mut failed) = (0, None);
        for topic in &response.responses {
            for data in &topic.partitions {
                let id = TopicPartition { topic: topic.topic_id, partition: data.partition_index };
                let part = self.parts.iter_mut().find(|(place, part)| part.id == id && places.contains(place));
                let Some((_, part)) = part else {
                    return Err(format!("partition {id} is told, but nobody asked for it"));
                };
                told += 1;
                let from = part.position.expect("a partition is fetched from its position on");
                let fetching = Fetching { partition: id, from, asked_at, operation };
                let (code, next) = fetching.told(data, wanted)?;
                part.position = Some(next);
                match code {
                    ErrorCode::None => {}
                    // What was committed is gone: it begins at the start.
                    ErrorCode::OffsetOutOfRange => (part.position, part.has_no_commit) = (None, true),
                    code => failed = Some(code),
                }
            }
        }
        if told != places.len() {
            return Err(format!("{} partitions were fetched, {told} are told", places.len()));
        }
        match failed {
            Some(code) => self.failed(now, code, wanted),
            None => {
                self.caller.go_on();
                self.finish(true, None, wanted);
                Ok(())
            }
        }
    }
}
