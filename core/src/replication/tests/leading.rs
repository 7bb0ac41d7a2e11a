//! A leader's part: what it believes, how far the high watermark comes, who is in sync, and what it sends.

use std::time::Duration;

use bytes::Bytes;
use smallvec::smallvec;

use super::*;
use crate::ids::Session;
use crate::peer::{Acked, Answer, Append, Batches, Epochs, Proposal, ProposalOutcome};
use crate::time::Instant;

/// A leader, node 0, whose epoch is 5.
struct Bench {
    leader: Leader,
    peers: Peers,
    now: Instant,
    end: i64,
}

const EPOCH: LeaderEpoch = LeaderEpoch(5);

fn view(partition_epoch: i32, in_sync: &[i32]) -> View {
    View {
        leader_epoch: EPOCH,
        partition_epoch: PartitionEpoch(partition_epoch),
        replicas: (0..3).map(|node| member(node, 10 + i64::from(node))).collect(),
        in_sync: in_sync.iter().copied().map(NodeId).collect(),
    }
}

fn settings() -> Settings {
    Settings { lag_entries_max: None, partition_credit: 1000, read_bytes_max: 400, ..Settings::default() }
}

impl Bench {
    /// Its log ends at 100, durably, with a high watermark of 90; nodes 0 to 2 hold the partition.
    fn new(in_sync: &[i32], min_in_sync: usize) -> Bench {
        let mut peers = Peers::new(2000, 2000);
        peers.connected(NodeId(1));
        peers.connected(NodeId(2));
        let now = Instant(1_000_000_000_000);
        let log = Ends { start: Offset(0), durable: Offset(100), end: Offset(100), is_cutting: false };
        let node = member(0, 10).replica;
        let view = view(1, in_sync);
        let leader = Leader::new(PARTITION, node, &view, min_in_sync, log, Offset(90), settings(), now, &mut peers);
        Bench { leader, peers, now, end: 100 }
    }

    /// The same, streaming to both followers, who have everything.
    fn streaming(in_sync: &[i32], min_in_sync: usize) -> Bench {
        let mut bench = Bench::new(in_sync, min_in_sync);
        bench.agree(1, 100);
        bench.agree(2, 100);
        bench
    }

    fn acked(&self, node: i32, session: u64, durable: i64) -> Acked {
        Acked {
            partition: PARTITION,
            leader_epoch: EPOCH,
            session: Session(session),
            broker_epoch: BrokerEpoch(10 + i64::from(node)),
            durable_end: Offset(durable),
            end: Offset(durable),
            start: Offset(0),
        }
    }

    /// What its turn with a peer brings, in a lane.
    fn next(&mut self, node: i32) -> Option<(Lane, Next)> {
        let (lane, _) = self.peers.next(NodeId(node), self.now)?;
        Some((lane, self.leader.next(NodeId(node), lane, self.now, &mut self.peers)))
    }

    /// Greets a follower, which has everything up to `end`, durably. Returns the session.
    fn agree(&mut self, node: i32, end: i64) -> u64 {
        let Some((Lane::Control, Next::Greet(greet))) = self.next(node) else { panic!("it greets") };
        let ours = [(LeaderEpoch(0), Offset(0))];
        let told = Epochs {
            partition: PARTITION,
            leader_epoch: EPOCH,
            session: greet.session,
            broker_epoch: BrokerEpoch(10 + i64::from(node)),
            start: Offset(0),
            end: Offset(end),
            high_watermark: Offset(0),
            epochs: ours.to_vec(),
        };
        self.leader.on_epochs(NodeId(node), &told, &ours, self.now, &mut self.peers);
        let Some((Lane::Control, Next::Cut(cut))) = self.next(node) else { panic!("it says where to cut") };
        assert_eq!(cut.to, Offset(end));
        let done = self.acked(node, greet.session.0, end);
        let _ = self.leader.on_cut_done(NodeId(node), &done, self.now, &mut self.peers);
        greet.session.0
    }

    fn append(&mut self, records: i64) {
        self.end += records;
        self.leader.appended(Offset(self.end), self.now, &mut self.peers);
    }

    fn sync(&mut self) -> Facts {
        self.leader.confirmed(Offset(self.end), Offset(0), self.now, &mut self.peers)
    }

