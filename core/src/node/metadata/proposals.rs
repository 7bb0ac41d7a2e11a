//! Changes of metadata: decided, proposed, and answered when the log has been applied so far.
//!
//! An answer speaks of all that was proposed before it, so one without a change of its own waits as well: a topic that is
//! refused because another request has just created it exists when the refusal is told.

use bytes::Bytes;

use super::super::Node;
use super::super::slices::Long;
use crate::boundary::{Effect, Outbox, ReplyTo};
use crate::controller::Controller;
use crate::controller::records::{MetadataRecord, encode_entry};
use crate::ids::ConnId;
use crate::raft::{Declined, Entry, LogId, Role};
use crate::time::Now;
use crate::wire::find_coordinator::FindCoordinatorRequest;
use crate::wire::{self, ErrorCode, Response, Str};

/// Bytes of entries under way, beyond which further changes wait: as many as several of the largest.
const UNDER_WAY_MAX: usize = 8 << 20;

/// What waits for an entry to be applied.
#[derive(Debug)]
pub(super) struct Parked {
    /// The term of the entry that it waits for.
    term: u64,
    to: ReplyTo,
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
}

impl Node {
    /// The metadata with all that is under way, if it is decided here.
    pub(in crate::node) fn leading(&self) -> Option<&Controller> {
        self.metadata.leading.as_ref()
    }

    /// Whether a change may be decided now.
    pub(in crate::node) fn may_propose(&self) -> bool {
        self.metadata.leading.is_some() && self.metadata.under_way < UNDER_WAY_MAX
    }

    /// Whether somebody waits for a change that this node alone can make.
    pub(in crate::node) fn waits_for_itself(&self) -> bool {
        self.metadata.is_alone() && !self.metadata.parked.is_empty()
    }

    /// Decides a request that changes metadata. There is room for what it leads to.
    pub(in crate::node) fn change_metadata(&mut self, now: Now, to: ReplyTo, request: wire::Request, out: &mut Outbox) {
        use wire::Request as R;
        let Some(leading) = &self.metadata.leading else {
            return Node::refuse_change(to, &request, ErrorCode::NotController, out);
        };
        let moved = |response| Then::Long(Long::Moved(Box::new(response)));
        let altered = |response| Then::Long(Long::Altered(Box::new(response)));
        let (records, then) = match &request {
            R::CreateTopics(request) => {
                let decision = leading.create_topics(&mut self.rng, request);
                (decision.records, moved(Response::CreateTopics(decision.response)))
            }
            R::DeleteTopics(request) => {
                let decision = leading.delete_topics(to.version, request);
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
                (decision.records, Then::Answer(Box::new(Response::InitProducerId(decision.response))))
            }
            other => unreachable!("{other:?} changes no metadata"),
        };
        match self.propose(&records, out) {
            Ok(()) => self.when_applied(now, to, then, out),
            Err(_) => Node::refuse_change(to, &request, ErrorCode::NotController, out),
        }
    }

    /// Creates topics that clients asked for, if there is room for them. Whether they are on their way, or somebody was
    /// faster.
    pub(in crate::node) fn create_missing(&mut self, names: Vec<Str>, out: &mut Outbox) -> bool {
        self.has_room_to_create(names.len()) && self.create_topics(&names, out)
    }

    /// Creates topics with the broker's defaults. There is room for them. Whether they are on their way.
    pub(in crate::node) fn create_topics(&mut self, names: &[Str], out: &mut Outbox) -> bool {
        if !self.may_propose() {
            return false;
        }
        let leading = self.metadata.leading.as_ref().expect("who proposes decides");
        let decision = leading.auto_create(&mut self.rng, names);
        self.propose(&decision.records, out).is_ok()
    }

    /// Proposes records that were decided on the leading view, as one entry of the log, and replays them there.
    ///
    /// # Errors
    /// Where the quorum does not take them: nothing has changed.
    pub(in crate::node) fn propose(&mut self, records: &[MetadataRecord], out: &mut Outbox) -> Result<(), Declined> {
        if records.is_empty() {
            return Ok(());
        }
        let entry = Bytes::from(encode_entry(records));
        let bytes = entry.len();
        let id = self.metadata.quorum.propose(entry)?;
        self.metadata.under_way += bytes;
        self.metadata.proposed = Some(id);
        let leading = self.metadata.leading.as_mut().expect("it was decided there");
        for record in records {
            leading.replay(id.index, record);
        }
        self.hand_over(out);
        Ok(())
    }

    /// Goes on when all that was proposed is applied.
    pub(in crate::node) fn when_applied(&mut self, now: Now, to: ReplyTo, then: Then, out: &mut Outbox) {
        let applied = self.controller.image().index();
        match self.metadata.proposed.filter(|proposed| proposed.index > applied) {
            Some(LogId { index, term }) => {
                let order = self.metadata.next_parked;
                self.metadata.next_parked += 1;
                self.metadata.parked.insert((index, order), Parked { term, to, then });
            }
            None => self.carry_on(now, to, then, out),
        }
    }

    fn carry_on(&mut self, now: Now, to: ReplyTo, then: Then, out: &mut Outbox) {
        match then {
            Then::Answer(response) => out.push(Effect::Reply { to, response: Some(*response) }),
            Then::Long(long) => self.begin_long(now, to, long, out),
            Then::Coordinator(request) => self.tell_coordinator(to, request, out),
        }
    }

    /// An entry is applied: whoever waited for it goes on.
    pub(super) fn settle_parked(&mut self, now: Now, id: LogId, out: &mut Outbox) {
        while let Some(first) = self.metadata.parked.first_entry()
            && first.key().0 <= id.index
        {
            let Parked { term, to, then } = first.remove();
            debug_assert_eq!(term, id.term, "alone, a node's entries are never replaced");
            self.carry_on(now, to, then, out);
        }
    }

    /// Begins to decide when the first entry of its own term is applied.
    pub(super) fn take_office(&mut self, applied: &Entry) {
        let quorum = &self.metadata.quorum;
        let is_first = self.metadata.leading.is_none() && applied.id.term == quorum.term();
        if is_first && quorum.role() == Role::Leader {
            self.metadata.leading = Some(self.controller.clone());
        }
    }

    /// Decides no more.
    pub(super) fn leave_office(&mut self) {
        self.metadata.leading = None;
        self.metadata.proposed = None;
        self.metadata.under_way = 0;
        // Their block may be one that nobody will ever hear of.
        self.producer_ids = crate::controller::ProducerIdBlock::default();
    }

    /// An entry of `bytes` is about to be applied.
    pub(super) fn proposal_applied(&mut self, id: LogId, bytes: usize) {
        if self.metadata.leading.is_some() && id.term == self.metadata.quorum.term() {
            self.metadata.under_way = self.metadata.under_way.saturating_sub(bytes);
        }
    }

    /// Lets go of what a connection waits for that is gone. Alone, the disk is all that it waits for; others may never
    /// agree.
    pub(in crate::node) fn forget_parked(&mut self, conn: ConnId) {
        if self.metadata.is_alone() {
            return;
        }
        self.metadata.parked.retain(|_, parked| parked.to.conn != conn);
    }
}
