//! Whether what was acknowledged is there: by the offsets, and if asked by reading everything back.

use crate::consume::Received;
use crate::json::Json;
use crate::measured::Acked;
use std::collections::BTreeMap;
use std::fmt;

/// What looking after a load found. All numbers are records unless said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) acked: u64,
    /// By how much the end offsets rose: at least `acked`, more if others write to the topic as well.
    pub(crate) stored: u64,
    /// Acknowledged, and beyond what the end offsets have room for.
    pub(crate) missing: u64,
    /// Acknowledged under an offset that another acknowledgement names too.
    pub(crate) doubled: u64,
    /// Found on reading back, and by how much that falls short of the acknowledged.
    pub(crate) read: Option<u64>,
    pub(crate) unread: u64,
    /// Batches read back with a wrong checksum, and the partition and offset of the first.
    pub(crate) damaged: u64,
    pub(crate) first_damage: Option<(i32, i64)>,
}

impl Verdict {
    /// Compares acknowledgements, by partition, with the end offsets before and after.
    pub(crate) fn by_offsets(acked: &[Acked], before: &BTreeMap<i32, i64>, after: &BTreeMap<i32, i64>) -> Verdict {
        let mut verdict = Verdict::default();
        for (partition, acked) in (0..).zip(acked) {
            let (Some(before), Some(after)) = (before.get(&partition), after.get(&partition)) else { continue };
            let stored = u64::try_from(after - before).unwrap_or(0);
            verdict.acked += acked.records;
            verdict.stored += stored;
            if *acked == Acked::NOTHING {
                continue;
            }
            let beyond = u64::try_from(acked.end - after).unwrap_or(0);
            verdict.missing += acked.records.saturating_sub(stored).max(beyond);
            verdict.doubled += acked.records.saturating_sub(u64::try_from(acked.end - acked.first).unwrap_or(0));
        }
        verdict
    }

    /// Adds what reading from the old end offsets to the new ones brought.
    pub(crate) fn with_read(mut self, acked: &[Acked], received: &Received) -> Verdict {
        self.read = Some(received.records.iter().sum());
        self.unread =
            acked.iter().zip(&received.records).map(|(acked, read)| acked.records.saturating_sub(*read)).sum();
        self.damaged = received.damaged;
        self.first_damage = received.first_damage;
        self
    }

    pub(crate) fn is_good(&self) -> bool {
        self.missing == 0 && self.doubled == 0 && self.unread == 0 && self.damaged == 0
    }

    pub(crate) fn to_json(&self) -> Json {
        Json::Object(vec![
            ("good", Json::Bool(self.is_good())),
            ("acked", Json::Whole(self.acked)),
            ("stored", Json::Whole(self.stored)),
            ("missing", Json::Whole(self.missing)),
            ("doubled", Json::Whole(self.doubled)),
            ("read", self.read.map_or(Json::Null, Json::Whole)),
            ("unread", Json::Whole(self.unread)),
            ("damaged_batches", Json::Whole(self.damaged)),
        ])
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_good() {
            write!(out, "all {} acknowledged records are there", self.acked)?;
            return match self.read {
                Some(read) => write!(out, "; {read} read back, every checksum right"),
                None => Ok(()),
            };
        }
        write!(out, "LOST OR DAMAGED, of {} acknowledged:", self.acked)?;
        for (count, what) in [
            (self.missing, "records beyond the end offsets"),
            (self.doubled, "records under another's offset"),
            (self.unread, "records not found on reading back"),
            (self.damaged, "batches with a wrong checksum"),
        ] {
            if count > 0 {
                write!(out, " {count} {what};")?;
            }
        }
        match self.first_damage {
            Some((partition, offset)) => write!(out, " the first damage is at partition {partition} offset {offset}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Window;

    fn check(acked: Acked, before: i64, after: i64) -> Verdict {
        Verdict::by_offsets(&[acked], &BTreeMap::from([(0, before)]), &BTreeMap::from([(0, after)]))
    }

    #[test]
    fn what_is_there_is_good() {
        assert!(check(Acked { records: 5, first: 10, end: 15 }, 10, 15).is_good());
        assert!(check(Acked { records: 5, first: 12, end: 20 }, 10, 30).is_good(), "others may write as well");
        assert!(check(Acked::NOTHING, 10, 10).is_good());
    }

    #[test]
    fn what_the_end_offset_has_no_room_for_is_missing() {
        assert_eq!(check(Acked { records: 5, first: 10, end: 15 }, 10, 12).missing, 3);
        assert_eq!(check(Acked { records: 5, first: 10, end: 15 }, 10, 10).missing, 5);
        assert_eq!(check(Acked { records: 2, first: 10, end: 15 }, 0, 14).missing, 1);
        assert_eq!(check(Acked { records: 5, first: 10, end: 15 }, 10, 3).missing, 12, "the log went back");
    }

    #[test]
    fn two_acknowledgements_of_one_offset_are_found() {
        let verdict = check(Acked { records: 6, first: 10, end: 15 }, 10, 20);
        assert_eq!((verdict.doubled, verdict.missing), (1, 0));
        assert!(!verdict.is_good());
    }

    #[test]
    fn what_reading_does_not_find_is_missing_too() {
        let acked = [Acked { records: 5, first: 0, end: 5 }];
        let mut received = Received::nothing(Window { from: 0, until: 1 }, 1);
        received.records[0] = 4;
        let verdict = check(acked[0], 0, 5).with_read(&acked, &received);
        assert_eq!((verdict.read, verdict.unread), (Some(4), 1));
        assert!(verdict.to_string().contains("1 records not found on reading back"));
        received.records[0] = 5;
        assert!(check(acked[0], 0, 5).with_read(&acked, &received).is_good());
        received.damaged = 1;
        assert!(!check(acked[0], 0, 5).with_read(&acked, &received).is_good());
    }
}
