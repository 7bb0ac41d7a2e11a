//! Many sockets on one thread: waiting for any of them, and taking whole frames out of what arrives.

use crate::cluster::FRAME_BYTES_MAX;
use crate::failure::Failure;
use crate::wire::Malformed;
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::io::Errno;
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec};
use std::io::{self, Read};
use std::net::TcpStream;
use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

/// The token under which the timer of `Poll` reports itself; callers ignore it.
const TIMER: u64 = u64::MAX;

/// What a socket is ready for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ready {
    /// As given to `Poll::add`.
    pub(crate) token: usize,
    pub(crate) readable: bool,
    pub(crate) writable: bool,
}

/// Waits for sockets. They report each change once (edge-triggered): who is told to read reads all there is.
pub(crate) struct Poll {
    epoll: OwnedFd,
    timer: OwnedFd,
    events: Vec<epoll::Event>,
}

impl Poll {
    pub(crate) fn new() -> Result<Poll, Failure> {
        let open = || -> Result<Poll, Errno> {
            let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
            let timer = rustix::time::timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC)?;
            epoll::add(&epoll, &timer, EventData::new_u64(TIMER), EventFlags::IN | EventFlags::ET)?;
            Ok(Poll { epoll, timer, events: Vec::with_capacity(1024) })
        };
        open().map_err(|why| Failure::Local { what: "cannot wait for sockets".to_owned(), why: why.into() })
    }

    pub(crate) fn add(&self, socket: impl AsFd, token: usize) -> Result<(), Failure> {
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        epoll::add(&self.epoll, socket, EventData::new_u64(token as u64), flags)
            .map_err(|why| Failure::Local { what: "cannot wait for a socket".to_owned(), why: why.into() })
    }

    /// Waits until something is ready, at most for `timeout`.
    pub(crate) fn wait(&mut self, timeout: Duration) -> Result<(), Failure> {
        self.events.clear();
        let failed = |why: Errno| Failure::Local { what: "cannot wait for sockets".to_owned(), why: why.into() };
        // The system call counts in milliseconds on older kernels, too coarse for a schedule: a timer does not.
        let mut limit = Timespec { tv_sec: timeout.as_secs() as i64, tv_nsec: timeout.subsec_nanos().into() };
        if timeout > Duration::ZERO && timeout < Duration::from_millis(50) {
            let once = Itimerspec { it_interval: Timespec::default(), it_value: limit };
            rustix::time::timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &once).map_err(failed)?;
            limit = Timespec { tv_sec: 1, tv_nsec: 0 };
        }
        match epoll::wait(&self.epoll, spare_capacity(&mut self.events), Some(&limit)) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(why) => Err(failed(why)),
        }
    }

    /// The sockets that the last wait found ready, one by one from 0 on.
    pub(crate) fn ready(&self, index: usize) -> Option<Ready> {
        let event = self.events.get(index)?;
        let (data, flags) = (event.data, event.flags);
        if data.u64() == TIMER {
            return Some(Ready { token: 0, readable: false, writable: false });
        }
        // A broken connection reports itself by the read or write that fails.
        let broken = flags.intersects(EventFlags::HUP | EventFlags::ERR | EventFlags::RDHUP);
        Some(Ready {
            token: data.u64() as usize,
            readable: broken || flags.contains(EventFlags::IN),
            writable: flags.contains(EventFlags::OUT),
        })
    }
}

/// What arrives on a socket, until it makes whole frames.
pub(crate) struct Inbox {
    bytes: Vec<u8>,
    filled: Range<usize>,
}

impl Inbox {
    /// `capacity` in bytes; it grows to the largest frame.
    pub(crate) fn new(capacity: usize) -> Inbox {
        Inbox { bytes: vec![0; capacity], filled: 0..0 }
    }

    /// Reads once. `Ok(None)`: the socket is closed; `Ok(Some(true))`: there may be more to read.
    pub(crate) fn fill(&mut self, stream: &mut TcpStream) -> io::Result<Option<bool>> {
        if self.filled.is_empty() {
            self.filled = 0..0;
        }
        let room = &mut self.bytes[self.filled.end..];
        let asked = room.len();
        loop {
            return match stream.read(room) {
                Ok(0) => Ok(None),
                Ok(read) => {
                    self.filled.end += read;
                    Ok(Some(read == asked))
                }
                Err(why) if why.kind() == io::ErrorKind::WouldBlock => Ok(Some(false)),
                Err(why) if why.kind() == io::ErrorKind::Interrupted => continue,
                Err(why) => Err(why),
            };
        }
    }

