//! Credentials as the doctor is given them, and what their look alone says.

use super::finding::{Finding, Kind, Severity, shown};
use crate::credentials::{Credentials, Secret, parse_username};

/// How long what the doctor mints is valid.
const TTL: u64 = 3600;
/// More than this is no count of seconds of our age: year 5138.
const MOST_SECONDS: u64 = 100_000_000_000;
/// A time stamp this near to now is the time of issue, not of expiry.
const NEAR: u64 = 10;
/// What is valid for longer outlives the people it was made for.
const LONG: u64 = 7 * 86_400;

/// Who the doctor is towards a server.
#[derive(Clone)]
pub(super) struct Login {
    pub(super) username: String,
    pub(super) password: zeroize::Zeroizing<String>,
    /// The shared secret from which it was made, when the doctor made it.
    pub(super) secret: Option<zeroize::Zeroizing<String>>,
    /// Whether browsers are given it.
    pub(super) public: bool,
}

impl Login {
    /// A user with a password.
    pub(super) fn fixed(username: &str, password: &str) -> Login {
        let password = zeroize::Zeroizing::new(password.to_owned());
        Login { username: username.to_owned(), password, secret: None, public: false }
    }

    /// A time-limited credential under a shared secret.
    pub(super) fn minted(secret: &str, user: &str, now: u64) -> Option<Login> {
        Login::until(secret, user, now + TTL)
    }

    pub(super) fn until(secret: &str, user: &str, expires: u64) -> Option<Login> {
        let mut credentials = Credentials::new("");
        credentials.add_secret(Secret::new(secret).ok()?);
        let issued = credentials.issue(Some(user), expires).ok()?;
        let secret = Some(zeroize::Zeroizing::new(secret.to_owned()));
        Some(Login { secret, ..Login::fixed(&issued.username, &issued.password) })
    }

    /// What the user name says, before any server is asked.
    pub(super) fn looked_at(&self, now: u64) -> Vec<Finding> {
        let name = shown(&self.username);
        let Some(form) = parse_username(&self.username) else {
            let static_user = Kind::LongLived.found(
                format!("the user name {name:?} has no time stamp: it is a static user's"),
                "whoever opens the page has the password for as long as nobody changes it",
                "mint time-limited credentials on the server (POST /v1/credentials)",
            );
            return if self.public { vec![static_user] } else { Vec::new() };
        };
        let expires = form.expires;
        if expires >= MOST_SECONDS {
            return vec![Kind::Timestamp.found(
                format!("the time stamp {expires} is of the year {}", 1970 + expires / 31_556_952),
                "it counts milliseconds: a server that takes it will never let it expire, others refuse it",
                "divide by 1000 before adding the lifetime: Math.floor(Date.now() / 1000) + ttl",
            )];
        }
        if expires.abs_diff(now) <= NEAR {
            return vec![Kind::Timestamp.found(
                format!("the time stamp {expires} is now"),
                "it is the time of issue: to the server the credential has expired as it is made",
                "add the lifetime: the time stamp says when the credential ends",
            )];
        }
        if expires < now {
            return vec![Kind::Expired.found(
                format!("the credential expired {} s ago by this machine's clock", now - expires),
                "no server with a right clock grants an allocation with it",
                "mint a new one per call; an app that keeps one must renew it before it ends",
            )];
        }
        if expires - now > LONG {
            return vec![
                Kind::LongLived
                    .found(
                        format!("the credential is valid for {} days more", (expires - now) / 86_400),
                        "whoever got hold of it relays at your cost for all that time; only a revocation ends it",
                        "mint for a day at most, and mint again per call",
                    )
                    .severity(Severity::Warning),
            ];
        }
        Vec::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_look_of_a_user_name_tells() {
        let now = 1_800_000_000;
        let kinds = |name: &str, public: bool| -> Vec<Kind> {
            let login = Login { public, ..Login::fixed(name, "p") };
            login.looked_at(now).iter().map(|finding| finding.kind).collect()
        };
        assert_eq!(kinds("1800003600:alice", true), []);
        assert_eq!(kinds("1800003600000:alice", false), [Kind::Timestamp]);
        assert_eq!(kinds("1800000001:alice", false), [Kind::Timestamp]);
        assert_eq!(kinds("1799990000", false), [Kind::Expired]);
        assert_eq!(kinds("1900000000", false), [Kind::LongLived]);
        assert_eq!(kinds("alice", true), [Kind::LongLived]);
        assert_eq!(kinds("alice", false), []);
        assert!(Login::minted("s3cret", "doctor", now).unwrap().looked_at(now).is_empty());
    }
}
