//! The network between clients and the broker: one pair of pipes for each connection.

use std::collections::VecDeque;

use bytes::Bytes;
use chronik_core::time::Instant;

use super::chance::Chance;
use crate::plan::NetworkPlan;

/// How finely bytes are cut while they arrive in fragments: all of the first ones, which hold the sizes and headers that
/// a receiver may stumble over; further ones in larger pieces, or a large frame would never arrive.
const FRAGMENTED_FINELY: usize = 48;

/// What is wrong with one client's network now.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Weather {
    /// Nothing arrives at the broker.
    pub(super) mute_to_server: bool,
    /// Nothing arrives at the client.
    pub(super) mute_to_client: bool,
    /// One way takes up to so many nanoseconds longer.
    pub(super) delay: u64,
    /// Bytes arrive a few at a time.
    pub(super) is_fragmenting: bool,
    /// The client reads nothing.
    pub(super) reads_nothing: bool,
}

/// Bytes on their way.
#[derive(Debug)]
pub(super) struct Flight {
    pub(super) bytes: Bytes,
    pub(super) sent_at: Instant,
    pub(super) due: Instant,
}

/// One direction of a connection: bytes arrive in order, after a while.
#[derive(Debug, Default)]
pub(super) struct Pipe {
    /// What the sender wants to send and the window does not take yet.
    unsent: VecDeque<Bytes>,
    unsent_bytes: usize,
    flying: VecDeque<Flight>,
    flying_bytes: usize,
    /// Bytes that have arrived and are not read.
    unread: usize,
    last_due: Instant,
    pieces: u64,
}

impl Pipe {
    pub(super) fn push(&mut self, bytes: Bytes) {
        self.unsent_bytes += bytes.len();
        self.unsent.push_back(bytes);
    }

    /// Bytes that have not left the sender.
    pub(super) fn unsent(&self) -> usize {
        self.unsent_bytes
    }

    /// Lets bytes fly as far as the window goes. Returns when the next ones arrive, if none flew before.
    pub(super) fn pump(
        &mut self,
        now: Instant,
        plan: &NetworkPlan,
        weather: &Weather,
        chance: Chance,
    ) -> Option<Instant> {
        let flew = !self.flying.is_empty();
        let window = plan.window_bytes.max(1) as usize;
        while self.in_window() < window
            && let Some(mut bytes) = self.unsent.pop_front()
        {
            let mut fine = 0;
            while !bytes.is_empty() && self.in_window() < window {
                let draw = chance.keyed(self.pieces);
                self.pieces += 1;
                let piece = self.piece(&bytes, plan, weather, fine, draw).min(window - self.in_window());
                fine += piece;
                let latency = draw.keyed(1).between(plan.latency_us_min * 1000, plan.latency_us_max * 1000);
                let due = Instant(now.0 + latency + draw.keyed(2).below(weather.delay + 1)).max(self.last_due);
                self.last_due = due;
                let piece = bytes.split_to(piece);
                self.unsent_bytes -= piece.len();
                self.flying_bytes += piece.len();
                self.flying.push_back(Flight { bytes: piece, sent_at: now, due });
            }
            if !bytes.is_empty() {
                self.unsent.push_front(bytes);
            }
        }
        if flew { None } else { self.due() }
    }

    fn piece(&self, bytes: &Bytes, plan: &NetworkPlan, weather: &Weather, sent: usize, draw: Chance) -> usize {
        let whole = bytes.len();
        if weather.is_fragmenting {
            let most = if sent < FRAGMENTED_FINELY { 3 } else { whole as u64 };
            return whole.min(1 + usize::try_from(draw.keyed(3).below(most.max(1))).expect("at most a frame"));
        }
        match plan.piece_bytes_max as usize {
            0 => whole,
            most => whole.min(1 + usize::try_from(draw.keyed(3).below(most as u64)).expect("small")),
        }
    }

    /// When the oldest bytes arrive.
    pub(super) fn due(&self) -> Option<Instant> {
        self.flying.front().map(|flight| flight.due)
    }

    /// The oldest bytes, if they have arrived.
    pub(super) fn arrived(&mut self, now: Instant) -> Option<Flight> {
        if self.flying.front()?.due > now {
            return None;
        }
        let flight = self.flying.pop_front()?;
        self.flying_bytes -= flight.bytes.len();
        self.unread += flight.bytes.len();
        Some(flight)
    }

