//! Fetch sessions (KIP-227): a consumer names its partitions once and then only what changes.
//!
//! A session watches its partitions, and a fetch of it looks at those only that are dirty: an idle session costs nothing
//! for each of its partitions. A place in a session is `Dirty` from when it is named, or its partition changes, until a
//! look finds nothing to read, nothing wrong and nothing that its consumer has not been told; then it is `Clean`.
//!
//! Dirty places are looked at in the order of their turns. Who got something takes a turn behind all others, so that
//! under a limit everybody gets one.
//!
//! A session that has ended is taken apart a few places at a time: what its partitions say to it meanwhile goes unheard.

use std::collections::{BTreeMap, VecDeque};

use slab::Slab;
use smallvec::SmallVec;

use super::fetch::{Answer, FetchPart, Topic};
use crate::controller::PARTITIONS_MAX;
use crate::ids::ConnId;
use crate::rng::Rng;
use crate::time::Instant;
use crate::wait::FetchId;
use crate::wire::ErrorCode;
use crate::wire::fetch::{FetchRequest, PartitionData};

/// The epoch of a request that wants no session, or to end one.
const FINAL_EPOCH: i32 = -1;
/// The epoch of a request that names all its partitions and wants a session.
const INITIAL_EPOCH: i32 = 0;

/// Places in all sessions together, at about 250 bytes each. Beyond it there are no sessions for newcomers, who name
/// their partitions each time then.
const PLACES_MAX: usize = 1_000_000;

/// How long a session must be unused before a newcomer may take its place: Kafka's two minutes.
const EVICTABLE_AFTER_MS: u64 = 120_000;

/// What a session remembers of a partition's last answer, so that an answer without news can leave it out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Told {
    high_watermark: i64,
    log_start: i64,
    failed: bool,
}

impl Told {
    fn by(data: &PartitionData) -> Told {
        Told { high_watermark: data.high_watermark, log_start: data.log_start_offset, failed: data.error_code != 0 }
    }
}

/// A place in a session, as the partition knows it that is watched from there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Watch {
    pub(super) session: u32,
    pub(super) place: u32,
}

/// The places that a partition is watched from.
#[derive(Debug, Default)]
pub(super) struct Watchers(SmallVec<[Watch; 2]>);

impl Watchers {
    /// Adds one.
    pub(super) fn join(&mut self, watch: Watch) {
        self.0.push(watch);
    }

    /// Removes one.
    pub(super) fn leave(&mut self, watch: Watch) {
        if let Some(at) = self.0.iter().position(|&known| known == watch) {
            self.0.swap_remove(at);
        }
    }

    /// All of them.
    pub(super) fn iter(&self) -> impl Iterator<Item = Watch> {
        self.0.iter().copied()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A partition of a session.
#[derive(Debug)]
struct Place {
    part: FetchPart,
    told: Option<Told>,
    turn: u64,
    is_dirty: bool,
    /// Where the partition is that is watched; `None` where none has been found by that name.
    slot: Option<u32>,
}

/// One session.
#[derive(Debug)]
struct Session {
    id: i32,
    next_epoch: i32,
    places: Slab<Place>,
    by_topic: BTreeMap<Topic, BTreeMap<i32, u32>>,
    /// The dirty places, by their turns.
    dirty: BTreeMap<u64, u32>,
    next_turn: u64,
    /// The fetch that waits for something to read.
    waiting: Option<FetchId>,
    used: Instant,
    conn: ConnId,
    /// The requests that name it and are too long to be taken up in one step. Others are taken up behind them.
    long_requests: u32,
    /// Whether it is only there to be taken apart.
    has_ended: bool,
}

impl Session {
    fn is(&self, of: SessionRef) -> bool {
        self.id == of.id && !self.has_ended
    }

    fn mark(&mut self, place: u32) {
        let known = &mut self.places[place as usize];
        if !known.is_dirty {
            known.is_dirty = true;
            self.dirty.insert(known.turn, place);
        }
    }

    /// Gives a place its next turn behind all others.
    fn take_turn(&mut self, place: u32) {
        let known = &mut self.places[place as usize];
        self.dirty.remove(&known.turn);
        known.turn = self.next_turn;
        known.is_dirty = true;
        self.dirty.insert(known.turn, place);
        self.next_turn += 1;
    }
}

/// A session that a fetch belongs to. Numbers are given anew, so what outlives a session asks for its id as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SessionRef {
    number: u32,
    /// As clients know it.
    pub(super) id: i32,
}

/// The sessions of a node, at most `slots` of them (`max.incremental.fetch.session.cache.slots`).
#[derive(Debug)]
pub(super) struct Sessions {
    slots: usize,
    by_id: BTreeMap<i32, u32>,
    /// These, and those that have ended and are still watching.
    all: Slab<Session>,
    ended: VecDeque<u32>,
    /// In all sessions together.
    places: usize,
    /// Draws ids. Counted up from 1 they would come again after a restart, and a consumer that goes on with the id that
    /// it knows would be served the partitions of whoever got it since.
    ids: Rng,
}

/// What a request wants of sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// All that it names, and a session for it or not.
    Full { wants_session: bool },
    /// What has changed in its session.
    Incremental(SessionRef),
}

