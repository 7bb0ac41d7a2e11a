//! Every target over its corpus and over mutations of it, the same ones every time.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;

use chronik_core::rng::Rng;
use chronik_fuzz::mutate::mutated;
use chronik_fuzz::{TARGETS, Target};

/// The inputs of a target, in the order of their names.
fn corpus(target: &Target) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target.name);
    let files = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut inputs: Vec<_> = files
        .map(|file| {
            let path = file.expect("a readable folder").path();
            (path.display().to_string(), fs::read(&path).expect("a readable file"))
        })
        .collect();
    inputs.sort();
    assert!(!inputs.is_empty(), "{} has no input", folder.display());
    inputs
}

/// Runs `input`, and where it breaks a promise shows how to see that again.
fn run(target: &Target, name: &str, input: &[u8]) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| (target.body)(input))) {
        eprintln!("target {}: {name} breaks a promise; the input, in hexadecimal:", target.name);
        eprintln!("{}", input.iter().map(|byte| format!("{byte:02x}")).collect::<String>());
        resume_unwind(panic);
    }
}

/// The corpus of a target, then so many mutations of it.
fn check(name: &str, mutations: u64) {
    let target = TARGETS.iter().find(|target| target.name == name).expect("a target of that name");
    let corpus = corpus(target);
    for (name, input) in &corpus {
        run(target, name, input);
    }
    let random = Rng::from_number(1);
    for number in 0..mutations {
        let mut random = random.keyed(0, number);
        let mut any = || corpus[random.below(corpus.len() as u64) as usize].1.as_slice();
        let (input, other) = (any(), any());
        run(target, &format!("mutation {number}"), &mutated(input, other, &mut random));
    }
}

#[test]
fn both_codecs_agree_on_messages() {
    check("message", 6000);
}

#[test]
fn requests_do_not_depend_on_where_the_stream_is_cut() {
    check("frame", 10_000);
}

#[test]
fn what_is_said_of_a_batch_is_true() {
    check("batch", 3000);
}

#[test]
fn the_journal_gives_back_what_was_durable() {
    check("journal", 200);
}

#[test]
fn a_read_of_a_segment_is_right_or_an_error() {
    check("segment", 1000);
}

#[test]
fn metadata_has_one_encoding() {
    check("metadata", 50_000);
}

#[test]
fn records_of_groups_come_back() {
    check("group_record", 50_000);
}

#[test]
fn the_state_of_a_log_comes_back() {
    check("log_state", 1500);
}

#[test]
fn nothing_that_peers_say_stops_a_member() {
    check("raft_message", 2000);
}

#[test]
fn what_peers_say_comes_back() {
    check("peer", 50_000);
}
