//! What a run found, as a table for people and as JSON for programs.

use crate::args::{LoadArgs, Mode};
use crate::json::Json;
use crate::measured::Measured;
use crate::usage::ProcessUsage;
use crate::verify::Verdict;
use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{ContentArrangement, Table};
use std::time::Duration;

/// The percentiles shown, with their names.
pub(crate) const PERCENTILES: [(&str, f64); 4] = [("p50", 50.0), ("p90", 90.0), ("p99", 99.0), ("p99.9", 99.9)];

/// What the broker's process used while it was measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ServerUse {
    pub(crate) cpu: Duration,
    /// At the end.
    pub(crate) memory: ProcessUsage,
}

/// The findings of one run.
pub(crate) struct Report {
    pub(crate) load: LoadArgs,
    pub(crate) elapsed: Duration,
    pub(crate) measured: Measured,
    pub(crate) client_cpu: Duration,
    pub(crate) server: Option<ServerUse>,
    pub(crate) partitions: usize,
    /// Records that an open schedule had no place in flight for.
    pub(crate) overdue: u64,
    /// With acks=0: records sent, and by how many the end offsets rose.
    pub(crate) unacked: Option<(u64, u64)>,
    pub(crate) verdict: Option<Verdict>,
}

impl Report {
    pub(crate) fn records_per_second(&self) -> f64 {
        self.measured.records as f64 / self.elapsed.as_secs_f64()
    }

    pub(crate) fn megabytes_per_second(&self) -> f64 {
        self.measured.bytes as f64 / self.elapsed.as_secs_f64() / 1e6
    }

    /// CPU of this process per record, in microseconds.
    pub(crate) fn client_us_per_record(&self) -> f64 {
        self.client_cpu.as_secs_f64() * 1e6 / self.measured.records.max(1) as f64
    }

    /// CPU of the broker per record, in microseconds.
    pub(crate) fn server_us_per_record(&self) -> Option<f64> {
        self.server.map(|server| server.cpu.as_secs_f64() * 1e6 / self.measured.records.max(1) as f64)
    }

    /// In microseconds.
    pub(crate) fn latency_us(&self, percentile: f64) -> f64 {
        self.measured.latency.value_at_percentile(percentile) as f64 / 1e3
    }

    pub(crate) fn is_good(&self) -> bool {
        self.verdict.as_ref().is_none_or(Verdict::is_good)
    }

    fn processors(&self, cpu: Duration) -> f64 {
        cpu.as_secs_f64() / self.elapsed.as_secs_f64()
    }

    pub(crate) fn to_table(&self) -> String {
        let load = &self.load;
        let mut table = plain_table();
        let mut row = |name: &str, value: String| {
            table.add_row([name, &value]);
        };
        row("load", describe(load, self.partitions));
        row("measured", format!("{:.2} s, {} records", self.elapsed.as_secs_f64(), self.measured.records));
        row(
            "throughput",
            format!(
                "{} records/s, {:.1} MB/s, {} {}/s",
                grouped(self.records_per_second()),
                self.megabytes_per_second(),
                grouped(self.measured.requests as f64 / self.elapsed.as_secs_f64()),
                match load.mode {
                    Mode::Produce => "requests",
                    Mode::Consume | Mode::Wait => "fetches",
                    Mode::EndToEnd => "batches",
                    Mode::Commit => "commits",
                }
            ),
        );
        let mut latency: Vec<String> =
            PERCENTILES.iter().map(|(name, at)| format!("{name} {}", time(self.latency_us(*at)))).collect();
        latency.push(format!("max {}", time(self.measured.latency.max() as f64 / 1e3)));
        row("latency", latency.join("  "));
        row(
            "client CPU",
            format!("{:.2} µs/record, {:.0} %", self.client_us_per_record(), self.processors(self.client_cpu) * 100.0),
        );
        if let (Some(server), Some(per_record)) = (self.server, self.server_us_per_record()) {
            row("broker CPU", format!("{per_record:.2} µs/record, {:.0} %", self.processors(server.cpu) * 100.0));
            row(
                "broker memory",
                format!(
                    "{:.1} MB resident, {:.1} MB at most",
                    server.memory.resident_bytes as f64 / 1e6,
                    server.memory.resident_bytes_max as f64 / 1e6
                ),
            );
        }
        if !self.measured.errors.is_empty() {
            let errors: Vec<_> = self.measured.errors.iter().map(|(code, count)| format!("{count} × {code}")).collect();
            row("declined", errors.join(", "));
        }
        if self.overdue > 0 {
            row("behind", format!("{} records were due and could not be sent: the rate was not reached", self.overdue));
        }
        if let Some((sent, stored)) = self.unacked {
            row("stored", format!("{stored} of {sent} sent; acks=0 promises nothing"));
        }
        if let Some(verdict) = &self.verdict {
            row("verified", verdict.to_string());
        }
        table.to_string()
    }