    /// What lies between the sender and a receiver who has not read it.
    fn in_window(&self) -> usize {
        self.flying_bytes + self.unread
    }

    /// So many of the bytes that have arrived were read.
    pub(super) fn read(&mut self, bytes: usize) {
        self.unread -= bytes;
    }

    /// Nothing is on its way, and nothing will be.
    pub(super) fn is_empty(&self) -> bool {
        self.unsent.is_empty() && self.flying.is_empty()
    }

    /// Forgets everything but a first part of what flies, which is returned: a connection that breaks may still
    /// deliver some of it.
    pub(super) fn break_off(&mut self, chance: Chance) -> Bytes {
        let flying: usize = self.flying.iter().map(|flight| flight.bytes.len()).sum();
        let mut left = usize::try_from(chance.below(flying as u64 + 1)).expect("no more than flies");
        let mut delivered = Vec::with_capacity(left);
        for flight in &self.flying {
            let part = left.min(flight.bytes.len());
            delivered.extend_from_slice(&flight.bytes[..part]);
            left -= part;
        }
        self.forget();
        self.unread += delivered.len();
        delivered.into()
    }

    /// Forgets everything that has not arrived.
    pub(super) fn forget(&mut self) {
        self.forget_unsent();
        self.flying.clear();
        self.flying_bytes = 0;
    }

    /// Forgets what has not left the sender.
    pub(super) fn forget_unsent(&mut self) {
        self.unsent.clear();
        self.unsent_bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(window_bytes: u32, piece_bytes_max: u32) -> NetworkPlan {
        NetworkPlan { latency_us_min: 10, latency_us_max: 5_000, piece_bytes_max, window_bytes }
    }

    /// Sends bytes through a pipe whose receiver reads whatever arrives, and returns what it got and in how many pieces.
    fn sent(bytes: &[u8], plan: &NetworkPlan, weather: &Weather) -> (Vec<u8>, usize) {
        let mut pipe = Pipe::default();
        pipe.push(Bytes::copy_from_slice(bytes));
        let (mut got, mut pieces, mut now) = (Vec::new(), 0, Instant(0));
        while let Some(due) = pipe.due().or_else(|| pipe.pump(now, plan, weather, Chance::from_seed(1))) {
            assert!(due >= now, "time runs forth");
            now = due;
            while let Some(flight) = pipe.arrived(now) {
                pipe.read(flight.bytes.len());
                got.extend_from_slice(&flight.bytes);
                pieces += 1;
            }
        }
        assert_eq!(pipe.unsent(), 0);
        (got, pieces)
    }

    #[test]
    fn bytes_arrive_whole_and_in_order_however_they_are_cut() {
        let bytes: Vec<u8> = (0..10_000_u32).map(|n| n as u8).collect();
        let fragmenting = Weather { is_fragmenting: true, ..Weather::default() };
        for weather in [Weather::default(), fragmenting] {
            for (window, pieces) in [(1 << 20, 0), (100, 0), (100, 7), (1, 1)] {
                assert_eq!(
                    sent(&bytes, &plan(window, pieces), &weather).0,
                    bytes,
                    "window {window}, pieces of {pieces}"
                );
            }
        }
        assert_eq!(sent(&bytes, &plan(1 << 20, 0), &Weather::default()).1, 1);
        assert!(sent(&bytes, &plan(1 << 20, 0), &fragmenting).1 > 20);
    }

    #[test]
    fn a_receiver_who_does_not_read_stops_the_sender() {
        let (plan, weather, chance) = (plan(100, 0), Weather::default(), Chance::from_seed(1));
        let mut pipe = Pipe::default();
        pipe.push(Bytes::from(vec![1; 250]));
        pipe.pump(Instant(0), &plan, &weather, chance);
        let later = Instant(1_000_000_000);
        assert_eq!(pipe.arrived(later).map(|flight| flight.bytes.len()), Some(100));
        assert_eq!((pipe.pump(later, &plan, &weather, chance), pipe.unsent()), (None, 150));
        pipe.read(100);
        assert!(pipe.pump(later, &plan, &weather, chance).is_some());
    }
}
