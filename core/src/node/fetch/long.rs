//! Fetches of more partitions than one step has time for, a slice at a time.
//!
//! Such a fetch has its place in [`Slices`](crate::node::slices::Slices) while there is something to do for it, and the
//! first of that queue goes on with each slice until it leaves it:
//!
//! | phase | its slices | then |
//! |---|---|---|
//! | naming | take the partitions out of the request | taking up, where there is a session |
//! | taking up | have the session know what the request names | weighing, or a turn |
//! | weighing | count the bytes there are, and have the partitions credit what comes | waiting, or a turn |
//! | gathering | look at the partitions for the answer | reading, or telling |
//! | telling | put the answer together | answered |
//!
//! Weighing is for those who may wait. It keeps nothing of what it finds, and who has weighed and waits is as any other
//! that waits. What gathering finds is kept, so it begins when the fetch has its [turn](super::turns), for the most that
//! the answer may come to.
//!
//! What is left of a fetch, its names above all, is let go of in slices as well. Until partitions no longer know of it
//! its number is not given anew.

use std::collections::{BTreeSet, VecDeque};
use std::mem;
use std::vec;

use smallvec::SmallVec;

use super::answer::Told;
use super::look::{Answer, Look};
use super::part::{FetchPart, Topic};
use super::turns::Need;
use super::{Node, ParkedFetch, Reason, State, Terms, Wanted};
use crate::boundary::{Outbox, PARTITION_BYTES, ReplyTo};
use crate::controller::PARTITIONS_MAX;
use crate::limits::BATCH_BYTES_MAX;
use crate::node::session::SessionRef;
use crate::time::Now;
use crate::wait::FetchId;
use crate::wire::ErrorCode;
use crate::wire::fetch::{FetchPartition, FetchRequest, FetchTopic, FetchableTopicResponse, ForgottenTopic};

/// Names are taken out of requests and let go of faster than they are taken up, looked at and told of: so many times as
/// many in one slice.
const NAMED_TIMES: usize = 2;
const LET_GO_TIMES: usize = 2;

/// For the partitions of so many topics, memory is had at once: it is not to be copied as they come.
const TOPICS_COUNTED: usize = 1_000;

/// How far a long fetch is.
#[derive(Debug)]
pub(super) enum Phase {
    Naming(Naming),
    TakingUp(TakingUp),
    Weighing {
        terms: Terms,
        look: Look,
        credited: usize,
        /// Whether it is not to wait any more.
        is_over: bool,
    },
    Gathering {
        max_bytes: usize,
        look: Look,
    },
    Telling {
        answers: vec::IntoIter<Answer>,
        told: Told,
    },
}

/// A request whose partitions are being taken out of it.
#[derive(Debug)]
pub(super) struct Naming {
    /// What is left of it without its topics.
    request: FetchRequest,
    terms: Terms,
    /// The session that it names, which counts it.
    before: Option<SessionRef>,
    topics: vec::IntoIter<FetchTopic>,
    open: Option<(Topic, vec::IntoIter<FetchPartition>)>,
    parts: Vec<FetchPart>,
}

/// A request whose partitions its session takes up.
#[derive(Debug)]
pub(super) struct TakingUp {
    of: SessionRef,
    is_full: bool,
    terms: Terms,
    before: Option<SessionRef>,
    parts: VecDeque<FetchPart>,
    forgotten: vec::IntoIter<ForgottenTopic>,
    open: Option<(Topic, vec::IntoIter<i32>)>,
}

/// Something of a fetch that is over.
#[derive(Debug)]
pub(in crate::node) enum Remains {
    Topics(vec::IntoIter<FetchTopic>),
    Parts(VecDeque<FetchPart>),
    Forgotten(vec::IntoIter<ForgottenTopic>),
    Answers(vec::IntoIter<Answer>),
    Told(Vec<FetchableTopicResponse>),
    /// The partitions that know of a fetch, whose number is taken until they do not.
    Slots(FetchId, SmallVec<[u32; 4]>),
    /// The same of a long one.
    Joined(FetchId, BTreeSet<u32>),
}

impl Phase {
    /// Bytes have come that it may be waiting for.
    pub(super) fn credit(&mut self, bytes: usize) {
        if let Phase::Weighing { credited, .. } = self {
            *credited += bytes;
        }
    }

    /// It is to be answered with what there is.
    pub(super) fn hurry(&mut self) {
        if let Phase::Weighing { is_over, .. } = self {
            *is_over = true;
        }
    }
}

