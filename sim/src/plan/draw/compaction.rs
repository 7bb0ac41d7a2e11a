//! Topics that compact, what they are compacted by, and what goes wrong while they are.

use std::collections::BTreeMap;

use super::{DURATION_MS, Dice, Key, Root};
use crate::plan::{Fault, FaultKind, FileKind, TopicPlan};
use crate::value::SharedKeys;

/// Stories begin when segments were closed, and end before clients stop, in milliseconds from either end.
const CALM_MS: u64 = 3_000;

/// Has some topics compact what they hold. Of some each record has a key of its own, so that nothing may be missing
/// whatever is copied and replaced; of most, keys are written again and again.
pub(super) fn topic(dice: &mut Dice, topic: &mut TopicPlan) {
    if !dice.one_in(3) {
        return;
    }
    if !dice.one_in(4) {
        let tombstones_permille = if dice.one_in(3) { 0 } else { dice.number(10, 300) };
        let count = u32::try_from(dice.scale(2, 8_000)).expect("small");
        topic.shared_keys = Some(SharedKeys { count, tombstones_permille });
    }
    let mut set = |name: &str, value: String| drop(topic.configs.insert(name.to_owned(), value));
    // Of a topic that compacts alone no records may be deleted, which admins do here.
    set("cleanup.policy", "compact,delete".to_owned());
    set("min.cleanable.dirty.ratio", dice.pick(&["0", "0", "0.1", "0.5"]).to_owned());
    if !dice.one_in(4) {
        // A pass needs segments that are closed.
        set("internal.segment.bytes", dice.scale(4 << 10, 64 << 10).to_string());
    }
    if !dice.one_in(4) {
        set("max.compaction.lag.ms", dice.scale(500, 10_000).to_string());
    } else if dice.one_in(2) {
        set("min.compaction.lag.ms", dice.scale(300, 5_000).to_string());
    }
    match dice.below(4) {
        0 => set("delete.retention.ms", dice.below(100).to_string()),
        1 | 2 => set("delete.retention.ms", dice.scale(500, 20_000).to_string()),
        // A day: within a run no tombstone goes.
        _ => {}
    }
}

/// How a broker compacts.
pub(super) fn settings(root: &Root, broker: &mut BTreeMap<String, String>) {
    let mut dice = root.of(Key::Compaction);
    let mut set = |name: &str, value: u64| drop(broker.insert(name.to_owned(), value.to_string()));
    set("log.cleaner.backoff.ms", dice.pick(&[100, 500, 500, 2_000]));
    if dice.one_in(2) {
        // The map of keys has room for a few thousand then: passes end before the dirty part does.
        set("log.cleaner.dedupe.buffer.size", 64 << 10);
    }
    if dice.one_in(2) {
        // Most of a pass's time is spent between its steps.
        set("log.cleaner.io.max.bytes.per.second", dice.scale(64 << 10, 4 << 20));
    }
}

/// Faults that strike while something is being compacted, in two of three plans where something is. `loses_power` says
/// whether the machine may die.
pub(super) fn faults(root: &Root, loses_power: bool) -> Vec<Fault> {
    let mut dice = root.numbered(Key::Compaction, u64::MAX - 1);
    if dice.one_in(3) {
        return Vec::new();
    }
    let mut faults = Vec::new();
    for number in 0..dice.between(1, 4) {
        let mut dice = root.numbered(Key::Compaction, (1 << 20) + number);
        let at_ms = dice.between(CALM_MS, DURATION_MS - CALM_MS);
        let mut push = |at_ms, what| faults.push(Fault::new(at_ms, what));
        // What comes now is on its way when the second fault strikes: slow disks make passes long.
        let slow = FaultKind::DiskSlow { for_ms: dice.scale(500, 4_000), factor: dice.number(5, 100) };
        let within_ms = dice.scale(20, 2_000);
        let death = super::stories::death(&mut dice, loses_power);
        match dice.below(6) {
            0 | 1 => {
                push(at_ms, slow);
                push(at_ms + within_ms, death);
            }
            // Twice in a row: the second one meets what the first one left.
            2 => {
                push(at_ms, slow);
                push(at_ms + within_ms, death.clone());
                push(at_ms + within_ms + dice.scale(100, 3_000), death);
            }
            3 => {
                push(at_ms, FaultKind::DiskFull { for_ms: within_ms });
                push(at_ms + dice.between(0, within_ms), death);
            }
            4 if loses_power => push(at_ms, FaultKind::SyncFails { of: FileKind::Segment }),
            _ => push(at_ms, FaultKind::WriteFails { of: FileKind::Segment }),
        }
    }
    faults.retain(|fault| fault.at_ms <= DURATION_MS - 1_000);
    faults
}
