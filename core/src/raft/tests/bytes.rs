//! What is written is read again as it was, and nothing else is.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::world::{CLUSTER, encoded, member, members};
use crate::ids::{NodeId, Uuid};
use crate::raft::message::Body;
use crate::raft::{
    Change, Content, Entry, Inconsistent, LogId, MAX_INDEX, MAX_TERM, Malformed, MemberKey, Membership, Message,
    Record, Restored, SnapshotHead, Vote,
};

fn entries() -> Vec<Entry> {
    let contents = [
        Content::Blank,
        Content::Payload(Bytes::from_static(b"payload")),
        Content::Membership(Change::Enter { voters: members([1, 2]), learners: members([3]) }),
        Content::Membership(Change::Leave),
    ];
    (8..).zip(contents).map(|(index, content)| Entry { id: LogId { index, term: index / 2 }, content }).collect()
}

fn head() -> SnapshotHead {
    let membership =
        Membership { since: 4, voters: members([1, 2]), learners: members([3]), outgoing: members([1, 3]) };
    SnapshotHead { last: LogId { index: 7, term: 3 }, membership }
}

fn messages() -> Vec<Message> {
    let position = LogId { index: 7, term: 3 };
    let read = Some(u64::MAX);
    [
        Body::Append { previous: position, committed: 5, entries: entries() },
        Body::Append { previous: position, committed: 5, entries: Vec::new() },
        Body::Appended { index: 9, committed: 8 },
        Body::Diverged { index: 9, committed: 8, hint: position },
        Body::Stand { pre: true, forced: false, last: position, committed: LogId::default() },
        Body::Stand { pre: false, forced: true, last: position, committed: position },
        Body::Voted { pre: false, granted: true, committed: position },
        Body::Heartbeat { committed: 5, read },
        Body::Alive { committed: MAX_INDEX, read: None },
        Body::TakeOver,
        Body::Piece { head: head(), offset: 3, total: 8, bytes: Bytes::from_static(b"image") },
        Body::Received { index: 7, length: 8 },
    ]
    .map(|body| Message { cluster: CLUSTER, from: member(2, 1), to: member(1, 1), since: 4, term: 5, body })
    .into()
}

fn bytes(message: &Message) -> Vec<u8> {
    let mut bytes = Vec::new();
    message.encode(&mut bytes);
    bytes
}

#[test]
fn a_message_is_read_as_it_was_written() {
    for message in messages() {
        assert_eq!(Message::decode(bytes(&message).into()), Ok(message));
    }
}

#[test]
fn a_message_that_is_cut_or_goes_on_is_refused() {
    for message in messages() {
        let whole = bytes(&message);
        for length in 0..whole.len() {
            assert!(Message::decode(Bytes::copy_from_slice(&whole[..length])).is_err(), "{message:?} cut at {length}");
        }
        let more = [&whole[..], &[0]].concat();
        assert_eq!(Message::decode(more.into()), Err(Malformed::TooLong), "{message:?}");
    }
}

#[test]
fn a_message_of_a_later_version_is_refused_by_name() {
    let mut later = bytes(&messages()[0]);
    later[0] = 1;
    assert_eq!(Message::decode(later.into()), Err(Malformed::UnknownVersion(1)));
    let mut unknown = bytes(&messages()[0]);
    unknown[1] = 11;
    assert_eq!(Message::decode(unknown.into()), Err(Malformed::UnknownKind(11)));
}

