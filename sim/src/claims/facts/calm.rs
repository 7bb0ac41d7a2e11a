//! When nothing was wrong, for claims that hold only then: that answers come soon, and without errors of the disk.

use std::time::Duration;

use chronik_core::time::Instant;

use crate::history::{ClientId, Event, What};
use crate::plan::{FaultKind, Plan};

/// What a fault has held up is made up for within this.
const AFTER: Duration = Duration::from_millis(1_200);

/// A disk that was full is tried again, and the journal extended, within this.
const AFTER_DISK: Duration = Duration::from_secs(12);

/// A cluster of which a broker was cut off, stood still or died has leaders, and everybody knows them, within this.
const AFTER_PARTING: Duration = Duration::from_secs(15);

/// No broker has this number.
const NOBODY: u32 = 0;

/// From when to when something was wrong.
#[derive(Clone, Copy, Debug)]
struct Trouble {
    begin: Instant,
    end: Instant,
    /// Whom it concerns; `None` for everybody.
    client: Option<usize>,
    /// Whether it may be told as an error of the disk.
    is_of_disk: bool,
    /// Whether the broker's process ends, or may.
    is_an_end: bool,
}

/// All troubles of a run.
#[derive(Debug, Default)]
pub(in crate::claims) struct Calm {
    troubles: Vec<Trouble>,
}

impl Calm {
    pub(super) fn of(plan: &Plan, events: &[Event]) -> Calm {
        let mut calm = Calm::default();
        // Those that last until a broker serves again, with that broker, or until everything has healed.
        let mut open: Vec<(u32, usize)> = Vec::new();
        let mut has_healed = false;
        // What befalls one of several brokers lasts until another one leads, or it leads again.
        let elections = if plan.nodes() > 1 { AFTER_PARTING } else { Duration::ZERO };
        for event in events {
            match &event.what {
                What::Fault(kind) => {
                    let (lasts, client) = extent(kind);
                    let is_of_disk = !matches!(lasts, Lasts::For(_)) || matches!(kind, FaultKind::DiskFull { .. });
                    let end = match lasts {
                        Lasts::For(ms) if client.is_some() => event.at + Duration::from_millis(ms),
                        Lasts::For(ms) => event.at + Duration::from_millis(ms) + elections,
                        Lasts::UntilStarted | Lasts::Ever => Instant(u64::MAX),
                    };
                    if matches!(lasts, Lasts::UntilStarted) {
                        open.push((event.node, calm.troubles.len()));
                    }
                    let is_an_end = matches!(lasts, Lasts::UntilStarted);
                    calm.troubles.push(Trouble { begin: event.at, end, client, is_of_disk, is_an_end });
                }
                What::Ended { .. } => {
                    open.push((event.node, calm.troubles.len()));
                    let end = Instant(u64::MAX);
                    calm.troubles.push(Trouble {
                        begin: event.at,
                        end,
                        client: None,
                        is_of_disk: true,
                        is_an_end: true,
                    });
                }
                // Whom that makes lead when, nobody is told.
                What::MoveReplicas { .. }
                | What::ElectLeader { .. }
                | What::ChangeMembers { .. }
                | What::Ordered(_) => {
                    let end = if has_healed {
                        event.at + elections
                    } else {
                        open.push((NOBODY, calm.troubles.len()));
                        Instant(u64::MAX)
                    };
                    let begin = event.at;
                    calm.troubles.push(Trouble { begin, end, client: None, is_of_disk: false, is_an_end: false });
                }
                What::Started { .. } | What::Healed => {
                    let is_healed = event.what == What::Healed;
                    has_healed |= is_healed;
                    let end = event.at + elections;
                    for (_, index) in open.extract_if(.., |(node, _)| is_healed || *node == event.node) {
                        calm.troubles[index].end = end;
                    }
                    calm.troubles.push(Trouble {
                        begin: event.at,
                        end,
                        client: None,
                        is_of_disk: true,
                        is_an_end: false,
                    });
                }
                _ => {}
            }
        }
        calm
    }

