//! What clients learn from answers, and which answers there may be.

use super::*;
use crate::wire::fetch::PartitionData;

impl World {
    pub(super) fn answered(&mut self, sequence: u64, asked: Asked, response: Option<Response>) {
        match (asked, response) {
            (Asked::Create(name), Some(Response::CreateTopics(response))) => {
                assert_eq!(response.topics[0].error_code, 0);
                self.topics.insert(name, response.topics[0].topic_id);
            }
            (Asked::Delete(name, id), Some(Response::DeleteTopics(response))) => {
                assert_eq!(response.responses[0].error_code, 0);
                assert_eq!(self.topics.remove(name), Some(id));
                self.known.retain(|partition, _| partition.topic != id);
            }
            (Asked::DeleteRecords(id), Some(Response::DeleteRecords(response))) => {
                let told = &response.topics[0].partitions[0];
                if let Some(known) = self.known.get_mut(&id).filter(|_| told.error_code == 0) {
                    known.start.0 = known.start.0.max(told.low_watermark);
                }
            }
            (Asked::Plain(..), None) | (Asked::Other, Some(_)) => {}
            (Asked::Plain(id, values), Some(Response::Produce(response))) => {
                let told = &response.responses[0].partition_responses[0];
                match told.error_code {
                    0 => self.learn(id, told.base_offset, &values),
                    error => self.check_refusal(id, error),
                }
            }
            (Asked::Idempotent(id), Some(Response::Produce(response))) => {
                let told = response.responses[0].partition_responses[0].clone();
                self.idempotent_answered(sequence, id, &told);
            }
            (Asked::Commit(group, offset), Some(Response::OffsetCommit(response))) => {
                self.committed(group, offset, response.topics[0].partitions[0].error_code);
            }
            (Asked::Offset(group, known), Some(Response::OffsetFetch(response))) => {
                let told = &response.groups[0];
                let told = match told.error_code {
                    0 => Ok(told.topics[0].partitions[0].committed_offset),
                    error => Err(error),
                };
                self.offset_told(group, known, told);
            }
            (Asked::Fetch(wanted), Some(Response::Fetch(response))) => {
                assert_eq!(response.error_code, 0);
                let answers = response
                    .responses
                    .into_iter()
                    .flat_map(|topic| topic.partitions.into_iter().map(move |data| (topic.topic_id, data)));
                for (index, (topic, data)) in answers.enumerate() {
                    let (id, offset) = wanted[index];
                    assert_eq!((id.topic, id.partition), (topic, data.partition_index));
                    self.fetched(id, offset, data);
                }
            }
            (asked, response) => panic!("{asked:?} was answered by {response:?}"),
        }
    }

    fn check_refusal(&self, id: TopicPartition, error: i16) {
        let is_gone = self.name_of(id.topic).is_none_or(|name| self.is_settling(name));
        let is_unknown = is(error, ErrorCode::UnknownTopicId) || is(error, ErrorCode::UnknownTopicOrPartition);
        let is_allowed = (is_unknown && is_gone) || (is(error, ErrorCode::KafkaStorageError) && self.was_full);
        assert!(is_allowed, "{id} answers {error}");
    }

    fn idempotent_answered(&mut self, sequence: u64, id: TopicPartition, told: &PartitionProduceResponse) {
        let Some(known) = self.known.get_mut(&id) else { return };
        let unacked = &mut known.producer.unacked;
        let Some(at) = unacked.iter().position(|batch| batch.request == Some(sequence)) else { return };
        if told.error_code == 0 {
            let batch = unacked.remove(at).expect("it was just found");
            return self.learn(id, told.base_offset, &batch.values);
        }
        unacked[at].request = None;
        let follows_failure = unacked.iter().take(at).any(|earlier| earlier.request.is_none());
        if told.error_code != ErrorCode::OutOfOrderSequenceNumber.code() || !follows_failure {
            self.check_refusal(id, told.error_code);
        }
    }

    /// `values` are acknowledged from an offset on.
    fn learn(&mut self, id: TopicPartition, base: i64, values: &[String]) {
        let Some(known) = self.known.get_mut(&id) else { return };
        for (offset, value) in (base..).zip(values) {
            let before = known.values.insert(offset, value.clone());
            assert!(before.is_none_or(|before| before == *value), "{id} gave offset {offset} twice");
        }
    }

    fn fetched(&mut self, id: TopicPartition, from: i64, data: PartitionData) {
        let name = self.name_of(id.topic);
        let Some(known) = self.known.get_mut(&id) else { return };
        known.start.0 = known.start.0.max(data.log_start_offset);
        if data.error_code != 0 {
            let is_below = from < known.start.1 || self.name_of(id.topic) == Some("shrinking");
            // Its segment may have been removed while the read was on its way.
            let code = data.error_code;
            let is_left_behind = is(code, ErrorCode::OffsetOutOfRange) || is(code, ErrorCode::KafkaStorageError);
            if !(is_left_behind && is_below) {
                self.check_refusal(id, data.error_code);
            }
            return;
        }
        let bytes: Vec<u8> = data.records.expect("records, if none").0.concat();
        let compacts = name == Some("compacting");
        let mut next = None;
        self.served = decoded(&bytes);
        let heads = Scan::heads(&bytes).map(|found| found.expect("whole batches").head.next_offset().0);
        self.reached = heads.max().unwrap_or(from);
        for (offset, value) in self.served.iter().cloned() {
            assert!(compacts || next.is_none_or(|next| next == offset), "{id} leaves out what is before {offset}");
            assert!(compacts || next.is_some() || offset <= from, "{id} begins at {offset}, asked for {from}");
            assert!(next.is_none_or(|next| next <= offset), "{id} serves {offset} out of order");
            next = Some(offset + 1);
            assert!(offset < data.high_watermark, "{id} serves {offset} above its high watermark");
            assert!(known.sent.contains(&value), "{id} serves a value that it was never sent");
            let before = known.values.insert(offset, value.clone());
            assert!(before.is_none_or(|before| before == value), "{id} serves something else at {offset}");
        }
        assert!(bytes.is_empty() || self.reached > from, "{id} serves only what lies below {from}");
    }
}

/// The records of whole batches, with their offsets.
fn decoded(bytes: &[u8]) -> Vec<(i64, String)> {
    let mut all = Vec::new();
    for found in Scan::checked(bytes) {
        let found = found.expect("whole batches");
        let mut records = crate::batch::Records::open(&bytes[found.range], 1 << 24).expect("a batch that was verified");
        while let Some(record) = records.next_record().expect("records that were verified") {
            let value = String::from_utf8_lossy(record.value.unwrap_or_default()).into_owned();
            all.push((record.offset.0, value));
        }
    }
    all
}