impl Sessions {
    pub(super) fn new(slots: usize, ids: Rng) -> Sessions {
        Sessions { slots, by_id: BTreeMap::new(), all: Slab::new(), ended: VecDeque::new(), places: 0, ids }
    }

    /// Allows for another number of sessions; those there are stay.
    pub(super) fn resize(&mut self, slots: usize) {
        self.slots = slots;
    }

    /// How many sessions there are.
    pub(super) fn count(&self) -> usize {
        self.by_id.len()
    }

    /// The session that clients know by `id`.
    pub(super) fn named(&self, id: i32) -> Option<SessionRef> {
        self.by_id.get(&id).map(|&number| SessionRef { number, id })
    }

    fn get(&self, of: SessionRef) -> Option<&Session> {
        self.all.get(of.number as usize).filter(|session| session.is(of))
    }

    fn get_mut(&mut self, of: SessionRef) -> Option<&mut Session> {
        self.all.get_mut(of.number as usize).filter(|session| session.is(of))
    }

    /// Finds out what a request asks for; changes nothing.
    ///
    /// # Errors
    /// FETCH_SESSION_ID_NOT_FOUND, INVALID_FETCH_SESSION_EPOCH and FETCH_SESSION_TOPIC_ID_ERROR, upon which the client
    /// begins anew.
    pub(super) fn judge(&self, request: &FetchRequest, is_by_id: bool) -> Result<Asked, ErrorCode> {
        let epoch = request.session_epoch;
        if epoch == FINAL_EPOCH || epoch == INITIAL_EPOCH {
            return Ok(Asked::Full { wants_session: epoch == INITIAL_EPOCH });
        }
        let of = self.named(request.session_id).ok_or(ErrorCode::FetchSessionIdNotFound)?;
        let session = &self.all[of.number as usize];
        if session.next_epoch != epoch {
            return Err(ErrorCode::InvalidFetchSessionEpoch);
        }
        // Names and ids do not mix in one session (KIP-516): an answer could not say whose its partitions are.
        if session.by_topic.first_key_value().is_some_and(|(topic, _)| topic.is_by_id() != is_by_id) {
            return Err(ErrorCode::FetchSessionTopicIdError);
        }
        Ok(Asked::Incremental(of))
    }

    /// Begins a session for `parts` partitions, if there is room for it.
    pub(super) fn begin(&mut self, now: Instant, conn: ConnId, parts: usize) -> Option<SessionRef> {
        if parts == 0 || parts > PARTITIONS_MAX || self.places + parts > PLACES_MAX || self.slots == 0 {
            return None;
        }
        if self.by_id.len() >= self.slots {
            let idle = self.by_id.values().map(|&number| (number, &self.all[number as usize]));
            let idle = idle.filter(|(_, session)| session.waiting.is_none());
            let (number, oldest) = idle.min_by_key(|(_, session)| session.used)?;
            if u64::try_from((now - oldest.used).as_millis()).unwrap_or(u64::MAX) < EVICTABLE_AFTER_MS {
                return None;
            }
            self.end(SessionRef { number, id: oldest.id });
        }
        let id = loop {
            let drawn = self.ids.below(i32::MAX as u64) as i32 + 1;
            if !self.by_id.contains_key(&drawn) {
                break drawn;
            }
        };
        let session = Session {
            id,
            next_epoch: 1,
            places: Slab::new(),
            by_topic: BTreeMap::new(),
            dirty: BTreeMap::new(),
            next_turn: 0,
            waiting: None,
            used: now,
            conn,
            long_requests: 0,
            has_ended: false,
        };
        let number = u32::try_from(self.all.insert(session)).expect("fewer sessions than that");
        self.by_id.insert(id, number);
        Some(SessionRef { number, id })
    }

    /// A request of the session has come, and is the last one of its epoch.
    pub(super) fn use_up(&mut self, of: SessionRef, now: Instant, conn: ConnId) {
        let Some(session) = self.get_mut(of) else { return };
        // Epochs wrap to 1: 0 would ask for a new session.
        session.next_epoch = session.next_epoch.checked_add(1).unwrap_or(1);
        session.used = now;
        session.conn = conn;
    }

