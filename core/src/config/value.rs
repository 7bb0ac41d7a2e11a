//! One setting: its type, what it may be, and the sentence a user reads when it is something else.

use std::borrow::Cow;
use std::fmt;

/// The type of a setting, as Kafka's tools show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `true` or `false`, in any case.
    Boolean,
    /// Any text.
    String,
    /// A whole number of 32 bits.
    Int,
    /// A whole number of 16 bits.
    Short,
    /// A whole number of 64 bits.
    Long,
    /// A number with a fraction.
    Double,
    /// Texts separated by commas.
    List,
    /// The name of a Java class.
    Class,
    /// A text that is never shown.
    Password,
}

impl Kind {
    /// The number that stands for this type in DescribeConfigs version 3 and later (KIP-569).
    pub fn id(self) -> i8 {
        match self {
            Kind::Boolean => 1,
            Kind::String => 2,
            Kind::Int => 3,
            Kind::Short => 4,
            Kind::Long => 5,
            Kind::Double => 6,
            Kind::List => 7,
            Kind::Class => 8,
            Kind::Password => 9,
        }
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Boolean => "boolean",
            Kind::String => "string",
            Kind::Int => "int",
            Kind::Short => "short",
            Kind::Long => "long",
            Kind::Double => "double",
            Kind::List => "list",
            Kind::Class => "class",
            Kind::Password => "password",
        }
    }

    /// What an article and this type's name read like in a sentence.
    fn article(self) -> &'static str {
        match self {
            Kind::Boolean => "true or false",
            Kind::String => "a text",
            Kind::Int => "a whole number of 32 bits",
            Kind::Short => "a whole number of 16 bits",
            Kind::Long => "a whole number of 64 bits",
            Kind::Double => "a number",
            Kind::List => "a list separated by commas",
            Kind::Class => "the name of a class",
            Kind::Password => "a text",
        }
    }
}

/// The longest value that is kept, in bytes: settings are held in memory, and repeated to whoever asks.
const VALUE_BYTES_MAX: usize = 32 * 1024;

/// Which values of its type a setting may have.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Allowed {
    /// All of them.
    Any,
    /// Whole numbers from this one up.
    AtLeast(i64),
    /// Whole numbers between these two, both allowed.
    Between(i64, i64),
    /// Whole numbers that are this one or lie between the two others.
    OneOrBetween(i64, i64, i64),
    /// Numbers between these two, both allowed.
    Fraction(f64, f64),
    /// One of these texts.
    OneOf(&'static [&'static str]),
    /// One of these texts, in any case.
    OneOfInAnyCase(&'static [&'static str]),
    /// A list of some of these texts, or of none, each at most once.
    SomeOf(&'static [&'static str]),
    /// `*`, or pairs `partition:broker` separated by commas.
    Replicas,
    /// Nothing but this one value, for the reason given: a user who counts on another must be told, not ignored.
    Only(&'static str, &'static str),
}

impl fmt::Display for Allowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Allowed::Any => f.write_str("any value"),
            Allowed::AtLeast(least) => write!(f, "at least {least}"),
            Allowed::Between(least, most) => write!(f, "from {least} to {most}"),
            Allowed::OneOrBetween(one, least, most) => write!(f, "{one}, or from {least} to {most}"),
            Allowed::Fraction(least, most) => write!(f, "from {least} to {most}"),
            Allowed::OneOf(names) => write!(f, "one of {}", names.join(", ")),
            Allowed::OneOfInAnyCase(names) => write!(f, "one of {}, in any case", names.join(", ")),
            Allowed::SomeOf(names) => write!(f, "empty, or a list of {}", names.join(", ")),
            Allowed::Replicas => f.write_str("*, or a list of partition:broker"),
            Allowed::Only("", _) => f.write_str("unset"),
            Allowed::Only(value, _) => write!(f, "only {value}"),
        }
    }
}

/// What a setting does here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It is obeyed.
    Obeyed,
    /// It is accepted, kept and described, and changes nothing, for this reason.
    Without(&'static str),
}

