//! What bounds the broker's memory and descriptors, however many clients there are and whatever they send.
//!
//! The numbers are data: the shell hands one [`Limits`] to whoever must obey a part of it. They are not settings;
//! `--help` prints them so that an operator can size a machine.

use std::fmt::Write;
use std::time::Duration;

use crate::wire::MEMORY_PER_BYTE;

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;
const DAY_SECONDS: u64 = 24 * 60 * 60;

/// The largest batch that a topic can be made to take, in bytes: a record of the journal lies in one file of 16 MiB,
/// which holds besides it the headers of its commit and of the records that come with it, less than 1 KiB.
pub const BATCH_BYTES_MAX: u32 = (16 * MIB - KIB) as u32;

/// The bounds that one node keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Client connections open at once. A further one is closed as soon as it is accepted.
    pub connections_max: usize,
    /// Bytes of one request, its length prefix excluded. A longer one closes its connection.
    pub request_bytes_max: usize,
    /// Bytes of one request before the connection has shown, by ApiVersions, that it speaks this protocol. Keeps a
    /// stray HTTP request, whose first four bytes read as a gigantic length, from reserving anything.
    pub request_bytes_max_before_handshake: usize,
    /// Bytes of requests and responses that one connection may have in flight. Above it the connection is not read, and
    /// of what was read nothing is served whose response may be large, until responses have left; one request alone may
    /// exceed it, and one response, or large ones could never be served.
    pub connection_bytes_in_flight_max: usize,
    /// Bytes of requests and responses in flight over all connections. Above it no connection is read.
    pub bytes_in_flight_max: usize,
    /// Requests that wait for data or for acknowledgements. A further fetch is answered at once with what there is.
    pub parked_requests_max: usize,
    /// Bytes of records in the answers to fetches, from when they are begun to be read from segments, or found in memory,
    /// until they have been sent. Above it further fetches wait for their turn, but for those that memory answers with
    /// less than 16 KiB; one alone may exceed it.
    pub fetch_bytes_in_flight_max: usize,
    /// How long an answer to a fetch may lie unsent while others wait for its memory, and half a second more for each
    /// mebibyte of it, before its connection is closed.
    pub fetch_unsent_time_max: Duration,
    /// Partitions of fetches that the node serves at once. A fetch of more is served in several steps, between which
    /// others have theirs.
    pub fetch_partitions_at_once: usize,
    /// Partitions that background work, such as a checkpoint or retention, looks at in one step.
    pub partitions_at_once: usize,
    /// Bytes of newest records kept in memory for consumers that read at the end of their partitions.
    pub tail_cache_bytes: usize,
    /// Segment files kept open at once; the ones used least recently are closed.
    pub open_files: usize,
    /// Bytes that compaction reads and writes each second, at most, whatever its setting allows.
    pub compaction_bytes_per_second_max: u64,
    /// Bytes of closed segments that are read each second, at most, to find damage before a consumer does.
    pub scrub_bytes_per_second_max: u64,
    /// How long one reading of all closed segments takes, unless the rate above makes it longer.
    pub scrub_period: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            // Twice the ten thousand idle connections that must do no harm; each costs a few KiB.
            connections_max: 20_000,
            // Kafka's default of socket.request.max.bytes.
            request_bytes_max: (100 * MIB) as usize,
            request_bytes_max_before_handshake: (64 * KIB) as usize,
            // Several of the largest batches that max.message.bytes lets through by default (1 MiB), so that one
            // producer with five requests in flight is never slowed by it.
            connection_bytes_in_flight_max: (16 * MIB) as usize,
            // At least two of the largest requests beside ordinary traffic.
            bytes_in_flight_max: (512 * MIB) as usize,
            // Five for each connection, as many as a producer keeps in flight by default.
            parked_requests_max: 100_000,
            // Eleven of the largest batches, or a thousand fetches of 150 KiB each.
            fetch_bytes_in_flight_max: (192 * MIB) as usize,
            // Several round trips around the earth, with what was lost sent again.
            fetch_unsent_time_max: Duration::from_secs(5),
            // At 0.2 to 0.4 µs each, the 100 µs that a step may take.
            fetch_partitions_at_once: 250,
            // Under about 100 µs; and a checkpoint syncs so many side by side.
            partitions_at_once: 64,
            // Half a second of the fastest producer of small records. Every page of it is fresh memory once, which can cost
            // more than all that is done with what lies in it; who is further behind reads from the page cache.
            tail_cache_bytes: (64 * MIB) as usize,
            open_files: 4_096,
            // A few percent of what one disk of today does, which leaves its latency to the journal.
            compaction_bytes_per_second_max: 64 * MIB,
            // What HDFS allows its block scanner: a hundredth of what a slow disk reads.
            scrub_bytes_per_second_max: MIB,
            // Damage waits at most so long for a second copy to fail too; a gigabyte then costs a read in ten minutes.
            scrub_period: Duration::from_secs(DAY_SECONDS * 7),
        }
    }
}

