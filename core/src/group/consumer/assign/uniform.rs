//! `uniform`: members have equally many partitions as far as their subscriptions allow, and keep what they have as far
//! as that allows.
//!
//! Where all members subscribe to the same topics, a quota decides: no two members differ by more than one partition,
//! and only what is above a member's quota moves. Otherwise partitions go to the least loaded subscriber, and then move
//! from one subscriber of a topic to another as long as that evens the two out.
//!
//! Costs: O(partitions + members) log of that for one subscription, and that for each round of evening out otherwise.

use std::collections::BTreeSet;

use super::{Partitions, Subscriber, Topic};

/// Rounds of evening out. Each move brings two members closer together, so rounds end by themselves; in practice after
/// two or three. The bound is for subscriptions made to be hostile.
const ROUNDS_MAX: usize = 16;

/// See [`Assignor::assign`](super::Assignor::assign).
pub(super) fn assign(topics: &[Topic], members: &[Subscriber<'_>]) -> Vec<Partitions> {
    let Some(first) = members.first() else { return Vec::new() };
    let mut work = Work::new(topics, members);
    if members.iter().all(|member| member.topics == first.topics) {
        work.fill_quotas();
    } else {
        work.even_out();
    }
    work.finish()
}

/// A partition by its topic's place among the topics.
type Place = (usize, i32);

struct Work<'a> {
    topics: &'a [Topic],
    members: &'a [Subscriber<'a>],
    /// What each member is to own, in rising order as far as it is kept.
    assigned: Vec<Vec<Place>>,
    /// What nobody is to own yet.
    free: Vec<Place>,
}

impl<'a> Work<'a> {
    /// Every member keeps what it had, as far as it subscribes to it and it is there.
    fn new(topics: &'a [Topic], members: &'a [Subscriber<'a>]) -> Work<'a> {
        let mut taken: Vec<Vec<bool>> = topics.iter().map(|topic| vec![false; topic.partitions as usize]).collect();
        let mut subscribed = vec![false; topics.len()];
        let mut assigned = Vec::with_capacity(members.len());
        for member in members {
            let mut kept = Vec::new();
            for at in &member.topics {
                subscribed[*at] = true;
                let before = member.before.and_then(|before| before.get(&topics[*at].id));
                for partition in before.into_iter().flatten() {
                    // An assignment that was read from a log may say anything: it binds only where it makes sense.
                    let place = usize::try_from(*partition).ok().and_then(|index| taken[*at].get_mut(index));
                    if let Some(taken) = place.filter(|taken| !**taken) {
                        *taken = true;
                        kept.push((*at, *partition));
                    }
                }
            }
            assigned.push(kept);
        }
        let mut free = Vec::new();
        for (at, taken) in taken.iter().enumerate().filter(|(at, _)| subscribed[*at]) {
            for (index, _) in taken.iter().enumerate().filter(|(_, taken)| !**taken) {
                free.push((at, i32::try_from(index).expect("Kafka counts partitions in 31 bits")));
            }
        }
        Work { topics, members, assigned, free }
    }

    /// All members subscribe to the same.
    fn fill_quotas(&mut self) {
        let all = self.free.len() + self.assigned.iter().map(Vec::len).sum::<usize>();
        let quota = all / self.members.len();
        let mut longer = all % self.members.len();
        let mut quotas = vec![quota; self.members.len()];
        // Those that have more than the quota keep one more, before others are given one more: so fewer move.
        let (have_more, others): (Vec<usize>, Vec<usize>) =
            (0..quotas.len()).partition(|at| self.assigned[*at].len() > quota);
        for at in have_more.into_iter().chain(others) {
            if longer == 0 {
                break;
            }
            longer -= 1;
            quotas[at] += 1;
        }
        for (kept, quota) in self.assigned.iter_mut().zip(&quotas) {
            if kept.len() > *quota {
                self.free.extend(kept.drain(*quota..));
            }
        }
        // In order, whatever was given up: an assignment depends on what members have, not on how they came to it.
        self.free.sort_unstable();
        let mut free = std::mem::take(&mut self.free).into_iter();
        for (kept, quota) in self.assigned.iter_mut().zip(&quotas) {
            let room = quota - kept.len();
            kept.extend(free.by_ref().take(room));
        }
    }

    /// Members subscribe to different topics.
    fn even_out(&mut self) {
        let mut subscribers = vec![Vec::new(); self.topics.len()];
        for (at, member) in self.members.iter().enumerate() {
            for topic in &member.topics {
                subscribers[*topic].push(at);
            }
        }
        // Topics that few subscribe to have the least choice: they go first.
        let mut order: Vec<usize> = (0..self.topics.len()).filter(|topic| !subscribers[*topic].is_empty()).collect();
        order.sort_by_key(|topic| subscribers[*topic].len());

        let mut by_topic = Evening::new(self, &subscribers);
        for topic in &order {
            by_topic.give_free(*topic);
        }
        for _ in 0..ROUNDS_MAX {
            let mut moved = false;
            for topic in &order {
                moved |= by_topic.even_out(*topic);
            }
            if !moved {
                break;
            }
        }
        self.assigned = by_topic.finish(self.members.len());
        self.free.clear();
    }

    fn finish(self) -> Vec<Partitions> {
        let topics = self.topics;
        let of_member = |mut places: Vec<Place>| {
            places.sort_unstable();
            let mut partitions = Partitions::new();
            for of_topic in places.chunk_by(|one, other| one.0 == other.0) {
                partitions.insert(topics[of_topic[0].0].id, of_topic.iter().map(|(_, partition)| *partition).collect());
            }
            partitions
        };
        self.assigned.into_iter().map(of_member).collect()
    }
}

/// The evening out of members that subscribe to different topics, a topic at a time.
struct Evening<'w> {
    subscribers: &'w [Vec<usize>],
    /// How many partitions each member has, of all topics.
    loads: Vec<usize>,
    /// Who has what of each topic.
    owners: Vec<Vec<(usize, Vec<i32>)>>,
    free: Vec<Vec<i32>>,
}

impl<'w> Evening<'w> {
    fn new(work: &Work<'_>, subscribers: &'w [Vec<usize>]) -> Evening<'w> {
        let mut owners: Vec<Vec<(usize, Vec<i32>)>> =
            subscribers.iter().map(|members| members.iter().map(|member| (*member, Vec::new())).collect()).collect();
        for (member, places) in work.assigned.iter().enumerate() {
            for (topic, partition) in places {
                let at = subscribers[*topic].binary_search(&member).expect("a member keeps what it subscribes to");
                owners[*topic][at].1.push(*partition);
            }
        }
        let mut free = vec![Vec::new(); subscribers.len()];
        for (topic, partition) in &work.free {
            free[*topic].push(*partition);
        }
        Evening { subscribers, loads: work.assigned.iter().map(Vec::len).collect(), owners, free }
    }