#[test]
fn a_message_that_no_member_sends_is_refused() {
    fn check(body: Body, expect: Malformed) {
        let message = Message { cluster: CLUSTER, from: member(2, 1), to: member(1, 1), since: 0, term: 5, body };
        assert_eq!(Message::decode(bytes(&message).into()), Err(expect), "{message:?}");
    }
    let append = |index, term, entries| Body::Append { previous: LogId { index, term }, committed: 0, entries };
    let entry = |term| Entry { id: LogId { index: 0, term }, content: Content::Blank };
    check(append(0, 1, vec![]), Malformed::IndexOutOfRange(0));
    // The library takes a term of 0 for that of an entry which is not there, and so for a match.
    check(append(7, 0, vec![]), Malformed::TermOutOfRange(0));
    check(append(7, 3, vec![entry(0)]), Malformed::TermOutOfRange(0));
    check(append(7, 6, vec![]), Malformed::TermsOutOfOrder);
    check(append(7, 3, vec![entry(2)]), Malformed::TermsOutOfOrder);
    check(append(7, 3, vec![entry(6)]), Malformed::TermsOutOfOrder);
    check(append(MAX_INDEX, 3, vec![entry(3)]), Malformed::IndexOutOfRange(MAX_INDEX + 1));
    let empty = Content::Payload(Bytes::new());
    check(append(7, 3, vec![Entry { content: empty, ..entry(3) }]), Malformed::EmptyPayload);
    let none = Content::Membership(Change::Enter { voters: BTreeSet::new(), learners: BTreeSet::new() });
    check(append(7, 3, vec![Entry { content: none, ..entry(3) }]), Malformed::NoMembership);
    let twice = Content::Membership(Change::Enter { voters: members([1]), learners: members([1]) });
    check(append(7, 3, vec![Entry { content: twice, ..entry(3) }]), Malformed::NoMembership);
    check(Body::Appended { index: MAX_INDEX + 1, committed: 0 }, Malformed::IndexOutOfRange(MAX_INDEX + 1));
    check(Body::Diverged { index: 7, committed: 0, hint: LogId { index: 8, term: 1 } }, Malformed::IndexOutOfRange(8));
    let piece = |head, offset, total| Body::Piece { head, offset, total, bytes: Bytes::from_static(b"four") };
    check(piece(head(), 5, 8), Malformed::PieceOutOfSnapshot);
    check(piece(head(), u64::MAX, 8), Malformed::PieceOutOfSnapshot);
    let later = SnapshotHead { last: LogId { index: 7, term: 6 }, ..head() };
    check(piece(later, 0, 4), Malformed::TermsOutOfOrder);
    let early = SnapshotHead { last: LogId { index: 3, term: 3 }, ..head() };
    check(piece(early, 0, 4), Malformed::IndexOutOfRange(3));
}

#[test]
fn a_term_that_nobody_leads_is_refused() {
    for term in [0, MAX_TERM + 1, u64::MAX] {
        let message = Message { term, ..messages().pop().unwrap() };
        assert_eq!(Message::decode(bytes(&message).into()), Err(Malformed::TermOutOfRange(term)));
    }
}

#[test]
fn a_list_sets_aside_no_more_than_was_sent() {
    let mut announced = bytes(&messages()[1]);
    let count = announced.len() - 4;
    announced[count..].copy_from_slice(&u32::MAX.to_be_bytes());
    assert_eq!(Message::decode(announced.into()), Err(Malformed::Cut));
}

#[test]
fn a_record_is_read_as_it_was_written() {
    let vote = Vote { term: 3, voted_for: Some(member(1, 1).key()), committed: 7 };
    let records = [
        Record::Append(entries()),
        Record::Vote(vote),
        Record::Vote(Vote::default()),
        Record::Install(head()),
        Record::Compact(head()),
    ];
    for record in records {
        let whole = encoded(&record);
        for length in 0..whole.len() {
            assert!(Record::decode(whole.slice(..length)).is_err(), "{record:?} cut at {length}");
        }
        assert_eq!(Record::decode(whole), Ok(record));
    }
}

