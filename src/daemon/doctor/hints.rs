//! The ways in which a shared secret, or the password made of it, is got wrong.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;
use sha2::Sha256;

use crate::credentials::parse_username;

/// A secret that differs from the one given, with words for how.
pub(super) struct Variant {
    pub(super) words: &'static str,
    secret: zeroize::Zeroizing<Vec<u8>>,
}

/// What a secret may have been meant to be.
pub(super) fn variants(secret: &str) -> Vec<Variant> {
    let plain = secret.as_bytes();
    let with = |end: &str| [plain, end.as_bytes()].concat();
    let all = [
        ("with a newline at its end", Some(with("\n"))),
        ("with CR and newline at its end", Some(with("\r\n"))),
        ("without the white space around it", Some(secret.trim().as_bytes().to_vec())),
        ("without the quotes around it", Some(secret.trim_matches(['"', '\'']).as_bytes().to_vec())),
        ("decoded from base64", STANDARD.decode(secret).or_else(|_| URL_SAFE_NO_PAD.decode(secret)).ok()),
        ("decoded from hexadecimal", unhex(secret)),
    ];
    all.into_iter()
        .filter_map(|(words, bytes)| Some((words, bytes.filter(|bytes| bytes != plain && !bytes.is_empty())?)))
        .map(|(words, bytes)| Variant { words, secret: zeroize::Zeroizing::new(bytes) })
        .collect()
}

impl Variant {
    pub(super) fn password(&self, username: &str) -> String {
        STANDARD.encode(sha1(&self.secret, username))
    }
}

/// How a password was made of a secret and a user name, if it was.
pub(super) fn made(secret: &str, username: &str, password: &str) -> Option<&'static str> {
    let right = sha1(secret.as_bytes(), username);
    let part = |text: Option<&str>| text.map(|text| STANDARD.encode(sha1(secret.as_bytes(), text)));
    let form = parse_username(username);
    let hex: String = right.iter().map(|byte| format!("{byte:02x}")).collect();
    let ways = [
        ("as it should be", Some(STANDARD.encode(&right))),
        ("with HMAC-SHA256 instead of HMAC-SHA1", Some(STANDARD.encode(sha256(secret.as_bytes(), username)))),
        ("in base64url instead of base64", Some(URL_SAFE.encode(&right))),
        ("without the padding of base64", Some(STANDARD_NO_PAD.encode(&right))),
        ("in base64url without padding instead of base64", Some(URL_SAFE_NO_PAD.encode(&right))),
        ("in hexadecimal instead of base64", Some(hex)),
        ("over the user alone instead of the whole user name", part(form.map(|form| form.user))),
        ("over the time stamp alone instead of the whole user name", part(form.and_then(|_| stamp(username)))),
        (
            "from the user name as the key and the secret as the text",
            Some(STANDARD.encode(sha1(username.as_bytes(), secret))),
        ),
        ("by taking the secret itself", Some(secret.to_owned())),
    ];
    let way = ways.iter().find(|(_, made)| made.as_deref() == Some(password)).map(|(words, _)| *words);
    way.or_else(|| variants(secret).iter().find(|variant| variant.password(username) == password).map(|v| v.words))
}

/// Whether [`made`] found the password to be right.
pub(super) fn is_right(words: &str) -> bool {
    words == "as it should be"
}

fn stamp(username: &str) -> Option<&str> {
    username.split(':').find(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()))
}

fn sha1(key: &[u8], text: &str) -> Vec<u8> {
    signed(<Hmac<Sha1> as KeyInit>::new_from_slice(key).ok(), text)
}

fn sha256(key: &[u8], text: &str) -> Vec<u8> {
    signed(<Hmac<Sha256> as KeyInit>::new_from_slice(key).ok(), text)
}

/// HMAC takes keys of any length.
fn signed<M: Mac>(mac: Option<M>, text: &str) -> Vec<u8> {
    mac.map(|mut mac| {
        mac.update(text.as_bytes());
        mac.finalize().into_bytes().to_vec()
    })
    .unwrap_or_default()
}

/// Pairs of hexadecimal digits as bytes.
pub(in crate::daemon) fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u8> = text.chars().map(|digit| Some(digit.to_digit(16)? as u8)).collect::<Option<_>>()?;
    digits
        .len()
        .is_multiple_of(2)
        .then(|| digits.chunks(2).map(|pair| pair.iter().fold(0, |sum, digit| sum * 16 + digit)).collect())
}

#[cfg(test)]
mod tests {
    use super::super::login::Login;
    use super::*;

    #[test]
    fn each_way_of_making_a_password_is_recognised() {
        let (secret, username) = ("c2VjcmV0", "1800000000:alice");
        let login = Login::until(secret, "alice", 1_800_000_000).unwrap();
        assert_eq!(login.username, username);
        assert_eq!(made(secret, username, &login.password), Some("as it should be"));
        let right = sha1(secret.as_bytes(), username);
        for (password, words) in [
            (STANDARD.encode(sha256(secret.as_bytes(), username)), "SHA256"),
            (STANDARD_NO_PAD.encode(&right), "padding"),
            (STANDARD.encode(sha1(secret.as_bytes(), "alice")), "the user alone"),
            (STANDARD.encode(sha1(secret.as_bytes(), "1800000000")), "the time stamp alone"),
            (STANDARD.encode(sha1(b"c2VjcmV0\n", username)), "newline"),
            (STANDARD.encode(sha1(b"secret", username)), "decoded from base64"),
            (secret.to_owned(), "secret itself"),
        ] {
            let found = made(secret, username, &password).unwrap_or_default();
            assert!(found.contains(words), "{words}: {found}");
        }
        assert_eq!(made(secret, username, "something else"), None);
    }

    #[test]
    fn hexadecimal_and_white_space() {
        assert_eq!(unhex("00ff"), Some(vec![0, 255]));
        assert_eq!(unhex("0"), None);
        assert_eq!(unhex("zz"), None);
        let words: Vec<_> = variants(" ab ").iter().map(|variant| variant.words).collect();
        assert!(words.contains(&"without the white space around it"), "{words:?}");
    }
}
