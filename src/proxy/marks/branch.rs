//! Branches that Holdline recognises as its own.
//!
//! A branch names a transaction (RFC 3261 §8.1.1.7), and in a Via below the top one it tells that a request has been here
//! before (§16.3 step 4). It is made for every request sent, so it is cheap: one SipHash.

use std::fmt;

use crate::flow::Side;

use super::base32;
use crate::proxy::marks::Key;

const COOKIE: &[u8] = b"z9hG4bKh";
const COUNTER: usize = 6;
const LOOP: usize = 3;
const CHECK: usize = 5;
const RAW: usize = COUNTER + LOOP + CHECK;
const TEXT: usize = COOKIE.len() + base32::encoded_len(RAW);

impl Key {
    /// A branch: `z9hG4bKh`, then 6 bytes of counter, 3 of loop hash and 5 of a MAC over both, in base32.
    ///
    /// A counter must not be used twice under one key while a peer may still know the branch, so after a restart it must
    /// not begin where it began before: begin at a number drawn by chance. Its low 48 bits count.
    #[must_use]
    pub fn branch(&self, counter: u64, loop_hash: LoopHash) -> Branch {
        let mut raw = [0; RAW];
        raw[..COUNTER].copy_from_slice(&counter.to_be_bytes()[8 - COUNTER..]);
        raw[COUNTER..COUNTER + LOOP].copy_from_slice(&loop_hash.0);
        self.seal(&mut raw);
        let mut text = [0; TEXT];
        text[..COOKIE.len()].copy_from_slice(COOKIE);
        base32::encode(&raw, &mut text[COOKIE.len()..]);
        Branch(text)
    }

    /// True for a branch made with this key. A foreign one passes with odds of one to 10¹².
    #[must_use]
    pub fn is_our_branch(&self, branch: &[u8]) -> bool {
        self.loop_hash_of(branch).is_some()
    }

    /// The loop hash that a branch of ours was made with; `None` for anybody else's.
    ///
    /// A request loops if a Via carries the hash it would be sent on with now. If it carries another one, it spirals, and
    /// that is legal: of two phones behind one Holdline, the call goes out and comes back in through a PBX that is a proxy.
    #[must_use]
    pub fn loop_hash_of(&self, branch: &[u8]) -> Option<LoopHash> {
        let given: [u8; RAW] = base32::decode(branch.strip_prefix(COOKIE)?)?;
        let mut sealed = given;
        self.seal(&mut sealed);
        let mut hash = [0; LOOP];
        hash.copy_from_slice(&given[COUNTER..COUNTER + LOOP]);
        (sealed == given).then_some(LoopHash(hash))
    }

    /// The hash of what decides where a request goes (RFC 3261 §16.6 step 8): the side it came from and its Request-URI.
    #[must_use]
    pub fn loop_hash(&self, from: Side, request_uri: &[u8]) -> LoopHash {
        let key = match from {
            Side::Phone => self.from_phone,
            Side::Upstream => self.from_upstream,
        };
        let [a, b, c, ..] = key.hash(request_uri).to_be_bytes();
        LoopHash([a, b, c])
    }

    fn seal(&self, raw: &mut [u8; RAW]) {
        let mac = self.branch.hash(&raw[..COUNTER + LOOP]).to_be_bytes();
        raw[COUNTER + LOOP..].copy_from_slice(&mac[..CHECK]);
    }
}

/// A branch parameter's value, 31 characters.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Branch([u8; TEXT]);

impl Branch {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// The text as bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for Branch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Branch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Twenty-four bits of what decides where a request goes. See [`Key::loop_hash`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LoopHash([u8; LOOP]);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use crate::flow::Side;
    use crate::proxy::marks::Key;

    fn key() -> Key {
        Key::new([7; 32])
    }

    #[test]
    fn a_branch_has_the_magic_cookie_and_is_a_token() {
        let branch = key().branch(1, key().loop_hash(Side::Phone, b"sip:pbx.example.com"));
        assert!(branch.as_str().starts_with("z9hG4bKh"));
        assert_eq!(branch.as_str().len(), 31);
        assert!(branch.as_str().bytes().all(|c| c.is_ascii_alphanumeric()));
    }

    #[test]
    fn a_loop_is_told_from_a_spiral_and_from_other_proxies_branches() {
        let key = key();
        let out = key.loop_hash(Side::Phone, b"sip:1002@pbx.example.com");
        let back = key.loop_hash(Side::Upstream, b"sip:1002@pbx.example.com");
        let branch = key.branch(42, out);
        assert!(key.is_our_branch(branch.as_bytes()));
        assert_eq!(key.loop_hash_of(branch.as_bytes()), Some(out));
        assert_ne!(out, back);
        assert!(!Key::new([8; 32]).is_our_branch(branch.as_bytes()));
        for strange in [&b"z9hG4bK776asdhds"[..], b"z9hG4bKh", b"", b"1", b"z9hG4bKhaaaaaaaaaaaaaaaaaaaaaaa"] {
            assert!(!key.is_our_branch(strange));
        }
    }

    proptest! {
        #[test]
        fn each_counter_has_its_own_branch(a in 0..1u64 << 48, b in 0..1u64 << 48, uri: Vec<u8>) {
            let key = key();
            let hash = key.loop_hash(Side::Phone, &uri);
            prop_assert_eq!(a == b, key.branch(a, hash) == key.branch(b, hash));
            prop_assert_eq!(key.loop_hash_of(key.branch(a, hash).as_bytes()), Some(hash));
        }

        #[test]
        fn nothing_trips_it_by_chance(text in "z9hG4bKh[a-z2-7]{23}", bytes: Vec<u8>) {
            prop_assert!(!key().is_our_branch(text.as_bytes()));
            prop_assert!(!key().is_our_branch(&bytes));
        }
    }
}
