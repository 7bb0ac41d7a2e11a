//! Several brokers side by side: each row of work is given to each broker in turn, over and over, and the medians are
//! compared. A shared machine may be twice as fast from one minute to the next; turns that lie close together see the
//! same machine, so the ratios hold where the figures do not.
//!
//! How long each broker runs is its `Lifetime`. Before its turn it is left alone until it is quiet, so that no turn
//! pays for the background work of another.

mod broker;
mod idle;
mod rest;
mod table;

use crate::args::{Acks, CompareArgs, LoadArgs, Mode, Verify};
use crate::failure::Failure;
use crate::json::Json;
use crate::report::Report;
use crate::run;
use broker::{Contender, Lifetime, Running};
use idle::Idle;
use indicatif::{ProgressBar, ProgressStyle};
use rest::Rest;
use std::path::Path;

/// A row of the comparison: one kind of work.
#[derive(Clone, Copy, Debug)]
struct Row {
    name: &'static str,
    kind: Kind,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Produce {
        connections: u32,
        batches_outstanding: u32,
        batch_records: u32,
        message_size: u32,
    },
    /// Of a topic that holds as much as was produced in one turn.
    Fetch {
        bytes_max: i32,
    },
}

/// The work that a broker meets in practice, from many small requests to few large ones.
const ROWS: [Row; 5] = [
    Row {
        name: "128 connections, 1 record outstanding each",
        kind: Kind::Produce { connections: 128, batches_outstanding: 128, batch_records: 1, message_size: 256 },
    },
    Row {
        name: "1 connection, 128 records outstanding",
        kind: Kind::Produce { connections: 1, batches_outstanding: 128, batch_records: 1, message_size: 256 },
    },
    Row {
        name: "64-record batches, 5 outstanding",
        kind: Kind::Produce { connections: 1, batches_outstanding: 5, batch_records: 64, message_size: 256 },
    },
    Row {
        name: "1 MB batches, 5 outstanding",
        kind: Kind::Produce { connections: 1, batches_outstanding: 5, batch_records: 1000, message_size: 1024 },
    },
    Row { name: "fetch, 1 MiB responses", kind: Kind::Fetch { bytes_max: 1 << 20 } },
];

/// What is found of one broker by itself.
const APART: [&str; 2] = [rest::NAME, idle::NAME];

/// What fills the topic that a fetch row reads.
const FILL: Kind = Kind::Produce { connections: 1, batches_outstanding: 5, batch_records: 1000, message_size: 1024 };

/// One turn of one broker at one row.
#[derive(Clone, Copy, Debug)]
struct Turn {
    records_per_s: f64,
    megabytes_per_s: f64,
    latency_p50_us: f64,
    latency_p99_us: f64,
    latency_p999_us: f64,
    broker_cpu_us_per_record: f64,
    client_cpu_us_per_record: f64,
    /// The most that the broker's process held since it started.
    resident_bytes_max: f64,
}

/// All turns of one broker at one row.
struct Series {
    broker: String,
    turns: Vec<Turn>,
}

