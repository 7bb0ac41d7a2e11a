//! A string that shares the buffer it was read from.

use std::borrow::Borrow;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;
use std::str::Utf8Error;

use bytes::Bytes;

/// A string in a shared buffer: cloning it copies no text. Order and equality are those of the text.
///
/// Reading it as `&str` validates the bytes again, a few nanoseconds for a topic name, so that the crate needs no
/// unsafe code; comparing two of them does not.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Str(Bytes);

impl Str {
    /// The string without characters.
    pub const EMPTY: Str = Str(Bytes::new());

    /// A string that lives as long as the program; takes no memory.
    pub const fn from_static(text: &'static str) -> Str {
        Str(Bytes::from_static(text.as_bytes()))
    }

    /// Takes `bytes` as text, without a copy.
    ///
    /// # Errors
    /// Where `bytes` are not UTF-8.
    pub fn from_utf8(bytes: Bytes) -> Result<Str, Utf8Error> {
        // Nearly all names are ASCII, which is seen a word at a time.
        if !bytes.is_ascii() {
            std::str::from_utf8(&bytes)?;
        }
        Ok(Str(bytes))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("a Str is only made from valid UTF-8")
    }

    /// The text's UTF-8 bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The buffer that holds the text.
    pub fn into_bytes(self) -> Bytes {
        self.0
    }

    /// A copy that keeps only its own bytes alive, not the whole frame it was read from: for names that outlive their
    /// request.
    pub fn detached(&self) -> Str {
        Str(Bytes::copy_from_slice(&self.0))
    }
}

impl Deref for Str {
    type Target = str;
    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl AsRef<str> for Str {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl Borrow<str> for Str {
    fn borrow(&self) -> &str {
        self.as_str()
    }
}

impl Hash for Str {
    /// As `str` hashes, which `Borrow<str>` requires.
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl From<&str> for Str {
    fn from(text: &str) -> Str {
        Str(Bytes::copy_from_slice(text.as_bytes()))
    }
}

impl From<String> for Str {
    fn from(text: String) -> Str {
        Str(Bytes::from(text))
    }
}

impl PartialEq<str> for Str {
    fn eq(&self, other: &str) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl PartialEq<&str> for Str {
    fn eq(&self, other: &&str) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl fmt::Display for Str {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self.as_str(), f)
    }
}

impl fmt::Debug for Str {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn invalid_utf8_makes_no_str() {
        assert!(Str::from_utf8(Bytes::from_static(b"\xff")).is_err());
    }

    #[test]
    fn a_map_keyed_by_str_answers_to_text() {
        let map = BTreeMap::from([(Str::from("orders"), 1), (Str::from_static("ärger"), 2)]);
        assert_eq!(map.get("orders"), Some(&1));
        assert_eq!(map.get("ärger"), Some(&2));
    }

    #[test]
    fn order_is_that_of_the_text() {
        let mut words = ["ä", "z", "a", "b", ""].map(Str::from);
        words.sort();
        assert_eq!(words, ["", "a", "b", "z", "ä"]);
    }
}
