use chronik_core::boundary::Neighbour;
use chronik_core::peer::{FORMAT_FIRST, FORMAT_LAST, Heartbeat, Hello};

use super::*;
use crate::engine::Watch;
use crate::plan::{Plan, Way};
use crate::testing;

fn plan() -> Plan {
    Plan { cluster: testing::cluster_plan(3).cluster, ..crate::engine::testing::plan(Vec::new()) }
}

/// Three machines, each of which wants to talk to both others, a second later.
fn world<'a>(plan: &'a Plan, watch: &'a Watch) -> World<'a> {
    let mut world = World::new(plan, watch);
    for machine in 0..3 {
        world.start(machine);
        introduce(&mut world, machine, 1);
    }
    world.run_routes(Instant(1_000 * MS));
    world
}

fn introduce(world: &mut World<'_>, machine: usize, process: u64) {
    introduce_as(world, machine, process, "simulated");
}

fn introduce_as(world: &mut World<'_>, machine: usize, process: u64, cluster_id: &str) {
    let hello = |machine: usize| Hello {
        cluster_id: cluster_id.into(),
        node_id: NodeId(machine as i32 + 1),
        directory_id: chronik_core::ids::Uuid([machine as u8; 16]),
        process,
        format_first: FORMAT_FIRST,
        format_last: FORMAT_LAST,
    };
    let neighbour = |_| Neighbour { host: "peer".into(), port: 9093, directory_id: None };
    let peers = (0..3).filter(|&other| other != machine);
    let peers = peers.map(|other| (NodeId(other as i32 + 1), neighbour(other))).collect();
    world.keep_routes(machine, Arc::new(Neighbours { me: hello(machine), peers }));
}

fn beat(applied: u64) -> Message {
    let broker_epoch = chronik_core::ids::BrokerEpoch(1);
    Message::Heartbeat(Heartbeat { broker_epoch, applied, wants_fence: false, wants_stop: false, damaged: Vec::new() })
}

/// What a machine's node was told and has not heard of yet, as a word each.
fn told(world: &mut World<'_>, machine: usize) -> Vec<String> {
    let mailbox = &mut world.machines[machine].process.as_mut().expect("it serves").mailbox;
    let word = |arrival: Arrival| match arrival {
        Arrival::Peer(input) => match *input {
            PeerInput::Connected(peer) => format!("to {}", peer.node_id),
            PeerInput::Arrived(peer) => format!("from {}", peer.node_id),
            PeerInput::Disconnected(node) => format!("no {node}"),
            PeerInput::Gone(node) => format!("gone {node}"),
            PeerInput::Heard { from, message: Message::Heartbeat(beat), .. } => format!("{from}: {}", beat.applied),
            other => format!("{other:?}"),
        },
        other => format!("{other:?}"),
    };
    let mut told: Vec<String> = mailbox.drain(..).map(word).collect();
    told.sort();
    told
}

#[test]
fn whoever_wants_to_talk_is_connected_both_ways_and_heard_in_order() {
    let (plan, watch) = (plan(), Watch::default());
    let mut world = world(&plan, &watch);
    assert_eq!(told(&mut world, 0), ["from 2", "from 3", "to 2", "to 3"]);
    told(&mut world, 1);
    (0..20).for_each(|number| world.say(0, NodeId(2), beat(number + 10)));
    world.run_routes(Instant(2_000 * MS));
    let heard: Vec<String> = (10..30).map(|number| format!("1: {number}")).collect();
    assert_eq!(told(&mut world, 1), heard);
}

#[test]
fn who_learns_of_which_cluster_it_is_introduces_itself_to_all_anew() {
    let (plan, watch) = (plan(), Watch::default());
    let mut world = world(&plan, &watch);
    introduce_as(&mut world, 0, 1, "");
    world.run_routes(Instant(2_000 * MS));
    (0..3).for_each(|machine| drop(told(&mut world, machine)));
    introduce_as(&mut world, 0, 1, "simulated");
    world.run_routes(Instant(3_000 * MS));
    assert_eq!(told(&mut world, 0), ["from 2", "from 3", "no 2", "no 3", "to 2", "to 3"]);
    assert_eq!(told(&mut world, 1), ["from 1", "no 1", "to 1"]);
}

