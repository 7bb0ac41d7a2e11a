//! Changes of metadata: decided, proposed, and answered when the log has been applied so far.
//!
//! An answer speaks of all that was proposed before it, so one without a change of its own waits as well: a topic that is
//! refused because another request has just created it exists when the refusal is told.

use std::sync::Arc;

use bytes::{Buf, Bytes};

use super::super::Node;
use super::super::slices::Long;
use super::Metadata;
use super::asked::encoded;
use super::gradual::Gradual;
use super::refusals::names_too_much;
use crate::boundary::{Effect, Outbox, ReplyTo};
use crate::controller::Controller;
use crate::controller::records::{MetadataRecord, decode_some, encode_entry};
use crate::ids::{BrokerEpoch, ConnId, NodeId};
use crate::peer;
use crate::raft::{Declined, LogId};
use crate::time::Now;
use crate::wire::find_coordinator::FindCoordinatorRequest;
use crate::wire::{self, ErrorCode, Response, Str};

/// Bytes of entries under way, beyond which further changes wait: as many as several of the largest.
const UNDER_WAY_MAX: usize = 8 << 20;

/// Requests that are decided an entry at a time, beyond which whoever asks is to ask again.
const GRADUAL_MAX: usize = 64;

/// Records that the leading view learns in one step, at about 1.5 µs each.
const LEARNT_AT_ONCE: usize = 70;

/// What was proposed, as far as the leading view has not learnt it.
#[derive(Debug)]
pub(super) struct Unlearnt {
    index: u64,
    rest: Bytes,
}

/// Who asked for a change.
#[derive(Clone, Debug)]
pub(in crate::node) enum Asker {
    /// A client.
    Client(ReplyTo),
    /// A client, by the number of its request among those that wait for the controller.
    Own(u64),
    /// Another node, by its number for what it asks.
    Node {
        /// Which.
        node: NodeId,
        /// The number.
        id: u64,
        /// The version that the answer is given in.
        version: i16,
    },
}

/// What waits for an entry to be applied.
#[derive(Debug)]
pub(super) struct Parked {
    /// The term of the entry that it waits for.
    term: u64,
    asker: Asker,
    then: Then,
}

/// What is done once the metadata is as it was decided.
#[derive(Debug)]
pub(in crate::node) enum Then {
    /// An answer leaves.
    Answer(Box<Response>),
    /// An answer is put together, or waits for partitions to have what the metadata says.
    Long(Long),
    /// Whoever asked for a coordinator is told where it is.
    Coordinator(FindCoordinatorRequest),
    /// Topics are there that a client is interested in.
    Created,
    /// A process asks for its registration again, since it had to wait for the one before.
    Register(Box<peer::Register>),
    /// A process is registered under this broker epoch.
    Registered(Box<peer::Register>, BrokerEpoch),
    /// Proposals of in-sync sets are answered, which were made to the controller of this term.
    InSync(u64, Vec<peer::Answer>),
}

impl Node {
    /// The metadata with all that is under way, if it is decided here.
    pub(in crate::node) fn leading(&self) -> Option<&Controller> {
        self.metadata.leading.as_ref()
    }

    /// Whether a change may be decided now.
    pub(in crate::node) fn may_propose(&self) -> bool {
        let Metadata { leading, unlearnt, under_way, .. } = &self.metadata;
        leading.is_some() && unlearnt.is_none() && *under_way < UNDER_WAY_MAX
    }

    /// Whether somebody waits for a change that this node alone can make.
    pub(in crate::node) fn waits_for_itself(&self) -> bool {
        self.metadata.is_alone() && !(self.metadata.parked.is_empty() && self.metadata.gradual.is_empty())
    }

