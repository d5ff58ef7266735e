//! API keys: kept as SHA-256, compared in constant time.

use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};

use super::problem::Fault;
use super::units::SecretText;

/// A random key of 128 bits has 22 characters of base64; what is shorter than 16 was invented by a person.
const SHORTEST: usize = 16;
const HASHED: &str = "sha256:";

/// The keys that may call the API.
#[derive(Clone, Default)]
pub struct ApiKeys(Vec<[u8; 32]>);

impl ApiKeys {
    /// No key: nobody may call.
    pub fn new() -> ApiKeys {
        ApiKeys::default()
    }

    fn add(&mut self, key: &str) {
        self.0.push(Sha256::digest(key.as_bytes()).into());
    }

    /// A key of any length as the configuration writes its hash.
    pub fn hashed(key: &str) -> SecretText {
        let digits: String = Sha256::digest(key.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
        SecretText::new(format!("{HASHED}{digits}"))
    }

    /// Adds a key as the configuration writes it: in plain text or as `sha256:` and its hash.
    pub(super) fn add_configured(&mut self, name: &str, text: &SecretText) -> Result<(), Fault> {
        let text = text.expose();
        if let Some(digits) = text.strip_prefix(HASHED) {
            let hash = hexadecimal(digits).ok_or_else(|| {
                Fault::new(
                    name,
                    "`sha256:` is not followed by 64 hexadecimal digits",
                    "write `sha256:` and the output of `printf %s KEY | sha256sum`",
                )
            })?;
            self.0.push(hash);
            return Ok(());
        }
        if text.len() < SHORTEST {
            return Err(Fault::new(
                name,
                format!("the key is shorter than {SHORTEST} characters"),
                "use a random key, for example from `openssl rand -hex 16`",
            ));
        }
        self.add(text);
        Ok(())
    }

    /// Whether this is one of the keys. Takes the same time for every wrong key.
    pub fn accepts(&self, presented: &str) -> bool {
        let presented: [u8; 32] = Sha256::digest(presented.as_bytes()).into();
        let mut found = Choice::from(0);
        for key in &self.0 {
            found |= key.ct_eq(&presented);
        }
        found.into()
    }

    /// Whether there is no key, so that nobody may call.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Reads exactly N bytes written as hexadecimal digits.
pub(super) fn hexadecimal<const N: usize>(digits: &str) -> Option<[u8; N]> {
    if digits.len() != 2 * N || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.as_bytes().chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_accepted_in_plain_text_and_by_its_hash() {
        let mut keys = ApiKeys::new();
        assert!(!keys.accepts(""));
        keys.add_configured("api.keys[0]", &SecretText::new("0123456789abcdef".into())).unwrap();
        // SHA-256 of "abc", FIPS 180-2 appendix B.1
        let hash = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        keys.add_configured("api.keys[1]", &SecretText::new(hash.into())).unwrap();
        assert!(keys.accepts("0123456789abcdef") && keys.accepts("abc"));
        assert!(!keys.accepts("abd") && !keys.accepts("") && !keys.accepts(hash));
    }

    #[test]
    fn short_and_garbled_keys_are_refused_without_being_repeated() {
        let mut keys = ApiKeys::new();
        for text in ["hunter2", "sha256:hunter2", "sha256:", ""] {
            let fault = keys.add_configured("api.keys[0]", &SecretText::new(text.into())).unwrap_err();
            assert!(!format!("{fault:?}").contains("hunter2"));
        }
        assert!(keys.is_empty());
    }
}
