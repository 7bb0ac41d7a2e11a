//! What peers say, in the order in which they said it, some partitions a step.

use std::vec;

use super::append::Incoming;
use crate::boundary::{Level, Outbox};
use crate::ids::{NodeId, Offset, TopicPartition};
use crate::node::{Node, Woken, logs};
use crate::partition::{Cutting, Partition};
use crate::peer::{Acked, Answer, Append, Cut, Epochs, Greet, Message};
use crate::replication::{Facts, Peers};
use crate::time::Now;

/// Partitions that are taken out of messages in one step, at about 0.5 µs each.
const HEARD_AT_ONCE: usize = 200;

/// What is left of a message.
#[derive(Debug)]
pub(super) struct Heard {
    from: NodeId,
    parts: Parts,
}

/// Declares a message's parts, and one of them.
macro_rules! parts {
    ($($name:ident($of:ty),)*) => {
        #[derive(Debug)]
        enum Parts { $($name(vec::IntoIter<$of>),)* }

        enum Part { $($name($of),)* }

        impl Parts {
            fn is_empty(&self) -> bool {
                match self { $(Parts::$name(parts) => parts.as_slice().is_empty(),)* }
            }

            fn next(&mut self) -> Option<Part> {
                match self { $(Parts::$name(parts) => parts.next().map(Part::$name),)* }
            }
        }
    };
}

parts! {
    Greet(Greet),
    Epochs(Epochs),
    Cut(Cut),
    CutDone(Acked),
    Append(Append),
    Acked(Acked),
    Mismatch(Acked),
    Answers(Answer),
}

impl Node {
    /// A peer says something about partitions. Anything else is given back.
    pub(in crate::node) fn hear(
        &mut self,
        now: Now,
        from: NodeId,
        message: Message,
        out: &mut Outbox,
    ) -> Option<Message> {
        let parts = match message {
            Message::Greet(parts) => Parts::Greet(parts.into_iter()),
            Message::Epochs(parts) => Parts::Epochs(parts.into_iter()),
            Message::Cut(parts) => Parts::Cut(parts.into_iter()),
            Message::CutDone(parts) => Parts::CutDone(parts.into_iter()),
            Message::Append(parts) => Parts::Append(parts.into_iter()),
            Message::Acked(parts) => Parts::Acked(parts.into_iter()),
            Message::Mismatch(parts) => Parts::Mismatch(parts.into_iter()),
            // Only the controller that was asked last is believed.
            Message::AlterInSyncAnswer(answer) if self.replicas.controller == Some((from, answer.term)) => {
                Parts::Answers(answer.partitions.into_iter())
            }
            Message::AlterInSyncAnswer(_) => return None,
            other => return Some(other),
        };
        if parts.is_empty() {
            return None;
        }
        let is_first = self.replicas.heard.is_empty();
        self.replicas.heard.push_back(Heard { from, parts });
        if is_first {
            self.hear_on(now, out);
        }
        None
    }

    /// Goes on with what was heard.
    pub(super) fn hear_on(&mut self, now: Now, out: &mut Outbox) {
        for _ in 0..HEARD_AT_ONCE {
            if self.next_waits_for_room() {
                self.checkpoint_soon();
                break;
            }
            let Some(Heard { from, parts }) = self.replicas.heard.front_mut() else { break };
            let from = *from;
            let part = parts.next().expect("messages without parts are let go of");
            if parts.is_empty() {
                self.replicas.heard.pop_front();
            }
            self.hear_part(now, from, part, out);
        }
        self.append_on(now, out);
    }

    /// Whether what comes next is to be journalled and there is no room for it, not even of the reserve.
    pub(super) fn next_waits_for_room(&self) -> bool {
        let is_cut = self.replicas.heard.front().is_some_and(|heard| matches!(heard.parts, Parts::Cut(_)));
        is_cut && !self.has_room_to_advance()
    }

    fn hear_part(&mut self, now: Now, from: NodeId, part: Part, out: &mut Outbox) {
        let at = now.instant;
        match part {
            Part::Greet(greet) => self.heard_greet(from, &greet),
            Part::Cut(cut) => self.heard_cut(from, &cut, out),
            Part::Append(append) => self.replicas.incoming.push_back(Incoming::new(from, append)),
            Part::Epochs(told) => self.tell_leader(told.partition, out, |partition, peers| {
                partition.on_epochs(from, &told, at, peers);
                Facts::default()
            }),
            Part::CutDone(acked) => self
                .tell_leader(acked.partition, out, |partition, peers| partition.on_cut_done(from, &acked, at, peers)),
            Part::Acked(acked) => {
                self.tell_leader(acked.partition, out, |partition, peers| partition.on_acked(from, &acked, at, peers));
            }
            Part::Mismatch(acked) => self.tell_leader(acked.partition, out, |partition, peers| {
                partition.on_mismatch(from, &acked, at, peers);
                Facts::default()
            }),
            Part::Answers(answer) => {
                self.tell_leader(answer.partition, out, |partition, peers| partition.on_answer(&answer, at, peers));
            }
        }
    }

    fn tell_leader(
        &mut self,
        partition: TopicPartition,
        out: &mut Outbox,
        tell: impl FnOnce(&mut Partition, &mut Peers) -> Facts,
    ) {
        if let Some(slot) = self.slot_of(partition) {
            self.stir(slot, out, tell);
        }
    }

    fn heard_greet(&mut self, from: NodeId, greet: &Greet) {
        let Some(slot) = self.slot_of(greet.partition) else { return };
        if let Some(epochs) = self.host(slot).partition.on_greet(from, greet) {
            self.replicas.said.entry(from).or_default().epochs.push(epochs);
        }
    }

    fn heard_cut(&mut self, from: NodeId, cut: &Cut, out: &mut Outbox) {
        let Some(slot) = self.slot_of(cut.partition) else { return };
        let hosted = self.hosts[slot as usize].as_mut().expect("a hosted partition");
        let before = hosted.partition.advanced();
        let (Offset(start), Offset(end)) = (hosted.partition.log().start(), hosted.partition.log().end());
        let name = || logs::display(&hosted.name, cut.partition);
        match hosted.partition.on_cut(from, cut, &mut self.journal) {
            Cutting::Nothing => {}
            Cutting::Done(acked) => self.replicas.said.entry(from).or_default().cut_done.push(acked),
            Cutting::Begun(lsn) => {
                let (name, epoch, to) = (name(), cut.leader_epoch, cut.to);
                let text = format!("{name} is cut to its leader's log: end={to} before={start}..{end} epoch={epoch}");
                out.log(Level::Info, text);
                self.woken.push_back((lsn, Woken::Partition(slot)));
                self.account_tail(slot);
                self.rouse(slot, before, out);
            }
            Cutting::BelowHighWatermark { to, high_watermark } => {
                let name = name();
                let text = format!("{name} takes no part: node {from} would cut it to {to}, below {high_watermark}");
                out.log(Level::Error, text);
            }
        }
    }
}
