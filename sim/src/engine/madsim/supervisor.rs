//! What happens to the broker and its machine: the plan's faults, ends and starts, and the two phases of a run.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex};

use chronik_core::boundary::Committer;
use chronik_core::time::Instant;
use madsim::runtime::Handle;
use madsim::task::NodeId;
use tokio::sync::mpsc::UnboundedReceiver;

use super::clients::{AUDITOR, OTHERS, SETUP, drive, id};
use super::process;
use super::wire::Ending;
use super::world::{How, Process, Said, World, lock};
use crate::client::Happened;
use crate::engine::chance::{CRASH, RECOVERY, mix};
use crate::engine::net::Weather;
use crate::engine::{AUDIT_MS, Lane, MS, RESTART_MS};
use crate::history::What;
use crate::plan::{FaultKind, HEAL_MS};

/// What the supervisor has to do, in order of time.
#[derive(Clone, Copy, Debug)]
enum Todo {
    /// A fault of the plan begins.
    Begin(usize),
    /// A fault of the plan ends.
    End(usize),
    /// The broker is started, if it is still this one's turn.
    Start(u64),
    /// A process that stood still goes on.
    Resume,
    /// The faults are over.
    HealAll,
    /// Nobody waits any longer for clients that do not finish.
    Audit,
    /// Enough.
    Over,
}

struct Supervisor {
    world: Arc<World>,
    handle: Handle,
    broker: NodeId,
    agenda: BTreeMap<(Instant, u64), Todo>,
    noted: u64,
    done: Vec<bool>,
    /// How long a process that was asked to stop stays down, in milliseconds.
    restart_ms: Option<u64>,
    is_healed: bool,
    is_auditing: bool,
    is_over: bool,
}

/// Carries the plan out to its end.
pub(super) async fn supervise(world: Arc<World>, mut said: UnboundedReceiver<Said>) {
    let handle = Handle::current();
    let runs = world.clone();
    let broker = handle
        .create_node()
        .name("broker")
        .ip(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)))
        .init(move || process::run(runs.clone()))
        .build();
    let seats = world.plan.clients.len() + OTHERS;
    for seat in 0..seats {
        // The node's first task is made once; madsim could make it again.
        let inbox = Mutex::new(Some(lock(&world.wires).seat()));
        let drives = world.clone();
        handle
            .create_node()
            .name(format!("client {}", id(seat).0))
            .ip(IpAddr::V4(Ipv4Addr::from(0x0a01_0000 + u32::try_from(seat).expect("few clients"))))
            .init(move || {
                let inbox = lock(&inbox).take().expect("clients are never restarted");
                drive(drives.clone(), seat, inbox)
            })
            .build();
    }
    tokio::spawn(world.clone().carry());
    let mut supervisor = Supervisor {
        world: world.clone(),
        handle,
        broker: broker.id(),
        agenda: BTreeMap::new(),
        noted: 0,
        done: vec![false; seats],
        restart_ms: None,
        is_healed: false,
        is_auditing: false,
        is_over: false,
    };
    for (index, fault) in world.plan.faults.iter().enumerate() {
        supervisor.at(Instant(fault.at_ms * MS), Todo::Begin(index));
    }
    supervisor.at(Instant(world.plan.duration_ms * MS), Todo::HealAll);
    lock(&world.wires).tell(SETUP, Happened::Started);
    while !supervisor.is_over {
        let next = supervisor.agenda.first_key_value().map(|(&(at, _), _)| at);
        tokio::select! {
            biased;
            Some(said) = said.recv() => supervisor.hear(said),
            () = world.until(next) => {
                if let Some((_, todo)) = supervisor.agenda.pop_first() {
                    supervisor.act(todo);
                }
            }
        }
    }
}

impl Supervisor {
    fn at(&mut self, at: Instant, todo: Todo) {
        self.noted += 1;
        self.agenda.insert((at, self.noted), todo);
    }

    fn after(&mut self, nanos: u64, todo: Todo) {
        self.at(Instant(self.world.now().0 + nanos), todo);
    }

    fn hear(&mut self, said: Said) {
        match said {
            Said::Done(seat) => self.client_done(seat),
            Said::Ended(incarnation, how) => {
                if incarnation == lock(&self.world.process).incarnation {
                    self.ended(how);
                }
            }
            Said::StandsStill => self.pause(),
            Said::Enough => self.is_over = true,
        }
    }

