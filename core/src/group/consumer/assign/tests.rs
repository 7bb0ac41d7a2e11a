//! What is asked of every assignor, and of each.

use std::collections::BTreeMap;

use super::*;
use crate::ids::Uuid;
use crate::rng::Rng;

fn topic(number: u8, partitions: u32) -> Topic {
    Topic { id: Uuid([number; 16]), partitions }
}

/// Members by their ids, each with the topics that it subscribes to.
type Members = BTreeMap<Str, Vec<usize>>;

fn members(count: usize, topics: &[usize]) -> Members {
    (0..count).map(|at| (Str::from(format!("m{at:05}")), topics.to_vec())).collect()
}

/// Assigns, after an assignment before, and checks what every assignment must be.
#[track_caller]
fn assign(
    assignor: Assignor,
    topics: &[Topic],
    members: &Members,
    before: &BTreeMap<Str, Partitions>,
) -> BTreeMap<Str, Partitions> {
    let subscribers: Vec<Subscriber<'_>> = members
        .iter()
        .map(|(id, topics)| Subscriber { id, instance_id: None, topics: topics.clone(), before: before.get(id) })
        .collect();
    let assigned = assignor.assign(topics, &subscribers);
    assert_eq!(assigned.len(), members.len());
    let mut owners = BTreeMap::new();
    for ((id, subscription), partitions) in members.iter().zip(&assigned) {
        for (topic, partitions) in partitions {
            assert!(subscription.iter().any(|at| topics[*at].id == *topic), "{id} subscribes to what it is given");
            assert!(partitions.is_sorted_by(|one, other| one < other) && !partitions.is_empty());
            for partition in partitions {
                assert_eq!(owners.insert((*topic, *partition), id), None, "a partition is given once");
            }
        }
    }
    let subscribed = |at: usize| members.values().any(|topics| topics.contains(&at));
    let all =
        topics.iter().enumerate().filter(|(at, _)| subscribed(*at)).map(|(_, topic)| topic.partitions).sum::<u32>();
    assert_eq!(owners.len(), all as usize, "all that is subscribed to is given, and nothing else");
    members.keys().cloned().zip(assigned).collect()
}

fn counts(assigned: &BTreeMap<Str, Partitions>) -> Vec<usize> {
    assigned.values().map(|partitions| partitions.values().map(Vec::len).sum()).collect()
}

/// How many partitions were taken from one that is still there.
fn moved(before: &BTreeMap<Str, Partitions>, after: &BTreeMap<Str, Partitions>) -> usize {
    let kept = |id, topic, partition| {
        let now: &Partitions = &after[id];
        now.get(topic).is_some_and(|now: &Vec<i32>| now.contains(partition))
    };
    let all = before.iter().filter(|(id, _)| after.contains_key(*id)).flat_map(|(id, partitions)| {
        partitions.iter().flat_map(move |(topic, of)| of.iter().map(move |partition| (id, topic, partition)))
    });
    all.filter(|(id, topic, partition)| !kept(*id, topic, partition)).count()
}

#[test]
fn nobody_is_given_nothing() {
    for assignor in [Assignor::Uniform, Assignor::Range] {
        assert_eq!(assignor.assign(&[topic(1, 3)], &[]), []);
        let assigned = assign(assignor, &[topic(1, 3)], &members(2, &[]), &BTreeMap::new());
        assert_eq!(counts(&assigned), [0, 0]);
    }
}

#[test]
fn range_gives_each_topic_in_ranges() {
    let assigned = assign(Assignor::Range, &[topic(1, 5), topic(2, 2)], &members(3, &[0, 1]), &BTreeMap::new());
    let given: Vec<Vec<Vec<i32>>> =
        assigned.values().map(|partitions| partitions.values().cloned().collect()).collect();
    assert_eq!(given, [vec![vec![0, 1], vec![0]], vec![vec![2, 3], vec![1]], vec![vec![4]]]);
}

#[test]
fn range_gives_a_topic_to_its_subscribers_only() {
    let mut some = members(3, &[0, 1]);
    some.insert(Str::from("m00000"), vec![1]);
    let assigned = assign(Assignor::Range, &[topic(1, 4), topic(2, 3)], &some, &BTreeMap::new());
    assert_eq!(counts(&assigned), [1, 3, 3]);
}

