//! What all parts of a run share: time, chance, the history, and what is wrong now.
//!
//! Everything lives on one thread; the locks are there because madsim's tasks must be able to move. None is held while
//! a task waits.

use std::collections::BTreeMap;
use std::future::pending;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use chronik_core::boundary::Level;
use chronik_core::time::{Instant, Timestamp};
use madsim::task::NodeId;
use tokio::sync::Notify;
use tokio::sync::mpsc::UnboundedSender;

use super::calls::Calls;
use super::machine::Machine;
use super::wire::Wires;
use crate::client::ClientNow;
use crate::engine::chance::{Chance, mix};
use crate::engine::standings::Held;
use crate::engine::{Lane, Run, Traced, Watch};
use crate::history::{ClientId, Event, Order, What, counted};
use crate::plan::Plan;

/// What the supervisor is told.
#[derive(Debug)]
pub(super) enum Said {
    /// The client in this seat has nothing more to do.
    Done(usize),
    /// The process of this incarnation on a machine has ended by itself.
    Ended(usize, u64, How),
    /// The thread of the broker on a machine waits for its disk.
    StandsStill(usize),
    /// A client has something done to the machine of the broker of this number.
    Ordered(u32, Order),
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

/// A run in progress.
pub(super) struct World {
    pub(super) plan: Plan,
    watch: Watch,
    pub(super) chance: Chance,
    began: std::time::Instant,
    run: Mutex<Run>,
    says: UnboundedSender<Said>,
    /// The brokers' machines; that of broker `n` is at `n - 1`.
    pub(super) machines: Vec<Machine>,
    /// What the runtime calls them.
    names: OnceLock<BTreeMap<NodeId, usize>>,
    pub(super) wires: Mutex<Wires>,
    pub(super) held: Mutex<Held>,
    pub(super) calls: Mutex<Calls>,
    /// Something about the wires or the calls has changed.
    pub(super) wires_changed: Notify,
    /// What everybody last said of itself, where somebody wants to know.
    described: Mutex<BTreeMap<Lane, String>>,
}

impl World {
    /// To be called inside the runtime, whose clock it takes.
    pub(super) fn new(plan: Plan, watch: Watch, says: UnboundedSender<Said>) -> World {
        World {
            chance: Chance::from_seed(plan.seed),
            watch,
            began: std::time::Instant::now(),
            run: Mutex::default(),
            says,
            machines: (1..=plan.nodes()).map(|number| Machine::new(&plan, number)).collect(),
            names: OnceLock::new(),
            wires: Mutex::new(Wires::new(&plan)),
            held: Mutex::default(),
            calls: Mutex::new(Calls::new(&plan)),
            wires_changed: Notify::new(),
            described: Mutex::default(),
            plan,
        }
    }

    /// The run, when all is over.
    pub(super) fn finish(self: &Arc<World>) -> Run {
        let mut run = std::mem::take(&mut *lock(&self.run));
        run.simulated = self.now();
        for machine in &self.machines {
            run.digest = mix(run.digest ^ machine.disk.digest());
            for (name, times) in machine.disk.counters() {
                *run.counters.entry(name).or_default() += times;
            }
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

    /// Records what the engine did to a broker, or the broker told its operator.
    pub(super) fn record_of(&self, machine: usize, what: What) {
        self.record(ClientId::ENGINE, self.machines[machine].number, None, what);
    }

    /// Records what a client did or was told.
    pub(super) fn record_by(&self, client: ClientId, operation: Option<u32>, what: What) {
        self.record(client, 1, operation, what);
    }

    fn record(&self, client: ClientId, node: u32, operation: Option<u32>, what: What) {
        let event = Event { at: self.now(), client, node, operation, what };
        lock(&self.run).history.events.push(event);
    }

    /// The runtime's names of the machines, in their order.
    pub(super) fn name_machines(&self, names: &[NodeId]) {
        let names = names.iter().copied().enumerate().map(|(machine, name)| (name, machine)).collect();
        self.names.set(names).expect("machines are named once");
    }

    /// A line of the log of the broker whose task runs.
    pub(super) fn logged(&self, level: Level, text: String) {
        let names = self.names.get().expect("machines are named before they run");
        // What a task says when it is dropped is said by whoever drops it.
        let Some(&machine) = names.get(&madsim::plugin::node()) else { return };
        self.trace(self.machines[machine].lane(), || format!("{level:?}: {text}"));
        if level != Level::Debug {
            self.record_of(machine, What::Logged { level, text });
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
            for machine in &self.machines {
                let disk = format!("{} files, {} bytes", machine.disk.names().len(), machine.disk.used_bytes());
                state.push((machine.disk_lane(), disk));
            }
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
