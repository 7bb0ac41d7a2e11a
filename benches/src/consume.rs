//! The reading side: connections with one Fetch in flight each, several to a thread. It serves four ends: to measure
//! reading, to be the idle consumers that a broker keeps waiting, to see end-to-end latency, and to look after a load
//! whether what was acknowledged is there.

use crate::board::Board;
use crate::clock::{Clock, Window};
use crate::cluster::ANSWER_WITHIN;
use crate::failure::Failure;
use crate::measured::Measured;
use crate::socket::{Inbox, Poll};
use crate::wire::{self, Api, BatchView, FetchLimits, Fetched, Malformed};
use std::io::{self, Write};
use std::net::TcpStream;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Partitions in one request, where there is a choice: enough to fill a response, few enough to keep requests small.
const PARTITIONS_PER_FETCH: usize = 64;
/// How long after its writers an end-to-end run waits for records.
const FOLLOW_WITHIN: Duration = Duration::from_secs(10);
const LOOK_UP_EVERY: Duration = Duration::from_millis(100);

/// What reading is for, and thus when it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Goal {
    /// Read every partition once, to the end that it had at the beginning; time limits only where `bounded`.
    Once { bounded: bool },
    /// Begin again at the start until the time is up.
    Repeat,
    /// Read new records and take the send time from each batch, until the writers' last has come.
    Follow,
    /// Ask for new records until the time is up; each answer counts as a record, since none is expected to bring one.
    Wait,
}

/// What all reading threads of a run have in common.
pub(crate) struct ReadPlan<'a> {
    pub(crate) clock: Clock,
    pub(crate) window: Window,
    pub(crate) topic: &'a str,
    pub(crate) limits: FetchLimits,
    pub(crate) goal: Goal,
    /// Check the checksum of every batch.
    pub(crate) is_checking: bool,
    pub(crate) partitions: usize,
    pub(crate) board: &'a Board,
}

/// What one thread, or all of them, read.
pub(crate) struct Received {
    pub(crate) measured: Measured,
    /// Records read, by partition, in the whole run.
    pub(crate) records: Vec<u64>,
    /// Batches whose checksum did not match, and where the first was.
    pub(crate) damaged: u64,
    pub(crate) first_damage: Option<(i32, i64)>,
    /// When the last record was read, in nanoseconds of the clock.
    pub(crate) last_at: u64,
}

impl Received {
    pub(crate) fn nothing(window: Window, partitions: usize) -> Received {
        Received {
            measured: Measured::new(window),
            records: vec![0; partitions],
            damaged: 0,
            first_damage: None,
            last_at: 0,
        }
    }

    pub(crate) fn merge(&mut self, other: Received) {
        self.measured.merge(other.measured);
        for (ours, theirs) in self.records.iter_mut().zip(other.records) {
            *ours += theirs;
        }
        self.damaged += other.damaged;
        self.first_damage = self.first_damage.or(other.first_damage);
        self.last_at = self.last_at.max(other.last_at);
    }
}

/// How far one partition has been read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cursor {
    pub(crate) partition: i32,
    pub(crate) start: i64,
    pub(crate) next: i64,
    /// Where `Goal::Once` and `Goal::Repeat` stop.
    pub(crate) end: i64,
}

impl Cursor {
    /// Reads `partition` from `start` to below `end`.
    pub(crate) fn new(partition: i32, start: i64, end: i64) -> Cursor {
        Cursor { partition, start, next: start, end }
    }
}

/// One connection.
pub(crate) struct ReadLane {
    stream: TcpStream,
    address: String,
    version: i16,
    cursors: Vec<Cursor>,
    /// Where the next request begins among the cursors.
    turn: usize,
    /// The cursors in the request in flight.
    asked: Vec<usize>,
    asked_at: u64,
    correlation: i32,
    request: Vec<u8>,
    written: usize,
    inbox: Inbox,
    is_done: bool,
}

