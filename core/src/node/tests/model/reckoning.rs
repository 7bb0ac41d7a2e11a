//! The reckoning: what is served holds what was acknowledged or read, once and in order.

use super::*;

impl World {
    pub(super) fn check_all(&mut self) {
        let ids: Vec<TopicPartition> = self.known.keys().copied().collect();
        for id in ids {
            let found = self.consume(id);
            if self.name_of(id.topic) == Some("compacting") {
                self.check_compacted(id, &found);
                continue;
            }
            let known = &self.known[&id];
            let (first, end) = (found.first_key_value().map(|(&offset, _)| offset), found.len());
            if let Some(first) = first {
                let may_shrink = self.name_of(id.topic) == Some("shrinking");
                assert!(may_shrink || first <= known.start.1.max(0), "{id} begins at {first}: {:?}", known.start);
                assert!(found.keys().copied().eq(first..first + i64::try_from(end).expect("small")));
            }
            let begins = first.unwrap_or(i64::MAX);
            let may_be_empty = known.start.1 > known.values.last_key_value().map_or(0, |(&last, _)| last);
            assert!(first.is_some() || known.values.is_empty() || may_be_empty, "{id} lost everything");
            for (offset, value) in known.values.range(begins..) {
                assert_eq!(found.get(offset), Some(value), "seed {}: {id} at {offset}", self.seed);
            }
            let mut newest: BTreeMap<&str, i64> = BTreeMap::new();
            for value in found.values() {
                assert!(known.sent.contains(value), "{id} holds a value that it was never sent");
                let mut parts = value.split('/').skip(1);
                let sender = parts.next().expect("a sender");
                let number: i64 = parts.next().and_then(|number| number.parse().ok()).expect("a number");
                let before = newest.insert(sender, number);
                assert!(before < Some(number), "{id}: {sender} wrote {number} after {before:?}");
            }
        }
    }

    /// Of each key the newest value is there, and all that no compacted segment ever held.
    fn check_compacted(&self, id: TopicPartition, found: &BTreeMap<i64, String>) {
        let slot = self.node.by_id[&id];
        let log = self.node.hosts[slot as usize].as_ref().expect("it is hosted").partition.log();
        let known = &self.known[&id];
        let (start, whole_from) = (log.start().0, log.whole_from().0);
        assert!(start <= known.start.1.max(0), "{id} starts at {start}: {:?}", known.start);
        let mut newest: BTreeMap<u64, i64> = BTreeMap::new();
        for (&offset, value) in found {
            assert!(known.sent.contains(value), "{id} holds a value that it was never sent");
            newest.insert(key_of(value), offset);
        }
        for (offset, value) in known.values.range(start..) {
            let is_there = found.get(offset).is_some_and(|there| there == value);
            let is_superseded = newest.get(&key_of(value)).is_some_and(|newest| newest > offset);
            assert!(is_there || is_superseded, "seed {}: {id} lost the newest of a key at {offset}", self.seed);
            assert!(is_there || *offset < whole_from, "seed {}: {id} lost {offset} of {whole_from}..", self.seed);
        }
    }

    /// All that a partition serves, by offset.
    fn consume(&mut self, id: TopicPartition) -> BTreeMap<i64, String> {
        let log = |world: &World| {
            let slot = world.node.by_id[&id];
            let partition = &world.node.hosts[slot as usize].as_ref().expect("it is hosted").partition;
            (partition.log().start().0, partition.advanced().high_watermark.0)
        };
        let (mut next, end) = log(self);
        let told = self.known[&id].start.0;
        assert!(next >= told, "seed {}: {id} starts at {next} again after it did at {told}", self.seed);
        let mut all = BTreeMap::new();
        while next < end {
            let partition = FetchPartition {
                partition: id.partition,
                fetch_offset: next,
                partition_max_bytes: 1 << 20,
                current_leader_epoch: -1,
                ..FetchPartition::default()
            };
            let topic = FetchTopic { topic_id: id.topic, partitions: vec![partition], ..FetchTopic::default() };
            let request =
                FetchRequest { max_bytes: 1 << 20, session_epoch: -1, topics: vec![topic], ..FetchRequest::default() };
            let before = next;
            self.ask(13, Request::Other(request.into()), Asked::Fetch(vec![(id, next)]));
            while let Some((read, plan)) = self.reads.pop() {
                let result = plan.run(&self.files);
                self.step(Input::Disk(Done::Read(read, result)));
            }
            self.send();
            all.extend(std::mem::take(&mut self.served).into_iter().filter(|(offset, _)| *offset >= next));
            next = self.reached;
            assert!(next > before, "seed {}: {id} serves nothing at {before} of {end}", self.seed);
        }
        all
    }
}
