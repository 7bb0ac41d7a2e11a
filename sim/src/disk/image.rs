//! The content of a file, in pages that two images share until one of them changes.
//!
//! What the page cache and the disk hold of a file differs in a few pages at most, and a sync makes them the same
//! again: it hands pages over and copies no byte. A page that was never written, or only with zeros, takes no memory,
//! since journal files are zeros at first.

use std::sync::Arc;

use chronik_core::boundary::DIRECT_BLOCK;

/// A page, which is also the block that a file system reserves, in bytes.
pub(super) const PAGE: usize = DIRECT_BLOCK as usize;

/// A page's bytes; `None` where all are zero.
pub(super) type Page = Option<Arc<[u8; PAGE]>>;

/// What a file holds. Bytes from `length` on are zero in every page.
#[derive(Clone, Debug, Default)]
pub(super) struct Image {
    length: u64,
    /// May be shorter than the file: what is missing is zero.
    pages: Vec<Page>,
    pub(super) blocks: Blocks,
}

impl Image {
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// Sets the length to at least `bytes`.
    pub(super) fn grow(&mut self, bytes: u64) {
        self.length = self.length.max(bytes);
    }

    pub(super) fn page(&self, page: usize) -> &Page {
        self.pages.get(page).unwrap_or(&None)
    }

    /// The pages that hold more than zeros, as far as is known without looking, with their numbers.
    pub(super) fn pages(&self) -> impl Iterator<Item = (usize, &[u8; PAGE])> {
        self.pages.iter().enumerate().filter_map(|(at, page)| Some((at, &**page.as_ref()?)))
    }

    pub(super) fn set_page(&mut self, page: usize, bytes: Page) {
        if bytes.is_some() && self.pages.len() <= page {
            self.pages.resize(page + 1, None);
        }
        if let Some(slot) = self.pages.get_mut(page) {
            *slot = bytes;
        }
    }

    fn page_mut(&mut self, page: usize) -> &mut [u8; PAGE] {
        if self.pages.len() <= page {
            self.pages.resize(page + 1, None);
        }
        Arc::make_mut(self.pages[page].get_or_insert_with(|| Arc::new([0; PAGE])))
    }

    pub(super) fn write(&mut self, position: u64, mut bytes: &[u8]) {
        self.grow(position + bytes.len() as u64);
        self.blocks.reserve(position, bytes.len() as u64);
        let (mut page, mut at) = place(position);
        while !bytes.is_empty() {
            let (now, rest) = bytes.split_at(bytes.len().min(PAGE - at));
            if now.len() < PAGE {
                self.page_mut(page)[at..at + now.len()].copy_from_slice(now);
            } else {
                // A whole page needs nothing of what a shared one held.
                match self.pages.get_mut(page).and_then(Option::as_mut).and_then(Arc::get_mut) {
                    Some(own) => own.copy_from_slice(now),
                    None => self.set_page(page, Some(whole_page(now))),
                }
            }
            (page, at, bytes) = (page + 1, 0, rest);
        }
    }

    /// Writes so many zeros.
    pub(super) fn write_zeros(&mut self, position: u64, bytes: u64) {
        self.grow(position + bytes);
        self.blocks.reserve(position, bytes);
        self.clear(position, bytes);
    }

    fn clear(&mut self, position: u64, bytes: u64) {
        let end = (position + bytes).min(self.pages.len() as u64 * PAGE as u64);
        let mut position = position;
        while position < end {
            let (page, at) = place(position);
            let upto = usize::try_from(end - position).unwrap_or(usize::MAX).min(PAGE - at) + at;
            if (at, upto) == (0, PAGE) {
                self.pages[page] = None;
            } else if self.pages[page].is_some() {
                self.page_mut(page)[at..upto].fill(0);
            }
            position += (upto - at) as u64;
        }
    }

    /// Fills `buf` from `position` on, up to the end of the file; returns how many bytes that were.
    pub(super) fn read(&self, position: u64, buf: &mut [u8]) -> usize {
        let left = usize::try_from(self.length.saturating_sub(position)).unwrap_or(usize::MAX);
        let bytes = buf.len().min(left);
        let (mut page, mut at) = place(position);
        let mut rest = &mut buf[..bytes];
        while !rest.is_empty() {
            let (now, after) = rest.split_at_mut(rest.len().min(PAGE - at));
            match self.page(page) {
                Some(held) => now.copy_from_slice(&held[at..at + now.len()]),
                None => now.fill(0),
            }
            (page, at, rest) = (page + 1, 0, after);
        }
        bytes
    }

    /// Cuts the file, or makes it longer by a hole; gives back all blocks beyond.
    pub(super) fn truncate(&mut self, bytes: u64) {
        if bytes < self.length {
            self.clear(bytes, self.length - bytes);
            self.pages.truncate(pages_of(bytes));
        }
        self.length = bytes;
        self.blocks.give_back_from(pages_of(bytes));
    }

    /// Takes a part of one page over from another image.
    pub(super) fn take_over(&mut self, other: &Image, page: usize, part: std::ops::Range<usize>) {
        let bytes = other.page(page);
        if part == (0..PAGE) {
            return self.set_page(page, bytes.clone());
        }
        match bytes {
            Some(bytes) => self.page_mut(page)[part.clone()].copy_from_slice(&bytes[part]),
            None if self.page(page).is_some() => self.page_mut(page)[part].fill(0),
            None => {}
        }
    }

