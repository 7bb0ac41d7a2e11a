//! A damaged partition as a checkpoint keeps it: why it does not serve, and all that is known of it beside.

use bytes::{BufMut, Bytes, BytesMut};

use super::PayloadError;

/// The version of a state that gives a reason and nothing else.
const REASON_ONLY: u8 = 255;
/// The version of a state that gives a reason, its length in bytes before it, and then the state of the log, so that
/// the files of a damaged partition stay known to whoever comes to mend it.
const REASON_AND_STATE: u8 = 254;

/// The state of a partition whose data is damaged: the reason, and the last state that was known of it as slices one
/// after another.
pub fn damaged_state(why: &str, state: Vec<Bytes>) -> Vec<Bytes> {
    let mut out = BytesMut::with_capacity(5 + why.len());
    out.put_u8(REASON_AND_STATE);
    out.put_u32_le(u32::try_from(why.len()).expect("a reason is a few sentences"));
    out.put_slice(why.as_bytes());
    let mut slices = vec![out.freeze()];
    slices.extend(state);
    slices
}

/// The reason and the last state, where a state is one of [`damaged_state`]; the state is empty where none was kept.
///
/// # Errors
/// [`PayloadError::Short`] where the reason is cut.
pub fn damage_of(state: &Bytes) -> Result<Option<(String, Bytes)>, PayloadError> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match state.first() {
        Some(&REASON_ONLY) => Ok(Some((text(&state[1..]), Bytes::new()))),
        Some(&REASON_AND_STATE) => {
            let bytes = state.get(1..5).ok_or(PayloadError::Short)?;
            let bytes = u32::from_le_bytes(bytes.try_into().expect("four bytes")) as usize;
            let why = state[5..].get(..bytes).ok_or(PayloadError::Short)?;
            Ok(Some((text(why), state.slice(5 + bytes..))))
        }
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reason_and_state_come_back() {
        let slices = damaged_state("bit rot", vec![Bytes::from_static(b"st"), Bytes::from_static(b"ate")]);
        let whole = Bytes::from(slices.concat());
        assert_eq!(damage_of(&whole), Ok(Some(("bit rot".into(), Bytes::from_static(b"state")))));
        for cut in 1..12 {
            assert_eq!(damage_of(&whole.slice(..cut)), Err(PayloadError::Short), "cut at {cut}");
        }
    }

    #[test]
    fn a_reason_alone_is_read_as_older_programs_wrote_it() {
        let alone = Bytes::from_static(b"\xffbit rot");
        assert_eq!(damage_of(&alone), Ok(Some(("bit rot".into(), Bytes::new()))));
    }

    #[test]
    fn a_sound_state_is_none_of_these() {
        assert_eq!(damage_of(&Bytes::from_static(&[1, 2, 3])), Ok(None));
        assert_eq!(damage_of(&Bytes::new()), Ok(None));
    }
}
