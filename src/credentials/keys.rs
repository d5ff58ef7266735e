//! Long-term keys (RFC 8489 §9.2.2, §18.5.1), USERHASH (§14.4), and the form of the texts that go into them.

use std::borrow::Cow;

use md5::Md5;
use sha2::digest::Output;
use sha2::{Digest, Sha256};
use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc_quick};
use zeroize::Zeroizing;

/// Unicode's space separators beyond ASCII (general category Zs).
const SPACES: [char; 16] = [
    '\u{a0}', '\u{1680}', '\u{2000}', '\u{2001}', '\u{2002}', '\u{2003}', '\u{2004}', '\u{2005}', '\u{2006}',
    '\u{2007}', '\u{2008}', '\u{2009}', '\u{200a}', '\u{202f}', '\u{205f}', '\u{3000}',
];

/// `MD5(username:realm:password)`
pub(super) fn md5(username: &str, realm: &str, password: &str) -> Zeroizing<[u8; 16]> {
    Zeroizing::new(joined::<Md5>(&[username, realm, password]).into())
}

/// `SHA-256(username:realm:password)`
pub(super) fn sha256(username: &str, realm: &str, password: &str) -> Zeroizing<[u8; 32]> {
    Zeroizing::new(joined::<Sha256>(&[username, realm, password]).into())
}

/// The value of USERHASH for a user name: `SHA-256(username:realm)`, both as [`opaque`] leaves them (RFC 8489 §14.4).
pub fn userhash(username: &str, realm: &str) -> [u8; 32] {
    joined::<Sha256>(&[&opaque(username), &opaque(realm)]).into()
}

/// The digest of texts with a colon between them.
fn joined<D: Digest>(parts: &[&str]) -> Output<D> {
    let mut digest = D::new();
    for (at, part) in parts.iter().enumerate() {
        if at > 0 {
            digest.update(b":");
        }
        digest.update(part.as_bytes());
    }
    digest.finalize()
}

/// What the OpaqueString profile makes of a text (RFC 8265 §4.2.2): every space becomes U+0020, then NFC. ASCII stays
/// as it is. The profile's list of forbidden code points is not applied: such a text is used as written.
pub(super) fn opaque(text: &str) -> Cow<'_, str> {
    let is_space = |sign: char| SPACES.contains(&sign);
    if text.is_ascii() || (is_nfc_quick(text.chars()) == IsNormalized::Yes && !text.contains(is_space)) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.chars().map(|sign| if is_space(sign) { ' ' } else { sign }).nfc().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_what_the_rfc_and_openssl_compute() {
        // RFC 8489 §9.2.2
        assert_eq!(u128::from_be_bytes(*md5("user", "realm", "pass")), 0x8493_fbc5_3ba5_82fb_4c04_4c45_6bdc_40eb);
        // printf %s user:realm:pass | openssl dgst -sha256
        let hex: String = sha256("user", "realm", "pass").iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "07e934117abd40836e7c6329b54731b2b2d2a5f9a71f544922d75e0730d8251b");
        // RFC 8489 appendix B.1
        let matrix = "\u{30de}\u{30c8}\u{30ea}\u{30c3}\u{30af}\u{30b9}";
        assert_eq!(userhash(matrix, "example.org")[..4], [0x4a, 0x3c, 0xf3, 0x8f]);
    }

    #[test]
    fn texts_are_composed_and_their_spaces_are_plain() {
        assert_eq!(opaque("Zoe\u{308} \u{3000}x"), "Zo\u{eb}  x");
        assert_eq!(opaque("\u{2168}"), "\u{2168}", "compatibility forms stay: NFC, not the NFKC of SASLprep");
        for kept in ["", "a b", "Zo\u{eb}", "\u{30de}\u{30c8}"] {
            assert!(matches!(opaque(kept), Cow::Borrowed(text) if text == kept));
        }
    }
}