/// Whether a request names more partitions than there is `room` for.
pub(super) fn is_long(request: &FetchRequest, mut room: usize) -> bool {
    let named = request.topics.iter().map(|topic| topic.partitions.len());
    let forgotten = request.forgotten_topics_data.iter().map(|topic| topic.partitions.len());
    // A topic costs as much as a partition even where it has none.
    named.chain(forgotten).any(|partitions| match room.checked_sub(partitions.max(1)) {
        Some(left) => {
            room = left;
            false
        }
        None => true,
    })
}

impl Node {
    /// Begins with a request that names very much, or whose session such a one has come for before.
    pub(super) fn fetch_in_slices(&mut self, to: ReplyTo, terms: Terms, mut request: FetchRequest) {
        if self.is_ending() {
            return;
        }
        let before = self.sessions.named(request.session_id);
        if let Some(of) = before {
            self.sessions.count_long(of, true);
        }
        let topics = mem::take(&mut request.topics).into_iter();
        let counted = topics.as_slice().iter().take(TOPICS_COUNTED).map(|topic| topic.partitions.len()).sum::<usize>();
        let parts = Vec::with_capacity(counted.min(PARTITIONS_MAX));
        let naming = Naming { request, terms, before, topics, open: None, parts };
        let mut fetch = ParkedFetch::new(to, Wanted::default(), terms.max_bytes, State::Over);
        fetch.is_long = true;
        let id = self.park_fetch(fetch);
        self.go_on(id, Phase::Naming(naming));
    }

    /// A fetch has turned out to take more than one step.
    pub(super) fn look_in_slices(&mut self, to: ReplyTo, terms: Terms, wanted: Wanted) {
        let mut fetch = ParkedFetch::new(to, wanted, terms.max_bytes, State::Over);
        fetch.is_long = true;
        let id = self.park_fetch(fetch);
        if let Some(phase) = self.begin_to_look(id, terms) {
            self.go_on(id, phase);
        }
    }

    /// A long fetch has waited long enough.
    pub(super) fn end_waiting(&mut self, id: FetchId) {
        if let Some(phase) = self.want_turn(id) {
            self.go_on(id, phase);
        }
    }

    /// A long fetch that was in the queue has its turn.
    pub(super) fn gather_later(&mut self, id: FetchId, share: usize) {
        let phase = self.gathering(id, share);
        self.go_on(id, phase);
    }

    /// What was read for a long fetch is there.
    pub(super) fn tell_long(&mut self, id: FetchId, answers: Vec<Answer>) {
        self.go_on(id, Phase::Telling { answers: answers.into_iter(), told: Told::default() });
    }

    /// What was read for a long fetch is there, and its connection is gone.
    pub(super) fn drop_read(&mut self, id: FetchId, answers: Vec<Answer>) {
        self.let_go_of(Remains::Answers(answers.into_iter()));
        self.answer_nothing(id);
        self.end_fetch(id, SmallVec::new());
    }

    fn go_on(&mut self, id: FetchId, phase: Phase) {
        self.fetches[id.0].state = State::Sliced(Some(Box::new(phase)));
        self.slices.go_on_with(id);
    }

    /// One slice of the first of the long fetches.
    pub(in crate::node) fn slice_fetch(&mut self, now: Now, out: &mut Outbox) {
        let Some(id) = self.slices.first_fetch() else { return };
        let State::Sliced(phase) = &mut self.fetches[id.0].state else { unreachable!("it is in slices") };
        let mut phase = phase.take().expect("one slice is made at a time");
        let next = match *phase {
            Phase::Naming(naming) => self.name_on(now, id, naming, out),
            Phase::TakingUp(taking) => self.take_up_on(id, taking, out),
            Phase::Weighing { terms, look, credited, is_over } => self.weigh_on(id, terms, look, credited, is_over),
            Phase::Gathering { max_bytes, look } => self.gather_for_answer(id, max_bytes, look, out),
            Phase::Telling { answers, told } => self.tell_on(id, answers, told, out),
        };
        match next {
            Some(next) => {
                *phase = next;
                self.fetches[id.0].state = State::Sliced(Some(phase));
            }
            None => self.slices.fetch_has_left(),
        }
    }

