//! API keys: kept as SHA-256, compared in constant time, each with what its holder may do.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::problem::Fault;
use super::units::SecretText;

/// A random key of 128 bits has 22 characters of base64; what is shorter than 16 was invented by a person.
const SHORTEST: usize = 16;
const HASHED: &str = "sha256:";

/// What a key may be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Scope {
    /// Mint credentials.
    Mint,
    /// Take credentials back.
    Revoke,
    /// See and end sessions, drain the server, and everything else.
    Admin,
    /// Read `/metrics` where that asks for a key.
    Metrics,
}

impl Scope {
    /// Every scope.
    pub const ALL: [Scope; 4] = [Scope::Mint, Scope::Revoke, Scope::Admin, Scope::Metrics];

    /// As the configuration writes it.
    pub fn name(self) -> &'static str {
        match self {
            Scope::Mint => "mint",
            Scope::Revoke => "revoke",
            Scope::Admin => "admin",
            Scope::Metrics => "metrics",
        }
    }
}

/// The holder of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    /// The name under which it is counted and logged.
    pub id: Box<str>,
    /// Whether the configuration names it, so that routes that carry a key id can be checked.
    pub is_named: bool,
    /// What it may do.
    pub scopes: Vec<Scope>,
    /// Instead of `api.default-ttl`, in seconds.
    pub default_ttl: Option<u64>,
    /// Instead of `api.max-ttl`, in seconds.
    pub max_ttl: Option<u64>,
    /// Stands before every user it names.
    pub user_prefix: Box<str>,
    /// Requests in a second; 0 = no limit.
    pub rate: u32,
}

impl Client {
    /// Whether it may do this; `admin` may do everything.
    pub fn may(&self, scope: Scope) -> bool {
        self.scopes.contains(&scope) || self.scopes.contains(&Scope::Admin)
    }
}

/// The keys that may call the API.
#[derive(Clone, Default)]
pub struct ApiKeys(Vec<([u8; 32], Arc<Client>)>);

impl ApiKeys {
    /// No key: nobody may call.
    pub fn new() -> ApiKeys {
        ApiKeys::default()
    }

    /// A key of any length as the configuration writes its hash.
    pub fn hashed(key: &str) -> SecretText {
        let digits: String = Sha256::digest(key.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
        SecretText::new(format!("{HASHED}{digits}"))
    }

    /// Whether a configured key is a hash, which is no secret.
    pub fn is_hashed(key: &SecretText) -> bool {
        key.expose().starts_with(HASHED)
    }

    /// Adds a key as the configuration writes it: in plain text or as `sha256:` and its hash.
    pub(super) fn add_configured(&mut self, name: &str, text: &SecretText, client: Client) -> Result<(), Fault> {
        let text = text.expose();
        let hash = match text.strip_prefix(HASHED) {
            Some(digits) => hexadecimal(digits).ok_or_else(|| {
                Fault::new(
                    name,
                    "`sha256:` is not followed by 64 hexadecimal digits",
                    "write `sha256:` and the output of `printf %s KEY | sha256sum`, or use `turnwell key new`",
                )
            })?,
            None if text.len() < SHORTEST => {
                return Err(Fault::new(
                    name,
                    format!("the key is shorter than {SHORTEST} characters"),
                    "use a random key, for example from `openssl rand -hex 16` or `turnwell key new`",
                ));
            }
            None => Sha256::digest(text.as_bytes()).into(),
        };
        self.0.push((hash, Arc::new(client)));
        Ok(())
    }

    /// Whose key this is. Takes the same time for every wrong key.
    pub fn find(&self, presented: &str) -> Option<&Arc<Client>> {
        let presented: [u8; 32] = Sha256::digest(presented.as_bytes()).into();
        let mut found = None;
        for (key, client) in &self.0 {
            if key.ct_eq(&presented).into() {
                found = Some(client);
            }
        }
        found
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

    fn client(id: &str, scopes: &[Scope]) -> Client {
        Client {
            id: id.into(),
            is_named: true,
            scopes: scopes.to_vec(),
            default_ttl: None,
            max_ttl: None,
            user_prefix: "".into(),
            rate: 0,
        }
    }

    #[test]
    fn a_key_is_found_in_plain_text_and_by_its_hash() {
        let mut keys = ApiKeys::new();
        assert!(keys.find("").is_none());
        let plain = SecretText::new("0123456789abcdef".into());
        keys.add_configured("api.keys[0]", &plain, client("a", &[])).unwrap();
        // SHA-256 of "abc", FIPS 180-2 appendix B.1
        let hash = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        keys.add_configured("api.keys[1]", &SecretText::new(hash.into()), client("b", &[])).unwrap();
        let id = |key: &str| keys.find(key).map(|client| &*client.id);
        assert_eq!((id("0123456789abcdef"), id("abc")), (Some("a"), Some("b")));
        assert!(id("abd").is_none() && id("").is_none() && id(hash).is_none());
    }

    #[test]
    fn short_and_garbled_keys_are_refused_without_being_repeated() {
        let mut keys = ApiKeys::new();
        for text in ["hunter2", "sha256:hunter2", "sha256:", ""] {
            let text = SecretText::new(text.into());
            let fault = keys.add_configured("api.keys[0]", &text, client("a", &[])).unwrap_err();
            assert!(!format!("{fault:?}").contains("hunter2"));
        }
        assert!(keys.is_empty());
    }

    #[test]
    fn admin_may_do_everything_and_the_others_their_own() {
        for scope in Scope::ALL {
            assert!(client("a", &[Scope::Admin]).may(scope) && client("a", &[scope]).may(scope));
        }
        assert!(!client("a", &[Scope::Mint]).may(Scope::Revoke));
    }
}
