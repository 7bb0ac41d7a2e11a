//! The codec against bytes that nobody well-meaning sends: it never panics, and never takes a length at its word.

mod wire_bodies;

use bytes::Bytes;
use chronik_core::wire::{ApiKey, Malformed, Undecodable, decode_request};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use wire_bodies::entropy::Entropy;
use wire_bodies::{Which, hostile};

fn bytes(random: &mut ChaCha8Rng, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    random.fill_bytes(&mut bytes);
    bytes
}

#[test]
fn random_frames_are_read_or_refused() {
    let mut random = ChaCha8Rng::seed_from_u64(1);
    for round in 0..20_000 {
        let mut frame = bytes(&mut random, round % 200);
        // Half of them get past the header.
        if round % 2 == 0 && frame.len() > 8 {
            let api_key = ApiKey::ALL[usize::from(frame[0]) % ApiKey::ALL.len()];
            frame[..2].copy_from_slice(&api_key.code().to_be_bytes());
            frame[2..4].copy_from_slice(&api_key.versions().end().to_be_bytes());
            frame[8..10].copy_from_slice(&[0xff, 0xff]);
        }
        hostile::any_frame(&frame);
    }
}

#[test]
fn random_bodies_are_read_or_refused() {
    let mut random = ChaCha8Rng::seed_from_u64(2);
    for which in Which::all() {
        for length in 0..100 {
            hostile::any_body(which, &bytes(&mut random, length));
        }
    }
}

#[test]
fn a_message_cut_short_is_refused() {
    let mut random = ChaCha8Rng::seed_from_u64(3);
    for which in Which::all() {
        for _ in 0..2 {
            hostile::truncated(which, &mut Entropy::new(&bytes(&mut random, 150)));
        }
    }
}

#[test]
fn a_message_with_a_bit_turned_over_is_read_or_refused() {
    let mut random = ChaCha8Rng::seed_from_u64(4);
    for which in Which::all() {
        hostile::damaged(which, &mut Entropy::new(&bytes(&mut random, 150)));
    }
}

#[test]
fn a_request_cut_short_names_what_is_known_of_it() {
    let mut random = ChaCha8Rng::seed_from_u64(5);
    for which in Which::all() {
        let choices = bytes(&mut random, 100);
        let Some(frame) = hostile::request_frame(which, &mut Entropy::new(&choices)) else { continue };
        for length in 0..frame.len() {
            let refused = decode_request(frame.slice(..length)).expect_err("the end is missing");
            match refused {
                Undecodable::Header(_) => assert!(length < 8 + 2 + 7 + 1, "{which:?} cut to {length}"),
                Undecodable::Body { api_key, header, position, .. } => {
                    assert_eq!((api_key, header.correlation_id), (which.api_key, 7));
                    assert!(position <= length);
                }
                other => panic!("{which:?} cut to {length}: {other}"),
            }
        }
    }
}

#[test]
fn nested_empty_arrays_stop_at_a_million_elements() {
    // Fetch version 4: a topic of an empty name without partitions takes 6 bytes, and many times that in memory.
    fn topics(count: u32) -> Result<(), Undecodable> {
        let mut frame = vec![0, 1, 0, 4, 0, 0, 0, 7, 0xff, 0xff];
        frame.extend([0; 17]);
        frame.extend(count.to_be_bytes());
        frame.extend(std::iter::repeat_n(0, 6 * count as usize));
        decode_request(Bytes::from(frame)).map(|_| ())
    }
    assert_eq!(topics(1_000_000), Ok(()));
    let Err(Undecodable::Body { malformed, .. }) = topics(1_000_001) else { panic!("refused") };
    assert_eq!(malformed, Malformed::TooManyElements);
}
