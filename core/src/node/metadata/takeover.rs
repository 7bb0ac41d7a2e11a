//! An image from the quorum's leader takes the place of this node's own, a slice at a time.
//!
//! | state | what is done | until |
//! |---|---|---|
//! | journalled | nothing | its records are durable |
//! | read | some of its records a step become an image, beside the one in force | all are in: it is in force |
//! | in force | what it differs in from the one before is acted on: some partitions a step, as the journal has room for what they leave there | all is done |
//!
//! Entries behind it are applied after that. A newer image that comes takes the place of one that is not in force yet, and
//! waits for one that is. No checkpoint begins before an image is in force, since the quorum's log begins behind it
//! already; while what it differs in is acted on, one may, as somebody may wait for the room that it makes. A start from
//! that finds the same partitions.

use bytes::{Buf, Bytes};

use super::super::Node;
use crate::boundary::{Effect, Level, Outbox};
use crate::controller::Controller;
use crate::controller::image::{Change, Differences};
use crate::controller::records::{Malformed, decode_some};
use crate::ids::TopicPartition;
use crate::time::Now;

/// Records that one step reads, at about 0.7 µs each.
const READ_AT_ONCE: usize = 150;
/// Topics and partitions that one step compares, at about 0.1 µs each ...
const COMPARED_AT_ONCE: usize = 300;
/// ... and differences that it acts on, at about 1 µs each.
const ACTED_ON_AT_ONCE: usize = 75;

/// What comes of an image from the leader.
#[derive(Debug, Default)]
pub(super) struct Takeover {
    coming: Option<Coming>,
    /// What the image in force differs in from the one before it, as far as nobody has looked.
    differences: Option<Differences>,
    /// What was found, and is not acted on, the last first.
    found: Vec<Change>,
}

/// An image that is not in force yet.
#[derive(Debug)]
struct Coming {
    /// The portion that its records are in.
    number: u64,
    /// The log up to here is in it.
    index: u64,
    /// What it says as far as it was read, once that has begun.
    read: Option<Box<Controller>>,
    /// What is left to read.
    rest: Bytes,
}

impl Coming {
    /// Reads on, as what knew nothing to begin with: `anew`. What it says, when all of it was read.
    fn read_on(&mut self, anew: impl FnOnce() -> Controller) -> Result<Option<Controller>, Malformed> {
        let read = self.read.get_or_insert_with(|| Box::new(anew()));
        let mut rest = &self.rest[..];
        for record in decode_some(&mut rest, READ_AT_ONCE)? {
            read.replay(self.index, &record);
        }
        let taken = self.rest.len() - rest.len();
        self.rest.advance(taken);
        read.pass(self.index);
        Ok(if self.rest.is_empty() { self.read.take().map(|read| *read) } else { None })
    }
}

impl Takeover {
    /// An image of the log up to `index` has come, whose records are in portion `number`.
    pub(super) fn begin(&mut self, number: u64, index: u64, image: Bytes) {
        self.coming = Some(Coming { number, index, read: None, rest: image });
    }

    /// Whether nothing is under way.
    pub(super) fn is_over(&self) -> bool {
        self.coming.is_none() && self.is_told()
    }

    /// Whether all that the image in force differs in from the one before is acted on.
    fn is_told(&self) -> bool {
        self.differences.is_none() && self.found.is_empty()
    }
}

impl Node {
    /// Whether an image has come that is not in force yet: the quorum's log begins behind it already, and the image here is
    /// older.
    pub(in crate::node) fn is_installing(&self) -> bool {
        self.metadata.takeover.coming.is_some()
    }

    /// Goes on with an image from the leader for a slice. Whether there is more to do at once.
    pub(super) fn take_over(&mut self, now: Now, out: &mut Outbox) -> bool {
        // An entry that is half applied is finished first.
        if !self.is_half_applied() {
            if self.metadata.takeover.is_told() && !self.read_image(out) {
                return false;
            }
            if !self.tell_differences(now, out) {
                return false;
            }
        }
        let Takeover { coming, .. } = &self.metadata.takeover;
        !self.metadata.takeover.is_told()
            || coming.as_ref().is_some_and(|coming| coming.number <= self.metadata.durable)
    }

    /// Reads some of an image that the journal has. Whether there is one.
    fn read_image(&mut self, out: &mut Outbox) -> bool {
        let durable = self.metadata.durable;
        let Some(coming) = self.metadata.takeover.coming.as_mut().filter(|coming| coming.number <= durable) else {
            return false;
        };
        let index = coming.index;
        match coming.read_on(|| self.controller.anew()) {
            Ok(None) => {}
            Ok(Some(read)) => {
                out.log(Level::Info, format!("the metadata is taken over as of entry {index}"));
                // What has committed before is in the image, or never was.
                self.metadata.committed.retain(|entry| entry.id.index > index);
                self.metadata.applying = None;
                self.checkpoints.abandon_image();
                self.metadata.making = None;
                let before = self.controller.take_over(read);
                self.metadata.takeover.coming = None;
                self.metadata.takeover.differences = Some(Differences::from(before));
            }
            Err(error) => {
                self.metadata.takeover.coming = None;
                out.push(Effect::Fatal(format!("the image of the metadata that was sent: {error}")));
                return false;
            }
        }
        true
    }

    /// Acts on what the image in force differs in from the one before. Whether there was room for that.
    fn tell_differences(&mut self, now: Now, out: &mut Outbox) -> bool {
        let takeover = &mut self.metadata.takeover;
        if takeover.found.is_empty()
            && let Some(differences) = &mut takeover.differences
        {
            match differences.next(self.controller.image(), COMPARED_AT_ONCE) {
                Some(found) => takeover.found = found.into_iter().rev().collect(),
                None => takeover.differences = None,
            }
        }
        let from = self.metadata.takeover.found.len().saturating_sub(ACTED_ON_AT_ONCE);
        if !self.has_room_to_begin(coming(&self.metadata.takeover.found[from..]), None) {
            self.wait_for_room_to_apply(out);
            return false;
        }
        let next = self.metadata.takeover.found.split_off(from);
        next.into_iter().rev().for_each(|change| self.changed(now, change, out));
        self.move_some(now, out);
        true
    }
}

/// The partitions that may come to this broker from others by these changes.
fn coming(changes: &[Change]) -> impl Iterator<Item = TopicPartition> {
    changes.iter().filter_map(|change| match change {
        Change::PartitionChanged(partition) => Some(*partition),
        _ => None,
    })
}
