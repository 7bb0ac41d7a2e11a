//! Fetch sessions (KIP-227): a consumer names its partitions once and then only what changes.

use std::collections::{BTreeMap, BTreeSet};

use super::fetch::{FetchPart, Topic};
use crate::controller::PARTITIONS_MAX;
use crate::ids::ConnId;
use crate::rng::Rng;
use crate::time::Instant;
use crate::wire::ErrorCode;
use crate::wire::fetch::{FetchRequest, PartitionData};

/// The epoch of a request that wants no session, or to end one.
const FINAL_EPOCH: i32 = -1;
/// The epoch of a request that names all its partitions and wants a session.
const INITIAL_EPOCH: i32 = 0;

/// What a session remembers of a partition's last answer, so that an answer without news can leave it out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Told {
    high_watermark: i64,
    log_start: i64,
    failed: bool,
}

/// One session.
#[derive(Debug)]
struct Session {
    next_epoch: i32,
    parts: Vec<(FetchPart, Option<Told>)>,
    used: Instant,
    conn: ConnId,
}

impl Session {
    /// Takes up what a request names anew and lets go of what it forgets. Looks up by order, not one by one: requests
    /// and sessions may name thousands of partitions.
    fn change(&mut self, parts: Vec<FetchPart>, forgotten: &[(Topic, Vec<i32>)]) {
        if !parts.is_empty() {
            let mut places: BTreeMap<(Topic, i32), usize> =
                self.parts.iter().enumerate().map(|(at, (part, _))| ((part.topic.clone(), part.index), at)).collect();
            for part in parts {
                let at = *places.entry((part.topic.clone(), part.index)).or_insert(self.parts.len());
                match self.parts.get_mut(at) {
                    Some((known, _)) => known.topic = std::mem::replace(known, part).topic,
                    None => self.parts.push((part.detached(), None)),
                }
            }
        }
        if !forgotten.is_empty() {
            let gone =
                forgotten.iter().flat_map(|(topic, partitions)| partitions.iter().map(move |&index| (topic, index)));
            let gone: BTreeSet<(&Topic, i32)> = gone.collect();
            self.parts.retain(|(part, _)| !gone.contains(&(&part.topic, part.index)));
        }
    }
}

/// The sessions of a node, at most `slots` of them (`max.incremental.fetch.session.cache.slots`).
#[derive(Debug)]
pub(super) struct Sessions {
    slots: usize,
    by_id: BTreeMap<i32, Session>,
    /// Draws ids. Counted up from 1 they would come again after a restart, and a consumer that goes on with the id that
    /// it knows would be served the partitions of whoever got it since.
    ids: Rng,
}

/// How long a session must be unused before a newcomer may take its place: Kafka's two minutes.
const EVICTABLE_AFTER_MS: u64 = 120_000;

/// What a request asks for once its session has been consulted.
#[derive(Debug)]
pub(super) struct Resolved {
    /// All partitions to read.
    pub(super) parts: Vec<FetchPart>,
    /// The session's id, 0 where there is none.
    pub(super) session: i32,
    /// Whether partitions without news are left out of the answer.
    pub(super) incremental: bool,
}

impl Sessions {
    pub(super) fn new(slots: usize, ids: Rng) -> Sessions {
        Sessions { slots, by_id: BTreeMap::new(), ids }
    }

    /// Allows for another number of sessions; those there are stay.
    pub(super) fn resize(&mut self, slots: usize) {
        self.slots = slots;
    }

    /// How many sessions there are.
    pub(super) fn count(&self) -> usize {
        self.by_id.len()
    }

