//! The production binary with real files and sockets, driven by the same clients.
//!
//! What the simulated engines agree on could still be wrong about the world. So small plans, with one operation at a
//! time and no faults but kill and restart, are carried out here too, and what the auditor finds in the end
//! ([`final_log`]) must be the same on every engine. Time is real: the history's instants differ from run to run, and
//! so does everything that a plan leaves to timing.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use chronik_core::ids::{Offset, TopicId};
use chronik_core::time::{Instant, Timestamp};
use rustix::process::{Pid, Signal, kill_process};

use super::{MS, audit_ms};
use crate::client::{self, Client, ClientNow, Happened, Link, Wanted};
use crate::history::{ClientId, Event, History, What};
use crate::plan::{FaultKind, HEAL_MS, Plan};
use crate::value::Attempt;

/// How long the process may take to listen.
const START_TIME_MAX: Duration = Duration::from_secs(30);

/// What one partition held in the end: offset, whose record, and its place in its batch.
pub type FinalLog = BTreeMap<(String, i32), BTreeMap<Offset, (Attempt, u32)>>;

/// What the auditor found, by the topics' names: ids differ from run to run.
pub fn final_log(history: &History) -> FinalLog {
    let mut names: BTreeMap<TopicId, String> = BTreeMap::new();
    let mut found = FinalLog::new();
    for event in &history.events {
        match &event.what {
            What::TopicCreated { name, id, .. } => drop(names.insert(*id, name.clone())),
            What::Fetched { partition, records, .. } if event.client == ClientId::AUDITOR => {
                let name = names.get(&partition.topic).cloned().unwrap_or_default();
                let log = found.entry((name, partition.partition)).or_default();
                log.extend(records.iter().map(|read| (read.offset, (read.attempt, read.index))));
            }
            _ => {}
        }
    }
    found
}

/// Where a broker runs.
#[derive(Clone, Debug)]
pub struct Place {
    /// The binary `chronik-server`.
    pub binary: PathBuf,
    /// An empty folder.
    pub folder: PathBuf,
    /// A port that nobody listens on.
    pub port: u16,
}

/// Carries a plan out.
///
/// # Errors
/// Where the binary cannot be run, or ends before it listens.
pub fn run(plan: &Plan, place: &Place) -> io::Result<History> {
    let (tell, told) = channel();
    let mut world = World {
        plan,
        place,
        child: None,
        began: std::time::Instant::now(),
        seats: Vec::new(),
        timers: BTreeSet::new(),
        history: History::default(),
        tell,
    };
    world.start()?;
    world.began = std::time::Instant::now();
    let outcome = world.carry_out(&told);
    world.kill()?;
    outcome.map(|()| std::mem::take(&mut world.history))
}

struct World<'a> {
    plan: &'a Plan,
    place: &'a Place,
    child: Option<Child>,
    began: std::time::Instant,
    seats: Vec<Seat>,
    /// When which seat is to be woken.
    timers: BTreeSet<(Instant, usize)>,
    history: History,
    tell: Sender<(usize, Happened)>,
}

struct Seat {
    id: ClientId,
    machine: Box<dyn Client>,
    links: BTreeMap<Link, TcpStream>,
}

