//! Who sends what no sound client sends: bytes that are no request, requests that lie about themselves, halves of
//! requests, and connections that want nothing.
//!
//! The broker may close the connection, or answer with a well-formed error. An answer that cannot be read, that nobody
//! asked for, or that calls garbage a success is [`What::Broken`]. No answer at all is not: the network may have eaten
//! it, and every misdeed ends by its own timeout.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use chronik_core::time::Instant;
use chronik_core::wire::{ApiKey, decode_response};

use super::garbage::{Answer, Misdeed, misdeed};
use super::schedule::Schedule;
use super::wire::Alarm;
use super::{Client, ClientNow, Happened, Link, Wanted};
use crate::history::What;
use crate::plan::{Action, Operation, Plan};

/// A misdeed is over after this, whatever came of it.
const PATIENCE: Duration = Duration::from_secs(2);

/// A hostile client.
pub(super) struct Hostile {
    index: u32,
    /// How many brokers there are.
    nodes: u32,
    topic: String,
    schedule: Schedule,
    alarm: Alarm,
    links: u32,
    doing: Option<Doing>,
    is_done: bool,
}

/// A misdeed under way.
struct Doing {
    operation: u32,
    until: Instant,
    misdeed: Misdeed,
    /// Its connections, and whether they are made.
    links: Vec<(Link, bool)>,
    arrived: BytesMut,
}

impl Hostile {
    pub(super) fn new(plan: &Plan, index: u32, operations: &[Operation]) -> Hostile {
        Hostile {
            index,
            nodes: plan.nodes(),
            topic: plan.topics.first().map_or("none", |topic| topic.name.as_str()).to_owned(),
            schedule: Schedule::new(operations),
            alarm: Alarm::default(),
            links: 0,
            doing: None,
            is_done: false,
        }
    }

    fn begin(&mut self, now: ClientNow, wanted: &mut Vec<Wanted>) {
        while self.doing.is_none() {
            let Some((operation, due)) = self.schedule.due(now) else { return };
            let Action::Misbehave { which } = due.what else {
                wanted.push(Wanted::Record(Some(operation), What::Finished { is_ok: false, code: None }));
                self.schedule.go_on();
                continue;
            };
            self.schedule.go_on();
            let misdeed = misdeed(which, operation, &self.topic, now.wall);
            let links = (0..misdeed.connections).map(|link| (Link(self.links + link), false)).collect::<Vec<_>>();
            self.links += misdeed.connections;
            wanted.extend(links.iter().map(|&(link, _)| Wanted::Connect(link, 1 + link.0 % self.nodes)));
            let until = now.instant + PATIENCE;
            self.doing = Some(Doing { operation, until, misdeed, links, arrived: BytesMut::new() });
        }
    }

    /// Ends the misdeed and all of its connections.
    fn finish(&mut self, is_ok: bool, wanted: &mut Vec<Wanted>) {
        let Some(doing) = self.doing.take() else { return };
        for (link, is_connected) in doing.links {
            wanted.push(Wanted::Close(link));
            if is_connected {
                let unanswered = u32::try_from(doing.misdeed.answers.len()).expect("few");
                wanted.push(Wanted::Record(Some(doing.operation), What::Disconnected { unanswered }));
            }
        }
        wanted.push(Wanted::Record(Some(doing.operation), What::Finished { is_ok, code: None }));
    }