/// All that a comparison found.
struct Findings {
    rows: Vec<(&'static str, Vec<Series>)>,
    /// By broker.
    rest: Vec<Rest>,
    /// Chronik's, by the time of waiting.
    idle: Vec<Idle>,
    /// Turns in which something acknowledged was missing.
    lost: Vec<String>,
}

/// Runs the comparison and prints it. Gives whether everything acknowledged was there.
pub(crate) fn compare(args: &CompareArgs) -> Result<bool, Failure> {
    let rows: Vec<Row> = ROWS.into_iter().filter(|row| is_chosen(row.name, &args.rows)).collect();
    if rows.is_empty() && !APART.iter().any(|name| is_chosen(name, &args.rows)) {
        let names = ROWS.map(|row| row.name).into_iter().chain(APART).collect::<Vec<_>>().join("; ");
        return Err(Failure::Usage(format!("--rows matches none of: {names}")));
    }
    let contenders = contenders(args)?;
    let args = &CompareArgs { work_dir: broker::prepare(&args.work_dir)?, ..args.clone() };
    let findings = measure(args, &rows, &contenders)?;

    let json = findings.to_json(args);
    match args.json.as_deref() {
        Some(path) if path == Path::new("-") => println!("{json}"),
        Some(path) => {
            println!("{}", findings.to_table());
            run::write_json(path, &json)?;
        }
        None => println!("{}", findings.to_table()),
    }
    Ok(findings.lost.is_empty())
}

fn is_chosen(name: &str, chosen: &[String]) -> bool {
    chosen.is_empty() || chosen.iter().any(|part| name.contains(part.as_str()))
}

/// The floor first: every ratio is against it.
fn contenders(args: &CompareArgs) -> Result<Vec<Contender>, Failure> {
    let mut contenders = vec![Contender::floor(&args.floor, &args.floor_mode, args.partitions)?];
    if let Some(binary) = &args.server_bin {
        contenders.push(Contender::chronik(binary, args.server_args.as_deref())?);
    }
    for (name, command) in &args.beside {
        contenders.push(Contender::other(name, command)?);
    }
    Ok(contenders)
}

/// The broker that this is about, among those to be measured.
fn chronik(contenders: &[Contender]) -> Option<&Contender> {
    contenders.iter().find(|contender| contender.lifetime == Lifetime::Turn)
}

fn measure(args: &CompareArgs, rows: &[Row], contenders: &[Contender]) -> Result<Findings, Failure> {
    let tested: Vec<&Contender> =
        contenders.iter().filter(|contender| contender.lifetime != Lifetime::Comparison).collect();
    let rested: &[&Contender] = if is_chosen(rest::NAME, &args.rows) { &tested } else { &[] };
    let idled = chronik(contenders).filter(|_| is_chosen(idle::NAME, &args.rows));
    let turns = rows.len() * contenders.len() + rested.len() + idled.iter().len();
    let progress = ProgressBar::new(turns as u64 * u64::from(args.rounds));
    progress.set_style(ProgressStyle::with_template("{bar:30} {pos}/{len} {msg}").expect("the template is valid"));
    let passed = || progress.inc(1);

    let mut findings = Findings { rows: Vec::new(), rest: Vec::new(), idle: Vec::new(), lost: Vec::new() };
    for contender in rested {
        progress.set_message(format!("{}: {}", contender.name, rest::NAME));
        findings.rest.push(rest::rest(args, contender, passed)?);
    }
    if let Some(contender) = idled {
        progress.set_message(format!("{}: {}", contender.name, idle::NAME));
        findings.idle = idle::idle(args, contender, passed)?;
    }

    let mut running: Vec<Option<Running>> = contenders.iter().map(|_| None).collect();
    for row in rows {
        let mut all: Vec<Series> =
            contenders.iter().map(|contender| Series { broker: contender.name.clone(), turns: Vec::new() }).collect();
        for round in 1..=args.rounds {
            for ((contender, series), running) in contenders.iter().zip(&mut all).zip(&mut running) {
                progress.set_message(format!("{}: {}, round {round}", contender.name, row.name));
                let report = take_turn(args, row, round, contender, running)?;
                if let Some(verdict) = report.verdict.as_ref().filter(|verdict| !verdict.is_good()) {
                    findings.lost.push(format!("{}, {}, round {round}: {verdict}", contender.name, row.name));
                }
                series.turns.push(Turn::from(&report));
                progress.inc(1);
            }
        }
        findings.rows.push((row.name, all));
        for (contender, running) in contenders.iter().zip(&mut running) {
            if contender.lifetime == Lifetime::Row {
                *running = None;
            }
        }
    }
    progress.finish_and_clear();
    Ok(findings)
}

/// One turn of one broker, started or kept as its lifetime says.
fn take_turn(
    args: &CompareArgs,
    row: &Row,
    round: u32,
    contender: &Contender,
    running: &mut Option<Running>,
) -> Result<Report, Failure> {
    let verify = if contender.lifetime == Lifetime::Comparison { Verify::Off } else { Verify::Offsets };
    let broker = match running.take() {
        Some(broker) => broker,
        None => {
            let broker = contender.start(&args.work_dir)?;
            if contender.lifetime == Lifetime::Row {
                load_at(args, row, "uncounted", &broker, verify)?;
            }
            broker
        }
    };
    broker.wait_until_quiet()?;
    let report = load_at(args, row, &format!("round-{round}"), &broker, verify)?;
    // Dropped, and thus ended, before the next broker's turn where it is not kept.
    *running = (contender.lifetime != Lifetime::Turn).then_some(broker);
    Ok(report)
}

/// Loads a broker with the work of `row` on a topic of its own, which is filled first where it is to be fetched,
/// unless the broker makes its records up.
fn load_at(args: &CompareArgs, row: &Row, topic: &str, running: &Running, verify: Verify) -> Result<Report, Failure> {
    let base = LoadArgs {
        bootstrap_servers: vec![running.address()],
        topic: topic.to_owned(),
        partitions: Some(args.partitions),
        duration: args.duration,
        warmup: args.warmup,
        acks: Acks::Leader,
        server_pid: vec![running.pid()],
        verify,
        ..LoadArgs::defaults()
    };
    if matches!(row.kind, Kind::Fetch { .. }) && verify != Verify::Off {
        let filled = run::run(&row_load(FILL, &base), false)?;
        if !filled.is_good() {
            return Ok(filled);
        }
        running.wait_until_quiet()?;
    }
    run::run(&row_load(row.kind, &base), false)
}

fn row_load(kind: Kind, base: &LoadArgs) -> LoadArgs {
    match kind {
        Kind::Produce { connections, batches_outstanding, batch_records, message_size } => LoadArgs {
            connections,
            concurrency: batches_outstanding * batch_records,
            batch_records,
            message_size,
            ..base.clone()
        },
        Kind::Fetch { bytes_max } => {
            LoadArgs { mode: Mode::Consume, repeat: true, fetch_max_bytes: bytes_max, ..base.clone() }
        }
    }
}

impl From<&Report> for Turn {
    fn from(report: &Report) -> Turn {
        Turn {
            records_per_s: report.records_per_second(),
            megabytes_per_s: report.megabytes_per_second(),
            latency_p50_us: report.latency_us(50.0),
            latency_p99_us: report.latency_us(99.0),
            latency_p999_us: report.latency_us(99.9),
            broker_cpu_us_per_record: report.server_us_per_record().unwrap_or(f64::NAN),
            client_cpu_us_per_record: report.client_us_per_record(),
            resident_bytes_max: report.server.map_or(f64::NAN, |server| server.memory.resident_bytes_max as f64),
        }
    }
}

impl Series {
    fn median(&self, of: impl Fn(&Turn) -> f64) -> f64 {
        median(self.turns.iter().map(of).collect())
    }
}

/// The middle value, or the mean of the two in the middle; NaN of nothing.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => f64::NAN,
        length if length % 2 == 1 => values[middle],
        _ => (values[middle - 1] + values[middle]) / 2.0,
    }
}