    /// Sends a follower all there is, a byte for each record. Returns the messages.
    fn stream(&mut self, node: i32) -> Vec<Append> {
        let mut sent = Vec::new();
        while let Some((_, next)) = self.next(node) {
            let append = match next {
                Next::Batches { from, bytes_max, .. } => {
                    let up_to = self.end.min(from.0 + bytes_max as i64);
                    let batches = batches(up_to - from.0);
                    self.leader.send(NodeId(node), batches, Offset(up_to), self.now, &mut self.peers)
                }
                Next::News(append) => append,
                Next::Nothing => continue,
                other => panic!("{other:?}"),
            };
            sent.push(append);
        }
        self.leader.invariants();
        sent
    }

    /// A follower acknowledges in its newest session; those of node 1 are odd, of node 2 even, as long as both greet in turn.
    fn ack(&mut self, node: i32, session: u64, durable: i64) -> Facts {
        let acked = self.acked(node, session, durable);
        self.heard(node, &acked)
    }

    fn heard(&mut self, node: i32, acked: &Acked) -> Facts {
        let facts = self.leader.on_acked(NodeId(node), acked, self.now, &mut self.peers);
        self.leader.invariants();
        facts
    }

    fn set(&mut self, partition_epoch: i32, in_sync: &[i32]) -> Facts {
        self.leader.on_view(&view(partition_epoch, in_sync), self.now, &mut self.peers)
    }

    fn pass(&mut self, time: Duration) -> Facts {
        self.now = self.now + time;
        self.leader.on_deadline(self.now, &mut self.peers)
    }

    fn proposes(&mut self) -> Option<(u64, Vec<i32>)> {
        let proposal = self.leader.propose(self.now)?;
        Some((proposal.attempt, proposed(&proposal)))
    }

    fn answer(&mut self, partition_epoch: i32, attempt: u64, outcome: ProposalOutcome) -> Facts {
        let partition_epoch = PartitionEpoch(partition_epoch);
        let answer = Answer { partition: PARTITION, leader_epoch: EPOCH, partition_epoch, attempt, outcome };
        self.leader.on_answer(&answer, self.now, &mut self.peers)
    }

    fn high_watermark(&self) -> i64 {
        self.leader.high_watermark().0
    }
}

fn proposed(proposal: &Proposal) -> Vec<i32> {
    proposal.members.iter().map(|member| member.node.0).collect()
}

fn batches(bytes: i64) -> Batches {
    Batches::new(smallvec![Bytes::from(vec![0; bytes as usize])])
}

const LAG: Duration = Duration::from_secs(10);

#[test]
fn the_high_watermark_is_the_least_durable_end_of_the_set() {
    let mut bench = Bench::streaming(&[0, 1, 2], 2);
    assert_eq!(bench.high_watermark(), 100);
    bench.append(10);
    assert_eq!(bench.stream(1).len() + bench.stream(2).len(), 2);
    assert_eq!(bench.ack(1, 1, 110).high_watermark, None);
    assert_eq!(bench.ack(2, 2, 105).high_watermark, None, "its own disk has not confirmed anything");
    assert_eq!(bench.sync().high_watermark, Some(Offset(105)));
    assert_eq!(bench.ack(2, 2, 110).high_watermark, Some(Offset(110)));
}

/// KIP-207, KAFKA-2334: until a new leader knows as much as the one before, it does not say where the end is.
#[test]
fn a_new_leader_knows_the_end_when_the_set_has_confirmed_its_epochs_start() {
    let mut bench = Bench::new(&[0, 1, 2], 1);
    bench.agree(1, 100);
    assert!(!bench.leader.has_reached_epoch());
    assert_eq!(bench.high_watermark(), 90);
    bench.agree(2, 95);
    assert_eq!((bench.high_watermark(), bench.leader.has_reached_epoch()), (95, false));
    bench.stream(2);
    let _ = bench.ack(2, 2, 100);
    assert_eq!((bench.high_watermark(), bench.leader.has_reached_epoch()), (100, true));
}

/// KIP-966: nothing is settled by fewer than the minimum, and with enough of them again all of it is.
#[test]
fn below_the_minimum_the_high_watermark_stands_still() {
    let mut bench = Bench::streaming(&[0], 2);
    bench.append(10);
    assert_eq!(bench.sync().high_watermark, None);
    assert!(bench.leader.is_below_minimum());
    bench.stream(1);
    assert_eq!(bench.ack(1, 1, 110).high_watermark, None);
    assert_eq!(bench.proposes(), Some((1, vec![0, 1, 2])));
    assert_eq!(bench.set(2, &[0, 1]).high_watermark, Some(Offset(110)));
    assert!(!bench.leader.is_below_minimum());
}