    pub(crate) fn to_json(&self) -> Json {
        let load = &self.load;
        let mut latency: Vec<(&'static str, Json)> =
            PERCENTILES.iter().map(|(name, at)| (*name, Json::number(self.latency_us(*at)))).collect();
        latency.push(("max", Json::number(self.measured.latency.max() as f64 / 1e3)));
        let errors = self.measured.errors.iter().map(|(code, count)| {
            Json::Object(vec![("code", Json::text(code.to_string())), ("requests", Json::Whole(*count))])
        });
        Json::Object(vec![
            ("load", load_json(load, self.partitions)),
            ("elapsed_s", Json::number(self.elapsed.as_secs_f64())),
            ("records", Json::Whole(self.measured.records)),
            ("requests", Json::Whole(self.measured.requests)),
            ("records_per_s", Json::number(self.records_per_second())),
            ("megabytes_per_s", Json::number(self.megabytes_per_second())),
            ("latency_us", Json::Object(latency)),
            ("client_cpu_us_per_record", Json::number(self.client_us_per_record())),
            ("client_processors", Json::number(self.processors(self.client_cpu))),
            ("broker_cpu_us_per_record", Json::number(self.server_us_per_record())),
            ("broker_processors", Json::number(self.server.map(|server| self.processors(server.cpu)))),
            (
                "broker_resident_bytes",
                self.server.map_or(Json::Null, |server| Json::Whole(server.memory.resident_bytes)),
            ),
            (
                "broker_resident_bytes_max",
                self.server.map_or(Json::Null, |server| Json::Whole(server.memory.resident_bytes_max)),
            ),
            ("declined", Json::List(errors.collect())),
            ("overdue_records", Json::Whole(self.overdue)),
            ("verified", self.verdict.as_ref().map_or(Json::Null, Verdict::to_json)),
        ])
    }
}

fn describe(load: &LoadArgs, partitions: usize) -> String {
    let connections = count(load.connections as usize, "connection");
    let topic = format!("{} ({})", load.topic, count(partitions, "partition"));
    if load.mode == Mode::Consume {
        return format!("consume from {topic}, {connections}, fetches of up to {} bytes", load.fetch_max_bytes);
    }
    if load.mode == Mode::Wait {
        let wait = time(load.fetch_max_wait.as_secs_f64() * 1e6);
        return format!("wait at the end of {topic}, {connections}, {wait} a fetch; a fetch counts as a record");
    }
    let rate = load.rate.map_or(String::new(), |rate| format!(", {} records/s", grouped(rate as f64)));
    if load.mode == Mode::Commit {
        let group = if load.connections == 1 { "one group" } else { "a group each" };
        return format!("commit offsets of {topic}, {connections}, {group}, {} outstanding{rate}", load.concurrency);
    }
    let batches = match load.batch_records {
        1 => "singly".to_owned(),
        records => format!("in batches of {records}"),
    };
    format!(
        "{} to {topic}, {connections}, {} records of {} bytes outstanding, {batches}, acks {}{rate}",
        if load.mode == Mode::Produce { "produce" } else { "end to end" },
        load.concurrency,
        load.message_size,
        acks(load),
    )
}

fn load_json(load: &LoadArgs, partitions: usize) -> Json {
    let mode = match load.mode {
        Mode::Produce => "produce",
        Mode::Consume => "consume",
        Mode::EndToEnd => "end-to-end",
        Mode::Commit => "commit",
        Mode::Wait => "wait",
    };
    Json::Object(vec![
        ("mode", Json::text(mode)),
        ("topic", Json::text(&load.topic)),
        ("partitions", Json::Whole(partitions as u64)),
        ("connections", Json::Whole(load.connections.into())),
        ("concurrency", Json::Whole(load.concurrency.into())),
        ("batch_records", Json::Whole(load.batch_records.into())),
        ("message_size", Json::Whole(load.message_size.into())),
        ("acks", Json::text(acks(load))),
        ("rate", load.rate.map_or(Json::Null, Json::Whole)),
        ("fetch_max_wait_ms", Json::Whole(load.fetch_max_wait.as_millis() as u64)),
    ])
}

fn acks(load: &LoadArgs) -> &'static str {
    match load.acks.code() {
        0 => "0",
        1 => "1",
        _ => "all",
    }
}

fn count(number: usize, thing: &str) -> String {
    format!("{number} {thing}{}", if number == 1 { "" } else { "s" })
}

/// A table in the tool's manner.
pub(crate) fn plain_table() -> Table {
    let mut table = Table::new();
    table.load_preset(UTF8_FULL_CONDENSED).set_content_arrangement(ContentArrangement::Disabled);
    table
}

/// Whole, with a comma between thousands.
pub(crate) fn grouped(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Microseconds in the unit that suits them.
pub(crate) fn time(us: f64) -> String {
    match us {
        us if us < 1_000.0 => format!("{us:.0} µs"),
        us if us < 1_000_000.0 => format!("{:.2} ms", us / 1e3),
        us => format!("{:.2} s", us / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Window;

    #[test]
    fn numbers_are_readable() {
        assert_eq!([0.0, 999.0, 1_000.0, 1_234_567.4].map(grouped), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([12.3, 1_234.0, 2_500_000.0].map(time), ["12 µs", "1.23 ms", "2.50 s"]);
    }

    #[test]
    fn a_report_says_what_was_done_and_found() {
        let mut measured = Measured::new(Window { from: 0, until: 2_000_000_000 });
        for due in 0..1000 {
            measured.answered(due, due + 50_000, 1, 256);
        }
        let report = Report {
            load: LoadArgs::defaults(),
            elapsed: Duration::from_secs(2),
            measured,
            client_cpu: Duration::from_millis(1),
            server: Some(ServerUse { cpu: Duration::from_millis(10), memory: ProcessUsage::default() }),
            partitions: 1,
            overdue: 0,
            unacked: None,
            verdict: Some(Verdict { acked: 1000, missing: 1, ..Verdict::default() }),
        };
        let table = report.to_table();
        for part in ["500 records/s", "p99.9 50 µs", "10.00 µs/record", "LOST", "1 partition)", "acks all"] {
            assert!(table.contains(part), "{part} in\n{table}");
        }
        assert!(!report.is_good());
        let json = report.to_json().to_string();
        for part in ["\"records_per_s\": 500", "\"missing\": 1", "\"broker_cpu_us_per_record\": 10"] {
            assert!(json.contains(part), "{part} in\n{json}");
        }
    }
}
