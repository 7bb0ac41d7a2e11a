//! A plan in a few lines: what was drawn.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::Value;

use crate::plan::{ClientKind, ClusterPlan, Fault, Plan, TopicPlan};

/// Up to so many faults are listed one by one; more are counted by kind.
const FAULTS_LISTED_MAX: usize = 10;

/// The plan's options, a line per subject.
pub fn draw(plan: &Plan) -> String {
    let mut page = String::new();
    let Plan { node, network, .. } = plan;
    let promise = if plan.is_beyond_promises { ", faults beyond what one disk promises" } else { "" };
    let _ = writeln!(page, "  run      {} s under faults{promise}", millis(plan.duration_ms));
    let _ = writeln!(
        page,
        "  broker   durability {}, commit {}, direct from {} B, {} journal files of {} B, tail cache {} B, clock {:+} ms \
         {:+} ppm, sync {}-{} µs{}",
        if node.trusts_os { "os" } else { "sync" },
        node.commit_form(),
        node.direct_from,
        node.journal_files,
        node.journal_file_bytes,
        node.tail_cache_bytes,
        node.clock_skew_ms,
        node.clock_drift_ppm,
        node.sync_us_min,
        node.sync_us_max,
        settings(&node.broker),
    );
    let pieces = match network.piece_bytes_max {
        0 => "whole".to_string(),
        most => format!("in pieces of up to {most} B"),
    };
    let _ = writeln!(
        page,
        "  network  {}-{} µs one way, bytes arrive {pieces}, window {} B",
        network.latency_us_min, network.latency_us_max, network.window_bytes,
    );
    if let Some(ClusterPlan { others, network, .. }) = &plan.cluster {
        let (min, max) = (network.latency_us_min, network.latency_us_max);
        let later = match plan.nodes() - plan.founders() {
            0 => String::new(),
            later => format!(", {later} of them later"),
        };
        let _ = writeln!(page, "  cluster  {} brokers{later}, {min}-{max} µs one way between them", others.len() + 1);
    }
    for topic in &plan.topics {
        let copies = if topic.replication > 1 { format!(" on {} brokers", topic.replication) } else { String::new() };
        let TopicPlan { name, partitions, configs, .. } = topic;
        let _ = writeln!(page, "  topic    {name}, {partitions} partitions{copies}{}", settings(configs));
    }
    for (index, client) in plan.clients.iter().enumerate() {
        let _ = writeln!(page, "  c{index:<7} {}, {} operations", kind(&client.kind), client.operations.len());
    }
    page + &faults(&plan.faults)
}

/// What goes wrong, one by one where it is little.
fn faults(faults: &[Fault]) -> String {
    if faults.is_empty() {
        return "  faults   none\n".to_string();
    }
    if faults.len() <= FAULTS_LISTED_MAX {
        return faults
            .iter()
            .map(|fault| {
                let (name, details) = fault_parts(fault);
                format!("  fault    at {} s {name}{details}\n", millis(fault.at_ms))
            })
            .collect();
    }
    let mut by_kind = BTreeMap::<String, usize>::new();
    for fault in faults {
        *by_kind.entry(fault_parts(fault).0).or_default() += 1;
    }
    let kinds: Vec<String> = by_kind.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
    format!("  faults   {}: {}\n", faults.len(), kinds.join(", "))
}

/// A fault's name and its parameters, as the plan's file has them.
pub fn fault_parts(fault: &Fault) -> (String, String) {
    match serde_json::to_value(&fault.what) {
        Ok(Value::Object(tagged)) => {
            let (name, fields) = tagged.into_iter().next().unwrap_or_default();
            let fields = fields.as_object().cloned().unwrap_or_default();
            let node = if fault.node == 1 { String::new() } else { format!(", node {}", fault.node) };
            let details = fields.iter().map(|(name, value)| format!(", {name} {}", plain(value)));
            (name, [node].into_iter().chain(details).collect())
        }
        Ok(value) => (plain(&value), String::new()),
        Err(_) => (format!("{:?}", fault.what), String::new()),
    }
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_string)
}

fn settings(settings: &BTreeMap<String, String>) -> String {
    settings.iter().map(|(name, value)| format!(", {name}={value}")).collect()
}

fn kind(kind: &ClientKind) -> String {
    match kind {
        ClientKind::Producer { is_idempotent, acks, in_flight_max, version, .. } => format!(
            "{}producer, acks {acks}, {in_flight_max} in flight, Produce {version}",
            if *is_idempotent { "idempotent " } else { "" }
        ),
        ClientKind::Consumer { uses_session, is_read_committed, version, .. } => format!(
            "consumer, Fetch {version}{}{}",
            if *uses_session { ", session" } else { "" },
            if *is_read_committed { ", read committed" } else { "" }
        ),
        ClientKind::Admin { .. } => "admin".to_string(),
        ClientKind::Hostile => "hostile".to_string(),
        ClientKind::Member { group, protocol, instance, session_timeout_ms, uses_regex, age, .. } => format!(
            "member of group {group}, {protocol:?}, session {session_timeout_ms} ms{}{}{}",
            instance.map_or(String::new(), |instance| format!(", static {instance}")),
            if *uses_regex { ", regex" } else { "" },
            if *age > 0 { format!(", age {age}") } else { String::new() },
        ),
        ClientKind::GroupAdmin { .. } => "group admin".to_string(),
        ClientKind::ClusterAdmin { .. } => "cluster admin".to_string(),
    }
}

fn millis(ms: u64) -> String {
    format!("{}.{:03}", ms / 1_000, ms % 1_000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::FaultKind;
    use crate::testing;

    #[test]
    fn a_plan_is_told_by_subject() {
        let page = draw(&testing::plan());
        for line in [
            "run      5.000 s under faults",
            "durability sync, commit inline",
            "topic    t1, 2 partitions, cleanup.policy=delete",
            "c2       idempotent producer, acks -1, 5 in flight, Produce 9, 40 operations",
            "faults   24: 8 disk_slow, 8 kill, 8 reset",
        ] {
            assert!(page.contains(line), "{line} in\n{page}");
        }
    }

    #[test]
    fn few_faults_are_told_one_by_one() {
        let kinds = [FaultKind::Kill { down_ms: 10 }, FaultKind::TruncatedIndex];
        let faults = kinds.map(|what| Fault::new(1_250, what));
        let page = draw(&Plan { faults: faults.to_vec(), ..testing::plan() });
        assert!(page.contains("fault    at 1.250 s kill, down_ms 10\n"), "{page}");
        assert!(page.contains("fault    at 1.250 s truncated_index\n"), "{page}");
    }
}
