//! Faults that tell only together, drawn as pairs.
//!
//! What a broker told too early shows when it dies before it was true: commits must be slow, a client must be told
//! something, and then the machine must die, within moments. What it forgot of its producers shows when they send again
//! what it has; what it forgot of its topics when it dies right after it was told of them.

use super::{DURATION_MS, Dice, Key, Root};
use crate::plan::{Action, ClientKind, ClientPlan, Fault, FaultKind};

/// Stories begin when clients are at work, and end before they stop, in milliseconds from either end.
const CALM_MS: u64 = 1_000;

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Story {
    /// The disk stands still, or almost, and the broker dies before it goes on.
    DiesInStall,
    /// The disk stands still, and a producer that waits for it loses its connection: it sends all of it again.
    ResetInStall,
    /// A producer hears nothing of what it sent, and the broker dies or is restarted before it asks again.
    DiesUnheard,
    /// The broker dies, or its disk stands still, right after an admin asked for something.
    AfterAdmin,
    /// The disk is full for as long as it takes to fill the journal.
    FullForLong,
}

const ALL: [Story; 6] = [
    // Most of what is told too early shows here.
    Story::DiesInStall,
    Story::DiesInStall,
    Story::ResetInStall,
    Story::DiesUnheard,
    Story::AfterAdmin,
    Story::FullForLong,
];

/// The stories of a plan, in two of three: some of one or two kinds. `loses_power` says whether the machine may die.
pub(super) fn stories(root: &Root, loses_power: bool, clients: &[ClientPlan]) -> Vec<Fault> {
    let mut dice = root.of(Key::Stories);
    if dice.one_in(3) {
        return Vec::new();
    }
    let kinds = [dice.pick(&ALL), dice.pick(&ALL)];
    let count = dice.between(1, 4);
    let mut faults = Vec::new();
    for number in 0..count {
        let mut dice = root.numbered(Key::Stories, number);
        let kind = dice.pick(&kinds);
        tell(kind, &mut dice, loses_power, clients, &mut faults);
    }
    faults.retain(|fault| fault.at_ms <= DURATION_MS - CALM_MS);
    faults
}

fn tell(kind: Story, dice: &mut Dice, loses_power: bool, clients: &[ClientPlan], faults: &mut Vec<Fault>) {
    let mut at_ms = dice.between(CALM_MS, DURATION_MS - 2 * CALM_MS);
    let for_ms = dice.scale(200, 4_000);
    let stall = if dice.one_in(4) {
        FaultKind::DiskSlow { for_ms, factor: dice.number(20, 200) }
    } else {
        FaultKind::DiskStall { for_ms }
    };
    let within_ms = dice.between(1, for_ms);
    match kind {
        Story::DiesInStall => {
            faults.push(Fault::new(at_ms, stall));
            faults.push(Fault::new(at_ms + within_ms, death(dice, loses_power)));
        }
        Story::ResetInStall => {
            let client = producer(dice, clients);
            faults.push(Fault::new(at_ms, stall));
            faults.push(Fault::new(at_ms + within_ms, FaultKind::Reset { client }));
        }
        Story::DiesUnheard => {
            let client = producer(dice, clients);
            let what = if dice.one_in(3) {
                FaultKind::Restart { down_ms: dice.scale(20, 500) }
            } else {
                death(dice, loses_power)
            };
            faults.push(Fault::new(at_ms, FaultKind::MuteToClient { client, for_ms }));
            faults.push(Fault::new(at_ms + within_ms, what));
        }
        Story::AfterAdmin => {
            let operations = clients.iter().flat_map(|client| &client.operations);
            let changes: Vec<u64> =
                operations.filter(|operation| is_change(&operation.what)).map(|operation| operation.at_ms).collect();
            if !changes.is_empty() {
                at_ms = dice.pick(&changes);
            }
            let has_stall = dice.one_in(2);
            if has_stall {
                faults.push(Fault::new(at_ms.saturating_sub(dice.between(0, 5)), stall));
            }
            if !has_stall || dice.one_in(2) {
                faults.push(Fault::new(at_ms + dice.between(0, 40), death(dice, loses_power)));
            }
        }
        Story::FullForLong => {
            faults.push(Fault::new(at_ms, FaultKind::DiskFull { for_ms: dice.between(1_000, 8_000) }));
        }
    }
}

/// The process dies or, where that is promised, its machine does.
pub(super) fn death(dice: &mut Dice, loses_power: bool) -> FaultKind {
    let down_ms = dice.scale(20, 500);
    if !loses_power || dice.one_in(5) {
        return FaultKind::Kill { down_ms };
    }
    // Little of what was not synced persists: what was told too early is gone.
    let keep_permille = if dice.one_in(2) { 0 } else { dice.number(0, 1_000) };
    FaultKind::PowerLoss { down_ms, keep_permille, sector_bytes: dice.pick(&[512, 4_096]) }
}

/// A producer's index.
fn producer(dice: &mut Dice, clients: &[ClientPlan]) -> usize {
    let is_producer = |&index: &usize| matches!(clients[index].kind, ClientKind::Producer { .. });
    let producers: Vec<usize> = (0..clients.len()).filter(is_producer).collect();
    dice.pick(&producers)
}

/// Whether an operation changes topics, or what is kept of them.
fn is_change(action: &Action) -> bool {
    matches!(
        action,
        Action::CreateTopic { .. }
            | Action::DeleteTopic { .. }
            | Action::CreatePartitions { .. }
            | Action::DeleteRecords { .. }
            | Action::AlterConfig { .. }
    )
}