    /// Changes one bit of a byte that the file holds.
    pub(super) fn flip(&mut self, position: u64, bit: u32) {
        let (page, at) = place(position);
        self.page_mut(page)[at] ^= 1 << bit;
    }
}

fn whole_page(bytes: &[u8]) -> Arc<[u8; PAGE]> {
    // By way of a slice, since an array would be copied once more on its way into the allocation.
    Arc::<[u8]>::from(bytes).try_into().expect("the caller has a whole page")
}

/// Which blocks a file has on the disk, written or reserved.
#[derive(Clone, Debug, Default)]
pub(super) struct Blocks {
    words: Vec<u64>,
    count: u64,
}

impl Blocks {
    /// How many there are.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    fn has(&self, block: usize) -> bool {
        self.words.get(block / 64).is_some_and(|word| word >> (block % 64) & 1 == 1)
    }

    /// The blocks of a range that are not there yet.
    pub(super) fn missing(&self, position: u64, bytes: u64) -> impl Iterator<Item = usize> {
        pages_in(position, bytes).filter(|&block| !self.has(block))
    }

    pub(super) fn reserve(&mut self, position: u64, bytes: u64) {
        let range = pages_in(position, bytes);
        if self.words.len() * 64 < range.end {
            self.words.resize(range.end.div_ceil(64), 0);
        }
        for block in range {
            let word = &mut self.words[block / 64];
            self.count += u64::from(*word >> (block % 64) & 1 == 0);
            *word |= 1 << (block % 64);
        }
    }

    fn give_back_from(&mut self, block: usize) {
        let kept = block.div_ceil(64);
        let beyond = self.words.get(kept..).unwrap_or_default();
        self.count -= beyond.iter().map(|word| u64::from(word.count_ones())).sum::<u64>();
        self.words.truncate(kept);
        // The last word is cut within where the block is not its first.
        if let Some(word) = self.words.get_mut(block / 64) {
            let stays = *word & ((1 << (block % 64)) - 1);
            self.count -= u64::from((*word ^ stays).count_ones());
            *word = stays;
        }
    }
}

/// The page that a byte lies in, and where in it.
pub(super) fn place(position: u64) -> (usize, usize) {
    let position = usize::try_from(position).expect("a simulated file fits in memory");
    (position / PAGE, position % PAGE)
}

/// How many pages hold so many bytes.
pub(super) fn pages_of(bytes: u64) -> usize {
    usize::try_from(bytes).expect("a simulated file fits in memory").div_ceil(PAGE)
}

/// The pages that a range of bytes touches.
pub(super) fn pages_in(position: u64, bytes: u64) -> std::ops::Range<usize> {
    let first = place(position).0;
    if bytes == 0 { first..first } else { first..pages_of(position + bytes) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(image: &Image) -> Vec<u8> {
        let mut all = vec![0xee; 5 * PAGE];
        let bytes = image.read(0, &mut all);
        all.truncate(bytes);
        all
    }

    #[test]
    fn what_lies_beyond_a_cut_does_not_come_back() {
        let mut image = Image::default();
        image.write(0, &[7; 2 * PAGE + 9]);
        image.truncate(100);
        image.truncate(PAGE as u64 + 1);
        assert_eq!(read(&image), [&[7; 100][..], &[0; PAGE - 99]].concat());
        assert_eq!(image.blocks.count(), 1);
    }

    #[test]
    fn a_change_of_one_image_does_not_show_in_the_one_that_it_shares_pages_with() {
        let mut image = Image::default();
        image.write(0, &[1; 2 * PAGE]);
        let other = image.clone();
        image.write(10, &[2; 10]);
        image.write(PAGE as u64, &[3; PAGE]);
        image.flip(30, 7);
        assert_eq!(read(&other), [1; 2 * PAGE]);
        let expect = [&[1; 10][..], &[2; 10], &[1; 10], &[0x81], &[1; PAGE - 31], &[3; PAGE]].concat();
        assert_eq!(read(&image), expect);
    }

    #[test]
    fn zeros_take_no_memory_and_hide_what_was_there() {
        let mut image = Image::default();
        image.write_zeros(0, 3 * PAGE as u64);
        assert_eq!((image.pages().count(), image.length(), image.blocks.count()), (0, 3 * PAGE as u64, 3));
        image.write(5, &[9; PAGE]);
        image.write_zeros(7, PAGE as u64 - 7);
        assert_eq!(read(&image)[..PAGE + 6], [&[0; 5][..], &[9; 2], &[0; PAGE - 7], &[9; 5], &[0]].concat());
    }

    #[test]
    fn blocks_are_counted_once_and_given_back_beyond_a_cut() {
        let mut blocks = Blocks::default();
        blocks.reserve(0, 1);
        blocks.reserve(PAGE as u64 * 63 + 1, PAGE as u64 * 3);
        blocks.reserve(PAGE as u64 * 64, 1);
        assert_eq!(blocks.count(), 5);
        assert_eq!(blocks.missing(0, PAGE as u64 * 3).collect::<Vec<_>>(), [1, 2]);
        blocks.give_back_from(65);
        assert_eq!(blocks.count(), 3);
        blocks.give_back_from(64);
        assert_eq!(blocks.count(), 2);
        blocks.give_back_from(1);
        blocks.give_back_from(500);
        assert_eq!(blocks.count(), 1);
    }
}
