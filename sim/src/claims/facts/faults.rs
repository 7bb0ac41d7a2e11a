//! What faults excuse, all in one place.
//!
//! - A process that dies, a machine that loses power, a network that breaks: nothing. What was acknowledged is there.
//! - Where the operating system is trusted (`--durability os`), a machine that dies, or a sync that fails and drops
//!   pages, may take what was acknowledged last. So may a disk that says that it synced and did not, or that wrote
//!   elsewhere: no broker can know. From the next start on the log may go on differently: a new *era* begins.
//! - A disk that damages what it has may make a partition refuse to serve or the process refuse to start. It must be
//!   said: an answer of KAFKA_STORAGE_ERROR, a line of the log, a note of the recovery, a last word.
//! - A disk that fails may end the process, and may be complained of at ERROR.

use std::collections::BTreeSet;

use chronik_core::boundary::Level;
use chronik_core::time::Instant;

use crate::history::{Event, What};
use crate::plan::{FaultKind, FileKind, Plan};

/// What was done to the broker, and what it said about that.
#[derive(Debug, Default)]
pub(in crate::claims) struct Faults<'a> {
    eras: Vec<Instant>,
    /// Since which event the disk may have damaged what it had.
    damaged: Option<usize>,
    /// What the operator was told since then.
    reports: Vec<&'a str>,
    /// The brokers whose process could not start, and did not since.
    down: BTreeSet<u32>,
}

impl<'a> Faults<'a> {
    pub(super) fn of(plan: &Plan, events: &'a [Event]) -> Faults<'a> {
        let mut faults = Faults::default();
        let (mut may_lose, mut lies) = (false, false);
        for (index, event) in events.iter().enumerate() {
            match &event.what {
                What::Fault(kind) => {
                    let is_crash = matches!(
                        kind,
                        FaultKind::PowerLoss { .. } | FaultKind::KillInRecovery { loses_power: true, .. }
                    );
                    may_lose |= match kind {
                        FaultKind::SyncFails { .. } | FaultKind::WriteFails { .. } => plan.node.trusts_os,
                        // Where the last commit went elsewhere, its place looks like one that was never written.
                        FaultKind::MisdirectedWrite { of: FileKind::Journal } => true,
                        _ => is_crash && (plan.node.trusts_os || lies),
                    };
                    lies |= matches!(kind, FaultKind::LyingSync { .. });
                    if damages(kind) {
                        faults.damaged.get_or_insert(index);
                    }
                }
                What::Started { notes } => {
                    if std::mem::take(&mut may_lose) {
                        faults.eras.push(event.at);
                    }
                    faults.down.remove(&event.node);
                    faults.report(notes.iter().map(String::as_str));
                }
                What::StartFailed { why } => {
                    faults.down.insert(event.node);
                    faults.report([why.as_str()]);
                }
                What::Ended { why: Some(why) } => faults.report([why.as_str()]),
                What::Logged { level: Level::Warn | Level::Error, text } => faults.report([text.as_str()]),
                _ => {}
            }
        }
        faults
    }

    fn report(&mut self, texts: impl IntoIterator<Item = &'a str>) {
        if self.damaged.is_some() {
            self.reports.extend(texts);
        }
    }

    /// In which era it was. What was acknowledged in one may be missing in the next.
    pub(in crate::claims) fn era_at(&self, at: Instant) -> u32 {
        self.eras.partition_point(|&start| start <= at) as u32
    }

    /// The era in which the run ended.
    pub(in crate::claims) fn last_era(&self) -> u32 {
        self.eras.len() as u32
    }

    /// Whether a disk may have damaged what it had before this event.
    pub(in crate::claims) fn is_damaged_at(&self, event: usize) -> bool {
        self.damaged.is_some_and(|damaged| damaged < event)
    }

    /// Whether damage to a partition, by any of these names, was told to the operator.
    pub(in crate::claims) fn is_reported(&self, names: &[String]) -> bool {
        self.reports.iter().any(|report| names.iter().any(|name| report.contains(name.as_str())))
    }

    /// Whether a broker refused to start for good, because of damage.
    pub(in crate::claims) fn is_down_by_damage(&self) -> bool {
        !self.down.is_empty() && self.damaged.is_some()
    }
}

/// Whether what a disk has is, or seems, damaged by this.
fn damages(kind: &FaultKind) -> bool {
    matches!(
        kind,
        FaultKind::BitFlip { .. }
            | FaultKind::MisdirectedWrite { .. }
            | FaultKind::LyingSync { .. }
            | FaultKind::ReadFails { .. }
            // Its entries are what tells damage in a segment: without them the segment is not served.
            | FaultKind::TruncatedIndex
    )
}

/// Whether the broker may complain of this at ERROR, not start because of it, or end by itself.
pub(in crate::claims) fn is_of_the_disk(kind: &FaultKind) -> bool {
    damages(kind) || matches!(kind, FaultKind::SyncFails { .. } | FaultKind::WriteFails { .. })
}
