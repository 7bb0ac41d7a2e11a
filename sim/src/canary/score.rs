//! How soon each canary is found: the measure of the simulator itself.
//!
//! For each canary several hunts, each over seeds of its own, one process a seed: a planted bug may panic, hang or eat
//! memory, and must not take the count with it. A seed that fails also with nothing planted is a bug of the broker: it
//! is told and does not count. Canaries are hunted side by side; processor time is counted for each run by itself.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::{Canary, Engine, VARIABLE};
use crate::claims;

/// How long each hunt goes on.
#[derive(Clone, Debug, PartialEq)]
pub struct Hunts {
    /// How many for each canary; the median is of these.
    pub hunts: u32,
    /// The first hunt's first seed. Every further hunt begins [`Hunts::APART`] later.
    pub first_seed: u64,
    /// A hunt ends without success after so many seeds ...
    pub seeds_max: u64,
    /// ... or so many seconds of processor time.
    pub cpu_seconds_max: f64,
    /// A run that takes longer than this by the clock on the wall hangs, which is one way to be found.
    pub run_time_max: Duration,
}

impl Hunts {
    /// How far the seeds of one hunt lie from those of the next.
    pub const APART: u64 = 1_000_000;
}

impl Default for Hunts {
    fn default() -> Hunts {
        Hunts {
            hunts: 5,
            first_seed: 1,
            seeds_max: 500,
            cpu_seconds_max: 120.0,
            // A run takes a fraction of a second; a machine may be busy otherwise.
            run_time_max: Duration::from_secs(60),
        }
    }
}

/// What one run came to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcome {
    /// By what it was found: a claim, `panic` or `hang`; `None` where all claims hold.
    pub found_by: Option<String>,
    /// Whether the code that the canary changes was reached.
    pub has_sung: bool,
    /// Processor time, in seconds.
    pub cpu_seconds: f64,
}

/// How a canary fared.
#[derive(Clone, Debug, PartialEq)]
pub struct Score {
    /// Its name.
    pub name: String,
    /// How many of the hunts found it.
    pub found: u32,
    /// How many hunts there were.
    pub hunts: u32,
    /// The median over all hunts of the seeds that it took; `None` where the median hunt found nothing.
    pub seeds: Option<u64>,
    /// The same for processor time, in seconds.
    pub cpu_seconds: Option<f64>,
    /// By what it was found, and how often.
    pub by: BTreeMap<String, u32>,
    /// In how many of all runs its code was reached.
    pub sung: u64,
    /// How many runs there were.
    pub runs: u64,
}

/// Hunts every canary with the binary that [`build`](super::build) made, so many at a time, and prints a row of a
/// Markdown table for each as soon as those before it are printed. Seeds that fail by themselves are told below, and so
/// are canaries of an engine that this program was built without.
///
/// # Errors
/// Where a process cannot be run, does not understand its arguments, or nothing can be printed.
pub fn score(
    binary: &Path,
    canaries: &[Canary],
    hunts: &Hunts,
    jobs: usize,
    out: &mut (dyn Write + Send),
) -> io::Result<Vec<Score>> {
    let run = |canary: Option<&Canary>, on: On, seed: u64| run_seed(binary, canary, on, seed, hunts.run_time_max);
    let (there, absent): (Vec<_>, Vec<_>) =
        canaries.iter().cloned().partition(|canary| canary.engine == Engine::Core || cfg!(madsim));
    let scores = score_by(&run, &there, hunts, jobs, out)?;
    for canary in absent {
        writeln!(out, "`{}` was not hunted: this build has no engine {}.", canary.name, canary.engine.name())?;
    }
    Ok(scores)
}

/// What a seed is run on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct On {
    engine: &'static str,
    nodes: u32,
}

/// Runs one seed, with a canary or with none.
type Run<'a> = dyn Fn(Option<&Canary>, On, u64) -> io::Result<Outcome> + Sync + 'a;

/// The rows that are known, and how many of them are printed.
struct Table<'a> {
    rows: Vec<Option<Score>>,
    printed: usize,
    out: &'a mut (dyn Write + Send),
}

impl Table<'_> {
    fn set(&mut self, index: usize, score: Score) -> io::Result<()> {
        self.rows[index] = Some(score);
        while let Some(Some(score)) = self.rows.get(self.printed) {
            writeln!(self.out, "{}", row(score))?;
            self.printed += 1;
        }
        self.out.flush()
    }
}

