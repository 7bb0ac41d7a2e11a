//! Kafka's messages in both directions: well-formed ones against `kafka-protocol`, others against nothing but sense.

use crate::wire_bodies::entropy::Entropy;
use crate::wire_bodies::{Which, differential, hostile};

/// The first byte chooses: even, and the rest chooses a message and its values, which both codecs must read and write
/// alike; odd, and two bytes choose a message of which the rest is the body.
pub fn body(data: &[u8]) {
    let Some((choice, rest)) = data.split_first() else { return };
    if choice % 2 == 0 {
        differential::any_message(rest);
        return;
    }
    let Some((chosen, rest)) = rest.split_at_checked(2) else { return };
    let all = Which::all();
    hostile::any_body(all[Entropy::new(chosen).below(all.len())], rest);
}

/// The input that is read as the body `bytes` of the `at`-th of [`messages`].
pub fn input(at: usize, bytes: &[u8]) -> Vec<u8> {
    let wide = (at << 16).div_ceil(messages().len());
    let chosen = u16::try_from(wide).expect("there are fewer messages than that");
    [&[1], &chosen.to_be_bytes()[..], bytes].concat()
}

/// Every message in every version: the code of its API, its version, whether it is the request.
pub fn messages() -> Vec<(i16, i16, bool)> {
    Which::all().iter().map(|which| (which.api_key.code(), which.version, which.is_request)).collect()
}
