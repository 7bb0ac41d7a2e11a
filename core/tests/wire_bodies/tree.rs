//! The output of `{:?}` read back as a tree, to compare structs of two crates field by field without naming any.

/// A value as its `Debug` output shows it.
#[derive(Clone, Debug, PartialEq)]
pub enum Tree {
    /// A number, a word, a uuid; strings and byte strings with their quotes and escapes.
    Leaf(String),
    /// `Name { field: .. }`.
    Struct(Vec<(String, Tree)>),
    /// `Name(..)`.
    Tuple(String, Vec<Tree>),
    /// `[..]`.
    List(Vec<Tree>),
    /// `{..}`, which is not looked into.
    Map(String),
}

impl Tree {
    /// Reads what `{:?}` printed.
    pub fn parse(text: &str) -> Tree {
        let mut parser = Parser { bytes: text.as_bytes(), at: 0 };
        let tree = parser.value();
        assert_eq!(parser.at, text.len(), "all of {text} is read");
        tree
    }

    /// What is inside of `Some(..)` and of tuple structs of one field.
    pub fn inner(&self) -> &Tree {
        match self {
            Tree::Tuple(_, fields) if fields.len() == 1 => fields[0].inner(),
            tree => tree,
        }
    }

    /// Whether it is `None`.
    pub fn is_none(&self) -> bool {
        *self == Tree::Leaf("None".into())
    }
}

struct Parser<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Parser<'_> {
    fn peek(&self) -> u8 {
        self.bytes.get(self.at).copied().unwrap_or(0)
    }

    fn skip(&mut self, expected: &str) -> bool {
        let found = self.bytes[self.at..].starts_with(expected.as_bytes());
        if found {
            self.at += expected.len();
        }
        found
    }

    fn value(&mut self) -> Tree {
        if self.skip("[") {
            return Tree::List(self.until("]"));
        }
        if self.peek() == b'{' {
            return Tree::Map(self.braces());
        }
        let word = self.word();
        if self.skip("(") {
            return Tree::Tuple(word, self.until(")"));
        }
        if !self.skip(" { ") {
            return Tree::Leaf(word);
        }
        let mut fields = Vec::new();
        loop {
            let name = self.word();
            assert!(self.skip(": "), "a field name is followed by a colon");
            fields.push((name, self.value()));
            if self.skip(" }") {
                return Tree::Struct(fields);
            }
            assert!(self.skip(", "), "fields are separated by commas");
        }
    }

    fn until(&mut self, end: &str) -> Vec<Tree> {
        let mut values = Vec::new();
        while !self.skip(end) {
            values.push(self.value());
            self.skip(", ");
        }
        values
    }

    /// A quoted string with or without `b` before it, or everything up to the next delimiter.
    fn word(&mut self) -> String {
        let from = self.at;
        if self.peek() == b'"' || self.bytes[self.at..].starts_with(b"b\"") {
            self.at += if self.peek() == b'b' { 2 } else { 1 };
            while self.peek() != b'"' {
                self.at += if self.peek() == b'\\' { 2 } else { 1 };
            }
            self.at += 1;
        } else {
            while !matches!(self.peek(), 0 | b' ' | b',' | b':' | b'(' | b')' | b']' | b'}') {
                self.at += 1;
            }
        }
        String::from_utf8_lossy(&self.bytes[from..self.at]).into_owned()
    }

    fn braces(&mut self) -> String {
        let from = self.at;
        assert!(self.skip("{}"), "maps of unknown fields are empty");
        String::from_utf8_lossy(&self.bytes[from..self.at]).into_owned()
    }
}