    /// Has a request carried out that changes metadata. Alone there is room for what it leads to.
    pub(in crate::node) fn change_metadata(&mut self, now: Now, to: ReplyTo, request: wire::Request, out: &mut Outbox) {
        if names_too_much(&request) {
            return Node::refuse_change(to, &request, ErrorCode::PolicyViolation, out);
        }
        if self.metadata.is_clustered() {
            return self.ask_controller(now, to, request, out);
        }
        let request = Arc::new(request);
        if !self.decide_for(now, Asker::Client(to), to.version, &request, out) {
            Node::refuse_change(to, &request, ErrorCode::NotController, out);
        }
    }

    /// Has topics created that a client is interested in, if that is possible, and goes on.
    pub(in crate::node) fn create_missing(
        &mut self,
        now: Now,
        to: ReplyTo,
        names: &[Str],
        then: Then,
        out: &mut Outbox,
    ) {
        if self.metadata.is_clustered() {
            return self.ask_for_topics(now, to, names, then, out);
        }
        self.expect_members();
        if self.may_propose() && self.has_room_to_create(names) {
            let leading = self.metadata.leading.as_ref().expect("who proposes decides");
            let decision = leading.auto_create(&mut self.rng, names);
            // Where it is not taken, the client asks again.
            let _ = self.propose(&decision.records, out);
        }
        self.when_applied(now, Asker::Client(to), then, out);
    }

    /// Decides a request that changes metadata, if there is room for what it leads to. Whether it is decided.
    pub(super) fn decide_for(
        &mut self,
        now: Now,
        asker: Asker,
        version: i16,
        request: &Arc<wire::Request>,
        out: &mut Outbox,
    ) -> bool {
        if !self.may_propose() {
            return false;
        }
        if !self.has_room_for_metadata(request) {
            self.make_room();
            return false;
        }
        if let Some(gradual) = Gradual::begin(request) {
            if self.metadata.gradual.len() >= GRADUAL_MAX {
                return false;
            }
            self.metadata.gradual.push_back((asker, gradual));
            self.metadata.is_due = true;
            return true;
        }
        let ids = self.producer_ids.clone();
        self.expect_members();
        let Some((records, then)) = self.decide(now, version, request, out) else { return false };
        if self.propose(&records, out).is_err() {
            // A block that the log does not grant is nobody's.
            self.producer_ids = ids;
            return false;
        }
        self.when_applied(now, asker, then, out);
        true
    }

    /// Members of the quorum become brokers: topics are placed for as many.
    fn expect_members(&mut self) {
        let members = self.metadata.quorum.membership().voters().len();
        if let Some(leading) = &mut self.metadata.leading {
            leading.expect(members);
        }
    }

    fn decide(
        &mut self,
        now: Now,
        version: i16,
        request: &wire::Request,
        out: &mut Outbox,
    ) -> Option<(Vec<MetadataRecord>, Then)> {
        use wire::Request as R;
        let moved = |response| Then::Long(Long::Moved(Box::new(response)));
        let altered = |response| Then::Long(Long::Altered(Box::new(response)));
        let answer = |response| Then::Answer(Box::new(response));
        let leading = self.metadata.leading.as_ref()?;
        Some(match request {
            R::CreateTopics(request) => {
                let decision = leading.create_topics(&mut self.rng, request);
                (decision.records, moved(Response::CreateTopics(decision.response)))
            }
            R::DeleteTopics(request) => {
                let decision = leading.delete_topics(version, request);
                (decision.records, moved(Response::DeleteTopics(decision.response)))
            }
            R::CreatePartitions(request) => {
                let decision = leading.create_partitions(request);
                (decision.records, moved(Response::CreatePartitions(decision.response)))
            }
            R::AlterConfigs(request) => {
                let decision = leading.alter_configs(request);
                (decision.records, altered(Response::AlterConfigs(decision.response)))
            }
            R::IncrementalAlterConfigs(request) => {
                let decision = leading.incremental_alter_configs(request);
                (decision.records, altered(Response::IncrementalAlterConfigs(decision.response)))
            }
            R::InitProducerId(request) => {
                let decision = leading.init_producer_id(&mut self.producer_ids, request);
                (decision.records, answer(Response::InitProducerId(decision.response)))
            }
            R::UnregisterBroker(request) => {
                let decision = leading.unregister_broker(request);
                (decision.records, answer(Response::UnregisterBroker(decision.response)))
            }
            R::DescribeQuorum(request) => {
                (Vec::new(), answer(Response::DescribeQuorum(self.describe_quorum(now, request))))
            }
            R::AddRaftVoter(request) => (Vec::new(), answer(Response::AddRaftVoter(self.add_voter(request, out)))),
            R::RemoveRaftVoter(request) => {
                (Vec::new(), answer(Response::RemoveRaftVoter(self.remove_voter(request, out))))
            }
            // From another broker: its client is interested in these.
            R::Metadata(request) => {
                let names = request.topics.iter().flatten().filter_map(|topic| topic.name.clone());
                let decision = leading.auto_create(&mut self.rng, &names.collect::<Vec<Str>>());
                (decision.records, Then::Created)
            }
            _ => return None,
        })
    }

