//! After a change of leaders: does the new one's log have what was read (KIP-320)?

use chronik_core::ids::Offset;
use chronik_core::wire::ErrorCode;
use chronik_core::wire::offset_for_leader_epoch::{
    OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse, OffsetForLeaderPartition, OffsetForLeaderTopic,
};

use super::{Asked, Consumer, Part};
use crate::client::reading::known_code;
use crate::client::{ClientNow, Wanted};
use crate::history::What;

/// The version of OffsetForLeaderEpoch that it asks in.
const EPOCHS_VERSION: i16 = 4;

impl Consumer {
    /// Asks the leaders of epochs that are new here whether their logs have what was read.
    pub(super) fn ask_epochs(&mut self, now: ClientNow, wanted: &mut Vec<Wanted>) -> bool {
        let is_unchecked = |&place: &usize| {
            let part = &self.parts[place];
            part.read_epoch.is_some() && part.is_checked_in < self.topics.leader_epoch(part.topic, part.id.partition)
        };
        let places: Vec<usize> = self.polled().filter(is_unchecked).collect();
        if places.is_empty() {
            return false;
        }
        let mut topics: Vec<OffsetForLeaderTopic> = Vec::new();
        for &place in &places {
            let Part { topic, id, read_epoch, .. } = &self.parts[place];
            let name = &self.topics.get(*topic).name;
            if topics.last().is_none_or(|last| last.topic != *name) {
                topics.push(OffsetForLeaderTopic { topic: name.clone(), partitions: Vec::new() });
            }
            topics.last_mut().expect("one was pushed").partitions.push(OffsetForLeaderPartition {
                partition: id.partition,
                current_leader_epoch: self.topics.leader_epoch(*topic, id.partition),
                leader_epoch: read_epoch.expect("it was read"),
            });
        }
        let request = OffsetForLeaderEpochRequest { topics, ..Default::default() };
        self.caller.ask(now, &request.into(), EPOCHS_VERSION, wanted);
        self.asked = Some(Asked::Epochs(places));
        true
    }

    /// Takes where the epochs end that were read last: a position beyond is one in a log that is no more.
    pub(super) fn epochs_ended(
        &mut self,
        now: ClientNow,
        places: &[usize],
        response: &OffsetForLeaderEpochResponse,
        wanted: &mut Vec<Wanted>,
    ) -> Result<(), String> {
        let mut failed = None;
        let operation = self.operation();
        for &place in places {
            let part = &mut self.parts[place];
            let (partition, name) = (part.id, &self.topics.get(part.topic).name);
            let topics = response.topics.iter().filter(|told| told.topic == *name);
            let mut answers = topics.flat_map(|told| &told.partitions);
            let answer = answers.find(|answer| answer.partition == partition.partition);
            let answer = answer.ok_or_else(|| format!("no epoch of {partition} is told"))?;
            let code = known_code(answer.error_code)?;
            if code != ErrorCode::None {
                failed = Some(code);
                continue;
            }
            let (asked, leader_epoch) = (part.read_epoch.expect("it was asked for"), answer.leader_epoch);
            let end = Offset(answer.end_offset);
            wanted.push(Wanted::Record(operation, What::EpochEnds { partition, asked, leader_epoch, end }));
            part.is_checked_in = self.topics.leader_epoch(part.topic, partition.partition);
            if end >= Offset(0) && part.position.is_some_and(|position| end < position) {
                part.position = Some(end);
            }
        }
        if let Some(code) = failed {
            self.is_stale = true;
            self.caller.back_off(now);
            self.finish(false, Some(code), wanted);
        }
        Ok(())
    }
}
