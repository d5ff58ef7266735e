//! Why a credential is refused, in terms of the mistakes that apps and operators are known to make. It tries dozens of
//! keys, so it is for samples, off the packet path, and for the log alone.

use std::collections::BTreeSet;
use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;
use sha2::Sha256;

use super::{AuthFailure, Claim, Credentials, parse_username};
use crate::wire::{AttributeType, Message, PasswordAlgorithm};

/// A credential that expired so recently was probably never meant to be valid: its time is that of its making.
const AT_ONCE: u64 = 5;

/// A credential that does not work, or should not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// What was noticed.
    pub symptom: Symptom,
    /// USERNAME
    pub username: Box<str>,
    /// How the client derived its key.
    pub algorithm: PasswordAlgorithm,
    /// The whole request, where its integrity is the question.
    pub message: Box<[u8]>,
}

impl Evidence {
    /// From here on a time stamp counts milliseconds: in seconds it would be the year 5138.
    pub const FAR: u64 = 100_000_000_000;
}

/// What was noticed about a credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Symptom {
    /// It was refused.
    Refused(AuthFailure),
    /// It was accepted, and will be for thousands of years.
    NeverExpires,
}

/// What is wrong with a credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// The app's secret ends in a newline that this server's lacks.
    SecretNewline,
    /// This server's secret has white space around it that the app's lacks.
    SecretSpace,
    /// The app decodes the secret from base64 first.
    SecretBase64,
    /// The app decodes the secret from hexadecimal digits first.
    SecretHex,
    /// The app signs with HMAC-SHA256.
    HmacSha256,
    /// The password lacks the `=` at its end.
    UnpaddedBase64,
    /// The password is in the URL-safe alphabet of base64.
    UrlBase64,
    /// The password is in hexadecimal digits.
    HexPassword,
    /// The password was percent-encoded on its way, or its `+` became a space.
    PercentEncoded,
    /// The password is computed from a part of the user name.
    PartOfUsername,
    /// The time stamp is when the credential was made, not when it ends.
    TimeOfIssue,
    /// The time stamp counts milliseconds.
    Milliseconds,
    /// The credential was right and is too old.
    Expired,
    /// The user name has no time stamp, and there are no static users of that name.
    NoTimeStamp,
    /// Nobody has that name.
    NoSuchUser,
    /// A static user's password is another.
    WrongPassword,
    /// None of the known mistakes explains it: another secret, most likely.
    OtherSecret,
}

impl Credentials {
    /// What is most likely wrong with a credential.
    pub fn diagnose(&self, evidence: &Evidence) -> Cause {
        let username = &*evidence.username;
        match evidence.symptom {
            Symptom::NeverExpires => Cause::Milliseconds,
            Symptom::Refused(AuthFailure::Expired { ago: 0..=AT_ONCE }) => Cause::TimeOfIssue,
            Symptom::Refused(AuthFailure::Expired { .. } | AuthFailure::Revoked) => Cause::Expired,
            Symptom::Refused(AuthFailure::UnknownUser)
                if parse_username(username).is_none() && !self.secrets.is_empty() =>
            {
                Cause::NoTimeStamp
            }
            Symptom::Refused(AuthFailure::UnknownUser) => Cause::NoSuchUser,
            Symptom::Refused(AuthFailure::BadIntegrity)
                if self.users.keys(username, PasswordAlgorithm::Md5).is_some() =>
            {
                Cause::WrongPassword
            }
            Symptom::Refused(AuthFailure::BadIntegrity) => self.explain(evidence).unwrap_or(Cause::OtherSecret),
        }
    }

    /// The mistake that yields the signature of a message.
    fn explain(&self, evidence: &Evidence) -> Option<Cause> {
        let message = Message::parse(&evidence.message).ok()?;
        let of = |kind| message.attributes().flatten().find(|attribute| attribute.kind == kind);
        let integrity = of(AttributeType::MESSAGE_INTEGRITY_SHA256).or(of(AttributeType::MESSAGE_INTEGRITY))?;
        let claim = Claim { username: &evidence.username, algorithm: evidence.algorithm };
        let is_it = |password: &str| self.long_term_key(claim, password).verify(&evidence.message, &integrity);
        let candidates = self.secrets.iter().flat_map(|secret| secret.mistakes.passwords(&evidence.username));
        { candidates }.find(|(_, password)| is_it(password)).map(|(cause, _)| cause)
    }
}

