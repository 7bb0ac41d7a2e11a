//! Several brokers side by side: each row of work is given to each broker in turn, over and over, and the medians are
//! compared. A shared machine may be twice as fast from one minute to the next; turns that lie close together see the
//! same machine, so the ratios hold where the figures do not.
//!
//! How long each broker runs is its `Lifetime`. Before its turn it is left alone until it is quiet, so that no turn
//! pays for the background work of another.

mod broker;
mod connections;
mod idle;
mod librdkafka;
mod recovery;
mod rest;
mod table;
mod turn;
mod work;

use crate::args::{CompareArgs, LoadArgs, Verify};
use crate::failure::Failure;
use crate::json::Json;
use crate::progress::Turns;
use crate::report::grouped;
use crate::run;
use broker::{Contender, Lifetime, Role, Running};
use connections::Connections;
use idle::Idle;
use recovery::Recovery;
use rest::Rest;
use std::path::Path;
use turn::{Series, median};
use work::{Against, Kind, Outcome, ROWS, Row};

/// The partitions of those rows that tell what partitions cost.
const PARTITIONS: [i32; 4] = [1, 100, 1_000, 10_000];

/// What is found of one broker by itself.
const APART: [&str; 4] = [rest::NAME, idle::NAME, connections::NAME, recovery::NAME];

