//! Consumers that wait: what it costs a broker to hold the fetches of very many of them where nothing comes, and how much
//! memory it has with that many connections and partitions. Each fetch names its partitions, as librdkafka's do, instead
//! of going on with a session.

use super::broker::Contender;
use super::median;
use crate::args::{CompareArgs, LoadArgs, Mode};
use crate::failure::Failure;
use crate::json::Json;
use crate::run;
use std::time::Duration;

/// What `--rows` calls it.
pub(super) const NAME: &str = "idle consumers";

const PARTITIONS: i32 = 10_000;
const CONSUMERS: u32 = 1_000;
/// What clients ask for by default, and what they may be told to.
const WAITS: [Duration; 2] = [Duration::from_millis(500), Duration::from_secs(5)];

#[derive(Clone, Copy, Debug)]
struct Turn {
    fetches_per_s: f64,
    processors: f64,
    resident_bytes: f64,
}

/// All turns at one time of waiting.
pub(super) struct Idle {
    broker: String,
    wait: Duration,
    turns: Vec<Turn>,
}

/// Starts the broker for each turn, and has the consumers wait for each time; `passed` is told after each turn.
pub(super) fn idle(args: &CompareArgs, contender: &Contender, passed: impl Fn()) -> Result<Vec<Idle>, Failure> {
    let mut all = WAITS.map(|wait| Idle { broker: contender.name.clone(), wait, turns: Vec::new() });
    for _ in 0..args.rounds {
        let running = contender.start(&args.work_dir)?;
        for idle in &mut all {
            let load = load(args, idle.wait, running.address(), running.pid());
            let report = run::run(&load, false)?;
            let server = report.server.expect("its process is watched");
            idle.turns.push(Turn {
                fetches_per_s: report.records_per_second(),
                processors: server.cpu.as_secs_f64() / report.elapsed.as_secs_f64(),
                resident_bytes: server.memory.resident_bytes as f64,
            });
        }
        passed();
    }
    Ok(all.into())
}

fn load(args: &CompareArgs, wait: Duration, address: String, pid: u32) -> LoadArgs {
    LoadArgs {
        bootstrap_servers: vec![address],
        mode: Mode::Wait,
        topic: "idle".to_owned(),
        partitions: Some(PARTITIONS),
        connections: CONSUMERS,
        fetch_max_wait: wait,
        // The first fetches come all at once; from the second on they are as far apart as they will be.
        warmup: args.warmup.max(wait + wait / 2),
        // Processor time is told in steps of 10 ms, which is much for so little work.
        duration: args.idle.max(4 * wait),
        server_pid: vec![pid],
        ..LoadArgs::defaults()
    }
}

impl Idle {
    fn median(&self, of: impl Fn(&Turn) -> f64) -> f64 {
        median(self.turns.iter().map(of).collect())
    }

    /// Above its line of the table.
    pub(super) const HEADER: [&str; 5] =
        ["1,000 idle consumers, 10,000 partitions", "max wait", "fetches/s", "broker CPU", "memory"];

    pub(super) fn to_line(&self) -> [String; 5] {
        [
            self.broker.clone(),
            format!("{} ms", self.wait.as_millis()),
            format!("{:.0}", self.median(|turn| turn.fetches_per_s)),
            format!("{:.2} %", self.median(|turn| turn.processors) * 100.0),
            format!("{:.1} MB", self.median(|turn| turn.resident_bytes) / 1e6),
        ]
    }

    pub(super) fn to_json(&self) -> Json {
        Json::Object(vec![
            ("broker", Json::text(&self.broker)),
            ("consumers", Json::Whole(CONSUMERS.into())),
            ("partitions", Json::Whole(PARTITIONS as u64)),
            ("max_wait_ms", Json::Whole(self.wait.as_millis() as u64)),
            ("fetches_per_s", Json::number(self.median(|turn| turn.fetches_per_s))),
            ("processors", Json::number(self.median(|turn| turn.processors))),
            ("resident_bytes", Json::number(self.median(|turn| turn.resident_bytes))),
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_wait_is_a_valid_load_that_lasts_for_several() {
        let args = CompareArgs::for_tests();
        for wait in WAITS {
            let load = load(&args, wait, "127.0.0.1:9".to_owned(), 1);
            load.check().expect("valid");
            assert!(load.duration >= 2 * wait, "{wait:?}");
        }
    }
}
