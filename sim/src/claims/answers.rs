//! While nothing is wrong, requests are answered soon, and not with errors of the disk.

use std::time::Duration;

use chronik_core::time::Instant;
use chronik_core::wire::ErrorCode;

use super::facts::{Facts, time};
use super::{Claim, Found};
use crate::history::{ClientId, What};
use crate::plan::{ClientKind, TopicPlan};

pub(super) const ANSWERED_IN_TIME: Claim =
    Claim { name: "answered-in-time", meaning: "While nothing is wrong no client waits for an answer in vain." };

pub(super) const STORAGE_ERRORS_HAVE_A_CAUSE: Claim = Claim {
    name: "storage-errors-have-a-cause",
    meaning: "KAFKA_STORAGE_ERROR is told only where the disk was full or failed shortly before.",
};

/// Who waits so long beyond what the bytes need on their way waits in vain.
const ENOUGH: Duration = Duration::from_millis(700);

pub(super) fn judge(facts: &Facts<'_>, found: &mut Found) {
    for (event, happened) in facts.events.iter().enumerate() {
        match happened.what {
            What::GaveUp { since } => gave_up(facts, event, since, found),
            What::ProduceFailed { code: ErrorCode::KafkaStorageError, .. }
            | What::Fetched { code: ErrorCode::KafkaStorageError, .. }
            | What::Listed { code: ErrorCode::KafkaStorageError, .. }
                if facts.calm.has_sound_disk(happened.at) =>
            {
                found.add(STORAGE_ERRORS_HAVE_A_CAUSE, event, || {
                    format!(
                        "{} is told KAFKA_STORAGE_ERROR at {}, and nothing was wrong with the disk",
                        facts.who(event),
                        facts.when(event)
                    )
                });
            }
            _ => {}
        }
    }
}

fn gave_up(facts: &Facts<'_>, event: usize, since: Instant, found: &mut Found) {
    let happened = &facts.events[event];
    let Some(transfer) = transfer(facts, happened.client) else { return };
    let enough = ENOUGH + 2 * transfer + room(facts);
    let is_long = happened.at - since >= enough;
    // What held it up before was over for so long.
    let asked_by = Instant(happened.at.0.saturating_sub(u64::try_from(enough.as_nanos()).expect("seconds")));
    let is_calm = facts.calm.is_calm(happened.client, asked_by, happened.at)
        && facts.calm.is_one_process(connected(facts, event, since), happened.at)
        && !facts.faults.is_down_by_damage();
    if is_long && is_calm {
        found.add(ANSWERED_IN_TIME, event, || {
            format!(
                "{} waits for an answer since {} and gives up at {}, though nothing was wrong",
                facts.who(event),
                time(since),
                facts.when(event),
            )
        });
    }
}

/// When the connection was made that a client gave up at `event`, where that is known. It may have been to a process whose
/// machine died before anything was asked; then the answer is a reset, which may get lost.
fn connected(facts: &Facts<'_>, event: usize, since: Instant) -> Instant {
    let client = facts.events[event].client;
    let before = facts.events[..event].iter().rev().filter(|before| before.client == client);
    let mut made = before.filter(|before| matches!(before.what, What::Connected)).map(|before| before.at);
    made.next().map_or(since, |made| made.min(since))
}

/// How long it may take until a full journal has room again: all that it holds is synced, in segments as small as the plan
/// makes them, each with its index.
fn room(facts: &Facts<'_>) -> Duration {
    let node = &facts.plan.node;
    let ring_bytes = node.journal_file_bytes * u64::from(node.journal_files);
    let segment_bytes = |topic: &TopicPlan| topic.configs.get("internal.segment.bytes")?.parse::<u64>().ok();
    let smallest = facts.plan.topics.iter().filter_map(segment_bytes).min().unwrap_or(ring_bytes).max(1);
    let partitions: u64 = facts.plan.topics.iter().map(|topic| u64::from(topic.partitions.unsigned_abs())).sum();
    Duration::from_micros(2 * (ring_bytes / smallest + partitions) * node.sync_us_max)
}

/// How long a client's largest requests and answers may be on their way; `None` for one that is not judged.
pub(super) fn transfer(facts: &Facts<'_>, client: ClientId) -> Option<Duration> {
    /// What a producer sends at once, and any answer but a fetch's.
    const ORDINARY_BYTES: u64 = 256 << 10;
    /// Of larger fetches it is not known how large they are.
    const FETCH_BYTES_MAX: u64 = 1 << 20;
    let bytes = match facts.plan.clients.get(client.0 as usize)?.kind {
        ClientKind::Producer { .. }
        | ClientKind::Admin { .. }
        | ClientKind::Member { .. }
        | ClientKind::GroupAdmin { .. }
        | ClientKind::ClusterAdmin { .. } => ORDINARY_BYTES,
        ClientKind::Consumer { max_bytes, .. } => {
            u64::try_from(max_bytes).ok().filter(|&max| max <= FETCH_BYTES_MAX)?
        }
        ClientKind::Hostile => return None,
    };
    let network = &facts.plan.network;
    // At least one batch comes, however large it is.
    let windows = (bytes + facts.plan.node.journal_file_bytes).div_ceil(u64::from(network.window_bytes.max(1)));
    Some(Duration::from_micros((windows + 1) * 2 * network.latency_us_max))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::claims::told::{READER, Told, told};
    use crate::plan::FaultKind;

    fn gives_up(told: Told, after_ms: u64) -> Told {
        let since = told.now;
        told.wait(after_ms).says(ClientId(READER), None, What::GaveUp { since })
    }

    #[test]
    fn nobody_waits_in_vain() {
        gives_up(told().wait(5_000), 2_000).breaks(ANSWERED_IN_TIME, "client 2 waits for an answer since");
        // Not for long, or with a reason.
        gives_up(told().wait(5_000), 300).holds();
        let stall = FaultKind::DiskStall { for_ms: 1_000 };
        gives_up(told().wait(5_000).fault(stall.clone()), 2_000).holds();
        gives_up(told().wait(5_000).fault(stall), 5_000).breaks(ANSWERED_IN_TIME, "client 2");
        // Where the machine dies nobody says so.
        gives_up(told().wait(5_000).loses_power(), 5_000).breaks(ANSWERED_IN_TIME, "client 2");
        let asked = told().wait(5_000);
        let since = asked.now;
        asked.loses_power().wait(5_000).says(ClientId(READER), None, What::GaveUp { since }).holds();
        // Nor what a connection to the machine before it was asked.
        let told_by_none = told().says(ClientId(READER), None, What::Connected).wait(5_000).loses_power();
        gives_up(told_by_none.wait(5_000), 2_000).holds();
        let other = FaultKind::MuteToClient { client: 0, for_ms: 1_000 };
        gives_up(told().wait(5_000).fault(other), 2_000).breaks(ANSWERED_IN_TIME, "client 2");
    }

    #[test]
    fn storage_errors_have_a_cause() {
        let fails = |told: Told| told.fails_to_fetch(ClientId(READER), 0, ErrorCode::KafkaStorageError);
        fails(told().wait(20_000)).breaks(STORAGE_ERRORS_HAVE_A_CAUSE, "nothing was wrong with the disk");
        fails(told().wait(20_000).fault(FaultKind::DiskFull { for_ms: 100 })).holds();
        fails(told().fault(FaultKind::DiskFull { for_ms: 100 }).wait(20_000))
            .breaks(STORAGE_ERRORS_HAVE_A_CAUSE, "client 2 is told");
    }
}