#[test]
fn the_layout_is_fixed() {
    let message = Message { cluster: Uuid([0xcc; 16]), ..messages().swap_remove(7) };
    let written =
        [hex(&encoded(&Record::Append(entries()))), hex(&encoded(&Record::Install(head()))), hex(&bytes(&message))];
    assert_eq!(written, GOLDEN);
}
const GOLDEN: [&str; 3] = [
    "000100000000000000080000000400000000000000040000000000000000000000000401000000077061796c6f6164000000\
     0000000005020000004501000000020000000101010101010101010101010101010101000000020201010101010101010101\
     01010101010000000100000003030101010101010101010101010101010000000000000005020000000102",
    "0003000000000000000700000000000000030000000000000004000000020000000101010101010101010101010101010101\
     0000000202010101010101010101010101010101000000010000000303010101010101010101010101010101000000020000\
     0001010101010101010101010101010101010000000303010101010101010101010101010101",
    "0006cccccccccccccccccccccccccccccccc0000000202010101010101010101010101010101000000010101010101010101\
     010101010101010100000000000000040000000000000005000000000000000501ffffffffffffffff",
];

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn a_key_names_node_and_folder() {
    let keys: BTreeSet<MemberKey> =
        [member(0, 1), member(1, 1), member(1, 2), member(i32::MAX, 1)].map(|member| member.key()).into();
    assert_eq!(keys.len(), 4);
    assert_eq!(keys.iter().map(|key| key.node()).collect::<BTreeSet<_>>(), [0, 1, i32::MAX].map(NodeId).into());
    assert!(keys.iter().all(|key| key.0 > 0));
}

fn replayed(records: impl IntoIterator<Item = Record>) -> Result<Restored, Inconsistent> {
    let mut restored = Restored::bootstrap(Membership::of(members([1])).unwrap());
    for record in records {
        restored.replay(record)?;
    }
    restored.checked()
}

fn run(terms: impl IntoIterator<Item = (u64, u64)>) -> Record {
    let entry = |(index, term)| Entry { id: LogId { index, term }, content: Content::Blank };
    Record::Append(terms.into_iter().map(entry).collect())
}

#[test]
fn records_give_back_the_log() {
    let cut = replayed([run([(2, 1), (3, 1), (4, 1)]), run([(3, 2)])]).unwrap();
    assert_eq!(cut.last(), LogId { index: 3, term: 2 });
    // The entries prove a term that the vote, which was to follow them, would have told.
    assert_eq!(cut.vote(), Vote { term: 2, voted_for: None, committed: 1 });
    let membership = Membership::of(members([1])).unwrap();
    let head = |index| SnapshotHead { last: LogId { index, term: 1 }, membership: membership.clone() };
    let compacted = replayed([run([(2, 1), (3, 1)]), Record::Compact(head(2))]).unwrap();
    assert_eq!((compacted.head().last.index, compacted.last().index, compacted.vote().committed), (2, 3, 2));
    let installed = replayed([run([(2, 1), (3, 1)]), Record::Install(head(2))]).unwrap();
    assert_eq!((installed.last().index, installed.vote().committed), (2, 2));
}

#[test]
fn a_change_proves_that_the_one_before_is_committed() {
    let change = |index, change| {
        Record::Append(vec![Entry { id: LogId { index, term: 1 }, content: Content::Membership(change) }])
    };
    let enter = Change::Enter { voters: members([1, 2, 3]), learners: BTreeSet::new() };
    let records = [change(2, enter.clone()), run([(3, 1)]), change(4, Change::Leave), run([(5, 1)]), change(6, enter)];
    for (records_kept, committed) in [(1, 1), (2, 1), (3, 2), (4, 2), (5, 4)] {
        assert_eq!(replayed(records[..records_kept].to_vec()).unwrap().vote().committed, committed);
    }
}

#[test]
fn records_that_are_not_one_log_are_refused() {
    fn check(records: impl IntoIterator<Item = Record>, expect: Inconsistent) {
        assert_eq!(replayed(records).map(|_| ()), Err(expect));
    }
    check([run([(3, 1)])], Inconsistent::Gap { index: 3, end: 1 });
    check([run([(1, 1)])], Inconsistent::Gap { index: 1, end: 1 });
    check([run([(2, 1), (4, 1)])], Inconsistent::Gap { index: 4, end: 2 });
    check([run([(2, 2), (3, 1)])], Inconsistent::TermsOutOfOrder { index: 3 });
    let known = LogId { index: 9, term: 3 };
    check([super::world::vote(3, 9)], Inconsistent::Forgotten { known, last: LogId { index: 1, term: 1 } });
}
