//! What the nodes of a cluster do about metadata at its largest: several of them in memory, whose messages arrive at once.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use chronik_core::boundary::{Done, Effect, Input, Neighbours, Outbox, PeerInput, ReplyTo, Request};
use chronik_core::ids::{ConnId, ListenerId, NodeId, Uuid};
use chronik_core::node::{ClusterOptions, Node, NodeOptions};
use chronik_core::peer::{Acceptor, Dialler, Message};
use chronik_core::time::{self, Now, Timestamp};
use chronik_core::wire::alter_partition_reassignments::{
    AlterPartitionReassignmentsRequest, ReassignablePartition, ReassignableTopic,
};
use chronik_core::wire::create_partitions::{CreatePartitionsRequest, CreatePartitionsTopic};
use chronik_core::wire::elect_leaders::ElectLeadersRequest;
use chronik_core::wire::list_partition_reassignments::ListPartitionReassignmentsRequest;
use chronik_core::wire::{self, Response, Writer};

use super::files::Memory;
use super::requests::{alter, create, delete, produce};
use super::{carry_out, cpu_time, node_options, print};

/// How often each thing is done; the median counts.
const RUNS: usize = 5;

const PARTITIONS: i32 = 10_000;
const LARGE: &str = "large";
/// The topic whose log is cut, and how many batches of it are.
const CUT: &str = "cut";
const BATCHES: usize = 100_000;

/// The longest time that anything is waited for.
const PATIENCE: Duration = Duration::from_secs(120);

/// One node.
#[derive(Default)]
struct Member {
    /// `None` while it does not run.
    node: Option<Node>,
    files: Memory,
    starts: u8,
    neighbours: Option<Arc<Neighbours>>,
    steps: Vec<Duration>,
}

/// All of them.
struct Cluster {
    members: BTreeMap<i32, Member>,
    now: Now,
    lines: BTreeMap<(i32, i32), (Dialler, Acceptor)>,
    said: VecDeque<(i32, i32, Message)>,
    /// Who hears nobody, and is heard by nobody.
    apart: BTreeSet<i32>,
    asked: u64,
    answers: BTreeMap<u64, Response>,
    /// Who has taken the office of the controller last.
    controller: i32,
    is_active: BTreeSet<i32>,
}

impl Cluster {
    /// Three nodes, one of which decides.
    fn new() -> Cluster {
        let now = Now { instant: time::Instant::default(), wall: Timestamp(1_700_000_000_000) };
        let mut cluster = Cluster {
            members: BTreeMap::new(),
            now,
            lines: BTreeMap::new(),
            said: VecDeque::new(),
            apart: BTreeSet::new(),
            asked: 0,
            answers: BTreeMap::new(),
            controller: 0,
            is_active: BTreeSet::new(),
        };
        (1..=3).for_each(|number| cluster.start(number));
        cluster.pass_until(|cluster| cluster.is_active.len() == 3);
        cluster
    }

    fn start(&mut self, number: i32) {
        let others = (1..=3).filter(|other| *other != number);
        let address = |number: i32| (format!("node{number}").as_str().into(), 9093);
        let options = NodeOptions {
            node_id: NodeId(number),
            directory_id: Uuid([number as u8; 16]),
            cluster_id: "".into(),
            cluster: Some(ClusterOptions {
                raft_address: address(number),
                peers: others.map(|other| (NodeId(other), address(other))).collect(),
                bootstrap: number <= 3,
            }),
            ..node_options()
        };
        let member = self.members.entry(number).or_default();
        member.starts += 1;
        let seed = [member.starts * 16 + number as u8; 32];
        let (node, _) = Node::recover(options, &member.files, seed, self.now).expect("sound files, or none");
        (member.node, member.neighbours) = (Some(node), None);
        self.carry_out(number, Outbox::default());
    }

    /// The process ends at once.
    fn kill(&mut self, number: i32) {
        let member = self.members.get_mut(&number).expect("a member");
        (member.node, member.neighbours) = (None, None);
        self.is_active.remove(&number);
        self.unlink(number);
    }

    fn cut_off(&mut self, number: i32) {
        self.apart.insert(number);
        self.unlink(number);
    }

    fn unlink(&mut self, number: i32) {
        let gone: Vec<(i32, i32)> =
            self.lines.keys().copied().filter(|(from, to)| *from == number || *to == number).collect();
        for (from, to) in gone {
            self.lines.remove(&(from, to));
            self.step(from, Input::Peer(Box::new(PeerInput::Disconnected(NodeId(to)))));
        }
    }

