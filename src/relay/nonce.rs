//! Stateless nonces: time and a keyed MAC over time and client address, so that a nonce proves that its client was
//! seen at that address not long ago, and costs no memory (RFC 8489 §9.2, RFC 8656 §5).

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;

use super::clock::Mono;

/// Four bytes of time, eight of MAC.
const RAW_LENGTH: usize = 12;
/// What `RAW_LENGTH` bytes become in base64. Short, because every challenge carries it.
const LENGTH: usize = 16;

/// Makes and checks nonces. Workers that share a key and a clock accept each other's.
pub(super) struct Nonces {
    mac: Hmac<Sha256>,
}

impl Nonces {
    pub(super) fn new(key: &[u8; 32]) -> Nonces {
        Nonces { mac: <Hmac<Sha256> as KeyInit>::new(&hmac_key(key)) }
    }

    /// A nonce for this client.
    pub(super) fn make(&self, now: Mono, client: SocketAddr) -> [u8; LENGTH] {
        let seconds = u32::try_from(now.seconds() & u64::from(u32::MAX)).unwrap_or(0);
        let mut raw = [0; RAW_LENGTH];
        let (time, tag) = raw.split_at_mut(4);
        time.copy_from_slice(&seconds.to_be_bytes());
        tag.copy_from_slice(&self.tag(seconds, client));
        let mut text = [0; LENGTH];
        // The two lengths above fit each other, so this cannot fail.
        let _ = URL_SAFE_NO_PAD.encode_slice(raw, &mut text);
        text
    }

    /// Whether this client was given `nonce` at most `lifetime` ago.
    pub(super) fn verify(&self, now: Mono, client: SocketAddr, nonce: &[u8], lifetime: Duration) -> bool {
        let mut raw = [0; RAW_LENGTH];
        if nonce.len() != LENGTH || URL_SAFE_NO_PAD.decode_slice(nonce, &mut raw) != Ok(RAW_LENGTH) {
            return false;
        }
        let [a, b, c, d, tag @ ..] = raw;
        let seconds = u32::from_be_bytes([a, b, c, d]);
        let age = now.seconds().checked_sub(u64::from(seconds));
        age.is_some_and(|age| age <= lifetime.as_secs()) && bool::from(self.tag(seconds, client).ct_eq(&tag))
    }

    fn tag(&self, seconds: u32, client: SocketAddr) -> [u8; 8] {
        let mut mac = self.mac.clone();
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

    const HOUR: Duration = Duration::from_secs(3600);

    fn at(seconds: u64) -> Mono {
        Mono(seconds * 1_000_000_000)
    }

    #[test]
    fn a_nonce_is_good_for_its_client_and_its_time_only() {
        let nonces = Nonces::new(&[5; 32]);
        let client: SocketAddr = "192.0.2.1:5000".parse().unwrap();
        let nonce = nonces.make(at(100), client);
        assert!(nonces.verify(at(100), client, &nonce, HOUR));
        assert!(nonces.verify(at(3700), client, &nonce, HOUR));
        assert!(!nonces.verify(at(3701), client, &nonce, HOUR));
        assert!(!nonces.verify(at(99), client, &nonce, HOUR));
        assert!(!nonces.verify(at(100), "192.0.2.1:5001".parse().unwrap(), &nonce, HOUR));
        assert!(!nonces.verify(at(100), "192.0.2.2:5000".parse().unwrap(), &nonce, HOUR));
        assert!(!Nonces::new(&[6; 32]).verify(at(100), client, &nonce, HOUR));
        assert!(Nonces::new(&[5; 32]).verify(at(100), client, &nonce, HOUR));
    }

    #[test]
    fn anything_else_is_no_nonce() {
        let nonces = Nonces::new(&[5; 32]);
        let client: SocketAddr = "[2001:db8::1]:5000".parse().unwrap();
        let nonce = nonces.make(at(100), client);
        for at_byte in 0..nonce.len() {
            let mut changed = nonce;
            changed[at_byte] = if changed[at_byte] == b'A' { b'B' } else { b'A' };
            assert!(!nonces.verify(at(100), client, &changed, HOUR), "{at_byte}");
        }
        assert!(!nonces.verify(at(100), client, b"", HOUR));
        assert!(!nonces.verify(at(100), client, &[b'='; 16], HOUR));
        assert!(!nonces.verify(at(100), client, &[b'A'; 600], HOUR));
    }
}
