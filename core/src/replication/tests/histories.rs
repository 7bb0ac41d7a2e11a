//! Where two logs part, as lists of epochs.

use super::*;
use crate::ids::Session;
use crate::peer::{EPOCHS_MAX, Epochs};

type Entry = (LeaderEpoch, Offset);

fn epochs(entries: &[(i32, i64)]) -> Vec<Entry> {
    entries.iter().map(|&(epoch, start)| (LeaderEpoch(epoch), Offset(start))).collect()
}

/// Logs that start with their first epoch: both ways the answer is the same.
fn check(ours: (&[(i32, i64)], i64), theirs: (&[(i32, i64)], i64), expect: Option<i64>) {
    let (our_epochs, their_epochs) = (epochs(ours.0), epochs(theirs.0));
    let (our_end, their_end) = (Offset(ours.1), Offset(theirs.1));
    let expect = expect.map(Offset);
    assert_eq!(common_end(&our_epochs, our_end, &their_epochs, their_end), expect, "{ours:?} {theirs:?}");
    assert_eq!(common_end(&their_epochs, their_end, &our_epochs, our_end), expect, "{theirs:?} {ours:?}");
}

#[test]
fn one_history_is_common_up_to_the_shorter_end() {
    check((&[(0, 0)], 10), (&[(0, 0)], 7), Some(7));
    check((&[(0, 0), (2, 5)], 10), (&[(0, 0), (2, 5)], 10), Some(10));
    check((&[(0, 0), (2, 5)], 10), (&[(0, 0)], 3), Some(3));
    check((&[(0, 0), (2, 5)], 10), (&[(0, 0)], 5), Some(5));
}

/// KIP-101: a follower's own records beyond what the new leader had are not kept, and none that it had are lost.
#[test]
fn the_longer_tail_of_an_older_epoch_is_not_common() {
    check((&[(0, 0), (1, 5)], 9), (&[(0, 0)], 8), Some(5));
}

/// KIP-279, KAFKA-6361: two fast failovers, after which either side has epochs that the other never saw.
#[test]
fn epochs_that_only_one_has_seen_are_stepped_over() {
    check((&[(0, 0), (2, 5)], 9), (&[(0, 0), (1, 7)], 9), Some(5));
    check((&[(1, 0), (3, 10), (5, 20)], 30), (&[(1, 0), (2, 10), (4, 15)], 40), Some(10));
    // The newest epoch that both have is not the newest of either.
    check((&[(0, 0), (1, 4), (3, 8)], 12), (&[(0, 0), (1, 4), (2, 10)], 12), Some(8));
}

/// KAFKA-7164: that the leader is the same node says nothing, since its epochs between were missed.
#[test]
fn missed_epochs_of_the_same_leader_are_found() {
    check((&[(0, 0), (1, 5), (2, 6)], 9), (&[(0, 0)], 8), Some(5));
}

/// KAFKA-7415: a leader without a write leaves an epoch that holds nothing, at one side or both.
#[test]
fn an_epoch_without_records_is_nobodys_common_part() {
    check((&[(0, 0), (1, 5)], 5), (&[(0, 0)], 5), Some(5));
    check((&[(0, 0), (1, 5)], 5), (&[(0, 0), (1, 5)], 5), Some(5));
    check((&[(0, 0), (1, 5)], 5), (&[(0, 0), (1, 5)], 8), Some(5));
    check((&[(0, 0), (2, 5)], 5), (&[(0, 0), (1, 5)], 5), Some(5));
}

/// KAFKA-10706: after elections without data both logs are the same, and the answer is their end, so nobody cuts twice.
#[test]
fn elections_without_data_cut_nothing() {
    check((&[(0, 0), (7, 5)], 6), (&[(0, 0), (5, 5)], 5), Some(5));
    let told = told(&[(0, 0), (5, 5)], 0, 5);
    let log = Ends { start: Offset(0), durable: Offset(6), end: Offset(6), is_cutting: false };
    assert_eq!(agree(&epochs(&[(0, 0), (7, 5)]), log, &told, NEWEST), Agreement::Cut(Offset(5)));
}

#[test]
fn different_beginnings_share_nothing() {
    check((&[(1, 0)], 10), (&[(2, 0)], 10), None);
    check((&[], 0), (&[(2, 0)], 10), None);
    // One epoch, but what one has of it begins where the other's ends.
    check((&[(1, 0)], 10), (&[(1, 10)], 20), None);
}

const NEWEST: Offset = Offset(i64::MAX);

fn told(entries: &[(i32, i64)], start: i64, end: i64) -> Epochs {
    Epochs {
        partition: PARTITION,
        leader_epoch: LeaderEpoch(9),
        session: Session(1),
        broker_epoch: BrokerEpoch(1),
        start: Offset(start),
        end: Offset(end),
        epochs: epochs(entries),
    }
}

fn ends(start: i64, end: i64) -> Ends {
    Ends { start: Offset(start), durable: Offset(end), end: Offset(end), is_cutting: false }
}

#[test]
fn an_empty_log_follows_from_its_place_or_starts_anew() {
    let ours = epochs(&[(1, 20), (3, 30)]);
    let check = |at, expect| assert_eq!(agree(&ours, ends(20, 40), &told(&[], at, at), NEWEST), expect, "{at}");
    check(20, Agreement::Cut(Offset(20)));
    check(25, Agreement::Cut(Offset(25)));
    check(40, Agreement::Cut(Offset(40)));
    check(0, Agreement::StartAnew(Offset(20)));
    check(41, Agreement::StartAnew(Offset(20)));
}