    fn step(&mut self, number: i32, input: Input) {
        let mut out = Outbox::default();
        self.step_into(number, input, &mut out);
        self.carry_out(number, out);
    }

    fn step_into(&mut self, number: i32, input: Input, out: &mut Outbox) {
        let now = self.now;
        let member = self.members.get_mut(&number).expect("a member");
        let Some(node) = &mut member.node else { return };
        let begun = cpu_time();
        node.step(now, input, out);
        member.steps.push(cpu_time() - begun);
    }

    fn carry_out(&mut self, number: i32, mut out: Outbox) {
        loop {
            let now = self.now;
            let member = self.members.get_mut(&number).expect("a member");
            let Some(node) = &mut member.node else { return };
            node.turn(now, &mut out);
            if out.0.is_empty() {
                return;
            }
            for effect in std::mem::take(&mut out.0) {
                let member = self.members.get_mut(&number).expect("a member");
                match effect {
                    Effect::Disk(op) => {
                        let done: Done = carry_out(&member.files, op);
                        self.step_into(number, Input::Disk(done), &mut out);
                    }
                    Effect::Reply { to, response } => {
                        self.answers.extend(response.map(|response| (to.sequence, response)));
                    }
                    Effect::Neighbours(neighbours) => member.neighbours = Some(neighbours),
                    Effect::Say { to, message } => self.said.push_back((number, to.0, *message)),
                    Effect::Log(line) if line.text.contains("this node is the controller from now on") => {
                        self.controller = number;
                    }
                    Effect::Log(line) if number == self.controller => {
                        let unfenced = line.text.strip_prefix("node ").and_then(|text| text.split_once(" is unfenced"));
                        self.is_active.extend(unfenced.and_then(|(node, _)| node.parse::<i32>().ok()));
                    }
                    Effect::Fatal(why) => panic!("node {number}: {why}"),
                    _ => {}
                }
            }
        }
    }

    /// Has connections made that are wanted.
    fn link(&mut self) {
        let mut wanted = Vec::new();
        for (&from, member) in &self.members {
            let Some(mine) = &member.neighbours else { continue };
            for (&NodeId(to), neighbour) in &mine.peers {
                let theirs = self.members.get(&to).and_then(|member| member.neighbours.clone());
                let is_open = self.apart.contains(&from) == self.apart.contains(&to);
                if let Some(theirs) = theirs.filter(|_| is_open && !self.lines.contains_key(&(from, to))) {
                    let dialler = Dialler::new(mine.me.clone(), NodeId(to), neighbour.directory_id);
                    wanted.push((from, to, theirs, dialler));
                }
            }
        }
        for (from, to, theirs, mut dialler) in wanted {
            let (mut acceptor, mut writer, mut heard) = (Acceptor::new(), Writer::new(), Vec::new());
            let hello = dialler.hello(&mut writer).concat();
            if acceptor.receive(&hello, &theirs, &mut heard).is_err() {
                continue;
            }
            let welcome = acceptor.answer(&mut writer).expect("a greeting is answered").concat();
            let Ok(Some(connected)) = dialler.receive(&welcome) else { continue };
            self.step(from, Input::Peer(Box::new(connected)));
            let begun = dialler.begun(&mut writer).concat();
            acceptor.receive(&begun, &theirs, &mut heard).expect("it may talk");
            self.lines.insert((from, to), (dialler, acceptor));
            heard.into_iter().for_each(|heard| self.step(to, Input::Peer(Box::new(heard))));
        }
    }

    /// Delivers what was said.
    fn settle(&mut self) {
        loop {
            self.link();
            let Some((from, to, message)) = self.said.pop_front() else { return };
            let theirs = self.members.get(&to).and_then(|member| member.neighbours.clone());
            let (Some((dialler, acceptor)), Some(theirs)) = (self.lines.get_mut(&(from, to)), theirs) else { continue };
            let (mut frames, mut heard) = (Vec::new(), Vec::new());
            dialler.say(message, &mut Writer::new(), &mut frames);
            acceptor.receive(&frames.concat(), &theirs, &mut heard).expect("sound frames");
            heard.into_iter().for_each(|heard| self.step(to, Input::Peer(Box::new(heard))));
        }
    }

