//! A pass of the node's thread, and the disk work that it begins.

use bytes::Bytes;
use chronik_core::boundary::{DiskOp, Done, Effect, Input, LogLine, ReplyTo, Request, Volume};
use chronik_core::time::Instant;
use chronik_core::wire::Writer;

use super::process::Arrival;
use super::world::{Event, World};
use crate::engine::work::{self, Work};
use crate::engine::{Lane, MS};

/// What a pass costs, and each request in it, in nanoseconds: enough that requests gather while a pass runs.
const PASS_NANOS: u64 = 5_000;
const REQUEST_NANOS: u64 = 2_000;

/// How long the node goes by what it was told of the volume, in nanoseconds.
const VOLUME_NANOS: u64 = 10_000 * MS;

/// What the disk says of its size.
const VOLUME_BYTES: u64 = 1 << 40;

impl World<'_> {
    /// Has the node's thread take its turn as soon as it can.
    pub(super) fn plan_pass(&mut self) {
        let Some(process) = &mut self.process else { return };
        if process.is_committing || process.pass_at.is_some() {
            return;
        }
        let at = process.busy_until.max(self.now).max(self.paused_until);
        process.pass_at = Some(at);
        self.plan_at(at, Event::Pass(self.incarnation));
    }

    pub(super) fn deadline(&mut self) {
        if let Some(process) = &mut self.process {
            process.deadline_at = None;
        }
        self.plan_pass();
    }

    /// Takes all that has arrived, and carries out what the node wants.
    pub(super) fn pass(&mut self) {
        if self.paused_until > self.now {
            if let Some(process) = &mut self.process {
                process.pass_at = None;
            }
            self.plan_pass();
            return;
        }
        let now = self.local();
        let mut touched = self.read_ready();
        let usable_bytes = if self.is_disk_full { 0 } else { VOLUME_BYTES / 2 };
        let Some(process) = &mut self.process else { return };
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
        process.node.invariants();
        process.busy_until = Instant(self.now.0 + PASS_NANOS + requests * REQUEST_NANOS);
        let effects = std::mem::take(&mut process.out.0);
        for effect in effects {
            self.carry_out(effect, &mut touched);
        }
        self.trace(Lane::Node(1), None, |_| format!("a pass over {requests} arrivals"));
        if self.process.as_ref().is_some_and(|process| process.fatal.is_some()) {
            // Nothing more may be said: an answer could promise what the disk does not hold.
            self.ended();
            return;
        }
        for conn in touched {
            self.send_answers(conn);
        }
        if self.process.as_ref().is_some_and(|process| process.is_stopped) {
            self.ended();
            return;
        }
        self.plan_deadline();
    }

    fn plan_deadline(&mut self) {
        let Some(process) = &self.process else { return };
        let Some((local, _)) = process.node.deadline() else { return };
        let at = self.true_time(local).max(self.now);
        if process.deadline_at.is_some_and(|planned| planned <= at) {
            return;
        }
        self.process.as_mut().expect("it was just there").deadline_at = Some(at);
        self.plan_at(at, Event::Deadline(self.incarnation));
    }

    /// Reads what has arrived on the connections that are ready. Returns them, since they may have answers to send.
    fn read_ready(&mut self) -> Vec<usize> {
        let Some(process) = &mut self.process else { return Vec::new() };
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
            let process = self.process.as_mut().expect("it was just there");
            process.mailbox.extend(accepted.drain(..).map(|(to, request)| Arrival::Request(to, request)));
            let is_over = server.is_ended && server.inbox.is_empty();
            if let Some(reason) = &failed {
                let text = reason.to_string();
                self.trace(Lane::Node(1), None, |_| format!("connection {conn} closed: {text}"));
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
        if let Some(process) = &mut self.process {
            process.mailbox.push_back(Arrival::Closed(server.conn));
        }
        self.conns[conn].is_closing = true;
        self.finish_closing(conn);
        if self.process.is_some() {
            self.plan_pass();
        }
    }

    /// Encodes and sends what a connection has to say, and closes it if that was asked for.
    pub(super) fn send_answers(&mut self, conn: usize) {
        let entry = &mut self.conns[conn];
        let Some(server) = &mut entry.server else { return };
        for (to, response) in server.answers.drain(..) {
            server.connection.respond(to, response);
        }
        let mut writer = Writer::new();
        server.connection.encode(&mut writer);
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

    fn carry_out(&mut self, effect: Effect, touched: &mut Vec<usize>) {
        match effect {
            Effect::Reply { to, response } => {
                let Some(conn) = self.conn_by_id(to.conn) else { return };
                if let Some(server) = &mut self.conns[conn].server {
                    server.answers.push((to, response));
                    if touched.last() != Some(&conn) {
                        touched.push(conn);
                    }
                }
            }
            Effect::Close { conn, why } => {
                let Some(conn) = self.conn_by_id(conn) else { return };
                if let Some(server) = &mut self.conns[conn].server {
                    server.closing = Some(why);
                    touched.push(conn);
                }
            }
            Effect::Cut { conn, why } => {
                let Some(conn) = self.conn_by_id(conn) else { return };
                self.trace(Lane::Node(1), None, |_| format!("connection {conn} is cut: {why}"));
                self.conns[conn].to_client.forget_unsent();
                self.close(conn);
            }
            Effect::Disk(op) => self.begin(op),
            Effect::TopicCodecs(codecs) => {
                if let Some(process) = &mut self.process {
                    process.codecs = codecs;
                }
            }
            Effect::AllowConnections { .. } | Effect::Neighbours(_) | Effect::Say { .. } => {}
            Effect::Log(LogLine { level, text }) => self.logged(level, text),
            Effect::Stopped => {
                if let Some(process) = &mut self.process {
                    process.is_stopped = true;
                }
            }
            Effect::Fatal(why) => {
                if let Some(process) = &mut self.process {
                    process.fatal = Some(why);
                }
            }
        }
    }

    // Disk work.

    fn begin(&mut self, op: DiskOp) {
        let work = Work::from(op);
        let Some(process) = &mut self.process else { return };
        if let Work::Task(id, task) = work {
            process.tasks.push_back((id, task));
            self.next_task();
            return;
        }
        if matches!(work, Work::Commit(..)) && !self.plan.node.commits_on_thread {
            process.is_committing = true;
        }
        self.work(work);
    }

    fn next_task(&mut self) {
        let Some(process) = &mut self.process else { return };
        if process.is_task_running {
            return;
        }
        if let Some((id, task)) = process.tasks.pop_front() {
            process.is_task_running = true;
            self.work(Work::Task(id, task));
        }
    }

    fn work(&mut self, work: Work) {
        self.next_work += 1;
        let number = self.next_work;
        let nanos = work.nanos(&self.plan.node, self.chance, number) * self.disk_factor;
        self.trace(Lane::Disk(1), Some((Lane::Node(1), self.now)), |_| work.describe());
        let at = Instant(self.now.0.max(self.disk_stalled_until.0) + nanos);
        if let Some(process) = &mut self.process {
            process.works.insert(number, work);
        }
        self.plan_at(at, Event::Worked(self.incarnation, number));
    }

    pub(super) fn worked(&mut self, number: u64) {
        // A stall that began meanwhile holds it up as well.
        if self.disk_stalled_until > self.now {
            self.plan_at(self.disk_stalled_until, Event::Worked(self.incarnation, number));
            return;
        }
        let Some(process) = &mut self.process else { return };
        let Some(work) = process.works.remove(&number) else { return };
        let is_commit = matches!(work, Work::Commit(..));
        let is_task = matches!(work, Work::Task(..));
        let done = work.execute(&mut self.committer, &self.disk);
        self.trace(Lane::Node(1), Some((Lane::Disk(1), self.now)), |_| match &done {
            Done::Commit(number, result) => format!("commit {number} is done: {result:?}"),
            Done::Written(number) => format!("commit {number} is with the system"),
            Done::Read(id, Ok(_)) => format!("read {} is done", id.0),
            Done::Read(id, Err(error)) => format!("read {} failed: {error}", id.0),
            Done::Task(id, result) => format!("task {} is done: {result:?}", id.0),
            Done::Finding(id, _) => format!("question {} is answered", id.0),
            Done::Compacted(_, result) => format!("a step of compaction is done: {result:?}"),
        });
        let process = self.process.as_mut().expect("it was just there");
        process.mailbox.push_back(Arrival::Done(done));
        if is_commit {
            process.is_committing = false;
        }
        if is_task {
            process.is_task_running = false;
            self.next_task();
        }
        self.plan_pass();
    }

    /// The process dies: what the disk had begun for it was done in part. Each piece of work gets so far as chance has
    /// it, in the order in which they were begun.
    pub(super) fn interrupt_works(&mut self) {
        let Some(process) = &mut self.process else { return };
        let works = std::mem::take(&mut process.works);
        for (number, work) in works {
            if matches!(work, Work::Read(..)) {
                continue;
            }
            if matches!(work, Work::Compact(_)) {
                self.count("crash_in_compaction");
            }
            self.disk.die_after(work::changes_before_death(self.chance, number));
            drop(work.execute(&mut self.committer, &self.disk));
            self.disk.revive();
            self.count("crash_in_disk_work");
        }
    }
}
