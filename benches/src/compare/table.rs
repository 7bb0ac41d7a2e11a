//! The comparison for people: one table of the work, one of starting and resting.

use super::{Findings, Rest, Series, Turn, median};
use crate::report::{grouped, plain_table, time};
use comfy_table::{CellAlignment, Table};
use std::fmt::Write;

impl Findings {
    /// Medians; the ratios are against the first broker of each row, the floor.
    pub(super) fn to_table(&self) -> String {
        let mut work = plain_table();
        work.set_header([
            "work",
            "broker",
            "records/s",
            "lowest to highest",
            "MB/s",
            "ratio",
            "p50",
            "p99",
            "p99.9",
            "broker µs/record",
            "ratio",
            "client µs/record",
            "memory",
        ]);
        for (name, all) in &self.rows {
            for (index, series) in all.iter().enumerate() {
                let name = if index == 0 { *name } else { "" };
                work.add_row(row(name, series, &all[0]));
            }
        }
        align_right(&mut work, 2);
        let mut out = work.to_string();
        if !self.rest.is_empty() {
            let mut rest = plain_table();
            rest.set_header(["broker", "start to first ack", "idle CPU", "idle memory", "binary"]);
            for (broker, rests, binary_bytes) in &self.rest {
                let middle = |of: fn(&Rest) -> f64| median(rests.iter().map(of).collect());
                rest.add_row([
                    broker.clone(),
                    format!("{:.1} ms", middle(|rest| rest.first_ack.as_secs_f64() * 1e3)),
                    format!("{:.2} %", middle(|rest| rest.idle_processors * 100.0)),
                    format!("{:.1} MB", middle(|rest| rest.resident_bytes as f64 / 1e6)),
                    binary_bytes.map_or("-".to_owned(), |bytes| format!("{:.1} MB", bytes as f64 / 1e6)),
                ]);
            }
            align_right(&mut rest, 1);
            write!(out, "\n{rest}").expect("a string takes everything");
        }
        for lost in &self.lost {
            write!(out, "\n{lost}").expect("a string takes everything");
        }
        out
    }
}

fn row(name: &str, series: &Series, floor: &Series) -> [String; 13] {
    let rate = |turn: &Turn| turn.records_per_s;
    let bytes = |turn: &Turn| turn.megabytes_per_s;
    let cpu = |turn: &Turn| turn.broker_cpu_us_per_record;
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
        time(series.median(|turn| turn.latency_p999_us)),
        format!("{:.2}", series.median(cpu)),
        format!("{:.2}", series.median(cpu) / floor.median(cpu)),
        format!("{:.2}", series.median(|turn| turn.client_cpu_us_per_record)),
        format!("{:.0} MB", series.median(|turn| turn.resident_bytes_max) / 1e6),
    ]
}

/// Numbers are read from the right.
fn align_right(table: &mut Table, from: usize) {
    for column in table.column_iter_mut().skip(from) {
        column.set_cell_alignment(CellAlignment::Right);
    }
}