/// A secret's keyed states, right and wrong ones; like the right one alone they tell nothing of the text.
pub(super) struct Mistakes {
    right: Hmac<Sha1>,
    sha256: Hmac<Sha256>,
    other: Vec<(Cause, Hmac<Sha1>)>,
}

impl Mistakes {
    pub(super) fn new(secret: &str) -> Option<Mistakes> {
        let bytes = |text: String| text.into_bytes();
        let mut texts = vec![
            (Cause::SecretNewline, bytes(format!("{secret}\n"))),
            (Cause::SecretNewline, bytes(format!("{secret}\r\n"))),
        ];
        if secret.trim() != secret {
            texts.push((Cause::SecretSpace, secret.trim().into()));
        }
        for engine in [STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD] {
            texts.extend(engine.decode(secret).map(|decoded| (Cause::SecretBase64, decoded)));
        }
        texts.extend(unhex(secret).map(|decoded| (Cause::SecretHex, decoded)));
        let mut seen = BTreeSet::new();
        texts.retain(|(_, text)| !text.is_empty() && seen.insert(text.clone()));
        let keyed = |(cause, text): (Cause, Vec<u8>)| Some((cause, Hmac::new_from_slice(&text).ok()?));
        Some(Mistakes {
            right: Hmac::new_from_slice(secret.as_bytes()).ok()?,
            sha256: Hmac::new_from_slice(secret.as_bytes()).ok()?,
            other: texts.into_iter().filter_map(keyed).collect(),
        })
    }

    /// The passwords that the mistakes lead to.
    fn passwords(&self, username: &str) -> Vec<(Cause, String)> {
        let mac = |keyed: &Hmac<Sha1>, text: &str| {
            let mut mac = keyed.clone();
            mac.update(text.as_bytes());
            mac.finalize().into_bytes()
        };
        let right = mac(&self.right, username);
        let password = STANDARD.encode(right);
        let mut found = vec![
            (Cause::UnpaddedBase64, STANDARD_NO_PAD.encode(right)),
            (Cause::UrlBase64, URL_SAFE.encode(right)),
            (Cause::UrlBase64, URL_SAFE_NO_PAD.encode(right)),
            (Cause::HexPassword, right.iter().map(|byte| format!("{byte:02x}")).collect()),
            (Cause::PercentEncoded, password.replace('+', "%2B").replace('/', "%2F").replace('=', "%3D")),
            (Cause::PercentEncoded, password.replace('+', " ")),
        ];
        let mut sha256 = self.sha256.clone();
        sha256.update(username.as_bytes());
        found.push((Cause::HmacSha256, STANDARD.encode(sha256.finalize().into_bytes())));
        found.extend(self.other.iter().map(|(cause, keyed)| (*cause, STANDARD.encode(mac(keyed, username)))));
        if let Some(form) = parse_username(username) {
            for part in [form.user.to_owned(), form.expires.to_string()] {
                found.push((Cause::PartOfUsername, STANDARD.encode(mac(&self.right, &part))));
            }
        }
        // What is the right password after all, such as one without a `+`, explains nothing.
        found.retain(|(_, other)| *other != password);
        found
    }
}

