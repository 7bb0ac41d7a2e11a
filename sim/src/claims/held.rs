//! What a high watermark stands for: the records below it are on the disks of all who count for it.
//!
//! Whoever was told of an acknowledgement learns that it was wrong only if those brokers die that have the records, before
//! the others have them, too: most plans give that no time. So the engine holds the two against each other after every step
//! and notes what a disk lacks ([`What::Lacks`]); where it notes nothing, as with a single broker, nothing is judged.
//!
//! It holds across leaders: an in-sync set grows by those only that have all that its leader's high watermark covers and
//! all that it began with, and who is elected is of the set.

use super::facts::Facts;
use super::{Claim, Found};
use crate::history::{Standing, What};
use crate::plan::FaultKind;

pub(super) const WATERMARK_IS_ON_ITS_DISKS: Claim = Claim {
    name: "watermark-is-on-its-disks",
    meaning: "All below the greatest high watermark that a leader had is on the disk of every broker that is in sync.",
};

pub(super) const WATERMARK_IS_IN_THE_LOG: Claim = Claim {
    name: "watermark-is-in-the-log",
    meaning: "No broker knows of a high watermark beyond the end of its own log.",
};

pub(super) fn judge(facts: &Facts<'_>, found: &mut Found) {
    for (event, happened) in facts.events.iter().enumerate() {
        match happened.what {
            // What a disk forgets that was to be synced, nobody can know.
            What::Fault(
                FaultKind::LyingSync { .. } | FaultKind::BitFlip { .. } | FaultKind::MisdirectedWrite { .. },
            ) => return,
            What::Lacks { partition, member, durable, high_watermark } => {
                found.add(WATERMARK_IS_ON_ITS_DISKS, event, || {
                    format!(
                        "{}: broker {member} is in sync at {} and has on its disk what is below {durable}, where the high \
                         watermark is {high_watermark}",
                        facts.name(partition),
                        facts.when(event),
                    )
                });
            }
            What::Stands(ref standing) if standing.high_watermark > standing.end => {
                let &Standing { partition, high_watermark, end, .. } = &**standing;
                found.add(WATERMARK_IS_IN_THE_LOG, event, || {
                    format!(
                        "{}: broker {} knows of high watermark {high_watermark} at {}, and its log ends at {end}",
                        facts.name(partition),
                        happened.node,
                        facts.when(event),
                    )
                });
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use chronik_core::ids::Offset;

    use super::*;
    use crate::claims::told::{Told, told};
    use crate::history::Role;

    fn lacks(told: Told) -> Told {
        let (durable, high_watermark) = (Offset(4), Offset(5));
        let what = What::Lacks { partition: told.on, member: 2, durable, high_watermark };
        told.of_node(1, what)
    }

    #[test]
    fn who_is_in_sync_has_all_below_the_high_watermark_on_its_disk() {
        lacks(told()).breaks(WATERMARK_IS_ON_ITS_DISKS, "broker 2 is in sync at");
        lacks(told().fault(FaultKind::LyingSync { for_ms: 1 })).holds();
    }

    #[test]
    fn a_high_watermark_is_within_the_log() {
        let follows = |end| {
            let told = told();
            let standing = Standing {
                partition: told.on,
                role: Role::Follows,
                leader_epoch: 0,
                partition_epoch: 0,
                replicas: 2,
                is_moving: false,
                in_sync: vec![1, 2],
                in_sync_min: 2,
                high_watermark: Offset(5),
                start: Offset(0),
                end: Offset(end),
            };
            told.of_node(2, What::Stands(Box::new(standing)))
        };
        follows(5).holds();
        follows(4).breaks(WATERMARK_IS_IN_THE_LOG, "its log ends at 4");
    }
}
