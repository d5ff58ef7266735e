//! Stateless nonces: time and a keyed MAC over time and client address, so that a nonce proves that its client was
//! seen at that address not long ago, and costs no memory (RFC 8489 §9.2, RFC 8656 §5).
//!
//! In front stands the nonce cookie with the security features on offer (§9.2, §9.2.1). The MAC covers the offer too:
//! who answers to another one, because somebody on the path changed it or the configuration did, gets a new nonce.
//!
//! ```text
//! | "obMatJos2" | features, 4 of base64 | time and MAC, 16 of base64 |
//! ```

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;

use super::action::FiveTuple;
use super::clock::Mono;

/// Four bytes of time, eight of MAC.
const RAW_LENGTH: usize = 12;
/// What `RAW_LENGTH` bytes become in base64. Short, because every challenge carries it.
const TEXT_LENGTH: usize = 16;
/// RFC 8489 §9.2 for "I know RFC 8489", and the 24 feature bits in base64.
const COOKIE_LENGTH: usize = 13;
const LENGTH: usize = COOKIE_LENGTH + TEXT_LENGTH;

/// What a challenge offers beyond RFC 5389.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Offer {
    /// PASSWORD-ALGORITHMS lists SHA-256 before MD5, else MD5 alone.
    pub(super) sha256: bool,
    /// USERHASH is wanted instead of USERNAME.
    pub(super) anonymity: bool,
}

impl Offer {
    /// The nonce cookie. "Password algorithms" is feature 0, "Username anonymity" feature 1. RFC 8489 §9.2 counts from
    /// the most significant bit, its erratum 6290 and its own example from the least significant one, and clients exist
    /// of either kind: both bits are set, 0x800001 and 0x400002, so that each finds what protects it.
    fn cookie(self) -> &'static [u8; COOKIE_LENGTH] {
        match self.anonymity {
            false => b"obMatJos2gAAB",
            true => b"obMatJos2wAAD",
        }
    }
}

/// Whom a nonce is for: a client's address and port. On streams the port counts for nothing: the connections of one
/// client, control and data (RFC 6062 §4.3), share a nonce, and every one of them has proved where it comes from.
pub(super) fn holder(from: &FiveTuple) -> SocketAddr {
    match from.stream {
        Some(_) => SocketAddr::new(from.client.ip(), 0),
        None => from.client,
    }
}

/// Makes and checks nonces. Workers that share a key and a clock accept each other's.
pub(super) struct Nonces {
    mac: Hmac<Sha256>,
}

impl Nonces {
    pub(super) fn new(key: &[u8; 32]) -> Nonces {
        Nonces { mac: <Hmac<Sha256> as KeyInit>::new(&hmac_key(key)) }
    }

    /// A nonce for this client.
    pub(super) fn make(&self, now: Mono, client: SocketAddr, offer: Offer) -> [u8; LENGTH] {
        let seconds = u32::try_from(now.seconds() & u64::from(u32::MAX)).unwrap_or(0);
        let mut raw = [0; RAW_LENGTH];
        let (time, tag) = raw.split_at_mut(4);
        time.copy_from_slice(&seconds.to_be_bytes());
        tag.copy_from_slice(&self.tag(seconds, client, offer));
        let mut nonce = [0; LENGTH];
        let (cookie, text) = nonce.split_at_mut(COOKIE_LENGTH);
        cookie.copy_from_slice(offer.cookie());
        // The two lengths above fit each other, so this cannot fail.
        let _ = URL_SAFE_NO_PAD.encode_slice(raw, text);
        nonce
    }

    /// Whether this client was given `nonce` with this offer at most `lifetime` ago.
    pub(super) fn verify(&self, now: Mono, client: SocketAddr, nonce: &[u8], lifetime: Duration, offer: Offer) -> bool {
        let Some(text) = nonce.strip_prefix(offer.cookie()) else { return false };
        let mut raw = [0; RAW_LENGTH];
        if text.len() != TEXT_LENGTH || URL_SAFE_NO_PAD.decode_slice(text, &mut raw) != Ok(RAW_LENGTH) {
            return false;
        }
        let [a, b, c, d, tag @ ..] = raw;
        let seconds = u32::from_be_bytes([a, b, c, d]);
        let age = now.seconds().checked_sub(u64::from(seconds));
        age.is_some_and(|age| age <= lifetime.as_secs()) && bool::from(self.tag(seconds, client, offer).ct_eq(&tag))
    }

