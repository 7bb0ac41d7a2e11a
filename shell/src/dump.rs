//! What a segment or a journal file holds, for people: one line for each thing in it, in the order in which it lies
//! there. A batch looks the same in both.
//!
//! Read-only, and independent of the broker: the file may be in use, copied from elsewhere, cut or damaged. What cannot
//! be read is said in its place, and as much as can be told apart behind it is shown.

use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use chronik_core::batch::{BatchError, BatchHead, Codec, HEAD_BYTES, Record, Records, check};
use chronik_core::boundary::DIRECT_BLOCK;
use chronik_core::ids::Offset;
use chronik_core::journal::{ReadError, RecordKind, Seen, Slots, inspect};
use chronik_core::log;
use chronik_core::node::{Told, told};

/// Bytes that one batch may decompress to, far above what any producer sends.
const DECOMPRESSED_BYTES_MAX: usize = 1 << 30;
/// Bytes of a key or value that are shown.
const SHOWN_BYTES_MAX: usize = 256;
/// How much of a file's zeros is looked at in one read.
const ZEROS_READ: usize = 1 << 20;

/// Why a file could not be shown whole.
#[derive(Debug)]
pub enum Incomplete {
    /// Its name does not tell what it is.
    Unknown {
        /// The file.
        path: PathBuf,
    },
    /// The system could not read it.
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What it said.
        why: io::Error,
    },
    /// All of it was shown, and some of it is not what was written.
    Damaged {
        /// The file.
        path: PathBuf,
        /// How many places were marked.
        places: u64,
    },
    /// The lines could not be written.
    Unwritable {
        /// What the system said.
        why: io::Error,
    },
}

impl fmt::Display for Incomplete {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Incomplete::Unknown { path } => write!(
                f,
                "{} is neither a segment (its name ends in .log) nor a journal file (.journal): name one of these",
                path.display()
            ),
            Incomplete::Unreadable { path, why } => write!(f, "cannot read {}: {why}", path.display()),
            Incomplete::Damaged { path, places: 1 } => {
                write!(f, "{} is damaged in one place, marked above", path.display())
            }
            Incomplete::Damaged { path, places } => {
                write!(f, "{} is damaged in {places} places, marked above", path.display())
            }
            Incomplete::Unwritable { why } => write!(f, "cannot write the lines: {why}"),
        }
    }
}

impl std::error::Error for Incomplete {}

/// Writes what the file at `path` holds to `out`, a line for each thing.
///
/// # Errors
/// Where something could not be shown; what could be is written all the same.
pub fn dump(path: &Path, out: impl Write) -> Result<(), Incomplete> {
    let unreadable = |why| Incomplete::Unreadable { path: path.to_owned(), why };
    let is_journal = match path.extension().and_then(|extension| extension.to_str()) {
        Some("journal") => true,
        Some("log") => false,
        _ => return Err(Incomplete::Unknown { path: path.to_owned() }),
    };
    let file = File::open(path).map_err(unreadable)?;
    let bytes = file.metadata().map_err(unreadable)?.len();
    let mut report = Report { out, places: 0 };
    let shown =
        if is_journal { journal(&OneFile { file, bytes }, &mut report) } else { segment(&file, bytes, &mut report) };
    match shown.and_then(|()| report.out.flush().map_err(Stopped::Writing)) {
        Ok(()) if report.places > 0 => Err(Incomplete::Damaged { path: path.to_owned(), places: report.places }),
        Ok(()) => Ok(()),
        Err(Stopped::Reading(why)) => Err(unreadable(why)),
        Err(Stopped::Writing(why)) => Err(Incomplete::Unwritable { why }),
    }
}

enum Stopped {
    Reading(io::Error),
    Writing(io::Error),
}

/// Lines, and how many of them tell of damage.
struct Report<W> {
    out: W,
    places: u64,
}

impl<W: Write> Report<W> {
    fn line(&mut self, line: fmt::Arguments<'_>) -> Result<(), Stopped> {
        writeln!(self.out, "{line}").map_err(Stopped::Writing)
    }

