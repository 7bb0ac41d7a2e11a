//! Waiting is data: who waits for which offset, kept so that an advance pops exactly those who may go on.

use std::collections::VecDeque;

use smallvec::SmallVec;

use crate::ids::Offset;

/// Names a parked produce request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ProduceId(pub usize);

/// Names a parked fetch request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FetchId(pub usize);

/// Produce requests that wait until a partition's high watermark reaches the end of what they appended.
#[derive(Debug, Default)]
pub struct Acks {
    /// In the order of their ends.
    waiting: VecDeque<(Offset, ProduceId)>,
}

impl Acks {
    /// Parks a request until the high watermark reaches `end`. A duplicate of a batch in flight waits at that batch's
    /// end, which may lie before ends that are parked already.
    pub fn park(&mut self, end: Offset, id: ProduceId) {
        if self.waiting.back().is_none_or(|&(last, _)| last <= end) {
            return self.waiting.push_back((end, id));
        }
        let at = self.waiting.partition_point(|&(parked, _)| parked <= end);
        self.waiting.insert(at, (end, id));
    }

    /// Takes the next request whose end the high watermark has reached.
    pub fn pop(&mut self, high_watermark: Offset) -> Option<ProduceId> {
        let &(end, id) = self.waiting.front()?;
        (end <= high_watermark).then(|| {
            self.waiting.pop_front();
            id
        })
    }

    /// Removes a request that was parked until `end`, once. Returns whether it was there.
    pub fn leave(&mut self, end: Offset, id: ProduceId) -> bool {
        let from = self.waiting.partition_point(|&(parked, _)| parked < end);
        let same_end = self.waiting.range(from..).take_while(|&&(parked, _)| parked == end);
        let found = same_end.enumerate().find(|&(_, &(_, parked))| parked == id).map(|(at, _)| from + at);
        found.is_some_and(|at| self.waiting.remove(at).is_some())
    }

    /// Takes all of them, where the partition goes away.
    pub fn drain(&mut self) -> impl Iterator<Item = ProduceId> {
        std::mem::take(&mut self.waiting).into_iter().map(|(_, id)| id)
    }
}

/// Fetch requests that wait for bytes of a partition.
#[derive(Debug, Default)]
pub struct Fetchers {
    waiting: SmallVec<[FetchId; 2]>,
}

impl Fetchers {
    /// Adds one.
    pub fn join(&mut self, id: FetchId) {
        self.waiting.push(id);
    }

    /// Removes one.
    pub fn leave(&mut self, id: FetchId) {
        if let Some(at) = self.waiting.iter().position(|&waiting| waiting == id) {
            self.waiting.swap_remove(at);
        }
    }

    /// Those who wait.
    pub fn iter(&self) -> impl Iterator<Item = FetchId> {
        self.waiting.iter().copied()
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_leave_when_their_own_end_is_reached_whatever_the_order_they_came_in() {
        let mut acks = Acks::default();
        acks.park(Offset(10), ProduceId(1));
        acks.park(Offset(20), ProduceId(2));
        acks.park(Offset(10), ProduceId(3));
        assert_eq!(acks.pop(Offset(9)), None);
        assert_eq!(acks.pop(Offset(15)), Some(ProduceId(1)));
        assert_eq!(acks.pop(Offset(15)), Some(ProduceId(3)));
        assert_eq!(acks.pop(Offset(15)), None);
        assert_eq!(acks.pop(Offset(20)), Some(ProduceId(2)));
    }

    #[test]
    fn who_leaves_is_found_among_those_with_the_same_end_and_nowhere_else() {
        let mut acks = Acks::default();
        for (end, id) in [(10, 1), (20, 2), (20, 3), (20, 3), (30, 4)] {
            acks.park(Offset(end), ProduceId(id));
        }
        assert!(!acks.leave(Offset(20), ProduceId(1)), "it waits for another end");
        assert!(!acks.leave(Offset(15), ProduceId(3)) && !acks.leave(Offset(40), ProduceId(4)));
        assert!(acks.leave(Offset(20), ProduceId(3)));
        let left: Vec<ProduceId> = std::iter::from_fn(|| acks.pop(Offset(30))).collect();
        assert_eq!(left, [1, 2, 3, 4].map(ProduceId));
    }
}