/// KIP-497: who is proposed counts from the proposal on, who is to leave counts until that is committed.
#[test]
fn committed_and_proposed_members_count() {
    let mut bench = Bench::streaming(&[0, 1], 1);
    let _ = bench.sync();
    assert_eq!(bench.proposes(), Some((1, vec![0, 1, 2])));
    bench.append(10);
    bench.stream(1);
    let _ = (bench.sync(), bench.ack(1, 1, 110));
    assert_eq!(bench.high_watermark(), 100, "the proposed member has not confirmed it");
    // It does not join: then it does not count.
    assert_eq!(bench.answer(1, 1, ProposalOutcome::Ineligible).high_watermark, Some(Offset(110)));
}

/// KAFKA-13091: with a member less, what the others have confirmed is settled at once.
#[test]
fn a_smaller_set_may_have_come_further() {
    let mut bench = Bench::streaming(&[0, 1, 2], 1);
    bench.append(10);
    bench.stream(1);
    let _ = (bench.sync(), bench.ack(1, 1, 110));
    assert_eq!(bench.high_watermark(), 100);
    assert!(bench.pass(LAG).proposes);
    assert_eq!(bench.proposes(), Some((1, vec![0, 1])));
    assert_eq!(bench.high_watermark(), 100, "it counts until its leaving is committed");
    assert_eq!(bench.set(2, &[0, 1]).high_watermark, Some(Offset(110)));
}

/// KAFKA-15021: who may not join does not hold anybody up, however close it is.
#[test]
fn a_replica_outside_the_set_does_not_count() {
    let mut bench = Bench::streaming(&[0, 1], 2);
    let fenced = Member { may_join: false, ..member(2, 12) };
    let _ = bench.leader.on_member(&fenced, bench.now, &mut bench.peers);
    bench.append(10);
    bench.stream(1);
    let _ = bench.sync();
    assert_eq!(bench.ack(1, 1, 110).high_watermark, Some(Offset(110)));
}

/// KAFKA-7128: below the start of this epoch the leader may not know what was promised.
#[test]
fn nobody_joins_below_the_high_watermark_or_the_start_of_the_epoch() {
    let check = |end: i64, joins: bool| {
        let mut bench = Bench::new(&[0, 1], 1);
        bench.agree(1, 95);
        assert_eq!(bench.high_watermark(), 95);
        bench.agree(2, end);
        assert_eq!(bench.proposes().is_some(), joins, "{end}");
    };
    check(94, false);
    check(95, false);
    check(99, false);
    check(100, true);
}

/// KIP-841, KAFKA-13916: neither a fenced broker nor one that is about to stop is proposed, and a refusal is not argued with.
#[test]
fn who_may_not_join_is_not_proposed() {
    let mut bench = Bench::streaming(&[0, 1], 1);
    let fenced = Member { may_join: false, ..member(2, 12) };
    let _ = bench.leader.on_member(&fenced, bench.now, &mut bench.peers);
    assert_eq!(bench.proposes(), None);
    assert!(bench.leader.on_member(&member(2, 12), bench.now, &mut bench.peers).proposes);
    assert_eq!(bench.proposes(), Some((1, vec![0, 1, 2])));
    assert!(!bench.answer(1, 1, ProposalOutcome::Ineligible).proposes);
    assert_eq!(bench.proposes(), None);
    let wait = bench.leader.deadline(bench.now).expect("it is tried again") - bench.now;
    assert!(bench.pass(wait).proposes);
    assert_eq!(bench.proposes(), Some((2, vec![0, 1, 2])));
}

/// KIP-903, KAFKA-14617: another process of a broker has confirmed nothing, whatever the one before had.
#[test]
fn a_restarted_follower_is_another_one() {
    let mut bench = Bench::streaming(&[0, 1], 1);
    let _ = bench.leader.on_member(&member(2, 20), bench.now, &mut bench.peers);
    assert_eq!(bench.proposes(), None, "it is not known what it has");
    assert_eq!(bench.ack(2, 2, 100), Facts::default(), "the process before is not heard");
    // The metadata may come in the other order: what an older registration says is no news.
    let _ = bench.leader.on_member(&member(2, 12), bench.now, &mut bench.peers);
    assert_eq!(bench.ack(2, 2, 100), Facts::default());
}

/// KAFKA-13837, KAFKA-14078: who holds the partition no longer says nothing about it.
#[test]
fn a_removed_replica_is_not_heard() {
    let mut bench = Bench::streaming(&[0, 1, 2], 1);
    let mut without = view(2, &[0, 1]);
    without.replicas.pop();
    let _ = bench.leader.on_view(&without, bench.now, &mut bench.peers);
    bench.append(10);
    assert_eq!(bench.ack(2, 2, 100), Facts::default());
    assert_eq!(bench.next(2).map(|(_, next)| next), None);
    assert_eq!(bench.leader.progress().count(), 1);
}

