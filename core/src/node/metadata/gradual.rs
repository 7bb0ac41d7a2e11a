//! Changes of very many partitions, decided an entry of the log at a time: elections and moves that clients ask for.
//!
//! Each part is decided on the view that the one before it is in, and other decisions may come in between. Where the
//! quorum's leadership is lost halfway, what was decided by then may stay so: whoever asked asks whoever leads next, who
//! finds that done already. The answer waits until the last part is applied.

use std::sync::Arc;

use super::super::Node;
use super::proposals::{Asker, Then};
use crate::boundary::Outbox;
use crate::controller::records::MetadataRecord;
use crate::controller::{Controller, Electing, Reassigning};
use crate::time::Now;
use crate::wire::alter_partition_reassignments::AlterPartitionReassignmentsRequest;
use crate::wire::{ErrorCode, Request, Response};

/// One of them.
#[derive(Debug)]
pub(super) enum Gradual {
    Electing(Electing),
    /// What is asked for, which may be shared with whoever waits for its answer, and how far it is decided.
    Reassigning(Arc<Request>, Reassigning),
}

impl Gradual {
    /// Begins with what `request` asks for, if that is done in this way.
    pub(super) fn begin(request: &Arc<Request>) -> Option<Gradual> {
        match &**request {
            Request::ElectLeaders(request) => Some(Gradual::Electing(Electing::begin(request.clone()))),
            Request::AlterPartitionReassignments(_) => {
                Some(Gradual::Reassigning(request.clone(), Reassigning::begin()))
            }
            _ => None,
        }
    }

    /// Decides the next entry. Whether there may be more.
    fn go_on(&mut self, leading: &Controller) -> (Vec<MetadataRecord>, bool) {
        match self {
            Gradual::Electing(electing) => leading.elect_on(electing),
            Gradual::Reassigning(request, reassigning) => leading.reassign_on(moves(request), reassigning),
        }
    }

    fn into_request(self) -> Arc<Request> {
        match self {
            Gradual::Electing(electing) => Arc::new(Request::ElectLeaders(electing.into_request())),
            Gradual::Reassigning(request, _) => request,
        }
    }

    fn into_response(self) -> Response {
        match self {
            Gradual::Electing(electing) => Response::ElectLeaders(electing.into_response()),
            Gradual::Reassigning(request, reassigning) => {
                Response::AlterPartitionReassignments(reassigning.into_response(moves(&request)))
            }
        }
    }
}

fn moves(request: &Request) -> &AlterPartitionReassignmentsRequest {
    match request {
        Request::AlterPartitionReassignments(request) => request,
        _ => unreachable!("it began with such a request"),
    }
}

impl Node {
    /// Goes on with the oldest, for one entry of the log. Whether there is more to do at once.
    pub(super) fn decide_on(&mut self, now: Now, out: &mut Outbox) -> bool {
        if self.metadata.gradual.is_empty() {
            return false;
        }
        if !self.may_propose_partitions() {
            if self.may_propose() {
                self.make_room();
            }
            return false;
        }
        let Some((asker, mut gradual)) = self.metadata.gradual.pop_front() else { return false };
        let leading = self.metadata.leading.as_ref().expect("who proposes decides");
        let (records, goes_on) = gradual.go_on(leading);
        if self.propose(&records, out).is_err() {
            // What was decided by now stays so, which the next attempt finds.
            let term = self.metadata.quorum.term();
            match asker {
                Asker::Client(to) => {
                    Node::refuse_change(to, &gradual.into_request(), ErrorCode::NotController, out);
                }
                asker => self.come_to_nothing(now, term, asker, out),
            }
            return false;
        }
        if goes_on {
            self.metadata.gradual.push_front((asker, gradual));
        } else {
            self.when_applied(now, asker, Then::Answer(Box::new(gradual.into_response())), out);
        }
        !self.metadata.gradual.is_empty()
    }
}