    fn act(&mut self, todo: Todo) {
        match todo {
            Todo::Begin(index) => self.begin(index),
            Todo::End(index) => self.end(index),
            Todo::Start(incarnation) => self.start(incarnation),
            Todo::Resume => self.resume(),
            Todo::HealAll => self.heal_all(),
            Todo::Audit => self.audit(),
            Todo::Over => self.is_over = true,
        }
    }

    // Clients.

    fn client_done(&mut self, seat: usize) {
        self.done[seat] = true;
        match seat {
            SETUP => {
                for seat in OTHERS..self.done.len() {
                    self.tell(seat, Happened::Started);
                }
                self.audit_if_due();
            }
            AUDITOR => self.is_over = true,
            _ => self.audit_if_due(),
        }
    }

    fn tell(&self, seat: usize, happened: Happened) {
        lock(&self.world.wires).tell(seat, happened);
    }

    fn heal_all(&mut self) {
        for index in 0..self.world.plan.faults.len() {
            self.end(index);
        }
        self.world.disk.heal();
        let now = self.world.now();
        {
            let mut troubles = lock(&self.world.troubles);
            troubles.disk_stalled_until = now;
            troubles.paused_until = now;
            troubles.dies_in_recovery = None;
            troubles.cuts_index = false;
        }
        self.resume();
        self.world.event(mix(1), Lane::Fault, || "everything heals".into());
        self.is_healed = true;
        self.world.record(What::Healed);
        for seat in OTHERS..self.done.len() {
            self.tell(seat, Happened::Healed);
        }
        self.after(HEAL_MS * MS, Todo::Audit);
        self.audit_if_due();
    }

    fn audit_if_due(&mut self) {
        if self.is_healed && self.done[OTHERS..].iter().all(|&is_done| is_done) {
            self.audit();
        }
    }

    /// Ends the process once more, so that the auditor finds what the disk holds and not what a cache does.
    fn audit(&mut self) {
        if std::mem::replace(&mut self.is_auditing, true) {
            return;
        }
        let fault = match self.world.plan.node.trusts_os {
            true => FaultKind::Kill { down_ms: 1 },
            false => FaultKind::PowerLoss { down_ms: 1, keep_permille: 500, sector_bytes: 512 },
        };
        self.world.record(What::Fault(fault.clone()));
        match fault {
            FaultKind::PowerLoss { down_ms, keep_permille, sector_bytes } => {
                self.lose_power(down_ms, keep_permille, sector_bytes);
            }
            _ => self.kill(1),
        }
        self.tell(AUDITOR, Happened::Healed);
        self.tell(AUDITOR, Happened::Started);
        self.after(AUDIT_MS * MS, Todo::Over);
    }

    // The process.

    fn is_up(&self) -> bool {
        lock(&self.world.process).is_up
    }

    fn start(&mut self, incarnation: u64) {
        if incarnation != lock(&self.world.process).incarnation {
            return;
        }
        self.world.event(mix(2), Lane::Node(1), || "is started".into());
        lock(&self.world.wires).is_machine_down = false;
        self.world.wires_changed.notify_one();
        self.handle.restart(self.broker);
        self.pause();
    }

    /// Has the process stand still if it is to.
    fn pause(&mut self) {
        let until = lock(&self.world.troubles).paused_until;
        if until > self.world.now() {
            self.handle.pause(self.broker);
            self.at(until, Todo::Resume);
        }
    }

    fn resume(&mut self) {
        if lock(&self.world.troubles).paused_until <= self.world.now() {
            self.handle.resume(self.broker);
        }
    }

    /// The process has ended by itself.
    fn ended(&mut self, how: How) {
        match how {
            How::Stopped => {
                // A seal or a read may be under way still. It ends with its process, as in a crash.
                self.world.interrupt_works();
                let down_ms = self.restart_ms.take().unwrap_or(RESTART_MS);
                self.end_process(What::Ended { why: Some("stopped".into()) }, down_ms * MS, Ending::Stopped);
            }
            How::Fatal(why) => {
                self.world.count("fatal");
                self.world.interrupt_works();
                self.end_process(What::Ended { why: Some(why) }, RESTART_MS * MS, Ending::Killed);
            }
            How::Failed(why) => self.end_process(What::StartFailed { why }, RESTART_MS * 5 * MS, Ending::Killed),
            How::DiedInRecovery(loses_power) => {
                self.world.count(if loses_power { "power_loss_in_recovery" } else { "crash_in_recovery" });
                if loses_power {
                    self.cut_power(500, 512);
                }
                // It had not begun to serve: clients and operator have noticed nothing of it.
                self.next_process(MS);
            }
        }
    }

