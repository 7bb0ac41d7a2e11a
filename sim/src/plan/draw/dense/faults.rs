//! Brokers that die, are cut off and come back, one soon after the other.

use super::{Dice, Part, Root};
use crate::plan::{ClientKind, ClientPlan, Fault, FaultKind, Way};

/// Faults begin when there are leaders and something is written, in milliseconds.
const START_MS: u64 = 2_500;
/// The last ones begin so long before the end, in milliseconds.
const CALM_MS: u64 = 1_000;

/// What happens to one or two brokers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    /// One dies, or loses its power.
    Dies,
    /// One is cut off from the others.
    CutOff,
    /// One is cut off, and dies before it is reached again: what it alone has is gone for as long.
    CutOffAndDies,
    /// Two lose their power within one sync, or soon after each other.
    TwoDie,
    /// One comes back, and at that moment another goes.
    Relieved,
    /// All lose their power.
    AllDie,
    /// What one says to another does not arrive.
    Muted,
    /// It arrives late.
    Slow,
    /// The connections between two break, perhaps again before they stand.
    Reset,
    /// The disk of one stands still or is slow, and perhaps it dies before it goes on.
    DiskStalls,
    /// One stands still, and goes on as if nothing had happened.
    Pauses,
    /// One is stopped in order and started again.
    Restarts,
    /// Each of two is told that the other is gone, and it is not.
    Refused,
    /// All are stopped in order and started again, one after the other.
    Rolls,
    /// A producer hears nothing, and a broker dies before it sends again what it has not heard of.
    Unheard,
}

const ALL: [Turn; 15] = [
    Turn::Dies,
    Turn::CutOff,
    Turn::CutOffAndDies,
    Turn::TwoDie,
    Turn::Relieved,
    Turn::AllDie,
    Turn::Muted,
    Turn::Slow,
    Turn::Reset,
    Turn::DiskStalls,
    Turn::Pauses,
    Turn::Restarts,
    Turn::Rolls,
    Turn::Refused,
    Turn::Unheard,
];

/// The most telling of all: in every plan, each of them more often than each of the others.
const MOST: [Turn; 4] = [Turn::Dies, Turn::CutOff, Turn::CutOffAndDies, Turn::TwoDie];

/// The faults of a plan in order of time.
pub(super) fn faults(root: &Root, nodes: u32, duration_ms: u64, clients: &[ClientPlan]) -> Vec<Fault> {
    let mut dice = root.dense(Part::Faults, 0);
    let mut swarm = MOST.to_vec();
    for turn in ALL {
        if dice.one_in(2) {
            swarm.push(turn);
        }
    }
    // With one broker gone the others must go on: longer than a session, or not.
    let pace_ms = dice.pick(&[600, 950, 950, 1_400]);
    let away_ms = dice.pick(&[900, 3_500, 3_500]);
    let mut faults = Vec::new();
    let mut at_ms = START_MS;
    for number in 0.. {
        let mut dice = root.dense(Part::Fault, number);
        if at_ms + CALM_MS > duration_ms {
            break;
        }
        let turn = dice.pick(&swarm);
        take(turn, &mut dice, at_ms, away_ms, nodes, clients, &mut faults);
        at_ms += dice.between(pace_ms / 2, pace_ms * 3 / 2);
    }
    faults.retain(|fault| fault.at_ms + CALM_MS <= duration_ms);
    faults.sort_by_key(|fault| fault.at_ms);
    faults
}

