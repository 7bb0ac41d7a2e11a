//! What a broker of a cluster is asked to change: it goes to whoever leads the quorum, be that this node or another.
//!
//! | a request | when | then |
//! |---|---|---|
//! | waits | nobody is known to lead, or who leads has done nothing | asked |
//! | is asked | somebody leads: it is decided here, or said there | waits, settling |
//! | settles | it is decided, and the log is not applied here so far | answered |
//!
//! It is answered within the client's own time: an error then, whatever may still become of it. When another leads, or
//! the connection is lost, it is asked again. It may so be carried out twice, as when a client asks twice.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::super::Node;
use super::super::slices::Long;
use super::life::TICK;
use super::proposals::{Asker, Then};
use crate::boundary::{Outbox, ReplyTo};
use crate::ids::{ConnId, NodeId};
use crate::peer::{FRAME_BYTES_MAX, Forward, Forwarded, Message};
use crate::time::{Instant, Now};
use crate::wire::metadata::{MetadataRequest, MetadataRequestTopic};
use crate::wire::{ApiKey, ErrorCode, Reader, Request, Response, Str, Writer};

/// Requests that wait at once; more are refused. Each may have megabytes.
const ASKED_MAX: usize = 1000;

/// The longest request that goes on to the controller, and the longest answer that comes back, in bytes: a frame takes it
/// beside its own fields.
const FORWARDED_BYTES_MAX: usize = FRAME_BYTES_MAX - (64 << 10);

/// Bytes of requests that have gone to the controller and are not answered: when there are as many, others wait for their
/// turn. With the longest request beside them, and what replication has under way, they are far below what ends a
/// connection.
const UNANSWERED_BYTES_MAX: usize = 16 << 20;

/// What a request takes there beside its bytes, about.
const REQUEST_BYTES: usize = 256;

/// For how long a request that is not answered counts there, in any case.
const UNANSWERED_TIME_MAX: Duration = Duration::from_secs(30);

/// Requests that are taken up in one step: the decision about each is made here, or it is written.
const TENDED_AT_ONCE: usize = 32;

/// The longest pause until a controller that has done nothing with a request is asked again.
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// For how long the controller is waited for where the client does not say, in milliseconds.
const TIMEOUT_MS: i32 = 30_000;

/// The version of the requests that brokers make themselves.
const CREATE_VERSION: i16 = 12;

/// One request.
#[derive(Debug)]
pub(super) struct Asked {
    to: ReplyTo,
    /// Shared with whoever is deciding about it.
    request: Arc<Request>,
    version: i16,
    /// What is done once topics are there that nobody asked to be created; the answer of their creation is nobody's.
    then: Option<Then>,
    until: Instant,
    /// Who was asked, and in which term.
    sent: Option<(NodeId, u64)>,
    /// Who has done nothing with it, in which term, until when it is not asked again, and how long that is.
    declined: Option<Declined>,
    /// The answer, and up to where the log must be applied before it is given.
    settled: Option<(u64, Option<Response>)>,
}

#[derive(Clone, Copy, Debug)]
struct Declined {
    by: (NodeId, u64),
    until: Instant,
    pause: Duration,
}

/// Those that wait, by their numbers.
#[derive(Debug)]
pub(super) struct Waiting {
    requests: BTreeMap<u64, Asked>,
    next: u64,
    /// What has gone to a controller and is not answered, by its number, whether or not anybody waits for it still.
    unanswered: BTreeMap<u64, Unanswered>,
    /// From here on those that wait are still to be looked at.
    tended: Option<u64>,
}

#[derive(Debug)]
struct Unanswered {
    by: (NodeId, u64),
    bytes: usize,
    since: Instant,
}

impl Waiting {
    /// Nothing yet, in this process: what is answered to the one before it means nobody here, so numbers begin elsewhere.
    pub(super) fn of(process: u64) -> Waiting {
        Waiting { requests: BTreeMap::new(), next: process >> 1, unanswered: BTreeMap::new(), tended: None }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.requests.is_empty()
    }