/// One known setting.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Key {
    /// Kafka's name for it.
    pub name: &'static str,
    /// Its type.
    pub kind: Kind,
    /// Its value where nobody sets it, `None` where it then has none.
    pub default: Option<&'static str>,
    /// Which values it may have.
    pub allowed: Allowed,
    /// Whether it is obeyed.
    pub effect: Effect,
    /// What it does, for people.
    pub doc: &'static str,
}

impl Key {
    /// Whether its value is a secret, which is never shown.
    pub fn is_sensitive(&self) -> bool {
        self.kind == Kind::Password
    }

    /// Checks `text` as a value for this setting.
    ///
    /// # Errors
    /// Where `text` is not of the setting's type or not among the allowed values.
    pub fn check(&self, text: &str) -> Result<(), ConfigError> {
        let text = text.trim();
        if text.len() > VALUE_BYTES_MAX {
            return Err(ConfigError::TooLong { name: self.name, bytes: text.len() });
        }
        let of_type = match self.kind {
            Kind::Boolean => boolean(text).is_some(),
            Kind::Int => text.parse::<i32>().is_ok(),
            Kind::Short => text.parse::<i16>().is_ok(),
            Kind::Long => text.parse::<i64>().is_ok(),
            Kind::Double => text.parse::<f64>().is_ok_and(f64::is_finite),
            Kind::String | Kind::List | Kind::Class | Kind::Password => true,
        };
        if !of_type {
            return Err(ConfigError::NotOfType { name: self.name, value: self.shown(text), kind: self.kind });
        }
        match self.allowed {
            Allowed::Only(value, why) if text != value => {
                Err(ConfigError::NotServed { name: self.name, value: self.shown(text), why })
            }
            allowed if !permits(allowed, text) => {
                Err(ConfigError::OutOfRange { name: self.name, value: self.shown(text), allowed })
            }
            _ => Ok(()),
        }
    }

    /// `text`, unless this setting is a secret.
    fn shown(&self, text: &str) -> String {
        if self.is_sensitive() { "(hidden)".to_owned() } else { excerpt(text).into_owned() }
    }
}

fn permits(allowed: Allowed, text: &str) -> bool {
    let number = || text.parse::<i64>().ok();
    match allowed {
        Allowed::Any | Allowed::Only(..) => true,
        Allowed::AtLeast(least) => number().is_some_and(|n| n >= least),
        Allowed::Between(least, most) => number().is_some_and(|n| (least..=most).contains(&n)),
        Allowed::OneOrBetween(one, least, most) => number().is_some_and(|n| n == one || (least..=most).contains(&n)),
        Allowed::Fraction(least, most) => text.parse::<f64>().is_ok_and(|n| (least..=most).contains(&n)),
        Allowed::OneOf(names) => names.contains(&text),
        Allowed::OneOfInAnyCase(names) => names.iter().any(|name| name.eq_ignore_ascii_case(text)),
        Allowed::SomeOf(names) => {
            let given: Vec<&str> = parts(text).collect();
            given.iter().enumerate().all(|(at, part)| names.contains(part) && !given[..at].contains(part))
        }
        Allowed::Replicas => text == "*" || parts(text).all(is_replica),
    }
}

/// Whether `text` is a pair of whole numbers, as in `3:1`.
fn is_replica(text: &str) -> bool {
    text.split_once(':')
        .is_some_and(|(partition, broker)| partition.parse::<u32>().is_ok() && broker.parse::<u32>().is_ok())
}

/// The parts of a list; an empty text is a list of nothing.
pub fn parts(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|part| !part.is_empty())
}

/// The beginning of `text`, for a sentence: what a client sends may be as long as a request.
pub fn excerpt(text: &str) -> Cow<'_, str> {
    const CHARACTERS: usize = 100;
    match text.char_indices().nth(CHARACTERS) {
        None => Cow::Borrowed(text),
        Some((end, _)) => Cow::Owned(format!("{}...", &text[..end])),
    }
}