    fn take(&mut self, happened: Happened, wanted: &mut Vec<Wanted>) {
        let Some(doing) = &mut self.doing else { return };
        let place = |link: Link, doing: &Doing| doing.links.iter().position(|&(known, _)| known == link);
        match happened {
            Happened::Connected(link) => {
                let Some(place) = place(link, doing) else { return };
                doing.links[place].1 = true;
                wanted.push(Wanted::Record(Some(doing.operation), What::Connected));
                wanted.extend(doing.misdeed.bytes.iter().map(|bytes| Wanted::Send(link, bytes.clone())));
                if doing.misdeed.leaves_at_once && doing.links.iter().all(|&(_, is_connected)| is_connected) {
                    self.finish(true, wanted);
                }
            }
            Happened::Refused(link) | Happened::Lost(link) => {
                let Some(place) = place(link, doing) else { return };
                let (_, was_connected) = doing.links.remove(place);
                if was_connected {
                    let unanswered = u32::try_from(doing.misdeed.answers.len()).expect("few");
                    wanted.push(Wanted::Record(Some(doing.operation), What::Disconnected { unanswered }));
                }
                if doing.links.is_empty() {
                    self.finish(was_connected, wanted);
                }
            }
            // Of several connections nobody reads anything.
            Happened::Received(..) if doing.misdeed.connections > 1 => {}
            Happened::Received(link, bytes) if place(link, doing).is_some() => match doing.receive(&bytes) {
                Ok(()) if doing.misdeed.answers.is_empty() && !doing.misdeed.waits => self.finish(true, wanted),
                Ok(()) => {}
                Err(what) => {
                    wanted.push(Wanted::Record(Some(doing.operation), What::Broken { what }));
                    self.finish(false, wanted);
                }
            },
            _ => {}
        }
    }
}

impl Doing {
    fn receive(&mut self, bytes: &Bytes) -> Result<(), String> {
        self.arrived.extend_from_slice(bytes);
        while let Some(size) = self.arrived.first_chunk::<4>() {
            let size = i32::from_be_bytes(*size);
            let size = usize::try_from(size).map_err(|_| format!("an answer announces {size} bytes"))?;
            if self.arrived.len() < 4 + size {
                break;
            }
            self.arrived.advance(4);
            let frame = self.arrived.split_to(size).freeze();
            check(frame, &mut self.misdeed.answers).map_err(|what| format!("{}: {what}", self.misdeed.name))?;
        }
        Ok(())
    }
}

/// Holds an answer against what may come.
fn check(frame: Bytes, answers: &mut VecDeque<Answer>) -> Result<(), String> {
    let Some(Answer { api_key, version, correlation_id, must_fail }) = answers.pop_front() else {
        return Err(format!("an answer of {} bytes that nobody asked for", frame.len()));
    };
    let decoded = decode_response(api_key, version, frame);
    let (id, response) = decoded.map_err(|error| format!("the answer to {api_key} cannot be read: {error}"))?;
    if id != correlation_id {
        return Err(format!("the answer to request {correlation_id} says that it is the one to {id}"));
    }
    // Every answer that these misdeeds can have tells its error under this name, and no other number.
    let text = format!("{response:?}");
    if must_fail && (!text.contains("error_code: ") || text.contains("error_code: 0")) {
        let what =
            if api_key == ApiKey::Produce { "garbage is taken" } else { "nonsense is answered as if it were none" };
        return Err(format!("{what}: {text}"));
    }
    Ok(())
}

impl Client for Hostile {
    fn step(&mut self, now: ClientNow, happened: Happened, wanted: &mut Vec<Wanted>) {
        self.alarm.pass(now);
        self.schedule.take(&happened);
        self.take(happened, wanted);
        if self.doing.as_ref().is_some_and(|doing| doing.until <= now.instant) {
            self.finish(true, wanted);
        }
        self.begin(now, wanted);
        if !self.is_done && self.doing.is_none() && self.schedule.is_over() {
            self.is_done = true;
            wanted.push(Wanted::Record(None, What::Done));
        }
        let until = self.doing.as_ref().map(|doing| doing.until);
        let due = self.schedule.wake(now).filter(|_| self.doing.is_none());
        self.alarm.set(now, until.or(due), wanted);
    }

    fn is_done(&self) -> bool {
        self.is_done
    }

    fn describe(&self) -> String {
        let doing = self.doing.as_ref().map_or("nothing", |doing| doing.misdeed.name);
        format!("hostile {}: {}, does {doing}", self.index, self.schedule.describe())
    }
}