#[test]
fn what_is_said_into_a_silence_arrives_when_it_ends_soon_and_else_never() {
    let (plan, watch) = (plan(), Watch::default());
    let mut world = world(&plan, &watch);
    (0..2).for_each(|machine| drop(told(&mut world, machine)));
    world.change_line(0, 2, |line| line.is_muted = true);
    world.say(0, NodeId(2), beat(1));
    world.run_routes(Instant(1_500 * MS));
    assert_eq!(told(&mut world, 1), Vec::<String>::new());
    world.change_line(0, 2, |line| line.is_muted = false);
    world.run_routes(Instant(1_600 * MS));
    assert_eq!(told(&mut world, 1), ["1: 1"]);

    world.part(0, Way::Out, true);
    world.say(0, NodeId(2), beat(2));
    world.run_routes(Instant(9_000 * MS));
    assert_eq!(told(&mut world, 0), ["no 2"]);
    world.part(0, Way::Out, false);
    world.run_routes(Instant(14_000 * MS));
    assert_eq!((told(&mut world, 0), told(&mut world, 1)), (vec!["to 2".to_owned()], vec!["from 1".to_owned()]));
}

#[test]
fn a_process_that_dies_is_missed_at_once_and_a_machine_after_a_while() {
    let (plan, watch) = (plan(), Watch::default());
    // Only a machine that still runs can say that nobody listens.
    let killed = ["gone 2", "no 2"].map(str::to_owned).to_vec();
    for (ending, at_once, later) in [(Ending::Killed, killed, 0), (Ending::PowerLost, Vec::new(), 1)] {
        let mut world = world(&plan, &watch);
        told(&mut world, 0);
        world.end_process(1, None, 10_000, ending);
        world.say(0, NodeId(2), beat(1));
        world.run_routes(Instant(2_000 * MS));
        assert_eq!(told(&mut world, 0), at_once, "{ending:?}");
        world.run_routes(Instant(9_000 * MS));
        assert_eq!(told(&mut world, 0).len(), later, "{ending:?}");
        world.start(1);
        introduce(&mut world, 1, 2);
        world.run_routes(Instant(15_000 * MS));
        assert_eq!(told(&mut world, 0), ["from 2", "to 2"], "{ending:?}");
    }
}

#[test]
fn who_is_refused_in_the_name_of_another_is_told_that_it_is_gone_though_it_lives() {
    let (plan, watch) = (plan(), Watch::default());
    let mut world = world(&plan, &watch);
    (0..3).for_each(|machine| drop(told(&mut world, machine)));
    world.refuse_calls(0, 2, true);
    world.reset_routes(0, 2, 7);
    world.run_routes(Instant(3_000 * MS));
    let (first, second) = (told(&mut world, 0), told(&mut world, 1));
    assert_eq!((first, second), (vec!["gone 2".to_owned(), "no 2".into()], vec!["gone 1".to_owned(), "no 1".into()]));
    assert_eq!(told(&mut world, 2), Vec::<String>::new());
    world.refuse_calls(0, 2, false);
    world.run_routes(Instant(4_000 * MS));
    assert_eq!(told(&mut world, 0), ["from 2", "to 2"]);
}

#[test]
fn a_call_to_a_process_that_is_no_more_is_left_when_the_next_one_calls() {
    let (plan, watch) = (plan(), Watch::default());
    let mut world = world(&plan, &watch);
    told(&mut world, 0);
    world.end_process(1, None, 10_000, Ending::PowerLost);
    world.say(0, NodeId(2), beat(1));
    world.run_routes(Instant(1_050 * MS));
    world.start(1);
    introduce(&mut world, 1, 2);
    world.run_routes(Instant(1_500 * MS));
    assert_eq!(told(&mut world, 0), ["from 2", "no 2", "to 2"]);
    world.say(0, NodeId(2), beat(2));
    world.run_routes(Instant(1_600 * MS));
    assert_eq!(told(&mut world, 1), ["1: 2", "from 1", "from 3", "to 1", "to 3"]);
}

#[test]
fn calls_that_break_are_made_again() {
    let (plan, watch) = (plan(), Watch::default());
    let mut world = world(&plan, &watch);
    (0..2).for_each(|machine| drop(told(&mut world, machine)));
    world.say(0, NodeId(2), beat(1));
    world.reset_routes(0, 2, 7);
    world.run_routes(Instant(2_000 * MS));
    let told = told(&mut world, 0);
    assert_eq!(told, ["from 2", "no 2", "to 2"]);
}
