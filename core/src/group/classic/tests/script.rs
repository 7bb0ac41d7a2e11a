//! The player of transcripts.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use bytes::Bytes;

use crate::boundary::ReplyTo;
use crate::group::classic::Group;
use crate::group::protocol::ConsumerProtocolSubscription;
use crate::group::record::{Record, Value};
use crate::group::testing::{Rig, client};
use crate::group::{Outcome, Timers};
use crate::ids::Offset;
use crate::time::Timestamp;
use crate::wire::heartbeat::HeartbeatRequest;
use crate::wire::join_group::{JoinGroupRequest, JoinGroupRequestProtocol, JoinGroupResponse};
use crate::wire::leave_group::{LeaveGroupRequest, LeaveGroupResponse, MemberIdentity};
use crate::wire::sync_group::{SyncGroupRequest, SyncGroupRequestAssignment};
use crate::wire::{ErrorCode, Response, Str};

/// Plays a script; what happens must be what it says.
#[track_caller]
pub(super) fn play(script: &str) {
    let expected: Vec<&str> = script.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let mut stage = Stage::new();
    for command in expected.iter().filter(|line| !line.starts_with('-')) {
        stage.command(command);
    }
    let happened = stage.transcript;
    assert!(happened.lines().eq(expected), "this happened:\n{happened}");
}

/// A client, as far as it remembers.
#[derive(Default)]
struct Client {
    id: Str,
    instance: Option<Str>,
    generation: i32,
    protocol: Str,
    protocol_type: Str,
}

struct Stage {
    rig: Rig,
    group: Group,
    clients: BTreeMap<String, Client>,
    /// What member ids are called in the transcript.
    names: BTreeMap<Str, String>,
    /// Who asked.
    askers: BTreeMap<u64, String>,
    /// The log.
    log: Vec<(Record, Timestamp)>,
    transcript: String,
}

impl Stage {
    fn new() -> Stage {
        Stage {
            rig: Rig::new(),
            group: Group::new(Str::from_static("g")),
            clients: BTreeMap::new(),
            names: BTreeMap::new(),
            askers: BTreeMap::new(),
            log: Vec::new(),
            transcript: String::new(),
        }
    }

