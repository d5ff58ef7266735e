//! A shared secret: signs user names, prints nothing, is wiped on drop.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;

use super::diagnosis::Mistakes;

/// A secret that an app and this server share. Its bytes are those of the configured string, nothing decoded.
/// Only keyed HMAC states are kept; those wipe themselves on drop (hmac's and sha1's `zeroize` feature).
pub struct Secret {
    mac: Hmac<Sha1>,
    pub(super) mistakes: Mistakes,
}

/// Why a text is no secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecretError {
    /// There is nothing in it.
    Empty,
}

impl Secret {
    /// Takes the text as it is.
    pub fn new(text: &str) -> Result<Secret, SecretError> {
        if text.is_empty() {
            return Err(SecretError::Empty);
        }
        let mac = Hmac::new_from_slice(text.as_bytes()).map_err(|_| SecretError::Empty)?;
        let mistakes = Mistakes::new(text).ok_or(SecretError::Empty)?;
        Ok(Secret { mac, mistakes })
    }

    /// `base64(HMAC-SHA1(secret, username))`
    pub(super) fn password(&self, username: &str) -> String {
        let mut mac = self.mac.clone();
        mac.update(username.as_bytes());
        STANDARD.encode(mac.finalize().into_bytes())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}