    fn tag(&self, seconds: u32, client: SocketAddr, offer: Offer) -> [u8; 8] {
        let mut mac = self.mac.clone();
        mac.update(&[u8::from(offer.sha256), u8::from(offer.anonymity)]);
        mac.update(&seconds.to_be_bytes());
        mac.update(&client.port().to_be_bytes());
        match client.ip() {
            IpAddr::V4(v4) => mac.update(&v4.octets()),
            IpAddr::V6(v6) => mac.update(&v6.octets()),
        }
        let [a, b, c, d, e, f, g, h, ..] = <[u8; 32]>::from(mac.finalize().into_bytes());
        [a, b, c, d, e, f, g, h]
    }
}

fn hmac_key(key: &[u8; 32]) -> hmac::digest::Key<Hmac<Sha256>> {
    let mut block = hmac::digest::Key::<Hmac<Sha256>>::default();
    for (to, from) in block.iter_mut().zip(key) {
        *to = *from;
    }
    block
}

impl std::fmt::Debug for Nonces {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Nonces(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OFFER: Offer = Offer { sha256: true, anonymity: false };
    const HOUR: Duration = Duration::from_secs(3600);

    fn at(seconds: u64) -> Mono {
        Mono(seconds * 1_000_000_000)
    }

    #[test]
    fn a_nonce_is_good_for_its_client_and_its_time_only() {
        let nonces = Nonces::new(&[5; 32]);
        let client: SocketAddr = "192.0.2.1:5000".parse().unwrap();
        let nonce = nonces.make(at(100), client, OFFER);
        assert!(nonces.verify(at(100), client, &nonce, HOUR, OFFER));
        assert!(nonces.verify(at(3700), client, &nonce, HOUR, OFFER));
        assert!(!nonces.verify(at(3701), client, &nonce, HOUR, OFFER));
        assert!(!nonces.verify(at(99), client, &nonce, HOUR, OFFER));
        assert!(!nonces.verify(at(100), "192.0.2.1:5001".parse().unwrap(), &nonce, HOUR, OFFER));
        assert!(!nonces.verify(at(100), "192.0.2.2:5000".parse().unwrap(), &nonce, HOUR, OFFER));
        assert!(!Nonces::new(&[6; 32]).verify(at(100), client, &nonce, HOUR, OFFER));
        assert!(Nonces::new(&[5; 32]).verify(at(100), client, &nonce, HOUR, OFFER));
    }

    #[test]
    fn anything_else_is_no_nonce() {
        let nonces = Nonces::new(&[5; 32]);
        let client: SocketAddr = "[2001:db8::1]:5000".parse().unwrap();
        let nonce = nonces.make(at(100), client, OFFER);
        for at_byte in 0..nonce.len() {
            let mut changed = nonce;
            changed[at_byte] = if changed[at_byte] == b'A' { b'B' } else { b'A' };
            assert!(!nonces.verify(at(100), client, &changed, HOUR, OFFER), "{at_byte}");
        }
        assert!(!nonces.verify(at(100), client, b"", HOUR, OFFER));
        assert!(!nonces.verify(at(100), client, &nonce[COOKIE_LENGTH..], HOUR, OFFER));
        assert!(!nonces.verify(at(100), client, &[b'='; 16], HOUR, OFFER));
        assert!(!nonces.verify(at(100), client, &[b'A'; 600], HOUR, OFFER));
    }

    #[test]
    fn the_cookie_announces_the_features_whichever_way_their_bits_are_counted() {
        use base64::engine::general_purpose::STANDARD;
        for (anonymity, features) in [(false, 0x80_0001_u32), (true, 0xc0_0003)] {
            let nonce =
                Nonces::new(&[5; 32]).make(at(100), "[::1]:1".parse().unwrap(), Offer { sha256: true, anonymity });
            let [0, bits @ ..] = features.to_be_bytes() else { panic!("24 bits") };
            assert_eq!(nonce[..9], *b"obMatJos2");
            assert_eq!(nonce[9..13], *STANDARD.encode(bits).as_bytes());
            assert!(nonce.len() < 128 && nonce.is_ascii());
        }
    }

    #[test]
    fn a_nonce_of_another_offer_is_no_good() {
        let nonces = Nonces::new(&[5; 32]);
        let client: SocketAddr = "192.0.2.1:5000".parse().unwrap();
        let offers = [(true, false), (true, true), (false, false), (false, true)];
        for (made, (sha256, anonymity)) in offers.into_iter().enumerate() {
            let nonce = nonces.make(at(100), client, Offer { sha256, anonymity });
            for (asked, (sha256, anonymity)) in offers.into_iter().enumerate() {
                let good = nonces.verify(at(100), client, &nonce, HOUR, Offer { sha256, anonymity });
                assert_eq!(good, made == asked);
            }
        }
    }
}
