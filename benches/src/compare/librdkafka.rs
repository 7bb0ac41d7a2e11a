//! A row's work through librdkafka, as most clients that are not written in Java do it: what batching by time, threads of
//! its own and acks=all make of a broker. `benches/floor/seed.c` is the client, a process of its own, so that nothing else
//! needs librdkafka; where it is not built, the row is left out.

use super::broker::Running;
use super::turn::Turn;
use super::work::Outcome;
use crate::args::{CompareArgs, LoadArgs, Verify};
use crate::cluster::Cluster;
use crate::failure::Failure;
use crate::perf::Recording;
use crate::wire;
use std::io;
use std::path::PathBuf;
use std::process::Command;

/// Records that the client has outstanding: more than a batch, and few enough that they come soon.
const OUTSTANDING: u32 = 1_000;
const RECORD_BYTES: u32 = 256;
const LINGER_MS: u32 = 5;
const ACKS: i32 = -1;

/// Built beside the null broker, by the same script.
fn client(args: &CompareArgs) -> PathBuf {
    args.floor.with_file_name("seed")
}

/// Why there is no client, where there is none.
pub(super) fn obstacle(args: &CompareArgs, row: &str) -> Option<String> {
    let client = client(args);
    (!client.exists()).then(|| {
        format!(
            "{row}: not measured, for {} is not there; install librdkafka with its headers (Debian: librdkafka-dev), \
             and `just floor` builds it",
            client.display()
        )
    })
}

/// One turn: `base` says the topic, the time, and how it is looked after what was acknowledged.
pub(super) fn produce(args: &CompareArgs, base: &LoadArgs, broker: &Running) -> Result<Outcome, Failure> {
    let mut cluster = Cluster::open(base, true)?;
    let before = cluster.offsets(wire::LATEST)?;
    let failed = |why: io::Error| Failure::Local { what: "cannot load through librdkafka".to_owned(), why };
    let record = |file| Recording::begin(file, &base.server_pid, base.duration);
    let recording = base.perf.as_deref().map(record).transpose()?;
    let done = Command::new(client(args))
        .args([broker.port().to_string(), base.topic.clone(), OUTSTANDING.to_string(), RECORD_BYTES.to_string()])
        .args([base.duration.as_secs_f64().to_string(), LINGER_MS.to_string(), ACKS.to_string()])
        .arg(broker.pid().to_string())
        .output()
        .map_err(failed)?;
    recording.map(Recording::finish).transpose()?;
    let said = String::from_utf8_lossy(&done.stdout);
    let told = Told::parse(&said).filter(|_| done.status.success()).ok_or_else(|| {
        failed(io::Error::other(format!("{}: {said}{}", done.status, String::from_utf8_lossy(&done.stderr))))
    })?;

    let mut lost = None;
    if base.verify != Verify::Off {
        let after = cluster.offsets(wire::LATEST)?;
        let stored = after.values().sum::<i64>() - before.values().sum::<i64>();
        lost = (stored < told.acked as i64)
            .then(|| format!("LOST: {} acknowledged, the end offsets rose by {stored}", told.acked));
    }
    Ok(Outcome { turn: told.turn, lost })
}

/// What the client tells on its one line.
struct Told {
    turn: Turn,
    /// In the whole run.
    acked: f64,
}

impl Told {
    fn parse(line: &str) -> Option<Told> {
        let value = |name: &str| -> Option<f64> {
            let found = line.split_whitespace().find_map(|part| part.strip_prefix(name)?.strip_prefix('='));
            found?.parse().ok()
        };
        let records_per_s = value("records_per_s")?;
        Some(Told {
            acked: value("acked")?,
            turn: Turn {
                records_per_s,
                megabytes_per_s: records_per_s * f64::from(RECORD_BYTES) / 1e6,
                latency_p50_us: value("p50_us")?,
                latency_p99_us: value("p99_us")?,
                latency_p999_us: value("p99.9_us")?,
                broker_cpu_us_per_record: value("broker_us_per_record")?,
                client_cpu_us_per_record: value("client_us_per_record")?,
                resident_bytes_max: value("broker_resident_kib_max")? * 1024.0,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_client_tells_is_read() {
        let line = "acked=1100 records_per_s=500.0 p50_us=1 p90_us=2 p99_us=3.5 p99.9_us=4 max_us=5 \
                    client_us_per_record=6 broker_us_per_record=7 broker_resident_kib_max=8\n";
        let told = Told::parse(line).expect("all is there");
        assert_eq!((told.acked, told.turn.records_per_s, told.turn.latency_p99_us), (1100.0, 500.0, 3.5));
        assert_eq!((told.turn.latency_p999_us, told.turn.resident_bytes_max), (4.0, 8192.0));
        assert!(Told::parse("no acks, errs 5").is_none());
    }

    #[test]
    fn a_client_that_is_not_built_is_told_with_the_remedy() {
        let told = obstacle(&CompareArgs::for_tests(), "librdkafka").expect("there is none beside no floor");
        assert!(told.contains("librdkafka-dev"), "{told}");
    }
}
