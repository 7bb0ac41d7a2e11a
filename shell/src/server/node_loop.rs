//! The node's task: takes what has arrived, steps the node, carries out what it wants.
//!
//! One pass takes everything that is in the mailbox, so that it shares one commit. Inline, that commit is carried out in
//! the middle of the pass, and what it acknowledges leaves at the pass's end. Each connection that has answers is woken
//! once, at the end.
//!
//! On one thread the runtime polls tasks in the order in which they were woken. The connections that one look at the
//! sockets finds ready are woken together; the first of them that is polled wakes this task, which so comes after all of
//! them, with the requests of all of them in the mailbox. That, and no timer, makes the group of a group commit.

use std::collections::HashMap;
use std::fmt::{self, Write};
use std::future::poll_fn;
use std::hash::{BuildHasherDefault, Hasher};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use chronik_core::boundary::{Done, Effect, Input, Level, LogLine, Outbox};
use chronik_core::ids::ConnId;
use chronik_core::node::Node;
use chronik_core::time::{self, Now, Timestamp};
use tokio::time::Sleep;
use tracing::{debug, error, info, warn};

use super::admission::Admission;
use super::connection::Shared;
use super::disk::Disk;
use super::mailbox::{Answer, Arrival, Closing, Letterbox};
use super::peers::Peers;

/// Whose lines are the node's, to those who choose levels for modules.
const CORE: &str = "chronik_core";

/// How long the node goes by what it was told of the volume.
const VOLUME_AFTER: Duration = Duration::from_secs(10);

/// Why the node cannot go on.
#[derive(Debug)]
pub struct Fatal(pub(super) String);

impl fmt::Display for Fatal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Fatal {}

/// Called with the node after each pass of its task. A simulator looks at what the node believes, and sees to it that
/// its invariants hold; it cannot change anything.
pub type OnPass = Box<dyn FnMut(&Node) + Send>;

/// The clocks, as the core wants them.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    /// A clock that begins now.
    pub fn start() -> Clock {
        Clock { start: Instant::now() }
    }

    /// What time it is.
    pub fn now(&self) -> Now {
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        Now {
            instant: time::Instant::default() + self.start.elapsed(),
            wall: Timestamp(i64::try_from(since_1970.as_millis()).unwrap_or(i64::MAX)),
        }
    }

    /// The instant on the clock that timers go by.
    // Under madsim both clocks have one type, and are one clock.
    #[cfg_attr(madsim, allow(clippy::useless_conversion))]
    fn timer(&self, at: time::Instant) -> tokio::time::Instant {
        tokio::time::Instant::from(self.start + (at - time::Instant::default()))
    }
}

/// The node and all that its task needs.
pub(super) struct NodeLoop<D> {
    node: Node,
    clock: Clock,
    disk: D,
    shared: Arc<Shared>,
    admission: Arc<Admission>,
    seats: HashMap<ConnId, Seat, BuildHasherDefault<IdHasher>>,
    arrivals: Vec<Arrival>,
    outbox: Outbox,
    /// What the disk did at once.
    done: Vec<Done>,
    /// The connections that have something to be handed over.
    touched: Vec<ConnId>,
    timer: Timer,
    /// From when on a pass that happens anyway looks at the volume again.
    volume_at: time::Instant,
    counters: Counters,
    /// None in a standalone broker.
    peers: Option<Peers>,
    on_pass: Option<OnPass>,
    outcome: Option<Result<(), Fatal>>,
}

/// A connection as the node's task sees it.
struct Seat {
    letterbox: Arc<Letterbox>,
    answers: Vec<Answer>,
    closing: Option<Closing>,
    is_touched: bool,
}

/// Hashes connections' numbers for a lookup with every answer. Nobody outside chooses them, so nothing is needed
/// against chosen collisions.
#[derive(Default)]
struct IdHasher(u64);

impl Hasher for IdHasher {
    fn write(&mut self, _: &[u8]) {
        unreachable!("a connection's number is one u64");
    }