    /// Whether some are still to be looked at.
    pub(super) fn has_untended(&self) -> bool {
        self.tended.is_some()
    }

    /// Whether another request may go to the controller.
    fn may_send(&mut self, now: Now, leader: (NodeId, u64)) -> bool {
        self.unanswered.retain(|_, sent| sent.by == leader && now.instant < sent.since + UNANSWERED_TIME_MAX);
        let bytes: usize = self.unanswered.values().map(|sent| sent.bytes).sum();
        bytes < UNANSWERED_BYTES_MAX
    }

    /// Lets go of what a connection waits for that is gone.
    pub(super) fn forget(&mut self, conn: ConnId) {
        self.requests.retain(|_, asked| asked.to.conn != conn);
    }
}

impl Node {
    /// A client asks for a change.
    pub(in crate::node) fn ask_controller(&mut self, now: Now, to: ReplyTo, request: Request, out: &mut Outbox) {
        self.ask_leader(now, to, request, to.version, None, out);
    }

    /// Topics are to be created that a client is interested in.
    pub(super) fn ask_for_topics(&mut self, now: Now, to: ReplyTo, names: &[Str], then: Then, out: &mut Outbox) {
        let topics = names.iter().map(|name| MetadataRequestTopic { name: Some(name.clone()), ..Default::default() });
        let topics = Some(topics.collect());
        let request = MetadataRequest { topics, allow_auto_topic_creation: true, ..MetadataRequest::default() };
        self.ask_leader(now, to, Request::Metadata(request), CREATE_VERSION, Some(then), out);
    }

    fn ask_leader(
        &mut self,
        now: Now,
        to: ReplyTo,
        request: Request,
        version: i16,
        then: Option<Then>,
        out: &mut Outbox,
    ) {
        if self.metadata.waiting.requests.len() >= ASKED_MAX {
            return self.decline(now, to, &request, then, ErrorCode::NotController, out);
        }
        let timeout = Duration::from_millis(u64::try_from(timeout_ms(&request)).unwrap_or(0));
        // 0 is the number of what brokers ask for themselves.
        self.metadata.waiting.next += 1;
        let id = self.metadata.waiting.next;
        let request = Arc::new(request);
        let asked = Asked {
            to,
            request,
            version,
            then,
            until: now.instant + timeout,
            sent: None,
            declined: None,
            settled: None,
        };
        self.metadata.waiting.requests.insert(id, asked);
        self.metadata.is_due = true;
        self.send_asked(now, id, out);
    }

    /// Asks whoever leads, if that is known and was not done. Whether that took some time.
    fn send_asked(&mut self, now: Now, id: u64, out: &mut Outbox) -> bool {
        let Some(leader) = self.quorum_leader() else { return false };
        let is_here = leader.0 == self.metadata.quorum.me().node;
        let waiting = &mut self.metadata.waiting;
        let Some(asked) = waiting.requests.get_mut(&id) else { return false };
        let pauses = asked.declined.is_some_and(|declined| declined.by == leader && now.instant < declined.until);
        if asked.settled.is_some()
            || asked.sent == Some(leader)
            || pauses
            || !(is_here || waiting.may_send(now, leader))
        {
            return false;
        }
        let asked = waiting.requests.get_mut(&id).expect("it was just there");
        asked.sent = Some(leader);
        if is_here {
            let (version, request) = (asked.version, asked.request.clone());
            let is_decided = self.decide_for(now, Asker::Own(id), version, &request, out);
            if !is_decided && let Some(asked) = self.metadata.waiting.requests.get_mut(&id) {
                asked.sent = None;
            }
            return true;
        }
        let mut writer = Writer::new();
        asked.request.encode(asked.version, &mut writer);
        let request = writer.finish().to_bytes();
        if request.len() > FORWARDED_BYTES_MAX {
            if let Some(Asked { to, request, then, .. }) = self.metadata.waiting.requests.remove(&id) {
                self.decline(now, to, &request, then, ErrorCode::InvalidRequest, out);
            }
            return true;
        }
        let unanswered = Unanswered { by: leader, bytes: request.len() + REQUEST_BYTES, since: now.instant };
        let left = asked.until - now.instant;
        let forward = Forward {
            id,
            listener: self.listeners[asked.to.listener.0 as usize].clone(),
            timeout_ms: u32::try_from(left.as_millis()).unwrap_or(u32::MAX),
            api_key: asked.request.api_key().code(),
            api_version: asked.version,
            request,
        };
        self.metadata.waiting.unanswered.insert(id, unanswered);
        self.say(leader.0, Message::Forward(forward), out);
        true
    }

