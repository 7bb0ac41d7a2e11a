//! What one turn of a broker comes to, and the turns of a series, whose medians count.

use crate::json::Json;
use crate::report::Report;

/// One turn of one broker at one row.
#[derive(Clone, Copy, Debug)]
pub(super) struct Turn {
    pub(super) records_per_s: f64,
    pub(super) megabytes_per_s: f64,
    pub(super) latency_p50_us: f64,
    pub(super) latency_p99_us: f64,
    pub(super) latency_p999_us: f64,
    pub(super) broker_cpu_us_per_record: f64,
    pub(super) client_cpu_us_per_record: f64,
    /// The most that the broker's process held since it started.
    pub(super) resident_bytes_max: f64,
}

/// All turns of one broker at one row.
pub(super) struct Series {
    pub(super) broker: String,
    pub(super) turns: Vec<Turn>,
}

impl From<&Report> for Turn {
    fn from(report: &Report) -> Turn {
        Turn {
            records_per_s: report.records_per_second(),
            megabytes_per_s: report.megabytes_per_second(),
            latency_p50_us: report.latency_us(50.0),
            latency_p99_us: report.latency_us(99.0),
            latency_p999_us: report.latency_us(99.9),
            broker_cpu_us_per_record: report.server_us_per_record().unwrap_or(f64::NAN),
            client_cpu_us_per_record: report.client_us_per_record(),
            resident_bytes_max: report.server.map_or(f64::NAN, |server| server.memory.resident_bytes_max as f64),
        }
    }
}

impl Series {
    pub(super) fn median(&self, of: impl Fn(&Turn) -> f64) -> f64 {
        median(self.turns.iter().map(of).collect())
    }

    pub(super) fn to_json(&self, floor: &Series) -> Json {
        let rate = |turn: &Turn| turn.records_per_s;
        let bytes = |turn: &Turn| turn.megabytes_per_s;
        let tail = |turn: &Turn| turn.latency_p999_us;
        let cpu = |turn: &Turn| turn.broker_cpu_us_per_record;
        Json::Object(vec![
            ("broker", Json::text(&self.broker)),
            ("records_per_s", Json::number(self.median(rate))),
            ("megabytes_per_s", Json::number(self.median(bytes))),
            ("throughput_ratio", Json::number(self.median(bytes) / floor.median(bytes))),
            ("broker_cpu_us_per_record", Json::number(self.median(cpu))),
            ("broker_cpu_ratio", Json::number(self.median(cpu) / floor.median(cpu))),
            ("latency_p50_us", Json::number(self.median(|turn| turn.latency_p50_us))),
            ("latency_p99_us", Json::number(self.median(|turn| turn.latency_p99_us))),
            ("latency_p999_us", Json::number(self.median(tail))),
            ("latency_p999_ratio", Json::number(self.median(tail) / floor.median(tail))),
            ("client_cpu_us_per_record", Json::number(self.median(|turn| turn.client_cpu_us_per_record))),
            ("resident_bytes_max", Json::number(self.median(|turn| turn.resident_bytes_max))),
            (
                "records_per_s_of_each_turn",
                Json::List(self.turns.iter().map(|turn| Json::number(rate(turn))).collect()),
            ),
        ])
    }
}

/// The middle value, or the mean of the two in the middle; NaN of nothing.
pub(super) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => f64::NAN,
        length if length % 2 == 1 => values[middle],
        _ => (values[middle - 1] + values[middle]) / 2.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(vec![5.0, 1.0, 3.0]), 3.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 9.0]), 3.0);
        assert!(median(Vec::new()).is_nan());
    }
}