    /// Lets time pass, deadline by deadline, until `until` or for long. Returns whether it was for that.
    fn pass_while(&mut self, most: Duration, mut goes_on: impl FnMut(&Cluster) -> bool) -> bool {
        let end = self.now.instant + most;
        loop {
            self.settle();
            if !goes_on(self) {
                return true;
            }
            let due = |(number, member): (&i32, &Member)| Some((member.node.as_ref()?.deadline()?.0, *number));
            let next = self.members.iter().filter_map(due).min().filter(|(at, _)| *at <= end);
            let Some((at, number)) = next else { break };
            self.advance_to(at.max(self.now.instant));
            self.step(number, Input::Deadline);
        }
        self.advance_to(end);
        false
    }

    fn advance_to(&mut self, at: time::Instant) {
        let ms = i64::try_from((at - self.now.instant).as_millis()).expect("a short time");
        self.now = Now { instant: at, wall: Timestamp(self.now.wall.0 + ms) };
    }

    fn pass_until(&mut self, is_so: impl Fn(&Cluster) -> bool) {
        assert!(self.pass_while(PATIENCE, |cluster| !is_so(cluster)), "it does not come about");
    }

    fn pass(&mut self, time: Duration) {
        self.pass_while(time, |_| true);
    }

    /// Asks a node, and has all of them do what follows.
    fn ask(&mut self, number: i32, version: i16, request: impl Into<wire::Request>) -> Response {
        self.input(number, version, Request::Other(Box::new(request.into())))
    }

    fn input(&mut self, number: i32, version: i16, request: Request) -> Response {
        let sequence = self.asked;
        self.asked += 1;
        let to = ReplyTo { conn: ConnId(1), sequence, version, listener: ListenerId(0) };
        self.step(number, Input::Request { to, request });
        self.pass_until(|cluster| cluster.answers.contains_key(&sequence));
        self.answers.remove(&sequence).expect("it was found")
    }

    /// Has a topic made whose partitions are on all nodes.
    fn create(&mut self, name: &str, partitions: i32) {
        let mut request = create(&[(name.to_owned(), partitions)]);
        request.topics[0].replication_factor = 3;
        request.timeout_ms = 60_000;
        let Response::CreateTopics(answer) = self.ask(self.controller, 7, request) else { panic!("another answer") };
        assert_eq!(answer.topics[0].error_code, 0, "{:?}", answer.topics[0].error_message);
    }

    fn delete(&mut self, name: &str) {
        let request =
            chronik_core::wire::delete_topics::DeleteTopicsRequest { timeout_ms: 60_000, ..delete(&[name.to_owned()]) };
        self.ask(self.controller, 6, request);
    }

    /// Has all partitions of the large topic be on these nodes.
    fn reassign(&mut self, replicas: &[i32]) {
        let one = |partition_index| ReassignablePartition { partition_index, replicas: Some(replicas.to_vec()) };
        let topics = vec![ReassignableTopic { name: LARGE.into(), partitions: (0..PARTITIONS).map(one).collect() }];
        let request =
            AlterPartitionReassignmentsRequest { topics, timeout_ms: 60_000, allow_replication_factor_change: true };
        let Response::AlterPartitionReassignments(answer) = self.ask(self.controller, 1, request) else {
            panic!("another answer")
        };
        let refused = answer.responses[0].partitions.iter().find(|one| one.error_code != 0);
        assert!(refused.is_none(), "{refused:?}");
    }

    /// Measures what `work` does, each time after what `prepare` does: where things are decided, and elsewhere.
    fn measure(
        &mut self,
        often: usize,
        what: &str,
        mut prepare: impl FnMut(&mut Cluster, usize),
        mut work: impl FnMut(&mut Cluster, usize),
    ) {
        let (mut here, mut there) = (Vec::new(), Vec::new());
        for run in 0..often {
            prepare(self, run);
            self.pass(Duration::from_secs(2));
            self.members.values_mut().for_each(|member| member.steps.clear());
            let controller = self.controller;
            work(self, run);
            self.pass(Duration::from_secs(1));
            for (&number, member) in &self.members {
                let of = if number == controller { &mut here } else { &mut there };
                let longest = member.steps.iter().max().copied().unwrap_or_default();
                of.push((longest, member.steps.len(), member.steps.iter().sum::<Duration>()));
            }
        }
        print(&format!("{what}: where it is decided"), &mut here);
        print(&format!("{what}: elsewhere"), &mut there);
    }
}

