//! The assignors that a leader of a classic group runs: by ranges, and sticky with partitions handed over in two
//! rounds (KIP-429). Simpler than those in the field, and as careful about who still reads what.

use std::collections::{BTreeMap, BTreeSet};

use chronik_core::wire::Str;

use crate::history::Place;

/// A member as its subscription tells of it.
#[derive(Clone, Debug)]
pub(super) struct Candidate {
    pub(super) member: Str,
    /// The topics that it subscribes to, by index.
    pub(super) topics: Vec<u32>,
    /// What it says that it reads.
    pub(super) owned: Vec<Place>,
    /// Since which generation; -1 where it does not say.
    pub(super) generation: i32,
}

/// What each member gets.
pub(super) type Assignment = BTreeMap<Str, Vec<Place>>;

/// Each topic's partitions in runs, one for each of its subscribers in the order of their ids.
pub(super) fn range(candidates: &[Candidate], partitions: impl Fn(u32) -> i32) -> Assignment {
    let mut assignment: Assignment = candidates.iter().map(|one| (one.member.clone(), Vec::new())).collect();
    for topic in topics(candidates) {
        let mut members: Vec<&Str> =
            candidates.iter().filter(|one| one.topics.contains(&topic)).map(|one| &one.member).collect();
        members.sort();
        let count = usize::try_from(partitions(topic)).unwrap_or(0);
        let mut next = 0;
        for (index, member) in members.iter().enumerate() {
            let share = count / members.len() + usize::from(index < count % members.len());
            let places = assignment.get_mut(*member).expect("each has an entry");
            places.extend((next..next + share).map(|partition| place(topic, partition)));
            next += share;
        }
    }
    assignment
}

/// Partitions stay with who reads them, where that is fair. One that is to move is given to nobody until the member that
/// reads it has joined without it: it does so at once when it is told so.
pub(super) fn cooperative_sticky(candidates: &[Candidate], partitions: impl Fn(u32) -> i32) -> Assignment {
    let claims = claims(candidates);
    let all: Vec<Place> = topics(candidates)
        .into_iter()
        .flat_map(|topic| (0..usize::try_from(partitions(topic)).unwrap_or(0)).map(move |index| place(topic, index)))
        .collect();
    let fair = all.len().div_ceil(candidates.len().max(1));
    let mut given: BTreeMap<Place, usize> = BTreeMap::new();
    let mut counts = vec![0; candidates.len()];
    let subscribes = |index: usize, place: &Place| candidates[index].topics.contains(&place.topic);
    for place in &all {
        let [owner] = claims.get(place).map_or(&[][..], Vec::as_slice) else { continue };
        if subscribes(*owner, place) && counts[*owner] < fair {
            given.insert(*place, *owner);
            counts[*owner] += 1;
        }
    }
    for place in &all {
        if given.contains_key(place) {
            continue;
        }
        let owners = claims.get(place).map_or(&[][..], Vec::as_slice);
        let able = (0..candidates.len()).filter(|&index| subscribes(index, place));
        let Some(next) = able.min_by_key(|index| (counts[*index], !owners.contains(index), *index)) else { continue };
        given.insert(*place, next);
        counts[next] += 1;
    }
    let mut assignment: Assignment = candidates.iter().map(|one| (one.member.clone(), Vec::new())).collect();
    for (place, index) in given {
        let is_free = claims.get(&place).is_none_or(|owners| owners.iter().all(|owner| *owner == index));
        if is_free {
            assignment.get_mut(&candidates[index].member).expect("each has an entry").push(place);
        }
    }
    assignment
}

/// Who reads each partition. Of those that say so the ones count that say it of the newest generation: an older claim is
/// of a member that was out meanwhile (KAFKA-7026).
fn claims(candidates: &[Candidate]) -> BTreeMap<Place, Vec<usize>> {
    let mut claims: BTreeMap<Place, (i32, Vec<usize>)> = BTreeMap::new();
    for (index, candidate) in candidates.iter().enumerate() {
        for place in &candidate.owned {
            let (generation, owners) = claims.entry(*place).or_insert((candidate.generation, Vec::new()));
            if *generation < candidate.generation {
                (*generation, *owners) = (candidate.generation, Vec::new());
            }
            if *generation == candidate.generation {
                owners.push(index);
            }
        }
    }
    claims.into_iter().map(|(place, (_, owners))| (place, owners)).collect()
}

fn topics(candidates: &[Candidate]) -> BTreeSet<u32> {
    candidates.iter().flat_map(|candidate| candidate.topics.iter().copied()).collect()
}