fn score_by(
    run: &Run<'_>,
    canaries: &[Canary],
    hunts: &Hunts,
    jobs: usize,
    out: &mut (dyn Write + Send),
) -> io::Result<Vec<Score>> {
    writeln!(out, "| canary | found | seeds | CPU s | by | reached |\n|---|---|---|---|---|---|")?;
    let next = AtomicUsize::new(0);
    let failing = Mutex::new(Failing::new());
    let table = Mutex::new(Table { rows: vec![None; canaries.len()], printed: 0, out });
    let work = || -> io::Result<()> {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(canary) = canaries.get(index) else { return Ok(()) };
            let (score, fails) = hunt(run, canary, hunts)?;
            failing.lock().unwrap_or_else(PoisonError::into_inner).extend(fails);
            table.lock().unwrap_or_else(PoisonError::into_inner).set(index, score)?;
        }
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..jobs.max(1)).map(|_| scope.spawn(work)).collect();
        workers.into_iter().try_for_each(|worker| worker.join().expect("a hunt reports its errors"))
    })?;
    let Table { rows, out, .. } = table.into_inner().unwrap_or_else(PoisonError::into_inner);
    let scores: Vec<Score> = rows.into_iter().flatten().collect();
    let found = scores.iter().filter(|score| 2 * score.found > score.hunts).count();
    writeln!(out, "\n{found} of {} are found by most of their hunts.", scores.len())?;
    for ((On { engine, nodes }, seed), by) in failing.into_inner().unwrap_or_else(PoisonError::into_inner) {
        let brokers = if nodes == 1 { String::new() } else { format!(", {nodes} brokers,") };
        writeln!(out, "Seed {seed} fails on engine {engine}{brokers} with nothing planted: {by}.")?;
    }
    Ok(scores)
}

/// Seeds that fail with nothing planted, by what they ran on, and by what they failed.
type Failing = BTreeMap<(On, u64), String>;

fn hunt(run: &Run<'_>, canary: &Canary, hunts: &Hunts) -> io::Result<(Score, Failing)> {
    let mut failing = Failing::new();
    let on = On { engine: canary.engine.name(), nodes: canary.nodes };
    let mut score = Score {
        name: canary.name.clone(),
        found: 0,
        hunts: hunts.hunts,
        seeds: None,
        cpu_seconds: None,
        by: BTreeMap::new(),
        sung: 0,
        runs: 0,
    };
    let mut took = Vec::new();
    for number in 0..u64::from(hunts.hunts) {
        let first = hunts.first_seed.wrapping_add(number.wrapping_mul(Hunts::APART));
        let mut cpu_seconds = 0.0;
        for tried in 1..=hunts.seeds_max {
            let seed = first.wrapping_add(tried - 1);
            let outcome = run(Some(canary), on, seed)?;
            cpu_seconds += outcome.cpu_seconds;
            score.runs += 1;
            score.sung += u64::from(outcome.has_sung);
            if let Some(by) = outcome.found_by {
                // The time that this takes is no part of the hunt: it is a check of the seed, not of the canary.
                match run(None, on, seed)?.found_by {
                    Some(without) => drop(failing.insert((on, seed), without)),
                    None => {
                        score.found += 1;
                        *score.by.entry(by).or_default() += 1;
                        took.push((tried, cpu_seconds));
                        break;
                    }
                }
            }
            if cpu_seconds >= hunts.cpu_seconds_max {
                break;
            }
        }
    }
    // A hunt without success counts as longer than any other.
    let middle = hunts.hunts as usize / 2;
    took.sort_by_key(|&(seeds, _)| seeds);
    score.seeds = took.get(middle).map(|&(seeds, _)| seeds);
    took.sort_by(|a, b| a.1.total_cmp(&b.1));
    score.cpu_seconds = took.get(middle).map(|&(_, seconds)| seconds);
    Ok((score, failing))
}

fn row(score: &Score) -> String {
    let seeds = score.seeds.map_or_else(|| "–".to_owned(), |seeds| seeds.to_string());
    let cpu = score.cpu_seconds.map_or_else(|| "–".to_owned(), |seconds| format!("{seconds:.1}"));
    let mut by: Vec<(&String, &u32)> = score.by.iter().collect();
    by.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    let by: Vec<&str> = by.into_iter().map(|(by, _)| by.as_str()).collect();
    let Score { name, found, hunts, sung, runs, .. } = score;
    format!("| `{name}` | {found}/{hunts} | {seeds} | {cpu} | {} | {sung}/{runs} |", by.join(", "))
}

/// How much of what a run says is kept to be searched, in bytes.
const SAID_BYTES_MAX: u64 = 1 << 20;

/// The exit code of the command where a claim does not hold.
const CLAIM_FAILED: i32 = 1;

/// The exit code of the command where its arguments or its environment cannot be obeyed.
const NOT_OBEYED: i32 = 2;

/// How often to look whether a run has ended.
const LOOK_EVERY: Duration = Duration::from_millis(2);