    /// Whether nothing was wrong for a client all that time, nor shortly before.
    pub(in crate::claims) fn is_calm(&self, client: ClientId, from: Instant, to: Instant) -> bool {
        let concerns = |trouble: &&Trouble| trouble.client.is_none_or(|concerned| concerned == client.0 as usize);
        let is_far = |trouble: &Trouble| trouble.begin > to || after(trouble.end, AFTER) < from;
        self.troubles.iter().filter(concerns).all(is_far)
    }

    /// Whether one process served all that time: what the one before it was asked nobody answers, and where its machine
    /// died nobody says so.
    pub(in crate::claims) fn is_one_process(&self, from: Instant, to: Instant) -> bool {
        self.troubles.iter().all(|trouble| !trouble.is_an_end || trouble.begin > to || trouble.end <= from)
    }

    /// Whether the disk had no reason to fail at that time, nor for a while before.
    pub(in crate::claims) fn has_sound_disk(&self, at: Instant) -> bool {
        let is_far = |trouble: &Trouble| trouble.begin > at || after(trouble.end, AFTER_DISK) < at;
        self.troubles.iter().filter(|trouble| trouble.is_of_disk).all(is_far)
    }
}

fn after(at: Instant, wait: Duration) -> Instant {
    Instant(at.0.saturating_add(u64::try_from(wait.as_nanos()).expect("seconds")))
}

/// How long a fault lasts.
enum Lasts {
    /// So many milliseconds.
    For(u64),
    /// Until the broker serves next.
    UntilStarted,
    /// What it left behind may show at any time.
    Ever,
}

/// How long a fault lasts, and whom it concerns; `None` for everybody.
fn extent(kind: &FaultKind) -> (Lasts, Option<usize>) {
    match *kind {
        FaultKind::Kill { .. }
        | FaultKind::PowerLoss { .. }
        | FaultKind::Restart { .. }
        | FaultKind::KillInRecovery { .. }
        | FaultKind::SyncFails { .. }
        | FaultKind::WriteFails { .. } => (Lasts::UntilStarted, None),
        FaultKind::LinkMuted { for_ms, .. }
        | FaultKind::LinkSlow { for_ms, .. }
        | FaultKind::LinkRefused { for_ms, .. }
        | FaultKind::Isolated { for_ms, .. } => (Lasts::For(for_ms), None),
        FaultKind::LinkReset { .. } => (Lasts::For(0), None),
        FaultKind::Pause { for_ms }
        | FaultKind::DiskFull { for_ms }
        | FaultKind::DiskStall { for_ms }
        | FaultKind::Refuse { for_ms }
        | FaultKind::Blackhole { for_ms } => (Lasts::For(for_ms), None),
        // Work that began meanwhile takes as long as it was to take then: a sync of dozens of segments, seconds.
        FaultKind::DiskSlow { for_ms, .. } => (Lasts::For(for_ms + AFTER_DISK.as_millis() as u64), None),
        FaultKind::ClockStep { .. } => (Lasts::For(0), None),
        FaultKind::ReadFails { .. }
        | FaultKind::BitFlip { .. }
        | FaultKind::MisdirectedWrite { .. }
        | FaultKind::LyingSync { .. }
        | FaultKind::TruncatedIndex => (Lasts::Ever, None),
        FaultKind::Reset { client } | FaultKind::HalfOpen { client } => (Lasts::For(0), Some(client)),
        FaultKind::MuteToServer { client, for_ms }
        | FaultKind::MuteToClient { client, for_ms }
        | FaultKind::Delay { client, for_ms, .. }
        | FaultKind::Fragment { client, for_ms }
        | FaultKind::SlowReader { client, for_ms } => (Lasts::For(for_ms), Some(client)),
    }
}
