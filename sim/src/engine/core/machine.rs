//! The broker's machine: its clocks, how its process starts, and how it ends.

use chronik_core::boundary::{Committer, Level};
use chronik_core::node::Node;
use chronik_core::time::{Instant, Now, Timestamp};

use super::process::{Arrival, Process};
use super::world::{EPOCH_MS, Ending, Event, World};
use crate::engine::chance::RECOVERY;
use crate::engine::{Lane, MS, RESTART_MS, node};
use crate::history::What;

impl World<'_> {
    /// The clocks of the broker's machine.
    pub(super) fn local(&self) -> Now {
        let now = i128::from(self.now.0);
        let local = now + now * i128::from(self.plan.node.clock_drift_ppm) / 1_000_000;
        let local = u64::try_from(local).expect("clocks run forth");
        let wall = i64::try_from(local / MS).expect("a run of hours");
        Now {
            instant: Instant(local),
            wall: Timestamp(EPOCH_MS + wall + self.plan.node.clock_skew_ms + self.clock_step_ms),
        }
    }

    /// When the broker's clock will show `local`.
    pub(super) fn true_time(&self, local: Instant) -> Instant {
        let scale = 1_000_000 + i128::from(self.plan.node.clock_drift_ppm);
        let at = (i128::from(local.0) * 1_000_000 + scale - 1) / scale;
        Instant(u64::try_from(at).unwrap_or(u64::MAX) + 1)
    }

    pub(super) fn start(&mut self) {
        self.is_machine_down = false;
        if std::mem::take(&mut self.cuts_index) {
            self.disk.truncate_index(self.chance.keyed(RECOVERY).rng());
        }
        let dying = self.dies_in_recovery.take();
        if let Some((changes, _)) = dying {
            self.disk.die_after(u64::from(changes));
        }
        let entropy = self.chance.entropy(self.incarnation);
        let recovered = Node::recover(node::options(self.plan), &*self.disk, entropy, self.local());
        if let Some((_, loses_power)) = dying {
            drop(recovered);
            self.count(if loses_power { "power_loss_in_recovery" } else { "crash_in_recovery" });
            self.trace(Lane::Node(1), None, |_| "dies in its recovery".into());
            self.disk.revive();
            if loses_power {
                self.cut_power(500, 512);
            }
            self.incarnation += 1;
            self.plan_after(MS, Event::Start(self.incarnation));
            return;
        }
        match recovered {
            Ok((node, report)) => {
                node.invariants();
                self.trace(Lane::Node(1), None, |_| format!("serves after recovery: {report:?}"));
                self.record(What::Started { notes: report.notes });
                self.process = Some(Process::new(node));
                self.plan_pass();
            }
            Err(why) => {
                self.trace(Lane::Node(1), None, |_| format!("cannot start: {why}"));
                self.record(What::StartFailed { why: why.to_string() });
                self.incarnation += 1;
                self.plan_after(RESTART_MS * 5 * MS, Event::Start(self.incarnation));
            }
        }
    }

    /// The process is gone, and with it its ends of the connections. Clients are told unless the machine went too.
    pub(super) fn end_process(&mut self, why: Option<String>, down_ms: u64, ending: Ending) {
        self.record(What::Ended { why });
        self.process = None;
        self.committer = Committer::new(self.plan.node.trusts_os);
        self.is_machine_down = ending == Ending::PowerLost;
        self.incarnation += 1;
        self.conn_ids.clear();
        for conn in 0..self.conns.len() {
            if self.conns[conn].server.take().is_none() {
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
        let recovery = self.chance.keyed(RECOVERY).keyed(self.incarnation).between(MS, 20 * MS);
        self.plan_after(down_ms * MS + recovery, Event::Start(self.incarnation));
    }

    /// The process ended by itself.
    pub(super) fn ended(&mut self) {
        let Some(process) = &self.process else { return };
        if let Some(why) = process.fatal.clone() {
            self.trace(Lane::Node(1), None, |_| format!("ends: {why}"));
            self.count("fatal");
            self.interrupt_works();
            self.end_process(Some(why), RESTART_MS, Ending::Killed);
        } else if process.is_stopped {
            self.trace(Lane::Node(1), None, |_| "has stopped in order".into());
            // A seal may be under way still. It ends with its process, as in a crash.
            self.interrupt_works();
            let down_ms = self.restart_ms.take().unwrap_or(RESTART_MS);
            self.end_process(Some("stopped".into()), down_ms, Ending::Stopped);
        }
    }

    pub(super) fn stop(&mut self) {
        if let Some(process) = &mut self.process {
            process.mailbox.push_back(Arrival::Stop);
            self.plan_pass();
        }
    }

    /// A line of the broker's log.
    pub(super) fn logged(&mut self, level: Level, text: String) {
        self.trace(Lane::Node(1), None, |_| format!("{level:?}: {text}"));
        if level != Level::Debug {
            self.record(What::Logged { level, text });
        }
    }
}