/// Rule 12: each acknowledgement belongs to a leader epoch, a process and a session, and to nothing else.
#[test]
fn an_acknowledgement_of_another_session_process_or_epoch_is_not_heard() {
    let mut bench = Bench::streaming(&[0, 1, 2], 1);
    bench.append(10);
    let _ = bench.sync();
    bench.stream(1);
    bench.stream(2);
    let _ = bench.ack(2, 2, 110);
    let acked = bench.acked(1, 1, 110);
    for stale in [
        Acked { session: Session(0), ..acked.clone() },
        Acked { session: Session(2), ..acked.clone() },
        Acked { broker_epoch: BrokerEpoch(10), ..acked.clone() },
        Acked { leader_epoch: LeaderEpoch(4), ..acked.clone() },
        Acked { leader_epoch: LeaderEpoch(6), ..acked.clone() },
    ] {
        assert_eq!(bench.heard(1, &stale), Facts::default(), "{stale:?}");
    }
    assert_eq!(bench.heard(1, &acked).high_watermark, Some(Offset(110)));
    // After a new connection what was said on the one before does not count, though it arrive now.
    bench.append(10);
    let _ = bench.sync();
    bench.stream(2);
    let _ = bench.ack(2, 2, 120);
    bench.leader.connected(NodeId(1), bench.now, &mut bench.peers);
    assert_eq!(bench.ack(1, 1, 120), Facts::default());
    let session = bench.agree(1, 110);
    bench.stream(1);
    assert_eq!(bench.ack(1, session, 120).high_watermark, Some(Offset(120)));
}

/// Rule 12: a disk that does not have what it confirmed is not counted on; once it is out it may come back.
#[test]
fn an_end_below_an_earlier_acknowledgement_removes_the_follower() {
    let mut bench = Bench::streaming(&[0, 1, 2], 1);
    bench.leader.connected(NodeId(1), bench.now, &mut bench.peers);
    let session = bench.agree(1, 80);
    assert_eq!(bench.proposes(), Some((1, vec![0, 2])));
    assert_eq!(bench.high_watermark(), 100, "it never goes back");
    let _ = bench.set(2, &[0, 2]);
    assert_eq!(bench.proposes(), None);
    bench.stream(1);
    assert!(bench.ack(1, session, 100).proposes);
    assert_eq!(bench.proposes(), Some((2, vec![0, 1, 2])));
}

#[test]
fn what_cannot_be_true_ends_the_session() {
    let check = |change: fn(&mut Acked)| {
        let mut bench = Bench::streaming(&[0, 1, 2], 1);
        bench.append(10);
        let mut acked = bench.acked(1, 1, 100);
        change(&mut acked);
        assert_eq!(bench.heard(1, &acked), Facts::default());
        let _ = bench.pass(settings().backoff);
        let Some((_, Next::Greet(greet))) = bench.next(1) else { panic!("{acked:?} is believed") };
        assert_eq!(greet.session, Session(3));
    };
    // More than was sent, more durable than there is, a start behind the end.
    check(|acked| acked.end = Offset(110));
    check(|acked| acked.durable_end = Offset(101));
    check(|acked| acked.start = Offset(101));
    check(|acked| (acked.start, acked.durable_end, acked.end) = (Offset(i64::MIN), Offset(i64::MIN), Offset(0)));
}

/// KAFKA-15353: a proposal that is sent again is the same, and never empty.
#[test]
fn a_proposal_without_an_answer_is_sent_again_as_it_was() {
    let mut bench = Bench::streaming(&[0], 1);
    let first = bench.leader.propose(bench.now).expect("two join");
    assert_eq!(bench.proposes(), None, "one at a time");
    // One of them falls behind meanwhile; the proposal stays what it is.
    bench.append(1);
    bench.stream(1);
    let _ = bench.ack(1, 1, 101);
    assert!(bench.pass(LAG).proposes);
    let second = bench.leader.propose(bench.now).expect("it is sent again");
    assert_eq!(second, Proposal { attempt: 2, ..first });
    // Another controller is asked at once.
    bench.leader.on_controller(bench.now);
    assert_eq!(bench.proposes(), Some((3, vec![0, 1, 2])));
}

