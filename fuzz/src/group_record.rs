//! The records of `__consumer_offsets`, to which clients can produce, and what consumers embed in them.

use bytes::Bytes;
use chronik_core::group::protocol::{self, ConsumerProtocolAssignment, ConsumerProtocolSubscription, VERSION_LAST};
use chronik_core::group::record::{Key, Record};

/// The first byte chooses: 0, and the rest is a subscription or an assignment; more, and it is the length of a key, of
/// which the rest is the key and the value. What is read is written, and read again as the same.
pub fn body(data: &[u8]) {
    let Some((&key_bytes, rest)) = data.split_first() else { return };
    let Some((key, value)) = rest.split_at_checked(key_bytes.into()) else { return };
    let (key, value) = (Bytes::copy_from_slice(key), Bytes::copy_from_slice(value));
    if key.is_empty() {
        embedded(&value);
        return;
    }
    let found = Record::decode(&key, Some(&value));
    let tombstone = Record::decode(&key, None);
    for record in [found, tombstone].into_iter().flatten() {
        match &record.key {
            Key::Unknown(_) => assert_eq!(record.value, None),
            _ => again(&record),
        }
    }
}

/// Values of older versions are written in another one, which says the same and has one encoding.
fn again(record: &Record) {
    let (key, value) = record.encode();
    let read = Record::decode(&key, value.as_ref()).expect("what is written is read");
    assert_eq!(&read, record);
    assert_eq!(read.encode(), (key, value));
}

fn embedded(bytes: &Bytes) {
    let subscription = ConsumerProtocolSubscription::from_bytes(bytes);
    if let Ok(subscription) = &subscription {
        assert_eq!(
            ConsumerProtocolSubscription::from_bytes(&subscription.to_bytes(VERSION_LAST)).as_ref(),
            Ok(subscription)
        );
    }
    let assignment = ConsumerProtocolAssignment::from_bytes(bytes);
    if let Ok(assignment) = &assignment {
        assert_eq!(ConsumerProtocolAssignment::from_bytes(&assignment.to_bytes(VERSION_LAST)).as_ref(), Ok(assignment));
    }
    if subscription.is_ok() || assignment.is_ok() {
        assert!((0..=VERSION_LAST).contains(&protocol::version(bytes).expect("what is read has a version")));
    }
}

/// The input that is read as this record.
pub fn input(key: &[u8], value: &[u8]) -> Vec<u8> {
    let key_bytes = u8::try_from(key.len()).expect("a key of less than 256 bytes");
    [&[key_bytes], key, value].concat()
}
