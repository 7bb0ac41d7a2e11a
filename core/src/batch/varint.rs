//! Kafka's variable-length integers: zigzag, seven bits a byte, the lowest first.

/// Takes a 32-bit number off the front of `bytes`; `None` where they end inside it or it has more than 32 bits.
#[inline]
pub(super) fn take_i32(bytes: &mut &[u8]) -> Option<i32> {
    let raw = u32::try_from(take(bytes, 5)?).ok()?;
    Some((raw >> 1) as i32 ^ -((raw & 1) as i32))
}

/// Takes a 64-bit number off the front of `bytes`; `None` where they end inside it or it has more than 64 bits.
#[inline]
pub(super) fn take_i64(bytes: &mut &[u8]) -> Option<i64> {
    let raw = take(bytes, 10)?;
    Some((raw >> 1) as i64 ^ -((raw & 1) as i64))
}

#[inline]
fn take(bytes: &mut &[u8], bytes_max: usize) -> Option<u64> {
    let (&first, rest) = bytes.split_first()?;
    // Nearly every number in a record fits one byte.
    if first < 0x80 {
        *bytes = rest;
        return Some(u64::from(first));
    }
    let mut value = u64::from(first & 0x7f);
    for (index, &byte) in rest.iter().enumerate().take(bytes_max - 1) {
        let shift = 7 * (index as u32 + 1);
        let part = u64::from(byte & 0x7f);
        // The tenth byte has room for a single bit.
        if shift == 63 && part > 1 {
            return None;
        }
        value |= part << shift;
        if byte < 0x80 {
            *bytes = &rest[index + 1..];
            return Some(value);
        }
    }
    None
}

/// Appends a 32-bit number.
pub(super) fn put_i32(out: &mut Vec<u8>, value: i32) {
    put(out, u64::from(((value << 1) ^ (value >> 31)) as u32));
}

/// Appends a 64-bit number.
pub(super) fn put_i64(out: &mut Vec<u8>, value: i64) {
    put(out, ((value << 1) ^ (value >> 63)) as u64);
}

fn put(out: &mut Vec<u8>, mut raw: u64) {
    while raw >= 0x80 {
        out.push(raw as u8 | 0x80);
        raw >>= 7;
    }
    out.push(raw as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_comes_back() {
        for value in
            [0, 1, -1, 63, -64, 64, -65, 8191, 8192, i64::from(i32::MAX), i64::from(i32::MIN), i64::MAX, i64::MIN]
        {
            let mut out = Vec::new();
            put_i64(&mut out, value);
            let mut rest = &out[..];
            assert_eq!(take_i64(&mut rest), Some(value));
            assert!(rest.is_empty());
            if let Ok(value) = i32::try_from(value) {
                let mut short = Vec::new();
                put_i32(&mut short, value);
                assert_eq!(short, out);
                assert_eq!(take_i32(&mut &short[..]), Some(value));
            }
        }
    }

    #[test]
    fn a_number_that_is_cut_or_too_wide_is_none() {
        assert_eq!(take_i32(&mut &[][..]), None);
        assert_eq!(take_i32(&mut &[0x80, 0x80][..]), None);
        assert_eq!(take_i32(&mut &[0xff, 0xff, 0xff, 0xff, 0x1f][..]), None);
        assert_eq!(take_i32(&mut &[0xff, 0xff, 0xff, 0xff, 0xff, 0x01][..]), None);
        assert_eq!(take_i64(&mut &[0xff; 11][..]), None);
        assert_eq!(take_i64(&mut &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02][..]), None);
    }

    #[test]
    fn a_number_with_needless_bytes_is_read_as_what_it_means() {
        assert_eq!(take_i32(&mut &[0x82, 0x80, 0x00][..]), Some(1));
    }
}