/// A refusal is about all copies of a proposal only if it answers the last: an earlier one may be followed by a copy
/// that is carried out, since what made it ineligible has passed.
#[test]
fn only_the_answer_to_the_last_attempt_is_believed() {
    let mut bench = Bench::streaming(&[0, 1], 1);
    assert_eq!(bench.proposes(), Some((1, vec![0, 1, 2])));
    bench.leader.on_controller(bench.now);
    assert_eq!(bench.proposes(), Some((2, vec![0, 1, 2])));
    bench.append(10);
    bench.stream(1);
    let _ = (bench.sync(), bench.ack(1, 1, 110));
    assert_eq!(bench.answer(1, 1, ProposalOutcome::Ineligible), Facts::default());
    assert_eq!(bench.high_watermark(), 100);
    assert_eq!(bench.answer(1, 2, ProposalOutcome::Ineligible).high_watermark, Some(Offset(110)));
}

/// KAFKA-14154: neither a word of success nor one of failure changes a set; what is committed does.
#[test]
fn only_what_is_committed_changes_the_set() {
    for outcome in [ProposalOutcome::Committed, ProposalOutcome::Stale] {
        let mut bench = Bench::streaming(&[0, 1], 1);
        assert_eq!(bench.proposes(), Some((1, vec![0, 1, 2])));
        bench.append(10);
        bench.stream(1);
        let _ = (bench.sync(), bench.ack(1, 1, 110));
        assert_eq!(bench.answer(1, 1, outcome), Facts::default());
        assert_eq!((bench.leader.in_sync().len(), bench.high_watermark()), (2, 100));
        // Whatever was committed instead settles it.
        assert_eq!(bench.set(2, &[0, 1]).high_watermark, Some(Offset(110)));
    }
}

/// KAFKA-13790: an older state that comes later is not taken, whatever brings it.
#[test]
fn an_older_state_changes_nothing() {
    let mut bench = Bench::streaming(&[0, 1, 2], 2);
    let _ = bench.set(4, &[0, 1]);
    for (partition_epoch, in_sync) in [(3, &[0, 1, 2][..]), (4, &[0][..])] {
        assert_eq!(bench.set(partition_epoch, in_sync), Facts::default());
        assert_eq!(bench.leader.in_sync(), [NodeId(0), NodeId(1)]);
    }
    let newer = View { leader_epoch: LeaderEpoch(6), ..view(9, &[0]) };
    let _ = bench.leader.on_view(&newer, bench.now, &mut bench.peers);
    assert_eq!(bench.leader.in_sync().len(), 2, "another epoch has another leader");
}

/// Rule 5: a follower that is always a little behind, as with batches in flight it is, stays.
#[test]
fn who_reaches_every_end_a_little_later_stays() {
    let mut bench = Bench::streaming(&[0, 1, 2], 1);
    for _ in 0..100 {
        // Two more appends are on their way by the time that one is acknowledged.
        bench.append(10);
        let _ = bench.sync();
        bench.stream(1);
        bench.stream(2);
        let durable = (bench.end - 20).max(100);
        let _ = (bench.ack(1, 1, durable), bench.ack(2, 2, durable));
        bench.now = bench.now + Duration::from_secs(1);
        let facts = bench.pass(Duration::ZERO);
        assert!(!facts.proposes);
    }
}

#[test]
fn who_is_not_caught_up_at_any_moment_for_so_long_leaves() {
    let mut bench = Bench::streaming(&[0, 1, 2], 1);
    // An idle partition keeps everybody.
    assert!(!bench.pass(LAG * 5).proposes);
    bench.append(100);
    bench.stream(1);
    bench.stream(2);
    let _ = bench.ack(1, 1, 200);
    // It gets on, and never gets there.
    let _ = bench.ack(2, 2, 150);
    assert_eq!(bench.leader.deadline(bench.now), Some(bench.now + LAG));
    assert!(!bench.pass(LAG - Duration::from_nanos(1)).proposes);
    assert!(bench.pass(Duration::from_nanos(1)).proposes);
    assert_eq!(bench.proposes(), Some((1, vec![0, 1])));
}

/// Who would have to leave at once does not join, though it has reached a high watermark that stands still.
#[test]
fn who_is_behind_for_too_long_does_not_join() {
    let mut bench = Bench::streaming(&[0, 1], 1);
    let fenced = Member { may_join: false, ..member(2, 12) };
    let _ = bench.leader.on_member(&fenced, bench.now, &mut bench.peers);
    bench.append(10);
    assert!(bench.pass(LAG).proposes);
    let _ = bench.leader.on_member(&member(2, 12), bench.now, &mut bench.peers);
    assert_eq!(bench.proposes(), Some((1, vec![0])));
}

