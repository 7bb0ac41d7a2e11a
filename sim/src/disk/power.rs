//! What chance decides when the power fails, and what came of it.

use chronik_core::boundary::FileName;
use chronik_core::rng::Rng;

use super::image::PAGE;

/// What a power loss took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PowerLoss {
    /// Files of which the newest write did not persist as a whole.
    pub tails: u64,
    /// Writes of which a part persisted.
    pub torn: u64,
    /// Files of which a later change persisted and an earlier one did not.
    pub reordered: u64,
    /// Whether a change of one file persisted, and an earlier one of another did not.
    pub is_reordered_across_files: bool,
    /// Files that were made and are not there.
    pub creates: u64,
    /// Files that were removed and are there again.
    pub removes: u64,
    /// Cuts that did not happen.
    pub truncates: u64,
}

/// Says for each change whether it persists, by a key of its own.
#[derive(Debug)]
pub(super) struct Coins {
    rng: Rng,
    stream: u64,
    keep_permille: u64,
    pub(super) sector_bytes: u64,
}

/// What is tossed for the parts of one change.
#[derive(Debug)]
pub(super) struct Toss {
    rng: Rng,
    keep_permille: u64,
}

impl Toss {
    pub(super) fn keeps(&mut self) -> bool {
        self.rng.below(1000) < self.keep_permille
    }
}

impl Coins {
    /// # Panics
    /// If sectors of so many bytes do not fill a page.
    pub(super) fn new(rng: Rng, keep_permille: u32, sector_bytes: u32) -> Coins {
        let sector = usize::try_from(sector_bytes).expect("32 bits");
        assert!(sector > 0 && PAGE.is_multiple_of(sector), "a page is made of sectors, not of {sector} bytes each");
        Coins { rng, stream: 0, keep_permille: keep_permille.into(), sector_bytes: sector_bytes.into() }
    }

    /// Those of one file.
    pub(super) fn of_file(&self, file: FileName) -> Coins {
        // The name's checksum as its number: two files of one number would share their luck, and no more.
        let stream = u64::from(crc32c::crc32c(file.to_string().as_bytes()));
        Coins { rng: self.rng.clone(), stream, ..*self }
    }

    /// For the parts of a file's change, by its number among them.
    pub(super) fn of_change(&self, ordinal: u64) -> Toss {
        Toss { rng: self.rng.keyed(self.stream, ordinal), keep_permille: self.keep_permille }
    }

    /// For the entry of a file or folder, by its number among those of its name.
    pub(super) fn of_entry(&self, ordinal: u64) -> Toss {
        Toss { rng: self.rng.keyed(self.stream | 1 << 32, ordinal), keep_permille: self.keep_permille }
    }
}

/// Counts while a power loss goes from file to file.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) lost: PowerLoss,
    first_lost: Option<u64>,
    last_kept: Option<u64>,
    /// The same of the files before.
    files: Vec<(Option<u64>, Option<u64>)>,
}

impl Tally {
    pub(super) fn kept(&mut self, number: u64) {
        self.last_kept = self.last_kept.max(Some(number));
    }

    pub(super) fn lost(&mut self, number: u64) {
        self.first_lost = Some(self.first_lost.map_or(number, |first| first.min(number)));
    }

    pub(super) fn write(&mut self, number: u64, kept: u64, lost: u64) {
        match (kept, lost) {
            (_, 0) => self.kept(number),
            (0, _) => self.lost(number),
            _ => self.lost.torn += 1,
        }
    }

    pub(super) fn end_of_file(&mut self) {
        let file = (self.first_lost.take(), self.last_kept.take());
        self.lost.reordered += u64::from(is_before(file.0, file.1));
        self.files.push(file);
    }

    pub(super) fn finish(mut self) -> PowerLoss {
        self.lost.is_reordered_across_files = self.files.iter().enumerate().any(|(one, &(lost, _))| {
            self.files.iter().enumerate().any(|(other, &(_, kept))| one != other && is_before(lost, kept))
        });
        self.lost
    }
}

fn is_before(lost: Option<u64>, kept: Option<u64>) -> bool {
    lost.zip(kept).is_some_and(|(lost, kept)| lost < kept)
}
