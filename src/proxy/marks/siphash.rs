//! SipHash-2-4 (Aumasson and Bernstein, 2012): a MAC of 64 bits that costs some nanoseconds, for what is short and made or
//! checked with every message.

/// A SipHash-2-4 key.
#[derive(Clone, Copy)]
pub(super) struct SipKey(u64, u64);

impl SipKey {
    pub(super) fn from_bytes(bytes: &[u8; 16]) -> Self {
        SipKey(word(&bytes[..8]), word(&bytes[8..]))
    }

    /// The MAC of `bytes`.
    pub(super) fn hash(self, bytes: &[u8]) -> u64 {
        let mut v = [
            self.0 ^ 0x736f_6d65_7073_6575,
            self.1 ^ 0x646f_7261_6e64_6f6d,
            self.0 ^ 0x6c79_6765_6e65_7261,
            self.1 ^ 0x7465_6462_7974_6573,
        ];
        let mut absorb = |m: u64| {
            v[3] ^= m;
            round(&mut v);
            round(&mut v);
            v[0] ^= m;
        };
        let chunks = bytes.chunks_exact(8);
        let tail = word(chunks.remainder()) | (bytes.len() as u64) << 56;
        chunks.for_each(|chunk| absorb(word(chunk)));
        absorb(tail);
        v[2] ^= 0xff;
        for _ in 0..4 {
            round(&mut v);
        }
        v[0] ^ v[1] ^ v[2] ^ v[3]
    }
}

fn round(v: &mut [u64; 4]) {
    v[0] = v[0].wrapping_add(v[1]);
    v[2] = v[2].wrapping_add(v[3]);
    v[1] = v[1].rotate_left(13) ^ v[0];
    v[3] = v[3].rotate_left(16) ^ v[2];
    v[0] = v[0].rotate_left(32);
    v[2] = v[2].wrapping_add(v[1]);
    v[0] = v[0].wrapping_add(v[3]);
    v[1] = v[1].rotate_left(17) ^ v[2];
    v[3] = v[3].rotate_left(21) ^ v[0];
    v[2] = v[2].rotate_left(32);
}

/// Up to eight bytes, the lowest first.
fn word(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |word, &byte| word << 8 | u64::from(byte))
}

#[cfg(test)]
mod tests {
    use super::SipKey;

    /// The example worked in appendix A of the SipHash paper.
    #[test]
    fn siphash_gives_what_its_paper_says() {
        let key: Vec<u8> = (0..16).collect();
        let input: Vec<u8> = (0..15).collect();
        let key = SipKey::from_bytes(key[..].try_into().expect("16 bytes"));
        assert_eq!(key.hash(&input), 0xa129_ca61_49be_45e5);
    }
}