impl fmt::Debug for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Mistakes(…)")
    }
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    let pairs = text.as_bytes().chunks_exact(2);
    pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credentials::Secret;
    use crate::wire::{Algorithm, IntegrityKey, Method, TransactionId, Writer};
    use md5::{Digest, Md5};

    const USERNAME: &str = "1700003600:alice";

    /// `printf %s 1700003600:alice | openssl dgst -sha1 -mac HMAC -macopt key:…`, in base64.
    fn hmac(key: &[u8], text: &str) -> [u8; 20] {
        let mut mac = <Hmac<Sha1> as KeyInit>::new_from_slice(key).unwrap();
        mac.update(text.as_bytes());
        mac.finalize().into_bytes().into()
    }

    fn credentials(secrets: &[&str]) -> Credentials {
        let mut credentials = Credentials::new("example.org");
        for secret in secrets {
            credentials.add_secret(Secret::new(secret).unwrap());
        }
        credentials
    }

    fn evidence(username: &str, password: &str) -> Evidence {
        let key = IntegrityKey::new(&Md5::digest(format!("{username}:example.org:{password}")));
        let mut message = Vec::new();
        Writer::success(&mut message, Method::REFRESH, TransactionId([0; 12]))
            .integrity(&key, Algorithm::Sha1)
            .finish();
        Evidence {
            symptom: Symptom::Refused(AuthFailure::BadIntegrity),
            username: username.into(),
            algorithm: PasswordAlgorithm::Md5,
            message: message.into(),
        }
    }

    #[test]
    fn every_known_mistake_is_named() {
        let secret = "c2VjcmV0IG9mIG91cnM=";
        let both = credentials(&["another one", secret]);
        let right = hmac(secret.as_bytes(), USERNAME);
        let sha256 = {
            let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(secret.as_bytes()).unwrap();
            mac.update(USERNAME.as_bytes());
            STANDARD.encode(mac.finalize().into_bytes())
        };
        let with = |key: &[u8]| STANDARD.encode(hmac(key, USERNAME));
        let cases = [
            (Cause::SecretNewline, with(format!("{secret}\n").as_bytes())),
            (Cause::SecretNewline, with(format!("{secret}\r\n").as_bytes())),
            (Cause::SecretBase64, with(b"secret of ours")),
            (Cause::HmacSha256, sha256),
            (Cause::UnpaddedBase64, STANDARD_NO_PAD.encode(right)),
            (Cause::UrlBase64, URL_SAFE_NO_PAD.encode(right)),
            (Cause::HexPassword, right.iter().map(|byte| format!("{byte:02x}")).collect()),
            (Cause::PercentEncoded, STANDARD.encode(right).replace('=', "%3D").replace('+', "%2B").replace('/', "%2F")),
            (Cause::PartOfUsername, STANDARD.encode(hmac(secret.as_bytes(), "alice"))),
            (Cause::PartOfUsername, STANDARD.encode(hmac(secret.as_bytes(), "1700003600"))),
            (Cause::OtherSecret, with(b"quite another")),
        ];
        for (cause, password) in cases {
            assert_eq!(both.diagnose(&evidence(USERNAME, &password)), cause, "{password}");
        }
    }

    #[test]
    fn secrets_that_this_server_holds_wrongly_are_named() {
        let with = |key: &[u8]| evidence(USERNAME, &STANDARD.encode(hmac(key, USERNAME)));
        assert_eq!(credentials(&["s3cret\n"]).diagnose(&with(b"s3cret")), Cause::SecretSpace);
        assert_eq!(credentials(&["00ff17"]).diagnose(&with(&[0, 0xff, 0x17])), Cause::SecretHex);
    }

    #[test]
    fn other_symptoms_need_no_message() {
        let with = |symptom, username: &str| Evidence {
            symptom,
            username: username.into(),
            algorithm: PasswordAlgorithm::Md5,
            message: Box::default(),
        };
        let mut some = credentials(&["s"]);
        some.add_user("carol", "pw");
        let expired = |ago| Symptom::Refused(AuthFailure::Expired { ago });
        let unknown = Symptom::Refused(AuthFailure::UnknownUser);
        assert_eq!(some.diagnose(&with(Symptom::NeverExpires, "1700003600000:alice")), Cause::Milliseconds);
        assert_eq!(some.diagnose(&with(expired(2), USERNAME)), Cause::TimeOfIssue);
        assert_eq!(some.diagnose(&with(expired(60), USERNAME)), Cause::Expired);
        assert_eq!(some.diagnose(&with(unknown, "dave")), Cause::NoTimeStamp);
        assert_eq!(credentials(&[]).diagnose(&with(unknown, "dave")), Cause::NoSuchUser);
        assert_eq!(some.diagnose(&evidence("carol", "no")), Cause::WrongPassword);
    }
}