#[test]
fn who_cannot_be_heard_leaves_even_from_an_idle_partition() {
    let mut bench = Bench::streaming(&[0, 1, 2], 1);
    bench.leader.disconnected(NodeId(2), bench.now, &mut bench.peers);
    assert!(!bench.pass(LAG / 2).proposes);
    assert!(bench.pass(LAG / 2).proposes);
    assert_eq!(bench.proposes(), Some((1, vec![0, 1])));
}

/// Rule 5: a bound of entries counts only when it is exceeded for the whole time, since at a million records a second it
/// is a few milliseconds.
#[test]
fn many_entries_are_no_lag_unless_they_last() {
    let mut bench = Bench::new(&[0, 1, 2], 1);
    bench.leader = {
        let settings = Settings { lag_entries_max: Some(50), partition_credit: 1 << 20, ..settings() };
        let log = Ends { start: Offset(0), durable: Offset(100), end: Offset(100), is_cutting: false };
        bench.peers = Peers::new(1 << 20, 1 << 20);
        bench.peers.connected(NodeId(1));
        let view = view(1, &[0, 1]);
        let node = member(0, 10).replica;
        Leader::new(PARTITION, node, &view, 1, log, Offset(90), settings, bench.now, &mut bench.peers)
    };
    let session = bench.agree(1, 100);
    let lag_behind = |bench: &mut Bench, by: i64| {
        bench.append(100);
        bench.stream(1);
        let facts = bench.ack(1, session, bench.end - by);
        let late = bench.pass(LAG / 4);
        facts.proposes || late.proposes
    };
    // By time it is never behind, since it reaches each end with the next acknowledgement.
    for _ in 0..3 {
        assert!(!lag_behind(&mut bench, 90));
    }
    assert!(!lag_behind(&mut bench, 0));
    for _ in 0..3 {
        assert!(!lag_behind(&mut bench, 90));
    }
    assert!(lag_behind(&mut bench, 90) || lag_behind(&mut bench, 90));
}

/// KAFKA-5634, rule of the shown start: what one of the set still shows may not be shown as gone.
#[test]
fn the_start_shown_is_the_least_of_the_set() {
    let mut bench = Bench::streaming(&[0, 1, 2], 1);
    let facts = bench.leader.confirmed(Offset(100), Offset(40), bench.now, &mut bench.peers);
    assert_eq!((facts.start, bench.leader.start()), (None, Some(Offset(0))));
    let news = bench.now + settings().news_within;
    bench.now = news;
    assert_eq!(bench.stream(1).last().map(|append| append.start), Some(Offset(40)));
    let acked = |bench: &Bench, node, session| Acked { start: Offset(40), ..bench.acked(node, session, 100) };
    let (one, two) = (acked(&bench, 1, 1), acked(&bench, 2, 2));
    assert_eq!(bench.heard(1, &one).start, None);
    assert_eq!(bench.heard(2, &two).start, Some(Offset(40)));
}

/// Who still shows what was said to be gone may not lead, so it does not join.
#[test]
fn nobody_joins_who_shows_what_is_gone() {
    let mut bench = Bench::new(&[0], 1);
    let _ = bench.leader.confirmed(Offset(100), Offset(40), bench.now, &mut bench.peers);
    assert_eq!(bench.leader.start(), Some(Offset(40)));
    let session = bench.agree(1, 100);
    assert_eq!(bench.proposes(), None);
    let acked = Acked { start: Offset(40), ..bench.acked(1, session, 100) };
    assert!(bench.heard(1, &acked).proposes);
}

/// A new leader has perhaps deleted what nobody else has: as long as another one may lead next, it does not say so.
#[test]
fn a_new_leader_knows_the_start_when_the_whole_set_has_told_it() {
    let mut bench = Bench::new(&[0, 1, 2], 1);
    assert_eq!(bench.leader.start(), None);
    bench.agree(1, 100);
    assert_eq!(bench.leader.start(), None);
    bench.agree(2, 100);
    assert_eq!(bench.leader.start(), Some(Offset(0)));
    assert_eq!(Bench::new(&[0], 1).leader.start(), Some(Offset(0)));
}

