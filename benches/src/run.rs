//! One load from beginning to end: connect, load from several threads, look what became of it.

mod commit;

use crate::args::{LoadArgs, Mode, Verify};
use crate::board::Board;
use crate::clock::{Clock, Pace, Window};
use crate::cluster::{Cluster, connect};
use crate::consume::{self, Cursor, Goal, ReadLane, ReadPlan, Received};
use crate::failure::Failure;
use crate::measured::Measured;
use crate::perf::Recording;
use crate::produce::{self, Lane, Template, WritePlan, Written};
use crate::progress::Progress;
use crate::report::{Report, ServerUse};
use crate::spread::{divide, spread};
use crate::usage::{ProcessUsage, own_cpu};
use crate::verify::Verdict;
use crate::wire::{self, Api, Batch, FetchLimits, ProduceTemplate};
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How long a broker may take to gather the in-sync set for acks=all.
const ACK_TIMEOUT_MS: i32 = 30_000;
/// How long the high watermark may lag behind the last acknowledgement: with acks=1 followers come later.
const SETTLE_WITHIN: Duration = Duration::from_secs(10);
/// How often it is looked how far a run is.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Runs what `load` describes. With `is_watched` standard error tells how far it is.
pub(crate) fn run(load: &LoadArgs, is_watched: bool) -> Result<Report, Failure> {
    load.check()?;
    match load.mode {
        Mode::Produce => produce(load, is_watched),
        Mode::Consume => consume(load, is_watched),
        Mode::EndToEnd => end_to_end(load, is_watched),
        Mode::Commit => commit::commit(load, is_watched),
        Mode::Wait => wait(load, is_watched),
    }
}

fn produce(load: &LoadArgs, is_watched: bool) -> Result<Report, Failure> {
    let mut cluster = Cluster::open(load, true)?;
    let before = cluster.offsets(wire::LATEST)?;
    let lanes = write_lanes(load, &mut cluster)?;
    let stage = Stage::new(load, load.warmup, is_watched, &cluster);

    let plan = stage.write_plan(load, false);
    let (written, used) = stage.write(load, lanes, &plan)?;

    let verdict = verify(load, &mut cluster, &before, &written)?;
    let is_answered = plan.is_answered;
    Ok(Report {
        overdue: written.overdue,
        unacked: verdict.as_ref().filter(|_| !is_answered).map(|verdict| (written.sent, verdict.stored)),
        verdict: verdict.filter(|_| is_answered),
        ..report(load, &cluster, used, written.measured)
    })
}

fn consume(load: &LoadArgs, is_watched: bool) -> Result<Report, Failure> {
    let mut cluster = Cluster::open(load, false)?;
    let starts = cluster.offsets(wire::EARLIEST)?;
    let ends = cluster.offsets(wire::LATEST)?;
    if starts.iter().all(|(partition, start)| ends.get(partition).is_none_or(|end| end <= start)) {
        return Err(Failure::Empty { topic: load.topic.clone() });
    }
    let lanes = read_lanes(&mut cluster, load.connections, &starts, &ends)?;
    // A topic that is read once may be over before a warm-up is.
    let warmup = if load.repeat { load.warmup } else { Duration::ZERO };
    let stage = Stage::new(load, warmup, is_watched, &cluster);

    let goal = if load.repeat { Goal::Repeat } else { Goal::Once { bounded: true } };
    let (received, used) = stage.read(load, lanes, goal)?;

    let ended = if load.repeat { stage.window.until } else { received.last_at.min(stage.window.until) };
    let verdict = (received.damaged > 0).then(|| Verdict {
        damaged: received.damaged,
        first_damage: received.first_damage,
        ..Verdict::default()
    });
    let elapsed = Duration::from_nanos(ended.saturating_sub(stage.window.from).max(1));
    Ok(Report { elapsed, verdict, ..report(load, &cluster, used, received.measured) })
}

fn wait(load: &LoadArgs, is_watched: bool) -> Result<Report, Failure> {
    let mut cluster = Cluster::open(load, true)?;
    let ends = cluster.offsets(wire::LATEST)?;
    let lanes = read_lanes(&mut cluster, load.connections, &ends, &unbounded(&ends))?;
    let stage = Stage::new(load, load.warmup, is_watched, &cluster);
    let (received, used) = stage.read(load, lanes, Goal::Wait)?;
    Ok(report(load, &cluster, used, received.measured))
}