/// The truth value that `text` spells, in any case, as Kafka reads it.
pub(super) fn boolean(text: &str) -> Option<bool> {
    match text {
        _ if text.eq_ignore_ascii_case("true") => Some(true),
        _ if text.eq_ignore_ascii_case("false") => Some(false),
        _ => None,
    }
}

/// Why a setting is refused. Its text is what the user reads.
#[derive(Clone, Debug, PartialEq)]
pub enum ConfigError {
    /// No setting has this name.
    Unknown {
        /// What was asked for: `topic` or `broker`.
        of: &'static str,
        /// The name.
        name: String,
        /// The known name that is most like it, if one is like it at all.
        nearest: Option<&'static str>,
    },
    /// The value is not of the setting's type.
    NotOfType {
        /// The setting.
        name: &'static str,
        /// The value, hidden if it is a secret.
        value: String,
        /// The type.
        kind: Kind,
    },
    /// The value is longer than any setting needs.
    TooLong {
        /// The setting.
        name: &'static str,
        /// How long it is, in bytes.
        bytes: usize,
    },
    /// The value is of the setting's type, and not allowed.
    OutOfRange {
        /// The setting.
        name: &'static str,
        /// The value.
        value: String,
        /// What would be allowed.
        allowed: Allowed,
    },
    /// The value means something that Chronik does not do.
    NotServed {
        /// The setting.
        name: &'static str,
        /// The value.
        value: String,
        /// Why it is not served, and what to do instead.
        why: &'static str,
    },
    /// Two settings contradict each other.
    Conflict {
        /// The setting whose value should be at most the other's.
        lower: &'static str,
        /// The other, or what part of it.
        upper: &'static str,
    },
    /// A setting appears twice.
    Twice {
        /// The setting.
        name: String,
    },
}

impl ConfigError {
    /// That no setting of a `topic` or `broker` is called `name`.
    pub(super) fn unknown(of: &'static str, name: &str, known: impl Iterator<Item = &'static str>) -> ConfigError {
        ConfigError::Unknown { of, name: excerpt(name).into_owned(), nearest: nearest(name, known) }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConfigError::Unknown { of, name, nearest: None } => write!(f, "Unknown {of} config name: {name}."),
            ConfigError::Unknown { of, name, nearest: Some(nearest) } => {
                write!(f, "Unknown {of} config name: {name}. Did you mean {nearest}?")
            }
            ConfigError::NotOfType { name, value, kind } => {
                write!(f, "Invalid value \"{value}\" for {name}: it must be {}.", kind.article())
            }
            ConfigError::TooLong { name, bytes } => write!(
                f,
                "Invalid value for {name}: it has {bytes} bytes, where {VALUE_BYTES_MAX} are the most that is kept."
            ),
            ConfigError::OutOfRange { name, value, allowed } => {
                write!(f, "Invalid value \"{value}\" for {name}: allowed is {allowed}.")
            }
            ConfigError::NotServed { name, value, why } => {
                write!(f, "Invalid value \"{value}\" for {name}: {why}.")
            }
            ConfigError::Conflict { lower, upper } => write!(f, "Invalid values: {lower} must not exceed {upper}."),
            ConfigError::Twice { name } => write!(f, "The config {name} is given twice."),
        }
    }
}

impl std::error::Error for ConfigError {}