impl ReadLane {
    /// Reads `cursors` over `stream` with Fetch of `version`.
    pub(crate) fn new(
        stream: TcpStream,
        address: String,
        version: i16,
        cursors: Vec<Cursor>,
    ) -> Result<ReadLane, Failure> {
        stream
            .set_nonblocking(true)
            .map_err(|why| Failure::Local { what: format!("cannot use the socket to {address}"), why })?;
        Ok(ReadLane {
            stream,
            address,
            version,
            cursors,
            turn: 0,
            asked: Vec::new(),
            asked_at: 0,
            correlation: 0,
            request: Vec::new(),
            written: 0,
            inbox: Inbox::new(256 << 10),
            is_done: false,
        })
    }

    /// Chooses what to ask for next; gives false when nothing is left.
    fn choose(&mut self, goal: Goal) -> bool {
        self.asked.clear();
        if matches!(goal, Goal::Follow | Goal::Wait) {
            self.asked.extend(0..self.cursors.len());
            return true;
        }
        if goal == Goal::Repeat && self.cursors.iter().all(|cursor| cursor.next >= cursor.end) {
            for cursor in &mut self.cursors {
                cursor.next = cursor.start;
            }
        }
        let count = self.cursors.len();
        for step in 0..count {
            let index = (self.turn + step) % count;
            if self.cursors[index].next < self.cursors[index].end {
                self.asked.push(index);
                if self.asked.len() == PARTITIONS_PER_FETCH {
                    break;
                }
            }
        }
        // The first of this request is the last of the next, so that a full response starves nobody.
        self.turn = self.asked.first().map_or(0, |first| (first + 1) % count);
        !self.asked.is_empty()
    }

    /// Sends the next request, or notes that nothing is left to ask.
    fn ask(&mut self, plan: &ReadPlan<'_>) -> Result<(), Failure> {
        if !self.choose(plan.goal) {
            self.is_done = true;
            return Ok(());
        }
        self.correlation = self.correlation.wrapping_add(1);
        let asked = self.asked.iter().map(|&index| (self.cursors[index].partition, self.cursors[index].next));
        self.request = wire::fetch(self.version, self.correlation, plan.topic, plan.limits, asked);
        self.written = 0;
        self.asked_at = plan.clock.now();
        self.flush()
    }

    fn flush(&mut self) -> Result<(), Failure> {
        while self.written < self.request.len() {
            match self.stream.write(&self.request[self.written..]) {
                Ok(written) => self.written += written,
                Err(why) if why.kind() == io::ErrorKind::WouldBlock => break,
                Err(why) if why.kind() == io::ErrorKind::Interrupted => {}
                Err(why) => return Err(self.closed(Some(why))),
            }
        }
        Ok(())
    }

    fn closed(&self, why: Option<io::Error>) -> Failure {
        Failure::Closed { address: self.address.clone(), unanswered: 1, why }
    }
}

/// Why a response could not be taken.
enum Unusable {
    Malformed(Malformed),
    Failure(Failure),
}

impl From<Malformed> for Unusable {
    fn from(why: Malformed) -> Unusable {
        Unusable::Malformed(why)
    }
}

/// Reads on `lanes` from one thread until the goal is reached.
pub(crate) fn read(mut lanes: Vec<ReadLane>, plan: &ReadPlan<'_>) -> Result<Received, Failure> {
    let mut received = Received::nothing(plan.window, plan.partitions);
    let outcome = run(&mut lanes, plan, &mut received);
    if outcome.is_err() {
        plan.board.fail();
    }
    outcome.map(|()| received)
}

