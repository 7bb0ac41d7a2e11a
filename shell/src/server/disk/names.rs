//! Names in the data folder, read back. They are written by `Display` of [`FileName`](chronik_core::boundary::FileName).

use chronik_core::boundary::SegmentName;
use chronik_core::ids::{Offset, TopicPartition, Uuid};

/// The length of an identifier in its text form.
const UUID_CHARS: usize = 22;

/// The partition whose folder has this name. Only the very name that the partition is given counts, so that no two
/// folders are taken for one.
pub(crate) fn partition(folder: &str) -> Option<TopicPartition> {
    let (topic, index) = folder.split_at_checked(UUID_CHARS)?;
    let partition = TopicPartition { topic: uuid(topic)?, partition: index.strip_prefix('-')?.parse().ok()? };
    (partition.partition >= 0 && partition.to_string() == folder).then_some(partition)
}

/// The segment whose file, or whose index, has this name in its partition's folder.
pub(crate) fn segment(partition: TopicPartition, file: &str) -> Option<SegmentName> {
    let stem = file.strip_suffix(".log").or_else(|| file.strip_suffix(".index"))?;
    let (digits, generation) = stem.split_once('.').map_or((stem, None), |(base, rest)| (base, Some(rest)));
    let is_base = digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit());
    let base = digits.parse().ok().filter(|_| is_base).map(Offset)?;
    let Some(text) = generation else { return Some(SegmentName::appended(partition, base)) };
    let generation: u32 = text.parse().ok()?;
    (generation > 0 && generation.to_string() == text).then_some(SegmentName { partition, base, generation })
}

/// Reads Kafka's form of an identifier: 22 characters of URL-safe base64 without padding.
pub(crate) fn uuid(text: &str) -> Option<Uuid> {
    if text.len() != UUID_CHARS {
        return None;
    }
    let mut bits: u128 = 0;
    for (at, byte) in text.bytes().enumerate() {
        let six = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'-' => 62,
            b'_' => 63,
            _ => return None,
        };
        // The last of the 22 characters holds two bits, and four of padding that are zero.
        if at < UUID_CHARS - 1 {
            bits = bits << 6 | u128::from(six);
        } else if six & 0b1111 == 0 {
            bits = bits << 2 | u128::from(six >> 4);
        } else {
            return None;
        }
    }
    Some(Uuid(bits.to_be_bytes()))
}

#[cfg(test)]
mod tests {
    use chronik_core::boundary::FileName;

    use super::*;

    #[test]
    fn a_partition_folder_reads_back_whatever_its_id() {
        for fill in [0, 1, 0x5a, 0xfe, 0xff] {
            for index in [0, 7, 10_000, i32::MAX] {
                let partition = TopicPartition { topic: Uuid([fill; 16]), partition: index };
                assert_eq!(super::partition(&partition.to_string()), Some(partition));
            }
        }
        let mixed = TopicPartition { topic: Uuid(std::array::from_fn(|at| at as u8 * 17)), partition: 3 };
        assert_eq!(super::partition(&mixed.to_string()), Some(mixed));
    }

    #[test]
    fn other_names_are_no_partitions() {
        let good = TopicPartition { topic: Uuid([9; 16]), partition: 3 }.to_string();
        let id = &good[..UUID_CHARS];
        for bad in
            ["", "lost+found", id, &format!("{id}-"), &format!("{id}-03"), &format!("{id}--3"), &format!("{id}3")]
        {
            assert_eq!(partition(bad), None, "{bad:?}");
        }
        assert_eq!(partition(&format!("{}B-0", &id[..21])), None, "the padding of an id is zero");
    }

    #[test]
    fn a_segments_files_read_back_whatever_its_generation() {
        let of = TopicPartition { topic: Uuid([9; 16]), partition: 3 };
        for generation in [0, 1, 42, u32::MAX] {
            let name = SegmentName { partition: of, base: Offset(42), generation };
            for path in [FileName::Segment(name).to_string(), FileName::Index(name).to_string()] {
                let file = path.rsplit('/').next().expect("a path has an end");
                assert_eq!(segment(of, file), Some(name), "{file}");
            }
        }
        assert_eq!(segment(of, "00000000000000000042.log"), Some(SegmentName::appended(of, Offset(42))));
        for bad in [
            "42.log",
            "0000000000000000+042.log",
            "99999999999999999999.log",
            "00000000000000000042.txt",
            "00000000000000000042.0.log",
            "00000000000000000042.01.log",
            "00000000000000000042.1.2.log",
            "00000000000000000042..log",
        ] {
            assert_eq!(segment(of, bad), None, "{bad:?}");
        }
    }
}