    /// Proposes records that were decided on the leading view, as one entry of the log, and replays them there: of very many
    /// the first at once, and the others in steps to come, in which nothing else is decided.
    ///
    /// # Errors
    /// Where the quorum does not take them: nothing has changed.
    pub(in crate::node) fn propose(&mut self, records: &[MetadataRecord], out: &mut Outbox) -> Result<(), Declined> {
        if records.is_empty() {
            return Ok(());
        }
        while self.learn_some() {}
        let entry = Bytes::from(encode_entry(records));
        let bytes = entry.len();
        let id = self.metadata.quorum.propose(entry.clone())?;
        self.metadata.under_way += bytes;
        self.metadata.proposed = Some(id);
        if records.len() > LEARNT_AT_ONCE {
            self.metadata.unlearnt = Some(Unlearnt { index: id.index, rest: entry });
            self.metadata.is_due = true;
        } else {
            let leading = self.metadata.leading.as_mut().expect("it was decided there");
            records.iter().for_each(|record| _ = leading.replay(id.index, record));
        }
        self.hand_over(out);
        Ok(())
    }

    /// Has the leading view learn more of what was proposed last, and takes up what waited for that. Whether there is more
    /// to do at once.
    pub(super) fn learn_on(&mut self) -> bool {
        let is_learning = self.metadata.unlearnt.is_some();
        let has_more = self.learn_some();
        if is_learning && !has_more {
            self.tend_asked();
        }
        has_more
    }

    fn learn_some(&mut self) -> bool {
        let Metadata { unlearnt, leading, .. } = &mut self.metadata;
        let Some(Unlearnt { index, rest: bytes }) = unlearnt else { return false };
        let mut rest = &bytes[..];
        let records = decode_some(&mut rest, LEARNT_AT_ONCE).expect("it was encoded here");
        let leading = leading.as_mut().expect("who does not lead has nothing to learn");
        records.iter().for_each(|record| _ = leading.replay(*index, record));
        let taken = bytes.len() - rest.len();
        bytes.advance(taken);
        if bytes.is_empty() {
            *unlearnt = None;
        }
        unlearnt.is_some()
    }

    /// The journal has no room for what is to be decided: a checkpoint makes some, where there is space for one.
    pub(super) fn make_room(&mut self) {
        if self.no_space.is_none() && !self.checkpoints.is_running() {
            self.checkpoint_soon();
        }
    }

    /// Goes on when all that was proposed is applied.
    pub(in crate::node) fn when_applied(&mut self, now: Now, asker: Asker, then: Then, out: &mut Outbox) {
        let applied = self.controller.image().index();
        match self.metadata.proposed.filter(|proposed| proposed.index > applied) {
            Some(LogId { index, term }) => self.park_change(index, Parked { term, asker, then }),
            None => self.carry_on(now, asker, then, out),
        }
    }