fn run(lanes: &mut [ReadLane], plan: &ReadPlan<'_>, received: &mut Received) -> Result<(), Failure> {
    let mut poll = Poll::new()?;
    for (index, lane) in lanes.iter_mut().enumerate() {
        poll.add(&lane.stream, index)?;
        lane.ask(plan)?;
    }
    let mut total = 0;
    let mut progress = plan.clock.now();
    let mut heard = progress;
    while !lanes.iter().all(|lane| lane.is_done) && !plan.board.has_failed() {
        poll.wait(LOOK_UP_EVERY)?;
        let mut index = 0;
        let before = total;
        while let Some(ready) = poll.ready(index) {
            index += 1;
            let lane = &mut lanes[ready.token];
            if ready.writable {
                lane.flush()?;
            }
            if ready.readable {
                total += take_responses(lane, plan, received)?;
            }
        }
        let now = plan.clock.now();
        if index > 0 {
            heard = now;
        }
        if total > before {
            progress = now;
            plan.board.add_records(total - before);
        }
        if now - heard > ANSWER_WITHIN.as_nanos() as u64 {
            let address = lanes.iter().find(|lane| !lane.is_done).map(|lane| lane.address.clone()).unwrap_or_default();
            return Err(Failure::Silent { address, unanswered: lanes.len(), waited: ANSWER_WITHIN });
        }
        if is_over(plan, now, total, progress) {
            break;
        }
    }
    Ok(())
}

fn is_over(plan: &ReadPlan<'_>, now: u64, total: u64, progress: u64) -> bool {
    match plan.goal {
        Goal::Once { bounded: true } | Goal::Repeat | Goal::Wait => now >= plan.window.until,
        // Records that never come are the finding, not an error: the caller counts.
        Goal::Once { bounded: false } => now - progress > ANSWER_WITHIN.as_nanos() as u64,
        Goal::Follow => {
            let expected = plan.board.expected.load(Ordering::Acquire);
            total >= expected || (expected < u64::MAX && now - progress > FOLLOW_WITHIN.as_nanos() as u64)
        }
    }
}

/// Takes what has arrived; gives the number of records in it.
fn take_responses(lane: &mut ReadLane, plan: &ReadPlan<'_>, received: &mut Received) -> Result<u64, Failure> {
    let mut total = 0;
    loop {
        let may_have_more = match lane.inbox.fill(&mut lane.stream) {
            Ok(Some(more)) => more,
            Ok(None) => return Err(lane.closed(None)),
            Err(why) => return Err(lane.closed(Some(why))),
        };
        let now = plan.clock.now();
        loop {
            let taken = take_response(lane, plan, received, now).map_err(|unusable| match unusable {
                Unusable::Malformed(why) => Failure::Unreadable { address: lane.address.clone(), why },
                Unusable::Failure(failure) => failure,
            })?;
            let Some(records) = taken else { break };
            total += records;
            if records > 0 {
                received.last_at = now;
            }
            lane.ask(plan)?;
        }
        if !may_have_more {
            return Ok(total);
        }
    }
}

fn take_response(
    lane: &mut ReadLane,
    plan: &ReadPlan<'_>,
    received: &mut Received,
    now: u64,
) -> Result<Option<u64>, Unusable> {
    let Some(frame) = lane.inbox.next_frame()? else { return Ok(None) };
    let (asked, cursors) = (&lane.asked, &mut lane.cursors);
    let (mut records, mut bytes) = (0, 0);
    // Brokers answer partitions in the order of the request, with some left out: each search goes on from the last.
    let mut at = 0;
    let (correlation, code) = wire::read_fetch(lane.version, lane.inbox.frame(frame), |fetched| {
        let is_it = |index: &usize| cursors[*index].partition == fetched.partition;
        let found = asked[at..].iter().position(is_it).map(|ahead| at + ahead).or_else(|| asked.iter().position(is_it));
        let Some(position) = found else {
            let expected = cursors[asked[0]].partition;
            return Err(Malformed::WrongPartition { expected, found: fetched.partition }.into());
        };
        at = position;
        let cursor = &mut cursors[asked[position]];
        if fetched.code.is_passing() {
            received.measured.declined(fetched.code);
            return Ok(());
        }
        if fetched.code.is_error() {
            let subject = format!("{}-{} at offset {}", plan.topic, cursor.partition, cursor.next);
            return Err(Unusable::Failure(Failure::Refused {
                api: Api::Fetch,
                subject,
                code: fetched.code,
                message: None,
            }));
        }
        bytes += fetched.records.len() as u64;
        records += take_batches(fetched, cursor, plan, received, now)?;
        Ok(())
    })?;
    if correlation != lane.correlation {
        return Err(Malformed::OutOfOrder { expected: lane.correlation, found: correlation }.into());
    }
    if code.is_error() {
        let subject = format!("topic {}", plan.topic);
        return Err(Unusable::Failure(Failure::Refused { api: Api::Fetch, subject, code, message: None }));
    }
    match plan.goal {
        Goal::Follow => {}
        Goal::Wait => received.measured.answered(lane.asked_at, now, 1, bytes),
        Goal::Once { .. } | Goal::Repeat if records == 0 => {}
        Goal::Once { .. } | Goal::Repeat => received.measured.answered(lane.asked_at, now, records, bytes),
    }
    Ok(Some(records))
}

