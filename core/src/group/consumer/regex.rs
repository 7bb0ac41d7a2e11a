//! Subscriptions by regular expression: what is a valid one, and which topics they match.
//!
//! Kafka's are RE2's (KIP-848) and must match a topic's whole name. Here they are those of the crate `regex`, which has
//! RE2's guarantee, time linear in the name, and nearly its syntax. What RE2 reads otherwise is put in other words first
//! ([`in_other_words`]); beyond RE2 it takes a few flags and escapes more, which is harmless. Names of topics are ASCII:
//! Unicode's classes (`\pL`) are refused, as their tables would make a short expression take much memory.
//!
//! To compile an expression takes up to some milliseconds, and to match a name with a hostile one as much: neither is done
//! in a step, but asked ([`Question`](crate::group::Question)).
//!
//! A lookup goes through all topics for one expression after the other, a bounded number of topics in each question. What
//! all of them match is decided at its end, so that new topics raise the group's epoch once. There are at least
//! [`LOOKUP_INTERVAL_MIN`] between two lookups: a client that changes its expression again and again costs no more.

use std::collections::BTreeSet;
use std::ops::Bound;
use std::time::Duration;

use regex::bytes::{Regex, RegexBuilder};

use crate::group::question::Asked;
use crate::group::record::{ConsumerGroupRegularExpressionValue, Key, Value};
use crate::group::{Context, TimerKind};
use crate::time::{Instant, Timestamp};
use crate::wire::{ErrorCode, Str};

use super::Group;
use super::refusal::Refusal;

/// How many bytes an expression may have.
const EXPRESSION_BYTES_MAX: usize = 4 * 1024;

/// How many bytes a compiled expression may take, which a few characters of repetition can ask for.
const COMPILED_BYTES_MAX: usize = 256 * 1024;

/// How deep an expression may be nested.
const NESTING_MAX: u32 = 64;

/// How many topics one question is about, whose names are collected in the step that asks it.
const TOPICS_PER_QUESTION: usize = 128;

/// The time between two lookups of one group, as in Kafka.
pub(super) const LOOKUP_INTERVAL_MIN: Duration = Duration::from_secs(10);

/// What an expression was found to mean.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Resolved {
    /// The topics' names, in their order.
    pub(super) topics: Vec<Str>,
    version: i64,
    at: Timestamp,
}

impl Resolved {
    /// From its record.
    pub(super) fn from_value(value: &ConsumerGroupRegularExpressionValue) -> Resolved {
        Resolved {
            topics: super::member::topics_of(&value.topics),
            version: value.version,
            at: Timestamp(value.timestamp),
        }
    }

    fn to_value(&self) -> ConsumerGroupRegularExpressionValue {
        ConsumerGroupRegularExpressionValue { topics: self.topics.clone(), version: self.version, timestamp: self.at.0 }
    }
}

/// The lookups of a group.
#[derive(Debug, Default)]
pub(super) struct Lookups {
    running: Option<Lookup>,
    /// When the last one ended; `None` before the first.
    ended: Option<Instant>,
    /// The expressions that matched more than a record holds in the last one.
    too_wide: BTreeSet<Str>,
}

/// A lookup on its way.
#[derive(Debug)]
struct Lookup {
    /// The version of the topics that it began with.
    version: u64,
    /// The expression that is being looked up.
    expression: Str,
    /// It compiled, once its first question is answered.
    regex: Option<Regex>,
    /// The number of the question that is to be answered.
    asked: u64,
    /// The first name that was not looked at.
    from: String,
    /// What it matches so far.
    matched: Vec<Str>,
    /// What the expressions before it match.
    found: Vec<(Str, Vec<Str>)>,
}

impl Lookup {
    fn of(expression: Str, version: u64, found: Vec<(Str, Vec<Str>)>) -> Lookup {
        Lookup { version, expression, regex: None, asked: 0, from: String::new(), matched: Vec::new(), found }
    }

