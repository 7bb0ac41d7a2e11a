//! The operator is told what matters, and nothing else: ERROR only where a disk failed, no end that nobody asked for,
//! no more memory than was granted.

use std::collections::BTreeMap;

use chronik_core::boundary::Level;

use super::facts::{Facts, is_of_the_disk};
use super::{Claim, Found};
use crate::history::{Order, What};
use crate::plan::FaultKind;

pub(super) const QUIET_OPERATOR_LOG: Claim = Claim {
    name: "quiet-operator-log",
    meaning: "No line is logged at ERROR unless the disk failed or was full before.",
};

pub(super) const ENDS_ONLY_WHEN_TOLD: Claim = Claim {
    name: "ends-only-when-told",
    meaning: "The process ends only when it is stopped, killed or left without a disk, and starts after every such end \
              unless the disk is damaged or full.",
};

pub(super) const MEMORY_WITHIN_BOUNDS: Claim =
    Claim { name: "memory-within-bounds", meaning: "The memory that the broker accounts for stays within its bound." };

/// What befell a broker so far.
#[derive(Default)]
struct Broker {
    /// Its disk failed at some time ...
    failed: bool,
    /// ... or was full.
    was_full: bool,
    /// Somebody ended its process since it started.
    is_told: bool,
    /// It was given an empty disk under a number that others may still know with the one before.
    is_anew: bool,
}

/// Why a broker with an empty disk ends: whoever does not know yet that the one before it was removed does not let it in.
/// It is started again until everybody does.
const NOT_LET_IN: &str = "with another data folder";

pub(super) fn judge(facts: &Facts<'_>, found: &mut Found) {
    let mut brokers: BTreeMap<u32, Broker> = BTreeMap::new();
    for (event, happened) in facts.events.iter().enumerate() {
        let Broker { failed, was_full, is_told, is_anew } = brokers.entry(happened.node).or_default();
        match &happened.what {
            What::Fault(kind) => {
                *failed |= is_of_the_disk(kind);
                *was_full |= matches!(kind, FaultKind::DiskFull { .. });
                *is_told |= ends(kind);
            }
            What::Ordered(order) => {
                *is_told = true;
                *is_anew |= matches!(order, Order::Start { empties: true });
            }
            What::Ended { why: Some(why) } if *is_anew && why.contains(NOT_LET_IN) => {}
            What::Started { .. } => *is_told = false,
            What::Logged { level: Level::Error, text } if !*failed && !*was_full => {
                found.add(QUIET_OPERATOR_LOG, event, || {
                    format!("logged at ERROR at {}, though no disk failed: {text}", facts.when(event))
                });
            }
            What::Ended { why } if !*failed && !*is_told => {
                let why = why.as_deref().unwrap_or("no last words");
                found.add(ENDS_ONLY_WHEN_TOLD, event, || {
                    format!("the broker ended by itself at {}: {why}", facts.when(event))
                });
            }
            What::StartFailed { why } if !*failed && !*was_full && !is_told_to_fail(facts, event) => {
                found.add(ENDS_ONLY_WHEN_TOLD, event, || {
                    format!("the broker did not start at {}: {why}", facts.when(event))
                });
            }
            What::MemoryAbove { used, bound } => found.add(MEMORY_WITHIN_BOUNDS, event, || {
                format!("{used} bytes are in use at {}, and the bound is {bound}", facts.when(event))
            }),
            _ => {}
        }
    }
}

/// Whether the process ends by this.
fn ends(kind: &FaultKind) -> bool {
    matches!(
        kind,
        FaultKind::Kill { .. }
            | FaultKind::PowerLoss { .. }
            | FaultKind::Restart { .. }
            | FaultKind::KillInRecovery { .. }
    )
}

/// Whether a start was to be cut off: since the process served last, a death in a recovery was asked for.
fn is_told_to_fail(facts: &Facts<'_>, event: usize) -> bool {
    let node = facts.events[event].node;
    let since = facts.events[..event].iter().rev().filter(|before| before.node == node);
    since
        .take_while(|before| !matches!(before.what, What::Started { .. }))
        .any(|before| matches!(before.what, What::Fault(FaultKind::KillInRecovery { .. })))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::claims::told::{Told, told};
    use crate::plan::FileKind;

    const SYNC_FAILS: FaultKind = FaultKind::SyncFails { of: FileKind::Journal };

    fn complains(told: Told) -> Told {
        told.engine(What::Logged { level: Level::Error, text: "no space left".into() })
    }

    #[test]
    fn an_error_is_told_only_where_a_disk_failed() {
        complains(told()).breaks(QUIET_OPERATOR_LOG, "no space left");
        complains(told().loses_power()).breaks(QUIET_OPERATOR_LOG, "no space left");
        complains(told().fault(FaultKind::DiskFull { for_ms: 9 })).holds();
        complains(told().fault(SYNC_FAILS)).holds();
        told().engine(What::Logged { level: Level::Warn, text: "slow".into() }).holds();
    }

    #[test]
    fn the_process_ends_only_when_it_is_told_or_its_disk_fails() {
        let ended = || What::Ended { why: Some("the journal cannot be written".into()) };
        told().loses_power().holds();
        told().fault(SYNC_FAILS).engine(ended()).holds();
        told().engine(ended()).breaks(ENDS_ONLY_WHEN_TOLD, "the journal cannot be written");
        told().fault(FaultKind::DiskFull { for_ms: 9 }).engine(ended()).breaks(ENDS_ONLY_WHEN_TOLD, "by itself");
        told().loses_power().engine(ended()).breaks(ENDS_ONLY_WHEN_TOLD, "by itself");
    }

    #[test]
    fn who_comes_back_with_an_empty_disk_may_not_be_let_in_at_once() {
        let ended = || What::Ended { why: Some("the cluster knows node 1 with another data folder".into()) };
        let serves = || What::Started { notes: Vec::new() };
        told().engine(ended()).breaks(ENDS_ONLY_WHEN_TOLD, "another data folder");
        let anew = told().engine(What::Ordered(Order::Start { empties: true })).engine(serves());
        anew.engine(ended()).engine(serves()).engine(ended()).holds();
    }

    #[test]
    fn it_starts_after_every_end() {
        let failed = || What::StartFailed { why: "the journal is damaged".into() };
        let killed = || told().fault(FaultKind::Kill { down_ms: 1 }).engine(What::Ended { why: None });
        killed().engine(failed()).breaks(ENDS_ONLY_WHEN_TOLD, "did not start");
        told().fault(FaultKind::KillInRecovery { changes: 1, loses_power: false }).engine(failed()).holds();
        killed().fault(FaultKind::BitFlip { of: FileKind::Journal }).engine(failed()).holds();
    }

    #[test]
    fn memory_stays_within_its_bound() {
        told().engine(What::MemoryAbove { used: 12, bound: 10 }).breaks(MEMORY_WITHIN_BOUNDS, "12 bytes");
    }
}
