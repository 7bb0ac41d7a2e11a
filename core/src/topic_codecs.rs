//! Which topics store batches otherwise than producers send them (`compression.type`).
//!
//! To compress a batch anew costs time for each of its bytes, which the node does not spend: connections do it, before
//! a batch becomes an input. What they need to know is this table. The node keeps it, and hands out a copy whenever it
//! has changed, before it answers the request that changed it: who has been told of a setting finds it in force. The
//! node judges what comes out and does not ask how it was made, so a batch that was on its way when the setting changed
//! is stored under the old one.
//!
//! A copy costs about 100 ns for each topic that differs from the broker's default, and is made once for all changes of
//! one turn of the node.

use std::collections::BTreeMap;

use crate::batch::{BatchError, BatchLimits, Codec, VerifiedBatch};
use crate::config::{Compression, TopicConfig};
use crate::ids::TopicId;
use crate::wire::Str;

/// How the batches of each topic are stored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TopicCodecs {
    /// Of every topic that is not listed.
    default: Stored,
    by_name: BTreeMap<Str, Stored>,
    by_id: BTreeMap<TopicId, Stored>,
}

/// How batches are stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stored {
    /// As they were sent.
    #[default]
    AsSent,
    /// With this codec at this level.
    With {
        codec: Codec,
        level: Option<i32>,
        /// What is larger than the topic takes is not made at all: a small batch may decompress to a large one.
        batch_bytes_max: usize,
    },
}

impl Stored {
    fn of(config: &TopicConfig) -> Stored {
        let (codec, level) = match config.compression {
            Compression::Producer => return Stored::AsSent,
            Compression::Uncompressed => (Codec::None, None),
            Compression::Gzip(level) => (Codec::Gzip, Some(level)),
            Compression::Snappy => (Codec::Snappy, None),
            Compression::Lz4 => (Codec::Lz4, None),
            Compression::Zstd(level) => (Codec::Zstd, Some(level)),
        };
        Stored::With { codec, level, batch_bytes_max: config.max_message_bytes as usize }
    }
}

impl TopicCodecs {
    /// The table where no topic is known yet, and `default` is in force for those without settings of their own.
    pub fn new(default: &TopicConfig) -> TopicCodecs {
        TopicCodecs { default: Stored::of(default), ..TopicCodecs::default() }
    }

    /// Takes note of a topic's settings in force, and says whether that changed the table.
    pub fn set(&mut self, name: &Str, id: TopicId, config: &TopicConfig) -> bool {
        let stored = Stored::of(config);
        if stored == self.default {
            return self.forget(name, id);
        }
        self.by_name.insert(name.clone(), stored);
        self.by_id.insert(id, stored) != Some(stored)
    }

    /// Forgets a topic that is no more, and says whether that changed the table.
    pub fn forget(&mut self, name: &Str, id: TopicId) -> bool {
        self.by_name.remove(name);
        self.by_id.remove(&id).is_some()
    }

    fn stored(&self, name: &Str, id: TopicId) -> &Stored {
        let listed = if id == TopicId::ZERO { self.by_name.get(name) } else { self.by_id.get(&id) };
        listed.unwrap_or(&self.default)
    }

    /// `batch` as the topic stores it that a producer names: by `id`, or, where that is zero, by `name`. Reads every
    /// byte where the codec is another.
    ///
    /// # Errors
    /// Where the batch would be larger than the topic or `limits` allow.
    #[inline]
    pub fn store(
        &self,
        name: &Str,
        id: TopicId,
        batch: VerifiedBatch,
        limits: &BatchLimits,
    ) -> Result<VerifiedBatch, BatchError> {
        match *self.stored(name, id) {
            Stored::With { codec, level, batch_bytes_max } if codec != batch.codec() => {
                let batch_bytes_max = batch_bytes_max.min(limits.batch_bytes_max);
                let decompressed_bytes_max = match codec {
                    Codec::None => batch_bytes_max.min(limits.decompressed_bytes_max),
                    _ => limits.decompressed_bytes_max,
                };
                batch.recompress(codec, level, &BatchLimits { batch_bytes_max, decompressed_bytes_max })
            }
            _ => Ok(batch),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::{BatchBuilder, verify};
    use crate::config::{BrokerConfig, Layer};
    use crate::ids::Uuid;
    use crate::time::Timestamp;

    const LIMITS: BatchLimits = BatchLimits { batch_bytes_max: 1 << 20, decompressed_bytes_max: 1 << 20 };
    const ID: TopicId = Uuid([7; 16]);

    fn config(settings: &[(&str, &str)]) -> TopicConfig {
        let own: Layer = settings.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
        BrokerConfig::default().topic(&own)
    }

    fn batch(codec: Codec, value_bytes: usize) -> VerifiedBatch {
        let value = vec![b'v'; value_bytes];
        let batch = BatchBuilder::new().codec(codec).record(Timestamp(5), None, Some(&value)).build();
        verify(batch, &LIMITS).expect("a sound batch")
    }

    #[track_caller]
    fn check(codecs: &TopicCodecs, name: &'static str, id: TopicId, expect: Codec) {
        let stored = codecs.store(&name.into(), id, batch(Codec::Snappy, 100), &LIMITS).expect("it is small");
        assert_eq!(stored.codec(), expect);
    }

    #[test]
    fn a_topic_is_found_by_name_and_by_id_and_others_follow_the_default() {
        let mut codecs = TopicCodecs::new(&config(&[("compression.type", "lz4")]));
        assert!(codecs.set(&"t".into(), ID, &config(&[("compression.type", "zstd")])));
        assert!(!codecs.set(&"t".into(), ID, &config(&[("compression.type", "zstd")])), "it is so already");
        check(&codecs, "t", TopicId::ZERO, Codec::Zstd);
        check(&codecs, "", ID, Codec::Zstd);
        check(&codecs, "other", TopicId::ZERO, Codec::Lz4);
        assert!(codecs.set(&"t".into(), ID, &config(&[])), "the producer's codec is another than the default");
        check(&codecs, "t", TopicId::ZERO, Codec::Snappy);
        assert!(codecs.forget(&"t".into(), ID));
        check(&codecs, "t", TopicId::ZERO, Codec::Lz4);
    }

    #[test]
    fn what_already_has_the_codec_is_not_touched() {
        let mut codecs = TopicCodecs::default();
        codecs.set(&"t".into(), ID, &config(&[("compression.type", "gzip"), ("compression.gzip.level", "9")]));
        let sent = batch(Codec::Gzip, 1000);
        let stored = codecs.store(&"t".into(), ID, sent.clone(), &LIMITS).expect("it is small");
        assert_eq!(stored.body().as_ptr(), sent.body().as_ptr());
    }

    #[test]
    fn what_would_be_larger_than_the_topic_takes_is_not_made() {
        let mut codecs = TopicCodecs::default();
        codecs.set(&"t".into(), ID, &config(&[("compression.type", "uncompressed"), ("max.message.bytes", "2000")]));
        assert!(codecs.store(&"t".into(), ID, batch(Codec::Gzip, 1500), &LIMITS).is_ok());
        let error = codecs.store(&"t".into(), ID, batch(Codec::Gzip, 3000), &LIMITS).expect_err("too large");
        assert_eq!(error, BatchError::DecompressedTooLarge { limit: 2000 });
    }
}
