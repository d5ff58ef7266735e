//! Who may allocate: shared secrets with time-limited credentials, and static users beside them.
//!
//! Issuing and verifying stand in one place so that they cannot drift apart. The form is the one of
//! draft-uberti-behave-turn-rest-00 that every product speaks: `username = expiry[:user]`,
//! `password = base64(HMAC-SHA1(secret, username))`; the long-term key is RFC 8489 §9.2.2's
//! `MD5(username:realm:password)`, or the same with SHA-256 where the client asks for it. No clock, no file: seconds since the Unix epoch come in as an argument.

mod diagnosis;
mod keys;
mod revocations;
mod secret;
mod time_limited;
mod user;

use std::sync::Arc;

pub use diagnosis::{Cause, Evidence, Symptom};
pub use keys::userhash;
pub use revocations::{Revocation, Revocations, Subject};
pub use secret::{Secret, SecretError};
pub use time_limited::{TimeLimited, parse_username};

use crate::wire::{IntegrityKey, PasswordAlgorithm};
use user::StaticUsers;

/// The longest user name that can be issued, in bytes: a time stamp and a colon still fit in the 508 bytes of
/// USERNAME (RFC 8489 §14.3).
pub const LONGEST_USER: usize = 480;

/// The realm, the shared secrets (the first signs, any verifies) and the static users.
#[derive(Debug)]
pub struct Credentials {
    realm: Box<str>,
    secrets: Vec<Secret>,
    users: StaticUsers,
}

/// What a request says about who sent it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim<'a> {
    /// USERNAME, or the name that USERHASH stands for.
    pub username: &'a str,
    /// How the key is derived.
    pub algorithm: PasswordAlgorithm,
}

/// A freshly issued credential.
#[derive(Clone, PartialEq, Eq)]
pub struct Issued {
    /// USERNAME
    pub username: String,
    /// What a browser calls `credential`.
    pub password: String,
}

impl std::fmt::Debug for Issued {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Issued").field("username", &self.username).finish_non_exhaustive()
    }
}

/// Why nothing was issued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IssueError {
    /// No shared secret is configured.
    NoSecret,
    /// The user is empty, longer than [`LONGEST_USER`] bytes, or has control characters.
    InvalidUser,
}

/// Somebody who proved to know a password.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The part of the user name that names a person or device, without the time stamp; quotas and logs count by it.
    /// For a bare time stamp it is the whole user name.
    pub user: Arc<str>,
    /// When the credential ends, in seconds since the Unix epoch; `None` for static users.
    pub expires: Option<u64>,
    /// The long-term key.
    pub key: IntegrityKey,
}

/// Why nobody proved anything. The wire says 401 to each; logs and counters tell them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthFailure {
    /// The user name is neither a static user's nor of a time-limited form, or nothing could verify it.
    UnknownUser,
    /// The user name is known, the message integrity does not match.
    BadIntegrity,
    /// All is right but the time.
    Expired {
        /// Seconds since it expired.
        ago: u64,
    },
    /// All is right, but an operator took the credential back.
    Revoked,
}

impl Credentials {
    /// Nobody may allocate yet.
    pub fn new(realm: &str) -> Credentials {
        Credentials { realm: keys::opaque(realm).into(), secrets: Vec::new(), users: StaticUsers::default() }
    }

    /// Adds a shared secret; the first one added signs.
    pub fn add_secret(&mut self, secret: Secret) {
        self.secrets.push(secret);
    }

    /// Adds a static user.
    pub fn add_user(&mut self, name: &str, password: &str) {
        self.users.add(name, &self.realm, password);
    }

    /// Adds a static user whose `MD5(user:realm:password)` is known, the password is not.
    pub fn add_user_key(&mut self, name: &str, key: [u8; 16]) {
        self.users.add_keys(name, &self.realm, key, None);
    }

    /// Adds a static user of whom both keys are known, MD5 and SHA-256 of `user:realm:password`.
    pub fn add_user_keys(&mut self, name: &str, md5: [u8; 16], sha256: [u8; 32]) {
        self.users.add_keys(name, &self.realm, md5, Some(sha256));
    }

    /// Says of a static user whether connections are relayed for him (RFC 6062), whatever holds for the others.
    pub fn set_tcp(&mut self, name: &str, relayed: bool) {
        self.users.set_tcp(name, relayed);
    }

