//! How long a broker that was killed right after a load takes, with much data, to acknowledge again: once with what the
//! operating system still has of its files, as after a crash of the process, and once with none of it, as after one of the
//! machine.

use super::broker::{Contender, Running};
use super::rest::acknowledge_one;
use super::turn::median;
use super::work;
use crate::args::CompareArgs;
use crate::cluster::Cluster;
use crate::failure::Failure;
use crate::json::Json;
use crate::run;
use crate::wire;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// What `--rows` calls it.
pub(super) const NAME: &str = "recovery after kill -9";

const TOPIC: &str = "much";
/// How long small records come in before each kill, so that there is something in the journal that is nowhere else.
const LOADED: Duration = Duration::from_secs(1);
/// Beside the data: journals, indexes, and room for others on the disk.
const SPARE_BYTES: u64 = 8_000_000_000;

/// What a broker took, over all rounds.
pub(super) struct Recovery {
    broker: String,
    gigabytes: u64,
    first_ack_ms_cached: Vec<f64>,
    first_ack_ms_cold: Vec<f64>,
    /// What was acknowledged before a kill and is not there after it.
    pub(super) lost: Vec<String>,
}

/// What keeps this from being measured here, if anything does.
pub(super) fn obstacle(args: &CompareArgs) -> Result<Option<String>, Failure> {
    let failed = |why: rustix::io::Errno| Failure::Local {
        what: format!("cannot tell what is free in {}", args.work_dir.display()),
        why: why.into(),
    };
    let disk = rustix::fs::statvfs(&args.work_dir).map_err(failed)?;
    let free = disk.f_bavail * disk.f_frsize;
    let needed = u64::from(args.recovery_gigabytes) * 1_000_000_000 + SPARE_BYTES;
    Ok((free < needed).then(|| {
        format!(
            "{NAME}: not measured, for {} has {:.0} GB free and {:.0} GB are needed; lower --recovery-gigabytes",
            args.work_dir.display(),
            free as f64 / 1e9,
            needed as f64 / 1e9
        )
    }))
}

/// Fills a broker once, then kills it and starts it again in each round; `passed` is told after each of them.
pub(super) fn recovery(args: &CompareArgs, contender: &Contender, passed: impl Fn()) -> Result<Recovery, Failure> {
    let gigabytes = u64::from(args.recovery_gigabytes);
    let mut recovery = Recovery {
        broker: contender.name.clone(),
        gigabytes,
        first_ack_ms_cached: Vec::new(),
        first_ack_ms_cold: Vec::new(),
        lost: Vec::new(),
    };
    let mut running = contender.start(&args.work_dir)?;
    if let Some(lost) = work::fill(&work::base(args, TOPIC, args.partitions, &running), gigabytes * 1_000_000_000)? {
        recovery.lost.push(format!("{NAME}, while filling: {lost}"));
    }
    for round in 1..=args.rounds {
        for is_cold in [false, true] {
            let first_ack = killed(args, contender, &mut running, is_cold, &mut recovery.lost, round)?;
            let all = if is_cold { &mut recovery.first_ack_ms_cold } else { &mut recovery.first_ack_ms_cached };
            all.push(first_ack.as_secs_f64() * 1e3);
        }
        passed();
    }
    Ok(recovery)
}

/// Loads the broker and kills it as soon as all is acknowledged, of which nothing may be gone then. Gives how long it takes
/// from its start to the first acknowledgement.
fn killed(
    args: &CompareArgs,
    contender: &Contender,
    running: &mut Running,
    is_cold: bool,
    lost: &mut Vec<String>,
    round: u32,
) -> Result<Duration, Failure> {
    let base = work::base(args, TOPIC, args.partitions, running);
    let report = run::run(&work::small(&base, LOADED), false)?;
    lost.extend(report.verdict.filter(|verdict| !verdict.is_good()).map(|verdict| verdict.to_string()));
    let ends = |running: &Running| -> Result<BTreeMap<i32, i64>, Failure> {
        Cluster::open(&work::base(args, TOPIC, args.partitions, running), false)?.offsets(wire::LATEST)
    };
    let before = ends(running)?;
    running.kill();
    if is_cold {
        running.forget_cached()?;
    }
    let began = Instant::now();
    contender.start_again(running)?;
    acknowledge_one(running, TOPIC)?;
    let first_ack = began.elapsed();
    let after = ends(running)?;
    lost.extend(before.iter().filter(|(partition, end)| after.get(partition) < Some(end)).map(|(partition, end)| {
        let found = after.get(partition);
        format!("{}, {NAME}, round {round}: {TOPIC}-{partition} ended at {end}, and then at {found:?}", contender.name)
    }));
    Ok(first_ack)
}

impl Recovery {
    /// Above its line of the table.
    pub(super) const HEADER: [&str; 4] = [NAME, "data", "to first ack", "files not in memory"];

    pub(super) fn to_line(&self) -> [String; 4] {
        [
            self.broker.clone(),
            format!("{} GB", self.gigabytes),
            format!("{:.0} ms", median(self.first_ack_ms_cached.clone())),
            format!("{:.0} ms", median(self.first_ack_ms_cold.clone())),
        ]
    }

    pub(super) fn to_json(&self) -> Json {
        Json::Object(vec![
            ("broker", Json::text(&self.broker)),
            ("gigabytes", Json::Whole(self.gigabytes)),
            ("first_ack_ms", Json::number(median(self.first_ack_ms_cached.clone()))),
            ("first_ack_cold_ms", Json::number(median(self.first_ack_ms_cold.clone()))),
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_small_a_disk_is_told() {
        let work_dir = std::env::temp_dir();
        let args = CompareArgs { work_dir, recovery_gigabytes: 4_000_000_000, ..CompareArgs::for_tests() };
        let told = obstacle(&args).expect("the folder is there").expect("no disk is that large");
        assert!(told.contains("--recovery-gigabytes") && told.contains("4000000008 GB are needed"), "{told}");
    }
}
