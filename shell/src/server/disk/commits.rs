//! Which thread writes a commit of the journal, and waits for the disk.
//!
//! | commit | where, if that may be chosen | why |
//! |---|---|---|
//! | large | a thread of its own | while it is written the next large requests arrive, and a hop costs little beside it |
//! | one that is synced with many before it, where the operating system is trusted | a thread of its own | it may take long |
//! | small, and the node's thread is busy | a thread of its own | the node's thread has work to do while the disk has |
//! | small | the node's own thread | a hop costs more than what else there is to do, and what arrives meanwhile shares the next commit |
//!
//! Either is right: they differ in speed alone.

use std::io;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use chronik_core::boundary::{Committer, DirectWrite, Done, Files};
use chronik_core::journal::Commit;
use rustix::time::{ClockId, clock_gettime};

use super::Reporter;
use super::threads::start_thread;
use crate::cli::options::{CommitThread, Durability};

/// From so many bytes on a commit is large.
const LARGE_BYTES: usize = 256 << 10;

/// How long is looked before the node's thread is called busy, or not busy any more.
const WINDOW: Duration = Duration::from_millis(20);

/// What share of the time the node's thread runs from which on it is busy, in percent.
const BUSY_PERCENT: u32 = 72;

/// And below which it is no more: to wait for nothing makes it run less for the same work.
const IDLE_PERCENT: u32 = 62;

/// Carries out commits.
pub(super) struct Commits {
    here: Shared,
    /// None where all of them are written on the node's thread.
    thread: Option<Sender<(Commit, Vec<DirectWrite>)>>,
    choice: Choice,
}

/// What both threads write with. One commit is under way at a time, so that nobody waits for the other.
#[derive(Clone)]
struct Shared {
    committer: Arc<Mutex<Committer>>,
    files: Arc<dyn Files>,
}

enum Choice {
    Here,
    There,
    /// As the table says.
    ByLoad(Load),
    /// The operating system is trusted: what is small is waited for only where it must be synced, with all that was
    /// written before it.
    BySize,
}

impl Commits {
    /// Starts the thread, where there is one. `report` is called on it.
    pub(super) fn start(
        form: CommitThread,
        durability: Durability,
        files: Arc<dyn Files>,
        report: Reporter,
    ) -> io::Result<Commits> {
        let here = Shared { committer: Arc::new(Mutex::new(Committer::new(durability == Durability::Os))), files };
        let choice = match (form, durability) {
            (CommitThread::Inline, _) => return Ok(Commits { here, thread: None, choice: Choice::Here }),
            (CommitThread::Thread, _) => Choice::There,
            (CommitThread::Auto, Durability::Sync) => Choice::ByLoad(Load::default()),
            (CommitThread::Auto, Durability::Os) => Choice::BySize,
        };
        let (sender, commits) = channel::<(Commit, Vec<DirectWrite>)>();
        let there = here.clone();
        start_thread("commit", move || {
            commits.iter().for_each(|(commit, direct)| report(there.carry_out(commit, &direct)));
        })?;
        Ok(Commits { here, thread: Some(sender), choice })
    }

    /// Writes a commit. What became of it, if it is known at once.
    pub(super) fn begin(&mut self, commit: Commit, direct: Vec<DirectWrite>) -> Option<Done> {
        let bodies = || direct.iter().flat_map(|write| &write.pieces).map(Bytes::len).sum::<usize>();
        let is_large = || commit.data.len() + bodies() >= LARGE_BYTES;
        let is_there = match &mut self.choice {
            Choice::Here => false,
            Choice::There => true,
            Choice::ByLoad(load) => load.look() || is_large(),
            Choice::BySize => commit.must_sync || is_large(),
        };
        match self.thread.as_ref().filter(|_| is_there) {
            Some(thread) => {
                thread.send((commit, direct)).expect("the commit thread runs as long as this value");
                None
            }
            None => Some(self.here.carry_out(commit, &direct)),
        }
    }
}

impl Shared {
    fn carry_out(&self, commit: Commit, direct: &[DirectWrite]) -> Done {
        let mut committer: MutexGuard<'_, Committer> = self.committer.lock().unwrap_or_else(PoisonError::into_inner);
        committer.carry_out(&*self.files, commit, direct)
    }
}

/// How much the node's thread has to do.
#[derive(Default)]
struct Load {
    is_busy: bool,
    /// When the window began, and how long the thread had run then.
    began: Option<(Instant, Duration)>,
}

impl Load {
    /// Whether the thread is busy that asks. Costs a look at a clock, most of the time.
    fn look(&mut self) -> bool {
        let now = Instant::now();
        match self.began {
            Some((began, _)) if now < began + WINDOW => {}
            _ => self.settle(now, run_time()),
        }
        self.is_busy
    }

    /// A window ends, and the next one begins, where the thread has run for so long in all.
    fn settle(&mut self, now: Instant, ran: Duration) {
        if let Some((began, ran_before)) = self.began.replace((now, ran)) {
            let percent = if self.is_busy { IDLE_PERCENT } else { BUSY_PERCENT };
            self.is_busy = ran.saturating_sub(ran_before) * 100 >= (now - began) * percent;
        }
    }
}

/// How long the thread has run that asks.
fn run_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).expect("a second has fewer nanoseconds"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_runs_most_of_the_time_is_busy_and_stays_so_for_a_while() {
        let mut load = Load::default();
        let (mut now, mut ran) = (Instant::now(), Duration::ZERO);
        load.settle(now, ran);
        assert!(!load.is_busy, "nothing is known yet");
        for (percent, is_busy) in
            [(71, false), (72, true), (63, true), (61, false), (71, false), (100, true), (0, false)]
        {
            now += Duration::from_millis(100);
            ran += Duration::from_millis(percent);
            load.settle(now, ran);
            assert_eq!(load.is_busy, is_busy, "{percent} %");
        }
    }

    #[test]
    fn the_clock_is_that_of_the_thread() {
        let before = run_time();
        // Ends as soon as this thread has run for so long, whatever else the machine does.
        while run_time() < before + Duration::from_millis(1) {}
        let other = std::thread::spawn(run_time).join().expect("it only looks at a clock");
        assert!(other < run_time());
    }
}
