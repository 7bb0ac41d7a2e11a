//! `range`: each topic is cut into ranges, one for each of its subscribers, the first ones a partition longer.
//!
//! Subscribers come in one order for all topics: static members by their names, then the others by their ids. So where
//! all members subscribe to topics of equally many partitions, partitions of one index meet in one member, which joins
//! of streams need. It does not look at what members had.

use super::{Partitions, Subscriber, Topic};

/// See [`Assignor::assign`](super::Assignor::assign).
pub(super) fn assign(topics: &[Topic], members: &[Subscriber<'_>]) -> Vec<Partitions> {
    let mut order: Vec<usize> = (0..members.len()).collect();
    order.sort_by_key(|at| {
        let member = &members[*at];
        (member.instance_id.is_none(), member.instance_id.unwrap_or(member.id))
    });

    let mut subscribers = vec![0u32; topics.len()];
    for topic in members.iter().flat_map(|member| &member.topics) {
        subscribers[*topic] += 1;
    }
    let mut next: Vec<Range> =
        topics.iter().zip(subscribers).map(|(topic, members)| Range::new(topic.partitions, members)).collect();

    let mut assigned = vec![Partitions::new(); members.len()];
    for at in order {
        for topic in &members[at].topics {
            let partitions = next[*topic].take();
            if !partitions.is_empty() {
                assigned[at].insert(topics[*topic].id, partitions);
            }
        }
    }
    assigned
}

/// What is left of a topic.
struct Range {
    from: u32,
    /// How many each subscriber gets at least.
    length: u32,
    /// How many subscribers get one more.
    longer: u32,
}

impl Range {
    fn new(partitions: u32, members: u32) -> Range {
        // Nobody takes from a topic without subscribers.
        let members = members.max(1);
        Range { from: 0, length: partitions / members, longer: partitions % members }
    }

    fn take(&mut self) -> Vec<i32> {
        let extra = u32::from(self.longer > 0);
        self.longer -= extra;
        let from = self.from;
        self.from += self.length + extra;
        (from..self.from)
            .map(|partition| i32::try_from(partition).expect("Kafka counts partitions in 31 bits"))
            .collect()
    }
}