    /// What a large batch has outside whole blocks comes to its segment by write-behind, which goes on at any time later.
    fn unwritten(&mut self, position: u64) -> Result<(), Stopped> {
        self.line(format_args!(
            "{position:>10} not written yet: the files in journal/ hold what belongs here until the broker writes it \
             behind, and its next start or a read tells where they do not"
        ))
    }

    fn damage(&mut self, position: u64, what: impl fmt::Display) -> Result<(), Stopped> {
        self.places += 1;
        self.line(format_args!("{position:>10}   DAMAGED: {what}"))
    }
}

/// A journal of which only one file is at hand.
struct OneFile {
    file: File,
    bytes: u64,
}

impl Slots for OneFile {
    fn slots(&self) -> u32 {
        1
    }

    fn len(&self, _slot: u32) -> u64 {
        self.bytes
    }

    fn read_at(&self, _slot: u32, position: u64, into: &mut [u8]) -> Result<(), ReadError> {
        self.file.read_exact_at(into, position).map_err(|why| ReadError(why.to_string()))
    }
}

fn journal(file: &OneFile, report: &mut Report<impl Write>) -> Result<(), Stopped> {
    for seen in inspect(file, 0) {
        let is_damage = match &seen {
            Seen::Damaged { .. } | Seen::Unreadable { .. } => true,
            Seen::Record { payload, .. } => payload.is_err(),
            Seen::Commit { .. } | Seen::NoCommits { .. } => false,
        };
        report.places += u64::from(is_damage);
        report.line(format_args!("{seen}"))?;
        if let Seen::Record { place, header, payload: Ok(payload) } = seen
            // The line before says of a kind that a newer version wrote that it is none of ours.
            && let Ok(kind) = RecordKind::from_number(header.kind)
        {
            payload_of(kind, payload, place.position, report)?;
        }
    }
    Ok(())
}

/// What the payload of a journal record at `position` says.
fn payload_of(kind: RecordKind, payload: Bytes, position: u64, report: &mut Report<impl Write>) -> Result<(), Stopped> {
    match told(kind, payload) {
        Ok(Told::Log(log::Told::Append { batch, .. })) => match check(&batch) {
            Ok(head) => {
                report.line(format_args!("{:>14} {}", "", BatchLine(&head)))?;
                records(&batch, position, 16, report)
            }
            Err(what) => report.damage(position, what),
        },
        Ok(Told::Log(told)) => {
            if let log::Told::AppendDirect { head, .. } = &told {
                report.line(format_args!("{:>14} {}", "", BatchLine(head)))?;
            }
            report.line(format_args!("{:>14} {told}", ""))
        }
        Ok(Told::Node(lines)) => lines.iter().try_for_each(|line| match line {
            Ok(line) => report.line(format_args!("{:>14} {line}", "")),
            Err(what) => report.damage(position, what),
        }),
        Err(what) => report.damage(position, what),
    }
}

fn segment(file: &File, bytes: u64, report: &mut Report<impl Write>) -> Result<(), Stopped> {
    let mut position = 0;
    let mut next_offset = Offset(0);
    let mut batch = Vec::new();
    while position < bytes {
        let left = bytes - position;
        batch.resize(HEAD_BYTES.min(usize::try_from(left).unwrap_or(usize::MAX)), 0);
        file.read_exact_at(&mut batch, position).map_err(Stopped::Reading)?;
        if batch.iter().all(|&byte| byte == 0) && is_zero(file, position, bytes)? {
            // A segment's blocks are reserved before they are needed.
            return report.line(format_args!("{position:>10} {left} zeros"));
        }
        let head = match BatchHead::parse(&batch) {
            Ok(head) => head,
            // The first bytes of a large batch are in the journal as long as nothing before it is written behind.
            Err(_) if is_unwritten_up_to_block(&batch, position) => return report.unwritten(position),
            Err(what) => {
                return report.damage(position, format_args!("{what}; no batch can be told apart from here on"));
            }
        };
        let batch_bytes = head.batch_bytes();
        if batch_bytes as u64 > left {
            if left >= DIRECT_BLOCK && bytes.is_multiple_of(DIRECT_BLOCK) {
                return report.unwritten(bytes);
            }
            let what = BatchError::BytesEndInsideBatch { bytes: left as usize, batch_bytes };
            return report.damage(position, what);
        }
        batch.resize(batch_bytes, 0);
        file.read_exact_at(&mut batch, position).map_err(Stopped::Reading)?;
        report.line(format_args!("{position:>10} {}", BatchLine(&head)))?;
        if head.base_offset < next_offset {
            report.damage(position, format_args!("offsets go back from {next_offset} to {}", head.base_offset))?;
        }
        next_offset = head.next_offset();
        match check(&batch) {
            Ok(_) => records(&batch, position, 12, report)?,
            Err(_) if is_end_unwritten(&batch, position) => {
                let end = position + batch_bytes as u64;
                report.unwritten(end - end % DIRECT_BLOCK)?;
            }
            Err(what) => report.damage(position, what)?,
        }
        position += batch_bytes as u64;
    }
    Ok(())
}

