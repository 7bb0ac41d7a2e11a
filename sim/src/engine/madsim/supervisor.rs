//! What happens to the brokers and their machines: ends and starts, and the two phases of a run. What the plan has go
//! wrong is in [`faults`](super::faults).

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex};

use chronik_core::boundary::Committer;
use chronik_core::time::Instant;
use madsim::net::NetSim;
use madsim::runtime::Handle;
use madsim::task::NodeId;
use tokio::sync::mpsc::UnboundedReceiver;

use super::clients::{AUDITOR, OTHERS, SETUP, drive, id};
use super::machine::Process;
use super::process;
use super::wire::Ending;
use super::world::{How, Said, World, lock};
use crate::client::Happened;
use crate::engine::chance::{CRASH, RECOVERY, mix};
use crate::engine::node::peer_host;
use crate::engine::{Lane, MS, RESTART_MS, audit_ms};
use crate::history::{Order, What};
use crate::plan::{FaultKind, HEAL_MS};

/// What the supervisor has to do, in order of time.
#[derive(Clone, Copy, Debug)]
pub(super) enum Todo {
    /// A fault of the plan begins.
    Begin(usize),
    /// A fault of the plan ends.
    End(usize),
    /// The broker on a machine is started, if it is still this incarnation's turn.
    Start(usize, u64),
    /// A machine's process that stood still goes on.
    Resume(usize),
    /// The faults are over.
    HealAll,
    /// Nobody waits any longer for clients that do not finish.
    Audit,
    /// Enough.
    Over,
}

pub(super) struct Supervisor {
    pub(super) world: Arc<World>,
    handle: Handle,
    /// The runtime's name of each machine.
    pub(super) names: Vec<NodeId>,
    agenda: BTreeMap<(Instant, u64), Todo>,
    noted: u64,
    done: Vec<bool>,
    /// By machine: how long a process that was asked to stop stays down, in milliseconds.
    pub(super) restart_ms: Vec<Option<u64>>,
    pub(super) is_healed: bool,
    is_auditing: bool,
    is_over: bool,
}