fn place(topic: u32, partition: usize) -> Place {
    Place { topic, partition: i32::try_from(partition).expect("few") }
}

#[cfg(test)]
mod tests {
    use chronik_core::rng::Rng;

    use super::*;

    fn candidate(name: &str, topics: &[u32], owned: &[(u32, i32)], generation: i32) -> Candidate {
        let owned = owned.iter().map(|&(topic, partition)| Place { topic, partition }).collect();
        Candidate { member: Str::from(name), topics: topics.to_vec(), owned, generation }
    }

    fn check(assignment: &Assignment, expect: &[(&str, &[(u32, i32)])]) {
        let told: Vec<(String, Vec<(u32, i32)>)> = assignment
            .iter()
            .map(|(member, places)| {
                (member.to_string(), places.iter().map(|place| (place.topic, place.partition)).collect())
            })
            .collect();
        let expect: Vec<(String, Vec<(u32, i32)>)> =
            expect.iter().map(|(member, places)| ((*member).to_owned(), places.to_vec())).collect();
        assert_eq!(told, expect);
    }

    #[test]
    fn ranges_are_even_and_in_order() {
        let both = [candidate("b", &[0, 1], &[], -1), candidate("a", &[0], &[], -1)];
        check(&range(&both, |topic| 3 - topic as i32), &[("a", &[(0, 0), (0, 1)]), ("b", &[(0, 2), (1, 0), (1, 1)])]);
    }

    #[test]
    fn what_is_to_move_is_given_to_nobody_at_first() {
        let all = [(0, 0), (0, 1), (0, 2), (0, 3)];
        let first = [candidate("a", &[0], &all, 3), candidate("b", &[0], &[], -1)];
        check(&cooperative_sticky(&first, |_| 4), &[("a", &all[..2]), ("b", &[])]);
        let then = [candidate("a", &[0], &all[..2], 4), candidate("b", &[0], &[], 4)];
        check(&cooperative_sticky(&then, |_| 4), &[("a", &all[..2]), ("b", &all[2..])]);
    }

    #[test]
    fn who_was_out_meanwhile_reads_nothing() {
        let stale = [candidate("a", &[0], &[(0, 0), (0, 1)], 3), candidate("b", &[0], &[(0, 0)], 5)];
        check(&cooperative_sticky(&stale, |_| 2), &[("a", &[(0, 1)]), ("b", &[(0, 0)])]);
        // Who does not say since when is not believed more than others.
        let unknown = [candidate("a", &[0], &[(0, 0)], -1), candidate("b", &[0], &[(0, 0)], -1)];
        check(&cooperative_sticky(&unknown, |_| 1), &[("a", &[]), ("b", &[])]);
    }

    /// However members come, go and subscribe, a few rounds give everything to somebody, and then nothing moves.
    #[test]
    fn a_few_rounds_are_enough() {
        let mut rng = Rng::from_number(7);
        for _ in 0..300 {
            let partitions: Vec<i32> = (0..3).map(|_| 1 + rng.below(4) as i32).collect();
            let mut members: Vec<Candidate> = (0..1 + rng.below(4))
                .map(|index| {
                    let topics: Vec<u32> = (0..3).filter(|_| rng.below(3) > 0).collect();
                    candidate(&format!("m{index}"), &topics, &[], -1)
                })
                .collect();
            // What it begins with is what a group of other members left.
            for place in (0..3_u32).flat_map(|topic| (0..partitions[topic as usize]).map(move |index| (topic, index))) {
                let index = rng.below(2 * members.len() as u64) as usize;
                if let Some(member) = members.get_mut(index) {
                    member.owned.push(Place { topic: place.0, partition: place.1 });
                }
            }
            let count = |topic: u32| partitions[topic as usize];
            let mut rounds = 0;
            loop {
                let assignment = cooperative_sticky(&members, count);
                let is_same = members.iter().all(|member| assignment[&member.member] == member.owned);
                for member in &mut members {
                    member.owned = assignment[&member.member].clone();
                }
                if is_same {
                    break;
                }
                rounds += 1;
                assert!(rounds < 6, "{members:?} of {partitions:?}");
            }
            let mut told: Vec<Place> = members.iter().flat_map(|member| member.owned.clone()).collect();
            told.sort_unstable();
            let expect: Vec<Place> = topics(&members)
                .into_iter()
                .flat_map(|topic| (0..count(topic)).map(move |partition| Place { topic, partition }))
                .collect();
            assert_eq!(told, expect);
        }
    }
}