/// Whether nothing is written from `position`, where a batch should begin, up to the next block.
fn is_unwritten_up_to_block(bytes: &[u8], position: u64) -> bool {
    let to_block = usize::try_from(DIRECT_BLOCK - position % DIRECT_BLOCK).expect("a block is small");
    bytes.iter().take(to_block).all(|&byte| byte == 0)
}

/// Whether a batch at `position` lacks what comes behind its last whole block.
fn is_end_unwritten(batch: &[u8], position: u64) -> bool {
    let behind = usize::try_from((position + batch.len() as u64) % DIRECT_BLOCK).expect("a block is small");
    let has_blocks = batch.len() >= behind + usize::try_from(DIRECT_BLOCK).expect("a block is small");
    behind > 0 && has_blocks && batch[batch.len() - behind..].iter().all(|&byte| byte == 0)
}

/// The records of a sound batch, `indent` characters to the right.
fn records(batch: &[u8], position: u64, indent: usize, report: &mut Report<impl Write>) -> Result<(), Stopped> {
    let mut records = match Records::open(batch, DECOMPRESSED_BYTES_MAX) {
        Ok(records) => records,
        Err(what) => return report.damage(position, what),
    };
    loop {
        match records.next_record() {
            Ok(Some(record)) => report.line(format_args!("{:>indent$} {}", "", RecordLine(&record)))?,
            Ok(None) => return Ok(()),
            Err(what) => return report.damage(position, what),
        }
    }
}

/// Whether nothing but zeros lies between `position` and the end.
fn is_zero(file: &File, mut position: u64, end: u64) -> Result<bool, Stopped> {
    let mut piece = vec![0; ZEROS_READ];
    while position < end {
        let count = ZEROS_READ.min(usize::try_from(end - position).unwrap_or(usize::MAX));
        let piece = &mut piece[..count];
        file.read_exact_at(piece, position).map_err(Stopped::Reading)?;
        if piece.iter().any(|&byte| byte != 0) {
            return Ok(false);
        }
        position += count as u64;
    }
    Ok(true)
}

struct BatchLine<'a>(&'a BatchHead);

impl fmt::Display for BatchLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head = self.0;
        write!(
            f,
            "batch of offsets {} to {}: {} records, {} bytes, leader epoch {}, newest {}",
            head.base_offset,
            head.last_offset(),
            head.count,
            head.batch_bytes(),
            head.leader_epoch,
            head.max_timestamp.0
        )?;
        match head.attributes.codec() {
            Ok(Codec::None) => {}
            Ok(codec) => write!(f, ", {}", format!("{codec:?}").to_lowercase())?,
            Err(what) => write!(f, ", {what}")?,
        }
        if head.has_producer_id() {
            write!(f, ", producer {} epoch {} sequence {}", head.producer_id, head.producer_epoch, head.base_sequence)?;
        }
        let flags = [
            (head.attributes.is_log_append_time(), ", stamped at append"),
            (head.attributes.is_transactional(), ", transactional"),
            (head.attributes.is_control(), ", control"),
        ];
        flags.iter().filter(|(is_set, _)| *is_set).try_for_each(|(_, flag)| f.write_str(flag))
    }
}

struct RecordLine<'a>(&'a Record<'a>);

impl fmt::Display for RecordLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Record { offset, timestamp, key, value, headers } = self.0;
        write!(f, "{offset} at {} key {} value {}", timestamp.0, Shown(*key), Shown(*value))?;
        for (name, value) in *headers {
            write!(f, " header {}={}", Shown(Some(name)), Shown(value))?;
        }
        Ok(())
    }
}