#[test]
fn range_puts_static_members_first_by_their_names() {
    let (a, b, c) = (Str::from("a"), Str::from("b"), Str::from("c"));
    let (one, two) = (Str::from("one"), Str::from("two"));
    let named = |id, instance_id| Subscriber { id, instance_id, topics: vec![0], before: None };
    let assigned =
        Assignor::Range.assign(&[topic(1, 3)], &[named(&a, None), named(&b, Some(&two)), named(&c, Some(&one))]);
    let first = |at: usize| assigned[at].values().next().cloned();
    assert_eq!([first(0), first(1), first(2)], [Some(vec![2]), Some(vec![1]), Some(vec![0])]);
}

#[test]
fn uniform_differs_by_one_at_most() {
    for (count, partitions) in [(1, 7), (3, 7), (7, 7), (9, 7), (4, 100)] {
        let topics = [topic(1, partitions), topic(2, 3)];
        let assigned = assign(Assignor::Uniform, &topics, &members(count, &[0, 1]), &BTreeMap::new());
        let counts = counts(&assigned);
        assert!(counts.iter().max() <= counts.iter().min().map(|least| least + 1).as_ref(), "{counts:?}");
    }
}

#[test]
fn uniform_moves_only_what_a_new_member_needs() {
    let topics = [topic(1, 12)];
    let before = assign(Assignor::Uniform, &topics, &members(3, &[0]), &BTreeMap::new());
    let after = assign(Assignor::Uniform, &topics, &members(4, &[0]), &before);
    assert_eq!((moved(&before, &after), counts(&after)), (3, vec![3; 4]));
}

#[test]
fn uniform_moves_nothing_of_those_that_stay_when_one_leaves() {
    let topics = [topic(1, 12)];
    let before = assign(Assignor::Uniform, &topics, &members(4, &[0]), &BTreeMap::new());
    for leaver in before.keys() {
        let mut left = members(4, &[0]);
        left.remove(leaver);
        let after = assign(Assignor::Uniform, &topics, &left, &before);
        assert_eq!((moved(&before, &after), counts(&after)), (0, vec![4; 3]));
    }
}

#[test]
fn uniform_lets_those_that_have_one_more_keep_it() {
    let topics = [topic(1, 5)];
    let (a, b) = (Str::from("m00000"), Str::from("m00001"));
    let before = [(a, [(topics[0].id, vec![0, 1])].into()), (b, [(topics[0].id, vec![2, 3, 4])].into())].into();
    assert_eq!(assign(Assignor::Uniform, &topics, &members(2, &[0]), &before), before);
}

#[test]
fn uniform_evens_out_members_of_different_subscriptions() {
    let topics = [topic(1, 6), topic(2, 6)];
    let some: Members = [("a", vec![0]), ("b", vec![0, 1]), ("c", vec![1])].map(|(id, of)| (Str::from(id), of)).into();
    let assigned = assign(Assignor::Uniform, &topics, &some, &BTreeMap::new());
    assert_eq!(counts(&assigned), [4, 4, 4]);
    let again = assign(Assignor::Uniform, &topics, &some, &assigned);
    assert_eq!(again, assigned, "what is even stays");
}

#[test]
fn an_assignment_before_that_makes_no_sense_binds_to_nothing() {
    let topics = [topic(1, 2)];
    let odd: Partitions = [(topics[0].id, vec![-1, 0, 7]), (Uuid([9; 16]), vec![0])].into();
    let before = [(Str::from("m00000"), odd.clone()), (Str::from("m00001"), odd)].into();
    let assigned = assign(Assignor::Uniform, &topics, &members(2, &[0]), &before);
    assert_eq!(counts(&assigned), [1, 1]);
}

#[test]
fn whatever_changes_all_is_given_evenly_and_little_moves() {
    for seed in 0..200 {
        let mut rng = Rng::from_number(seed);
        let differs = seed % 2 == 1;
        let mut topics: Vec<Topic> = (1..5).map(|number| topic(number, rng.below(9) as u32)).collect();
        let mut before = BTreeMap::new();
        for _ in 0..8 {
            let count = 1 + rng.below(6) as usize;
            let mut some = members(count, &[0, 1, 2, 3]);
            if differs {
                for subscription in some.values_mut() {
                    subscription.retain(|_| rng.below(2) == 0);
                }
            }
            let grows = rng.below(4) as usize;
            topics[grows].partitions += 1;
            let after = assign(Assignor::Uniform, &topics, &some, &before);
            if !differs {
                let counts = counts(&after);
                assert!(counts.iter().max() <= counts.iter().min().map(|least| least + 1).as_ref(), "{counts:?}");
            }
            // Given the same again, everything stays.
            assert_eq!(assign(Assignor::Uniform, &topics, &some, &after), after, "seed {seed}");
            assign(Assignor::Range, &topics, &some, &before);
            before = after;
        }
    }
}
