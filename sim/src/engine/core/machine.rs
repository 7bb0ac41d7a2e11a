//! A broker's machine: its disk, its clocks, how its process starts, and how it ends.

use std::collections::BTreeMap;
use std::sync::Arc;

use chronik_core::boundary::{Committer, Level};
use chronik_core::ids::ConnId;
use chronik_core::node::Node;
use chronik_core::time::{Instant, Now, Timestamp};

use super::process::{Arrival, Process};
use super::world::{EPOCH_MS, Ending, Event, World};
use crate::disk::SimDisk;
use crate::engine::chance::{Chance, MACHINES, RECOVERY};
use crate::engine::{Lane, MS, RESTART_MS, node};
use crate::history::{Order, What};
use crate::plan::{NodePlan, Plan};

/// One broker's machine, with the process on it and what is wrong with it now.
pub(super) struct Machine {
    /// The broker's number, from 1 on.
    pub(super) number: u32,
    pub(super) plan: NodePlan,
    pub(super) chance: Chance,
    pub(super) disk: Arc<SimDisk>,
    pub(super) process: Option<Process>,
    /// How often the broker was started or ended: what belongs to an earlier incarnation is void.
    pub(super) incarnation: u64,
    pub(super) next_work: u64,
    pub(super) conn_ids: BTreeMap<ConnId, usize>,
    pub(super) committer: Committer,
    pub(super) paused_until: Instant,
    pub(super) clock_step_ms: i64,
    pub(super) is_disk_full: bool,
    pub(super) disk_factor: u64,
    pub(super) disk_stalled_until: Instant,
    pub(super) refuses: bool,
    pub(super) blackholes: bool,
    /// The next recovery dies after so many changes, and whether the power fails with it.
    pub(super) dies_in_recovery: Option<(u32, bool)>,
    pub(super) cuts_index: bool,
    /// The machine is down: nobody is told that connections are gone.
    pub(super) is_down: bool,
    pub(super) restart_ms: Option<u64>,
    /// Its operator wants no process on it.
    pub(super) is_off: bool,
    /// How often its disk was replaced.
    pub(super) replaced: u8,
}

impl Machine {
    /// The machine of the broker of this number.
    pub(super) fn new(plan: &Plan, number: u32) -> Machine {
        let chance = Chance::from_seed(plan.seed);
        Machine {
            number,
            plan: plan.machine(number),
            // The first one draws as if it were alone: a cluster that loses its others is what is left.
            chance: if number == 1 { chance } else { chance.keyed(MACHINES).keyed(u64::from(number)) },
            disk: Arc::new(SimDisk::default()),
            process: None,
            incarnation: 0,
            next_work: 0,
            conn_ids: BTreeMap::new(),
            committer: Committer::new(plan.node.trusts_os),
            paused_until: Instant::default(),
            clock_step_ms: 0,
            is_disk_full: false,
            disk_factor: 1,
            disk_stalled_until: Instant::default(),
            refuses: false,
            blackholes: false,
            dies_in_recovery: None,
            cuts_index: false,
            is_down: false,
            restart_ms: None,
            is_off: number > plan.founders(),
            replaced: 0,
        }
    }

    /// Whether nothing runs on it, and nothing is to.
    pub(super) fn is_idle(&self) -> bool {
        self.is_off && self.process.is_none()
    }

    pub(super) fn lane(&self) -> Lane {
        Lane::Node(self.number)
    }

    pub(super) fn disk_lane(&self) -> Lane {
        Lane::Disk(self.number)
    }

    /// Its clocks, when true time is `now`.
    pub(super) fn local(&self, now: Instant) -> Now {
        let now = i128::from(now.0);
        let local = now + now * i128::from(self.plan.clock_drift_ppm) / 1_000_000;
        let local = u64::try_from(local).expect("clocks run forth");
        let wall = i64::try_from(local / MS).expect("a run of hours");
        Now { instant: Instant(local), wall: Timestamp(EPOCH_MS + wall + self.plan.clock_skew_ms + self.clock_step_ms) }
    }

    /// When its clock will show `local`.
    pub(super) fn true_time(&self, local: Instant) -> Instant {
        let scale = 1_000_000 + i128::from(self.plan.clock_drift_ppm);
        let at = (i128::from(local.0) * 1_000_000 + scale - 1) / scale;
        Instant(u64::try_from(at).unwrap_or(u64::MAX) + 1)
    }

    /// Nothing is armed any more that would strike later.
    pub(super) fn heal(&mut self, now: Instant) {
        self.disk.heal();
        self.disk_stalled_until = now;
        self.paused_until = now;
        self.dies_in_recovery = None;
        self.cuts_index = false;
    }
}

