//! What the journal's records of metadata say, for people.

use bytes::{Buf, Bytes};

use super::recall::decode_before;
use crate::controller::records::decode_entry;
use crate::journal::RecordKind;
use crate::raft::{Change, Content, Entry, Member, Record, SnapshotHead};

/// Lines about a record of `kind`, or what is wrong with what should be one; none where there is nothing to say.
///
/// # Errors
/// What is wrong with a payload of which nothing can be understood. Never panics.
pub(in crate::node) fn told(kind: RecordKind, payload: Bytes) -> Result<Vec<Result<String, String>>, String> {
    match kind {
        RecordKind::Quorum => {
            let record = Record::decode(payload).map_err(|error| format!("the metadata quorum: {error}"))?;
            Ok(quorum(&record))
        }
        RecordKind::Metadata => {
            let (index, records) = decode_before(&payload)?;
            Ok(records.iter().map(|record| Ok(format!("entry {index}: {record}"))).collect())
        }
        RecordKind::Applied => {
            let index = (&payload[..]).try_get_u64_le().map_err(|_| "a record of what was applied is cut short")?;
            Ok(vec![Ok(format!("the metadata log is applied up to entry {index}"))])
        }
        RecordKind::Image if payload.is_empty() => Ok(vec![Ok("an image of the metadata begins".to_owned())]),
        RecordKind::Image => Ok(vec![Ok(format!("a piece of an image of the metadata, {} bytes", payload.len()))]),
        _ => Ok(Vec::new()),
    }
}

fn quorum(record: &Record) -> Vec<Result<String, String>> {
    match record {
        Record::Append(entries) => entries.iter().flat_map(entry).collect(),
        Record::Vote(vote) => {
            let of = vote.voted_for.map_or_else(|| "nobody".to_owned(), |key| format!("node {}", key.node()));
            let committed = vote.committed;
            vec![Ok(format!("vote in term {} for {of}, committed up to entry {committed}", vote.term))]
        }
        Record::Install(head) => {
            vec![Ok(format!("a leader's snapshot takes the place of the log: {}", snapshot(head)))]
        }
        Record::Compact(head) => {
            vec![Ok(format!("a snapshot takes the place of the log's beginning: {}", snapshot(head)))]
        }
    }
}

fn entry(entry: &Entry) -> Vec<Result<String, String>> {
    let name = format!("entry {} of term {}", entry.id.index, entry.id.term);
    match &entry.content {
        Content::Blank => vec![Ok(format!("{name}: blank, a leader's first"))],
        Content::Payload(payload) => match decode_entry(payload) {
            Ok(records) => records.iter().map(|record| Ok(format!("{name}: {record}"))).collect(),
            Err(error) => vec![Err(format!("{name}: {error}"))],
        },
        Content::Membership(Change::Enter { voters, learners }) => {
            vec![Ok(format!("{name}: voters become {}, learners {}", members(voters), members(learners)))]
        }
        Content::Membership(Change::Leave) => vec![Ok(format!("{name}: the voters before count no longer"))],
    }
}

fn snapshot(head: &SnapshotHead) -> String {
    let membership = &head.membership;
    let mut line = format!(
        "up to entry {} of term {}, voters {}, learners {}",
        head.last.index,
        head.last.term,
        members(membership.voters()),
        members(membership.learners())
    );
    if membership.is_joint() {
        line.push_str(", voters before ");
        line.push_str(&members(membership.outgoing()));
    }
    line
}

fn members<'a>(members: impl IntoIterator<Item = &'a Member>) -> String {
    let names: Vec<_> = members.into_iter().map(Member::to_string).collect();
    format!("[{}]", names.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::records::{MetadataRecord, encode_entry};
    use crate::ids::{NodeId, Uuid};
    use crate::raft::{LogId, Membership, Vote};

    fn shown(record: &Record) -> Vec<Result<String, String>> {
        let mut payload = Vec::new();
        record.encode(&mut payload);
        told(RecordKind::Quorum, payload.into()).expect("it was just written")
    }

    #[test]
    fn each_record_of_an_entry_is_a_line_and_damage_leaves_the_others() {
        let records = [
            MetadataRecord::FormatLevel { level: 1 },
            MetadataRecord::Topic { id: Uuid([1; 16]), name: "orders".into() },
        ];
        let entry = |index, content| Entry { id: LogId { index, term: 3 }, content };
        let lines = shown(&Record::Append(vec![
            entry(5, Content::Blank),
            entry(6, Content::Payload(encode_entry(&records).into())),
            entry(7, Content::Payload(Bytes::from_static(b"\0\0"))),
            entry(8, Content::Membership(Change::Leave)),
        ]));
        let sound: Vec<_> = lines.iter().filter_map(|line| line.as_deref().ok()).collect();
        assert_eq!(
            sound,
            [
                "entry 5 of term 3: blank, a leader's first",
                "entry 6 of term 3: FormatLevel 1",
                "entry 6 of term 3: Topic \"orders\" id AQEBAQEBAQEBAQEBAQEBAQ",
                "entry 8 of term 3: the voters before count no longer",
            ]
        );
        let wrong = lines[3].as_deref().expect_err("two bytes are no entry");
        assert!(wrong.starts_with("entry 7 of term 3: "), "{wrong}");
    }

    #[test]
    fn votes_snapshots_and_marks_are_a_line_each() {
        let check = |record, expect: &str| assert_eq!(shown(&record), [Ok(expect.to_owned())]);
        let me = Member { node: NodeId(1), directory: Uuid([1; 16]) };
        let vote = Vote { term: 4, voted_for: Some(me.key()), committed: 9 };
        check(Record::Vote(vote), "vote in term 4 for node 1, committed up to entry 9");
        check(Record::Vote(Vote { voted_for: None, ..vote }), "vote in term 4 for nobody, committed up to entry 9");
        let membership = Membership::of([me]).expect("one voter");
        let head = SnapshotHead { last: LogId { index: 9, term: 4 }, membership };
        let of = "up to entry 9 of term 4, voters [1@AQEBAQEBAQEBAQEBAQEBAQ], learners []";
        check(Record::Compact(head.clone()), &format!("a snapshot takes the place of the log's beginning: {of}"));
        check(Record::Install(head), &format!("a leader's snapshot takes the place of the log: {of}"));
        let line = |kind, payload: &'static [u8]| told(kind, Bytes::from_static(payload));
        let applied = vec![Ok("the metadata log is applied up to entry 7".to_owned())];
        assert_eq!(line(RecordKind::Applied, &[7, 0, 0, 0, 0, 0, 0, 0]), Ok(applied));
        assert_eq!(line(RecordKind::NodeState, b"anything"), Ok(Vec::new()));
        for kind in [RecordKind::Applied, RecordKind::Metadata, RecordKind::Quorum] {
            line(kind, b"cut").expect_err("three bytes are none of these");
        }
    }
}
