//! The comparison for people: one table of the work, and one of each thing that is told of a broker by itself.

use super::turn::{Series, Turn};
use super::{Connections, Findings, Idle, Recovery, Rest};
use crate::report::{grouped, plain_table, time};
use comfy_table::{CellAlignment, Table};

impl Findings {
    /// Medians; the ratios are against the first of each row.
    pub(super) fn to_table(&self) -> String {
        let mut tables = Vec::new();
        if !self.rows.is_empty() {
            tables.push(self.work());
        }
        if !self.rest.is_empty() {
            tables.push(numbers(&Rest::HEADER, self.rest.iter().map(Rest::to_line), 1));
        }
        if !self.idle.is_empty() {
            tables.push(numbers(&Idle::HEADER, self.idle.iter().map(Idle::to_line), 1));
        }
        if let Some(connections) = &self.connections {
            tables.push(numbers(&Connections::HEADER, [connections.to_line()].into_iter(), 1));
        }
        if let Some(recovery) = &self.recovery {
            tables.push(numbers(&Recovery::HEADER, [recovery.to_line()].into_iter(), 1));
        }
        let told = self.skipped.iter().chain(&self.lost).cloned();
        tables.iter().map(Table::to_string).chain(told).collect::<Vec<_>>().join("\n")
    }

    fn work(&self) -> Table {
        let header = [
            "work",
            "broker",
            "records/s",
            "lowest to highest",
            "MB/s",
            "ratio",
            "p50",
            "p99",
            "p99.9",
            "ratio",
            "broker µs/record",
            "ratio",
            "client µs/record",
            "memory",
        ];
        let lines = self.rows.iter().flat_map(|(name, all)| {
            let named = |(index, series)| row(if index == 0 { name } else { "" }, series, &all[0]);
            all.iter().enumerate().map(named)
        });
        numbers(&header, lines, 2)
    }
}

fn row(name: &str, series: &Series, floor: &Series) -> [String; 14] {
    let rate = |turn: &Turn| turn.records_per_s;
    let bytes = |turn: &Turn| turn.megabytes_per_s;
    let cpu = |turn: &Turn| turn.broker_cpu_us_per_record;
    let tail = |turn: &Turn| turn.latency_p999_us;
    let lowest = series.turns.iter().map(rate).fold(f64::INFINITY, f64::min);
    let highest = series.turns.iter().map(rate).fold(0.0, f64::max);
    [
        name.to_owned(),
        series.broker.clone(),
        grouped(series.median(rate)),
        format!("{} to {}", grouped(lowest), grouped(highest)),
        format!("{:.1}", series.median(bytes)),
        // By bytes, since the null broker's records to fetch may differ in size.
        format!("{:.2}", series.median(bytes) / floor.median(bytes)),
        time(series.median(|turn| turn.latency_p50_us)),
        time(series.median(|turn| turn.latency_p99_us)),
        time(series.median(tail)),
        format!("{:.2}", series.median(tail) / floor.median(tail)),
        format!("{:.2}", series.median(cpu)),
        format!("{:.2}", series.median(cpu) / floor.median(cpu)),
        format!("{:.2}", series.median(|turn| turn.client_cpu_us_per_record)),
        format!("{:.0} MB", series.median(|turn| turn.resident_bytes_max) / 1e6),
    ]
}

/// A table whose columns are numbers from the one at `from` on: they are read from the right.
fn numbers<const N: usize>(header: &[&str; N], lines: impl Iterator<Item = [String; N]>, from: usize) -> Table {
    let mut table = plain_table();
    table.set_header(header).add_rows(lines);
    for column in table.column_iter_mut().skip(from) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}
