//! One file: what the page cache holds of it, what is durable, and the changes between the two.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::image::{Image, PAGE, Page, pages_in, pages_of, place};
use super::power::{Coins, Tally};

/// A file, whichever names it has or had.
#[derive(Clone, Debug, Default)]
pub(super) struct File {
    pub(super) cache: Image,
    pub(super) durable: Image,
    unsynced: Vec<Change>,
    /// What the unsynced writes wrote, one after another.
    written: Vec<u8>,
    /// How many changes were made before the first unsynced one.
    settled: u64,
    dropped: Dropped,
    /// Pages that no read gets.
    pub(super) unreadable: BTreeSet<usize>,
}

/// What is in the cache only and will stay there, since a sync failed: the kernel counts it as clean.
#[derive(Clone, Debug, Default)]
struct Dropped {
    pages: BTreeMap<usize, Page>,
    /// The file's length in the cache when that happened.
    length: u64,
}

#[derive(Clone, Debug)]
struct Change {
    /// Its number among all changes of the disk.
    number: u64,
    what: What,
}

#[derive(Clone, Copy, Debug)]
enum What {
    Write {
        position: u64,
        bytes: u64,
        /// Where in `written` the bytes begin; `None` where they are zeros, which are not kept.
        start: Option<usize>,
    },
    Cut(u64),
    Reserve {
        position: u64,
        bytes: u64,
    },
}

/// How much memory for unsynced writes is kept after a sync, in bytes: what a busy journal writes at once.
const WRITTEN_KEPT: usize = 1 << 18;

impl File {
    /// Whether a sync has bytes to write.
    pub(super) fn has_unsynced_writes(&self) -> bool {
        self.unsynced.iter().any(|change| matches!(change.what, What::Write { .. }))
    }

    /// Writes the first `bytes` of all pieces.
    pub(super) fn write(&mut self, number: u64, position: u64, pieces: &[Bytes], bytes: u64) {
        if bytes == 0 {
            return;
        }
        let start = if parts(pieces, bytes).all(is_zero) {
            self.cache.write_zeros(position, bytes);
            None
        } else {
            let start = self.written.len();
            for part in parts(pieces, bytes) {
                self.cache.write(position + (self.written.len() - start) as u64, part);
                self.written.extend_from_slice(part);
            }
            Some(start)
        };
        if !self.unreadable.is_empty() {
            self.unreadable.retain(|page| !pages_in(position, bytes).contains(page));
        }
        self.unsynced.push(Change { number, what: What::Write { position, bytes, start } });
    }

    pub(super) fn truncate(&mut self, number: u64, bytes: u64) {
        self.cache.truncate(bytes);
        self.unsynced.push(Change { number, what: What::Cut(bytes) });
    }

    pub(super) fn reserve(&mut self, number: u64, position: u64, bytes: u64) {
        self.cache.blocks.reserve(position, bytes);
        self.unsynced.push(Change { number, what: What::Reserve { position, bytes } });
    }

    /// Makes everything durable.
    pub(super) fn sync(&mut self) {
        for index in 0..self.unsynced.len() {
            match self.unsynced[index].what {
                What::Write { position, bytes, .. } => {
                    for page in pages_in(position, bytes) {
                        self.settle_page(page);
                    }
                    self.durable.blocks.reserve(position, bytes);
                    // What lies before it and was dropped becomes a hole, what lies behind it stays unreachable.
                    let pages_end = pages_in(position, bytes).end as u64 * PAGE as u64;
                    self.durable.grow(pages_end.min(self.cache.length()));
                }
                What::Cut(bytes) => {
                    self.durable.truncate(bytes);
                    self.settle_page(place(bytes).0);
                    self.dropped.cut(bytes);
                }
                What::Reserve { position, bytes } => self.durable.blocks.reserve(position, bytes),
            }
        }
        self.forget_changes();
    }

    fn settle_page(&mut self, page: usize) {
        self.durable.set_page(page, self.cache.page(page).clone());
        self.dropped.pages.remove(&page);
    }

    fn forget_changes(&mut self) {
        self.settled += self.unsynced.len() as u64;
        self.unsynced.clear();
        self.written.clear();
        self.written.shrink_to(WRITTEN_KEPT);
    }

