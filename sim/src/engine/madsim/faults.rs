//! What goes wrong, begun and ended as the plan says.

use chronik_core::time::Instant;
use madsim::net::NetSim;

use super::clients::OTHERS;
use super::supervisor::{Supervisor, Todo};
use super::world::lock;
use crate::engine::chance::{CRASH, mix};
use crate::engine::net::Weather;
use crate::engine::{Lane, MS};
use crate::history::What;
use crate::plan::{Fault, FaultKind};

impl Supervisor {
    pub(super) fn begin(&mut self, index: usize) {
        let world = self.world.clone();
        // A fault that comes after everything has healed would never be healed.
        if self.is_healed {
            return;
        }
        let Fault { node, what: fault, .. } = world.plan.faults[index].clone();
        let Some(machine) = self.machine_of(node) else { return };
        let at = &world.machines[machine];
        world.event(mix(4 + index as u64), Lane::Fault, || match world.machines.len() {
            1 => format!("{fault:?}"),
            _ => format!("n{node}: {fault:?}"),
        });
        world.record_of(machine, What::Fault(fault.clone()));
        let chance = world.chance.keyed(CRASH).keyed(1 << 32 | index as u64);
        let now = world.now();
        let mut heals_after = None;
        match fault {
            FaultKind::Kill { down_ms } => {
                if self.is_up(machine) {
                    world.count("crash");
                }
                self.kill(machine, down_ms);
            }
            FaultKind::PowerLoss { down_ms, keep_permille, sector_bytes } => {
                world.count("power_loss");
                self.lose_power(machine, down_ms, keep_permille, sector_bytes);
            }
            FaultKind::Restart { down_ms } => {
                if let Some(stop) = lock(&at.process).stop.take() {
                    world.count("restart");
                    self.restart_ms[machine] = Some(down_ms);
                    // It may have ended by itself in this very moment.
                    stop.send(()).ok();
                }
            }
            FaultKind::KillInRecovery { changes, loses_power } => {
                lock(&at.troubles).dies_in_recovery = Some((changes, loses_power));
                // A recovery is needed for it to die in.
                self.kill(machine, 1);
            }
            FaultKind::Pause { for_ms } => {
                world.count("pause");
                let mut troubles = lock(&at.troubles);
                troubles.paused_until = troubles.paused_until.max(Instant(now.0 + for_ms * MS));
                drop(troubles);
                self.pause(machine);
            }
            FaultKind::ClockStep { .. } => unreachable!("it was taken out of the plan"),
            FaultKind::DiskFull { for_ms } => {
                at.disk.set_full(true);
                heals_after = Some(for_ms);
            }
            FaultKind::DiskSlow { for_ms, factor } => {
                world.count("disk_slow");
                lock(&at.troubles).disk_factor = u64::from(factor.max(1));
                heals_after = Some(for_ms);
            }
            FaultKind::DiskStall { for_ms } => {
                world.count("disk_stalled");
                let mut troubles = lock(&at.troubles);
                troubles.disk_stalled_until = troubles.disk_stalled_until.max(Instant(now.0 + for_ms * MS));
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
            FaultKind::TruncatedIndex => lock(&at.troubles).cuts_index = true,
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
                lock(&world.wires).doors[machine].refuses = true;
                heals_after = Some(for_ms);
            }
            FaultKind::Blackhole { for_ms } => {
                lock(&world.wires).doors[machine].blackholes = true;
                heals_after = Some(for_ms);
            }
            FaultKind::LinkMuted { to, for_ms } => {
                if world.change_line(machine, to, |line| line.is_muted = true) {
                    world.count("link_muted");
                    heals_after = Some(for_ms);
                }
            }
            FaultKind::LinkSlow { to, for_ms, up_to_ms } => {
                if world.change_line(machine, to, |line| line.late = up_to_ms * MS) {
                    world.count("link_slow");
                    heals_after = Some(for_ms);
                }
            }
            FaultKind::LinkReset { with } => world.break_calls(machine, with, chance.bits()),
            FaultKind::LinkRefused { with, for_ms } => {
                if self.refuse_calls(machine, with, true) {
                    world.break_calls(machine, with, chance.bits());
                    heals_after = Some(for_ms);
                }
            }
            FaultKind::Isolated { for_ms, way } => {
                world.count("isolated");
                world.part(machine, way, true);
                heals_after = Some(for_ms);
            }
        }
        if let Some(for_ms) = heals_after {
            self.after(for_ms * MS, Todo::End(index));
        }
    }

    /// A fault with a duration is over. Two that overlap end with the first: what heals, heals.
    pub(super) fn end(&mut self, index: usize) {
        let world = self.world.clone();
        let Fault { node, what: ref fault, .. } = world.plan.faults[index];
        let Some(machine) = self.machine_of(node) else { return };
        let at = &world.machines[machine];
        match fault {
            FaultKind::DiskFull { .. } => at.disk.set_full(false),
            FaultKind::DiskSlow { .. } => lock(&at.troubles).disk_factor = 1,
            FaultKind::LyingSync { .. } => at.disk.lie_about_sync(false),
            FaultKind::Refuse { .. } => lock(&world.wires).doors[machine].refuses = false,
            FaultKind::Blackhole { .. } => lock(&world.wires).doors[machine].blackholes = false,
            &FaultKind::MuteToServer { client, .. } => self.change(client, |weather| weather.mute_to_server = false),
            &FaultKind::MuteToClient { client, .. } => self.change(client, |weather| weather.mute_to_client = false),
            &FaultKind::Delay { client, .. } => self.change(client, |weather| weather.delay = 0),
            &FaultKind::Fragment { client, .. } => self.change(client, |weather| weather.is_fragmenting = false),
            &FaultKind::SlowReader { client, .. } => self.change(client, |weather| weather.reads_nothing = false),
            &FaultKind::LinkMuted { to, .. } => drop(world.change_line(machine, to, |line| line.is_muted = false)),
            &FaultKind::LinkRefused { with, .. } => drop(self.refuse_calls(machine, with, false)),
            &FaultKind::LinkSlow { to, .. } => drop(world.change_line(machine, to, |line| line.late = 0)),
            &FaultKind::Isolated { way, .. } => world.part(machine, way, false),
            _ => {}
        }
    }

    /// Has calls between two machines refused, either way, or taken again. Returns whether there are two.
    fn refuse_calls(&self, machine: usize, with: u32, refuses: bool) -> bool {
        let Some(other) = self.machine_of(with).filter(|&other| other != machine) else { return false };
        let (one, other) = (self.names[machine], self.names[other]);
        if refuses {
            self.world.count("link_refused");
        }
        // madsim refuses who connects through a link that it has clogged; what was connected it leaves alone, and nothing
        // else of brokers goes that way.
        let network = NetSim::current();
        for (from, to) in [(one, other), (other, one)] {
            if refuses { network.clog_link(from, to) } else { network.unclog_link(from, to) }
        }
        true
    }

    /// Nothing is wrong between machines any more.
    pub(super) fn heal_links(&self) {
        self.world.heal_lines();
        let network = NetSim::current();
        for &from in &self.names {
            self.names.iter().for_each(|&to| network.unclog_link(from, to));
        }
    }

    /// The machine of a broker of the plan.
    pub(super) fn machine_of(&self, node: u32) -> Option<usize> {
        (node as usize).checked_sub(1).filter(|&machine| machine < self.world.machines.len())
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
