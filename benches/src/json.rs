//! Just enough JSON to write a report.

use std::fmt;

/// A value to print. Objects keep the order in which they were built.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Json {
    Null,
    Bool(bool),
    Whole(u64),
    Number(f64),
    Text(String),
    List(Vec<Json>),
    Object(Vec<(&'static str, Json)>),
}

impl Json {
    /// A number with as many decimals as a measurement deserves; null where there is none.
    pub(crate) fn number(value: impl Into<Option<f64>>) -> Json {
        match value.into() {
            Some(value) if value.is_finite() => Json::Number(value),
            _ => Json::Null,
        }
    }

    pub(crate) fn text(value: impl Into<String>) -> Json {
        Json::Text(value.into())
    }

    fn write(&self, out: &mut fmt::Formatter<'_>, depth: usize) -> fmt::Result {
        match self {
            Json::Null => out.write_str("null"),
            Json::Bool(value) => write!(out, "{value}"),
            Json::Whole(value) => write!(out, "{value}"),
            Json::Number(value) => write!(out, "{}", (value * 1e4).round() / 1e4),
            Json::Text(value) => quote(out, value),
            Json::List(items) => surround(out, depth, '[', ']', items, |out, item| item.write(out, depth + 1)),
            Json::Object(fields) => surround(out, depth, '{', '}', fields, |out, (name, value)| {
                quote(out, name)?;
                out.write_str(": ")?;
                value.write(out, depth + 1)
            }),
        }
    }
}

impl fmt::Display for Json {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(out, 0)
    }
}

fn surround<T>(
    out: &mut fmt::Formatter<'_>,
    depth: usize,
    open: char,
    close: char,
    items: &[T],
    mut each: impl FnMut(&mut fmt::Formatter<'_>, &T) -> fmt::Result,
) -> fmt::Result {
    write!(out, "{open}")?;
    for (index, item) in items.iter().enumerate() {
        let comma = if index == 0 { "" } else { "," };
        write!(out, "{comma}\n{:1$}", "", 2 * (depth + 1))?;
        each(out, item)?;
    }
    if !items.is_empty() {
        write!(out, "\n{:1$}", "", 2 * depth)?;
    }
    write!(out, "{close}")
}

fn quote(out: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    out.write_str("\"")?;
    for c in text.chars() {
        match c {
            '"' | '\\' => write!(out, "\\{c}")?,
            '\n' => out.write_str("\\n")?,
            c if c < ' ' => write!(out, "\\u{:04x}", c as u32)?,
            c => write!(out, "{c}")?,
        }
    }
    out.write_str("\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_written_as_json_has_them() {
        let value = Json::Object(vec![
            ("a \"b\"", Json::text("c\\d\n\u{1}é")),
            ("list", Json::List(vec![Json::Whole(u64::MAX), Json::number(0.123_456), Json::number(f64::NAN)])),
            ("empty", Json::List(Vec::new())),
            ("yes", Json::Bool(true)),
        ]);
        let expect = "{\n  \"a \\\"b\\\"\": \"c\\\\d\\n\\u0001é\",\n  \"list\": [\n    18446744073709551615,\n    0.1235,\n    null\n  ],\n  \"empty\": [],\n  \"yes\": true\n}";
        assert_eq!(value.to_string(), expect);
    }
}