    fn write_u64(&mut self, id: u64) {
        // By Fibonacci's multiplier, since the table looks at the highest bits as well as at the lowest.
        self.0 = id.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[derive(Debug, Default)]
struct Counters {
    passes: u64,
    requests: u64,
    connections: u64,
}

impl<D: Disk> NodeLoop<D> {
    pub(super) fn new(
        node: Node,
        clock: Clock,
        disk: D,
        shared: Arc<Shared>,
        admission: Arc<Admission>,
        peers: Option<Peers>,
        on_pass: Option<OnPass>,
    ) -> NodeLoop<D> {
        NodeLoop {
            node,
            clock,
            disk,
            shared,
            admission,
            seats: HashMap::default(),
            arrivals: Vec::new(),
            outbox: Outbox::default(),
            done: Vec::new(),
            touched: Vec::new(),
            timer: Timer::default(),
            volume_at: time::Instant::default(),
            counters: Counters::default(),
            peers,
            on_pass,
            outcome: None,
        }
    }

    /// Runs until the node has stopped, or cannot go on.
    pub(super) async fn run(mut self) -> Result<(), Fatal> {
        loop {
            // The first pass has nothing to take and lets the node begin what recovery left to do.
            self.pass();
            if let Some(outcome) = self.outcome.take() {
                return outcome;
            }
            let deadline = self.node.deadline().map(|(at, _)| self.clock.timer(at));
            poll_fn(|cx| match self.shared.mailbox.poll_take(cx, &mut self.arrivals) {
                Poll::Ready(()) => {
                    self.timer.has_yielded = false;
                    Poll::Ready(())
                }
                Poll::Pending => self.timer.poll(deadline, cx),
            })
            .await;
        }
    }

    /// Takes all that has arrived, and carries out effects until there are none.
    fn pass(&mut self) {
        self.counters.passes += 1;
        let mut now = self.clock.now();
        self.look_at_volume(now);
        let mut arrivals = std::mem::take(&mut self.arrivals);
        for arrival in arrivals.drain(..) {
            self.take(now, arrival);
        }
        // The mailbox gets the memory back with the next swap.
        self.arrivals = arrivals;
        if self.node.deadline().is_some_and(|(at, _)| at <= now.instant) {
            self.node.step(now, Input::Deadline, &mut self.outbox);
        }
        loop {
            self.node.turn(now, &mut self.outbox);
            let mut effects = std::mem::take(&mut self.outbox.0);
            for effect in effects.drain(..) {
                self.carry_out(effect);
            }
            self.outbox.0 = effects;
            if self.done.is_empty() {
                break;
            }
            now = self.clock.now();
            for done in std::mem::take(&mut self.done) {
                self.node.step(now, Input::Disk(done), &mut self.outbox);
            }
        }
        if let Some(on_pass) = &mut self.on_pass {
            on_pass(&self.node);
        }
        self.hand_over();
    }

    /// Tells the node of its volume, now and then. There is no timer for it: an idle broker stays asleep, and the
    /// request that wakes it is answered after this.
    fn look_at_volume(&mut self, now: Now) {
        if now.instant < self.volume_at {
            return;
        }
        self.volume_at = now.instant + VOLUME_AFTER;
        if let Some(volume) = self.disk.volume() {
            self.node.step(now, Input::Volume(volume), &mut self.outbox);
        }
    }

    #[inline]
    fn take(&mut self, now: Now, arrival: Arrival) {
        match arrival {
            Arrival::Request(to, request) => {
                self.counters.requests += 1;
                self.node.step(now, Input::Request { to, request }, &mut self.outbox);
            }
            Arrival::Disk(done) => self.node.step(now, Input::Disk(done), &mut self.outbox),
            Arrival::Peer(arrival) => {
                let (peers, node, outbox) = (&mut self.peers, &mut self.node, &mut self.outbox);
                let peers = peers.as_mut().expect("only a broker of a cluster has peers");
                peers.take(*arrival, |input| node.step(now, Input::Peer(Box::new(input)), outbox));
            }
            Arrival::Opened(letterbox) => {
                self.counters.connections += 1;
                let seat = Seat { letterbox, answers: Vec::new(), closing: None, is_touched: false };
                self.seats.insert(seat.letterbox.conn, seat);
            }
            Arrival::Closed(conn) => {
                self.seats.remove(&conn);
                self.node.step(now, Input::Closed { conn }, &mut self.outbox);
            }
            Arrival::Sent(conn, sequence) => self.node.step(now, Input::Sent { conn, sequence }, &mut self.outbox),
            Arrival::Stop => self.node.step(now, Input::Stop, &mut self.outbox),
            Arrival::AskReady(reply) => drop(reply.send(self.node.is_active())),
            Arrival::Scrape(reply) => {
                // Whoever asked may have given up.
                let _ = reply.send(self.metrics());
                // For the next, where there are many groups.
                self.node.survey_groups(now);
            }
        }
    }

    #[inline]
    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Reply { to, response } => {
                // A reply to a connection that has ended is dropped with it.
                if let Some(seat) = self.seats.get_mut(&to.conn) {
                    seat.answers.push((to, response));
                    seat.touch(&mut self.touched);
                }
            }
            Effect::Close { conn, why } => self.close(conn, Closing::after_answers(why)),
            Effect::Cut { conn, why } => self.close(conn, Closing::at_once(why)),
            Effect::Disk(op) => self.done.extend(self.disk.begin(op)),
            Effect::TopicCodecs(codecs) => self.shared.use_codecs(codecs),
            Effect::Neighbours(neighbours) => {
                let used = self.peers.as_mut().map_or(Ok(()), |peers| peers.use_neighbours(neighbours));
                if let Err(why) = used {
                    self.outcome = Some(Err(Fatal(why)));
                }
            }
            Effect::Say { to, message } => {
                if let Some(peers) = &mut self.peers {
                    peers.say(to, *message);
                }
            }
            Effect::AllowConnections { max, max_per_ip } => self.admission.allow(max, max_per_ip),
            Effect::Log(LogLine { level, text }) => match level {
                Level::Debug => debug!(target: CORE, "{text}"),
                Level::Info => info!(target: CORE, "{text}"),
                Level::Warn => warn!(target: CORE, "{text}"),
                Level::Error => error!(target: CORE, "{text}"),
            },
            Effect::Stopped => {
                self.outcome.get_or_insert(Ok(()));
            }
            Effect::Fatal(why) => self.outcome = Some(Err(Fatal(why))),
        }
    }