impl Limits {
    /// One line for each limit, for people.
    pub fn describe(&self) -> String {
        let mut text = String::from("Limits that keep one client from harming the others:\n");
        let mut line = |what: &str, value: String| {
            writeln!(text, "  {what:<44} {value:>8}").expect("writing to a string cannot fail");
        };
        line("connections", self.connections_max.to_string());
        line("bytes of one request", bytes(self.request_bytes_max));
        line("  memory for each of them, beside", format!("{MEMORY_PER_BYTE} B"));
        line("  before ApiVersions or authentication", bytes(self.request_bytes_max_before_handshake));
        line("bytes in flight on one connection", bytes(self.connection_bytes_in_flight_max));
        line("bytes in flight in all", bytes(self.bytes_in_flight_max));
        line("requests that wait for data or acks", self.parked_requests_max.to_string());
        line("bytes of fetched records, read or unsent", bytes(self.fetch_bytes_in_flight_max));
        line("  seconds that they lie unsent for others", self.fetch_unsent_time_max.as_secs().to_string());
        line("partitions of a fetch served at once", self.fetch_partitions_at_once.to_string());
        line("partitions taken at once in the background", self.partitions_at_once.to_string());
        line("tail cache", bytes(self.tail_cache_bytes));
        line("open segment files", self.open_files.to_string());
        line("bytes compacted in the background a second", count(self.compaction_bytes_per_second_max));
        line("bytes checked in the background a second", count(self.scrub_bytes_per_second_max));
        line("  days for all closed segments", (self.scrub_period.as_secs() / DAY_SECONDS).to_string());
        text
    }
}

/// The default limits, for people: what `--help` prints.
pub fn describe() -> String {
    Limits::default().describe()
}

fn bytes(bytes: usize) -> String {
    count(bytes as u64)
}

fn count(count: u64) -> String {
    if count >= MIB && count.is_multiple_of(MIB) {
        format!("{} MiB", count / MIB)
    } else if count >= KIB && count.is_multiple_of(KIB) {
        format!("{} KiB", count / KIB)
    } else {
        format!("{count} B")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_description_names_every_limit_with_its_unit() {
        let text = describe();
        for expected in ["20000", "100 MiB", "64 KiB", "16 MiB", "512 MiB", "100000", "192 MiB", "64 MiB", "4096"] {
            assert!(text.contains(expected), "{expected} is missing from\n{text}");
        }
    }

    #[test]
    fn the_largest_request_fits_into_the_bytes_in_flight() {
        let limits = Limits::default();
        assert!(limits.request_bytes_max <= limits.bytes_in_flight_max);
        assert!(limits.request_bytes_max_before_handshake <= limits.request_bytes_max);
        assert!(limits.connection_bytes_in_flight_max <= limits.bytes_in_flight_max);
    }
}