    /// Has all that wait looked at, from the first on.
    pub(super) fn tend_asked(&mut self) {
        self.metadata.waiting.tended = Some(0);
        self.metadata.is_due = true;
    }

    /// Looks at some of those that wait, in a step: asks for those that nobody has taken, and answers those whose time is
    /// over. Whether there is more to do at once.
    pub(super) fn tend_on(&mut self, now: Now, out: &mut Outbox) -> bool {
        let Some(after) = self.metadata.waiting.tended.take() else { return false };
        let ids: Vec<u64> = self.metadata.waiting.requests.range(after..).map(|(id, _)| *id).collect();
        let mut tended = 0;
        for id in ids {
            if tended == TENDED_AT_ONCE {
                self.metadata.waiting.tended = Some(id);
                return true;
            }
            let requests = &mut self.metadata.waiting.requests;
            let is_late = requests.get(&id).is_some_and(|asked| asked.until <= now.instant);
            if !is_late {
                tended += usize::from(self.send_asked(now, id, out));
            } else if let Some(Asked { to, request, then, .. }) = requests.remove(&id) {
                self.decline(now, to, &request, then, ErrorCode::RequestTimedOut, out);
                tended += 1;
            }
        }
        false
    }

    /// What was decided here in this term has come to nothing. Who leads now may have been asked already.
    pub(super) fn ask_anew(&mut self, now: Now, id: u64, term: u64, out: &mut Outbox) {
        let decided = Some((self.metadata.quorum.me().node, term));
        if let Some(asked) = self.metadata.waiting.requests.get_mut(&id).filter(|asked| asked.sent == decided) {
            asked.sent = None;
            self.send_asked(now, id, out);
        }
    }

    /// A connection is lost by which `node` may have been asked.
    pub(super) fn ask_again(&mut self, node: NodeId) {
        self.metadata.waiting.unanswered.retain(|_, sent| sent.by.0 != node);
        for asked in self.metadata.waiting.requests.values_mut() {
            asked.sent = asked.sent.filter(|sent| sent.0 != node);
        }
    }

    /// Answers a client whose wish nobody carries out.
    fn decline(
        &mut self,
        now: Now,
        to: ReplyTo,
        request: &Request,
        then: Option<Then>,
        error: ErrorCode,
        out: &mut Outbox,
    ) {
        match then {
            // With what there is.
            Some(then) => self.carry_on(now, Asker::Client(to), then, out),
            None => Node::refuse_change(to, request, error, out),
        }
    }

    /// Another node asks in the name of its client.
    pub(super) fn forwarded_here(&mut self, now: Now, from: NodeId, forward: Forward, out: &mut Outbox) {
        let Forward { id, api_key, api_version, request, .. } = forward;
        let key = ApiKey::from_code(api_key).filter(|key| key.speaks(api_version));
        let request = key.and_then(|key| Request::decode(key, api_version, &mut Reader::new(request)).ok());
        let asker = Asker::Node { node: from, id, version: api_version };
        let is_decided =
            request.is_some_and(|request| self.decide_for(now, asker, api_version, &Arc::new(request), out));
        if !is_decided {
            let nothing = Forwarded { id, index: 0, response: None };
            self.say(from, Message::Forwarded(nothing), out);
        }
    }