fn take(
    turn: Turn,
    dice: &mut Dice,
    at_ms: u64,
    away_ms: u64,
    nodes: u32,
    clients: &[ClientPlan],
    faults: &mut Vec<Fault>,
) {
    let node = dice.number(1, nodes);
    let other = 1 + (node + dice.number(0, nodes - 2)) % nodes;
    let for_ms = dice.between(300, away_ms);
    let within_ms = dice.between(50, 900);
    let mut push = |at_ms, node, what| faults.push(Fault::new(at_ms, what).of(node));
    match turn {
        Turn::Dies => push(at_ms, node, death(dice, away_ms)),
        Turn::CutOff => {
            push(
                at_ms,
                node,
                FaultKind::Isolated { for_ms, way: dice.pick(&[Way::Both, Way::Both, Way::Out, Way::In]) },
            );
        }
        Turn::CutOffAndDies => {
            push(at_ms, node, FaultKind::Isolated { for_ms: for_ms.max(within_ms), way: Way::Both });
            push(at_ms + within_ms, node, power_loss(dice, away_ms));
        }
        Turn::TwoDie => {
            push(at_ms, node, power_loss(dice, away_ms / 2));
            let apart_ms = if dice.one_in(2) { dice.between(0, 5) } else { dice.between(6, 600) };
            push(at_ms + apart_ms, other, power_loss(dice, away_ms / 2));
        }
        Turn::Relieved => {
            let down_ms = dice.between(100, 1_500);
            push(at_ms, node, FaultKind::Kill { down_ms });
            // Before it is up, and while it catches up.
            push(at_ms + down_ms + dice.between(0, 400), other, death(dice, away_ms));
        }
        Turn::AllDie => {
            for node in 1..=nodes {
                push(at_ms + dice.scale(1, 300), node, power_loss(dice, 600));
            }
        }
        Turn::Muted => push(at_ms, node, FaultKind::LinkMuted { to: other, for_ms }),
        Turn::Slow => push(at_ms, node, FaultKind::LinkSlow { to: other, for_ms, up_to_ms: dice.scale(5, 600) }),
        Turn::Reset => {
            push(at_ms, node, FaultKind::LinkReset { with: other });
            if dice.one_in(2) {
                push(at_ms + dice.between(1, 200), other, FaultKind::LinkReset { with: node });
            }
        }
        Turn::DiskStalls => {
            let slow = FaultKind::DiskSlow { for_ms, factor: dice.number(5, 100) };
            push(at_ms, node, if dice.one_in(2) { slow } else { FaultKind::DiskStall { for_ms } });
            match dice.below(3) {
                0 => push(at_ms + within_ms.min(for_ms), node, power_loss(dice, away_ms)),
                1 => push(at_ms + within_ms.min(for_ms), other, power_loss(dice, away_ms)),
                _ => {}
            }
        }
        Turn::Pauses => push(at_ms, node, FaultKind::Pause { for_ms }),
        Turn::Restarts => push(at_ms, node, FaultKind::Restart { down_ms: dice.between(50, 1_000) }),
        Turn::Refused => push(at_ms, node, FaultKind::LinkRefused { with: other, for_ms }),
        Turn::Rolls => {
            // The next one goes when the last one has caught up, or before.
            let apart_ms = dice.between(500, 2_000);
            for number in 0..nodes {
                let down_ms = dice.between(50, 400);
                let node = 1 + (node + number) % nodes;
                push(at_ms + u64::from(number) * apart_ms, node, FaultKind::Restart { down_ms });
            }
        }
        Turn::Unheard => {
            let is_producer = |&index: &usize| matches!(clients[index].kind, ClientKind::Producer { .. });
            let producers: Vec<usize> = (0..clients.len()).filter(is_producer).collect();
            let client = dice.pick(&producers);
            push(at_ms, 1, FaultKind::MuteToClient { client, for_ms });
            push(at_ms + within_ms.min(for_ms), node, death(dice, away_ms));
        }
    }
}

/// The machine dies, or its process.
fn death(dice: &mut Dice, away_ms: u64) -> FaultKind {
    if dice.one_in(3) { FaultKind::Kill { down_ms: dice.between(100, away_ms) } } else { power_loss(dice, away_ms) }
}

fn power_loss(dice: &mut Dice, away_ms: u64) -> FaultKind {
    FaultKind::PowerLoss {
        down_ms: dice.between(100, away_ms.max(200)),
        // Mostly all of what was not synced goes: what was told too early is gone then.
        keep_permille: match dice.below(4) {
            0 => 1_000,
            1 => dice.number(1, 999),
            _ => 0,
        },
        sector_bytes: dice.pick(&[512, 4_096]),
    }
}
