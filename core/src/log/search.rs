//! A search for one record of a log by its timestamp: where to look, in which order, and when enough has been seen.
//!
//! Nothing is read here. A segment's largest timestamp only bounds what a search may find in it: it may belong to a
//! record below the log start, or to one that no consumer may read yet. The same goes for a batch in memory across one
//! of these edges; of any other the head tells all.

use std::cmp::Reverse;
use std::collections::VecDeque;

use super::Log;
use super::read::{Place, ReadOutcome, ReadPlan, Sought};
use crate::ids::Offset;
use crate::time::Timestamp;

/// Which record is sought by its timestamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// The first whose timestamp is not below this one.
    AtOrAfter(Timestamp),
    /// The first with the largest timestamp (KIP-734). A record without a timestamp is none.
    Largest,
}

/// Which of two records has the larger timestamp, or comes first where they are equal.
pub(super) type Rank = (Timestamp, Reverse<Offset>);

/// A search under way.
#[derive(Debug)]
pub struct Search {
    wanted: Wanted,
    from: Offset,
    /// What is left to look at, with the rank that no record there exceeds, and the offset from which on records there do
    /// not count. The first is the next.
    places: VecDeque<(Rank, Place, Offset)>,
    found: Option<(Offset, Timestamp)>,
}

impl Search {
    /// Where to look next; `None` once no place that is left could change what was found.
    pub fn next_plan(&mut self) -> Option<ReadPlan> {
        let (bound, place, below) = self.places.pop_front()?;
        let is_open = match (self.found, self.wanted) {
            (None, _) => true,
            (Some(_), Wanted::AtOrAfter(_)) => false,
            (Some((offset, timestamp)), Wanted::Largest) => bound > (timestamp, Reverse(offset)),
        };
        let sought = Sought::Record { wanted: self.wanted, from: self.from, below };
        is_open.then_some(ReadPlan { place, sought })
    }

    /// Takes note of what carrying out the last plan has found.
    pub fn take(&mut self, outcome: &ReadOutcome) {
        if let &ReadOutcome::Record(offset, timestamp) = outcome
            && self.found.is_none_or(|(known, largest)| (timestamp, Reverse(offset)) > (largest, Reverse(known)))
        {
            self.found = Some((offset, timestamp));
        }
    }

    /// The best record so far, which is the one that was wanted once there is no next plan.
    pub fn found(&self) -> Option<(Offset, Timestamp)> {
        self.found
    }
}

impl Log {
    /// Begins to search the records from the log start on that lie below `below`, at most the durable end.
    pub fn search(&self, wanted: Wanted, below: Offset) -> Search {
        let from = self.start;
        let least = match wanted {
            Wanted::AtOrAfter(target) => target.0,
            Wanted::Largest => 0,
        };
        let in_memory = self.tail.start().unwrap_or(self.end);
        let on_disk = self.segments.iter().take_while(|segment| segment.base < in_memory.min(below));
        // Behind the end of a segment may lie what was cut.
        let ends = self.segments.iter().skip(1).map(|next| next.base.min(below)).chain([below]);
        let mut places: Vec<(Rank, Place, Offset)> = on_disk
            .zip(ends)
            .filter(|(segment, _)| segment.max_timestamp >= least)
            .map(|(segment, end)| ((Timestamp(segment.max_timestamp), Reverse(segment.base)), self.place(segment), end))
            .collect();
        let batches = self.tail.from(from).take_while(|batch| batch.base < below);
        let mut opened = Vec::new();
        let mut best = None;
        for batch in batches.filter(|batch| batch.max_timestamp >= least) {
            if batch.base < from || batch.last >= below {
                opened.push(batch);
            } else if best.is_none_or(|best: &super::TailBatch| {
                wanted == Wanted::Largest && batch.max_timestamp > best.max_timestamp
            }) {
                best = Some(batch);
            }
        }
        opened.extend(best);
        places.extend(
            opened.into_iter().map(|batch| {
                ((Timestamp(batch.max_timestamp), Reverse(batch.base)), Place::Memory(batch.whole()), below)
            }),
        );
        match wanted {
            Wanted::AtOrAfter(_) => places.sort_by_key(|((_, Reverse(base)), ..)| *base),
            Wanted::Largest => places.sort_by_key(|(bound, ..)| Reverse(*bound)),
        }
        Search { wanted, from, places: places.into(), found: None }
    }
}