/// The known name that most resembles `name`, if a few typing errors explain the difference.
fn nearest(name: &str, known: impl Iterator<Item = &'static str>) -> Option<&'static str> {
    let errors = (name.len() / 5).clamp(2, 4);
    known
        // A request may carry thousands of unknown names of any length, and a distance costs the product of the
        // lengths: what differs too much in length, or in which letters occur, is passed over unmeasured.
        .filter(|candidate| candidate.len().abs_diff(name.len()) <= errors)
        .filter(|candidate| (letters(candidate) ^ letters(name)).count_ones() as usize <= 2 * errors)
        .map(|candidate| (distance(name, candidate), candidate))
        .min()
        .filter(|(distance, _)| *distance <= errors)
        .map(|(_, candidate)| candidate)
}

/// Which letters occur, a bit each. One typing error changes two bits at most.
fn letters(name: &str) -> u64 {
    name.bytes().fold(0, |seen, byte| seen | 1 << (byte % 64))
}

/// How many characters must be put in, taken out or replaced to turn one text into the other (Levenshtein).
fn distance(from: &str, to: &str) -> usize {
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in to.bytes().enumerate() {
            let replaced = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(kind: Kind, allowed: Allowed) -> Key {
        Key { name: "some.key", kind, default: None, allowed, effect: Effect::Obeyed, doc: "" }
    }

    #[track_caller]
    fn check(kind: Kind, allowed: Allowed, text: &str, expect: &str) {
        let answer = key(kind, allowed).check(text).map_or_else(|e| e.to_string(), |()| "ok".to_owned());
        assert_eq!(answer, expect);
    }

    #[test]
    fn a_value_is_of_its_type() {
        check(Kind::Boolean, Allowed::Any, " TRUE ", "ok");
        check(Kind::Boolean, Allowed::Any, "yes", "Invalid value \"yes\" for some.key: it must be true or false.");
        check(Kind::Int, Allowed::Any, "2147483647", "ok");
        check(
            Kind::Int,
            Allowed::Any,
            "2147483648",
            "Invalid value \"2147483648\" for some.key: it must be a whole number of 32 bits.",
        );
        check(Kind::Double, Allowed::Fraction(0.0, 1.0), "0.5", "ok");
        check(Kind::Double, Allowed::Any, "NaN", "Invalid value \"NaN\" for some.key: it must be a number.");
    }

    #[test]
    fn a_value_is_within_its_range() {
        check(Kind::Long, Allowed::AtLeast(-1), "-1", "ok");
        check(Kind::Long, Allowed::AtLeast(-1), "-2", "Invalid value \"-2\" for some.key: allowed is at least -1.");
        check(Kind::Int, Allowed::OneOrBetween(-1, 1, 9), "-1", "ok");
        check(
            Kind::Int,
            Allowed::OneOrBetween(-1, 1, 9),
            "0",
            "Invalid value \"0\" for some.key: allowed is -1, or from 1 to 9.",
        );
        check(Kind::List, Allowed::SomeOf(&["a", "b"]), "", "ok");
        check(Kind::List, Allowed::SomeOf(&["a", "b"]), "b, a", "ok");
        check(
            Kind::List,
            Allowed::SomeOf(&["a", "b"]),
            "a,a",
            "Invalid value \"a,a\" for some.key: allowed is empty, or a list of a, b.",
        );
        check(Kind::List, Allowed::Replicas, "0:1,2:3", "ok");
        check(
            Kind::List,
            Allowed::Replicas,
            "0-1",
            "Invalid value \"0-1\" for some.key: allowed is *, or a list of partition:broker.",
        );
    }

    #[test]
    fn a_secret_is_not_repeated_in_an_error() {
        let secret = key(Kind::Password, Allowed::Only("", "TLS is not served"));
        let told = secret.check("hunter2").expect_err("not allowed").to_string();
        assert!(!told.contains("hunter2"), "{told}");
    }

    #[test]
    fn a_long_text_is_not_repeated_whole() {
        assert_eq!(excerpt("short"), "short");
        assert_eq!(excerpt(&"ä".repeat(101)), format!("{}...", "ä".repeat(100)));
    }

    #[test]
    fn a_typing_error_is_answered_with_the_name_that_was_meant() {
        let known = || ["retention.ms", "retention.bytes"].into_iter();
        assert_eq!(nearest("retention.m", known()), Some("retention.ms"));
        assert_eq!(nearest("retentoin.bites", known()), Some("retention.bytes"));
        assert_eq!(nearest("flying.carpets", known()), None);
        assert_eq!(nearest("", known()), None);
        assert_eq!(nearest(&"x".repeat(10_000), known()), None);
    }
}
