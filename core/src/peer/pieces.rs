//! Messages about many partitions, as several: such as fit a frame, and such as one step of a node takes.
//!
//! Each piece is a message like any other: what is said of a partition does not depend on what is said of the others, nor
//! on the message that it comes by. The batches of one partition may be several pieces; then each follows the one before.

use super::{AlterInSync, AlterInSyncAnswer, Append, Batches, Message, Proposal};
use crate::ids::Offset;

/// How many partitions one step takes: at 0.2 to 0.4 µs each, the 100 µs that it may last.
const STEP_PARTITIONS_MAX: usize = 250;

/// How many batches one step takes: appending one costs about as much as five partitions without.
const STEP_BATCHES_MAX: usize = 50;

/// A frame is ended behind the partition with which it reaches so many bytes, so that its receiver begins with it while
/// the next is on its way, and no number of partitions makes a frame that nobody takes.
const FRAME_BYTES: usize = 1 << 20;

/// What one partition takes of a frame at most, in bytes, beside lists and batches.
const PART_BYTES: usize = 80;

/// What an element of a list takes: an epoch and its start, a member and its process.
const ELEMENT_BYTES: usize = 12;

impl Message {
    /// About how many bytes of memory it holds beside what is shared.
    pub fn payload_bytes(&self) -> usize {
        PART_BYTES
            + match self {
                Message::Append(parts) => parts.iter().map(|part| part.batches.bytes() + PART_BYTES).sum::<usize>(),
                Message::Metadata(bytes) => bytes.len(),
                Message::Forward(forward) => forward.request.len(),
                Message::Forwarded(forwarded) => forwarded.response.as_ref().map_or(0, bytes::Bytes::len),
                Message::Epochs(parts) => parts.iter().map(|part| part.epochs.len() * ELEMENT_BYTES + PART_BYTES).sum(),
                Message::AlterInSync(alter) => {
                    alter.partitions.iter().map(|part| part.members.len() * ELEMENT_BYTES + PART_BYTES).sum()
                }
                Message::Heartbeat(heartbeat) => heartbeat.damaged.len() * 20,
                Message::AlterInSyncAnswer(answer) => answer.partitions.len() * PART_BYTES,
                Message::Greet(parts) => parts.len() * PART_BYTES,
                Message::Cut(parts) => parts.len() * PART_BYTES,
                Message::CutDone(parts) | Message::Acked(parts) | Message::Mismatch(parts) => parts.len() * PART_BYTES,
                Message::Hello(_)
                | Message::Welcome(_)
                | Message::Refused(_)
                | Message::Begun(_)
                | Message::Register(_)
                | Message::Registered(_)
                | Message::Referral(_)
                | Message::HeartbeatAnswer(_) => 0,
            }
    }

    /// Calls `each` with pieces of this message that fit frames, in their order.
    pub(super) fn into_frames(self, each: &mut impl FnMut(Message)) {
        match self {
            Message::Append(parts) => {
                frames(parts, |part| part.batches.bytes(), |parts| each(Message::Append(parts)));
            }
            Message::Epochs(parts) => {
                frames(parts, |part| ELEMENT_BYTES * part.epochs.len(), |parts| each(Message::Epochs(parts)));
            }
            Message::AlterInSync(AlterInSync { term, broker_epoch, partitions }) => {
                let members = |part: &Proposal| ELEMENT_BYTES * part.members.len();
                frames(partitions, members, |partitions| {
                    each(Message::AlterInSync(AlterInSync { term, broker_epoch, partitions }));
                });
            }
            Message::AlterInSyncAnswer(AlterInSyncAnswer { term, partitions }) => {
                frames(
                    partitions,
                    |_| 0,
                    |partitions| {
                        each(Message::AlterInSyncAnswer(AlterInSyncAnswer { term, partitions }));
                    },
                );
            }
            Message::Greet(parts) => frames(parts, |_| 0, |parts| each(Message::Greet(parts))),
            Message::Cut(parts) => frames(parts, |_| 0, |parts| each(Message::Cut(parts))),
            Message::CutDone(parts) => frames(parts, |_| 0, |parts| each(Message::CutDone(parts))),
            Message::Acked(parts) => frames(parts, |_| 0, |parts| each(Message::Acked(parts))),
            Message::Mismatch(parts) => frames(parts, |_| 0, |parts| each(Message::Mismatch(parts))),
            other => each(other),
        }
    }