    fn command(&mut self, line: &str) {
        writeln!(self.transcript, "{line}").expect("a String takes what is written");
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            [who, "joins", ref how @ ..] => {
                self.join(who, how);
                if self.settle_unless(who, ErrorCode::MemberIdRequired) {
                    let again: Vec<&str> = how.iter().copied().filter(|word| *word != "anew").collect();
                    self.join(who, &again);
                }
            }
            [who, "asks", ref how @ ..] => self.join(who, how),
            [who, "syncs", ref how @ ..] => self.sync(who, how),
            [who, "beats", ref how @ ..] => self.beat(who, how),
            [who, "commits", ref how @ ..] => self.commit(who, how),
            [who, "leaves", ref how @ ..] => self.leave(who, how),
            ["remove", ref names @ ..] => {
                let identity = |name: &&str| MemberIdentity {
                    group_instance_id: Some(Str::from(*name)),
                    ..MemberIdentity::default()
                };
                let members = names.iter().map(identity).collect();
                self.leave_with("operator", 5, LeaveGroupRequest { members, ..LeaveGroupRequest::default() });
            }
            [time, "pass"] => self.pass(duration(time)),
            ["set", "max", size] => self.rig.settings.group_max_size = size.parse().expect("a number"),
            ["set", "record", bytes] => self.rig.settings.record_bytes_max = bytes.parse().expect("a number"),
            ["set", "delay", time] => self.rig.settings.group_initial_rebalance_delay = duration(time),
            [ref who @ .., "have", "joined"] => self.untold(|stage| stage.make_joined(who)),
            [ref who @ .., "are", "stable"] => self.untold(|stage| stage.make_stable(who)),
            ["the", "log", "stands", "still"] => self.rig.log.committed = Offset(0),
            ["the", "log", "moves", "on"] => self.rig.log.committed = Offset(i64::MAX),
            ["reload"] => self.reload(),
            ["describe"] => self.describe(),
            _ => panic!("no such command: {line}"),
        }
        self.settle();
        self.group.invariants(&self.rig.timers);
    }

    fn client(&mut self, who: &str) -> &mut Client {
        self.clients.entry(who.to_owned()).or_default()
    }

    fn ask(&mut self, who: &str, version: i16) -> ReplyTo {
        let to = self.rig.ask(version);
        self.askers.insert(to.sequence, who.to_owned());
        to
    }

    fn join(&mut self, who: &str, how: &[&str]) {
        let topics = option(how, "to").unwrap_or("t").split(',').map(Str::from).collect();
        let subscription = ConsumerProtocolSubscription { topics, ..ConsumerProtocolSubscription::default() };
        let metadata = subscription.to_bytes(3);
        let protocol = |name: &str| JoinGroupRequestProtocol { name: Str::from(name), metadata: metadata.clone() };
        let names = option(how, "with").unwrap_or("range").split(',').filter(|name| *name != "nothing");
        let asker = self.client(who);
        if how.contains(&"anew") {
            asker.id = Str::EMPTY;
        }
        asker.instance = option(how, "named").map(Str::from).or(asker.instance.take());
        let request = JoinGroupRequest {
            group_id: Str::from("g"),
            session_timeout_ms: milliseconds(option(how, "session").unwrap_or("10s")),
            rebalance_timeout_ms: milliseconds(option(how, "rebalance").unwrap_or("60s")),
            member_id: asker.id.clone(),
            group_instance_id: asker.instance.clone(),
            protocol_type: Str::from(option(how, "type").unwrap_or("consumer")),
            protocols: names.map(protocol).collect(),
            reason: None,
        };
        let to = self.ask(who, version(how, 9));
        self.group.join(&mut self.rig.ctx(), to, &client(who), request);
    }

    fn sync(&mut self, who: &str, how: &[&str]) {
        let assignments = how.iter().filter_map(|word| word.split_once('='));
        let assignments = assignments.map(|(member, assignment)| SyncGroupRequestAssignment {
            member_id: self
                .names
                .iter()
                .find(|(_, name)| *name == member)
                .map_or(Str::from(member), |(id, _)| id.clone()),
            assignment: Bytes::from(assignment.to_owned()),
        });
        let assignments = assignments.collect();
        let asker = self.client(who);
        let said = |name, known: &Str| match option(how, name) {
            Some("null") => None,
            other => Some(other.map_or_else(|| known.clone(), Str::from)),
        };
        let request = SyncGroupRequest {
            generation_id: generation(how, asker.generation),
            member_id: asker.id.clone(),
            group_instance_id: asker.instance.clone(),
            protocol_type: said("type", &asker.protocol_type),
            protocol_name: said("protocol", &asker.protocol),
            assignments,
            ..SyncGroupRequest::default()
        };
        let to = self.ask(who, version(how, 5));
        self.group.sync(&mut self.rig.ctx(), to, request);
    }

    fn beat(&mut self, who: &str, how: &[&str]) {
        let asker = self.client(who);
        let request = HeartbeatRequest {
            generation_id: generation(how, asker.generation),
            member_id: asker.id.clone(),
            group_instance_id: asker.instance.clone(),
            ..HeartbeatRequest::default()
        };
        let to = self.ask(who, 4);
        self.group.heartbeat(&mut self.rig.ctx(), to, request);
    }

    fn commit(&mut self, who: &str, how: &[&str]) {
        let asker = self.client(who);
        let (id, instance, at) = (asker.id.clone(), asker.instance.clone(), generation(how, asker.generation));
        let admitted = self.group.admit_commit(&mut self.rig.ctx(), &id, instance.as_ref(), at);
        self.say(&format!("{who}: {}", admitted.err().unwrap_or_default().name()));
    }

    fn leave(&mut self, who: &str, how: &[&str]) {
        let asker = self.client(who);
        let (member_id, group_instance_id) = (asker.id.clone(), asker.instance.clone());
        let request = LeaveGroupRequest {
            member_id: member_id.clone(),
            members: vec![MemberIdentity { member_id, group_instance_id, reason: None }],
            ..LeaveGroupRequest::default()
        };
        self.leave_with(who, version(how, 5), request);
    }

    fn leave_with(&mut self, who: &str, version: i16, request: LeaveGroupRequest) {
        let to = self.ask(who, version);
        self.group.leave(&mut self.rig.ctx(), to, request);
    }

    fn pass(&mut self, time: Duration) {
        let end = self.rig.now.instant + time;
        while let Some(at) = self.rig.timers.next().filter(|at| *at <= end) {
            let now = self.rig.now.instant;
            self.rig.pass(at - now);
            let timer = self.rig.due().expect("it is due");
            self.group.timer(&mut self.rig.ctx(), timer.kind);
            self.settle();
            self.group.invariants(&self.rig.timers);
        }
        let now = self.rig.now.instant;
        self.rig.pass(end - now);
    }

    /// Does what the transcript says nothing of.
    fn untold(&mut self, act: impl FnOnce(&mut Stage)) {
        let told = self.transcript.len();
        act(self);
        self.settle();
        self.transcript.truncate(told);
    }

    fn make_joined(&mut self, who: &[&str]) {
        for who in who {
            let (name, how) = match who.split_once('@') {
                Some((name, instance)) => (name, vec!["named", instance]),
                None => (*who, vec![]),
            };
            self.join(name, &how);
            if self.settle_unless(name, ErrorCode::MemberIdRequired) {
                self.join(name, &how);
            }
        }
        self.pass(2 * self.rig.settings.group_initial_rebalance_delay);
    }

    /// The first one leads and assigns to everybody its own name in capitals.
    fn make_stable(&mut self, who: &[&str]) {
        self.make_joined(who);
        let names: Vec<&str> = who.iter().map(|name| name.split('@').next().expect("a name")).collect();
        let assignments: Vec<String> = names.iter().map(|name| format!("{name}={}", name.to_uppercase())).collect();
        for name in names {
            self.sync(name, &assignments.iter().map(String::as_str).collect::<Vec<_>>());
        }
    }

    fn reload(&mut self) {
        let resigned = self.group.resign(ErrorCode::NotCoordinator);
        self.rig.out.replies.extend(resigned);
        self.settle();
        self.rig.timers = Timers::default();
        self.group = Group::new(Str::from_static("g"));
        for (record, written) in &self.log {
            self.group.replay(record.value.as_ref(), *written);
        }
        self.group.begin(&mut self.rig.ctx());
    }

    fn describe(&mut self) {
        let group = self.group.describe(6);
        let mut text = format!("{} {} {}", group.group_state, self.group.generation(), group.protocol_data);
        for member in &group.members {
            write!(text, " {}={}", self.called(&member.member_id), shown(&member.member_assignment)).expect("written");
        }
        if let Some(topics) = self.group.subscribed() {
            write!(text, ", subscribed to {topics:?}").expect("written");
        }
        self.say(&text);
    }

    /// Whether the last answer is this one to this client; then it is not told of.
    fn settle_unless(&mut self, who: &str, code: ErrorCode) -> bool {
        let Some((to, Response::JoinGroup(response))) = self.rig.out.replies.last() else { return false };
        if response.error_code != code.code() || self.askers[&to.sequence] != who {
            return false;
        }
        let response = response.clone();
        self.rig.out.replies.pop();
        self.learn(who, &response);
        true
    }

    /// Tells what was decided.
    fn settle(&mut self) {
        let Outcome { records, replies, .. } = std::mem::take(&mut self.rig.out);
        for (to, response) in &replies {
            if let Response::JoinGroup(response) = response {
                self.learn(&self.askers[&to.sequence].clone(), response);
            }
        }
        for record in records {
            let text = self.record(&record);
            self.say(&text);
            self.log.push((record, self.rig.now.wall));
        }
        for (to, response) in replies {
            let who = self.askers.remove(&to.sequence).expect("a request is answered once");
            let text = match response {
                Response::JoinGroup(response) => self.joined(&response),
                Response::SyncGroup(response) => match code(response.error_code) {
                    ErrorCode::None => format!("assigned {}", shown(&response.assignment)),
                    code => code.name().to_owned(),
                },
                Response::Heartbeat(response) => code(response.error_code).name().to_owned(),
                Response::LeaveGroup(response) => left(&response),
                other => panic!("{other:?}"),
            };
            self.say(&format!("{who}: {text}"));
        }
    }

    fn learn(&mut self, who: &str, response: &JoinGroupResponse) {
        if !matches!(code(response.error_code), ErrorCode::None | ErrorCode::MemberIdRequired) {
            return;
        }
        let earlier = self.names.values().filter(|name| name.trim_end_matches('\'') == who).count();
        self.names.entry(response.member_id.clone()).or_insert_with(|| format!("{who}{}", "'".repeat(earlier)));
        let client = self.client(who);
        client.id = response.member_id.clone();
        client.generation = response.generation_id;
        client.protocol = response.protocol_name.clone().unwrap_or_default();
        client.protocol_type = response.protocol_type.clone().unwrap_or_default();
    }

    fn joined(&self, response: &JoinGroupResponse) -> String {
        if response.error_code != 0 {
            return code(response.error_code).name().to_owned();
        }
        let mut text = format!("generation {} ", response.generation_id);
        let protocol = response.protocol_name.as_deref().unwrap_or("no protocol");
        if response.leader == response.member_id {
            let members = response.members.iter().map(|member| self.called(&member.member_id)).collect::<Vec<_>>();
            write!(text, "{protocol}, leads {}", members.join(" ")).expect("written");
        } else {
            write!(text, "{protocol}, follows {}", self.called(&response.leader)).expect("written");
        }
        if response.skip_assignment { text + ", assigns nothing" } else { text }
    }

    fn record(&self, record: &Record) -> String {
        let Some(Value::Group(value)) = &record.value else { return "record: tombstone".to_owned() };
        let mut text = format!("record: {}", value.generation);
        match (&value.protocol, &value.leader) {
            (Some(protocol), Some(leader)) => write!(text, " {protocol} led by {}", self.called(leader)),
            _ => write!(text, " nobody"),
        }
        .expect("written");
        for member in &value.members {
            write!(text, " {}={}", self.called(&member.member_id), shown(&member.assignment)).expect("written");
        }
        text
    }

    fn called(&self, id: &Str) -> String {
        self.names.get(id).cloned().unwrap_or_else(|| "somebody".to_owned())
    }

    fn say(&mut self, text: &str) {
        writeln!(self.transcript, "- {text}").expect("a String takes what is written");
    }
}