fn run_seed(binary: &Path, canary: Option<&Canary>, on: On, seed: u64, time_max: Duration) -> io::Result<Outcome> {
    let mut command = Command::new(binary);
    command.args(["--seed", &seed.to_string(), "--engine", on.engine, "--nodes", &on.nodes.to_string()]);
    judge(command, canary, time_max)
}

/// Runs a command to its end, or to the end of its time.
fn judge(mut command: Command, canary: Option<&Canary>, time_max: Duration) -> io::Result<Outcome> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0).env_remove(VARIABLE);
    if let Some(canary) = canary {
        command.env(VARIABLE, &canary.name);
    }
    let began = Instant::now();
    let mut child = command.spawn()?;
    let said = [listen(child.stdout.take()), listen(child.stderr.take())];
    let mut cpu_seconds = None;
    let status = loop {
        // What a process used is known as long as nobody has asked how it ended.
        let (has_ended, used) = used_by(&child).unwrap_or((true, None));
        cpu_seconds = used.or(cpu_seconds);
        if has_ended && let Some(status) = child.try_wait()? {
            break Some(status);
        }
        if began.elapsed() > time_max {
            end(&mut child)?;
            break None;
        }
        thread::sleep(LOOK_EVERY);
    };
    let said = said.map(|said| said.join().unwrap_or_default()).concat();
    let found_by = match status {
        None => Some("hang".to_owned()),
        Some(status) if status.success() => None,
        Some(status) if status.code() == Some(CLAIM_FAILED) => Some(claim_in(&said, canary)),
        Some(status) if status.code() == Some(NOT_OBEYED) => return Err(io::Error::other(said)),
        Some(_) => Some("panic".to_owned()),
    };
    let has_sung = canary.is_some_and(|canary| said.contains(&format!("the canary {} sings", canary.name)));
    // Where the system does not tell, the clock on the wall is as near as can be.
    let cpu_seconds = cpu_seconds.unwrap_or_else(|| began.elapsed().as_secs_f64());
    Ok(Outcome { found_by, has_sung, cpu_seconds })
}

/// The claim that a report names: one that the canary expects before any other.
fn claim_in(said: &str, canary: Option<&Canary>) -> String {
    let expected = canary.into_iter().flat_map(|canary| canary.claims.iter().map(String::as_str));
    let mut names = expected.chain(claims::claims().iter().map(|claim| claim.name));
    names.find(|name| said.contains(name)).unwrap_or("a claim").to_owned()
}

/// Ends a run with all processes that it may have started, which would hold on to its output.
fn end(child: &mut Child) -> io::Result<()> {
    let group = format!("kill -KILL -{}", child.id());
    Command::new("/bin/sh").args(["-c", &group]).stderr(Stdio::null()).status()?;
    child.wait().map(drop)
}

/// Reads what somebody says to its end, so that nobody waits for a reader, and keeps the beginning.
fn listen(from: Option<impl Read + Send + 'static>) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let Some(mut from) = from else { return String::new() };
        let mut said = Vec::new();
        // Of one who ends in the middle of a sentence that much was said.
        let _ = from.by_ref().take(SAID_BYTES_MAX).read_to_end(&mut said);
        let _ = io::copy(&mut from, &mut io::sink());
        String::from_utf8_lossy(&said).into_owned()
    })
}