impl World<'_> {
    /// The clocks of a machine.
    pub(super) fn local(&self, machine: usize) -> Now {
        self.machines[machine].local(self.now)
    }

    pub(super) fn start(&mut self, machine: usize) {
        let local = self.local(machine);
        let at = &mut self.machines[machine];
        if at.is_off {
            return;
        }
        let lane = at.lane();
        at.is_down = false;
        if std::mem::take(&mut at.cuts_index) {
            at.disk.truncate_index(at.chance.keyed(RECOVERY).rng());
        }
        let dying = at.dies_in_recovery.take();
        if let Some((changes, _)) = dying {
            at.disk.die_after(u64::from(changes));
        }
        let entropy = at.chance.entropy(at.incarnation);
        let recovered = Node::recover(node::options(self.plan, at.number, at.replaced), &*at.disk, entropy, local);
        if let Some((_, loses_power)) = dying {
            drop(recovered);
            self.count(if loses_power { "power_loss_in_recovery" } else { "crash_in_recovery" });
            self.trace(lane, None, |_| "dies in its recovery".into());
            self.machines[machine].disk.revive();
            if loses_power {
                self.cut_power(machine, 500, 512);
            }
            self.start_after(machine, MS);
            return;
        }
        match recovered {
            Ok((node, report)) => {
                node.invariants();
                self.trace(lane, None, |_| format!("serves after recovery: {report:?}"));
                self.record_of(machine, What::Started { notes: report.notes });
                self.machines[machine].process = Some(Process::new(node));
                self.plan_pass(machine);
            }
            Err(why) => {
                self.trace(lane, None, |_| format!("cannot start: {why}"));
                self.record_of(machine, What::StartFailed { why: why.to_string() });
                self.start_after(machine, RESTART_MS * 5 * MS);
            }
        }
    }

    /// What belonged to the process before is void, and a next one comes.
    fn start_after(&mut self, machine: usize, nanos: u64) {
        self.machines[machine].incarnation += 1;
        let incarnation = self.machines[machine].incarnation;
        self.plan_after(nanos, Event::Start(machine, incarnation));
    }

    /// The process is gone, and with it its ends of the connections. Clients are told unless the machine went too.
    pub(super) fn end_process(&mut self, machine: usize, why: Option<String>, down_ms: u64, ending: Ending) {
        self.record_of(machine, What::Ended { why });
        let at = &mut self.machines[machine];
        at.process = None;
        at.committer = Committer::new(at.plan.trusts_os);
        at.is_down = ending == Ending::PowerLost;
        at.conn_ids.clear();
        for conn in 0..self.conns.len() {
            if self.conns[conn].machine != machine || self.conns[conn].server.take().is_none() {
                continue;
            }
            let delivers = self.conn_chance(conn, 104).below(2) == 0;
            match ending {
                Ending::PowerLost => self.conns[conn].to_client.forget(),
                Ending::Killed if !delivers => self.reset_client(conn),
                Ending::Killed | Ending::Stopped => {
                    if ending == Ending::Killed {
                        self.conns[conn].to_client.forget_unsent();
                    }
                    self.conns[conn].is_closing = true;
                    self.finish_closing(conn);
                }
            }
        }
        self.end_calls(machine, ending);
        let at = &self.machines[machine];
        let recovery = at.chance.keyed(RECOVERY).keyed(at.incarnation + 1).between(MS, 20 * MS);
        self.start_after(machine, down_ms * MS + recovery);
    }

    /// The process ended by itself.
    pub(super) fn ended(&mut self, machine: usize) {
        let Some(process) = &self.machines[machine].process else { return };
        let lane = self.machines[machine].lane();
        if let Some(why) = process.fatal.clone() {
            self.trace(lane, None, |_| format!("ends: {why}"));
            self.count("fatal");
            self.interrupt_works(machine);
            self.end_process(machine, Some(why), RESTART_MS, Ending::Killed);
        } else if process.is_stopped {
            self.trace(lane, None, |_| "has stopped in order".into());
            // A seal may be under way still. It ends with its process, as in a crash.
            self.interrupt_works(machine);
            let down_ms = self.machines[machine].restart_ms.take().unwrap_or(RESTART_MS);
            self.end_process(machine, Some("stopped".into()), down_ms, Ending::Stopped);
        }
    }

    /// Whoever runs a machine has something done to it.
    pub(super) fn ordered(&mut self, machine: usize, order: Order) {
        self.trace(self.machines[machine].lane(), None, |_| order.to_string());
        self.record_of(machine, What::Ordered(order));
        match order {
            Order::Stop => {
                self.machines[machine].is_off = true;
                self.stop(machine);
            }
            Order::Start { empties } => {
                let was_off = std::mem::replace(&mut self.machines[machine].is_off, false);
                if empties {
                    self.kill(machine, 1);
                    let at = &mut self.machines[machine];
                    at.disk.replace();
                    at.replaced += 1;
                }
                // A process that is about to end is followed by another in any case.
                if was_off && self.machines[machine].process.is_none() {
                    self.start_after(machine, MS);
                }
            }
        }
    }

    pub(super) fn stop(&mut self, machine: usize) {
        if let Some(process) = &mut self.machines[machine].process {
            process.mailbox.push_back(Arrival::Stop);
            self.plan_pass(machine);
        }
    }

    /// Notes what the broker on a machine believes by now: what is news, or all of it.
    pub(super) fn note_standings(&mut self, machine: usize, all: bool) {
        if self.machines.len() == 1 {
            return;
        }
        let number = self.machines[machine].number;
        let Some(process) = &mut self.machines[machine].process else { return };
        for what in process.noted.news(number, &process.node, &mut self.held, all) {
            self.trace(self.machines[machine].lane(), None, |_| what.to_string());
            self.record_of(machine, what);
        }
    }

    /// A line of a broker's log.
    pub(super) fn logged(&mut self, machine: usize, level: Level, text: String) {
        self.trace(self.machines[machine].lane(), None, |_| format!("{level:?}: {text}"));
        if level != Level::Debug {
            self.record_of(machine, What::Logged { level, text });
        }
    }
}