    fn name_on(&mut self, now: Now, id: FetchId, mut naming: Naming, out: &mut Outbox) -> Option<Phase> {
        let version = self.fetches[id.0].to.version;
        let reader = self.reader(self.fetches[id.0].to, &naming.request);
        for _ in 0..NAMED_TIMES * self.limits.fetch_partitions_at_once {
            if let Some((topic, partitions)) = &mut naming.open
                && let Some(asked) = partitions.next()
            {
                naming.parts.push(FetchPart::of(topic.clone(), &asked, reader));
            } else if let Some(next) = naming.topics.next() {
                let topic = Topic::named(version, &next.topic, next.topic_id);
                naming.open = Some((topic, next.partitions.into_iter()));
            } else {
                return self.named(now, id, naming, out);
            }
        }
        match naming.parts.len() > PARTITIONS_MAX {
            true => self.named(now, id, naming, out),
            false => Some(Phase::Naming(naming)),
        }
    }

    /// All names have been taken out of a request, or more than there can be.
    fn named(&mut self, now: Now, id: FetchId, mut naming: Naming, out: &mut Outbox) -> Option<Phase> {
        let to = self.fetches[id.0].to;
        if naming.parts.len() > PARTITIONS_MAX {
            self.let_go_of_naming(naming);
            return self.refuse_long(id, ErrorCode::InvalidRequest, out);
        }
        match self.asked(now, to, &naming.request, naming.parts.len(), out) {
            Err(code) => {
                self.let_go_of_naming(naming);
                self.refuse_long(id, code, out)
            }
            Ok(None) => {
                self.fetches[id.0].wanted = Wanted::Parts(mem::take(&mut naming.parts));
                let terms = naming.terms;
                self.let_go_of_naming(naming);
                self.begin_to_look(id, terms)
            }
            Ok(Some((of, is_full))) => Some(Phase::TakingUp(TakingUp {
                of,
                is_full,
                terms: naming.terms,
                before: naming.before,
                parts: naming.parts.into(),
                forgotten: naming.request.forgotten_topics_data.into_iter(),
                open: None,
            })),
        }
    }

    fn take_up_on(&mut self, id: FetchId, mut taking: TakingUp, out: &mut Outbox) -> Option<Phase> {
        let version = self.fetches[id.0].to.version;
        let TakingUp { of, is_full, terms, .. } = taking;
        for _ in 0..self.limits.fetch_partitions_at_once {
            if let Some(part) = taking.parts.pop_front() {
                if !self.sessions.name(of, &part) {
                    self.let_go_of_taking(taking);
                    self.end_session(of);
                    return self.refuse_long(id, ErrorCode::FetchSessionIdNotFound, out);
                }
            } else if let Some((topic, partitions)) = &mut taking.open
                && let Some(index) = partitions.next()
            {
                self.forget_part(of, topic, index);
            } else if let Some(next) = taking.forgotten.next() {
                let topic = Topic::named(version, &next.topic, next.topic_id);
                taking.open = Some((topic, next.partitions.into_iter()));
            } else {
                self.let_go_of_taking(taking);
                self.fetches[id.0].wanted = Wanted::Session { of, is_full };
                return self.begin_to_look(id, terms);
            }
        }
        Some(Phase::TakingUp(taking))
    }

    /// Weighs where it may have to wait.
    fn begin_to_look(&mut self, id: FetchId, terms: Terms) -> Option<Phase> {
        let wanted = &self.fetches[id.0].wanted;
        if !self.may_wait(wanted, &terms) {
            return self.want_turn(id);
        }
        let session = wanted.session();
        if let Some(of) = session {
            self.sessions.set_waiting(of, Some(id));
        }
        let look = Look::in_slices(session.and_then(|of| self.sessions.next_turn(of)), true);
        Some(Phase::Weighing { terms, look, credited: 0, is_over: false })
    }

    fn weigh_on(&mut self, id: FetchId, terms: Terms, mut look: Look, credited: usize, is_over: bool) -> Option<Phase> {
        let wanted = mem::take(&mut self.fetches[id.0].wanted);
        let is_done = self.look_on(&wanted, terms.max_bytes, self.limits.fetch_partitions_at_once, &mut look);
        self.fetches[id.0].wanted = wanted;
        for slot in mem::take(&mut look.slots) {
            // Whoever names a partition twice waits for it once.
            if self.fetches[id.0].joined.insert(slot) {
                self.host(slot).fetchers.join(id);
            }
        }
        let found = look.bytes + credited;
        if is_over || look.is_urgent || found >= terms.min_bytes {
            return self.want_turn(id);
        }
        if !is_done {
            return Some(Phase::Weighing { terms, look, credited, is_over });
        }
        let deadline = terms.deadline.expect("it may wait");
        self.deadlines.insert((deadline, Reason::Fetch(id)));
        let (min_bytes, slots) = (terms.min_bytes, SmallVec::new());
        self.fetches[id.0].state = State::Waiting { min_bytes, credited: found, deadline, slots };
        None
    }