fn take_batches(
    fetched: Fetched<'_>,
    cursor: &mut Cursor,
    plan: &ReadPlan<'_>,
    received: &mut Received,
    now: u64,
) -> Result<u64, Malformed> {
    let mut records = 0;
    for batch in wire::batches(fetched.records) {
        let batch: BatchView<'_> = batch?;
        if batch.next_offset <= cursor.next || (plan.goal != Goal::Follow && batch.base_offset >= cursor.end) {
            continue;
        }
        if plan.is_checking && !batch.is_intact() {
            received.damaged += 1;
            received.first_damage.get_or_insert((cursor.partition, batch.base_offset));
        }
        records += u64::from(batch.records);
        cursor.next = batch.next_offset;
        if plan.goal == Goal::Follow {
            // A stamp from another run of this tool may lie in the future of this clock; it measures nothing.
            let due = batch.stamp()?.min(now);
            received.measured.answered(due, now, u64::from(batch.records), batch.length() as u64);
        }
    }
    received.records[fetched.partition as usize] += records;
    Ok(records)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::net::TcpListener;

    /// Answers each fetch at once, with nothing, until the client is gone. Gives the requests' lengths.
    fn answer_nothing(listener: &TcpListener) -> Vec<usize> {
        let (mut stream, _) = listener.accept().expect("a client");
        let mut lengths = Vec::new();
        let mut length = [0; 4];
        while stream.read_exact(&mut length).is_ok() {
            let mut request = vec![0; u32::from_be_bytes(length) as usize];
            stream.read_exact(&mut request).expect("a whole request");
            lengths.push(request.len());
            // The correlation id, no throttling, no topics: Fetch 4.
            let answer = [&12u32.to_be_bytes()[..], &request[4..8], &[0; 8]].concat();
            if stream.write_all(&answer).is_err() {
                break;
            }
        }
        lengths
    }

    #[test]
    fn who_waits_asks_for_all_of_its_partitions_until_the_time_is_up_and_counts_the_answers() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let broker = std::thread::spawn(move || answer_nothing(&listener));

        let cursors = (0..100).map(|partition| Cursor::new(partition, 0, i64::MAX)).collect();
        let stream = TcpStream::connect(address).expect("it listens");
        let lane = ReadLane::new(stream, address.to_string(), 4, cursors).expect("a socket");
        let board = Board::new();
        let clock = Clock::start();
        let plan = ReadPlan {
            clock,
            window: Window { from: 0, until: clock.now() + 50_000_000 },
            topic: "idle",
            limits: FetchLimits { wait_ms_max: 500, bytes_min: 1, bytes_max: 1 << 20 },
            goal: Goal::Wait,
            is_checking: true,
            partitions: 100,
            board: &board,
        };
        let received = read(vec![lane], &plan).expect("the broker answers");
        assert!(clock.now() >= plan.window.until);

        let asked = broker.join().expect("it does not panic");
        assert!(asked.iter().all(|length| *length > 100 * 16), "every request names all partitions: {asked:?}");
        let counted = received.measured.records as usize;
        assert!(counted > 0 && counted <= asked.len(), "{counted} of {}", asked.len());
        assert_eq!(received.records.iter().sum::<u64>(), 0, "nothing came");
    }
}