    /// What [`Credentials::set_tcp`] said of somebody; of users with a time-limited credential nothing is said, whatever
    /// they are called.
    pub fn tcp(&self, user: &str, expires: Option<u64>) -> Option<bool> {
        if expires.is_none() { self.users.tcp(user) } else { None }
    }

    /// The realm of every challenge, as OpaqueString makes it (RFC 8489 §14.9).
    pub fn realm(&self) -> &str {
        &self.realm
    }

    /// What PASSWORD-ALGORITHMS lists: SHA-256 only where every user has a key of it, because a client takes the first
    /// that it knows.
    pub fn algorithms(&self) -> &'static [PasswordAlgorithm] {
        match self.users.have_sha256() {
            true => &[PasswordAlgorithm::Sha256, PasswordAlgorithm::Md5],
            false => &[PasswordAlgorithm::Md5],
        }
    }

    /// Whether clients may be told to send USERHASH instead of USERNAME: a hash can be looked up only among users that
    /// are known beforehand, which those of a shared secret are not.
    pub fn is_anonymous(&self) -> bool {
        self.secrets.is_empty() && !self.users.is_empty()
    }

    /// The static user's name that a USERHASH stands for (RFC 8489 §14.4).
    pub fn user_of_hash(&self, hash: &[u8]) -> Option<&str> {
        self.users.of_hash(hash)
    }

    /// Nobody can authenticate: TURN is refused, STUN goes on.
    pub fn is_empty(&self) -> bool {
        self.secrets.is_empty() && self.users.is_empty()
    }

    /// Issues a credential that ends at `expires`, in seconds since the Unix epoch.
    pub fn issue(&self, user: Option<&str>, expires: u64) -> Result<Issued, IssueError> {
        let username = match user {
            Some(user) if user.is_empty() || user.len() > LONGEST_USER || user.chars().any(char::is_control) => {
                return Err(IssueError::InvalidUser);
            }
            Some(user) => format!("{expires}:{user}"),
            None => expires.to_string(),
        };
        let password = self.password_for(&username).ok_or(IssueError::NoSecret)?;
        Ok(Issued { username, password })
    }

    /// The password that belongs to a whole user name under the signing secret.
    pub fn password_for(&self, username: &str) -> Option<String> {
        self.secrets.first().map(|secret| secret.password(username))
    }

    /// Finds who sent a message: `matches` says whether the message was signed with a key.
    ///
    /// A static user's name is his alone, whatever its form. With `check_expiry` false a time-limited credential
    /// passes after its time (the draft checks it on Allocate only).
    pub fn authenticate(
        &self,
        claim: Claim<'_>,
        unix: u64,
        check_expiry: bool,
        matches: impl Fn(&IntegrityKey) -> bool,
    ) -> Result<Identity, AuthFailure> {
        let Claim { username, algorithm } = claim;
        if let Some(mut keys) = self.users.keys(username, algorithm) {
            let found = keys.find_map(|(user, key)| {
                let key = IntegrityKey::new(key);
                matches(&key).then(|| Identity { user: user.clone(), expires: None, key })
            });
            return found.ok_or(AuthFailure::BadIntegrity);
        }
        let form = parse_username(username).ok_or(AuthFailure::UnknownUser)?;
        if self.secrets.is_empty() {
            return Err(AuthFailure::UnknownUser);
        }
        let key = self
            .secrets
            .iter()
            .map(|secret| self.long_term_key(claim, &secret.password(username)))
            .find(|key| matches(key))
            .ok_or(AuthFailure::BadIntegrity)?;
        match unix.checked_sub(form.expires) {
            Some(ago) if check_expiry => Err(AuthFailure::Expired { ago }),
            Some(_) | None => Ok(Identity { user: form.user.into(), expires: Some(form.expires), key }),
        }
    }

    /// RFC 8489 §9.2.2, §18.5.1
    fn long_term_key(&self, claim: Claim<'_>, password: &str) -> IntegrityKey {
        match claim.algorithm {
            PasswordAlgorithm::Md5 => IntegrityKey::new(keys::md5(claim.username, &self.realm, password).as_slice()),
            PasswordAlgorithm::Sha256 => {
                IntegrityKey::new(keys::sha256(claim.username, &self.realm, password).as_slice())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use md5::{Digest, Md5};
    use proptest::prelude::*;
    use sha2::Sha256;

    use super::*;
    use crate::wire::{Algorithm, Message, Method, TransactionId, Writer};

    fn credentials(secrets: &[&str]) -> Credentials {
        let mut credentials = Credentials::new("example.org");
        for secret in secrets {
            credentials.add_secret(Secret::new(secret).unwrap());
        }
        credentials
    }

    /// What a client does with a user name and a password: derive the key and sign a message.
    fn signed_with(realm: &str, username: &str, password: &str) -> impl Fn(&IntegrityKey) -> bool {
        signed_by(&Md5::digest(format!("{username}:{realm}:{password}")))
    }

    fn signed_by(key: &[u8]) -> impl Fn(&IntegrityKey) -> bool + use<> {
        let theirs = IntegrityKey::new(key);
        let mut bytes = Vec::new();
        Writer::success(&mut bytes, Method::REFRESH, TransactionId([0; 12]))
            .integrity(&theirs, Algorithm::Sha1)
            .finish();
        move |ours| {
            let message = Message::parse(&bytes).unwrap();
            message.attributes().flatten().any(|attribute| ours.verify(&bytes, &attribute))
        }
    }

    fn by_md5(username: &str) -> Claim<'_> {
        Claim { username, algorithm: PasswordAlgorithm::Md5 }
    }

    fn check(credentials: &Credentials, username: &str, password: &str, unix: u64) -> Result<String, AuthFailure> {
        let matches = signed_with("example.org", username, password);
        credentials.authenticate(by_md5(username), unix, true, matches).map(|identity| identity.user.to_string())
    }

    #[test]
    fn password_is_what_openssl_computes() {
        // printf '%s' 1767225600:alice | openssl dgst -sha1 -hmac secret -binary | base64
        let issued = credentials(&["secret"]).issue(Some("alice"), 1_767_225_600).unwrap();
        assert_eq!(issued.username, "1767225600:alice");
        assert_eq!(issued.password, PASSWORD_BY_OPENSSL);
    }
    const PASSWORD_BY_OPENSSL: &str = "RjhlVen+DhQzYDfv//fV2MBBUwM=";

    #[test]
    fn any_secret_verifies_and_the_first_signs() {
        let old = credentials(&["old"]).issue(Some("bob"), 2_000).unwrap();
        let both = credentials(&["new", "old"]);
        assert_eq!(check(&both, &old.username, &old.password, 1_000), Ok("bob".into()));
        let new = both.issue(Some("bob"), 2_000).unwrap();
        assert_ne!(new.password, old.password);
        assert_eq!(check(&both, &new.username, &new.password, 1_000), Ok("bob".into()));
        assert_eq!(check(&credentials(&["other"]), &new.username, &new.password, 1), Err(AuthFailure::BadIntegrity));
    }

    #[test]
    fn expiry_is_told_with_its_age_and_only_to_who_knows_the_password() {
        let credentials = credentials(&["s"]);
        let issued = credentials.issue(Some("u"), 100).unwrap();
        assert_eq!(check(&credentials, &issued.username, &issued.password, 99), Ok("u".into()));
        assert_eq!(check(&credentials, &issued.username, &issued.password, 130), Err(AuthFailure::Expired { ago: 30 }));
        assert_eq!(check(&credentials, &issued.username, "wrong", 130), Err(AuthFailure::BadIntegrity));
        let matches = signed_with("example.org", &issued.username, &issued.password);
        assert!(credentials.authenticate(by_md5(&issued.username), 130, false, matches).is_ok());
    }

    #[test]
    fn static_users_stand_beside_secrets() {
        let mut credentials = credentials(&["s"]);
        credentials.add_user("carol", "pw");
        credentials.add_user("2000:dave", "pw");
        assert_eq!(check(&credentials, "carol", "pw", 0), Ok("carol".into()));
        assert_eq!(check(&credentials, "carol", "no", 0), Err(AuthFailure::BadIntegrity));
        assert_eq!(check(&credentials, "eve", "pw", 0), Err(AuthFailure::UnknownUser));
        assert_eq!(check(&credentials, "2000:dave", "pw", 9_999), Ok("2000:dave".into()));
        let issued = credentials.issue(Some("dave"), 2000).unwrap();
        assert_eq!(check(&credentials, "2000:dave", &issued.password, 1), Err(AuthFailure::BadIntegrity));
    }

    #[test]
    fn sha256_keys_work_for_secrets_and_for_users_whose_key_is_known() {
        let mut credentials = credentials(&["s"]);
        let issued = credentials.issue(Some("u"), 100).unwrap();
        let ask = |credentials: &Credentials, username: &str, password: &str| {
            let matches = signed_by(&Sha256::digest(format!("{username}:example.org:{password}")));
            let claim = Claim { username, algorithm: PasswordAlgorithm::Sha256 };
            credentials.authenticate(claim, 1, true, matches).map(|identity| identity.user.to_string())
        };
        credentials.add_user("carol", "pw");
        assert_eq!(credentials.algorithms(), [PasswordAlgorithm::Sha256, PasswordAlgorithm::Md5]);
        assert_eq!(ask(&credentials, &issued.username, &issued.password), Ok("u".into()));
        assert_eq!(ask(&credentials, "carol", "pw"), Ok("carol".into()));
        assert_eq!(ask(&credentials, "carol", "no"), Err(AuthFailure::BadIntegrity));
        credentials.add_user_keys("dave", [1; 16], Sha256::digest("dave:example.org:pw").into());
        assert_eq!(ask(&credentials, "dave", "pw"), Ok("dave".into()));
        assert_eq!(credentials.algorithms().len(), 2);
        credentials.add_user_key("erin", Md5::digest("erin:example.org:pw").into());
        assert_eq!(
            credentials.algorithms(),
            [PasswordAlgorithm::Md5],
            "nobody may be asked for a key that is not known"
        );
        assert_eq!(ask(&credentials, "erin", "pw"), Err(AuthFailure::BadIntegrity));
        assert_eq!(check(&credentials, "erin", "pw", 0), Ok("erin".into()));
    }

    #[test]
    fn users_are_anonymous_only_when_all_are_known_beforehand() {
        let mut credentials = credentials(&[]);
        assert!(!credentials.is_anonymous());
        credentials.add_user("carol", "pw");
        assert!(credentials.is_anonymous());
        assert_eq!(credentials.user_of_hash(&userhash("carol", "example.org")), Some("carol"));
        assert_eq!(credentials.user_of_hash(&userhash("carol", "example.net")), None);
        assert_eq!(credentials.user_of_hash(b"carol"), None);
        credentials.add_secret(Secret::new("s").unwrap());
        assert!(!credentials.is_anonymous());
        assert!(
            credentials.user_of_hash(&userhash("carol", "example.org")).is_some(),
            "whoever sends it is understood"
        );
    }

    #[test]
    fn prepared_and_raw_texts_name_the_same_user() {
        let mut credentials = credentials(&[]);
        credentials.add_user("Zoe\u{308}", "pa\u{3000}ss");
        for (name, password) in [("Zoe\u{308}", "pa\u{3000}ss"), ("Zo\u{eb}", "pa ss"), ("Zo\u{eb}", "pa\u{3000}ss")] {
            assert_eq!(check(&credentials, name, password, 0), Ok("Zoe\u{308}".into()), "{name} {password}");
        }
        assert_eq!(credentials.user_of_hash(&userhash("Zoe\u{308}", "example.org")), Some("Zo\u{eb}"));
    }

    #[test]
    fn impossible_users_are_not_issued() {
        let some = credentials(&["s"]);
        let long = "x".repeat(LONGEST_USER + 1);
        for user in ["", "a\nb", "\u{7f}", long.as_str()] {
            assert_eq!(some.issue(Some(user), 1), Err(IssueError::InvalidUser));
        }
        assert_eq!(credentials(&[]).issue(None, 1), Err(IssueError::NoSecret));
        assert!(credentials(&[]).is_empty() && !some.is_empty());
    }

    #[test]
    fn nothing_secret_is_printed() {
        let mut credentials = credentials(&["s3cr3t-value"]);
        credentials.add_user("carol", "passw0rd");
        let issued = credentials.issue(None, 5).unwrap();
        let text = format!("{credentials:?} {issued:?}");
        assert!(!text.contains("s3cr3t") && !text.contains("passw0rd") && !text.contains(&issued.password));
    }

    proptest! {
        #[test]
        fn what_is_issued_verifies(
            secrets in prop::collection::vec("[ -~]{1,40}", 1..4),
            user in prop::option::of("[^\\p{Cc}]{1,60}"),
            expires in 1u64..4_000_000_000,
            early in 1u64..1_000_000,
        ) {
            let secrets: Vec<_> = secrets.iter().map(String::as_str).collect();
            let credentials = credentials(&secrets);
            let issued = credentials.issue(user.as_deref(), expires).unwrap();
            let who = check(&credentials, &issued.username, &issued.password, expires.saturating_sub(early));
            prop_assert_eq!(who, Ok(user.unwrap_or(expires.to_string())));
        }
    }
}