fn end_to_end(load: &LoadArgs, is_watched: bool) -> Result<Report, Failure> {
    let mut cluster = Cluster::open(load, true)?;
    let before = cluster.offsets(wire::LATEST)?;
    let lanes = write_lanes(load, &mut cluster)?;
    let readers = read_lanes(&mut cluster, 1, &before, &unbounded(&before))?;
    let stage = Stage::new(load, load.warmup, is_watched, &cluster);

    let write_plan = stage.write_plan(load, true);
    let read_plan = stage.read_plan(load, Goal::Follow);
    let (written, received, used) = thread::scope(|scope| {
        let reader = scope.spawn(|| consume::read(readers, &read_plan));
        let threads = start_writers(scope, lanes, load, &write_plan);
        let used = stage.watch(load, || threads.iter().all(ScopedJoinHandle::is_finished));
        let written = join_writers(threads, &stage);
        // Also after a failure, or the reader would wait for ever.
        let expected = written.as_ref().map_or(0, |written| written.acked.iter().map(|acked| acked.records).sum());
        stage.board.expected.store(expected, Ordering::Release);
        let received = joined(reader);
        Ok((written?, received?, used?))
    })?;

    let verdict = match load.verify {
        Verify::Off => None,
        Verify::Offsets | Verify::Read => {
            let after = settled_offsets(&mut cluster, &written)?;
            Some(Verdict::by_offsets(&written.acked, &before, &after).with_read(&written.acked, &received))
        }
    };
    Ok(Report { overdue: written.overdue, verdict, ..report(load, &cluster, used, received.measured) })
}

/// What there is to tell of any load that ran for its whole duration, before anybody has looked what became of it.
fn report(load: &LoadArgs, cluster: &Cluster, used: Used, measured: Measured) -> Report {
    Report {
        load: load.clone(),
        elapsed: load.duration,
        client_cpu: used.client,
        server: used.server,
        partitions: cluster.leaders.len(),
        overdue: 0,
        unacked: None,
        verdict: None,
        measured,
    }
}

/// What the threads of a run stand on: the clock, the window, the board.
struct Stage {
    clock: Clock,
    window: Window,
    board: Board,
    partitions: usize,
    progress: Progress,
}

/// CPU that the two sides used within the window.
struct Used {
    client: Duration,
    server: Option<ServerUse>,
}

impl Stage {
    fn new(load: &LoadArgs, warmup: Duration, is_watched: bool, cluster: &Cluster) -> Stage {
        let clock = Clock::start();
        let from = clock.now() + warmup.as_nanos() as u64;
        let window = Window { from, until: from + load.duration.as_nanos() as u64 };
        let highest = cluster.leaders.last_key_value().map_or(0, |(partition, _)| *partition);
        let progress = Progress::new(is_watched, window.until / 1_000_000, "{bar:40} {msg}");
        Stage { clock, window, board: Board::new(), partitions: highest as usize + 1, progress }
    }

    fn write_plan<'a>(&'a self, load: &'a LoadArgs, is_stamped: bool) -> WritePlan<'a> {
        WritePlan {
            clock: self.clock,
            window: self.window,
            is_answered: load.acks.code() != 0,
            is_stamped,
            batch_value_bytes: match load.mode {
                Mode::Commit => 0,
                _ => u64::from(load.batch_records) * u64::from(load.message_size),
            },
            partitions: self.partitions,
            topic: &load.topic,
            board: &self.board,
        }
    }

    fn read_plan<'a>(&'a self, load: &'a LoadArgs, goal: Goal) -> ReadPlan<'a> {
        ReadPlan {
            clock: self.clock,
            window: self.window,
            topic: &load.topic,
            limits: FetchLimits {
                wait_ms_max: i32::try_from(load.fetch_max_wait.as_millis()).unwrap_or(i32::MAX),
                bytes_min: 1,
                bytes_max: load.fetch_max_bytes,
            },
            goal,
            is_checking: load.verify != Verify::Off,
            partitions: self.partitions,
            board: &self.board,
        }
    }

    /// Has threads write by `lanes` until the window ends.
    fn write(&self, load: &LoadArgs, lanes: Vec<Lane>, plan: &WritePlan<'_>) -> Result<(Written, Used), Failure> {
        thread::scope(|scope| {
            let threads = start_writers(scope, lanes, load, plan);
            let used = self.watch(load, || threads.iter().all(ScopedJoinHandle::is_finished))?;
            Ok((join_writers(threads, self)?, used))
        })
    }