    /// A long fetch is to be answered with what there is, once it has its turn.
    fn want_turn(&mut self, id: FetchId) -> Option<Phase> {
        let fetch = &self.fetches[id.0];
        let conn = fetch.to.conn;
        if let State::Waiting { deadline, .. } = fetch.state {
            self.deadlines.remove(&(deadline, Reason::Fetch(id)));
        }
        self.wait_no_more(id);
        let limit = self.limits.fetch_bytes_in_flight_max;
        let share = self.turns.share(limit);
        let need = self.need_of_long(id, share);
        if self.turns.is_free(conn, need, limit) {
            self.turns.begin(conn, need);
            return Some(self.gathering(id, share));
        }
        self.fetches[id.0].state = State::Queued { need, share };
        self.turns.enqueue(conn, id);
        None
    }

    /// A session that has this fetch waiting has it no more.
    fn wait_no_more(&mut self, id: FetchId) {
        if let Some(of) = self.fetches[id.0].wanted.session()
            && self.sessions.waiting(of) == Some(id)
        {
            self.sessions.set_waiting(of, None);
        }
    }

    /// The most that the answer to a long fetch may come to.
    pub(super) fn need_of_long(&self, id: FetchId, share: usize) -> Need {
        let fetch = &self.fetches[id.0];
        let answer = fetch.max_bytes.min(share) + self.places(&fetch.wanted) * PARTITION_BYTES;
        Need { answer, slack: BATCH_BYTES_MAX as usize }
    }

    fn gathering(&self, id: FetchId, share: usize) -> Phase {
        let fetch = &self.fetches[id.0];
        let until = fetch.wanted.session().and_then(|of| self.sessions.next_turn(of));
        let mut look = Look::in_slices(until, false);
        look.answers.reserve(self.places(&fetch.wanted));
        Phase::Gathering { max_bytes: fetch.max_bytes.min(share), look }
    }

    fn gather_for_answer(&mut self, id: FetchId, max_bytes: usize, mut look: Look, out: &mut Outbox) -> Option<Phase> {
        let wanted = mem::take(&mut self.fetches[id.0].wanted);
        let is_done = self.look_on(&wanted, max_bytes, self.limits.fetch_partitions_at_once, &mut look);
        self.fetches[id.0].wanted = wanted;
        look.slots.clear();
        if !is_done {
            return Some(Phase::Gathering { max_bytes, look });
        }
        self.turns.narrow(self.fetches[id.0].to.conn, look.need());
        if look.reads.is_empty() {
            return Some(Phase::Telling { answers: look.answers.into_iter(), told: Told::default() });
        }
        self.read_for(id, look, out);
        None
    }

    fn tell_on(
        &mut self,
        id: FetchId,
        mut answers: vec::IntoIter<Answer>,
        mut told: Told,
        out: &mut Outbox,
    ) -> Option<Phase> {
        let wanted = mem::take(&mut self.fetches[id.0].wanted);
        self.tell(&wanted, answers.by_ref().take(self.limits.fetch_partitions_at_once), &mut told);
        let ReplyTo { conn, sequence, .. } = self.fetches[id.0].to;
        let is_done = answers.as_slice().is_empty();
        let next = if is_done {
            let bytes = self.reply_told(self.fetches[id.0].to, &wanted, told, out);
            self.turns.answered(conn, sequence, bytes);
            None
        } else {
            Some(Phase::Telling { answers, told })
        };
        self.fetches[id.0].wanted = wanted;
        if is_done {
            self.end_fetch(id, SmallVec::new());
        }
        next
    }

    fn refuse_long(&mut self, id: FetchId, code: ErrorCode, out: &mut Outbox) -> Option<Phase> {
        super::refuse(self.fetches[id.0].to, code, out);
        self.end_fetch(id, SmallVec::new());
        None
    }

    /// A fetch is answered, or nobody waits for its answer any more. Partitions may know of it still.
    fn end_fetch(&mut self, id: FetchId, slots: SmallVec<[u32; 4]>) {
        let fetch = &mut self.fetches[id.0];
        let conn = fetch.to.conn;
        fetch.state = State::Over;
        let (wanted, joined) = (mem::take(&mut fetch.wanted), mem::take(&mut fetch.joined));
        self.leave_conn(conn, id);
        if let Wanted::Parts(parts) = wanted {
            self.let_go_of(Remains::Parts(parts.into()));
        }
        if !slots.is_empty() {
            self.let_go_of(Remains::Slots(id, slots));
        } else if !joined.is_empty() {
            self.let_go_of(Remains::Joined(id, joined));
        } else {
            self.fetches.remove(id.0);
        }
    }