    /// What became of a request that was forwarded.
    pub(super) fn forward_answered(&mut self, now: Now, from: NodeId, forwarded: Forwarded, out: &mut Outbox) {
        let Forwarded { id, index, response } = forwarded;
        let waiting = &mut self.metadata.waiting;
        if waiting.unanswered.get(&id).is_some_and(|sent| sent.by.0 == from) {
            waiting.unanswered.remove(&id);
        }
        let Some(asked) = waiting.requests.get_mut(&id) else { return };
        let Some(response) = response else {
            if let Some(by) = asked.sent.take_if(|sent| sent.0 == from) {
                let before = asked.declined.filter(|declined| declined.by == by);
                let pause = before.map_or(TICK, |declined| (declined.pause * 2).min(PAUSE_MAX));
                asked.declined = Some(Declined { by, until: now.instant + pause, pause });
            }
            return;
        };
        let response = match asked.then {
            Some(_) => None,
            None => {
                let key = asked.request.api_key();
                match Response::decode(key, asked.version, &mut Reader::of_answer(response)) {
                    Ok(response) => Some(response),
                    // Of a controller that is another program: nobody can tell what it did.
                    Err(_) => return,
                }
            }
        };
        self.settle_asked(now, id, index, response, out);
    }

    /// It is decided what becomes of a request; its client is told when this node knows as well.
    pub(super) fn settle_asked(&mut self, now: Now, id: u64, index: u64, response: Option<Response>, out: &mut Outbox) {
        if let Some(asked) = self.metadata.waiting.requests.get_mut(&id) {
            asked.settled = Some((index, response));
            self.answer_settled(now, out);
        }
    }

    /// Answers what has settled, as far as the log is applied.
    pub(super) fn answer_settled(&mut self, now: Now, out: &mut Outbox) {
        if self.metadata.waiting.is_empty() {
            return;
        }
        let applied = self.controller.image().index();
        let is_due = |asked: &Asked| asked.settled.as_ref().is_some_and(|(index, _)| *index <= applied);
        let requests = &mut self.metadata.waiting.requests;
        let due: Vec<u64> = requests.iter().filter(|(_, asked)| is_due(asked)).map(|(id, _)| *id).collect();
        for id in due {
            let Some(Asked { to, then, settled, .. }) = self.metadata.waiting.requests.remove(&id) else { continue };
            let response = settled.and_then(|(_, response)| response);
            let then = then.or_else(|| response.map(after));
            if let Some(then) = then {
                self.carry_on(now, Asker::Client(to), then, out);
            }
        }
    }
}

/// What is done with an answer.
fn after(response: Response) -> Then {
    match response {
        response @ (Response::CreateTopics(_) | Response::DeleteTopics(_) | Response::CreatePartitions(_)) => {
            Then::Long(Long::Moved(Box::new(response)))
        }
        response @ (Response::AlterConfigs(_) | Response::IncrementalAlterConfigs(_)) => {
            Then::Long(Long::Altered(Box::new(response)))
        }
        response => Then::Answer(Box::new(response)),
    }
}

/// The bytes of an answer that goes back to whoever forwarded its request; none where they are too many for a frame, which
/// is no answer: it is done, and the client's time runs out.
pub(super) fn encoded(response: &Response, version: i16) -> Bytes {
    let mut writer = Writer::new();
    response.encode(version, &mut writer);
    let bytes = writer.finish().to_bytes();
    if bytes.len() <= FORWARDED_BYTES_MAX { bytes } else { Bytes::new() }
}

/// For how long the client waits, in milliseconds.
fn timeout_ms(request: &Request) -> i32 {
    match request {
        Request::CreateTopics(request) => request.timeout_ms,
        Request::DeleteTopics(request) => request.timeout_ms,
        Request::CreatePartitions(request) => request.timeout_ms,
        Request::ElectLeaders(request) => request.timeout_ms,
        Request::AlterPartitionReassignments(request) => request.timeout_ms,
        Request::AddRaftVoter(request) => request.timeout_ms,
        _ => TIMEOUT_MS,
    }
}