/// All that a comparison found.
#[derive(Default)]
struct Findings {
    rows: Vec<(&'static str, Vec<Series>)>,
    /// By broker.
    rest: Vec<Rest>,
    /// Chronik's, by the time of waiting.
    idle: Vec<Idle>,
    /// Chronik's.
    connections: Option<Connections>,
    /// Chronik's.
    recovery: Option<Recovery>,
    /// What could not be measured here, and why.
    skipped: Vec<String>,
    /// Turns in which something acknowledged was missing.
    lost: Vec<String>,
}

/// Runs the comparison and prints it. Gives whether everything acknowledged was there.
pub(crate) fn compare(args: &CompareArgs) -> Result<bool, Failure> {
    let rows_max = if args.perf.is_some() { 1 } else { ROWS.len() };
    let rows: Vec<Row> = ROWS.into_iter().filter(|row| is_chosen(row.name, &args.rows)).take(rows_max).collect();
    let is_apart = args.perf.is_none() && APART.iter().any(|name| is_chosen(name, &args.rows));
    if rows.is_empty() && !is_apart {
        let names = ROWS.map(|row| row.name).into_iter().chain(APART).collect::<Vec<_>>().join("; ");
        return Err(Failure::Usage(format!("--rows matches none of: {names}")));
    }
    let contenders = contenders(args)?;
    let (work_dir, _cleaner) = broker::prepare(&args.work_dir)?;
    let args = &CompareArgs { work_dir, ..args.clone() };
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
    let mut contenders = vec![
        Contender::floor(&args.floor, &args.floor_mode, args.partitions)?,
        Contender::reader(&args.floor, args.partitions, work::FILE_BYTES >> 20)?,
    ];
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
    contenders.iter().find(|contender| contender.role == Role::Chronik)
}

/// Who takes turns at a row.
#[derive(Debug, PartialEq, Eq)]
struct Entrant {
    name: String,
    /// Its place among the contenders.
    contender: usize,
    partitions: i32,
}

/// Those who take turns at a row, the first being the one that the others are compared with.
fn entrants(row: &Row, contenders: &[Contender], partitions: i32) -> Vec<Entrant> {
    let places = contenders.iter().enumerate();
    match row.against {
        Against::Floor | Against::Reader => {
            let left_out = if row.against == Against::Floor { Role::Reader } else { Role::Floor };
            places
                .filter(|(_, contender)| contender.role != left_out)
                .map(|(place, contender)| Entrant { name: contender.name.clone(), contender: place, partitions })
                .collect()
        }
        Against::OnePartition => places
            .filter(|(_, contender)| contender.role == Role::Chronik)
            .flat_map(|(place, contender)| {
                PARTITIONS.map(|partitions| {
                    let s = if partitions == 1 { "" } else { "s" };
                    let name = format!("{}, {} partition{s}", contender.name, grouped(partitions.into()));
                    Entrant { name, contender: place, partitions }
                })
            })
            .collect(),
    }
}

fn measure(args: &CompareArgs, rows: &[Row], contenders: &[Contender]) -> Result<Findings, Failure> {
    let tested: Vec<&Contender> =
        contenders.iter().filter(|contender| contender.lifetime() != Lifetime::Comparison).collect();
    let is_wanted = |name| args.perf.is_none() && is_chosen(name, &args.rows);
    let rested: &[&Contender] = if is_wanted(rest::NAME) { &tested } else { &[] };
    let chronik_for = |name| chronik(contenders).filter(|_| is_wanted(name));
    let (idled, recovered) = (chronik_for(idle::NAME), chronik_for(recovery::NAME));
    let connected = chronik_for(connections::NAME);
    let mut findings = Findings::default();
    let is_possible = |row: &&Row| {
        let obstacle = matches!(row.kind, Kind::Librdkafka).then(|| librdkafka::obstacle(args, row.name)).flatten();
        let is_possible = obstacle.is_none();
        findings.skipped.extend(obstacle);
        is_possible
    };
    let rows: Vec<(&Row, Vec<Entrant>)> =
        rows.iter().filter(is_possible).map(|row| (row, entrants(row, contenders, args.partitions))).collect();
    let turns = rows.iter().map(|(_, entrants)| entrants.len()).sum::<usize>()
        + rested.len()
        + idled.iter().len()
        + connected.iter().len()
        + recovered.iter().len();
    let progress = Turns::new(turns as u64 * u64::from(args.rounds));
    let passed = || progress.passed();

    for contender in rested {
        progress.begin(&format!("{}: {}", contender.name, rest::NAME));
        findings.rest.push(rest::rest(args, contender, passed)?);
    }
    if let Some(contender) = idled {
        progress.begin(&format!("{}: {}", contender.name, idle::NAME));
        findings.idle = idle::idle(args, contender, passed)?;
    }
    if let Some(contender) = connected {
        progress.begin(&format!("{}: {}", contender.name, connections::NAME));
        match connections::obstacle() {
            Some(obstacle) => findings.skipped.push(obstacle),
            None => {
                let mut connections = connections::connections(args, contender, passed)?;
                findings.lost.append(&mut connections.lost);
                findings.connections = Some(connections);
            }
        }
    }
    if let Some(contender) = recovered {
        progress.begin(&format!("{}: {}", contender.name, recovery::NAME));
        match recovery::obstacle(args)? {
            Some(obstacle) => findings.skipped.push(obstacle),
            None => {
                let mut recovery = recovery::recovery(args, contender, passed)?;
                findings.lost.append(&mut recovery.lost);
                findings.recovery = Some(recovery);
            }
        }
    }

    let mut running: Vec<Option<Running>> = contenders.iter().map(|_| None).collect();
    for (row, entrants) in rows.into_iter().filter(|(_, entrants)| !entrants.is_empty()) {
        let mut all: Vec<Series> =
            entrants.iter().map(|entrant| Series { broker: entrant.name.clone(), turns: Vec::new() }).collect();
        for round in 1..=args.rounds {
            for (entrant, series) in entrants.iter().zip(&mut all) {
                progress.begin(&format!("{}: {}, round {round}", entrant.name, row.name));
                let (contender, running) = (&contenders[entrant.contender], &mut running[entrant.contender]);
                let outcome = take_turn(args, row, round, contender, entrant.partitions, running)?;
                if let Some(lost) = outcome.lost {
                    findings.lost.push(format!("{}, {}, round {round}: {lost}", entrant.name, row.name));
                }
                series.turns.push(outcome.turn);
                passed();
            }
        }
        findings.rows.push((row.name, all));
        for (contender, running) in contenders.iter().zip(&mut running) {
            if contender.lifetime() == Lifetime::Row {
                *running = None;
            }
        }
    }
    progress.finish();
    Ok(findings)
}

/// One turn of one broker, started or kept as its lifetime says.
fn take_turn(
    args: &CompareArgs,
    row: &Row,
    round: u32,
    contender: &Contender,
    partitions: i32,
    running: &mut Option<Running>,
) -> Result<Outcome, Failure> {
    let lifetime = contender.lifetime();
    let verify = if lifetime == Lifetime::Comparison { Verify::Off } else { Verify::Offsets };
    let perf = args.perf.clone().filter(|_| contender.role == Role::Chronik);
    let perform = |broker: &Running, topic: &str| {
        let base = LoadArgs { verify, perf: perf.clone(), ..work::base(args, topic, partitions, broker) };
        work::perform(args, row.kind, &base, broker)
    };
    let broker = match running.take() {
        Some(broker) => broker,
        None => {
            let broker = contender.start(&args.work_dir)?;
            if lifetime == Lifetime::Row {
                perform(&broker, "uncounted")?;
            }
            broker
        }
    };
    broker.wait_until_quiet()?;
    let outcome = perform(&broker, &format!("round-{round}"))?;
    // Dropped, and thus ended, before the next broker's turn where it is not kept.
    *running = (lifetime != Lifetime::Turn).then_some(broker);
    Ok(outcome)
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
            ("idle_connections", self.connections.as_ref().map_or(Json::Null, Connections::to_json)),
            ("recovery", self.recovery.as_ref().map_or(Json::Null, Recovery::to_json)),
            ("skipped", Json::List(self.skipped.iter().map(Json::text).collect())),
            ("lost", Json::List(self.lost.iter().map(Json::text).collect())),
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_has_those_who_can_be_compared_in_it() {
        let binary = std::env::current_exe().expect("a file that is there");
        let contenders = [
            Contender::floor(&binary, "null", 1).expect("it is there"),
            Contender::reader(&binary, 1, 1).expect("it is there"),
            Contender::chronik(&binary, None).expect("it is there"),
            Contender::other("kafka", "kafka {port}").expect("a command"),
        ];
        let names = |against| {
            let row = Row { against, ..ROWS[0] };
            entrants(&row, &contenders, 1).into_iter().map(|entrant| entrant.name).collect::<Vec<_>>()
        };
        assert_eq!(names(Against::Floor), ["null broker, null", "chronik", "kafka"]);
        assert_eq!(names(Against::Reader), ["null broker, read", "chronik", "kafka"]);
        let alone = ["chronik, 1 partition", "chronik, 100 partitions", "chronik, 1,000 partitions"];
        assert_eq!(names(Against::OnePartition)[..3], alone);
    }

    #[test]
    fn rows_are_chosen_by_part_of_their_name() {
        assert!(is_chosen("fetch from memory", &[]));
        assert!(is_chosen("fetch from memory", &["128".to_owned(), "fetch".to_owned()]));
        assert!(!is_chosen("fetch from memory", &["128".to_owned()]));
    }
}
