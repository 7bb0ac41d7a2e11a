//! A pass of the node's thread, and the disk work that it begins.

use bytes::Bytes;
use chronik_core::boundary::{DiskOp, Done, Effect, Input, LogLine, ReplyTo, Request, Volume};
use chronik_core::time::Instant;
use chronik_core::wire::Writer;

use super::machine::Machine;
use super::process::{Arrival, Process};
use super::world::{Event, World};
use crate::engine::MS;
use crate::engine::work::{self, Work};

/// What a pass costs, and each request in it, in nanoseconds: enough that requests gather while a pass runs.
const PASS_NANOS: u64 = 5_000;
const REQUEST_NANOS: u64 = 2_000;

/// How long the node goes by what it was told of the volume, in nanoseconds.
const VOLUME_NANOS: u64 = 10_000 * MS;

/// What the disk says of its size.
const VOLUME_BYTES: u64 = 1 << 40;

impl World<'_> {
    /// Has the node's thread take its turn as soon as it can.
    pub(super) fn plan_pass(&mut self, machine: usize) {
        let Machine { process: Some(process), paused_until, incarnation, .. } = &mut self.machines[machine] else {
            return;
        };
        if process.is_committing || process.pass_at.is_some() {
            return;
        }
        let at = process.busy_until.max(self.now).max(*paused_until);
        process.pass_at = Some(at);
        let event = Event::Pass(machine, *incarnation);
        self.plan_at(at, event);
    }

    pub(super) fn deadline(&mut self, machine: usize) {
        if let Some(process) = &mut self.machines[machine].process {
            process.deadline_at = None;
        }
        self.plan_pass(machine);
    }

    /// Takes all that has arrived, and carries out what the node wants.
    pub(super) fn pass(&mut self, machine: usize) {
        if self.machines[machine].paused_until > self.now {
            if let Some(process) = &mut self.machines[machine].process {
                process.pass_at = None;
            }
            self.plan_pass(machine);
            return;
        }
        let now = self.local(machine);
        let mut touched = self.read_ready(machine);
        let Machine { process: Some(process), is_disk_full, .. } = &mut self.machines[machine] else { return };
        let usable_bytes = if *is_disk_full { 0 } else { VOLUME_BYTES / 2 };
        process.pass_at = None;
        if now.instant >= process.volume_at {
            process.volume_at = Instant(now.instant.0 + VOLUME_NANOS);
            let volume = Volume { total_bytes: VOLUME_BYTES, usable_bytes };
            process.node.step(now, Input::Volume(volume), &mut process.out);
        }
        let requests = process.mailbox.len() as u64;
        for arrival in process.mailbox.drain(..) {
            process.node.step(now, arrival.into_input(), &mut process.out);
        }
        if process.node.deadline().is_some_and(|(at, _)| at <= now.instant) {
            process.node.step(now, Input::Deadline, &mut process.out);
        }
        process.node.turn(now, &mut process.out);
        process.node.invariants_in_turn(process.looks);
        process.looks += 1;
        process.busy_until = Instant(self.now.0 + PASS_NANOS + requests * REQUEST_NANOS);
        let effects = std::mem::take(&mut process.out.0);
        for effect in effects {
            self.carry_out(machine, effect, &mut touched);
        }
        self.trace(self.machines[machine].lane(), None, |_| format!("a pass over {requests} arrivals"));
        self.note_standings(machine, false);
        let process = self.machines[machine].process.as_ref();
        if process.is_some_and(|process| process.fatal.is_some()) {
            // Nothing more may be said: an answer could promise what the disk does not hold.
            self.ended(machine);
            return;
        }
        for conn in touched {
            self.send_answers(conn);
        }
        if self.machines[machine].process.as_ref().is_some_and(|process| process.is_stopped) {
            self.ended(machine);
            return;
        }
        self.plan_deadline(machine);
    }

    fn plan_deadline(&mut self, machine: usize) {
        let at = &mut self.machines[machine];
        let Some((local, _)) = at.process.as_ref().and_then(|process| process.node.deadline()) else { return };
        let due = at.true_time(local).max(self.now);
        let process = at.process.as_mut().expect("it was just there");
        if process.deadline_at.is_some_and(|planned| planned <= due) {
            return;
        }
        process.deadline_at = Some(due);
        let event = Event::Deadline(machine, at.incarnation);
        self.plan_at(due, event);
    }

    /// Reads what has arrived on the connections that are ready. Returns them, since they may have answers to send.
    fn read_ready(&mut self, machine: usize) -> Vec<usize> {
        let Some(process) = &mut self.machines[machine].process else { return Vec::new() };
        let ready: Vec<usize> = process.ready.drain(..).collect();
        let codecs = process.codecs.clone();
        let mut accepted: Vec<(ReplyTo, Request)> = Vec::new();
        for &conn in &ready {
            let entry = &mut self.conns[conn];
            let Some(server) = &mut entry.server else { continue };
            server.is_ready = false;
            let mut failed = None;
            let mut read = 0;
            let unsent = entry.to_client.unsent();
            while server.closing.is_none() && failed.is_none() {
                let bytes = if server.connection.may_go_on(unsent) {
                    Bytes::new()
                } else if server.connection.wants_read(unsent)
                    && let Some(bytes) = server.inbox.pop_front()
                {
                    bytes
                } else {
                    break;
                };
                read += bytes.len();
                failed = server.connection.receive(&bytes, unsent, &codecs, &mut accepted).err();
            }
            entry.to_server.read(read);
            let process = self.machines[machine].process.as_mut().expect("it was just there");
            process.mailbox.extend(accepted.drain(..).map(|(to, request)| Arrival::Request(to, request)));
            let is_over = server.is_ended && server.inbox.is_empty();
            if let Some(reason) = &failed {
                let text = reason.to_string();
                self.trace(self.machines[machine].lane(), None, |_| format!("connection {conn} closed: {text}"));
            }
            if failed.is_some() || is_over {
                self.close(conn);
            } else if read > 0 {
                self.pump_to_server(conn);
            }
        }
        ready
    }

    /// The broker's end of a connection goes.
    fn close(&mut self, conn: usize) {
        let Some(server) = self.conns[conn].server.take() else { return };
        let machine = self.conns[conn].machine;
        if let Some(process) = &mut self.machines[machine].process {
            process.mailbox.push_back(Arrival::Closed(server.conn));
        }
        self.conns[conn].is_closing = true;
        self.finish_closing(conn);
        self.plan_pass(machine);
    }

    /// Encodes and sends what a connection has to say, and closes it if that was asked for.
    pub(super) fn send_answers(&mut self, conn: usize) {
        let entry = &mut self.conns[conn];
        let Some(server) = &mut entry.server else { return };
        for (to, response) in server.answers.drain(..) {
            server.connection.respond(to, response);
        }
        let mut writer = Writer::new();
        server.connection.encode(&mut writer).expect("answers are short");
        if !writer.is_empty() {
            for chunk in writer.finish().into_chunks() {
                entry.to_client.push(chunk);
            }
        }
        let is_sent = entry.to_client.unsent() == 0;
        let is_over = server.connection.is_over().is_some() || server.closing.is_some();
        let unsent = entry.to_client.unsent();
        let may_read =
            server.connection.may_go_on(unsent) || !server.inbox.is_empty() && server.connection.wants_read(unsent);
        self.pump_to_client(conn);
        if is_over && (is_sent || self.conns[conn].to_client.unsent() == 0) {
            self.close(conn);
        } else if may_read {
            self.ready(conn);
        }
    }

    fn carry_out(&mut self, machine: usize, effect: Effect, touched: &mut Vec<usize>) {
        match effect {
            Effect::Reply { to, response } => {
                let Some(conn) = self.conn_by_id(machine, to.conn) else { return };
                if let Some(server) = &mut self.conns[conn].server {
                    server.answers.push((to, response));
                    if touched.last() != Some(&conn) {
                        touched.push(conn);
                    }
                }
            }
            Effect::Close { conn, why } => {
                let Some(conn) = self.conn_by_id(machine, conn) else { return };
                if let Some(server) = &mut self.conns[conn].server {
                    server.closing = Some(why);
                    touched.push(conn);
                }
            }
            Effect::Cut { conn, why } => {
                let Some(conn) = self.conn_by_id(machine, conn) else { return };
                self.trace(self.machines[machine].lane(), None, |_| format!("connection {conn} is cut: {why}"));
                self.conns[conn].to_client.forget_unsent();
                self.close(conn);
            }
            Effect::Disk(op) => self.begin(machine, op),
            Effect::Neighbours(neighbours) => self.keep_routes(machine, neighbours),
            Effect::Say { to, message } => self.say(machine, to, *message),
            Effect::AllowConnections { .. } => {}
            Effect::Log(LogLine { level, text }) => self.logged(machine, level, text),
            Effect::TopicCodecs(codecs) => self.of_process(machine, |process| process.codecs = codecs),
            Effect::Stopped => self.of_process(machine, |process| process.is_stopped = true),
            Effect::Fatal(why) => self.of_process(machine, |process| process.fatal = Some(why)),
        }
    }

    fn of_process(&mut self, machine: usize, change: impl FnOnce(&mut Process)) {
        if let Some(process) = &mut self.machines[machine].process {
            change(process);
        }
    }

    // Disk work.

    fn begin(&mut self, machine: usize, op: DiskOp) {
        let work = Work::from(op);
        let Machine { process: Some(process), plan, .. } = &mut self.machines[machine] else { return };
        if let Work::Task(id, task) = work {
            process.tasks.push_back((id, task));
            self.next_task(machine);
            return;
        }
        if let Work::Commit(commit, _) = &work {
            process.is_committing = !plan.is_on_thread(commit.number);
        }
        self.work(machine, work);
    }

    fn next_task(&mut self, machine: usize) {
        let Some(process) = &mut self.machines[machine].process else { return };
        if process.is_task_running {
            return;
        }
        if let Some((id, task)) = process.tasks.pop_front() {
            process.is_task_running = true;
            self.work(machine, Work::Task(id, task));
        }
    }

    fn work(&mut self, machine: usize, work: Work) {
        let at = &mut self.machines[machine];
        at.next_work += 1;
        let number = at.next_work;
        let nanos = work.nanos(&at.plan, at.chance, number) * at.disk_factor;
        let due = Instant(self.now.0.max(at.disk_stalled_until.0) + nanos);
        let (lane, disk, incarnation) = (at.lane(), at.disk_lane(), at.incarnation);
        self.trace(disk, Some((lane, self.now)), |_| work.describe());
        if let Some(process) = &mut self.machines[machine].process {
            process.works.insert(number, work);
        }
        self.plan_at(due, Event::Worked(machine, incarnation, number));
    }

    pub(super) fn worked(&mut self, machine: usize, number: u64) {
        let at = &mut self.machines[machine];
        // A stall that began meanwhile holds it up as well.
        if at.disk_stalled_until > self.now {
            let (until, incarnation) = (at.disk_stalled_until, at.incarnation);
            self.plan_at(until, Event::Worked(machine, incarnation, number));
            return;
        }
        let Some(work) = at.process.as_mut().and_then(|process| process.works.remove(&number)) else { return };
        let is_commit = matches!(work, Work::Commit(..));
        let is_task = matches!(work, Work::Task(..));
        let done = work.execute(&mut at.committer, &at.disk);
        let (lane, disk) = (at.lane(), at.disk_lane());
        self.trace(lane, Some((disk, self.now)), |_| match &done {
            Done::Commit(number, result) => format!("commit {number} is done: {result:?}"),
            Done::Written(number) => format!("commit {number} is with the system"),
            Done::Read(id, Ok(_)) => format!("read {} is done", id.0),
            Done::Read(id, Err(error)) => format!("read {} failed: {error}", id.0),
            Done::Task(id, result) => format!("task {} is done: {result:?}", id.0),
            Done::Finding(id, _) => format!("question {} is answered", id.0),
            Done::Compacted(_, result) => format!("a step of compaction is done: {result:?}"),
        });
        let process = self.machines[machine].process.as_mut().expect("it was just there");
        process.mailbox.push_back(Arrival::Done(done));
        if is_commit {
            process.is_committing = false;
        }
        if is_task {
            process.is_task_running = false;
            self.next_task(machine);
        }
        self.plan_pass(machine);
    }

    /// The process dies: what the disk had begun for it was done in part. Each piece of work gets so far as chance has
    /// it, in the order in which they were begun.
    pub(super) fn interrupt_works(&mut self, machine: usize) {
        let at = &mut self.machines[machine];
        let Some(process) = &mut at.process else { return };
        let works = std::mem::take(&mut process.works);
        let mut interrupted = Vec::new();
        for (number, work) in works {
            if matches!(work, Work::Read(..)) {
                continue;
            }
            if matches!(work, Work::Compact(_)) {
                interrupted.push("crash_in_compaction");
            }
            at.disk.die_after(work::changes_before_death(at.chance, number));
            drop(work.execute(&mut at.committer, &at.disk));
            at.disk.revive();
            interrupted.push("crash_in_disk_work");
        }
        for name in interrupted {
            self.count(name);
        }
    }
}
