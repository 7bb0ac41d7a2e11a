//! Entries of the metadata log.

use chronik_core::controller::records::{MetadataRecord, decode_entry, encode_entry};

/// Bytes that are read as an entry are what writing it gives: there is one way to say each thing. And each record of it
/// is one by itself.
pub fn body(data: &[u8]) {
    let Ok(records) = decode_entry(data) else { return };
    assert_eq!(encode_entry(&records), data, "{records:?}");
    for record in &records {
        let mut bytes = Vec::new();
        record.encode(&mut bytes);
        assert_eq!(MetadataRecord::decode(&bytes).as_ref(), Ok(record));
        assert!(!record.kind().is_empty());
    }
}