    /// Has threads read on `lanes` until they have reached `goal`.
    fn read(&self, load: &LoadArgs, lanes: Vec<ReadLane>, goal: Goal) -> Result<(Received, Used), Failure> {
        let plan = self.read_plan(load, goal);
        let threads = thread_count(load, lanes.len());
        thread::scope(|scope| {
            let threads: Vec<_> =
                deal(lanes, threads).into_iter().map(|own| scope.spawn(|| consume::read(own, &plan))).collect();
            let used = self.watch(load, || threads.iter().all(ScopedJoinHandle::is_finished))?;
            let mut received = Received::nothing(self.window, self.partitions);
            for thread in threads {
                received.merge(joined(thread)?);
            }
            Ok((received, used))
        })
    }

    /// Shows the progress and takes the CPU times at both ends of the window, or when `is_over` if that is earlier.
    fn watch(&self, load: &LoadArgs, is_over: impl Fn() -> bool) -> Result<Used, Failure> {
        let measure = || -> Result<_, Failure> { Ok((own_cpu(), ProcessUsage::of_all(&load.server_pid)?)) };
        self.pass_time(self.window.from, "warming up", &is_over);
        let (client_from, server_from) = measure().inspect_err(|_| self.board.fail())?;
        let record = |file| Recording::begin(file, &load.server_pid, load.duration);
        let recording = load.perf.as_deref().map(record).transpose().inspect_err(|_| self.board.fail())?;
        self.pass_time(self.window.until, "measuring", &is_over);
        let used = measure().map(|(client, server)| Used {
            client: client.saturating_sub(client_from),
            server: server
                .zip(server_from)
                .map(|(memory, from)| ServerUse { cpu: memory.cpu.saturating_sub(from.cpu), memory }),
        });
        self.progress.finish();
        recording.map(Recording::finish).transpose().inspect_err(|_| self.board.fail())?;
        used.inspect_err(|_| self.board.fail())
    }

    fn pass_time(&self, until: u64, doing: &str, is_over: &impl Fn() -> bool) {
        let mut shown = (self.clock.now(), self.board.records());
        loop {
            let now = self.clock.now();
            if now >= until || is_over() {
                return;
            }
            self.clock.sleep_until(until.min(now + LOOK_EVERY.as_nanos() as u64));
            let now = self.clock.now();
            if now - shown.0 >= self.progress.every().as_nanos() as u64 {
                let records = self.board.records();
                let rate = (records - shown.1) as f64 * 1e9 / (now - shown.0) as f64;
                let doing = format!("{doing}, {} records/s", crate::report::grouped(rate));
                let seconds = |nanoseconds: u64| nanoseconds as f64 / 1e9;
                let place = format!("{:.0} of {:.0} s", seconds(now), seconds(self.window.until));
                self.progress.tell(now / 1_000_000, &place, &doing);
                shown = (now, records);
            }
        }
    }
}

/// A connection for each share of the partitions, with its part of the requests in flight.
fn write_lanes(load: &LoadArgs, cluster: &mut Cluster) -> Result<Vec<Lane>, Failure> {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let batch = Batch::new(load.batch_records, load.message_size as usize, since_1970.as_millis() as i64);
    let shares = spread(&cluster.leaders, load.connections as usize);
    let requests = (load.requests_outstanding() as usize).max(shares.len());
    let mut templates: BTreeMap<i32, Arc<ProduceTemplate>> = BTreeMap::new();
    let mut lanes = Vec::with_capacity(shares.len());
    for (share, slots) in shares.iter().zip(divide(requests, shares.len())) {
        let control = cluster.control(share.leader);
        let version = control.version(Api::Produce)?;
        let address = control.address.clone();
        let template = templates.entry(share.leader).or_insert_with(|| {
            Arc::new(ProduceTemplate::new(version, &load.topic, load.acks.code(), ACK_TIMEOUT_MS, &batch))
        });
        let stream = connect(&address, true)?;
        let template = Template::Produce(Arc::clone(template));
        lanes.push(Lane::new(stream, address, template, share.partitions.clone(), None, slots)?);
    }
    Ok(lanes)
}

/// Connections that read every partition from `starts` to `ends`.
fn read_lanes(
    cluster: &mut Cluster,
    connections: u32,
    starts: &BTreeMap<i32, i64>,
    ends: &BTreeMap<i32, i64>,
) -> Result<Vec<ReadLane>, Failure> {
    // More readers than partitions would read the same records again.
    let connections = (connections as usize).min(cluster.leaders.len());
    let mut lanes = Vec::new();
    for share in spread(&cluster.leaders, connections) {
        let control = cluster.control(share.leader);
        let version = control.version(Api::Fetch)?;
        let address = control.address.clone();
        let cursors = share
            .partitions
            .iter()
            .filter_map(|partition| Some(Cursor::new(*partition, *starts.get(partition)?, *ends.get(partition)?)));
        lanes.push(ReadLane::new(connect(&address, true)?, address, version, cursors.collect())?);
    }
    Ok(lanes)
}

