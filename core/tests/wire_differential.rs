//! The codec against `kafka-protocol`: for every message and every version both read the same values from the same
//! bytes, and write the same bytes.

mod wire_bodies;

use proptest::prelude::any;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use wire_bodies::entropy::Entropy;
use wire_bodies::{Which, differential};

const CASES: u32 = 40;

#[test]
fn both_codecs_agree_on_every_message_in_every_version() {
    for (index, which) in Which::all().into_iter().enumerate() {
        let mut seed = [0; 32];
        seed[..8].copy_from_slice(&index.to_be_bytes());
        let config = Config { cases: CASES, failure_persistence: None, ..Config::default() };
        let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &seed));
        runner
            .run(&proptest::collection::vec(any::<u8>(), 0..600), |choices| {
                differential::message(which, &mut Entropy::new(&choices));
                Ok(())
            })
            .unwrap_or_else(|failure| panic!("{which:?}: {failure}"));
    }
}
