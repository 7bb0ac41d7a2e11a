//! Columns for people.

use std::io::{self, Write};

/// Writes rows below their heads, two spaces between columns. A column whose head ends with `#` holds numbers and is
/// aligned at its right; the mark is not written.
pub(super) fn write(heads: &[&str], rows: &[Vec<String>], out: &mut impl Write) -> io::Result<()> {
    let widths: Vec<usize> = (0..heads.len())
        .map(|column| {
            let cells = rows.iter().map(|row| row[column].chars().count());
            cells.max().unwrap_or(0).max(heads[column].trim_end_matches('#').len())
        })
        .collect();
    let mut line = |cells: &mut dyn Iterator<Item = &str>| {
        let mut text = String::new();
        for ((cell, width), head) in cells.zip(&widths).zip(heads) {
            let padding = " ".repeat(width - cell.chars().count());
            text += &if head.ends_with('#') { format!("{padding}{cell}  ") } else { format!("{cell}{padding}  ") };
        }
        writeln!(out, "{}", text.trim_end())
    };
    line(&mut heads.iter().map(|head| head.trim_end_matches('#')))?;
    rows.iter().try_for_each(|row| line(&mut row.iter().map(String::as_str)))
}

/// Numbers in a row.
pub(super) fn list(numbers: &[i32]) -> String {
    numbers.iter().map(i32::to_string).collect::<Vec<_>>().join(",")
}
