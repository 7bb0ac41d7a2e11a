//! A look at the partitions that a fetch wants: what there is to read of each, and what to tell of it.

use smallvec::SmallVec;

use super::part::{FetchPart, Topic};
use super::turns::Need;
use super::{Node, Wanted};
use crate::boundary::{PARTITION_BYTES, Refused};
use crate::ids::{LeaderEpoch, NodeId, TopicId, TopicPartition};
use crate::limits::BATCH_BYTES_MAX;
use crate::log::{Read, ReadPlan, Sought};
use crate::node::session::{SessionRef, Watch};
use crate::wire::fetch::{LeaderIdAndEpoch, PartitionData};
use crate::wire::{ErrorCode, Records};

/// One request has so many partitions read from disk; the others get their turn with the next one. Without it a client
/// that asks for a byte of each of a million would have a chunk of each read.
const READS_MAX: usize = 256;

/// What is found of one partition.
#[derive(Debug)]
pub(in crate::node) struct Answer {
    /// Its place in the fetch's session, if there is one.
    pub(in crate::node) place: Option<u32>,
    pub(in crate::node) part: FetchPart,
    pub(in crate::node) data: PartitionData,
}

/// What one look at all partitions found, or has found so far.
#[derive(Debug, Default)]
pub(super) struct Look {
    /// None where it only weighs.
    pub(super) answers: Vec<Answer>,
    /// The partitions that exist, where there is no session that watches them.
    pub(super) slots: SmallVec<[u32; 4]>,
    /// Bytes found, on disk estimated.
    pub(super) bytes: usize,
    /// Something must be told at once.
    pub(super) is_urgent: bool,
    /// Reads to make: for which answer.
    pub(super) reads: Vec<(usize, ReadPlan)>,
    /// How much longer than that a first batch may be that must be read.
    slack: usize,
    /// Where it goes on: behind so many partitions, or with this turn of the session.
    next: u64,
    /// The turns from here on were given since it began: who has one may have been looked at before. `None` where
    /// nothing came between.
    until: Option<u64>,
    /// Whether only the number of bytes matters, so that nothing is kept of what it finds.
    is_weighing: bool,
}

impl Look {
    /// The beginning of a look that takes several steps.
    pub(super) fn in_slices(until: Option<u64>, is_weighing: bool) -> Look {
        Look { until, is_weighing, ..Look::default() }
    }

    /// What the answer comes to.
    pub(super) fn need(&self) -> Need {
        Need { answer: self.bytes + self.answers.len() * PARTITION_BYTES, slack: self.slack }
    }
}

impl Node {
    /// Looks at as many of the next partitions as there is `room` for, for an answer of `max_bytes` of records. Says
    /// whether that were all.
    pub(super) fn look_on(&mut self, wanted: &Wanted, max_bytes: usize, room: usize, look: &mut Look) -> bool {
        match wanted {
            Wanted::Parts(parts) => {
                let from = look.next as usize;
                let to = parts.len().min(from + room);
                self.look_at_parts(&parts[from..to], max_bytes, look);
                look.next = to as u64;
                to == parts.len()
            }
            Wanted::Session { of, is_full } => self.look_at_dirty(*of, *is_full, max_bytes, room, look),
        }
    }

    fn look_at_parts(&mut self, parts: &[FetchPart], max_bytes: usize, look: &mut Look) {
        let mut resolved: Option<(&Topic, Result<TopicId, Refused>)> = None;
        for part in parts {
            // Partitions of one topic mostly stand together, and finding it costs more than all the rest.
            let topic = match &resolved {
                Some((topic, id)) if **topic == part.topic => id.clone(),
                _ => resolved.insert((&part.topic, self.resolve_topic(&part.topic))).1.clone(),
            };
            let slot = topic.and_then(|topic| self.hosted(TopicPartition { topic, partition: part.index }));
            look.slots.extend(slot.as_ref().ok().copied());
            let (data, _) = self.look_at(slot, part, max_bytes, look);
            if !look.is_weighing {
                look.answers.push(Answer { place: None, part: part.clone(), data });
            }
        }
    }

    /// Looks at what is dirty in a session, and finds clean what its consumer knows all of. Says whether nothing is left
    /// to look at.
    fn look_at_dirty(&mut self, of: SessionRef, is_full: bool, max_bytes: usize, room: usize, look: &mut Look) -> bool {
        for left in (0..=room).rev() {
            let Some((turn, watch, part, watched)) = self.sessions.next_dirty(of, look.next) else { return true };
            // What does not fit keeps its turn. The first answer tells of all partitions nevertheless.
            let is_over = !is_full && look.bytes >= max_bytes && look.bytes > 0;
            if is_over || look.until.is_some_and(|until| turn >= until) {
                return true;
            }
            if left == 0 {
                break;
            }
            look.next = turn + 1;
            let part = part.clone();
            let slot = match watched {
                Some(slot) => Ok(slot),
                None => self.watch(watch, &part),
            };
            let (data, is_at_end) = self.look_at(slot, &part, max_bytes, look);
            let is_clean = is_at_end && self.sessions.settle(watch, &data);
            if !is_clean && !look.is_weighing {
                look.answers.push(Answer { place: Some(watch.place), part, data });
            }
        }
        false
    }

