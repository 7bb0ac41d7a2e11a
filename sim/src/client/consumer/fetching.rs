//! A poll's fetch, of what one leader has, in a session with it where the plan says so.

use chronik_core::ids::{TopicId, Uuid};
use chronik_core::time::Instant;
use chronik_core::wire::fetch::{FetchPartition, FetchRequest, FetchResponse, FetchTopic, ForgottenTopic};
use chronik_core::wire::{ErrorCode, Request, Str};

use super::{Asked, Consumer, IDS_FROM, Part, Session};
use crate::client::lane::is_about_topic;
use crate::client::reading::{Fetching, known_code};
use crate::client::{ClientNow, Wanted};
use crate::history::What;

/// From this version on there are fetch sessions.
const SESSIONS_FROM: i16 = 7;

impl Consumer {
    pub(super) fn ask_fetch(&mut self, now: ClientNow, wanted: &mut Vec<Wanted>) -> bool {
        let polled: Vec<usize> = self.polled().collect();
        if polled.is_empty() {
            return false;
        }
        self.last_leader = self.caller.asks();
        let request = self.fetch_request(&polled);
        self.caller.ask(now, &request, self.settings.version, wanted);
        self.asked = Some(Asked::Fetch(polled));
        true
    }

    fn has_sessions(&self) -> bool {
        self.settings.uses_session && self.settings.version >= SESSIONS_FROM
    }

    fn fetch_request(&mut self, polled: &[usize]) -> Request {
        let session = &mut self.sessions[self.caller.asks() as usize - 1];
        let has_sessions = self.settings.uses_session && self.settings.version >= SESSIONS_FROM;
        let is_incremental = has_sessions && session.id != 0;
        let mut topics: Vec<FetchTopic> = Vec::new();
        let mut forgotten_topics_data: Vec<ForgottenTopic> = Vec::new();
        let mut left = polled.iter().copied().peekable();
        for (place, part) in self.parts.iter().enumerate() {
            let name = &self.topics.get(part.topic).name;
            let (topic, topic_id): (Str, TopicId) = match self.settings.version >= IDS_FROM {
                true => (Str::EMPTY, part.id.topic),
                false => (name.clone(), Uuid::ZERO),
            };
            if left.next_if_eq(&place).is_none() {
                if is_incremental && session.known.remove(&part.id).is_some() {
                    let partitions = vec![part.id.partition];
                    forgotten_topics_data.push(ForgottenTopic { topic, topic_id, partitions });
                }
                continue;
            }
            let position = part.position.expect("a partition is fetched from its position on");
            if is_incremental && session.known.get(&part.id) == Some(&position) {
                continue;
            }
            session.known.insert(part.id, position);
            if topics.last().is_none_or(|last| (&last.topic, last.topic_id) != (&topic, topic_id)) {
                topics.push(FetchTopic { topic, topic_id, partitions: Vec::new() });
            }
            topics.last_mut().expect("one was pushed").partitions.push(FetchPartition {
                partition: part.id.partition,
                current_leader_epoch: self.topics.leader_epoch(part.topic, part.id.partition),
                fetch_offset: position.0,
                partition_max_bytes: self.settings.partition_max_bytes,
                ..FetchPartition::default()
            });
        }
        let (session_id, session_epoch) = match (has_sessions, is_incremental) {
            (false, _) => (0, -1),
            (true, false) => (0, 0),
            (true, true) => (session.id, session.epoch),
        };
        FetchRequest {
            max_wait_ms: self.settings.max_wait_ms,
            min_bytes: self.settings.min_bytes,
            max_bytes: self.settings.max_bytes,
            isolation_level: i8::from(self.settings.is_read_committed),
            session_id,
            session_epoch,
            topics,
            forgotten_topics_data,
            ..FetchRequest::default()
        }
        .into()
    }

    /// The one with the broker that is asked.
    fn session(&mut self) -> &mut Session {
        &mut self.sessions[self.caller.asks() as usize - 1]
    }

    /// The session with the broker that was asked is over.
    pub(super) fn end_session(&mut self) {
        *self.session() = Session::default();
    }

    pub(super) fn fetched(
        &mut self,
        now: ClientNow,
        polled: &[usize],
        asked_at: Instant,
        response: &FetchResponse,
        wanted: &mut Vec<Wanted>,
    ) -> Result<(), String> {
        use ErrorCode as E;
        match known_code(response.error_code)? {
            E::None => {}
            E::FetchSessionIdNotFound | E::InvalidFetchSessionEpoch | E::FetchSessionTopicIdError
                if self.session().id != 0 =>
            {
                self.end_session();
                return Ok(());
            }
            code => return Err(format!("a fetch is answered with {code}")),
        }
        if self.has_sessions() {
            let session = self.session();
            match (session.id, response.session_id) {
                (0, 0) => *session = Session::default(),
                (0, id) => (session.id, session.epoch) = (id, 1),
                (known, told) if known == told => session.epoch = session.epoch.checked_add(1).unwrap_or(1),
                (known, told) => return Err(format!("a fetch in session {known} is answered in session {told}")),
            }
        }
        let operation = self.operation();
        let mut told = 0;
        let mut failed = None;
        for topic in &response.responses {
            for data in &topic.partitions {
                let is_it = |part: &Part| {
                    part.id.partition == data.partition_index
                        && match self.settings.version >= IDS_FROM {
                            true => part.id.topic == topic.topic_id,
                            false => self.topics.get(part.topic).name == topic.topic,
                        }
                };
                let place = polled.iter().copied().find(|&place| is_it(&self.parts[place]));
                let name = || format!("partition {} of {}{}", data.partition_index, topic.topic, topic.topic_id);
                let place = place.ok_or_else(|| format!("{} is told, but nobody asked for it", name()))?;
                told += 1;
                let part = &mut self.parts[place];
                let from = part.position.expect("a partition is fetched from its position on");
                let fetching = Fetching { partition: part.id, from, asked_at, operation };
                let (code, next) = fetching.told(data, wanted)?;
                part.position = Some(next);
                if let Some(Wanted::Record(_, What::Fetched { records, .. })) = wanted.last()
                    && let Some(last) = records.last()
                {
                    part.read_epoch = Some(last.leader_epoch);
                }
                match code {
                    E::None => {}
                    E::OffsetOutOfRange => (part.position, part.read_epoch) = (None, None),
                    E::KafkaStorageError
                    | E::UnknownTopicOrPartition
                    | E::UnknownTopicId
                    | E::OffsetNotAvailable
                    | E::NotLeaderOrFollower
                    | E::ReplicaNotAvailable
                    | E::FencedLeaderEpoch
                    | E::UnknownLeaderEpoch => {
                        self.is_stale |= is_about_topic(code);
                        failed = Some(code);
                    }
                    code => return Err(format!("{} is answered with {code}", name())),
                }
            }
        }
        if told > polled.len() || self.session().id == 0 && told != polled.len() {
            return Err(format!("{} partitions were fetched, {told} are told", polled.len()));
        }
        match failed {
            Some(_) => self.caller.back_off(now),
            None => self.caller.go_on(),
        }
        // No answer will say that a partition has a leader again: nobody is asked about it.
        let has_leader = |part: &Part| self.topics.leader(part.topic, part.id.partition).is_some();
        self.is_stale |= !self.parts.iter().all(has_leader);
        self.finish(failed.is_none(), failed, wanted);
        Ok(())
    }
}