    /// Calls `each` with pieces of this message that one step of a node takes, in their order.
    pub(super) fn into_steps(self, each: &mut impl FnMut(Message)) {
        match self {
            Message::Append(parts) => {
                let mut piece = Piece::default();
                for part in parts {
                    in_steps(part, &mut |part| {
                        let batches = part.batches.placed().len();
                        if piece.parts.len() == STEP_PARTITIONS_MAX || piece.batches + batches > STEP_BATCHES_MAX {
                            each(piece.take());
                        }
                        piece.add(part);
                    });
                }
                piece.finish(each);
            }
            Message::AlterInSync(AlterInSync { term, broker_epoch, partitions }) => {
                chunks(partitions, |partitions| {
                    each(Message::AlterInSync(AlterInSync { term, broker_epoch, partitions }));
                });
            }
            Message::AlterInSyncAnswer(AlterInSyncAnswer { term, partitions }) => {
                chunks(partitions, |partitions| {
                    each(Message::AlterInSyncAnswer(AlterInSyncAnswer { term, partitions }));
                });
            }
            Message::Greet(parts) => chunks(parts, |parts| each(Message::Greet(parts))),
            Message::Epochs(parts) => chunks(parts, |parts| each(Message::Epochs(parts))),
            Message::Cut(parts) => chunks(parts, |parts| each(Message::Cut(parts))),
            Message::CutDone(parts) => chunks(parts, |parts| each(Message::CutDone(parts))),
            Message::Acked(parts) => chunks(parts, |parts| each(Message::Acked(parts))),
            Message::Mismatch(parts) => chunks(parts, |parts| each(Message::Mismatch(parts))),
            other => each(other),
        }
    }
}

/// Calls `each` with as many of a list at a time as a frame is made of, where each takes `bytes` beside what all take; with
/// all of it, at once, where it is empty.
fn frames<T>(list: Vec<T>, bytes: impl Fn(&T) -> usize, mut each: impl FnMut(Vec<T>)) {
    let weight = |part: &T| PART_BYTES + bytes(part);
    if list.iter().map(weight).sum::<usize>() <= FRAME_BYTES {
        return each(list);
    }
    let (mut frame, mut taken) = (Vec::new(), 0);
    for part in list {
        taken += weight(&part);
        frame.push(part);
        if taken >= FRAME_BYTES {
            each(std::mem::take(&mut frame));
            taken = 0;
        }
    }
    if !frame.is_empty() {
        each(frame);
    }
}

/// Some of the partitions of a message, to be one of its own.
#[derive(Default)]
struct Piece {
    parts: Vec<Append>,
    batches: usize,
}

impl Piece {
    fn add(&mut self, part: Append) {
        self.batches += part.batches.known().len();
        self.parts.push(part);
    }

    fn take(&mut self) -> Message {
        Message::Append(std::mem::take(self).parts)
    }

    fn finish(mut self, each: &mut impl FnMut(Message)) {
        if !self.parts.is_empty() {
            each(self.take());
        }
    }
}

/// One partition's verified batches as several of at most [`STEP_BATCHES_MAX`].
fn in_steps(part: Append, each: &mut impl FnMut(Append)) {
    if part.batches.placed().len() <= STEP_BATCHES_MAX {
        return each(part);
    }
    let mut run = part.batches.to_bytes();
    let mut previous_end = part.previous_end;
    for batches in part.batches.placed().chunks(STEP_BATCHES_MAX) {
        let bytes = batches.iter().map(|batch| batch.bytes().len()).sum();
        let end = batches.last().map_or(Offset(0), |last| last.head().next_offset());
        let batches = Batches::of(run.split_to(bytes), batches.to_vec());
        each(Append { previous_end, batches, ..part });
        previous_end = end;
    }
}

/// Calls `each` with at most [`STEP_PARTITIONS_MAX`] of a list at a time; with all of it, at once, where it is empty.
fn chunks<T>(list: Vec<T>, mut each: impl FnMut(Vec<T>)) {
    if list.len() <= STEP_PARTITIONS_MAX {
        return each(list);
    }
    let mut rest = list.into_iter();
    while rest.len() > 0 {
        each(rest.by_ref().take(STEP_PARTITIONS_MAX).collect());
    }
}