/// Carries the plan out to its end.
pub(super) async fn supervise(world: Arc<World>, mut said: UnboundedReceiver<Said>) {
    let handle = Handle::current();
    let mut names = Vec::new();
    for (index, machine) in world.machines.iter().enumerate() {
        NetSim::current().add_dns_record(&peer_host(machine.number), machine.ip());
        let runs = world.clone();
        let broker = handle
            .create_node()
            .name(format!("broker {}", machine.number))
            .ip(machine.ip())
            .init(move || process::run(runs.clone(), index))
            .build();
        names.push(broker.id());
    }
    world.name_machines(&names);
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
        restart_ms: vec![None; names.len()],
        names,
        agenda: BTreeMap::new(),
        noted: 0,
        done: vec![false; seats],
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

    pub(super) fn after(&mut self, nanos: u64, todo: Todo) {
        self.at(Instant(self.world.now().0 + nanos), todo);
    }

    fn hear(&mut self, said: Said) {
        match said {
            Said::Done(seat) => self.client_done(seat),
            Said::Ended(machine, incarnation, how) => {
                if incarnation == self.incarnation(machine) {
                    self.ended(machine, how);
                }
            }
            Said::StandsStill(machine) => self.pause(machine),
            Said::Ordered(node, order) => {
                if let Some(machine) = self.machine_of(node) {
                    self.ordered(machine, order);
                }
            }
            Said::Enough => self.is_over = true,
        }
    }

    fn act(&mut self, todo: Todo) {
        match todo {
            Todo::Begin(index) => self.begin(index),
            Todo::End(index) => self.end(index),
            Todo::Start(machine, incarnation) => self.start(machine, incarnation),
            Todo::Resume(machine) => self.resume(machine),
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
        self.heal_links();
        let now = self.world.now();
        for (index, machine) in self.world.clone().machines.iter().enumerate() {
            machine.disk.heal();
            {
                let mut troubles = lock(&machine.troubles);
                troubles.disk_stalled_until = now;
                troubles.paused_until = now;
                troubles.dies_in_recovery = None;
                troubles.cuts_index = false;
            }
            self.resume(index);
        }
        self.world.event(mix(1), Lane::Fault, || "everything heals".into());
        self.is_healed = true;
        self.world.record_of(0, What::Healed);
        for seat in OTHERS..self.done.len() {
            self.tell(seat, Happened::Healed);
        }
        self.after(HEAL_MS * MS, Todo::Audit);
        self.audit_if_due();
    }

    fn audit_if_due(&mut self) {
        // Of several brokers followers catch up for as long as there is time.
        let is_alone = self.world.machines.len() == 1;
        if self.is_healed && is_alone && self.done[OTHERS..].iter().all(|&is_done| is_done) {
            self.audit();
        }
    }

    /// Ends every process once more, so that the auditor finds what the disks hold and not what a cache does.
    fn audit(&mut self) {
        if std::mem::replace(&mut self.is_auditing, true) {
            return;
        }
        let fault = match self.world.plan.node.trusts_os {
            true => FaultKind::Kill { down_ms: 1 },
            false => FaultKind::PowerLoss { down_ms: 1, keep_permille: 500, sector_bytes: 512 },
        };
        for machine in 0..self.world.machines.len() {
            if self.is_idle(machine) {
                continue;
            }
            self.world.record_of(machine, What::Fault(fault.clone()));
            match fault {
                FaultKind::PowerLoss { down_ms, keep_permille, sector_bytes } => {
                    self.lose_power(machine, down_ms, keep_permille, sector_bytes);
                }
                _ => self.kill(machine, 1),
            }
        }
        self.tell(AUDITOR, Happened::Healed);
        self.tell(AUDITOR, Happened::Started);
        self.after(audit_ms(&self.world.plan) * MS, Todo::Over);
    }

    // Processes.

    pub(super) fn is_up(&self, machine: usize) -> bool {
        lock(&self.world.machines[machine].process).is_up
    }

    /// Whether nothing runs on a machine, and nothing is to.
    fn is_idle(&self, machine: usize) -> bool {
        lock(&self.world.machines[machine].troubles).is_off && !self.is_up(machine)
    }

    /// Whoever runs a machine has something done to it.
    fn ordered(&mut self, machine: usize, order: Order) {
        let at = &self.world.machines[machine];
        self.world.event(mix(5 ^ (machine as u64) << 48), at.lane(), || order.to_string());
        self.world.record_of(machine, What::Ordered(order));
        match order {
            Order::Stop => {
                lock(&at.troubles).is_off = true;
                if let Some(stop) = lock(&at.process).stop.take() {
                    // It may have ended by itself in this very moment.
                    stop.send(()).ok();
                }
            }
            Order::Start { empties } => {
                let was_off = std::mem::replace(&mut lock(&at.troubles).is_off, false);
                if empties {
                    self.kill(machine, 1);
                    let at = &self.world.machines[machine];
                    at.disk.replace();
                    lock(&at.cluster_id).clear();
                    lock(&at.troubles).replaced += 1;
                }
                // A process that is about to end is followed by another in any case.
                if was_off && !self.is_up(machine) {
                    self.next_process(machine, MS, Ending::Stopped);
                }
            }
        }
    }

    fn incarnation(&self, machine: usize) -> u64 {
        lock(&self.world.machines[machine].process).incarnation
    }

    fn start(&mut self, machine: usize, incarnation: u64) {
        let is_off = lock(&self.world.machines[machine].troubles).is_off;
        if is_off || incarnation != self.incarnation(machine) {
            return;
        }
        self.world.event(mix(2 ^ (machine as u64) << 48), self.world.machines[machine].lane(), || "is started".into());
        lock(&self.world.wires).doors[machine].is_down = false;
        self.world.power_calls(machine);
        self.handle.restart(self.names[machine]);
        self.pause(machine);
    }

    /// Has the process on a machine stand still if it is to.
    pub(super) fn pause(&mut self, machine: usize) {
        let until = lock(&self.world.machines[machine].troubles).paused_until;
        if until > self.world.now() {
            self.handle.pause(self.names[machine]);
            self.at(until, Todo::Resume(machine));
        }
    }

    fn resume(&mut self, machine: usize) {
        if lock(&self.world.machines[machine].troubles).paused_until <= self.world.now() {
            self.handle.resume(self.names[machine]);
        }
    }

    /// The process on a machine has ended by itself.
    fn ended(&mut self, machine: usize, how: How) {
        match how {
            How::Stopped => {
                // A seal or a read may be under way still. It ends with its process, as in a crash.
                self.world.interrupt_works(machine);
                let down_ms = self.restart_ms[machine].take().unwrap_or(RESTART_MS);
                let what = What::Ended { why: Some("stopped".into()) };
                self.end_process(machine, what, down_ms * MS, Ending::Stopped);
            }
            How::Fatal(why) => {
                self.world.count("fatal");
                self.world.interrupt_works(machine);
                self.end_process(machine, What::Ended { why: Some(why) }, RESTART_MS * MS, Ending::Killed);
            }
            How::Failed(why) => {
                self.end_process(machine, What::StartFailed { why }, RESTART_MS * 5 * MS, Ending::Killed);
            }
            How::DiedInRecovery(loses_power) => {
                self.world.count(if loses_power { "power_loss_in_recovery" } else { "crash_in_recovery" });
                if loses_power {
                    self.cut_power(machine, 500, 512);
                }
                // It had not begun to serve: its operator has noticed nothing of it, and of its clients only those whom
                // it was about to accept.
                let ending = if loses_power { Ending::PowerLost } else { Ending::Killed };
                self.next_process(machine, MS, ending);
            }
        }
    }

    pub(super) fn kill(&mut self, machine: usize, down_ms: u64) {
        if self.is_up(machine) {
            self.world.interrupt_works(machine);
            self.end_process(machine, What::Ended { why: None }, down_ms * MS, Ending::Killed);
        }
    }

    pub(super) fn lose_power(&mut self, machine: usize, down_ms: u64, keep_permille: u32, sector_bytes: u32) {
        if self.is_idle(machine) {
            return;
        }
        self.world.interrupt_works(machine);
        self.cut_power(machine, keep_permille, sector_bytes);
        self.end_process(machine, What::Ended { why: None }, down_ms * MS, Ending::PowerLost);
    }

    /// The disk keeps what was synced, and of the rest what chance has it.
    fn cut_power(&mut self, machine: usize, keep_permille: u32, sector_bytes: u32) {
        let at = &self.world.machines[machine];
        let chance = at.chance.keyed(CRASH).keyed(2 << 32 | self.incarnation(machine));
        at.disk.lose_power(chance.rng(), keep_permille, sector_bytes);
        lock(&at.works).committer = Committer::new(at.plan.trusts_os);
    }

    fn end_process(&mut self, machine: usize, what: What, down_nanos: u64, ending: Ending) {
        let at = &self.world.machines[machine];
        self.world.event(mix(3 ^ (machine as u64) << 48), at.lane(), || what.to_string());
        self.world.record_of(machine, what);
        let recovery = at.chance.keyed(RECOVERY).keyed(self.incarnation(machine)).between(MS, 20 * MS);
        self.next_process(machine, down_nanos + recovery, ending);
    }

    /// Whatever is left of the process goes, and a next one comes.
    fn next_process(&mut self, machine: usize, after_nanos: u64, ending: Ending) {
        self.world.end_connections(machine, ending);
        self.world.end_calls(machine, ending);
        // Besides its tasks this frees its port.
        self.handle.kill(self.names[machine]);
        let incarnation = self.incarnation(machine) + 1;
        *lock(&self.world.machines[machine].process) = Process { incarnation, ..Process::default() };
        self.after(after_nanos, Todo::Start(machine, incarnation));
    }
}