/// Who has left a set that is too small is eligible, and may lead next with what it had then (KIP-966): what is deleted
/// meanwhile is not said to be gone, and a new leader does not know what the eligible ones show.
#[test]
fn below_the_minimum_the_start_shown_stands_still() {
    let mut bench = Bench::streaming(&[0, 1], 2);
    assert_eq!(bench.leader.start(), Some(Offset(0)));
    let _ = bench.leader.on_view(&view(2, &[0]), bench.now, &mut bench.peers);
    let facts = bench.leader.confirmed(Offset(100), Offset(40), bench.now, &mut bench.peers);
    assert_eq!((facts.start, bench.leader.start()), (None, Some(Offset(0))));
    let acked = Acked { start: Offset(40), ..bench.acked(1, 1, 100) };
    assert_eq!(bench.heard(1, &acked).start, None, "it is not in the set");
    let facts = bench.leader.on_view(&view(3, &[0, 1]), bench.now, &mut bench.peers);
    assert_eq!(facts.start, Some(Offset(40)));

    let mut bench = Bench::new(&[0], 2);
    assert_eq!(bench.leader.start(), None);
    let facts = bench.leader.on_min_in_sync(1, bench.now, &mut bench.peers);
    assert_eq!(facts.start, Some(Offset(0)));
}

#[test]
fn a_high_watermark_travels_alone_only_when_nothing_carries_it() {
    let mut bench = Bench::streaming(&[0, 1, 2], 1);
    bench.append(10);
    let sent = bench.stream(1);
    assert_eq!(sent.iter().map(|append| append.high_watermark.0).collect::<Vec<_>>(), [100]);
    let _ = (bench.sync(), bench.stream(2), bench.ack(2, 2, 110));
    assert_eq!(bench.ack(1, 1, 110).high_watermark, Some(Offset(110)));
    assert_eq!(bench.stream(1), [], "it is not due yet");
    let due = bench.peers.deadline().expect("it is news");
    bench.now = due;
    let sent = bench.stream(1);
    assert_eq!(sent.len(), 1);
    assert_eq!((sent[0].batches.is_empty(), sent[0].high_watermark), (true, Offset(110)));
    // What a batch has carried is no news any more.
    bench.append(10);
    let _ = (bench.sync(), bench.stream(1), bench.stream(2), bench.ack(1, 1, 120), bench.ack(2, 2, 120));
    bench.append(10);
    bench.stream(1);
    bench.now = bench.peers.deadline().expect("it is news for one of them");
    assert_eq!(bench.stream(1), []);
}

/// A follower whose disk has no room takes nothing in. What others acknowledge meanwhile must not pile up there.
#[test]
fn who_acknowledges_nothing_is_not_sent_one_high_watermark_after_another() {
    let mut bench = Bench::streaming(&[0, 1], 1);
    bench.append(1000);
    assert_eq!(bench.stream(2).len(), 3, "all its credit");
    let _ = (bench.sync(), bench.stream(1), bench.ack(1, 1, 1100));
    for _ in 0..10 {
        bench.append(10);
        let _ = (bench.sync(), bench.stream(1), bench.ack(1, 1, bench.end));
        bench.now = bench.now + Duration::from_millis(10);
        assert_eq!(bench.stream(2), []);
    }
    let _ = bench.ack(2, 2, 1100);
    let sent = bench.stream(2);
    assert_eq!(sent.last().map(|append| append.high_watermark), Some(Offset(bench.end)));
}

#[test]
fn what_is_on_its_way_is_bounded_for_each_partition_and_each_peer() {
    let mut bench = Bench::streaming(&[0, 1, 2], 1);
    bench.append(5000);
    let sent = bench.stream(1);
    assert_eq!(sent.iter().map(|append| append.batches.bytes()).collect::<Vec<_>>(), [400, 400, 200]);
    assert_eq!(bench.peers.in_flight(NodeId(1), Lane::Tail), 1000);
    // What is acknowledged makes room for as much.
    let _ = bench.ack(1, 1, 500);
    let sent = bench.stream(1);
    assert_eq!(sent.iter().map(|append| append.previous_end.0).collect::<Vec<_>>(), [1100]);
    // With the session ends what it used.
    bench.leader.disconnected(NodeId(1), bench.now, &mut bench.peers);
    assert_eq!(bench.peers.in_flight(NodeId(1), Lane::Tail), 0);
}

/// One batch is sent whatever its size: what is never sent is never acknowledged.
#[test]
fn a_batch_larger_than_any_credit_is_sent_alone() {
    let mut bench = Bench::streaming(&[0, 1, 2], 1);
    bench.append(10);
    let Some((Lane::Tail, Next::Batches { .. })) = bench.next(1) else { panic!("there is something to send") };
    bench.leader.send(NodeId(1), batches(9000), Offset(110), bench.now, &mut bench.peers);
    bench.append(10);
    assert_eq!(bench.next(1), None);
    let _ = bench.ack(1, 1, 110);
    assert!(matches!(bench.next(1), Some((Lane::Tail, Next::Batches { from: Offset(110), .. }))));
}

