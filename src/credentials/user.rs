//! A user with a fixed password, kept as the long-term key only.

use std::fmt;

use zeroize::Zeroizing;

/// A static user.
pub struct StaticUser {
    name: Box<str>,
    key: Zeroizing<[u8; 16]>,
}

impl StaticUser {
    pub(super) fn new(name: &str, key: [u8; 16]) -> StaticUser {
        StaticUser { name: name.into(), key: Zeroizing::new(key) }
    }

    /// The whole USERNAME.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn key(&self) -> &[u8] {
        self.key.as_slice()
    }
}

impl fmt::Debug for StaticUser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StaticUser").field("name", &self.name).finish_non_exhaustive()
    }
}