    /// Takes up what a request names, and says whether the session has room for it.
    pub(super) fn name(&mut self, of: SessionRef, part: &FetchPart) -> bool {
        let has_room = self.places < PLACES_MAX;
        let Some(session) = self.get_mut(of) else { return false };
        // What a session keeps must not keep the memory of the request that it came in.
        if !session.by_topic.contains_key(&part.topic) {
            session.by_topic.insert(part.detached().topic, BTreeMap::new());
        }
        let mut topics = session.by_topic.range_mut(&part.topic..);
        let (topic, places) = topics.next().expect("it was just there");
        if let Some(&place) = places.get(&part.index) {
            let known = &mut session.places[place as usize];
            known.part = part.under(topic.clone());
            session.mark(place);
            return true;
        }
        if !has_room || session.places.len() == PARTITIONS_MAX {
            return false;
        }
        let turn = session.next_turn;
        session.next_turn += 1;
        let part = part.under(topic.clone());
        let place = session.places.insert(Place { part, told: None, turn, is_dirty: true, slot: None });
        let place = u32::try_from(place).expect("as many as partitions");
        places.insert(session.places[place as usize].part.index, place);
        session.dirty.insert(turn, place);
        self.places += 1;
        true
    }

    /// Lets go of a partition. Returns what was watched from its place.
    pub(super) fn forget(&mut self, of: SessionRef, topic: &Topic, index: i32) -> Option<(u32, Watch)> {
        let session = self.get_mut(of)?;
        let places = session.by_topic.get_mut(topic)?;
        let place = places.remove(&index)?;
        if places.is_empty() {
            session.by_topic.remove(topic);
        }
        let gone = session.places.remove(place as usize);
        session.dirty.remove(&gone.turn);
        self.places -= 1;
        gone.slot.map(|slot| (slot, Watch { session: of.number, place }))
    }

    /// Whether a session has no partitions, or is no more.
    pub(super) fn is_empty(&self, of: SessionRef) -> bool {
        self.get(of).is_none_or(|session| session.places.is_empty())
    }

    /// The dirty place that has the first turn from `turn` on, and what is wanted there.
    pub(super) fn next_dirty(&self, of: SessionRef, turn: u64) -> Option<(u64, Watch, &FetchPart, Option<u32>)> {
        let session = self.get(of)?;
        let (&turn, &place) = session.dirty.range(turn..).next()?;
        let known = &session.places[place as usize];
        Some((turn, Watch { session: of.number, place }, &known.part, known.slot))
    }

    /// A place watches the partition in `slot` from now on.
    pub(super) fn watch(&mut self, watch: Watch, slot: u32) {
        self.all[watch.session as usize].places[watch.place as usize].slot = Some(slot);
    }

    /// A look at a place found nothing to read and nothing wrong: it is clean if its consumer knows all of `data`. Says
    /// whether it is.
    pub(super) fn settle(&mut self, watch: Watch, data: &PartitionData) -> bool {
        let session = &mut self.all[watch.session as usize];
        let known = &mut session.places[watch.place as usize];
        let is_clean = known.told == Some(Told::by(data));
        if is_clean {
            known.is_dirty = false;
            session.dirty.remove(&known.turn);
        }
        is_clean
    }

    /// The partition of a place has changed. Returns the fetch that waits for it.
    pub(super) fn mark(&mut self, watch: Watch) -> Option<FetchId> {
        let session = &mut self.all[watch.session as usize];
        session.mark(watch.place);
        session.waiting
    }

    /// The partition of a place is no more. Returns the fetch that waits for it.
    pub(super) fn lose(&mut self, watch: Watch) -> Option<FetchId> {
        self.all[watch.session as usize].places[watch.place as usize].slot = None;
        self.mark(watch)
    }

    /// Has a fetch wait for the partitions of a session, or none any more.
    pub(super) fn set_waiting(&mut self, of: SessionRef, fetch: Option<FetchId>) {
        if let Some(session) = self.get_mut(of) {
            session.waiting = fetch;
        }
    }

    /// The fetch that waits for the partitions of a session.
    pub(super) fn waiting(&self, of: SessionRef) -> Option<FetchId> {
        self.get(of)?.waiting
    }

    /// Remembers what an answer tells of a partition, and says whether it must be told.
    pub(super) fn tell(&mut self, of: SessionRef, answer: &Answer) -> bool {
        let Some(session) = self.get_mut(of) else { return true };
        let Some(place) = answer.place else { return true };
        // Another request may have changed the session meanwhile.
        let Some(known) = session.places.get_mut(place as usize).filter(|known| known.part.is_same(&answer.part))
        else {
            return true;
        };
        let now = Told::by(&answer.data);
        let before = known.told.replace(now);
        let has_data = answer.data.records.as_ref().is_some_and(|records| !records.is_empty());
        // Where to read instead is told each time: the consumer asks here again when it knows that no more.
        let is_sent_on = answer.data.preferred_read_replica >= 0;
        let must_be_told = has_data || now.failed || is_sent_on;
        if must_be_told {
            session.take_turn(place);
        }
        must_be_told || before != Some(now)
    }