    /// Asks which of the next topics it matches.
    fn ask(&mut self, ctx: &mut Context<'_>, group: &Str) {
        let from = std::mem::take(&mut self.from);
        let mut names = Vec::new();
        ctx.topics.each_from(&from, &mut |name, _, _| {
            if names.len() == TOPICS_PER_QUESTION {
                self.from.push_str(name);
                return false;
            }
            names.push(name.clone());
            true
        });
        let matching = Matching { expression: self.expression.clone(), regex: self.regex.take(), names };
        self.asked = ctx.ask(group, Asked::Matches(matching));
    }
}

/// Some topics that an expression may match.
#[derive(Debug)]
pub(in crate::group) struct Matching {
    expression: Str,
    /// The expression compiled, where it has been.
    regex: Option<Regex>,
    names: Vec<Str>,
}

/// Those of them that it matches.
#[derive(Debug)]
pub(in crate::group) struct Matched {
    /// `None` where the expression cannot be compiled, which only one in a log can be: it matches nothing.
    regex: Option<Regex>,
    names: Vec<Str>,
}

impl Matching {
    /// Looks at each.
    pub(in crate::group) fn run(self) -> Matched {
        let Some(regex) = self.regex.or_else(|| compile(&self.expression).ok()) else {
            return Matched { regex: None, names: Vec::new() };
        };
        let names = self.names.iter().filter(|name| regex.is_match(name.as_bytes())).map(Str::detached).collect();
        Matched { regex: Some(regex), names }
    }
}

/// Compiles an expression so that it matches whole names.
///
/// # Errors
/// Where it is none, or would take too much memory: [`ErrorCode::InvalidRegularExpression`].
pub(in crate::group) fn compile(expression: &str) -> Result<Regex, Refusal> {
    let refused = |why: &dyn std::fmt::Display| {
        let message = format!("SubscribedTopicRegex `{expression}` is not a valid regular expression: {why}.");
        Refusal::new(ErrorCode::InvalidRegularExpression, message)
    };
    if expression.len() > EXPRESSION_BYTES_MAX {
        let message = format!("SubscribedTopicRegex is longer than {EXPRESSION_BYTES_MAX} bytes.");
        return Err(Refusal::new(ErrorCode::InvalidRegularExpression, message));
    }
    let words = in_other_words(expression).ok_or_else(|| refused(&"unexpected )"))?;
    RegexBuilder::new(&format!(r"\A(?:{words})\z"))
        .size_limit(COMPILED_BYTES_MAX)
        .dfa_size_limit(COMPILED_BYTES_MAX)
        .nest_limit(NESTING_MAX)
        .unicode(false)
        .build()
        .map_err(|why| refused(&why))
}

/// What RE2 reads otherwise than the crate: text between `\Q` and `\E` is plain, and in a class `[`, `&` and `~` are
/// characters like others. `None` where the expression closes a group that it did not open: it would get out of the one
/// that is put around it.
fn in_other_words(expression: &str) -> Option<String> {
    let mut words = String::with_capacity(expression.len());
    let mut rest = expression;
    let mut in_class = false;
    let mut groups: usize = 0;
    while let Some(character) = rest.chars().next() {
        if let Some(quoted) = rest.strip_prefix(r"\Q") {
            let (plain, behind) = quoted.split_once(r"\E").unwrap_or((quoted, ""));
            words.push_str(&regex::escape(plain));
            rest = behind;
            continue;
        }
        let mut taken = character.len_utf8();
        match character {
            '\\' => {
                taken += rest[1..].chars().next().map_or(0, char::len_utf8);
                words.push_str(&rest[..taken]);
            }
            '[' if in_class && rest.starts_with("[:") && rest.contains(":]") => {
                taken = rest.find(":]").expect("just seen") + 2;
                words.push_str(&rest[..taken]);
            }
            '[' | '&' | '~' if in_class => {
                words.push('\\');
                words.push(character);
            }
            '[' => {
                in_class = true;
                // A `]` that comes first is a character of the class.
                let negation = usize::from(rest[1..].starts_with('^'));
                taken += negation + usize::from(rest[1 + negation..].starts_with(']'));
                words.push_str(&rest[..taken]);
            }
            _ => {
                match character {
                    '(' if !in_class => groups += 1,
                    ')' if !in_class => groups = groups.checked_sub(1)?,
                    _ => {}
                }
                in_class &= character != ']';
                words.push(character);
            }
        }
        rest = &rest[taken..];
    }
    Some(words)
}

