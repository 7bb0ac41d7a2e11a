//! Offsets against a model that is a map: random commits, fetches, deletes, expiry, deletion of topics and of groups,
//! failover. Whatever the log says, after any part of it and compacted in any way, is what the coordinator knows.

use std::collections::BTreeMap;
use std::time::Duration;

use super::bench::{Bench, NOBODY, commit, image, load};
use super::replays::compacted;
use crate::ids::{TopicId, Uuid};
use crate::rng::Rng;
use crate::time::Timestamp;
use crate::wire::ErrorCode;

const GROUPS: [&str; 3] = ["audit", "billing", "crm"];
const TOPICS: [&str; 3] = ["orders", "bills", "mail"];

/// An offset as the model knows it.
#[derive(Clone, Copy, Debug)]
struct Kept {
    offset: i64,
    at: Timestamp,
    /// When it ends, if its client said so.
    ends: Option<Timestamp>,
    topic: TopicId,
}

#[derive(Default)]
struct Model {
    offsets: BTreeMap<(&'static str, &'static str, i32), Kept>,
    topics: BTreeMap<&'static str, TopicId>,
}

impl Model {
    fn of(&self, group: &str) -> Vec<(String, i32, i64)> {
        let kept = self.offsets.iter().filter(|((of, ..), _)| *of == group);
        kept.map(|((_, topic, partition), kept)| ((*topic).to_owned(), *partition, kept.offset)).collect()
    }
}

#[test]
fn the_coordinator_knows_what_the_model_knows_and_so_does_whoever_loads_its_log() {
    for seed in 0..60 {
        run(seed);
    }
}

fn run(seed: u64) {
    let mut rng = Rng::from_number(seed);
    let mut bench = Bench::new();
    let mut model = Model::default();
    for topic in TOPICS {
        model.topics.insert(topic, bench.rig.topic(topic, 4));
    }
    let retention = bench.rig.settings.offsets_retention;
    for step in 0..150 {
        let group = GROUPS[rng.below(3) as usize];
        let topic = TOPICS[rng.below(3) as usize];
        let partition = rng.below(5) as i32;
        let now = bench.rig.now.wall;
        match rng.below(100) {
            0..50 => {
                let offset = rng.below(1_000) as i64;
                let old = rng.below(4) == 0;
                let mut request = commit(group, &NOBODY, (topic, partition), offset);
                request.retention_time_ms = if old { 60_000 } else { -1 };
                let answered = bench.commit_in(if old { 3 } else { 9 }, request);
                let exists = partition < 4 && model.topics.contains_key(topic);
                assert_eq!(answered == ErrorCode::None, exists, "seed {seed}, step {step}");
                if let Some(id) = model.topics.get(topic).filter(|_| exists) {
                    let ends = old.then_some(Timestamp(now.0 + 60_000));
                    let topic_id = if old { TopicId::ZERO } else { *id };
                    model.offsets.insert((group, topic, partition), Kept { offset, at: now, ends, topic: topic_id });
                }
            }
            50..70 => {
                let known = model.offsets.get(&(group, topic, partition)).map_or(-1, |kept| kept.offset);
                assert_eq!(bench.fetch(group, (topic, partition)), known, "seed {seed}, step {step}");
            }
            70..80 => {
                bench.delete_offset(group, (topic, partition));
                if partition < 4 && model.topics.contains_key(topic) {
                    model.offsets.remove(&(group, topic, partition));
                }
            }
            80..83 => {
                bench.delete(group);
                model.offsets.retain(|(of, ..), _| *of != group);
            }
            83..90 => bench.pass(Duration::from_millis(rng.below(4 * 24 * 3_600_000))),
            90..94 => {
                bench.expire();
                model.offsets.retain(|_, kept| match kept.ends {
                    Some(ends) => now < ends,
                    None => ((now.0 - kept.at.0) as u128) < retention.as_millis(),
                });
            }
            94..97 => {
                // A topic goes, or comes back as another one.
                if let Some(id) = model.topics.remove(topic) {
                    bench.delete_topic(topic, id);
                    model.offsets.retain(|(_, of, _), kept| *of != topic || !is_of(kept.topic, id));
                } else {
                    let id = Uuid([rng.below(256) as u8; 16]);
                    bench.rig.topics.set(topic, id, 4);
                    model.topics.insert(topic, id);
                }
            }
            _ => {
                bench.coordinator = bench.reloaded();
                bench.begin();
            }
        }
        for group in GROUPS {
            assert_eq!(bench.all_offsets(group), model.of(group), "seed {seed}, step {step}, {group}");
        }
    }
    // Every offset that there is, for metrics.
    let kept: Vec<_> = model.offsets.keys().map(|&(group, topic, at)| format!("{group} {topic} {at}")).collect();
    for budget in [1, 3, 1000] {
        assert_eq!(bench.surveyed(budget).1, kept, "seed {seed}");
    }

    let expect = image(&bench.coordinator);
    assert_eq!(image(&load(&bench.log)), expect, "seed {seed}");
    for _ in 0..20 {
        let compacted = compacted(&bench.log, &mut rng);
        assert_eq!(image(&load(&compacted)), expect, "seed {seed}, compacted to {}", compacted.len());
    }
}

fn is_of(known: TopicId, id: TopicId) -> bool {
    known == TopicId::ZERO || known == id
}
