//! What all parts of a run share: time, chance, the history, and what is wrong now.
//!
//! Everything lives on one thread; the locks are there because madsim's tasks must be able to move. None is held while
//! a task waits.

use std::collections::BTreeMap;
use std::future::pending;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use chronik_core::boundary::{Committer, Level};
use chronik_core::time::{Instant, Timestamp};
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::{Notify, oneshot};

use super::wire::Wires;
use crate::client::ClientNow;
use crate::disk::SimDisk;
use crate::engine::chance::{Chance, mix};
use crate::engine::work::Work;
use crate::engine::{Lane, Run, Traced, Watch};
use crate::history::{ClientId, Event, What, counted};
use crate::plan::Plan;

/// What the supervisor is told.
#[derive(Debug)]
pub(super) enum Said {
    /// The client in this seat has nothing more to do.
    Done(usize),
    /// The process of this incarnation has ended by itself.
    Ended(u64, How),
    /// The broker's thread waits for its disk.
    StandsStill,
    /// The run has reached the event that it is to stop before.
    Enough,
}

/// How a process ends by itself.
#[derive(Debug)]
pub(super) enum How {
    /// In order.
    Stopped,
    /// It could not go on.
    Fatal(String),
    /// It could not start.
    Failed(String),
    /// In its recovery, as planned, and whether its machine died with it.
    DiedInRecovery(bool),
}

/// What is wrong with the broker's machine now.
#[derive(Debug)]
pub(super) struct Troubles {
    pub(super) disk_factor: u64,
    pub(super) disk_stalled_until: Instant,
    /// The process stands still until then: it was stopped, or waits for its disk.
    pub(super) paused_until: Instant,
    /// The next recovery dies after so many changes, and whether the power fails with it.
    pub(super) dies_in_recovery: Option<(u32, bool)>,
    pub(super) cuts_index: bool,
}

/// A run in progress.
pub(super) struct World {
    pub(super) plan: Plan,
    watch: Watch,
    pub(super) chance: Chance,
    began: std::time::Instant,
    run: Mutex<Run>,
    says: UnboundedSender<Said>,
    pub(super) disk: SimDisk,
    pub(super) troubles: Mutex<Troubles>,
    pub(super) works: Mutex<Works>,
    pub(super) wires: Mutex<Wires>,
    /// Something about the wires has changed.
    pub(super) wires_changed: Notify,
    pub(super) process: Mutex<Process>,
    /// What everybody last said of itself, where somebody wants to know.
    described: Mutex<BTreeMap<Lane, String>>,
}

/// The broker's disk work.
#[derive(Debug)]
pub(super) struct Works {
    pub(super) committer: Committer,
    /// What has begun and is not done, by number.
    pub(super) under_way: BTreeMap<u64, Work>,
    pub(super) begun: u64,
}

/// The broker's process.
#[derive(Debug, Default)]
pub(super) struct Process {
    /// How often the broker was started or ended: what belongs to an earlier incarnation is void.
    pub(super) incarnation: u64,
    /// Asks it to stop.
    pub(super) stop: Option<oneshot::Sender<()>>,
    /// Whether it serves.
    pub(super) is_up: bool,
}

impl World {
    /// To be called inside the runtime, whose clock it takes.
    pub(super) fn new(plan: Plan, watch: Watch, says: UnboundedSender<Said>) -> World {
        let troubles = Troubles {
            disk_factor: 1,
            disk_stalled_until: Instant::default(),
            paused_until: Instant::default(),
            dies_in_recovery: None,
            cuts_index: false,
        };
        let committer = Committer::new(plan.node.trusts_os);
        World {
            chance: Chance::from_seed(plan.seed),
            watch,
            began: std::time::Instant::now(),
            run: Mutex::default(),
            says,
            disk: SimDisk::default(),
            troubles: Mutex::new(troubles),
            works: Mutex::new(Works { committer, under_way: BTreeMap::new(), begun: 0 }),
            wires: Mutex::new(Wires::new(&plan)),
            wires_changed: Notify::new(),
            process: Mutex::default(),
            described: Mutex::default(),
            plan,
        }
    }

