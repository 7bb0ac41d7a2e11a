//! What goes wrong, drawn.

use super::{Atlas, DURATION_MS, Dice, Key, Root};
use crate::plan::{Fault, FaultKind, FileKind};

/// Faults begin when clients are at work, and end before they stop, in milliseconds from either end.
const CALM_MS: u64 = 1_000;

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Kill,
    PowerLoss,
    Restart,
    KillInRecovery,
    Pause,
    ClockStep,
    DiskFull,
    DiskSlow,
    DiskStall,
    SyncFails,
    WriteFails,
    Reset,
    MuteToServer,
    MuteToClient,
    HalfOpen,
    Delay,
    Fragment,
    SlowReader,
    Refuse,
    Blackhole,
    ReadFails,
    BitFlip,
    MisdirectedWrite,
    LyingSync,
    TruncatedIndex,
}

/// What is promised whatever the durability.
const PROMISED: [Kind; 18] = [
    Kind::Kill,
    Kind::Restart,
    Kind::KillInRecovery,
    Kind::Pause,
    Kind::ClockStep,
    Kind::DiskFull,
    Kind::DiskSlow,
    Kind::DiskStall,
    Kind::WriteFails,
    Kind::Reset,
    Kind::MuteToServer,
    Kind::MuteToClient,
    Kind::HalfOpen,
    Kind::Delay,
    Kind::Fragment,
    Kind::SlowReader,
    Kind::Refuse,
    Kind::Blackhole,
];

/// What is promised where commits are synced.
const PROMISED_SYNCED: [Kind; 2] = [Kind::PowerLoss, Kind::SyncFails];

/// What no broker of one disk promises to survive whole.
const BEYOND: [Kind; 5] =
    [Kind::ReadFails, Kind::BitFlip, Kind::MisdirectedWrite, Kind::LyingSync, Kind::TruncatedIndex];

/// The faults of a plan in order of time: at least five.
pub(super) fn faults(root: &Root, atlas: Atlas, trusts_os: bool, clients: usize) -> Vec<Fault> {
    let mut dice = root.of(Key::Swarm);
    let loses_power = !trusts_os || atlas == Atlas::Beyond;
    let synced = PROMISED_SYNCED.iter().filter(|_| loses_power);
    let promised: Vec<Kind> = PROMISED.iter().chain(synced).copied().collect();
    // One kind is drawn in any case; each of the others takes part in a third of all plans, often or seldom.
    let mut swarm = vec![dice.pick(&promised)];
    for &kind in &promised {
        if dice.one_in(3) {
            swarm.extend(std::iter::repeat_n(kind, dice.pick(&[1, 1, 2, 4])));
        }
    }
    if loses_power && dice.one_in(2) {
        // The most telling of all.
        swarm.extend([Kind::PowerLoss; 3]);
    }
    if atlas == Atlas::Beyond {
        let kind = dice.pick(&BEYOND);
        swarm.extend(std::iter::repeat_n(kind, 1 + swarm.len() / 2));
    }
    let count = dice.between(5, 25);
    let mut faults = Vec::new();
    for number in 0..count {
        let mut dice = root.numbered(Key::Faults, number);
        // The first of a plan beyond the promises is of the kind that makes it one.
        let is_first_beyond = atlas == Atlas::Beyond && number == 0;
        let kind = if is_first_beyond { swarm[swarm.len() - 1] } else { dice.pick(&swarm) };
        let at_ms = dice.between(CALM_MS, DURATION_MS - CALM_MS);
        let what = fault(kind, &mut dice, loses_power, clients);
        let needs_crash = matches!(kind, Kind::KillInRecovery | Kind::TruncatedIndex);
        faults.push(Fault::new(at_ms, what));
        if needs_crash {
            let what = FaultKind::Kill { down_ms: dice.between(50, 1_000) };
            faults.push(Fault::new(at_ms + dice.between(1, 500), what));
        }
    }
    faults.sort_by_key(|fault| fault.at_ms);
    faults
}

fn fault(kind: Kind, dice: &mut Dice, loses_power: bool, clients: usize) -> FaultKind {
    let client = usize::try_from(dice.below(clients as u64)).expect("it is an index");
    let of = dice.pick(&[
        FileKind::Journal,
        FileKind::Journal,
        FileKind::Segment,
        FileKind::Segment,
        FileKind::Checkpoint,
        FileKind::Index,
    ]);
    let for_ms = dice.scale(50, 6_000);
    let down_ms = dice.scale(50, 4_000);
    match kind {
        Kind::Kill => FaultKind::Kill { down_ms },
        Kind::PowerLoss => FaultKind::PowerLoss {
            down_ms,
            keep_permille: match dice.below(4) {
                0 => 0,
                1 => 1_000,
                _ => dice.number(1, 999),
            },
            sector_bytes: dice.pick(&[512, 4_096]),
        },
        Kind::Restart => FaultKind::Restart { down_ms },
        Kind::KillInRecovery => {
            FaultKind::KillInRecovery { changes: dice.number(0, 12), loses_power: loses_power && dice.one_in(2) }
        }
        Kind::Pause => FaultKind::Pause { for_ms },
        Kind::ClockStep => {
            let by_ms = if dice.one_in(4) { dice.signed(7_200_000) } else { dice.signed(60_000) };
            FaultKind::ClockStep { by_ms: if by_ms == 0 { 1 } else { by_ms } }
        }
        Kind::DiskFull => FaultKind::DiskFull { for_ms },
        Kind::DiskSlow => FaultKind::DiskSlow { for_ms, factor: dice.number(2, 50) },
        Kind::DiskStall => FaultKind::DiskStall { for_ms },
        Kind::SyncFails => FaultKind::SyncFails { of },
        Kind::WriteFails => FaultKind::WriteFails { of },
        Kind::ReadFails => FaultKind::ReadFails { of },
        Kind::BitFlip => FaultKind::BitFlip { of },
        Kind::MisdirectedWrite => FaultKind::MisdirectedWrite { of },
        Kind::LyingSync => FaultKind::LyingSync { for_ms },
        Kind::TruncatedIndex => FaultKind::TruncatedIndex,
        Kind::Reset => FaultKind::Reset { client },
        Kind::MuteToServer => FaultKind::MuteToServer { client, for_ms },
        Kind::MuteToClient => FaultKind::MuteToClient { client, for_ms },
        Kind::HalfOpen => FaultKind::HalfOpen { client },
        Kind::Delay => FaultKind::Delay { client, for_ms, up_to_ms: dice.scale(5, 1_000) },
        Kind::Fragment => FaultKind::Fragment { client, for_ms },
        Kind::SlowReader => FaultKind::SlowReader { client, for_ms },
        Kind::Refuse => FaultKind::Refuse { for_ms },
        Kind::Blackhole => FaultKind::Blackhole { for_ms },
    }
}
