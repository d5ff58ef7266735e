//! Users with a fixed password, kept as long-term keys only.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use zeroize::Zeroizing;

use super::keys;
use crate::wire::PasswordAlgorithm;

/// What a static user signs with.
struct Keys {
    /// The name in the configuration, for quotas and logs.
    user: Arc<str>,
    md5: Zeroizing<[u8; 16]>,
    /// None when only the MD5 key is known.
    sha256: Option<Zeroizing<[u8; 32]>>,
}

/// All static users, by the USERNAME and by the USERHASH that they come with.
#[derive(Default)]
pub(super) struct StaticUsers {
    by_name: BTreeMap<Box<str>, Vec<Keys>>,
    by_hash: BTreeMap<[u8; 32], Box<str>>,
    /// Whether TCP is relayed, for the users of whom that is said.
    tcp: BTreeMap<Box<str>, bool>,
    without_sha256: bool,
}

impl StaticUsers {
    /// Adds a user with a password. Clients of RFC 8489 prepare name and password (§9.2.2), browsers take them as they
    /// are: both are known.
    pub(super) fn add(&mut self, name: &str, realm: &str, password: &str) {
        for name_of_client in both(name) {
            for password in both(password) {
                let sha256 = keys::sha256(&name_of_client, realm, &password);
                self.insert(name, &name_of_client, realm, (keys::md5(&name_of_client, realm, &password), Some(sha256)));
            }
        }
    }

    /// Adds a user by his keys.
    pub(super) fn add_keys(&mut self, name: &str, realm: &str, md5: [u8; 16], sha256: Option<[u8; 32]>) {
        self.without_sha256 |= sha256.is_none();
        self.insert(name, name, realm, (Zeroizing::new(md5), sha256.map(Zeroizing::new)));
    }

    /// Says of a user whether TCP is relayed for him.
    pub(super) fn set_tcp(&mut self, name: &str, relayed: bool) {
        self.tcp.insert(name.into(), relayed);
    }

    /// What was said, if anything.
    pub(super) fn tcp(&self, name: &str) -> Option<bool> {
        self.tcp.get(name).copied()
    }

    fn insert(
        &mut self,
        user: &str,
        name: &str,
        realm: &str,
        (md5, sha256): (Zeroizing<[u8; 16]>, Option<Zeroizing<[u8; 32]>>),
    ) {
        self.by_name.entry(name.into()).or_default().push(Keys { user: user.into(), md5, sha256 });
        self.by_hash.insert(keys::userhash(name, realm), keys::opaque(name).into());
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// Whether every user can sign with a SHA-256 key.
    pub(super) fn have_sha256(&self) -> bool {
        !self.without_sha256
    }

    /// The user name that a USERHASH stands for.
    pub(super) fn of_hash(&self, hash: &[u8]) -> Option<&str> {
        self.by_hash.get(hash).map(AsRef::as_ref)
    }

    /// The keys of everybody with this USERNAME, each with whose it is; `None` when there is no such user.
    pub(super) fn keys(
        &self,
        username: &str,
        algorithm: PasswordAlgorithm,
    ) -> Option<impl Iterator<Item = (&Arc<str>, &[u8])>> {
        let found = self.by_name.get(username)?;
        Some(found.iter().filter_map(move |keys| match (algorithm, &keys.sha256) {
            (PasswordAlgorithm::Md5, _) => Some((&keys.user, keys.md5.as_slice())),
            (PasswordAlgorithm::Sha256, Some(key)) => Some((&keys.user, key.as_slice())),
            (PasswordAlgorithm::Sha256, None) => None,
        }))
    }
}

impl fmt::Debug for StaticUsers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.by_name.keys()).finish()
    }
}

/// A text as it is, and as OpaqueString makes it where that differs.
fn both(text: &str) -> impl Iterator<Item = Zeroizing<String>> {
    let prepared = keys::opaque(text);
    let other = (prepared != text).then(|| Zeroizing::new(prepared.into_owned()));
    std::iter::once(Zeroizing::new(text.to_owned())).chain(other)
}
