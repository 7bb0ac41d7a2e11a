//! Who does what: partitions over connections, and requests in flight over connections.

use std::collections::BTreeMap;

/// A connection to be made, and the partitions that it works on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Share {
    /// The node that leads all of `partitions`.
    pub(crate) leader: i32,
    pub(crate) partitions: Vec<i32>,
}

/// Spreads the partitions, given with their leaders, over `connections`. A connection knows one leader, so there are
/// at least as many as leaders; with more connections than partitions several work on the same one.
pub(crate) fn spread(leaders: &BTreeMap<i32, i32>, connections: usize) -> Vec<Share> {
    let mut by_leader: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
    for (partition, leader) in leaders {
        by_leader.entry(*leader).or_default().push(*partition);
    }
    let mut shares = Vec::new();
    for (index, (leader, partitions)) in by_leader.iter().enumerate() {
        // Connections are dealt to the leaders in turn; every leader has at least one.
        let dealt = (connections + by_leader.len() - 1 - index) / by_leader.len();
        for turn in 0..dealt.max(1) {
            let own = if dealt > partitions.len() {
                vec![partitions[turn % partitions.len()]]
            } else {
                partitions.iter().copied().skip(turn).step_by(dealt.max(1)).collect()
            };
            shares.push(Share { leader: *leader, partitions: own });
        }
    }
    shares
}

/// Divides `total` into `parts` that differ by at most one, the larger first.
pub(crate) fn divide(total: usize, parts: usize) -> impl Iterator<Item = usize> {
    (0..parts).map(move |part| total / parts + usize::from(part < total % parts))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(leaders: &[i32], connections: usize, expect: &[(i32, &[i32])]) {
        let leaders = (0..).zip(leaders.iter().copied()).collect();
        let expect: Vec<_> = expect
            .iter()
            .map(|(leader, partitions)| Share { leader: *leader, partitions: partitions.to_vec() })
            .collect();
        assert_eq!(spread(&leaders, connections), expect);
    }

    #[test]
    fn partitions_are_dealt_to_connections() {
        check(&[1], 1, &[(1, &[0])]);
        check(&[1], 3, &[(1, &[0]), (1, &[0]), (1, &[0])]);
        check(&[1, 1, 1, 1, 1], 2, &[(1, &[0, 2, 4]), (1, &[1, 3])]);
        check(&[1, 1], 3, &[(1, &[0]), (1, &[1]), (1, &[0])]);
    }

    #[test]
    fn every_leader_has_a_connection() {
        check(&[1, 2, 1], 1, &[(1, &[0, 2]), (2, &[1])]);
        check(&[1, 2, 1], 3, &[(1, &[0]), (1, &[2]), (2, &[1])]);
    }

    #[test]
    fn parts_differ_by_at_most_one() {
        assert_eq!(divide(7, 3).collect::<Vec<_>>(), [3, 2, 2]);
        assert_eq!(divide(128, 128).sum::<usize>(), 128);
    }
}
