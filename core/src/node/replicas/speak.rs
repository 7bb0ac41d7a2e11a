//! What leaders have to say to their followers, gathered for each peer: a message of each kind a turn.

use smallvec::SmallVec;

use super::append::end_of_run;
use crate::boundary::{DiskOp, Effect, Outbox};
use crate::ids::{LeaderEpoch, NodeId, Offset, Session, TopicPartition};
use crate::log::{Read, ReadOutcome, Run};
use crate::node::{Node, ReadResult, Reader, segment_of};
use crate::peer::{Append, Batches, Cut, Greet, Message};
use crate::replication::{Lane, Next};
use crate::time::Now;

/// Partitions that have their turn at one peer in one turn of the node, at about 1 µs each.
const SPOKEN_AT_ONCE: usize = 128;

/// A message ends when it has so many bytes of batches. With one batch more, the largest there may be, it fits a frame.
const MESSAGE_BYTES: usize = 4 << 20;

/// Batches of one partition in one message, which is made of a slice or two for each.
const BATCHES_AT_ONCE: usize = 256;

/// What one read of a segment brings: its batches are walked through, to find out where they end.
const CATCH_UP_BYTES: usize = 256 << 10;

/// Batches that are read for a follower.
#[derive(Clone, Copy, Debug)]
pub(in crate::node) struct CatchUp {
    partition: TopicPartition,
    follower: NodeId,
    /// Sessions are numbered in each leadership anew, and the log may have been cut between two of them.
    leader_epoch: LeaderEpoch,
    session: Session,
    /// Where what the follower was sent ends.
    from: Offset,
    /// Where the read began: behind `from` where compaction left a gap.
    at: Offset,
    bytes_max: usize,
}

/// What one peer is told in one turn.
#[derive(Debug, Default)]
struct Letter {
    greets: Vec<Greet>,
    cuts: Vec<Cut>,
    appends: Vec<Append>,
    bytes: usize,
}

impl Letter {
    fn send(self, to: NodeId, out: &mut Outbox) {
        let Letter { greets, cuts, appends, .. } = self;
        let messages = [
            (!greets.is_empty()).then_some(Message::Greet(greets)),
            (!cuts.is_empty()).then_some(Message::Cut(cuts)),
            (!appends.is_empty()).then_some(Message::Append(appends)),
        ];
        for message in messages.into_iter().flatten() {
            out.push(Effect::Say { to, message: Box::new(message) });
        }
    }
}

impl Node {
    /// Says to each peer what is due. Returns whether something is left.
    pub(super) fn lead_followers(&mut self, now: Now, out: &mut Outbox) -> bool {
        let ready: SmallVec<[NodeId; 4]> = self.replicas.peers.ready(now.instant).collect();
        for &node in &ready {
            self.speak_to(now, node, out);
        }
        !ready.is_empty() && self.replicas.peers.ready(now.instant).next().is_some()
    }

    fn speak_to(&mut self, now: Now, node: NodeId, out: &mut Outbox) {
        let mut letter = Letter::default();
        for _ in 0..SPOKEN_AT_ONCE {
            if letter.bytes >= MESSAGE_BYTES {
                break;
            }
            let Some((lane, id)) = self.replicas.peers.next(node, now.instant) else { break };
            let Some(slot) = self.slot_of(id) else { continue };
            let hosted = self.hosts[slot as usize].as_mut().expect("a hosted partition");
            let peers = &mut self.replicas.peers;
            match hosted.partition.next(node, lane, now.instant, peers) {
                Next::Nothing => {}
                Next::Greet(greet) => letter.greets.push(greet),
                Next::Cut(cut) => letter.cuts.push(cut),
                Next::News(append) => letter.appends.push(append),
                Next::Batches { from, bytes_max, session } if lane != Lane::Tail => {
                    let bytes_max = bytes_max.min(CATCH_UP_BYTES);
                    let leader_epoch = hosted.partition.epoch();
                    let read =
                        CatchUp { partition: id, follower: node, leader_epoch, session, from, at: from, bytes_max };
                    letter.appends.extend(self.catch_up(now, read, out));
                }
                Next::Batches { from, bytes_max, .. } => {
                    match hosted.partition.log().run_from(from, bytes_max, BATCHES_AT_ONCE) {
                        Some(Run { slices, bytes, end }) => {
                            letter.bytes += bytes;
                            let batches = Batches::new(slices);
                            letter.appends.push(hosted.partition.send(node, batches, end, now.instant, peers));
                        }
                        None => hosted.partition.wait_for_catch_up(node, now.instant, peers),
                    }
                }
            }
            self.replicas.stir(slot);
        }
        self.count_sent(&letter.appends);
        letter.send(node, out);
    }