/// A key or value: as text where it is text, escaped where not, cut where it is long.
struct Shown<'a>(Option<&'a [u8]>);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(bytes) = self.0 else { return f.write_str("null") };
        let shown = &bytes[..bytes.len().min(SHOWN_BYTES_MAX)];
        match std::str::from_utf8(shown) {
            Ok(text) => write!(f, "{text:?}")?,
            // The cut may go through a character.
            Err(why) if why.error_len().is_none() && shown.len() < bytes.len() => {
                let text = std::str::from_utf8(&shown[..why.valid_up_to()]).expect("valid up to there");
                write!(f, "{text:?}")?;
            }
            Err(_) => write!(f, "b\"{}\"", shown.escape_ascii())?,
        }
        if shown.len() < bytes.len() { write!(f, "... of {} bytes", bytes.len()) } else { Ok(()) }
    }
}

#[cfg(all(test, not(madsim)))]
mod tests {
    use std::fs;

    use chronik_core::batch::BatchBuilder;
    use chronik_core::controller::records::{MetadataRecord, encode_entry};
    use chronik_core::ids::{LeaderEpoch, ProducerEpoch, ProducerId, TopicPartition, Uuid};
    use chronik_core::journal::{self, Geometry, MemorySlots, Start, Visitor, Writer};
    use chronik_core::raft::{Content, Entry, LogId, Record as Quorum};
    use chronik_core::time::Timestamp;

    use super::*;

    /// Dumps a file of that name with these bytes: its lines, and what was wrong.
    fn shown(name: &str, bytes: &[u8]) -> (String, Option<String>) {
        let path = std::env::temp_dir().join(format!("chronik-dump-{}-{name}", std::process::id()));
        fs::write(&path, bytes).expect("the temporary folder is writable");
        let mut lines = Vec::new();
        let outcome = dump(&path, &mut lines).err().map(|why| why.to_string());
        fs::remove_file(&path).expect("the file is ours");
        let outcome = outcome.map(|why| why.replace(path.to_str().expect("a temporary path in UTF-8"), "FILE"));
        (String::from_utf8(lines).expect("text"), outcome)
    }

    fn batch(base: i64, codec: Codec) -> Vec<u8> {
        let batch = BatchBuilder::new()
            .codec(codec)
            .place(Offset(base), LeaderEpoch(3))
            .producer(ProducerId(7), ProducerEpoch(0), 5)
            .record(Timestamp(1000), Some(b"k"), Some("grüße".as_bytes()))
            .record(Timestamp(1001), None, Some(b"\xff\n"));
        batch.build().to_vec()
    }

    #[test]
    fn a_segment_is_shown_record_by_record() {
        let plain = batch(10, Codec::None);
        let packed = batch(12, Codec::Lz4);
        let (lines, outcome) = shown("whole.log", &[&plain[..], &packed, &[0; 100]].concat());
        assert_eq!(outcome, None);
        let lines: Vec<&str> = lines.lines().map(str::trim).collect();
        let head = |base: i64, bytes: usize| {
            format!("batch of offsets {base} to {}: 2 records, {bytes} bytes, leader epoch 3, newest 1001", base + 1)
        };
        assert_eq!(
            lines,
            [
                format!("0 {}, producer 7 epoch 0 sequence 5", head(10, plain.len())),
                r#"10 at 1000 key "k" value "grüße""#.to_owned(),
                r#"11 at 1001 key null value b"\xff\n""#.to_owned(),
                format!("{} {}, lz4, producer 7 epoch 0 sequence 5", plain.len(), head(12, packed.len())),
                r#"12 at 1000 key "k" value "grüße""#.to_owned(),
                r#"13 at 1001 key null value b"\xff\n""#.to_owned(),
                format!("{} 100 zeros", plain.len() + packed.len()),
            ]
        );
    }

