//! Scenarios of one coordinator, with the log that it writes beside it.

mod bench;
mod commits;
mod expiry;
mod expressions;
mod groups;
mod hostile;
mod model;
mod replays;

use super::partition_of;

#[test]
fn a_groups_partition_is_the_one_that_kafka_names() {
    // As Kafka's own classes answer for 50 partitions and for 7: among them a negative hash, the one number without an
    // absolute value, and letters of one and of two UTF-16 units.
    for (group, of_50, of_7) in [
        ("", 0, 0),
        ("a", 47, 6),
        ("readers", 28, 0),
        ("orders-eu-west", 46, 5),
        ("billing", 9, 6),
        ("polygenelubricants", 0, 0),
        ("ärger", 40, 0),
        ("😀", 49, 2),
    ] {
        assert_eq!((partition_of(group, 50), partition_of(group, 7)), (of_50, of_7), "{group:?}");
    }
}
