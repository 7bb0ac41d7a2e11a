//! What goes wrong, begun and ended as the plan says.

use chronik_core::time::Instant;

use super::world::{Ending, Event, World};
use crate::client::Happened;
use crate::engine::chance::CRASH;
use crate::engine::net::Weather;
use crate::engine::{Lane, MS};
use crate::history::What;
use crate::plan::{Fault, FaultKind};

impl World<'_> {
    /// The machine of a broker of the plan.
    pub(super) fn machine_of(&self, node: u32) -> Option<usize> {
        (node as usize).checked_sub(1).filter(|&machine| machine < self.machines.len())
    }

    /// The seat of a client of the plan.
    fn seat_of(&self, client: usize) -> Option<usize> {
        // The first two seats are the setup's and the auditor's.
        Some(client + 2).filter(|&seat| seat < self.seats.len())
    }

    pub(super) fn begin_fault(&mut self, index: usize) {
        // A fault that comes after everything has healed would never be healed.
        if self.is_auditing || self.now.0 >= self.plan.duration_ms * MS {
            return;
        }
        let Fault { node, what: fault, .. } = self.plan.faults[index].clone();
        let Some(machine) = self.machine_of(node) else { return };
        self.trace(Lane::Fault, None, |world| match world.machines.len() {
            1 => format!("{fault:?}"),
            _ => format!("n{node}: {fault:?}"),
        });
        self.record_of(machine, What::Fault(fault.clone()));
        let chance = self.chance.keyed(CRASH).keyed(1 << 32 | index as u64);
        let now = self.now;
        let at = &mut self.machines[machine];
        let mut heals_after = None;
        match fault {
            FaultKind::Kill { down_ms } => {
                if at.process.is_some() {
                    self.count("crash");
                }
                self.kill(machine, down_ms);
            }
            FaultKind::PowerLoss { down_ms, keep_permille, sector_bytes } => {
                self.count("power_loss");
                self.lose_power(machine, down_ms, keep_permille, sector_bytes);
            }
            FaultKind::Restart { down_ms } => {
                if at.process.is_some() {
                    at.restart_ms = Some(down_ms);
                    self.count("restart");
                    self.stop(machine);
                }
            }
            FaultKind::KillInRecovery { changes, loses_power } => {
                at.dies_in_recovery = Some((changes, loses_power));
                // A recovery is needed for it to die in.
                self.kill(machine, 1);
            }
            FaultKind::Pause { for_ms } => {
                at.paused_until = at.paused_until.max(Instant(now.0 + for_ms * MS));
                self.count("pause");
            }
            FaultKind::ClockStep { by_ms } => {
                at.clock_step_ms += by_ms;
                self.count("clock_step");
            }
            FaultKind::DiskFull { for_ms } => {
                at.is_disk_full = true;
                at.disk.set_full(true);
                heals_after = Some(for_ms);
            }
            FaultKind::DiskSlow { for_ms, factor } => {
                at.disk_factor = u64::from(factor.max(1));
                self.count("disk_slow");
                heals_after = Some(for_ms);
            }
            FaultKind::DiskStall { for_ms } => {
                at.disk_stalled_until = at.disk_stalled_until.max(Instant(now.0 + for_ms * MS));
                self.count("disk_stalled");
            }
            FaultKind::SyncFails { of } => drop(at.disk.fail_next_sync(of)),
            FaultKind::WriteFails { of } => drop(at.disk.fail_next_write(of)),
            FaultKind::ReadFails { of } => drop(at.disk.fail_reads(of, chance.rng())),
            FaultKind::BitFlip { of } => drop(at.disk.flip_bit(of, chance.rng())),
            FaultKind::MisdirectedWrite { of } => drop(at.disk.misdirect_next_write(of, chance.rng())),
            FaultKind::LyingSync { for_ms } => {
                at.disk.lie_about_sync(true);
                heals_after = Some(for_ms);
            }
            FaultKind::TruncatedIndex => at.cuts_index = true,
            FaultKind::Reset { client } => self.reset(client, chance.bits()),
            FaultKind::HalfOpen { client } => self.half_open(client),
            FaultKind::MuteToServer { client, for_ms } => {
                heals_after =
                    self.weather(client, "mute_to_server", |weather| weather.mute_to_server = true).then_some(for_ms);
            }
            FaultKind::MuteToClient { client, for_ms } => {
                heals_after =
                    self.weather(client, "mute_to_client", |weather| weather.mute_to_client = true).then_some(for_ms);
            }
            FaultKind::Delay { client, for_ms, up_to_ms } => {
                let delay = up_to_ms * MS;
                heals_after = self.weather(client, "delay", |weather| weather.delay = delay).then_some(for_ms);
            }
            FaultKind::Fragment { client, for_ms } => {
                heals_after =
                    self.weather(client, "fragment", |weather| weather.is_fragmenting = true).then_some(for_ms);
            }
            FaultKind::SlowReader { client, for_ms } => {
                heals_after =
                    self.weather(client, "slow_reader", |weather| weather.reads_nothing = true).then_some(for_ms);
            }
            FaultKind::Refuse { for_ms } => {
                at.refuses = true;
                heals_after = Some(for_ms);
            }
            FaultKind::Blackhole { for_ms } => {
                at.blackholes = true;
                heals_after = Some(for_ms);
            }
            FaultKind::LinkMuted { to, for_ms } => {
                if self.change_line(machine, to, |line| line.is_muted = true) {
                    self.count("link_muted");
                    heals_after = Some(for_ms);
                }
            }
            FaultKind::LinkSlow { to, for_ms, up_to_ms } => {
                if self.change_line(machine, to, |line| line.late = up_to_ms * MS) {
                    self.count("link_slow");
                    heals_after = Some(for_ms);
                }
            }
            FaultKind::LinkReset { with } => self.reset_routes(machine, with, chance.bits()),
            FaultKind::LinkRefused { with, for_ms } => {
                if self.refuse_calls(machine, with, true) {
                    self.reset_routes(machine, with, chance.bits());
                    heals_after = Some(for_ms);
                }
            }
            FaultKind::Isolated { for_ms, way } => {
                self.count("isolated");
                self.part(machine, way, true);
                heals_after = Some(for_ms);
            }
        }
        if let Some(for_ms) = heals_after {
            self.plan_after(for_ms * MS, Event::Heal(index));
        }
    }

    /// A fault with a duration is over. Two that overlap end with the first: what heals, heals.
    pub(super) fn end_fault(&mut self, index: usize) {
        let Fault { node, ref what, .. } = self.plan.faults[index];
        let Some(machine) = self.machine_of(node) else { return };
        let at = &mut self.machines[machine];
        match *what {
            FaultKind::DiskFull { .. } => {
                at.is_disk_full = false;
                at.disk.set_full(false);
            }
            FaultKind::DiskSlow { .. } => at.disk_factor = 1,
            FaultKind::LyingSync { .. } => at.disk.lie_about_sync(false),
            FaultKind::MuteToServer { client, .. }
            | FaultKind::MuteToClient { client, .. }
            | FaultKind::Delay { client, .. }
            | FaultKind::Fragment { client, .. }
            | FaultKind::SlowReader { client, .. } => self.clear(client, index),
            FaultKind::Refuse { .. } => at.refuses = false,
            FaultKind::Blackhole { .. } => at.blackholes = false,
            FaultKind::LinkMuted { to, .. } => drop(self.change_line(machine, to, |line| line.is_muted = false)),
            FaultKind::LinkRefused { with, .. } => drop(self.refuse_calls(machine, with, false)),
            FaultKind::LinkSlow { to, .. } => drop(self.change_line(machine, to, |line| line.late = 0)),
            FaultKind::Isolated { way, .. } => self.part(machine, way, false),
            _ => {}
        }
    }

    fn weather(&mut self, client: usize, name: &'static str, change: impl FnOnce(&mut Weather)) -> bool {
        let Some(seat) = self.seat_of(client) else { return false };
        self.count(name);
        change(&mut self.seats[seat].weather);
        true
    }

    fn clear(&mut self, client: usize, index: usize) {
        let Some(seat) = self.seat_of(client) else { return };
        let weather = &mut self.seats[seat].weather;
        match self.plan.faults[index].what {
            FaultKind::MuteToServer { .. } => weather.mute_to_server = false,
            FaultKind::MuteToClient { .. } => weather.mute_to_client = false,
            FaultKind::Delay { .. } => weather.delay = 0,
            FaultKind::Fragment { .. } => weather.is_fragmenting = false,
            FaultKind::SlowReader { .. } => weather.reads_nothing = false,
            _ => {}
        }
        self.resume_pipes(seat);
    }

    /// What stood still on its way arrives.
    fn resume_pipes(&mut self, seat: usize) {
        for conn in 0..self.conns.len() {
            if self.conns[conn].seat == seat {
                if let Some(due) = self.conns[conn].to_server.due() {
                    self.plan_at(due, Event::ToServer(conn));
                }
                if let Some(due) = self.conns[conn].to_client.due() {
                    self.plan_at(due, Event::ToClient(conn));
                }
            }
        }
    }

    fn reset(&mut self, client: usize, bits: u64) {
        let Some(seat) = self.seat_of(client) else { return };
        for conn in 0..self.conns.len() {
            if self.conns[conn].seat != seat || !self.conns[conn].has_client {
                continue;
            }
            self.count("reset");
            let chance = self.conn_chance(conn, bits);
            let arrived = self.conns[conn].to_server.break_off(chance);
            self.conns[conn].to_client.forget();
            if let Some(server) = &mut self.conns[conn].server {
                if !arrived.is_empty() {
                    server.inbox.push_back(arrived);
                }
                server.is_ended = true;
                self.ready(conn);
            }
            let link = self.conns[conn].link;
            self.conns[conn].has_client = false;
            self.plan_at(self.now, Event::Client(seat, Happened::Lost(link)));
        }
    }

    fn half_open(&mut self, client: usize) {
        let Some(seat) = self.seat_of(client) else { return };
        for conn in 0..self.conns.len() {
            if self.conns[conn].seat != seat || !self.conns[conn].has_client {
                continue;
            }
            self.count("half_open");
            self.conns[conn].to_server.forget();
            self.conns[conn].has_client = false;
            let link = self.conns[conn].link;
            self.plan_at(self.now, Event::Client(seat, Happened::Lost(link)));
        }
    }

    /// The process dies; what the operating system had stays.
    pub(super) fn kill(&mut self, machine: usize, down_ms: u64) {
        if self.machines[machine].process.is_none() {
            return;
        }
        self.interrupt_works(machine);
        self.trace(self.machines[machine].lane(), None, |_| "is killed".into());
        self.end_process(machine, None, down_ms, Ending::Killed);
    }

    /// The machine dies.
    pub(super) fn lose_power(&mut self, machine: usize, down_ms: u64, keep_permille: u32, sector_bytes: u32) {
        if self.machines[machine].is_idle() {
            return;
        }
        self.interrupt_works(machine);
        self.trace(self.machines[machine].lane(), None, |_| "loses its power".into());
        self.cut_power(machine, keep_permille, sector_bytes);
        self.end_process(machine, None, down_ms, Ending::PowerLost);
    }

    /// The disk keeps what was synced, and of the rest what chance has it.
    pub(super) fn cut_power(&mut self, machine: usize, keep_permille: u32, sector_bytes: u32) {
        let at = &self.machines[machine];
        let chance = at.chance.keyed(CRASH).keyed(2 << 32 | at.incarnation);
        at.disk.lose_power(chance.rng(), keep_permille, sector_bytes);
    }
}