    /// Gives what is free of a topic to those that have the least.
    fn give_free(&mut self, topic: usize) {
        let mut by_load: BTreeSet<(usize, usize)> = self.by_load(topic);
        for partition in std::mem::take(&mut self.free[topic]) {
            let (load, at) = by_load.pop_first().expect("the topic has subscribers");
            self.owners[topic][at].1.push(partition);
            self.loads[self.subscribers[topic][at]] += 1;
            by_load.insert((load + 1, at));
        }
    }

    /// Moves partitions of a topic from the most loaded of those that have any to the least loaded of its subscribers,
    /// as long as they differ by two. Returns whether any moved.
    fn even_out(&mut self, topic: usize) -> bool {
        let mut by_load = self.by_load(topic);
        let mut givers: BTreeSet<(usize, usize)> =
            by_load.iter().filter(|(_, at)| !self.owners[topic][*at].1.is_empty()).copied().collect();
        let mut moved = false;
        while let (Some((most, giver)), Some((least, taker))) = (givers.last().copied(), by_load.first().copied()) {
            if most < least + 2 {
                break;
            }
            moved = true;
            let partition = self.owners[topic][giver].1.pop().expect("a giver has some");
            self.owners[topic][taker].1.push(partition);
            self.loads[self.subscribers[topic][giver]] -= 1;
            self.loads[self.subscribers[topic][taker]] += 1;
            for (load, at, next) in [(most, giver, most - 1), (least, taker, least + 1)] {
                by_load.remove(&(load, at));
                by_load.insert((next, at));
                givers.remove(&(load, at));
                if !self.owners[topic][at].1.is_empty() {
                    givers.insert((next, at));
                }
            }
        }
        moved
    }

    /// The topic's subscribers by how much they have, each by its place among them.
    fn by_load(&self, topic: usize) -> BTreeSet<(usize, usize)> {
        self.subscribers[topic].iter().enumerate().map(|(at, member)| (self.loads[*member], at)).collect()
    }

    fn finish(self, members: usize) -> Vec<Vec<Place>> {
        let mut assigned = vec![Vec::new(); members];
        for (topic, owners) in self.owners.into_iter().enumerate() {
            for (member, partitions) in owners {
                assigned[member].extend(partitions.into_iter().map(|partition| (topic, partition)));
            }
        }
        assigned
    }
}