    /// Where the next whole frame lies, if one has arrived. Without one, room is made for the rest of it.
    pub(crate) fn next_frame(&mut self) -> Result<Option<Range<usize>>, Malformed> {
        let mut needed = 4;
        if let Some(length) = self.bytes[self.filled.clone()].first_chunk::<4>() {
            let length = i32::from_be_bytes(*length);
            let size = usize::try_from(length)
                .ok()
                .filter(|size| *size <= FRAME_BYTES_MAX)
                .ok_or(Malformed::FrameLengthOutOfRange(length))?;
            needed += size;
            if self.filled.len() >= needed {
                let frame = self.filled.start + 4..self.filled.start + needed;
                self.filled.start = frame.end;
                return Ok(Some(frame));
            }
        }
        // Moving what is left to the front is rare work: a buffer holds many small frames, and a large one comes alone.
        if self.bytes.len() - self.filled.start < needed.max(self.bytes.len() / 2) {
            self.bytes.copy_within(self.filled.clone(), 0);
            self.filled = 0..self.filled.len();
        }
        if self.bytes.len() < needed {
            self.bytes.resize(needed.next_power_of_two(), 0);
        }
        Ok(None)
    }

    /// The frame that `next_frame` found; valid until the next `fill`.
    pub(crate) fn frame(&self, at: Range<usize>) -> &[u8] {
        &self.bytes[at]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::net::TcpListener;

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let near = TcpStream::connect(listener.local_addr().expect("bound")).expect("listening");
        let (far, _) = listener.accept().expect("connected");
        near.set_nonblocking(true).expect("a socket");
        (near, far)
    }

    fn frames(inbox: &mut Inbox, near: &mut TcpStream, poll: &mut Poll, until: usize) -> Vec<Vec<u8>> {
        let mut found = Vec::new();
        while found.len() < until {
            poll.wait(Duration::from_secs(5)).expect("a socket");
            while inbox.fill(near).expect("readable").expect("not closed") {
                take(inbox, &mut found);
            }
            take(inbox, &mut found);
        }
        found
    }

    fn take(inbox: &mut Inbox, found: &mut Vec<Vec<u8>>) {
        while let Some(at) = inbox.next_frame().expect("whole frames") {
            found.push(inbox.frame(at).to_vec());
        }
    }

    #[test]
    fn frames_come_out_whole_however_they_arrive() {
        let (mut near, mut far) = pair();
        let mut poll = Poll::new().expect("a Linux kernel");
        poll.add(&near, 0).expect("a socket");
        let sent: Vec<Vec<u8>> = [0usize, 1, 7, 100, 5000, 3, 65_536, 2]
            .into_iter()
            .map(|length| (0..length).map(|byte| byte as u8).collect())
            .collect();
        let mut bytes = Vec::new();
        for frame in &sent {
            bytes.extend((frame.len() as u32).to_be_bytes());
            bytes.extend(frame);
        }
        let writer = std::thread::spawn(move || {
            for piece in bytes.chunks(997) {
                far.write_all(piece).expect("connected");
            }
            far
        });
        let mut inbox = Inbox::new(16);
        assert_eq!(frames(&mut inbox, &mut near, &mut poll, sent.len()), sent);
        drop(writer.join().expect("written"));
        poll.wait(Duration::from_secs(5)).expect("a socket");
        assert_eq!(inbox.fill(&mut near).expect("readable"), None, "the peer is gone");
    }

    #[test]
    fn a_frame_of_absurd_length_is_refused() {
        let (mut near, mut far) = pair();
        let mut poll = Poll::new().expect("a Linux kernel");
        poll.add(&near, 0).expect("a socket");
        far.write_all(b"HTTP/1.1 400").expect("connected");
        let mut inbox = Inbox::new(64);
        while inbox.filled.len() < 4 {
            poll.wait(Duration::from_secs(5)).expect("a socket");
            inbox.fill(&mut near).expect("readable");
        }
        assert_eq!(inbox.next_frame(), Err(Malformed::FrameLengthOutOfRange(0x4854_5450)));
    }
}