    #[test]
    fn damage_is_marked_where_it_is_and_what_lies_behind_is_shown() {
        let mut first = batch(0, Codec::None);
        let last = first.len() - 1;
        first[last] ^= 1;
        let (lines, outcome) = shown("flipped.log", &[first, batch(2, Codec::None)].concat());
        assert_eq!(outcome.as_deref(), Some("FILE is damaged in one place, marked above"));
        assert_eq!(lines.matches("DAMAGED").count(), 1, "{lines}");
        assert!(lines.contains("2 at 1000"), "{lines}");

        let (lines, outcome) = shown("back.log", &[batch(5, Codec::None), batch(0, Codec::None)].concat());
        assert_eq!(outcome.as_deref(), Some("FILE is damaged in one place, marked above"));
        assert!(lines.contains("offsets go back from 7 to 0"), "{lines}");
    }

    #[test]
    fn a_cut_segment_is_shown_up_to_the_cut() {
        let whole = batch(0, Codec::None);
        for cut in [12, HEAD_BYTES - 1, HEAD_BYTES, whole.len() - 1] {
            let (lines, outcome) = shown("cut.log", &[&whole[..], &batch(2, Codec::None)[..cut]].concat());
            assert_eq!(outcome.as_deref(), Some("FILE is damaged in one place, marked above"), "cut at {cut}");
            assert!(lines.contains("1 at 1001"), "{lines}");
        }
    }

    /// What a broker that is killed leaves of large batches: their whole blocks, and of what lies around them nothing.
    #[test]
    fn what_only_the_journal_holds_is_no_damage() {
        let value = vec![b'v'; 3 * DIRECT_BLOCK as usize];
        let large = BatchBuilder::new().place(Offset(2), LeaderEpoch(3)).record(Timestamp(1000), None, Some(&value));
        let (small, large) = (batch(0, Codec::None), large.build().to_vec());
        let blocks = |from: usize| {
            let end = from + large.len();
            from.next_multiple_of(DIRECT_BLOCK as usize)..end - end % DIRECT_BLOCK as usize
        };
        let in_place = |from: usize| {
            let mut file = vec![0; from];
            file.extend_from_slice(&large);
            file
        };
        // The whole file is reserved, or it ends with the last block.
        for is_reserved in [true, false] {
            let mut behind_small = in_place(small.len());
            let kept = blocks(small.len());
            behind_small[..kept.start].fill(0);
            behind_small[..small.len()].copy_from_slice(&small);
            behind_small.truncate(kept.end);
            let mut alone = in_place(0)[..blocks(0).end].to_vec();
            if is_reserved {
                behind_small.resize(8 * DIRECT_BLOCK as usize, 0);
                alone.resize(8 * DIRECT_BLOCK as usize, 0);
            }
            for file in [behind_small, alone] {
                let (lines, outcome) = shown(&format!("killed-{is_reserved}.log"), &file);
                assert_eq!(outcome, None, "{lines}");
                assert_eq!(lines.matches("not written yet: the files in journal/ hold").count(), 1, "{lines}");
            }
        }
    }

    /// Whom nothing is told, since the journal is empty.
    struct Nobody;

    impl Visitor for Nobody {
        fn record(&mut self, _record: &journal::Record<'_>) -> Result<(), String> {
            Ok(())
        }

        fn damaged(&mut self, _damage: &journal::Damage) -> Result<(), String> {
            Ok(())
        }
    }

    /// A journal's file that holds these records in one commit.
    fn journal_of(records: &[(RecordKind, TopicPartition, Vec<u8>)]) -> Vec<u8> {
        const FILE_BYTES: u64 = 1 << 16;
        let geometry = Geometry { file_bytes: FILE_BYTES, max_files: 1, reserve_bytes: 0 };
        let mut slots = MemorySlots::zeroed(1, FILE_BYTES);
        let empty = journal::recover(&slots, &Start::fresh(Uuid([7; 16])), &mut Nobody).expect("nothing is there");
        let mut writer = Writer::resume(empty, 9, geometry);
        let opening = writer.take_commit().expect("an incarnation opens");
        slots.write_at(opening.slot, opening.position, &opening.data);
        writer.committed(opening.number);
        for (kind, partition, payload) in records {
            writer.append(*kind, *partition, None, &[payload]);
        }
        let commit = writer.take_commit().expect("there are records");
        slots.write_at(commit.slot, commit.position, &commit.data);
        slots.0.remove(0)
    }

