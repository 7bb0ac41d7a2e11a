//! Choices taken from bytes, so that whoever picks the bytes steers the choices.

/// Bytes to choose by. When they are used up every choice is 0, the simplest.
pub struct Entropy<'a>(&'a [u8]);

impl<'a> Entropy<'a> {
    /// Chooses by `bytes`, from the first on.
    pub fn new(bytes: &'a [u8]) -> Entropy<'a> {
        Entropy(bytes)
    }

    /// Any byte.
    pub fn byte(&mut self) -> u8 {
        let (first, rest) = self.0.split_first().unwrap_or((&0, &[]));
        self.0 = rest;
        *first
    }

    /// A number below `end`, which is at most 65,536.
    pub fn below(&mut self, end: usize) -> usize {
        let wide = (usize::from(self.byte()) << 8) | usize::from(self.byte());
        (wide * end) >> 16
    }

    /// True once in `odds` times; false when the bytes are used up.
    pub fn one_in(&mut self, odds: usize) -> bool {
        self.below(odds) == odds - 1
    }

    /// An integer of `length` bytes, big end first: often a small one, or one at the border of its type.
    pub fn integer(&mut self, length: usize) -> Vec<u8> {
        match self.below(4) {
            0 => vec![0; length],
            1 => vec![0xff; length],
            2 => {
                let mut bytes = vec![0; length];
                bytes[length - 1] = self.byte();
                bytes
            }
            _ => (0..length).map(|_| self.byte()).collect(),
        }
    }
}