    fn count_sent(&mut self, appends: &[Append]) {
        let bytes: usize = appends.iter().map(|append| append.batches.bytes()).sum();
        self.counters.bytes_sent_to_followers += bytes as u64;
    }

    /// Has batches read for a follower. What is in memory by now is sent at once.
    fn catch_up(&mut self, now: Now, read: CatchUp, out: &mut Outbox) -> Option<Append> {
        let slot = self.slot_of(read.partition)?;
        let hosted = self.hosts[slot as usize].as_mut().expect("a hosted partition");
        let CatchUp { follower, session, at, bytes_max, from, .. } = read;
        if let Some(Run { slices, end, .. }) = hosted.partition.log().run_from(at, bytes_max, BATCHES_AT_ONCE) {
            let (to, batches) = ((follower, session), Batches::new(slices));
            return hosted.partition.send_read(to, batches, end, now.instant, &mut self.replicas.peers);
        }
        if let Read::Disk(plan, _) = hosted.partition.log().read_to_end(at, bytes_max) {
            let id = self.next_read();
            self.reads.insert(id, (Reader::CatchUp(read), segment_of(&plan)));
            out.push(Effect::Disk(DiskOp::Read(id, plan)));
            return None;
        }
        // Nothing is there, up to the end: the next batch says what it follows.
        let (to, none) = ((follower, session), Batches::default());
        hosted.partition.send_read(to, none, from, now.instant, &mut self.replicas.peers)
    }

    /// Batches have been read for a follower.
    pub(in crate::node) fn caught_up(&mut self, now: Now, read: CatchUp, result: ReadResult, out: &mut Outbox) {
        let Some(slot) = self.slot_of(read.partition) else { return };
        let CatchUp { follower, session, from, at, .. } = read;
        let hosted = self.hosts[slot as usize].as_mut().expect("a hosted partition");
        if hosted.partition.epoch() != read.leader_epoch {
            if let Err(Some(error)) = result {
                self.read_failed(slot, &error, out);
            }
            return;
        }
        let peers = &mut self.replicas.peers;
        let append = match result {
            Ok(ReadOutcome::Batches(bytes)) => {
                let up_to = end_of_run(&bytes).unwrap_or(from);
                let batches = Batches::new(SmallVec::from_iter([bytes]));
                hosted.partition.send_read((follower, session), batches, up_to, now.instant, peers)
            }
            // Compaction left a gap, or another segment in the place of the one that was read.
            Ok(_) => {
                let next = hosted.partition.log().after_gap(at);
                self.catch_up(now, CatchUp { at: next, ..read }, out)
            }
            Err(None) => self.catch_up(now, read, out),
            Err(Some(error)) => {
                hosted.partition.read_failed((follower, session), now.instant, peers);
                self.read_failed(slot, &error, out);
                None
            }
        };
        if let Some(append) = append {
            self.count_sent(std::slice::from_ref(&append));
            out.push(Effect::Say { to: follower, message: Box::new(Message::Append(vec![append])) });
        }
        self.replicas.stir(slot);
    }
}
