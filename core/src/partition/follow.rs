//! A partition that is followed here: what its leader says becomes of the log.

use super::{Partition, Played, Role, Stage};
use crate::batch::{HEAD_BYTES, PlacedBatch};
use crate::boundary::DirectWrite;
use crate::config::TopicConfig;
use crate::ids::{Lsn, NodeId, Offset};
use crate::journal;
use crate::log::Misfit;
use crate::peer::{Acked, Append, Cut, Epochs, Greet};
use crate::replication::{CutDecision, Follower, Leadership, Taken};
use crate::time::Timestamp;

/// What has come of a word about where the log is to end.
#[derive(Debug)]
pub enum Cutting {
    /// Nothing.
    Nothing,
    /// It ends there; the leader is told.
    Done(Acked),
    /// It is cut, durably once the journal is durable up to here.
    Begun(Lsn),
    /// It would lose what the in-sync set is known to hold. Nothing is done, and somebody has to look at it.
    BelowHighWatermark {
        /// Where it was to be cut.
        to: Offset,
        /// What is known to be held.
        high_watermark: Offset,
    },
}

/// What has come of batches.
#[derive(Debug, Default)]
pub struct Followed {
    /// They do not follow; the leader is told.
    pub mismatch: Option<Acked>,
    /// Something was journalled, up to here.
    pub lsn: Option<Lsn>,
    /// Batches that were appended.
    pub appended: usize,
    /// Why the one behind them was not.
    pub misfit: Option<Misfit>,
    /// What goes straight to the segment.
    pub writes: Vec<DirectWrite>,
}

impl Partition {
    pub(super) fn follow(&mut self, leadership: Leadership, stage: &mut Stage<'_>) -> Played {
        let ends = self.ends();
        let mut ceases_to_lead = false;
        let asks = match &mut self.role {
            Role::Following(follower) => follower.follow(leadership, ends),
            Role::Idle | Role::Leading(_) => {
                let (high_watermark, heard_in) = self.known();
                ceases_to_lead = self.leave_role(stage.now, stage.peers);
                let (follower, asks) =
                    Follower::new(self.id, stage.me.broker_epoch, leadership, ends, high_watermark, heard_in);
                self.role = Role::Following(Box::new(follower));
                Some(asks)
            }
        };
        Played { ceases_to_lead, asks: leadership.leader.zip(asks), ..Played::default() }
    }

    /// A leader begins a session. Returns what to answer.
    pub fn on_greet(&mut self, from: NodeId, greet: &Greet) -> Option<Epochs> {
        let ends = self.ends();
        let Role::Following(follower) = &mut self.role else { return None };
        follower.on_greet(from, greet, self.log.epochs().entries(), ends)
    }

    /// The leader says where its log and this one part.
    pub fn on_cut(&mut self, from: NodeId, cut: &Cut, journal: &mut journal::Writer) -> Cutting {
        let ends = self.ends();
        let Role::Following(follower) = &mut self.role else { return Cutting::Nothing };
        match follower.on_cut(from, cut, ends) {
            CutDecision::Ignore => Cutting::Nothing,
            CutDecision::Done(acked) => Cutting::Done(acked),
            CutDecision::Cut(to) => self.log.cut(to, journal).map_or(Cutting::Nothing, Cutting::Begun),
            CutDecision::StartAnew(at) => Cutting::Begun(self.log.start_anew(at, journal)),
            CutDecision::BelowHighWatermark { to, high_watermark } => {
                Cutting::BelowHighWatermark { to, high_watermark }
            }
        }
    }

    /// Whether what a leader sends belongs to the session that is under way.
    pub fn takes(&self, from: NodeId, append: &Append) -> bool {
        matches!(&self.role, Role::Following(follower) if follower.takes(from, append))
    }

    /// The leader sends batches with `append`, which has them no more: these are the next of them.
    pub fn on_append(
        &mut self,
        from: NodeId,
        append: &Append,
        placed: &[PlacedBatch],
        (config, now, direct_from): (&TopicConfig, Timestamp, u64),
        journal: &mut journal::Writer,
    ) -> Followed {
        let ends = self.ends();
        let Role::Following(follower) = &mut self.role else { return Followed::default() };
        let batches = placed.first().zip(placed.last());
        let batches = batches.map(|(first, last)| (first.head().base_offset, last.head().next_offset()));
        let start = match follower.on_append(from, append, batches, ends) {
            Taken::Ignored => return Followed::default(),
            Taken::Mismatch(acked) => return Followed { mismatch: Some(acked), ..Followed::default() },
            Taken::Append { start, .. } => start,
        };
        let mut followed = Followed::default();
        for batch in placed {
            let (head, body) = (batch.head(), batch.bytes().slice(HEAD_BYTES..));
            let bytes = batch.bytes().len() as u64;
            self.roll_for(bytes, config, now, journal);
            let way = self.way(bytes, direct_from);
            match self.log.append_placed(head, &body, now, way, journal) {
                Ok((appended, write)) => {
                    followed.lsn = Some(appended.lsn);
                    followed.writes.extend(write);
                    followed.appended += 1;
                }
                Err(misfit) => {
                    followed.misfit = Some(misfit);
                    break;
                }
            }
        }
        followed.lsn = self.log.advance_start(start, journal).or(followed.lsn);
        followed
    }
}