pub(crate) fn measure_all() {
    let nothing = |_: &mut Cluster, _: usize| {};
    let mut cluster = Cluster::new();
    let name = |run: usize| format!("made-{run}");
    cluster.measure(RUNS, "CreateTopics, 10,000 x 3", nothing, |cluster, run| cluster.create(&name(run), PARTITIONS));
    cluster.measure(RUNS, "DeleteTopics, 10,000 x 3", nothing, |cluster, run| cluster.delete(&name(run)));
    cluster.measure(
        RUNS,
        "CreatePartitions, 9,999 x 3",
        |cluster, run| cluster.create(&name(run + 100), 1),
        |cluster, run| {
            let topic = CreatePartitionsTopic {
                name: name(run + 100).as_str().into(),
                count: PARTITIONS,
                ..CreatePartitionsTopic::default()
            };
            let request = CreatePartitionsRequest { topics: vec![topic], timeout_ms: 60_000, validate_only: false };
            cluster.ask(cluster.controller, 3, request);
        },
    );
    (0..RUNS).for_each(|run| cluster.delete(&name(run + 100)));
    cluster.create(LARGE, PARTITIONS);
    for key in ["retention.ms", "min.insync.replicas"] {
        cluster.measure(RUNS, &format!("{key} of 10,000 x 3"), nothing, |cluster, run| {
            let mut request = alter(key, &(run % 3 + 1).to_string());
            (request.resources[0].resource_type, request.resources[0].resource_name) = (2, LARGE.into());
            cluster.ask(cluster.controller, 1, request);
        });
    }
    cluster.measure(
        RUNS,
        "AlterPartitionReassignments, 10,000 to 2 nodes",
        |cluster, _| {
            cluster.reassign(&[1, 2, 3]);
            cluster.pass(Duration::from_secs(20));
        },
        |cluster, _| cluster.reassign(&[2, 1]),
    );
    cluster.measure(
        RUNS,
        "AlterPartitionReassignments, 10,000 to 3 nodes",
        |cluster, _| {
            cluster.reassign(&[2, 1]);
            cluster.pass(Duration::from_secs(20));
        },
        |cluster, _| cluster.reassign(&[1, 2, 3]),
    );
    cluster.pass(Duration::from_secs(20));
    cluster.measure(RUNS, "ListPartitionReassignments", nothing, |cluster, _| {
        cluster.ask(cluster.controller, 0, ListPartitionReassignmentsRequest::default());
    });
    cluster.measure(
        RUNS,
        "ElectLeaders, 10,000",
        |cluster, run| {
            cluster.reassign(if run % 2 == 0 { &[1, 2, 3] } else { &[2, 1, 3] });
            cluster.pass(Duration::from_secs(1));
        },
        |cluster, _| {
            let request = ElectLeadersRequest { timeout_ms: 60_000, ..ElectLeadersRequest::default() };
            cluster.ask(cluster.controller, 2, request);
        },
    );
    let led_by_all = |cluster: &mut Cluster, _: usize| cluster.pass(Duration::from_secs(5));
    cluster.measure(1, "A process begins anew that leads thousands", led_by_all, |cluster, _| {
        let other = (1..=3).find(|number| *number != cluster.controller).expect("two others");
        cluster.kill(other);
        cluster.start(other);
        cluster.pass(Duration::from_secs(5));
    });
    cluster.measure(1, "A node comes, and gets an image", nothing, |cluster, _| {
        cluster.start(4);
        cluster.pass(Duration::from_secs(20));
    });
    cut(&mut Cluster::new());
}

/// A leader that nobody heard finds that another one leads.
fn cut(cluster: &mut Cluster) {
    cluster.create(CUT, 1);
    cluster.pass(Duration::from_secs(5));
    let leader = (1..=3).find(|number| {
        matches!(cluster.input(*number, 9, produce(CUT, 1)), Response::Produce(answer)
            if answer.responses[0].partition_responses[0].error_code == 0)
    });
    let leader = leader.expect("one of them leads");
    cluster.measure(
        1,
        "A log is cut by 100,000 batches",
        |cluster, _| {
            cluster.pass(Duration::from_secs(1));
            cluster.cut_off(leader);
            for _ in 0..BATCHES {
                cluster.input(leader, 9, produce(CUT, 1));
            }
            cluster.pass(Duration::from_secs(30));
        },
        |cluster, _| {
            cluster.apart.clear();
            cluster.pass(Duration::from_secs(20));
        },
    );
}