impl Group {
    /// Asks for a lookup as soon as there may be one.
    pub(super) fn ask_for_lookup(&self, ctx: &mut Context<'_>) {
        if self.expressions.is_empty() || self.lookups.running.is_some() {
            return;
        }
        let after = self.lookups.ended.map_or(Duration::ZERO, |ended| (ended + LOOKUP_INTERVAL_MIN) - ctx.now.instant);
        ctx.call_after(&self.name, TimerKind::Regex, after);
    }

    /// Whether it is known what a member's expression matches, or will be.
    ///
    /// # Errors
    /// Where it matches more than can be remembered, and meant nothing before: its members would wait for ever.
    pub(super) fn check_expression(&self, member: &Str) -> Result<(), Refusal> {
        let regex = self.members.get(member).and_then(|member| member.about.regex.as_ref());
        match regex.filter(|&regex| self.lookups.too_wide.contains(regex) && !self.resolved.contains_key(regex)) {
            None => Ok(()),
            Some(_) => {
                let message = "SubscribedTopicRegex matches more topics than can be remembered; subscribe to fewer.";
                Err(Refusal::new(ErrorCode::UnknownServerError, message))
            }
        }
    }

    /// A lookup is due to begin.
    pub(super) fn lookup_due(&mut self, ctx: &mut Context<'_>) {
        // Without an expression there is nothing to look up, until a member comes with one.
        let Some(expression) = self.expressions.keys().next().filter(|_| self.lookups.running.is_none()) else {
            return;
        };
        let mut lookup = Lookup::of(expression.clone(), ctx.topics.version(), Vec::new());
        lookup.ask(ctx, &self.name);
        self.lookups.running = Some(lookup);
    }

    /// The question of a lookup is answered: it goes on, or ends.
    pub(super) fn take_matches(&mut self, ctx: &mut Context<'_>, number: u64, found: Matched) {
        let Some(mut lookup) = self.lookups.running.take_if(|lookup| lookup.asked == number) else { return };
        let is_hopeless = found.regex.is_none();
        lookup.regex = found.regex;
        lookup.matched.extend(found.names);
        if is_hopeless || lookup.from.is_empty() {
            let Lookup { version, expression, matched, mut found, .. } = lookup;
            found.push((expression.clone(), matched));
            let behind = (Bound::Excluded(expression), Bound::Unbounded);
            match self.expressions.range(behind).next() {
                Some((next, _)) => lookup = Lookup::of(next.clone(), version, found),
                None => return self.end_lookup(ctx, version, found),
            }
        }
        lookup.ask(ctx, &self.name);
        self.lookups.running = Some(lookup);
    }