    /// Has a place of a session watch its partition.
    fn watch(&mut self, watch: Watch, part: &FetchPart) -> Result<u32, Refused> {
        let topic = self.resolve_topic(&part.topic)?;
        let slot = self.hosted(TopicPartition { topic, partition: part.index })?;
        self.sessions.watch(watch, slot);
        self.host(slot).watchers.join(watch);
        Ok(slot)
    }

    /// Looks at one partition: what to tell of it, and whether there is nothing to read and nothing wrong.
    fn look_at(
        &mut self,
        slot: Result<u32, Refused>,
        part: &FetchPart,
        max_bytes: usize,
        look: &mut Look,
    ) -> (PartitionData, bool) {
        let mut data = PartitionData { partition_index: part.index, ..PartitionData::default() };
        data.records = Some(Records::default());
        match slot.and_then(|slot| self.read_from(slot, part, &mut data, max_bytes, look)) {
            Ok(()) if data.preferred_read_replica >= 0 => {
                look.is_urgent = true;
                (data, false)
            }
            Ok(()) => {
                let is_at_end = part.offset.0 >= data.high_watermark;
                (data, is_at_end)
            }
            Err(refused) => {
                look.is_urgent = true;
                data.error_code = refused.code.into();
                if matches!(refused.code, ErrorCode::NotLeaderOrFollower | ErrorCode::FencedLeaderEpoch) {
                    data.current_leader = self.current_leader(part);
                }
                if refused.code != ErrorCode::OffsetOutOfRange {
                    data.high_watermark = -1;
                    data.last_stable_offset = -1;
                    data.log_start_offset = -1;
                }
                (data, false)
            }
        }
    }

    /// Who leads what a part names, for one who believes that this broker does.
    fn current_leader(&self, part: &FetchPart) -> LeaderIdAndEpoch {
        let topic = self.resolve_topic(&part.topic).ok();
        let leader = topic.and_then(|topic| self.leader_of(TopicPartition { topic, partition: part.index }));
        let told =
            |(leader, epoch): (NodeId, LeaderEpoch)| LeaderIdAndEpoch { leader_id: leader.0, leader_epoch: epoch.0 };
        leader.map(told).unwrap_or_default()
    }

    /// The follower that a reader in another rack than this broker had better read from (KIP-392).
    fn nearest(&self, slot: u32, part: &FetchPart) -> Option<NodeId> {
        let hosted = self.hosts[slot as usize].as_ref().expect("a slot that was looked up");
        let leader = hosted.partition.leader()?;
        leader.nearest(part.offset, |node| self.is_in_rack(node, part.reader.rack))
    }

    fn read_from(
        &mut self,
        slot: u32,
        part: &FetchPart,
        data: &mut PartitionData,
        max_bytes: usize,
        look: &mut Look,
    ) -> Result<(), Refused> {
        let hosted = self.hosts[slot as usize].as_mut().expect("a slot that was looked up");
        match part.reader.knows_followers {
            true => hosted.partition.check_reader(part.epoch)?,
            false => hosted.partition.check_epoch(part.epoch)?,
        }
        let advanced = hosted.partition.advanced();
        data.high_watermark = advanced.high_watermark.0;
        data.last_stable_offset = advanced.last_stable.0;
        data.log_start_offset = advanced.start.map_or(-1, |start| start.0);
        if part.reader.rack != 0
            && let Some(nearest) = self.nearest(slot, part)
        {
            data.preferred_read_replica = nearest.0;
            return Ok(());
        }
        let hosted = self.hosts[slot as usize].as_mut().expect("a slot that was looked up");
        let left = max_bytes.saturating_sub(look.bytes);
        // The first partition that has anything gives at least one batch, whatever the limits (KIP-74).
        if left == 0 && look.bytes > 0 {
            hosted.partition.read(part.offset, 0).map(drop)?;
            return Ok(());
        }
        let limit = part.max_bytes.min(left);
        match hosted.partition.read(part.offset, limit)? {
            Read::Nothing => {}
            Read::Memory(slices, bytes) => {
                if bytes > limit && look.bytes > 0 {
                    return Ok(());
                }
                look.bytes += bytes;
                data.records = Some(Records(slices));
            }
            Read::Disk(..) if look.reads.len() == READS_MAX => {}
            Read::Disk(mut plan, bytes_max) => {
                if let Sought::Batches { at_least_one, .. } = &mut plan.sought {
                    *at_least_one = look.bytes == 0;
                }
                if look.bytes == 0
                    && let Read::Disk(_, batch_max) = hosted.partition.read(part.offset, BATCH_BYTES_MAX as usize)?
                {
                    look.slack = batch_max.saturating_sub(bytes_max.max(1));
                }
                // As it may bring at most, not as it may ask for: a limit that is larger than what is left of a segment
                // would keep partitions further on in the request from being read at all.
                look.bytes += bytes_max.max(1);
                look.reads.push((look.answers.len(), plan));
            }
        }
        Ok(())
    }
}