    /// It is as it was decided.
    pub(super) fn carry_on(&mut self, now: Now, asker: Asker, then: Then, out: &mut Outbox) {
        let index = self.controller.image().index();
        match (asker, then) {
            (Asker::Client(to), Then::Answer(response)) => out.push(Effect::Reply { to, response: Some(*response) }),
            (Asker::Client(to), Then::Long(long)) => self.begin_long(now, to, long, out),
            (Asker::Client(to), Then::Coordinator(request)) => self.tell_coordinator(to, request, out),
            (Asker::Own(id), then) => self.settle_asked(now, id, index, response_of(then), out),
            (Asker::Node { node, .. }, Then::Register(register)) => self.register_peer(now, node, *register, out),
            (Asker::Node { node, .. }, Then::Registered(register, epoch)) => {
                self.tell_registered(node, &register, Ok(epoch), out);
            }
            (Asker::Node { node, .. }, Then::InSync(term, partitions)) => {
                let answer = peer::AlterInSyncAnswer { term, partitions };
                self.say(node, peer::Message::AlterInSyncAnswer(answer), out);
            }
            (Asker::Node { node, id, version }, then) => {
                let response = response_of(then).map_or(Bytes::new(), |response| encoded(&response, version));
                let forwarded = peer::Forwarded { id, index, response: Some(response) };
                self.say(node, peer::Message::Forwarded(forwarded), out);
            }
            (Asker::Client(_), then) => unreachable!("{then:?} is for brokers"),
        }
    }

    /// An entry is applied: whoever waited for it goes on. Where another one has taken its place nothing was decided.
    pub(super) fn settle_parked(&mut self, now: Now, id: LogId, out: &mut Outbox) {
        while let Some(first) = self.metadata.parked.first_entry()
            && first.key().0 <= id.index
        {
            let is_applied = (first.key().0, first.get().term) == (id.index, id.term);
            let Parked { term, asker, then } = first.remove();
            match is_applied {
                true if self.is_between_members(&then) => {
                    let index = self.metadata.quorum.last().index.max(id.index + 1);
                    self.park_change(index, Parked { term, asker, then });
                }
                true => self.carry_on(now, asker, then, out),
                false => self.come_to_nothing(now, term, asker, out),
            }
        }
    }

    /// Whether the old members still count beside the new ones: whoever is told that a node is taken out may end it, and
    /// its vote must be needed no more.
    fn is_between_members(&self, then: &Then) -> bool {
        let changes =
            |response: &Response| matches!(response, Response::AddRaftVoter(_) | Response::RemoveRaftVoter(_));
        matches!(then, Then::Answer(response) if changes(response)) && self.metadata.quorum.membership().is_joint()
    }

    fn park_change(&mut self, index: u64, parked: Parked) {
        let order = self.metadata.next_parked;
        self.metadata.next_parked += 1;
        self.metadata.parked.insert((index, order), parked);
    }

    /// What was decided was not to be, or nobody can say: whoever asked asks again.
    pub(super) fn come_to_nothing(&mut self, now: Now, term: u64, asker: Asker, out: &mut Outbox) {
        match asker {
            Asker::Own(id) => self.ask_anew(now, id, term, out),
            Asker::Node { node, id, .. } => {
                let nothing = peer::Forwarded { id, index: 0, response: None };
                self.say(node, peer::Message::Forwarded(nothing), out);
            }
            Asker::Client(_) => unreachable!("alone, a node's entries are never replaced"),
        }
    }

    /// An entry of `bytes` is about to be applied.
    pub(super) fn proposal_applied(&mut self, id: LogId, bytes: usize) {
        if self.metadata.leading.is_some() && id.term == self.metadata.quorum.term() {
            self.metadata.under_way = self.metadata.under_way.saturating_sub(bytes);
        }
    }

    /// Lets go of what a connection waits for that is gone.
    pub(in crate::node) fn forget_asked(&mut self, conn: ConnId) {
        self.metadata.waiting.forget(conn);
    }
}

/// The answer that a client gets.
fn response_of(then: Then) -> Option<Response> {
    match then {
        Then::Answer(response) | Then::Long(Long::Moved(response) | Long::Altered(response)) => Some(*response),
        _ => None,
    }
}