/// KAFKA-9491: who ends before the leader's log starts has nothing to go on from.
#[test]
fn a_log_that_ends_below_the_start_starts_anew() {
    let ours = epochs(&[(1, 20), (3, 30)]);
    let check = |told, expect| assert_eq!(agree(&ours, ends(20, 40), &told, NEWEST), expect, "{told:?}");
    check(told(&[(0, 0)], 0, 10), Agreement::StartAnew(Offset(20)));
    check(told(&[(0, 0), (1, 5)], 0, 19), Agreement::StartAnew(Offset(20)));
    check(told(&[(0, 0), (1, 5)], 0, 21), Agreement::Cut(Offset(21)));
    // Even where the list of the leader's epochs tells of more than it keeps.
    let more = epochs(&[(1, 0)]);
    assert_eq!(agree(&more, ends(20, 40), &told(&[(1, 0)], 0, 10), NEWEST), Agreement::StartAnew(Offset(20)));
    // The leader's log starts with an epoch that the follower never had: what it has below is of no use to anybody.
    check(told(&[(0, 0)], 0, 25), Agreement::StartAnew(Offset(20)));
}

/// What a peer says is input: it leads to a log that can be followed, whatever it is.
#[test]
fn nonsense_starts_anew() {
    let ours = epochs(&[(1, 0)]);
    let many: Vec<_> = (0..65).map(|epoch| (epoch, i64::from(epoch))).collect();
    for nonsense in [
        told(&many, 0, 90),
        told(&[(1, 5), (1, 6)], 0, 9),
        told(&[(2, 5), (1, 6)], 0, 9),
        told(&[(1, 6), (2, 6)], 0, 9),
        told(&[], 9, 5),
        told(&[], -3, 5),
    ] {
        assert_eq!(agree(&ours, ends(0, 10), &nonsense, NEWEST), Agreement::StartAnew(Offset(0)), "{nonsense:?}");
    }
}

/// More elections than one message tells of are found in steps, each about older ones.
#[test]
fn a_common_part_behind_64_epochs_is_found_by_asking_on() {
    let shared = epochs(&[(0, 0), (2, 100)]);
    // The leader wrote one record in each even epoch from 4 on, the follower in each odd one, from offset 200 on.
    let ours: Vec<_> =
        shared.iter().copied().chain((0..300).map(|at| (LeaderEpoch(4 + 2 * at), Offset(200 + at as i64)))).collect();
    let theirs: Vec<_> =
        shared.iter().copied().chain((0..300).map(|at| (LeaderEpoch(5 + 2 * at), Offset(200 + at as i64)))).collect();
    let log = ends(0, 500);
    let mut below = NEWEST;
    for round in 1.. {
        let newest = newest_epochs(&theirs, below);
        assert!(newest.len() <= EPOCHS_MAX);
        let told = Epochs { epochs: newest.to_vec(), ..told(&[], 0, 500) };
        match agree(&ours, log, &told, below) {
            Agreement::Older(older) => {
                assert!(older < below, "each exchange is about older epochs");
                below = older;
            }
            found => {
                assert_eq!((found, round), (Agreement::Cut(Offset(200)), 5));
                break;
            }
        }
    }
    // Where the leader keeps nothing so old, there is no need to ask.
    let told = Epochs { epochs: newest_epochs(&theirs, NEWEST).to_vec(), ..told(&[], 0, 500) };
    let kept: Vec<_> = ours.iter().copied().filter(|(_, start)| *start >= Offset(490)).collect();
    assert_eq!(agree(&kept, ends(490, 500), &told, NEWEST), Agreement::StartAnew(Offset(490)));
}

/// Two logs made by one random life of a partition: the answer is what comparing them record by record gives.
#[test]
fn lists_of_epochs_say_what_the_records_say() {
    let mut rng = crate::rng::Rng::from_number(1);
    for case in 0..5_000 {
        // Three logs, each led in turn; whoever leads appends, others copy a part or are cut to what they share.
        let mut logs: [Vec<i32>; 3] = Default::default();
        for epoch in 0..8 {
            let leader = rng.below(3) as usize;
            for _ in 0..rng.below(4) {
                logs[leader].push(epoch);
            }
            let follower = (leader + 1 + rng.below(2) as usize) % 3;
            let shared = common_records(&logs[leader], &logs[follower]);
            logs[follower].truncate(shared);
            let taken = rng.below((logs[leader].len() - shared + 1) as u64) as usize;
            let copied = logs[leader][shared..shared + taken].to_vec();
            logs[follower].extend(copied);
        }
        let [one, other, _] = &logs;
        let expect = Some(common_records(one, other)).filter(|common| *common > 0).map(|common| Offset(common as i64));
        let found = common_end(&listed(one), Offset(one.len() as i64), &listed(other), Offset(other.len() as i64));
        assert_eq!(found, expect, "case {case}: {one:?} {other:?}");
    }
}

fn common_records(one: &[i32], other: &[i32]) -> usize {
    one.iter().zip(other).take_while(|(one, other)| one == other).count()
}

fn listed(log: &[i32]) -> Vec<Entry> {
    let mut entries: Vec<Entry> = Vec::new();
    for (at, epoch) in log.iter().enumerate() {
        if entries.last().is_none_or(|(last, _)| last.0 != *epoch) {
            entries.push((LeaderEpoch(*epoch), Offset(at as i64)));
        }
    }
    entries
}