    /// The run, when all is over.
    pub(super) fn finish(self: &Arc<World>) -> Run {
        let mut run = std::mem::take(&mut *lock(&self.run));
        run.simulated = self.now();
        run.digest = mix(run.digest ^ self.disk.digest());
        for (name, times) in self.disk.counters() {
            *run.counters.entry(name).or_default() += times;
        }
        run.counters.extend(counted(&run.history));
        let passed_over = run.history.passed_over();
        run.counters.insert("compacted_reads", passed_over);
        run
    }

    pub(super) fn now(&self) -> Instant {
        Instant::default() + self.began.elapsed()
    }

    /// The time as clients see it. The wall clock is the broker's too: there is one for all.
    pub(super) fn client_now(&self) -> ClientNow {
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let wall = Timestamp(i64::try_from(since_1970.as_millis()).expect("the clock shows this century"));
        ClientNow { instant: self.now(), wall }
    }

    /// Waits until then; for ever where there is no such time.
    pub(super) async fn until(&self, at: Option<Instant>) {
        let Some(at) = at else { return pending().await };
        let deadline = self.began + Duration::from_nanos(at.0);
        let mut sleep = pin!(tokio::time::sleep_until(deadline));
        // A new timer never fires within a millisecond; one that is set again does.
        sleep.as_mut().reset(deadline);
        sleep.await;
    }

    pub(super) fn say(&self, said: Said) {
        // Nobody listens once the run is over.
        self.says.send(said).ok();
    }

    pub(super) fn count(&self, name: &'static str) {
        *lock(&self.run).counters.entry(name).or_default() += 1;
    }

    /// Records what the engine did or the broker told its operator.
    pub(super) fn record(&self, what: What) {
        self.record_of(ClientId::ENGINE, None, what);
    }

    pub(super) fn record_of(&self, client: ClientId, operation: Option<u32>, what: What) {
        let event = Event { at: self.now(), client, node: 1, operation, what };
        lock(&self.run).history.events.push(event);
    }

    /// A line of the broker's log.
    pub(super) fn logged(&self, level: Level, text: String) {
        self.trace(Lane::Node(1), || format!("{level:?}: {text}"));
        if level != Level::Debug {
            self.record(What::Logged { level, text });
        }
    }

    /// Takes an event into the digest; `lane` and `text` are for the timeline. `key` tells it from others of its time.
    pub(super) fn event(&self, key: u64, lane: Lane, text: impl FnOnce() -> String) {
        self.trace(lane, text);
        let now = self.now();
        let mut run = lock(&self.run);
        run.digest = mix(mix(run.digest ^ now.0) ^ key);
        run.events += 1;
        if self.watch.until.is_some_and(|until| run.events >= until) {
            self.say(Said::Enough);
        }
        if self.watch.print_at == Some(run.events) {
            let mut state: Vec<_> = lock(&self.described).iter().map(|(&lane, text)| (lane, text.clone())).collect();
            let disk = format!("{} files, {} bytes", self.disk.names().len(), self.disk.used_bytes());
            state.push((Lane::Disk(1), disk));
            run.state = state;
        }
    }

    /// Adds a line to the timeline if somebody watches.
    pub(super) fn trace(&self, lane: Lane, text: impl FnOnce() -> String) {
        if !self.watch.trace {
            return;
        }
        let (text, at) = (text(), self.now());
        let mut run = lock(&self.run);
        let event = run.events;
        run.trace.push(Traced { event, at, lane, from: None, sent_at: None, text });
    }

    /// Keeps what somebody says of itself if it may be asked for.
    pub(super) fn describe(&self, lane: Lane, text: impl FnOnce() -> String) {
        if self.watch.print_at.is_some() {
            lock(&self.described).insert(lane, text());
        }
    }
}

/// Nothing that a panic interrupts is looked at afterwards but the history, which it leaves whole.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
