//! A keyed 128-bit hash (SipHash-2-4-128, Aumasson and Bernstein 2012) that stands for a transaction's identity.
//!
//! The identity of a transaction is some two hundred bytes of the message; a table of a hundred thousand of them keeps
//! sixteen bytes each instead and never compares the rest. That is sound because the hash is a MAC under a secret seed:
//! an untrusted peer, which cannot read the seed, can neither make two requests collide nor aim many at one bucket.

use std::hash::{BuildHasher, Hasher};

/// The identity of one transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Fingerprint([u64; 2]);

/// The secret under which fingerprints are made.
#[derive(Clone, Copy)]
pub(super) struct Seed([u64; 2]);

impl std::fmt::Debug for Seed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Seed(secret)")
    }
}

impl Seed {
    pub(super) fn new(bytes: [u8; 16]) -> Self {
        let half = |range: std::ops::Range<usize>| word(&bytes[range]);
        Seed([half(0..8), half(8..16)])
    }

    pub(super) fn fingerprint(self, bytes: &[u8]) -> Fingerprint {
        let Seed([k0, k1]) = self;
        let mut state = [
            k0 ^ 0x736f_6d65_7073_6575,
            k1 ^ 0x646f_7261_6e64_6f6d ^ 0xee,
            k0 ^ 0x6c79_6765_6e65_7261,
            k1 ^ 0x7465_6462_7974_6573,
        ];
        let mut words = bytes.chunks_exact(8);
        for chunk in &mut words {
            absorb(&mut state, word(chunk));
        }
        let length = (bytes.len() as u64) << 56;
        absorb(&mut state, length | word(words.remainder()));
        state[2] ^= 0xee;
        rounds(&mut state, 4);
        let low = state[0] ^ state[1] ^ state[2] ^ state[3];
        state[1] ^= 0xdd;
        rounds(&mut state, 4);
        let high = state[0] ^ state[1] ^ state[2] ^ state[3];
        Fingerprint([low, high])
    }
}

/// Up to eight bytes, little endian.
fn word(bytes: &[u8]) -> u64 {
    let mut whole = [0; 8];
    whole[..bytes.len()].copy_from_slice(bytes);
    u64::from_le_bytes(whole)
}

fn absorb(state: &mut [u64; 4], word: u64) {
    state[3] ^= word;
    rounds(state, 2);
    state[0] ^= word;
}

fn rounds(state: &mut [u64; 4], count: usize) {
    let [mut v0, mut v1, mut v2, mut v3] = *state;
    for _ in 0..count {
        v0 = v0.wrapping_add(v1);
        v1 = v1.rotate_left(13) ^ v0;
        v0 = v0.rotate_left(32);
        v2 = v2.wrapping_add(v3);
        v3 = v3.rotate_left(16) ^ v2;
        v0 = v0.wrapping_add(v3);
        v3 = v3.rotate_left(21) ^ v0;
        v2 = v2.wrapping_add(v1);
        v1 = v1.rotate_left(17) ^ v2;
        v2 = v2.rotate_left(32);
    }
    *state = [v0, v1, v2, v3];
}

impl std::hash::Hash for Fingerprint {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0[0]);
    }
}

/// Passes one half of a fingerprint through: it is a hash already.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct AlreadyHashed(pub(super) u64);

impl BuildHasher for AlreadyHashed {
    type Hasher = AlreadyHashed;

    fn build_hasher(&self) -> Self::Hasher {
        AlreadyHashed(0)
    }
}

impl Hasher for AlreadyHashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        // Not on any path: a fingerprint writes one u64.
        for &byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The reference implementation's vectors for key 00..0f and input 00..n.
    #[test]
    fn reference_vectors() {
        let seed = Seed::new(std::array::from_fn(|n| n as u8));
        let expected =
            [(0, 0xa381_7f04_ba25_a8e6_6df6_7214_c755_0293_u128), (1, 0xda87_c1d8_6b99_af44_3476_5911_9b22_fc45)];
        for (length, output) in expected {
            let input: Vec<u8> = (0..length).collect();
            let Fingerprint([low, high]) = seed.fingerprint(&input);
            let bytes = (u128::from(high) << 64 | u128::from(low)).to_le_bytes();
            assert_eq!(u128::from_be_bytes(bytes), output, "input of {length} bytes");
        }
    }

    #[test]
    fn every_byte_and_the_seed_count() {
        let text = b"z9hG4bK-some-branch and a Call-ID, forty bytes";
        let seed = Seed::new([7; 16]);
        let plain = seed.fingerprint(text);
        for at in 0..text.len() {
            let mut other = *text;
            other[at] ^= 1;
            assert_ne!(seed.fingerprint(&other), plain, "byte {at}");
        }
        assert_ne!(Seed::new([8; 16]).fingerprint(text), plain);
    }
}