    fn end_lookup(&mut self, ctx: &mut Context<'_>, version: u64, found: Vec<(Str, Vec<Str>)>) {
        self.lookups.ended = Some(ctx.now.instant);
        self.lookups.too_wide.clear();
        let mut changed = false;
        for (regex, topics) in found {
            // Who subscribed to it may have left meanwhile.
            if !self.expressions.contains_key(&regex) {
                continue;
            }
            let before = self.resolved.get(&regex).map(|resolved| &resolved.topics);
            let size: usize = regex.len() + topics.iter().map(|topic| topic.len() + NAME_OVERHEAD_BYTES).sum::<usize>();
            if before == Some(&topics) {
                continue;
            }
            // More than a record holds cannot be remembered: what it meant before stays.
            if size + RECORD_OVERHEAD_BYTES > ctx.settings.record_bytes_max {
                self.lookups.too_wide.insert(regex);
                continue;
            }
            changed |= before.map_or(&[][..], Vec::as_slice) != topics.as_slice();
            let version = i64::try_from(version).unwrap_or(i64::MAX);
            let resolved = Resolved { topics, version, at: ctx.now.wall };
            let key = Key::Regex { group: self.name.clone(), regex };
            self.decide(ctx, key, Some(Value::Regex(resolved.to_value())));
        }
        if changed {
            self.bump(ctx);
        } else {
            self.refresh_metadata(ctx);
        }
        let unresolved = self.expressions.keys().any(|regex| !self.resolved.contains_key(regex));
        if unresolved || version != ctx.topics.version() {
            self.ask_for_lookup(ctx);
        } else if !self.expressions.is_empty() {
            ctx.call_after(&self.name, TimerKind::Regex, ctx.settings.consumer_regex_refresh_interval);
        }
    }
}

/// What a name takes in a record beside its text, at most.
const NAME_OVERHEAD_BYTES: usize = 3;

/// What a record takes beside what grows with its group, at most: ids of group and member, lengths, numbers.
pub(super) const RECORD_OVERHEAD_BYTES: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(expression: &str, matches: &[&str], others: &[&str]) {
        let regex = compile(expression).unwrap();
        for name in matches {
            assert!(regex.is_match(name.as_bytes()), "{expression} matches {name}");
        }
        for name in others {
            assert!(!regex.is_match(name.as_bytes()), "{expression} does not match {name}");
        }
    }

    #[test]
    fn an_expression_matches_whole_names() {
        check("orders", &["orders"], &["orders2", "my-orders"]);
        check("orders|bills", &["orders", "bills"], &["orders2", "mybills"]);
        check("ord.*", &["orders", "ord"], &["my-orders"]);
        check("", &[""], &["orders"]);
        check("(?i)ORD.*", &["orders", "Ord"], &["my-orders"]);
        check(r"\w+-\d{2}", &["orders-12"], &["orders-1x"]);
        check("[^a-z]+", &["12"], &["a1"]);
        check(r"(a|b)+[)]?\)?", &["ab)", "a))"], &["c"]);
    }

    #[test]
    fn what_re2_reads_otherwise_is_read_as_re2_does() {
        check(r"\Qa.b\E.*", &["a.b", "a.bc"], &["axb"]);
        check(r"\Qa.b", &["a.b"], &["axb"]);
        check("[[a]x", &["[x", "ax"], &["x"]);
        check("[a&&b]+", &["a&b"], &["c"]);
        check("[]a]", &["]", "a"], &["b"]);
        check("[^]a]", &["b"], &["]", "a"]);
        check("[[:digit:]_]+", &["1_2"], &["a"]);
        check(r"[\]a]", &["]"], &["b"]);
    }

    #[test]
    fn what_is_no_expression_is_refused_with_the_reason() {
        for expression in ["[", "a)(?:b", "(a", "(?=a)", r"(a)\1", "*", r"\pL"] {
            let refusal = compile(expression).unwrap_err();
            assert_eq!(refusal.code, ErrorCode::InvalidRegularExpression, "{expression}");
            assert!(refusal.message.starts_with("SubscribedTopicRegex"), "{}", refusal.message);
        }
    }

    #[test]
    fn an_expression_that_would_take_much_memory_is_refused() {
        let nested = "(".repeat(100) + &")".repeat(100);
        let long = "a".repeat(EXPRESSION_BYTES_MAX + 1);
        for expression in ["(a{1000}){1000}", "(((a{100}){100}){100}){100}", nested.as_str(), long.as_str()] {
            assert_eq!(compile(expression).unwrap_err().code, ErrorCode::InvalidRegularExpression);
        }
    }
}