/// A follower that is far behind takes its turn after those at the end, reads one piece at a time, and gets back to them.
#[test]
fn what_must_be_read_from_segments_waits_behind_the_tail() {
    let mut bench = Bench::streaming(&[0, 1, 2], 1);
    bench.append(10);
    let Some((Lane::Tail, Next::Batches { session, .. })) = bench.next(1) else { panic!("the tail is tried first") };
    bench.leader.wait_for_catch_up(NodeId(1), bench.now, &mut bench.peers);
    let Some((Lane::CatchUp, Next::Batches { from: Offset(100), .. })) = bench.next(1) else { panic!("it is read") };
    bench.append(10);
    assert_eq!(bench.next(1), None, "one read at a time");
    let read = |bench: &mut Bench, session, up_to| {
        bench.leader.send_read(NodeId(1), session, batches(5), Offset(up_to), bench.now, &mut bench.peers)
    };
    assert_eq!(read(&mut bench, Session(99), 105), None);
    assert_eq!(read(&mut bench, session, 105).map(|append| append.previous_end), Some(Offset(100)));
    assert_eq!(bench.peers.in_flight(NodeId(1), Lane::CatchUp), 5);
    assert!(matches!(bench.next(1), Some((Lane::Tail, Next::Batches { from: Offset(105), .. }))));

    // A read whose session has ended is nobody's.
    bench.leader.wait_for_catch_up(NodeId(1), bench.now, &mut bench.peers);
    bench.next(1);
    bench.leader.connected(NodeId(1), bench.now, &mut bench.peers);
    assert_eq!(read(&mut bench, session, 110), None);
}

/// What a follower needs may be deleted before it is sent: it starts anew behind that (KAFKA-9491).
#[test]
fn who_needs_what_is_gone_starts_anew() {
    let mut bench = Bench::streaming(&[0, 2], 1);
    bench.leader.connected(NodeId(1), bench.now, &mut bench.peers);
    let session = bench.agree(1, 20);
    let _ = bench.leader.confirmed(Offset(100), Offset(40), bench.now, &mut bench.peers);
    assert!(matches!(bench.next(1), Some((Lane::Tail, Next::Nothing))));
    let Some((_, Next::Greet(greet))) = bench.next(1) else { panic!("it begins anew") };
    assert!(greet.session > Session(session));
}

#[test]
fn who_is_not_greeted_asks_and_two_that_cannot_agree_wait() {
    let mut bench = Bench::new(&[0, 1, 2], 1);
    // The first greeting came before the follower knew of its leader; when it knows, it asks.
    let Some((_, Next::Greet(_))) = bench.next(1) else { panic!("it greets") };
    let asks = bench.acked(1, 0, 100);
    bench.leader.on_mismatch(NodeId(1), &asks, bench.now, &mut bench.peers);
    bench.leader.on_mismatch(NodeId(1), &asks, bench.now, &mut bench.peers);
    let session = bench.agree(1, 100);
    assert_eq!(session, 3, "what is queued is not queued again");
    // What does not follow although something did is tried again at once; what never did, after a while.
    bench.append(10);
    bench.stream(1);
    let _ = bench.ack(1, session, 110);
    bench.leader.on_mismatch(NodeId(1), &bench.acked(1, session, 110), bench.now, &mut bench.peers);
    let session = bench.agree(1, 110);
    bench.leader.on_mismatch(NodeId(1), &bench.acked(1, session, 110), bench.now, &mut bench.peers);
    assert_eq!(bench.next(1), None);
    let until = bench.leader.deadline(bench.now).expect("it is tried again");
    assert_eq!(until, bench.now + settings().backoff);
    let _ = bench.pass(settings().backoff);
    assert!(matches!(bench.next(1), Some((Lane::Control, Next::Greet(_)))));
}

/// A leader that is one no more leaves nothing behind at its peers.
#[test]
fn who_resigns_gives_back_all_credit() {
    let mut bench = Bench::streaming(&[0, 1, 2], 1);
    bench.append(500);
    bench.stream(1);
    bench.stream(2);
    assert!(bench.peers.in_flight(NodeId(2), Lane::Tail) > 0);
    bench.leader.resign(bench.now, &mut bench.peers);
    assert_eq!(bench.peers.in_flight(NodeId(1), Lane::Tail) + bench.peers.in_flight(NodeId(2), Lane::Tail), 0);
}
