//! Taking the controller's office, and leaving it: the view that decisions are made on is a second image, which is made and
//! let go of some records a step.

use super::super::Node;
use crate::boundary::{Level, Outbox};
use crate::controller::Controller;
use crate::controller::image::{MetadataImage, Snapshot};
use crate::raft::{Entry, Role};

/// Records that one step copies, at about 1 µs each.
const COPIED_AT_ONCE: usize = 100;
/// Topics and partitions that one step lets go of, at about 0.2 µs each.
const LET_GO_AT_ONCE: usize = 400;

/// The leading view in the making. Nothing is decided before there is one, so that the image stays as it is meanwhile.
#[derive(Debug)]
pub(super) struct Office {
    view: Controller,
    snapshot: Snapshot,
}

impl Node {
    /// Begins to take office when the first entry of its own term is applied.
    pub(super) fn take_office(&mut self, applied: &Entry, out: &mut Outbox) {
        let quorum = &self.metadata.quorum;
        let is_first = self.metadata.leading.is_none() && applied.id.term == quorum.term();
        if is_first && self.metadata.office.is_none() && quorum.role() == Role::Leader {
            let snapshot = Snapshot::begin(self.controller.image());
            self.metadata.office = Some(Office { view: self.controller.anew(), snapshot });
            self.go_on_with_office(out);
        }
    }

    /// Makes some more of the leading view, and decides from then on where that is all. Whether there is more to do at
    /// once.
    pub(super) fn go_on_with_office(&mut self, out: &mut Outbox) -> bool {
        let Some(Office { view, snapshot }) = &mut self.metadata.office else { return self.let_former_go() };
        let image = self.controller.image();
        let index = image.index();
        let goes_on = snapshot.next_records(image, COPIED_AT_ONCE, &mut |record| _ = view.replay(index, &record));
        if goes_on {
            return true;
        }
        if let Some(Office { mut view, .. }) = self.metadata.office.take() {
            view.pass(index);
            if self.metadata.is_clustered() {
                let term = self.metadata.quorum.term();
                out.log(Level::Info, format!("this node is the controller from now on: term={term}"));
            }
            self.metadata.leading = Some(view);
        }
        false
    }

    /// Decides no more.
    pub(super) fn leave_office(&mut self) {
        self.metadata.former = self.metadata.leading.take().map(Controller::into_image);
        self.metadata.office = None;
        self.metadata.unlearnt = None;
        self.metadata.proposed = None;
        self.metadata.under_way = 0;
        // Their askers hear of no answer from here, and ask whoever decides next.
        self.metadata.gradual.clear();
        self.watch_nobody();
        // Their block may be one that nobody will ever hear of.
        self.producer_ids = crate::controller::ProducerIdBlock::default();
    }

    /// Lets go of some more of the view that was the leading one. Whether something is left.
    fn let_former_go(&mut self) -> bool {
        let is_left = |former: &mut MetadataImage| former.let_go(LET_GO_AT_ONCE);
        let is_left = self.metadata.former.as_mut().is_some_and(is_left);
        if !is_left {
            self.metadata.former = None;
        }
        is_left
    }
}
