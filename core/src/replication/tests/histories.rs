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
        high_watermark: Offset(0),
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

/// A follower was away at the end of epoch 2. Compaction took all of that epoch's batches before the next leader caught up,
/// which has never heard of it.
#[test]
fn what_all_hold_is_not_cut_for_an_epoch_that_compaction_took_away() {
    let check = |ours: &[(i32, i64)], our_end, theirs: &[(i32, i64)], their_end, held, expect| {
        let told = Epochs { high_watermark: Offset(held), ..told(theirs, 0, their_end) };
        assert_eq!(agree(&epochs(ours), ends(0, our_end), &told, NEWEST), expect, "{ours:?} {theirs:?} {held}");
    };
    let (without, with) = ([(1, 0), (3, 20)], [(1, 0), (2, 10)]);
    check(&without, 40, &with, 20, 20, Agreement::Cut(Offset(20)));
    check(&without, 40, &with, 20, 15, Agreement::Cut(Offset(15)));
    check(&without, 40, &with, 20, 0, Agreement::Cut(Offset(10)));
    check(&with, 20, &without, 40, 20, Agreement::Cut(Offset(20)));
    // What a whole log was written in is gone from the other.
    check(&[(3, 20)], 40, &[(1, 0)], 20, 20, Agreement::Cut(Offset(20)));
    check(&[(3, 20)], 40, &[(1, 0)], 20, 0, Agreement::Cut(Offset(0)));
    // Whoever leads lacks what all are said to hold: the follower refuses what this leads to.
    check(&without, 25, &[(1, 0), (3, 20)], 30, 28, Agreement::Cut(Offset(25)));
    // What is said to be held lies below all that the leader keeps, or is nonsense.
    let kept = ends(20, 40);
    let told = |held| Epochs { high_watermark: Offset(held), ..told(&[(1, 0)], 0, 10) };
    for held in [5, 10, -1, i64::MAX] {
        assert_eq!(agree(&epochs(&without), kept, &told(held), NEWEST), Agreement::StartAnew(Offset(20)), "{held}");
    }
}

/// A log as compaction leaves it: what is at each offset, and what was ever heard of epochs.
#[derive(Clone, Default)]
struct Compacted {
    batches: Vec<Option<i32>>,
    epochs: Vec<Entry>,
    held: usize,
}

impl Compacted {
    fn end(&self) -> Offset {
        Offset(self.batches.len() as i64)
    }

    fn take(&mut self, at: usize, epoch: i32) {
        self.batches.resize(at, None);
        self.batches.push(Some(epoch));
        if self.epochs.last().is_none_or(|(last, _)| last.0 < epoch) {
            self.epochs.push((LeaderEpoch(epoch), Offset(at as i64)));
        }
    }

    fn cut(&mut self, to: usize) {
        self.batches.truncate(to);
        let end = self.end();
        self.epochs.retain(|&(_, start)| start < end);
    }

    fn told(&self) -> Epochs {
        let epochs = newest_epochs(&self.epochs, NEWEST).to_vec();
        Epochs { epochs, high_watermark: Offset(self.held as i64), ..told(&[], 0, self.end().0) }
    }
}

/// Lives in which whoever leads holds all that was acknowledged, and everybody compacts for himself below what he has
/// heard of it: nobody is ever to be cut below that, and what stays of a log is in its leader's, or compacted there.
#[test]
fn compaction_strands_nobody() {
    let mut rng = crate::rng::Rng::from_number(2);
    for case in 0..5_000 {
        let mut logs: [Compacted; 3] = Default::default();
        // All below is acknowledged, and these have it: one of them leads next.
        let mut acknowledged = 0;
        let mut holders = vec![0, 1, 2];
        for epoch in 0..8 {
            let leader = holders[rng.below(holders.len() as u64) as usize];
            for _ in 0..rng.below(4) {
                let at = logs[leader].batches.len();
                logs[leader].take(at, epoch);
            }
            let ours = logs[leader].clone();
            let mut heard = vec![leader];
            for (follower, theirs) in logs.iter_mut().enumerate() {
                if follower == leader || rng.below(3) == 0 {
                    continue;
                }
                let to = match agree(&ours.epochs, ends(0, ours.end().0), &theirs.told(), NEWEST) {
                    Agreement::Cut(to) => to.0 as usize,
                    other => panic!("case {case}: {other:?}"),
                };
                assert!(to >= theirs.held, "case {case}: cut to {to}, and all hold {}", theirs.held);
                theirs.cut(to);
                for (at, (one, other)) in theirs.batches.iter().zip(&ours.batches).enumerate() {
                    assert!(one == other || one.is_none() || other.is_none(), "case {case}: at {at}");
                }
                let end =
                    theirs.batches.len() + rng.below((ours.batches.len() - theirs.batches.len() + 1) as u64) as usize;
                for at in theirs.batches.len()..end {
                    ours.batches[at].into_iter().for_each(|epoch| theirs.take(at, epoch));
                }
                heard.push(follower);
            }
            let reached = heard[1..].iter().map(|&n| logs[n].batches.len()).max().unwrap_or(0);
            if reached > acknowledged {
                acknowledged = reached;
                holders.clear();
            }
            let has_all = |n: &usize| logs[*n].batches.len() >= acknowledged && !holders.contains(n);
            let more: Vec<usize> = heard.into_iter().filter(has_all).collect();
            holders.extend(more);
            for &holder in &holders {
                let log = &mut logs[holder];
                if rng.below(2) == 0 {
                    log.held = acknowledged;
                }
                // The newest batch that all hold stays.
                for at in 0..log.held.saturating_sub(1) {
                    if rng.below(4) == 0 {
                        log.batches[at] = None;
                    }
                }
            }
        }
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