    /// Finds out what a request asks for.
    ///
    /// # Errors
    /// FETCH_SESSION_ID_NOT_FOUND, INVALID_FETCH_SESSION_EPOCH and FETCH_SESSION_TOPIC_ID_ERROR, upon which the client
    /// begins anew.
    pub(super) fn resolve(
        &mut self,
        now: Instant,
        conn: ConnId,
        request: &FetchRequest,
        is_by_id: bool,
        parts: Vec<FetchPart>,
        forgotten: &[(Topic, Vec<i32>)],
    ) -> Result<Resolved, ErrorCode> {
        let (id, epoch) = (request.session_id, request.session_epoch);
        if epoch == FINAL_EPOCH || epoch == INITIAL_EPOCH {
            self.by_id.remove(&id);
            let session = if epoch == INITIAL_EPOCH { self.begin(now, conn, &parts) } else { 0 };
            return Ok(Resolved { parts, session, incremental: false });
        }
        let session = self.by_id.get_mut(&id).ok_or(ErrorCode::FetchSessionIdNotFound)?;
        if session.next_epoch != epoch {
            return Err(ErrorCode::InvalidFetchSessionEpoch);
        }
        // Names and ids do not mix in one session (KIP-516): an answer could not say whose its partitions are.
        if session.parts.first().is_some_and(|(part, _)| part.topic.is_by_id() != is_by_id) {
            return Err(ErrorCode::FetchSessionTopicIdError);
        }
        // Epochs wrap to 1: 0 would ask for a new session.
        session.next_epoch = epoch.checked_add(1).unwrap_or(1);
        session.used = now;
        session.conn = conn;
        session.change(parts, forgotten);
        if session.parts.len() > PARTITIONS_MAX {
            self.by_id.remove(&id);
            return Err(ErrorCode::FetchSessionIdNotFound);
        }
        let parts = session.parts.iter().map(|(part, _)| part.clone()).collect();
        Ok(Resolved { parts, session: id, incremental: true })
    }

    fn begin(&mut self, now: Instant, conn: ConnId, parts: &[FetchPart]) -> i32 {
        if parts.is_empty() || parts.len() > PARTITIONS_MAX || self.slots == 0 {
            return 0;
        }
        if self.by_id.len() >= self.slots {
            let oldest = self.by_id.iter().min_by_key(|(_, session)| session.used);
            let Some((&oldest, session)) = oldest else { return 0 };
            if u64::try_from((now - session.used).as_millis()).unwrap_or(u64::MAX) < EVICTABLE_AFTER_MS {
                return 0;
            }
            self.by_id.remove(&oldest);
        }
        let id = loop {
            let drawn = self.ids.below(i32::MAX as u64) as i32 + 1;
            if !self.by_id.contains_key(&drawn) {
                break drawn;
            }
        };
        let mut kept: Vec<(FetchPart, Option<Told>)> = Vec::with_capacity(parts.len());
        for part in parts {
            // Partitions of one topic mostly stand together, and share its name.
            let part = match kept.last().filter(|(before, _)| before.topic == part.topic) {
                Some((before, _)) => part.under(before.topic.clone()),
                None => part.detached(),
            };
            kept.push((part, None));
        }
        let parts = kept;
        self.by_id.insert(id, Session { next_epoch: 1, parts, used: now, conn });
        id
    }

    /// Remembers what an answer tells, and says for each partition whether it must be told.
    pub(super) fn told(&mut self, resolved: i32, answers: &[(FetchPart, PartitionData)]) -> Vec<bool> {
        let Some(session) = self.by_id.get_mut(&resolved) else { return vec![true; answers.len()] };
        let mut with_data = vec![false; session.parts.len()];
        // Answers come in the session's order unless another request changed it meanwhile.
        let is_same = |(at, (part, _)): (usize, &(FetchPart, PartitionData))| {
            session.parts.get(at).is_some_and(|(known, _)| known.is_same(part))
        };
        let moved: Option<BTreeMap<(Topic, i32), usize>> = (!answers.iter().enumerate().all(is_same)).then(|| {
            let places = session.parts.iter().enumerate();
            places.map(|(at, (part, _))| ((part.topic.clone(), part.index), at)).collect()
        });
        let news = answers
            .iter()
            .enumerate()
            .map(|(index, (part, data))| {
                let now = Told {
                    high_watermark: data.high_watermark,
                    log_start: data.log_start_offset,
                    failed: data.error_code != 0,
                };
                let has_data = data.records.as_ref().is_some_and(|records| !records.is_empty());
                let found =
                    moved.as_ref().map_or(Some(index), |places| places.get(&(part.topic.clone(), part.index)).copied());
                let Some(at) = found else { return true };
                let told = session.parts[at].1.replace(now);
                with_data[at] |= has_data;
                has_data || now.failed || told != Some(now)
            })
            .collect();
        // Who got data goes to the end, so that under a limit everybody gets a turn.
        let parts = std::mem::take(&mut session.parts).into_iter().zip(with_data);
        let (told, waiting): (Vec<_>, Vec<_>) = parts.partition(|&(_, has_data)| has_data);
        session.parts = waiting.into_iter().chain(told).map(|(part, _)| part).collect();
        news
    }

    /// The connection is gone; its sessions may be taken by others at once.
    pub(super) fn closed(&mut self, conn: ConnId) {
        self.by_id.retain(|_, session| session.conn != conn);
    }
}
