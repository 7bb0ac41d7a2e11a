//! Which replica goes where. Pure: from what there is to what should be.
//!
//! The load of a node is the number of replicas that it holds. A replica never comes to a node that holds its partition
//! already, and a move never leaves a partition in fewer racks than before. With the replicas of a node that is down go
//! those on other such nodes: a move ends when all replicas that are to stay are in sync.

use std::collections::{BTreeMap, BTreeSet};

use super::view::{Node, Partition, is_down};

/// A partition, by topic and index.
pub(super) type Name = (String, i32);

/// New replicas for some partitions, the preferred leader first.
pub(super) type Moves = BTreeMap<Name, Vec<i32>>;

/// What there is to place, and where.
pub(super) struct Placement<'a> {
    nodes: &'a BTreeMap<i32, Node>,
    partitions: &'a BTreeMap<Name, Partition>,
    /// Where replicas may come to, with how many each holds.
    load: BTreeMap<i32, usize>,
    replicas: BTreeMap<&'a Name, Vec<i32>>,
}

impl<'a> Placement<'a> {
    /// All partitions on all nodes; those nodes that are fenced, or are `leaving`, get nothing more.
    pub(super) fn new(
        nodes: &'a BTreeMap<i32, Node>,
        partitions: &'a BTreeMap<Name, Partition>,
        leaving: Option<i32>,
    ) -> Placement<'a> {
        let replicas: BTreeMap<_, _> = partitions.iter().map(|(name, partition)| (name, partition.settled())).collect();
        let open = nodes.iter().filter(|(id, node)| !node.is_fenced && Some(**id) != leaving);
        let mut load: BTreeMap<i32, usize> = open.map(|(id, _)| (*id, 0)).collect();
        for node in replicas.values().flatten() {
            if let Some(load) = load.get_mut(node) {
                *load += 1;
            }
        }
        Placement { nodes, partitions, load, replicas }
    }

    /// Takes all replicas off a node; where that is down, also off the other nodes that are, as far as there is room.
    ///
    /// # Errors
    /// The first partition that would have nowhere to go.
    pub(super) fn drain(mut self, node: i32) -> Result<Moves, String> {
        let names: Vec<&Name> = self.replicas.keys().copied().collect();
        let mut moves = Moves::new();
        for name in names {
            let replicas = self.replicas[name].clone();
            let Some(place) = replicas.iter().position(|replica| *replica == node) else { continue };
            // Where no node keeps as many racks, one that keeps most: the node must go.
            let Some(to) = self.target(&replicas, node, usize::MAX) else {
                let (topic, index) = name;
                return Err(format!(
                    "partition {index} of `{topic}` has {} replicas, and without node {node} there is room for {}, one \
                     on each node that is up: add a node first, or give the topic fewer",
                    replicas.len(),
                    self.load.len()
                ));
            };
            self.put(name, place, to);
            if self.is_down(node) && self.can_be_copied(name) {
                self.replace_those_down(name);
            }
            moves.insert(name.clone(), self.replicas[name].clone());
        }
        Ok(moves)
    }

    /// Puts the replicas on nodes that are down to nodes that are up, as long as there are any.
    fn replace_those_down(&mut self, name: &Name) {
        for place in 0..self.replicas[name].len() {
            let replicas = &self.replicas[name];
            let from = replicas[place];
            if self.is_down(from)
                && let Some(to) = self.target(replicas, from, usize::MAX)
            {
                self.put(name, place, to);
            }
        }
    }

    /// Whether a replica that is in sync is up. Of a partition without one no node that may still have all of it is let go.
    fn can_be_copied(&self, name: &Name) -> bool {
        self.partitions[name].in_sync.iter().any(|node| !self.is_down(*node))
    }

    fn is_down(&self, node: i32) -> bool {
        is_down(self.nodes, node)
    }

    /// Spreads replicas evenly, with as few moves as that takes, then who is preferred to lead.
    pub(super) fn balance(mut self) -> Moves {
        let before = self.replicas.clone();
        while let Some((name, place, to)) = self.next_move() {
            self.put(name, place, to);
        }
        self.spread_leaders();
        let changed = self.replicas.into_iter().filter(|(name, replicas)| before[name] != *replicas);
        changed.map(|(name, replicas)| (name.clone(), replicas)).collect()
    }

    /// A replica of the most loaded node that one with at least two less could take.
    fn next_move(&self) -> Option<(&'a Name, usize, i32)> {
        let mut full: Vec<(usize, i32)> = self.load.iter().map(|(id, load)| (*load, *id)).collect();
        full.sort_unstable_by(|a, b| b.cmp(a));
        for (load, from) in full {
            for (name, replicas) in &self.replicas {
                let Some(place) = replicas.iter().position(|replica| *replica == from) else { continue };
                if let Some(to) = self.target(replicas, from, 0).filter(|to| self.load[to] + 2 <= load) {
                    return Some((*name, place, to));
                }
            }
        }
        None
    }

    /// The least loaded node that may take the replica of these that `from` has: one that leaves them in as many racks,
    /// or in up to `racks_lost_max` fewer where that cannot be.
    fn target(&self, replicas: &[i32], from: i32, racks_lost_max: usize) -> Option<i32> {
        let racks = |replicas: &mut dyn Iterator<Item = i32>| {
            let rack = |id: i32| self.nodes.get(&id).and_then(|node| node.rack.as_deref());
            replicas.filter_map(rack).collect::<BTreeSet<_>>().len()
        };
        let now = racks(&mut replicas.iter().copied());
        let others = || replicas.iter().copied().filter(|id| *id != from);
        let free = self.load.iter().filter(|(id, _)| !replicas.contains(id));
        let with_racks = free.map(|(id, load)| (racks(&mut others().chain([*id])), *load, *id));
        let most = with_racks.clone().map(|(racks, ..)| racks).max()?;
        let enough = now.min(most.max(now.saturating_sub(racks_lost_max)));
        with_racks.filter(|(racks, ..)| *racks >= enough).min_by_key(|(_, load, id)| (*load, *id)).map(|(.., id)| id)
    }

    /// Puts the replica at a place to another node.
    fn put(&mut self, name: &Name, place: usize, to: i32) {
        let replicas = self.replicas.get_mut(name).expect("it is one of them");
        let from = std::mem::replace(&mut replicas[place], to);
        if let Some(load) = self.load.get_mut(&from) {
            *load -= 1;
        }
        *self.load.get_mut(&to).expect("targets have a load") += 1;
    }

    /// Has each node preferred to lead about as many partitions, by the order of replicas alone.
    fn spread_leaders(&mut self) {
        let mut preferred: BTreeMap<i32, usize> = self.load.keys().map(|id| (*id, 0)).collect();
        for replicas in self.replicas.values() {
            if let Some(count) = replicas.first().and_then(|first| preferred.get_mut(first)) {
                *count += 1;
            }
        }
        for replicas in self.replicas.values_mut() {
            let Some(&first) = replicas.first() else { continue };
            let least = replicas.iter().filter(|id| preferred.contains_key(id)).min_by_key(|id| (preferred[id], **id));
            let Some(&least) = least else { continue };
            let excess = preferred.get(&first).map_or(usize::MAX, |count| count.saturating_sub(preferred[&least]));
            if excess < 2 {
                continue;
            }
            let place = replicas.iter().position(|id| *id == least).expect("it was found there");
            replicas.swap(0, place);
            if let Some(count) = preferred.get_mut(&first) {
                *count -= 1;
            }
            *preferred.get_mut(&least).expect("it was found there") += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::options::Address;

    fn nodes(racks: &[&str]) -> BTreeMap<i32, Node> {
        let node = |rack: &&str| Node {
            address: Address { host: "host".to_owned(), port: 9092 },
            rack: Some((*rack).to_owned()).filter(|rack| !rack.is_empty()),
            is_fenced: false,
        };
        (1..).zip(racks.iter().map(node)).collect()
    }

    fn partitions(replicas: &[&[i32]]) -> BTreeMap<Name, Partition> {
        let partition = |replicas: &&[i32]| Partition { replicas: replicas.to_vec(), ..Partition::default() };
        (0..).zip(replicas).map(|(index, replicas)| (("t".to_owned(), index), partition(replicas))).collect()
    }

    fn told(moves: &Moves) -> String {
        let told =
            moves.iter().map(|((_, index), replicas)| format!("{index}:{}", super::super::table::list(replicas)));
        told.collect::<Vec<_>>().join(" ")
    }

    fn check_drain(racks: &[&str], replicas: &[&[i32]], node: i32, expect: &str) {
        let (nodes, partitions) = (nodes(racks), partitions(replicas));
        let moves = Placement::new(&nodes, &partitions, Some(node)).drain(node);
        assert_eq!(moves.map_or_else(|why| why, |moves| told(&moves)), expect);
    }

    #[test]
    fn a_drained_nodes_replicas_go_where_there_are_fewest_and_to_no_rack_that_has_one() {
        check_drain(&["", "", "", ""], &[&[1, 2, 3], &[3, 1, 2], &[2, 3, 4]], 1, "0:4,2,3 1:3,4,2");
        check_drain(&["", "", ""], &[&[2, 3]], 1, "");
        check_drain(&["a", "b", "b", "a"], &[&[1, 2], &[4, 3], &[4, 2]], 1, "0:4,2");
        check_drain(&["a", "b", "b"], &[&[1, 2]], 1, "0:3,2");
        let why = "partition 0 of `t` has 3 replicas, and without node 1 there is room for 2, one on each node \
                   that is up: add a node first, or give the topic fewer";
        check_drain(&["", "", ""], &[&[1, 2, 3]], 1, why);
    }

    fn check_balance(racks: &[&str], replicas: &[&[i32]], expect: &str) {
        let (nodes, partitions) = (nodes(racks), partitions(replicas));
        assert_eq!(told(&Placement::new(&nodes, &partitions, None).balance()), expect);
    }

    #[test]
    fn a_new_node_gets_its_share_and_what_is_even_stays() {
        check_balance(&["", ""], &[&[1, 2], &[2, 1]], "");
        check_balance(&["", "", ""], &[&[1], &[1], &[1]], "0:2 1:3");
        check_balance(&["", "", "", ""], &[&[1, 2, 3] as &[i32]; 4], "0:2,1,4 1:3,4,1 2:4,2,3");
    }

    #[test]
    fn leaders_are_spread_without_moving_anything() {
        check_balance(&["", "", ""], &[&[1, 2, 3], &[1, 2, 3], &[1, 2, 3]], "0:2,1,3 1:3,2,1");
    }

    #[test]
    fn evenness_does_not_cost_a_rack() {
        check_balance(&["a", "b", "b"], &[&[1, 2], &[1, 2]], "0:3,1");
        check_balance(&["a", "a", "b"], &[&[3, 1], &[3, 2], &[3, 1], &[3, 2]], "0:1,3 1:2,3");
    }

    #[test]
    fn what_is_placed_at_random_ends_up_even() {
        let mut random = chronik_core::rng::Rng::from_number(7);
        for _ in 0..50 {
            let count = 3 + random.below(5) as i32;
            let nodes = nodes(&vec![""; count as usize]);
            let replicas: Vec<Vec<i32>> = (0..40)
                .map(|_| {
                    let first = random.below(2) as i32;
                    (0..3).map(|step| 1 + (first + step) % count).collect()
                })
                .collect();
            let slices: Vec<&[i32]> = replicas.iter().map(Vec::as_slice).collect();
            let mut partitions = partitions(&slices);
            for (name, replicas) in Placement::new(&nodes, &partitions.clone(), None).balance() {
                assert_eq!(replicas.iter().collect::<BTreeSet<_>>().len(), 3, "no node holds two");
                partitions.get_mut(&name).expect("a partition that there is").replicas = replicas;
            }
            let load = |id: i32| partitions.values().filter(|partition| partition.replicas.contains(&id)).count();
            let leads = |id: i32| partitions.values().filter(|partition| partition.replicas[0] == id).count();
            for count_of in [&load as &dyn Fn(i32) -> usize, &leads] {
                let counts: Vec<usize> = (1..=count).map(count_of).collect();
                let (least, most) = (counts.iter().min().copied(), counts.iter().max().copied());
                assert!(most <= least.map(|least| least + 2), "{counts:?}");
            }
        }
    }
}