/// Ends that no partition reaches, for readers that wait for what is yet to come.
fn unbounded(partitions: &BTreeMap<i32, i64>) -> BTreeMap<i32, i64> {
    partitions.keys().map(|partition| (*partition, i64::MAX)).collect()
}

fn start_writers<'scope, 'env>(
    scope: &'scope thread::Scope<'scope, 'env>,
    lanes: Vec<Lane>,
    load: &LoadArgs,
    plan: &'scope WritePlan<'scope>,
) -> Vec<ScopedJoinHandle<'scope, Result<Written, Failure>>> {
    let total = lanes.len() as f64;
    let threads = thread_count(load, lanes.len());
    let start = plan.clock.now();
    deal(lanes, threads)
        .into_iter()
        .enumerate()
        .map(|(index, own)| {
            let pace = match load.rate {
                None => Pace::Closed,
                Some(rate) => {
                    // A thread has the part of the rate that it has of the connections, and begins a little later
                    // than its neighbour, so that together they come at even intervals.
                    let batches_per_second = rate as f64 / f64::from(load.batch_records) * own.len() as f64 / total;
                    let interval_ns = 1e9 / batches_per_second;
                    let shift = (interval_ns * index as f64 / threads as f64) as u64;
                    Pace::Open { start: start + shift, interval_ns }
                }
            };
            scope.spawn(move || produce::write(own, pace, plan))
        })
        .collect()
}

fn join_writers(
    threads: Vec<ScopedJoinHandle<'_, Result<Written, Failure>>>,
    stage: &Stage,
) -> Result<Written, Failure> {
    let mut written = Written::nothing(stage.window, stage.partitions);
    for thread in threads {
        written.merge(joined(thread)?);
    }
    Ok(written)
}

/// What a thread returned; its panic goes on here.
fn joined<T>(thread: ScopedJoinHandle<'_, Result<T, Failure>>) -> Result<T, Failure> {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

fn thread_count(load: &LoadArgs, lanes: usize) -> usize {
    let processors = thread::available_parallelism().map_or(1, usize::from);
    load.threads.map_or((processors / 2).max(1), |threads| threads as usize).min(lanes)
}

/// Deals `lanes` out to `hands` in turn.
fn deal<T>(lanes: Vec<T>, hands: usize) -> Vec<Vec<T>> {
    let mut dealt: Vec<Vec<T>> = (0..hands).map(|_| Vec::new()).collect();
    for (index, lane) in lanes.into_iter().enumerate() {
        dealt[index % hands].push(lane);
    }
    dealt
}

fn verify(
    load: &LoadArgs,
    cluster: &mut Cluster,
    before: &BTreeMap<i32, i64>,
    written: &Written,
) -> Result<Option<Verdict>, Failure> {
    if load.verify == Verify::Off {
        return Ok(None);
    }
    let after = settled_offsets(cluster, written)?;
    let verdict = Verdict::by_offsets(&written.acked, before, &after);
    if load.verify == Verify::Offsets {
        return Ok(Some(verdict));
    }
    let lanes = read_lanes(cluster, 1, before, &after)?;
    let stage = Stage::new(load, Duration::ZERO, false, cluster);
    let plan = stage.read_plan(load, Goal::Once { bounded: false });
    let received = consume::read(lanes, &plan)?;
    Ok(Some(verdict.with_read(&written.acked, &received)))
}

/// The end offsets, once they cover what was acknowledged, or after waiting long enough for that.
fn settled_offsets(cluster: &mut Cluster, written: &Written) -> Result<BTreeMap<i32, i64>, Failure> {
    let clock = Clock::start();
    loop {
        let after = cluster.offsets(wire::LATEST)?;
        let covers = after.iter().all(|(partition, end)| written.acked[*partition as usize].end <= *end);
        if covers || clock.now() > SETTLE_WITHIN.as_nanos() as u64 {
            return Ok(after);
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// Prints JSON to standard output, or writes it to the file named.
pub(crate) fn write_json(path: &std::path::Path, json: &crate::json::Json) -> Result<(), Failure> {
    let failed = |why: io::Error| Failure::Local { what: format!("cannot write {}", path.display()), why };
    std::fs::write(path, format!("{json}\n")).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_are_dealt_in_turn() {
        assert_eq!(deal(vec![0, 1, 2, 3, 4], 2), [vec![0, 2, 4], vec![1, 3]]);
        assert_eq!(deal(vec![0], 1), [vec![0]]);
    }
}
