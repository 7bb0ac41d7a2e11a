//! The timeline as text: a row per event, a column per lane.
//!
//! ```text
//!    event      seconds  faults   n0       c0
//!       41     1.204117  │        ●◄───────┤ (c0 at 1.203871) Produce ...
//!       42     1.204121  ● power is lost
//! ```
//! Only one lane of a row has something to say, so its text may run on to the right and nothing need be cut.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use chronik_core::time::Instant;

use crate::engine::{Lane, Traced};
use crate::history::ClientId;

/// The width of a column: enough for the name of a lane and for an arrow.
const COLUMN: usize = 9;

/// What a lane is called.
pub fn lane_name(lane: Lane) -> String {
    match lane {
        Lane::Node(number) => format!("n{number}"),
        Lane::Disk(number) => format!("disk{number}"),
        Lane::Client(number) => match ClientId(number) {
            ClientId::SETUP => "setup".to_string(),
            ClientId::AUDITOR => "auditor".to_string(),
            ClientId(index) => format!("c{index}"),
        },
        Lane::Fault => "faults".to_string(),
    }
}

/// The lanes that take part, in the order of their columns: what goes wrong, brokers and their disks, clients.
pub fn lanes(rows: &[Traced]) -> Vec<Lane> {
    let all: BTreeSet<Lane> = rows.iter().flat_map(|row| [Some(row.lane), row.from]).flatten().collect();
    let mut lanes: Vec<Lane> = all.into_iter().collect();
    lanes.sort_by_key(|lane| match *lane {
        Lane::Fault => (0, 0, 0),
        Lane::Node(number) => (1, number, 0),
        Lane::Disk(number) => (1, number, 1),
        Lane::Client(number) => (2, number, 0),
    });
    lanes
}

/// Seconds to the microsecond.
pub fn seconds(at: Instant) -> String {
    format!("{}.{:06}", at.0 / 1_000_000_000, at.0 / 1_000 % 1_000_000)
}

/// Draws rows under a head. Of a text longer than `text_max` characters the end is left out.
pub fn draw(rows: &[Traced], text_max: usize) -> String {
    let lanes = lanes(rows);
    let mut page = format!("{:>9} {:>12}  ", "event", "seconds");
    for lane in &lanes {
        let _ = write!(page, "{:<COLUMN$}", lane_name(*lane));
    }
    page.truncate(page.trim_end().len());
    page.push('\n');
    for row in rows {
        let _ = write!(page, "{:>9} {:>12}  ", row.event, seconds(row.at));
        draw_row(row, &lanes, text_max, &mut page);
    }
    page
}

fn draw_row(row: &Traced, lanes: &[Lane], text_max: usize, page: &mut String) {
    let column = |lane: Lane| lanes.iter().position(|known| *known == lane).expect("every lane has a column") * COLUMN;
    let to = column(row.lane);
    let from = row.from.filter(|from| *from != row.lane).map(column);
    let mut cells = vec![' '; lanes.len() * COLUMN];
    for lane in 0..lanes.len() {
        cells[lane * COLUMN] = '│';
    }
    cells[to] = '●';
    if let Some(from) = from {
        let (left, right) = (from.min(to), from.max(to));
        for (at, cell) in cells.iter_mut().enumerate().take(right).skip(left + 1) {
            *cell = if at % COLUMN == 0 { '┼' } else { '─' };
        }
        (cells[from], cells[if from < to { to - 1 } else { to + 1 }]) =
            if from < to { ('├', '►') } else { ('┤', '◄') };
    }
    page.extend(&cells[..=to.max(from.unwrap_or(0))]);
    page.push(' ');
    if let (Some(lane), Some(sent_at)) = (row.from, row.sent_at) {
        let _ = write!(page, "({} at {}) ", lane_name(lane), seconds(sent_at));
    }
    let mut text = row.text.chars().map(|letter| if letter == '\n' { ' ' } else { letter });
    page.extend(text.by_ref().take(text_max));
    if text.next().is_some() {
        page.push('…');
    }
    page.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(event: u64, lane: Lane, from: Option<Lane>, text: &str) -> Traced {
        let at = Instant(event * 1_500_000);
        Traced { event, at, lane, from, sent_at: from.map(|_| Instant(at.0 - 1_000_000)), text: text.to_string() }
    }

    #[test]
    fn each_row_has_its_mark_under_its_lane_and_an_arrow_from_where_it_came() {
        let rows = [
            row(1, Lane::Node(0), Some(Lane::Client(0)), "Produce t0-0"),
            row(2, Lane::Disk(0), Some(Lane::Node(0)), "sync journal"),
            row(3, Lane::Fault, None, "kill\nfor 10 ms"),
            row(4, Lane::Client(0), Some(Lane::Node(0)), "Produced"),
        ];
        let expect = "\
\x20   event      seconds  faults   n0       disk0    c0
        1     0.001500  │        ●◄───────┼────────┤ (c0 at 0.000500) Produce t0-0
        2     0.003000  │        ├───────►● (n0 at 0.002000) sync journal
        3     0.004500  ● kill for 10 ms
        4     0.006000  │        ├────────┼───────►● (n0 at 0.005000) Produced
";
        assert_eq!(draw(&rows, 80), expect);
    }

    #[test]
    fn a_text_too_long_says_so() {
        let page = draw(&[row(1, Lane::Fault, None, "one two three")], 7);
        assert!(page.ends_with("one two…\n"), "{page}");
    }
}