    /// The connection of a fetch is gone, and has given up its turns; what there is to do for that is left for later.
    pub(super) fn abandon(&mut self, id: FetchId) {
        self.wait_no_more(id);
        match mem::replace(&mut self.fetches[id.0].state, State::Over) {
            State::Waiting { deadline, slots, .. } => {
                self.deadlines.remove(&(deadline, Reason::Fetch(id)));
                return self.end_fetch(id, slots);
            }
            State::Sliced(phase) => {
                self.slices.let_fetch_go(id);
                match *phase.expect("no slice is made at a time") {
                    Phase::Naming(naming) => self.let_go_of_naming(naming),
                    Phase::TakingUp(taking) => self.let_go_of_taking(taking),
                    Phase::Weighing { .. } => {}
                    Phase::Gathering { look, .. } => {
                        self.let_go_of(Remains::Answers(look.answers.into_iter()));
                        self.answer_nothing(id);
                    }
                    Phase::Telling { answers, told } => {
                        self.let_go_of(Remains::Answers(answers));
                        self.let_go_of(Remains::Told(told.topics));
                        self.answer_nothing(id);
                    }
                }
            }
            State::Queued { .. } | State::Reading { .. } | State::Over => {}
        }
        self.end_fetch(id, SmallVec::new());
    }

    /// Nothing is answered with the turn of a fetch.
    fn answer_nothing(&mut self, id: FetchId) {
        let ReplyTo { conn, sequence, .. } = self.fetches[id.0].to;
        self.turns.answered(conn, sequence, 0);
    }

    fn let_go_of_naming(&mut self, naming: Naming) {
        if let Some(of) = naming.before {
            self.sessions.count_long(of, false);
        }
        self.let_go_of(Remains::Parts(naming.parts.into()));
        self.let_go_of(Remains::Topics(naming.topics));
        self.let_go_of(Remains::Forgotten(naming.request.forgotten_topics_data.into_iter()));
    }

    fn let_go_of_taking(&mut self, taking: TakingUp) {
        if let Some(of) = taking.before {
            self.sessions.count_long(of, false);
        }
        self.let_go_of(Remains::Parts(taking.parts));
        self.let_go_of(Remains::Forgotten(taking.forgotten));
    }

    pub(super) fn let_go_of(&mut self, remains: Remains) {
        if !remains.is_empty() {
            self.slices.let_go_of(remains);
        }
    }

    /// Lets go of the next of what is left of fetches. Says whether something is still left of this one.
    pub(in crate::node) fn let_go_on(&mut self, remains: &mut Remains) -> bool {
        let room = LET_GO_TIMES * self.limits.fetch_partitions_at_once;
        match remains {
            Remains::Topics(topics) => topics.by_ref().take(room).for_each(drop),
            Remains::Parts(parts) => parts.truncate(parts.len().saturating_sub(room)),
            Remains::Forgotten(topics) => topics.by_ref().take(room).for_each(drop),
            Remains::Answers(answers) => answers.by_ref().take(room).for_each(drop),
            Remains::Told(topics) => {
                if let Some(last) = topics.last_mut() {
                    last.partitions.truncate(last.partitions.len().saturating_sub(room));
                    if last.partitions.is_empty() {
                        topics.pop();
                    }
                }
            }
            Remains::Slots(id, slots) => {
                for slot in slots.drain(slots.len().saturating_sub(room)..) {
                    self.leave_partition(slot, *id);
                }
            }
            Remains::Joined(id, slots) => {
                for _ in 0..room {
                    let Some(slot) = slots.pop_first() else { break };
                    self.leave_partition(slot, *id);
                }
            }
        }
        if !remains.is_empty() {
            return true;
        }
        if let Remains::Slots(id, _) | Remains::Joined(id, _) = remains {
            self.fetches.remove(id.0);
        }
        false
    }
}

impl Remains {
    fn is_empty(&self) -> bool {
        match self {
            Remains::Topics(topics) => topics.as_slice().is_empty(),
            Remains::Parts(parts) => parts.is_empty(),
            Remains::Forgotten(topics) => topics.as_slice().is_empty(),
            Remains::Answers(answers) => answers.as_slice().is_empty(),
            Remains::Told(topics) => topics.is_empty(),
            Remains::Slots(_, slots) => slots.is_empty(),
            Remains::Joined(_, slots) => slots.is_empty(),
        }
    }
}