    const PARTITION: TopicPartition = TopicPartition { topic: Uuid([1; 16]), partition: 0 };

    fn append(batch: &[u8]) -> (RecordKind, TopicPartition, Vec<u8>) {
        (RecordKind::Append, PARTITION, [&1_700i64.to_le_bytes()[..], batch].concat())
    }

    fn quorum(record: &Quorum) -> (RecordKind, TopicPartition, Vec<u8>) {
        let mut payload = Vec::new();
        record.encode(&mut payload);
        (RecordKind::Quorum, TopicPartition::NODE, payload)
    }

    #[test]
    fn a_journal_is_shown_record_by_record() {
        let batch = batch(10, Codec::Lz4);
        let topic = MetadataRecord::Topic { id: PARTITION.topic, name: "orders".into() };
        let content = Content::Payload(encode_entry([topic]).into());
        let (lines, outcome) = shown(
            "0000.journal",
            &journal_of(&[
                append(&batch),
                quorum(&Quorum::Append(vec![Entry { id: LogId { index: 5, term: 2 }, content }])),
                (RecordKind::LogStart, PARTITION, 10i64.to_le_bytes().to_vec()),
            ]),
        );
        assert_eq!(outcome, None, "{lines}");
        let told: Vec<&str> = lines.lines().filter(|line| line.starts_with("              ")).map(str::trim).collect();
        let head = format!(
            "batch of offsets 10 to 11: 2 records, {} bytes, leader epoch 3, newest 1001, lz4, \
             producer 7 epoch 0 sequence 5",
            batch.len()
        );
        assert_eq!(
            told,
            [
                &head,
                r#"10 at 1000 key "k" value "grüße""#,
                r#"11 at 1001 key null value b"\xff\n""#,
                r#"entry 5 of term 2: Topic "orders" id AQEBAQEBAQEBAQEBAQEBAQ"#,
                "the log start offset is 10",
            ],
            "{lines}"
        );
    }

    /// Payloads whose checksums are right although what they say is not, as a fault of the program would leave them.
    #[test]
    fn a_journal_record_that_makes_no_sense_is_marked_and_the_others_are_shown() {
        let mut flipped = batch(10, Codec::None);
        let last = flipped.len() - 1;
        flipped[last] ^= 1;
        let (lines, outcome) = shown(
            "0000.journal",
            &journal_of(&[
                append(&flipped),
                append(b"no batch"),
                (RecordKind::Roll, PARTITION, b"short".to_vec()),
                (RecordKind::Quorum, TopicPartition::NODE, b"\xff".to_vec()),
                append(&batch(12, Codec::None)),
            ]),
        );
        assert_eq!(outcome.as_deref(), Some("FILE is damaged in 4 places, marked above"), "{lines}");
        assert_eq!(lines.matches("DAMAGED").count(), 4, "{lines}");
        assert!(lines.contains("13 at 1001"), "{lines}");
    }

    #[test]
    fn an_unused_journal_file_is_zeros() {
        let (lines, outcome) = shown("0000.journal", &[0; 8192]);
        assert_eq!((lines.trim(), outcome), ("0 8192 zeros", None));
    }

    #[test]
    fn what_is_no_file_of_ours_is_refused() {
        let (lines, outcome) = shown("notes.txt", b"text");
        assert_eq!(lines, "");
        assert_eq!(
            outcome.as_deref(),
            Some("FILE is neither a segment (its name ends in .log) nor a journal file (.journal): name one of these")
        );
        let why = dump(Path::new("/nowhere/0.log"), io::sink()).expect_err("there is no such file").to_string();
        assert_eq!(why, "cannot read /nowhere/0.log: No such file or directory (os error 2)");
    }

    #[test]
    fn long_values_are_cut_between_characters() {
        let long = "ü".repeat(200);
        let text = Shown(Some(&long.as_bytes()[1..])).to_string();
        assert!(text.starts_with("b\"") && text.ends_with("... of 399 bytes"), "{text}");
        let odd = format!("x{long}");
        assert_eq!(Shown(Some(odd.as_bytes())).to_string(), format!("\"x{}\"... of 401 bytes", "ü".repeat(127)));
    }
}
