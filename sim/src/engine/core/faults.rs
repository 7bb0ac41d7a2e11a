//! What goes wrong, begun and ended as the plan says.

use chronik_core::time::Instant;

use super::world::{Ending, Event, World};
use crate::client::Happened;
use crate::engine::chance::CRASH;
use crate::engine::net::Weather;
use crate::engine::{Lane, MS};
use crate::history::What;
use crate::plan::FaultKind;

impl World<'_> {
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
        let fault = self.plan.faults[index].what.clone();
        self.trace(Lane::Fault, None, |_| format!("{fault:?}"));
        self.record(What::Fault(fault.clone()));
        let chance = self.chance.keyed(CRASH).keyed(1 << 32 | index as u64);
        let mut heals_after = None;
        match fault {
            FaultKind::Kill { down_ms } => {
                if self.process.is_some() {
                    self.count("crash");
                }
                self.kill(down_ms);
            }
            FaultKind::PowerLoss { down_ms, keep_permille, sector_bytes } => {
                self.count("power_loss");
                self.lose_power(down_ms, keep_permille, sector_bytes);
            }
            FaultKind::Restart { down_ms } => {
                if self.process.is_some() {
                    self.count("restart");
                    self.restart_ms = Some(down_ms);
                    self.stop();
                }
            }
            FaultKind::KillInRecovery { changes, loses_power } => {
                self.dies_in_recovery = Some((changes, loses_power));
                // A recovery is needed for it to die in.
                if self.process.is_some() {
                    self.kill(1);
                }
            }
            FaultKind::Pause { for_ms } => {
                self.count("pause");
                self.paused_until = self.paused_until.max(Instant(self.now.0 + for_ms * MS));
            }
            FaultKind::ClockStep { by_ms } => {
                self.count("clock_step");
                self.clock_step_ms += by_ms;
            }
            FaultKind::DiskFull { for_ms } => {
                self.is_disk_full = true;
                self.disk.set_full(true);
                heals_after = Some(for_ms);
            }
            FaultKind::DiskSlow { for_ms, factor } => {
                self.count("disk_slow");
                self.disk_factor = u64::from(factor.max(1));
                heals_after = Some(for_ms);
            }
            FaultKind::DiskStall { for_ms } => {
                self.count("disk_stalled");
                self.disk_stalled_until = self.disk_stalled_until.max(Instant(self.now.0 + for_ms * MS));
            }
            FaultKind::SyncFails { of } => drop(self.disk.fail_next_sync(of)),
            FaultKind::WriteFails { of } => drop(self.disk.fail_next_write(of)),
            FaultKind::ReadFails { of } => drop(self.disk.fail_reads(of, chance.rng())),
            FaultKind::BitFlip { of } => drop(self.disk.flip_bit(of, chance.rng())),
            FaultKind::MisdirectedWrite { of } => drop(self.disk.misdirect_next_write(of, chance.rng())),
            FaultKind::LyingSync { for_ms } => {
                self.disk.lie_about_sync(true);
                heals_after = Some(for_ms);
            }
            FaultKind::TruncatedIndex => self.cuts_index = true,
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
                self.refuses = true;
                heals_after = Some(for_ms);
            }
            FaultKind::Blackhole { for_ms } => {
                self.blackholes = true;
                heals_after = Some(for_ms);
            }
        }
        if let Some(for_ms) = heals_after {
            self.plan_after(for_ms * MS, Event::Heal(index));
        }
    }

    /// A fault with a duration is over. Two that overlap end with the first: what heals, heals.
    pub(super) fn end_fault(&mut self, index: usize) {
        match self.plan.faults[index].what {
            FaultKind::DiskFull { .. } => {
                self.is_disk_full = false;
                self.disk.set_full(false);
            }
            FaultKind::DiskSlow { .. } => self.disk_factor = 1,
            FaultKind::LyingSync { .. } => self.disk.lie_about_sync(false),
            FaultKind::MuteToServer { client, .. }
            | FaultKind::MuteToClient { client, .. }
            | FaultKind::Delay { client, .. }
            | FaultKind::Fragment { client, .. }
            | FaultKind::SlowReader { client, .. } => self.clear(client, index),
            FaultKind::Refuse { .. } => self.refuses = false,
            FaultKind::Blackhole { .. } => self.blackholes = false,
            _ => {}
        }
    }

    /// Nothing is armed any more that would strike later.
    pub(super) fn heal_disk(&mut self) {
        self.disk.heal();
        self.disk_stalled_until = self.now;
        self.paused_until = self.now;
        self.dies_in_recovery = None;
        self.cuts_index = false;
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
    pub(super) fn kill(&mut self, down_ms: u64) {
        if self.process.is_none() {
            return;
        }
        self.interrupt_works();
        self.trace(Lane::Node(1), None, |_| "is killed".into());
        self.end_process(None, down_ms, Ending::Killed);
    }

    /// The machine dies.
    pub(super) fn lose_power(&mut self, down_ms: u64, keep_permille: u32, sector_bytes: u32) {
        self.interrupt_works();
        self.trace(Lane::Node(1), None, |_| "loses its power".into());
        self.cut_power(keep_permille, sector_bytes);
        self.end_process(None, down_ms, Ending::PowerLost);
    }

    /// The disk keeps what was synced, and of the rest what chance has it.
    pub(super) fn cut_power(&mut self, keep_permille: u32, sector_bytes: u32) {
        let chance = self.chance.keyed(CRASH).keyed(2 << 32 | self.incarnation);
        self.disk.lose_power(chance.rng(), keep_permille, sector_bytes);
    }
}