/// Whether a child has ended, and the processor time that it and those it waited for have used, in seconds; `None`
/// where the system does not tell.
fn used_by(child: &Child) -> Option<(bool, Option<f64>)> {
    let stat = fs::read_to_string(format!("/proc/{}/stat", child.id())).ok()?;
    // The name may hold anything, spaces and parentheses too; what follows it is plain. proc(5): the state is field 3,
    // times are fields 14 to 17, in ticks, of which Linux tells a hundred a second whatever its own clock does.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |field: usize| fields.get(field - 3).and_then(|ticks| ticks.parse::<f64>().ok());
    let used: Option<f64> = (14..=17).map(ticks).sum();
    Some((*fields.first()? == "Z", used.map(|ticks| ticks / 100.0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn canary(name: &str) -> Canary {
        let claims = vec!["acked".to_owned()];
        let (about, after, edits) = (String::new(), Vec::new(), Vec::new());
        Canary { name: name.to_owned(), about, after, claims, engine: Engine::Core, nodes: 1, edits }
    }

    fn hunts() -> Hunts {
        Hunts { seeds_max: 20, cpu_seconds_max: 10.0, ..Hunts::default() }
    }

    /// Scores one canary which `is_found` finds, where `fails` fails with nothing planted.
    fn scored(is_found: fn(u64) -> bool, fails: fn(u64) -> bool) -> (Score, String) {
        let run = |canary: Option<&Canary>, _: On, seed: u64| {
            let is_found = fails(seed) || (canary.is_some() && is_found(seed));
            let found_by = is_found.then(|| "acked".to_owned());
            Ok(Outcome { found_by, has_sung: canary.is_some(), cpu_seconds: 0.5 })
        };
        let mut out = Vec::new();
        let scores = score_by(&run, &[canary("one")], &hunts(), 1, &mut out).expect("memory has room");
        (scores[0].clone(), String::from_utf8(out).expect("text"))
    }

    #[test]
    fn the_median_is_over_all_hunts_and_those_without_success_count_as_the_longest() {
        // The hunts begin at 1, 1000001, ...: found at once, at the 3rd, at the 4th, and twice not at all.
        let (score, table) = scored(|seed| matches!(seed, 1 | 1_000_003 | 2_000_004), |_| false);
        assert_eq!((score.found, score.hunts, score.seeds, score.cpu_seconds), (3, 5, Some(4), Some(2.0)));
        assert_eq!((score.runs, score.sung), (1 + 3 + 4 + 20 + 20, 48));
        assert!(table.contains("| `one` | 3/5 | 4 | 2.0 | acked | 48/48 |"), "{table}");
        assert!(table.contains("1 of 1 are found"), "{table}");
    }

    #[test]
    fn what_is_found_by_few_hunts_has_no_median() {
        let (score, table) = scored(|seed| seed == 7, |_| false);
        assert_eq!((score.found, score.seeds, score.cpu_seconds), (1, None, None));
        assert!(table.contains("| `one` | 1/5 | – | – |"), "{table}");
        assert!(table.contains("0 of 1 are found"), "{table}");
    }

    #[test]
    fn a_seed_that_fails_by_itself_is_told_and_finds_nobody() {
        let (score, table) = scored(|seed| seed % Hunts::APART == 5, |seed| seed % Hunts::APART == 2);
        assert_eq!((score.found, score.seeds), (5, Some(5)));
        assert!(table.contains("Seed 2 fails on engine core with nothing planted: acked."), "{table}");
    }

    #[test]
    fn rows_come_in_the_order_of_names_however_many_are_hunted_at_once() {
        let run = |canary: Option<&Canary>, _: On, _: u64| {
            // The first one takes the longest.
            let is_first = canary.is_some_and(|canary| canary.name == "a");
            let found_by = canary.filter(|_| !is_first).map(|_| "acked".to_owned());
            Ok(Outcome { found_by, has_sung: true, cpu_seconds: 0.1 })
        };
        let canaries = ["a", "b", "c", "d"].map(canary);
        let mut out = Vec::new();
        let scores = score_by(&run, &canaries, &hunts(), 3, &mut out).expect("memory has room");
        assert!(scores.iter().map(|score| score.name.as_str()).eq(["a", "b", "c", "d"]));
        let table = String::from_utf8(out).expect("text");
        let names: Vec<&str> = table.lines().filter_map(|line| line.strip_prefix("| `")?.get(..1)).collect();
        assert_eq!(names, ["a", "b", "c", "d"], "{table}");
    }

    #[test]
    fn a_process_is_judged_by_how_it_ends_and_what_it_says() {
        let folder = std::env::temp_dir().join(format!("chronik-score-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("there is room for tests");
        let check_within = |script: &str, time_max: Duration, found_by: Option<&str>| {
            // Run by the shell and not as itself: another test's child may hold a file open that was just written.
            let path = folder.join("one.sh");
            fs::write(&path, script).expect("written");
            let run = |canary: Option<&Canary>| {
                let mut command = Command::new("/bin/sh");
                command.arg(&path).current_dir(&folder);
                judge(command, canary, time_max).expect("a shell is there")
            };
            let outcome = run(Some(&canary("one")));
            assert_eq!(outcome.found_by.as_deref(), found_by, "{script}");
            outcome
        };
        let check = |script: &str, found_by: Option<&str>| check_within(script, Duration::from_secs(30), found_by);
        check("exit 0", None);
        check("echo claim acked does not hold; exit 1", Some("acked"));
        check("echo something else; exit 1", Some("a claim"));
        check("exit 101", Some("panic"));
        check("kill -ABRT $$", Some("panic"));
        let busy = check("i=0; while [ $i -lt 100000 ]; do i=$((i + 1)); done", None);
        assert!((0.01..10.0).contains(&busy.cpu_seconds), "{busy:?}");
        check_within("sleep 1000 & sleep 1000", Duration::from_millis(50), Some("hang"));
        assert!(check("echo \"the canary $CHRONIK_CANARY sings\" >&2", None).has_sung);
        fs::remove_dir_all(&folder).expect("it was made here");
    }
}