fn left(response: &LeaveGroupResponse) -> String {
    let members = response.members.iter().map(|member| {
        let name = member.group_instance_id.as_ref().map_or(String::new(), |name| format!("{name} "));
        name + code(member.error_code).name()
    });
    let members: Vec<String> = members.collect();
    if members.is_empty() { code(response.error_code).name().to_owned() } else { members.join(", ") }
}

fn code(number: i16) -> ErrorCode {
    ErrorCode::from_code(number).expect("one of Kafka's")
}

fn shown(assignment: &Bytes) -> String {
    if assignment.is_empty() { "nothing".to_owned() } else { String::from_utf8_lossy(assignment).into_owned() }
}

fn option<'a>(how: &[&'a str], name: &str) -> Option<&'a str> {
    how.iter().position(|word| *word == name).and_then(|at| how.get(at + 1)).copied()
}

fn version(how: &[&str], newest: i16) -> i16 {
    how.iter().find_map(|word| word.strip_prefix('v')?.parse().ok()).unwrap_or(newest)
}

fn generation(how: &[&str], known: i32) -> i32 {
    option(how, "generation").map_or(known, |number| number.parse().expect("a number"))
}

fn duration(text: &str) -> Duration {
    if let Some(minutes) = text.strip_suffix('m') {
        return Duration::from_secs(60 * minutes.parse::<u64>().expect("minutes"));
    }
    Duration::from_secs_f64(text.strip_suffix('s').expect("seconds").parse().expect("seconds"))
}

fn milliseconds(text: &str) -> i32 {
    match text.strip_suffix("ms") {
        Some(ms) => ms.parse().expect("milliseconds"),
        None => i32::try_from(duration(text).as_millis()).expect("a short time"),
    }
}
