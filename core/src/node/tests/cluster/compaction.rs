//! Each replica compacts by itself, and what one of them has removed no other one can learn from it.

use super::super::compaction::pairs;
use super::*;

/// Segments of a few batches, compacted as soon as there is anything to gain.
const SETTINGS: [(&str, &str); 4] = [
    ("cleanup.policy", "compact"),
    ("internal.segment.bytes", "700"),
    ("min.cleanable.dirty.ratio", "0.01"),
    ("delete.retention.ms", "1000"),
];

impl Cluster {
    /// Writes a value of a key, or its mark of deletion.
    fn put(&mut self, node: i32, key: &str, value: Option<&str>) {
        let batch = pairs(self.now.wall, &[(key, value)]);
        let sequence = self.rig(node).send(TOPIC, 0, -1, batch);
        self.run();
        assert_eq!(self.code(node, sequence), Some(0));
    }

    /// Writes, and lets time pass, until what was written before has been compacted, and once more when its marks have had
    /// their time.
    fn compact(&mut self, node: i32) {
        for _ in 0..3 {
            (0..8).for_each(|_| self.put(node, "other", Some(&"v".repeat(100))));
            self.pass(20_000);
        }
    }

    /// The values that a key had, as a consumer from the start sees them; those of other keys are longer.
    fn history(&mut self, node: i32) -> Vec<String> {
        self.consume(node).into_iter().filter(|value| value.len() < 100).collect()
    }
}

#[test]
fn a_key_that_was_deleted_while_a_replica_was_away_for_long_is_not_there_again_when_that_leads() {
    let mut cluster = Cluster::with(3, &[("log.cleaner.backoff.ms", "1000")]);
    cluster.create(TOPIC, &[&[1, 2, 3]], &SETTINGS);
    cluster.put(1, "key", Some("value"));
    cluster.compact(1);
    cluster.isolate(3);
    cluster.pass(40_000);
    assert_eq!(cluster.in_sync(), [1, 2]);
    cluster.put(1, "key", None);
    cluster.compact(1);
    assert_eq!(cluster.history(1), [""], "the mark stays for who has the value");
    cluster.heal(3);
    cluster.pass(1000);
    assert_eq!(cluster.in_sync(), [1, 2, 3]);
    cluster.elect(Some(3), &[1, 2, 3]);
    cluster.compact(3);
    for leader in [3, 2, 1] {
        cluster.elect(Some(leader), &[1, 2, 3]);
        assert_eq!(cluster.history(leader), [""; 0], "all have compacted it, and its time is over");
    }
}