    fn kill(&mut self, down_ms: u64) {
        if self.is_up() {
            self.world.interrupt_works();
            self.end_process(What::Ended { why: None }, down_ms * MS, Ending::Killed);
        }
    }

    fn lose_power(&mut self, down_ms: u64, keep_permille: u32, sector_bytes: u32) {
        self.world.interrupt_works();
        self.cut_power(keep_permille, sector_bytes);
        self.end_process(What::Ended { why: None }, down_ms * MS, Ending::PowerLost);
    }

    /// The disk keeps what was synced, and of the rest what chance has it.
    fn cut_power(&mut self, keep_permille: u32, sector_bytes: u32) {
        let incarnation = lock(&self.world.process).incarnation;
        let chance = self.world.chance.keyed(CRASH).keyed(2 << 32 | incarnation);
        self.world.disk.lose_power(chance.rng(), keep_permille, sector_bytes);
        lock(&self.world.works).committer = Committer::new(self.world.plan.node.trusts_os);
    }

    fn end_process(&mut self, what: What, down_nanos: u64, ending: Ending) {
        self.world.event(mix(3), Lane::Node(1), || what.to_string());
        self.world.record(what);
        self.world.end_connections(ending);
        let incarnation = lock(&self.world.process).incarnation;
        let recovery = self.world.chance.keyed(RECOVERY).keyed(incarnation).between(MS, 20 * MS);
        self.next_process(down_nanos + recovery);
    }

    /// Whatever is left of the process goes, and a next one comes.
    fn next_process(&mut self, after_nanos: u64) {
        // Besides its tasks this frees its port.
        self.handle.kill(self.broker);
        let incarnation = lock(&self.world.process).incarnation + 1;
        *lock(&self.world.process) = Process { incarnation, ..Process::default() };
        self.after(after_nanos, Todo::Start(incarnation));
    }

    // Faults.