    /// A request that is too long for one step names a session, or does no more.
    pub(super) fn count_long(&mut self, of: SessionRef, begins: bool) {
        if let Some(session) = self.get_mut(of) {
            session.long_requests = if begins { session.long_requests + 1 } else { session.long_requests - 1 };
        }
    }

    /// Whether a request of the session must wait for one that came before and is not taken up yet.
    pub(super) fn has_long(&self, of: SessionRef) -> bool {
        self.get(of).is_some_and(|session| session.long_requests > 0)
    }

    /// How many places a look at a session would look at.
    pub(super) fn dirty_places(&self, of: SessionRef) -> usize {
        self.get(of).map_or(0, |session| session.dirty.len())
    }

    /// The turn that is given next in a session.
    pub(super) fn next_turn(&self, of: SessionRef) -> Option<u64> {
        self.get(of).map(|session| session.next_turn)
    }

    /// Ends a session.
    pub(super) fn end(&mut self, of: SessionRef) {
        if let Some(session) = self.get_mut(of) {
            session.has_ended = true;
            // Who waits is answered when its time is up: nobody tells a session any more that its fetch is over.
            session.waiting = None;
            self.by_id.remove(&of.id);
            self.ended.push_back(of.number);
        }
    }

    /// The connection is gone, and its sessions with it.
    pub(super) fn closed(&mut self, conn: ConnId) {
        let theirs = self.by_id.iter().filter(|&(_, &number)| self.all[number as usize].conn == conn);
        let theirs: Vec<SessionRef> = theirs.map(|(&id, &number)| SessionRef { number, id }).collect();
        for of in theirs {
            self.end(of);
        }
    }

    /// Whether sessions that have ended are still watching.
    pub(super) fn has_ended(&self) -> bool {
        !self.ended.is_empty()
    }

    /// Takes the next place out of a session that has ended: what was watched from it, or `None` where it was nothing.
    pub(super) fn take_apart(&mut self) -> Option<(u32, Watch)> {
        let number = *self.ended.front()?;
        let session = &mut self.all[number as usize];
        let Some(mut topic) = session.by_topic.first_entry() else {
            self.all.remove(number as usize);
            self.ended.pop_front();
            return None;
        };
        let Some((_, place)) = topic.get_mut().pop_first() else {
            topic.remove();
            return None;
        };
        let gone = session.places.remove(place as usize);
        session.dirty.remove(&gone.turn);
        self.places -= 1;
        gone.slot.map(|slot| (slot, Watch { session: number, place }))
    }

    /// The fetches that wait for the partitions of any session.
    pub(super) fn all_waiting(&self) -> impl Iterator<Item = FetchId> {
        self.all.iter().filter_map(|(_, session)| session.waiting)
    }

    /// How many dirty places a session has.
    #[cfg(test)]
    pub(super) fn dirty(&self, id: i32) -> Option<usize> {
        self.named(id).map(|of| self.dirty_places(of))
    }

    /// The dirty marks and numbers agree; for tests and simulation.
    ///
    /// # Panics
    /// At the first claim that does not hold.
    pub(super) fn invariants(&self, is_watched: impl Fn(u32, Watch) -> bool) {
        let mut places = 0;
        for (number, session) in &self.all {
            places += session.places.len();
            let named: usize = session.by_topic.values().map(BTreeMap::len).sum();
            assert_eq!(named, session.places.len(), "every place has one name");
            let dirty = session.places.iter().filter(|(_, place)| place.is_dirty).count();
            assert_eq!(dirty, session.dirty.len(), "the dirty places are known");
            for (place, known) in &session.places {
                let watch = Watch { session: number as u32, place: place as u32 };
                assert!(known.slot.is_none_or(|slot| is_watched(slot, watch)), "what a place watches knows of it");
                assert!(known.is_dirty || known.slot.is_some(), "what is not watched is dirty");
                assert!(!known.is_dirty || session.dirty.get(&known.turn) == Some(&(place as u32)));
            }
        }
        assert_eq!(places, self.places, "the places are counted");
        let ended = self.all.iter().filter(|(_, session)| session.has_ended).count();
        assert_eq!(ended, self.ended.len(), "who has ended is taken apart");
        assert_eq!(self.all.len(), self.by_id.len() + self.ended.len(), "sessions are there or have ended");
    }
}
