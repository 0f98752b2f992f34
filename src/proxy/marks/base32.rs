//! Lower-case base32 without padding (the alphabet of RFC 4648 §6): what a SIP user part, a branch and a file name all
//! carry unchanged.

const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

/// How many characters `bytes` bytes take.
pub(super) const fn encoded_len(bytes: usize) -> usize {
    (bytes * 8).div_ceil(5)
}

/// Fills `out`, which is [`encoded_len`] characters long. Bits missing at the end are zero.
pub(super) fn encode(bytes: &[u8], out: &mut [u8]) {
    debug_assert_eq!(out.len(), encoded_len(bytes.len()));
    let mut rest = bytes.iter();
    let mut window: u32 = 0;
    let mut bits = 0;
    for character in out {
        if bits < 5 {
            window = (window << 8) | u32::from(rest.next().copied().unwrap_or(0));
            bits += 8;
        }
        bits -= 5;
        *character = ALPHABET[(window >> bits) as usize & 31];
    }
}

/// Exactly `N` bytes out of exactly their encoding: upper case, a foreign character, another length or set bits after
/// the last byte are `None`. So each value has one spelling.
pub(super) fn decode<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    if text.len() != encoded_len(N) {
        return None;
    }
    let mut out = [0; N];
    let mut filled = 0;
    let mut window: u32 = 0;
    let mut bits = 0;
    for &character in text {
        let value = match character {
            b'a'..=b'z' => character - b'a',
            b'2'..=b'7' => character - b'2' + 26,
            _ => return None,
        };
        window = (window << 5) | u32::from(value);
        bits += 5;
        if bits >= 8 {
            bits -= 8;
            *out.get_mut(filled)? = (window >> bits) as u8;
            filled += 1;
        }
    }
    let leftover = window & ((1 << bits) - 1);
    (filled == N && leftover == 0).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::{decode, encode, encoded_len};

    fn text(bytes: &[u8]) -> String {
        let mut out = vec![0; encoded_len(bytes.len())];
        encode(bytes, &mut out);
        String::from_utf8(out).expect("ASCII")
    }

    #[test]
    fn vectors_of_rfc_4648() {
        for (bytes, expected) in [
            (&b""[..], ""),
            (b"f", "my"),
            (b"fo", "mzxq"),
            (b"foo", "mzxw6"),
            (b"foob", "mzxw6yq"),
            (b"fooba", "mzxw6ytb"),
            (b"foobar", "mzxw6ytboi"),
        ] {
            assert_eq!(text(bytes), expected);
        }
        assert_eq!(decode::<6>(b"mzxw6ytboi"), Some(*b"foobar"));
    }

    #[test]
    fn each_value_has_one_spelling() {
        assert_eq!(decode::<1>(b"my"), Some(*b"f"));
        assert_eq!(decode::<1>(b"mz"), None, "bits after the last byte");
        assert_eq!(decode::<1>(b"MY"), None, "upper case");
        assert_eq!(decode::<1>(b"m"), None, "too short");
        assert_eq!(decode::<1>(b"mya"), None, "too long");
        assert_eq!(decode::<1>(b"m1"), None, "not in the alphabet");
    }
}