impl World<'_> {
    fn now(&self) -> Instant {
        Instant::default() + self.began.elapsed()
    }

    fn record(&mut self, client: ClientId, operation: Option<u32>, what: What) {
        let at = self.now();
        self.history.events.push(Event { at, client, node: 1, operation, what });
    }

    fn seat(&mut self, id: ClientId, machine: Box<dyn Client>) -> usize {
        self.seats.push(Seat { id, machine, links: BTreeMap::new() });
        self.seats.len() - 1
    }

    fn carry_out(&mut self, told: &Receiver<(usize, Happened)>) -> io::Result<()> {
        let setup = self.seat(ClientId::SETUP, client::setup(self.plan));
        self.step(setup, Happened::Started);
        self.pass(told, HEAL_MS, &[setup])?;
        let mut clients = Vec::new();
        for index in 0..self.plan.clients.len() {
            let id = ClientId(u32::try_from(index).expect("few clients"));
            clients.push(self.seat(id, client::machine(self.plan, id)));
        }
        for &seat in &clients {
            self.step(seat, Happened::Started);
        }
        for fault in &self.plan.faults {
            self.pass_until(told, fault.at_ms)?;
            self.fault(&fault.what)?;
        }
        self.pass_until(told, self.plan.duration_ms)?;
        self.record(ClientId::ENGINE, None, What::Healed);
        for &seat in &clients {
            self.step(seat, Happened::Healed);
        }
        self.pass(told, HEAL_MS, &clients)?;
        // As in the other engines, the auditor finds what the disk holds.
        self.fault(&FaultKind::Kill { down_ms: 1 })?;
        let auditor = self.seat(ClientId::AUDITOR, client::auditor(self.plan));
        self.step(auditor, Happened::Healed);
        self.step(auditor, Happened::Started);
        self.pass(told, audit_ms(self.plan), &[auditor])
    }

    fn pass_until(&mut self, told: &Receiver<(usize, Happened)>, at_ms: u64) -> io::Result<()> {
        let now_ms = self.now().0 / MS;
        self.pass(told, at_ms.saturating_sub(now_ms), &[])
    }

    /// Lets time pass, until all of `seats` are done where there are any.
    fn pass(&mut self, told: &Receiver<(usize, Happened)>, for_ms: u64, seats: &[usize]) -> io::Result<()> {
        let until = Instant(self.now().0 + for_ms * MS);
        while self.now() < until && (seats.is_empty() || !seats.iter().all(|&seat| self.seats[seat].machine.is_done()))
        {
            let next = self.timers.first().map_or(until, |&(at, _)| at.min(until));
            match told.recv_timeout(next - self.now()) {
                Ok((seat, happened)) => self.step(seat, happened),
                Err(RecvTimeoutError::Timeout) => {
                    while let Some(&(at, seat)) = self.timers.first().filter(|(at, _)| *at <= self.now()) {
                        self.timers.remove(&(at, seat));
                        self.step(seat, Happened::Timer);
                    }
                }
                Err(RecvTimeoutError::Disconnected) => return Err(io::ErrorKind::BrokenPipe.into()),
            }
        }
        Ok(())
    }

    fn step(&mut self, seat: usize, happened: Happened) {
        if let Happened::Received(link, _) | Happened::Lost(link) = &happened
            && !self.seats[seat].links.contains_key(link)
        {
            // Said before the client closed, and heard after.
            return;
        }
        if let Happened::Lost(link) = &happened {
            self.seats[seat].links.remove(link);
        }
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let wall = Timestamp(i64::try_from(since_1970.as_millis()).expect("the clock shows this century"));
        let now = ClientNow { instant: self.now(), wall };
        let mut wanted = Vec::new();
        self.seats[seat].machine.step(now, happened, &mut wanted);
        for wanted in wanted {
            self.want(seat, wanted);
        }
    }

    fn want(&mut self, seat: usize, wanted: Wanted) {
        match wanted {
            Wanted::Connect(link, _) => {
                let happened = match self.connect(seat, link) {
                    Ok(stream) => {
                        self.seats[seat].links.insert(link, stream);
                        Happened::Connected(link)
                    }
                    Err(_) => Happened::Refused(link),
                };
                self.tell.send((seat, happened)).expect("this value holds the other end's receiver up");
            }
            Wanted::Send(link, bytes) => {
                if let Some(stream) = self.seats[seat].links.get_mut(&link) {
                    // Whoever reads from it learns that it is broken.
                    stream.write_all(&bytes).ok();
                }
            }
            Wanted::Close(link) => {
                if let Some(stream) = self.seats[seat].links.remove(&link) {
                    stream.shutdown(Shutdown::Both).ok();
                }
            }
            Wanted::WakeAt(at) => drop(self.timers.insert((at, seat))),
            // A broker on a real machine is nobody's to start or stop here.
            Wanted::Order(..) => {}
            Wanted::Record(operation, what) => self.record(self.seats[seat].id, operation, what),
        }
    }

    fn connect(&self, seat: usize, link: Link) -> io::Result<TcpStream> {
        let stream = TcpStream::connect(self.address())?;
        stream.set_nodelay(true)?;
        let (mut reads, tell) = (stream.try_clone()?, self.tell.clone());
        thread::spawn(move || {
            let mut buffer = vec![0; 64 << 10];
            while let Ok(count @ 1..) = reads.read(&mut buffer) {
                if tell.send((seat, Happened::Received(link, Bytes::copy_from_slice(&buffer[..count])))).is_err() {
                    return;
                }
            }
            tell.send((seat, Happened::Lost(link))).ok();
        });
        Ok(stream)
    }

    fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.place.port))
    }

    /// What goes wrong, until it has gone right again: clients find out when they look next.
    fn fault(&mut self, fault: &FaultKind) -> io::Result<()> {
        self.record(ClientId::ENGINE, None, What::Fault(fault.clone()));
        let (why, down_ms) = match *fault {
            FaultKind::Kill { down_ms } => {
                self.kill()?;
                (None, down_ms)
            }
            FaultKind::Restart { down_ms } => {
                self.stop()?;
                (Some("stopped".to_owned()), down_ms)
            }
            _ => return Err(io::Error::new(io::ErrorKind::Unsupported, format!("{fault:?} cannot be done for real"))),
        };
        self.record(ClientId::ENGINE, None, What::Ended { why });
        thread::sleep(Duration::from_millis(down_ms));
        self.start()?;
        self.record(ClientId::ENGINE, None, What::Started { notes: Vec::new() });
        Ok(())
    }

    fn start(&mut self) -> io::Result<()> {
        let log = File::options().create(true).append(true).open(self.place.folder.join("log"))?;
        let durability = if self.plan.node.trusts_os { "os" } else { "sync" };
        let commit = self.plan.node.commit_form();
        let child = Command::new(&self.place.binary)
            .args(["--bind", "127.0.0.1", "--kafka-port", &self.place.port.to_string()])
            .args(["--durability", durability, "--commit", commit, "--data-dir"])
            .arg(self.place.folder.join("data"))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        let child = self.child.insert(child);
        let started = std::time::Instant::now();
        let address = SocketAddr::from(([127, 0, 0, 1], self.place.port));
        while TcpStream::connect(address).is_err() {
            let ended = child.try_wait()?;
            if ended.is_some() || started.elapsed() > START_TIME_MAX {
                return Err(io::Error::other(format!("the broker does not listen ({ended:?}): {}", self.printed())));
            }
            thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }

    fn printed(&self) -> String {
        let path: &Path = &self.place.folder.join("log");
        std::fs::read_to_string(path).unwrap_or_default()
    }

    fn kill(&mut self) -> io::Result<()> {
        let Some(mut child) = self.child.take() else { return Ok(()) };
        child.kill()?;
        child.wait().map(drop)
    }

    fn stop(&mut self) -> io::Result<()> {
        let Some(mut child) = self.child.take() else { return Ok(()) };
        let raw = i32::try_from(child.id()).expect("process ids are positive i32");
        kill_process(Pid::from_raw(raw).expect("a child is never process 0"), Signal::TERM)?;
        child.wait().map(drop)
    }
}

impl Drop for World<'_> {
    fn drop(&mut self) {
        // Nothing is left to say where this fails.
        self.kill().ok();
    }
}