impl Findings {
    fn to_json(&self, args: &CompareArgs) -> Json {
        let rows = self.rows.iter().map(|(name, all)| {
            let brokers = all.iter().map(|series| series.to_json(&all[0]));
            Json::Object(vec![("work", Json::text(*name)), ("brokers", Json::List(brokers.collect()))])
        });
        Json::Object(vec![
            ("floor_mode", Json::text(&args.floor_mode)),
            ("partitions", Json::Whole(args.partitions as u64)),
            ("rounds", Json::Whole(args.rounds.into())),
            ("duration_s", Json::number(args.duration.as_secs_f64())),
            ("rows", Json::List(rows.collect())),
            ("rest", Json::List(self.rest.iter().map(Rest::to_json).collect())),
            ("idle_consumers", Json::List(self.idle.iter().map(Idle::to_json).collect())),
            ("lost", Json::List(self.lost.iter().map(Json::text).collect())),
        ])
    }
}

impl Series {
    fn to_json(&self, floor: &Series) -> Json {
        let rate = |turn: &Turn| turn.records_per_s;
        let bytes = |turn: &Turn| turn.megabytes_per_s;
        let cpu = |turn: &Turn| turn.broker_cpu_us_per_record;
        Json::Object(vec![
            ("broker", Json::text(&self.broker)),
            ("records_per_s", Json::number(self.median(rate))),
            ("megabytes_per_s", Json::number(self.median(bytes))),
            ("throughput_ratio", Json::number(self.median(bytes) / floor.median(bytes))),
            ("broker_cpu_us_per_record", Json::number(self.median(cpu))),
            ("broker_cpu_ratio", Json::number(self.median(cpu) / floor.median(cpu))),
            ("latency_p50_us", Json::number(self.median(|turn| turn.latency_p50_us))),
            ("latency_p99_us", Json::number(self.median(|turn| turn.latency_p99_us))),
            ("latency_p999_us", Json::number(self.median(|turn| turn.latency_p999_us))),
            ("client_cpu_us_per_record", Json::number(self.median(|turn| turn.client_cpu_us_per_record))),
            ("resident_bytes_max", Json::number(self.median(|turn| turn.resident_bytes_max))),
            (
                "records_per_s_of_each_turn",
                Json::List(self.turns.iter().map(|turn| Json::number(rate(turn))).collect()),
            ),
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(vec![5.0, 1.0, 3.0]), 3.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 9.0]), 3.0);
        assert!(median(Vec::new()).is_nan());
    }

    #[test]
    fn rows_are_chosen_by_part_of_their_name() {
        assert!(is_chosen("fetch, 1 MiB responses", &[]));
        assert!(is_chosen("fetch, 1 MiB responses", &["128".to_owned(), "fetch".to_owned()]));
        assert!(!is_chosen("fetch, 1 MiB responses", &["128".to_owned()]));
    }

    #[test]
    fn every_row_is_a_valid_load() {
        for row in ROWS {
            row_load(row.kind, &LoadArgs::defaults()).check().expect(row.name);
        }
    }
}