    fn close(&mut self, conn: ConnId, closing: Closing) {
        if let Some(seat) = self.seats.get_mut(&conn) {
            seat.closing = Closing::sooner(seat.closing, Some(closing));
            seat.touch(&mut self.touched);
        }
    }

    /// Gives each connection what it is owed and wakes it.
    fn hand_over(&mut self) {
        // After a fatal error nothing more may be said: an answer could promise what the disk does not hold.
        let is_fatal = matches!(self.outcome, Some(Err(_)));
        // An orderly stop lets the connections send what they still have.
        let is_stopped = matches!(self.outcome, Some(Ok(())));
        if let Some(peers) = self.peers.as_mut().filter(|_| !is_fatal) {
            peers.hand_over(is_stopped);
        }
        for conn in self.touched.drain(..) {
            let Some(seat) = self.seats.get_mut(&conn).filter(|_| !is_fatal) else { continue };
            seat.is_touched = false;
            seat.letterbox.put(&mut seat.answers, seat.closing);
        }
        if is_stopped {
            for seat in self.seats.values_mut() {
                seat.letterbox.put(&mut seat.answers, Some(Closing::after_answers("the broker stops")));
            }
        }
    }

    /// The counters of the node and of the shell, as Prometheus text.
    fn metrics(&self) -> String {
        let mut text = self.node.metrics();
        let mut line = |kind: &str, name: &str, help: &str, value: u64| {
            writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}")
                .expect("writing to a string cannot fail");
        };
        let Counters { passes, requests, connections } = self.counters;
        let open = self.seats.len() as u64;
        let held = self.shared.budget.used() as u64;
        line("counter", "chronik_passes_total", "Runs of the node's task.", passes);
        line("counter", "chronik_requests_taken_total", "Requests that the node's task took.", requests);
        line("counter", "chronik_connections_total", "Connections accepted.", connections);
        line("gauge", "chronik_connections", "Connections open.", open);
        line("gauge", "chronik_bytes_in_flight", "Bytes of requests and responses in flight.", held);
        if let Some(peers) = &self.peers {
            peers.count(line);
        }
        text
    }
}

impl Seat {
    fn touch(&mut self, touched: &mut Vec<ConnId>) {
        if !self.is_touched {
            self.is_touched = true;
            touched.push(self.letterbox.conn);
        }
    }
}

/// Wakes the node's task at a deadline. Deadlines move with nearly every pass; a timer that is set too early only fires
/// for nothing, so it is set again only when it has fired or would be late.
#[derive(Default)]
struct Timer {
    sleep: Option<Pin<Box<Sleep>>>,
    /// When it fires; `None` when it has.
    fires_at: Option<tokio::time::Instant>,
    /// Whether everybody else had a turn since a deadline was found to have come already.
    has_yielded: bool,
}

impl Timer {
    /// Ready once `deadline` has come.
    fn poll(&mut self, deadline: Option<tokio::time::Instant>, cx: &mut Context<'_>) -> Poll<()> {
        let Some(deadline) = deadline else { return Poll::Pending };
        if deadline <= tokio::time::Instant::now() {
            // The runtime's timers would take up to a millisecond more; but connections go first, in any case.
            self.has_yielded = !self.has_yielded;
            if !self.has_yielded {
                return Poll::Ready(());
            }
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if let Some(fires_at) = self.fires_at
            && fires_at <= deadline
            && tokio::time::Instant::now() < fires_at
        {
            return Poll::Pending;
        }
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        sleep.as_mut().reset(deadline);
        self.fires_at = Some(deadline);
        sleep.as_mut().poll(cx)
    }
}