    /// What a sync leaves that fails: none of the bytes were written, and none ever will be. The file's other changes
    /// are the file system's own, which has a log for them.
    pub(super) fn drop_unsynced(&mut self) {
        let mut pages = BTreeSet::new();
        for change in &self.unsynced {
            match change.what {
                What::Write { position, bytes, .. } => pages.extend(pages_in(position, bytes)),
                What::Cut(bytes) => {
                    self.durable.truncate(bytes);
                    pages.insert(place(bytes).0);
                }
                What::Reserve { position, bytes } => self.durable.blocks.reserve(position, bytes),
            }
        }
        let end = pages_in(0, self.cache.length()).end;
        pages.extend(self.dropped.pages.keys());
        self.dropped.pages =
            pages.into_iter().filter(|&page| page < end).map(|page| (page, self.cache.page(page).clone())).collect();
        self.dropped.length = self.cache.length();
        self.forget_changes();
    }

    /// The power fails: of what is not durable, any sector of any write, any cut and any reservation may persist. A
    /// sector persists as the cache had it after one of the writes to it, since that is what is written back.
    pub(super) fn lose_power(&mut self, coins: &Coins, tally: &mut Tally) {
        if self.unsynced.is_empty() && self.dropped.pages.is_empty() {
            return;
        }
        let mut running = self.durable.clone();
        if !self.dropped.pages.is_empty() {
            running.grow(self.dropped.length);
            for (&page, bytes) in &self.dropped.pages {
                running.set_page(page, bytes.clone());
            }
        }
        let mut is_tail_lost = false;
        for (index, &Change { number, what }) in self.unsynced.iter().enumerate() {
            let mut toss = coins.of_change(self.settled + index as u64);
            match what {
                What::Write { position, bytes, start } => {
                    match start {
                        Some(start) => {
                            let end = start + usize::try_from(bytes).expect("it is in memory");
                            running.write(position, &self.written[start..end]);
                        }
                        None => running.write_zeros(position, bytes),
                    }
                    let (mut kept, mut lost) = (0, 0);
                    let sector = coins.sector_bytes;
                    let mut at = position - position % sector;
                    while at < position + bytes {
                        if toss.keeps() {
                            kept += 1;
                            let (page, from) = place(at);
                            self.durable.take_over(&running, page, from..from + place(sector - 1).1 + 1);
                            self.durable.blocks.reserve(at, 1);
                            self.durable.grow((at + sector).min(running.length()));
                        } else {
                            lost += 1;
                        }
                        at += sector;
                    }
                    tally.write(number, kept, lost);
                    is_tail_lost = lost > 0;
                }
                What::Cut(bytes) => {
                    running.truncate(bytes);
                    if toss.keeps() {
                        self.durable.truncate(bytes);
                        tally.kept(number);
                    } else {
                        tally.lost.truncates += 1;
                        tally.lost(number);
                    }
                }
                What::Reserve { position, bytes } => {
                    if toss.keeps() {
                        self.durable.blocks.reserve(position, bytes);
                    }
                }
            }
        }
        tally.lost.tails += u64::from(is_tail_lost);
        self.cache = self.durable.clone();
        self.dropped = Dropped::default();
        self.forget_changes();
    }

    /// Changes one bit, in the cache and on the disk, and nothing but it.
    pub(super) fn flip(&mut self, position: u64, bit: u32) {
        let page = place(position).0;
        let is_same = same(self.cache.page(page), self.durable.page(page));
        self.cache.flip(position, bit);
        if is_same {
            self.durable.set_page(page, self.cache.page(page).clone());
        } else if position < self.durable.length() {
            self.durable.flip(position, bit);
        }
    }
}

impl Dropped {
    fn cut(&mut self, bytes: u64) {
        self.length = self.length.min(bytes);
        self.pages.split_off(&pages_of(bytes));
    }
}

/// The first `bytes` of all pieces.
fn parts(pieces: &[Bytes], bytes: u64) -> impl Iterator<Item = &[u8]> {
    let mut left = usize::try_from(bytes).expect("it is in memory");
    pieces.iter().map(move |piece| {
        let part = &piece[..piece.len().min(left)];
        left -= part.len();
        part
    })
}

fn same(one: &Page, other: &Page) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => std::sync::Arc::ptr_eq(one, other),
        _ => false,
    }
}

fn is_zero(bytes: &[u8]) -> bool {
    // Whole words at a time; what is no zero mostly shows in the first.
    let (words, rest) = bytes.as_chunks::<64>();
    words.iter().all(|word| *word == [0; 64]) && rest.iter().all(|&byte| byte == 0)
}