    fn begin(&mut self, index: usize) {
        let world = self.world.clone();
        // A fault that comes after everything has healed would never be healed.
        if self.is_healed {
            return;
        }
        let fault = world.plan.faults[index].what.clone();
        world.event(mix(4 + index as u64), Lane::Fault, || format!("{fault:?}"));
        world.record(What::Fault(fault.clone()));
        let chance = world.chance.keyed(CRASH).keyed(1 << 32 | index as u64);
        let now = world.now();
        let mut heals_after = None;
        match fault {
            FaultKind::Kill { down_ms } => {
                if self.is_up() {
                    world.count("crash");
                }
                self.kill(down_ms);
            }
            FaultKind::PowerLoss { down_ms, keep_permille, sector_bytes } => {
                world.count("power_loss");
                self.lose_power(down_ms, keep_permille, sector_bytes);
            }
            FaultKind::Restart { down_ms } => {
                if let Some(stop) = lock(&world.process).stop.take() {
                    world.count("restart");
                    self.restart_ms = Some(down_ms);
                    // It may have ended by itself in this very moment.
                    stop.send(()).ok();
                }
            }
            FaultKind::KillInRecovery { changes, loses_power } => {
                lock(&world.troubles).dies_in_recovery = Some((changes, loses_power));
                // A recovery is needed for it to die in.
                self.kill(1);
            }
            FaultKind::Pause { for_ms } => {
                world.count("pause");
                let mut troubles = lock(&world.troubles);
                troubles.paused_until = troubles.paused_until.max(Instant(now.0 + for_ms * MS));
                drop(troubles);
                self.pause();
            }
            FaultKind::ClockStep { .. }
            | FaultKind::LinkMuted { .. }
            | FaultKind::LinkSlow { .. }
            | FaultKind::LinkReset { .. }
            | FaultKind::Isolated { .. } => unreachable!("it was taken out of the plan"),
            FaultKind::DiskFull { for_ms } => {
                world.disk.set_full(true);
                heals_after = Some(for_ms);
            }
            FaultKind::DiskSlow { for_ms, factor } => {
                world.count("disk_slow");
                lock(&world.troubles).disk_factor = u64::from(factor.max(1));
                heals_after = Some(for_ms);
            }
            FaultKind::DiskStall { for_ms } => {
                world.count("disk_stalled");
                let mut troubles = lock(&world.troubles);
                troubles.disk_stalled_until = troubles.disk_stalled_until.max(Instant(now.0 + for_ms * MS));
            }
            FaultKind::SyncFails { of } => drop(world.disk.fail_next_sync(of)),
            FaultKind::WriteFails { of } => drop(world.disk.fail_next_write(of)),
            FaultKind::ReadFails { of } => drop(world.disk.fail_reads(of, chance.rng())),
            FaultKind::BitFlip { of } => drop(world.disk.flip_bit(of, chance.rng())),
            FaultKind::MisdirectedWrite { of } => drop(world.disk.misdirect_next_write(of, chance.rng())),
            FaultKind::LyingSync { for_ms } => {
                world.disk.lie_about_sync(true);
                heals_after = Some(for_ms);
            }
            FaultKind::TruncatedIndex => lock(&world.troubles).cuts_index = true,
            FaultKind::Reset { client } => world.break_connections(client + OTHERS, chance.bits()),
            FaultKind::HalfOpen { client } => world.half_open(client + OTHERS),
            FaultKind::MuteToServer { client, for_ms } => {
                heals_after = self.weather(client, "mute_to_server", for_ms, |weather| weather.mute_to_server = true);
            }
            FaultKind::MuteToClient { client, for_ms } => {
                heals_after = self.weather(client, "mute_to_client", for_ms, |weather| weather.mute_to_client = true);
            }
            FaultKind::Delay { client, for_ms, up_to_ms } => {
                heals_after = self.weather(client, "delay", for_ms, |weather| weather.delay = up_to_ms * MS);
            }
            FaultKind::Fragment { client, for_ms } => {
                heals_after = self.weather(client, "fragment", for_ms, |weather| weather.is_fragmenting = true);
            }
            FaultKind::SlowReader { client, for_ms } => {
                heals_after = self.weather(client, "slow_reader", for_ms, |weather| weather.reads_nothing = true);
            }
            FaultKind::Refuse { for_ms } => {
                lock(&world.wires).refuses = true;
                heals_after = Some(for_ms);
            }
            FaultKind::Blackhole { for_ms } => {
                lock(&world.wires).blackholes = true;
                heals_after = Some(for_ms);
            }
        }
        if let Some(for_ms) = heals_after {
            self.after(for_ms * MS, Todo::End(index));
        }
    }

    /// A fault with a duration is over. Two that overlap end with the first: what heals, heals.
    fn end(&mut self, index: usize) {
        let world = self.world.clone();
        let fault = &world.plan.faults[index].what;
        match fault {
            FaultKind::DiskFull { .. } => world.disk.set_full(false),
            FaultKind::DiskSlow { .. } => lock(&world.troubles).disk_factor = 1,
            FaultKind::LyingSync { .. } => world.disk.lie_about_sync(false),
            FaultKind::Refuse { .. } => lock(&world.wires).refuses = false,
            FaultKind::Blackhole { .. } => lock(&world.wires).blackholes = false,
            &FaultKind::MuteToServer { client, .. } => self.change(client, |weather| weather.mute_to_server = false),
            &FaultKind::MuteToClient { client, .. } => self.change(client, |weather| weather.mute_to_client = false),
            &FaultKind::Delay { client, .. } => self.change(client, |weather| weather.delay = 0),
            &FaultKind::Fragment { client, .. } => self.change(client, |weather| weather.is_fragmenting = false),
            &FaultKind::SlowReader { client, .. } => self.change(client, |weather| weather.reads_nothing = false),
            _ => {}
        }
    }

    fn weather(
        &self,
        client: usize,
        name: &'static str,
        for_ms: u64,
        change: impl FnOnce(&mut Weather),
    ) -> Option<u64> {
        self.world.count(name);
        self.change(client, change);
        Some(for_ms)
    }

    fn change(&self, client: usize, change: impl FnOnce(&mut Weather)) {
        if let Some(weather) = lock(&self.world.wires).weather.get_mut(client + OTHERS) {
            change(weather);
        }
        self.world.wires_changed.notify_one();
    }
}
