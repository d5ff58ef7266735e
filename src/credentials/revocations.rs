//! Credentials that are refused although they would verify: a shared secret cannot take back what it has signed.
//!
//! A user name carries only its end. When it was issued follows from that end and the validity it was issued with,
//! which is why "issued before" is kept as a bound on the end.

use std::collections::BTreeMap;

/// What is refused, and until when that has to be remembered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revocation {
    /// What is refused.
    pub subject: Subject,
    /// From this moment on, in seconds since the Unix epoch, nothing is refused any more.
    pub until: u64,
}

/// What a revocation refuses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// This USERNAME, letter by letter.
    Username(Box<str>),
    /// Every credential of this user, static ones included.
    User(Box<str>),
    /// Time-limited credentials that end before `expires_before`: of one user, or of everybody.
    Issued {
        /// Whose; none: everybody's.
        user: Option<Box<str>>,
        /// In seconds since the Unix epoch.
        expires_before: u64,
    },
}

/// Every revocation, ready to be asked.
#[derive(Clone, Debug, Default)]
pub struct Revocations {
    usernames: BTreeMap<Box<str>, u64>,
    users: BTreeMap<Box<str>, Rule>,
    everybody: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Rule {
    /// Everything of this user is refused until then.
    until: u64,
    /// What ends before then is refused.
    expires_before: u64,
}

impl Revocations {
    /// Gathers them; of two for the same subject the farther reaching one counts.
    pub fn new<'a>(all: impl IntoIterator<Item = &'a Revocation>) -> Revocations {
        let mut set = Revocations::default();
        for revocation in all {
            match &revocation.subject {
                Subject::Username(name) => {
                    let until = set.usernames.entry(name.clone()).or_default();
                    *until = revocation.until.max(*until);
                }
                Subject::User(user) => {
                    let rule = set.users.entry(user.clone()).or_default();
                    rule.until = rule.until.max(revocation.until);
                }
                Subject::Issued { user: Some(user), expires_before } => {
                    let rule = set.users.entry(user.clone()).or_default();
                    rule.expires_before = rule.expires_before.max(*expires_before);
                }
                Subject::Issued { user: None, expires_before } => {
                    set.everybody = set.everybody.max(*expires_before);
                }
            }
        }
        set
    }

    /// Nothing is refused.
    pub fn is_empty(&self) -> bool {
        self.usernames.is_empty() && self.users.is_empty() && self.everybody == 0
    }

    /// Whether a credential that verified is refused: its user name, the user in it, its end (none for static users).
    pub fn contains(&self, username: &str, user: &str, expires: Option<u64>, unix: u64) -> bool {
        if self.is_empty() {
            return false;
        }
        let ends_before = |bound: u64| expires.is_some_and(|expires| expires < bound);
        let rule = self.users.get(user).copied().unwrap_or_default();
        ends_before(self.everybody)
            || ends_before(rule.expires_before)
            || unix < rule.until
            || self.usernames.get(username).is_some_and(|until| unix < *until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(subjects: &[(Subject, u64)]) -> Revocations {
        let all: Vec<Revocation> =
            subjects.iter().map(|(subject, until)| Revocation { subject: subject.clone(), until: *until }).collect();
        Revocations::new(&all)
    }

    #[test]
    fn nothing_is_revoked_at_first() {
        let none = Revocations::default();
        assert!(none.is_empty() && !none.contains("5:a", "a", Some(5), 0));
    }

    #[test]
    fn a_user_name_is_refused_letter_by_letter_until_its_time() {
        let set = set(&[(Subject::Username("100:alice".into()), 100)]);
        assert!(set.contains("100:alice", "alice", Some(100), 99));
        assert!(!set.contains("100:alice", "alice", Some(100), 100));
        assert!(!set.contains("101:alice", "alice", Some(101), 99));
    }

    #[test]
    fn a_user_is_refused_under_every_name_static_ones_included() {
        let set = set(&[(Subject::User("alice".into()), 100), (Subject::User("alice".into()), 50)]);
        assert!(set.contains("9000:alice", "alice", Some(9000), 99));
        assert!(set.contains("alice", "alice", None, 99));
        assert!(!set.contains("9000:alice", "alice", Some(9000), 100));
        assert!(!set.contains("9000:bob", "bob", Some(9000), 99));
    }

    #[test]
    fn issued_before_refuses_what_ends_before_its_bound_and_no_static_user() {
        let issued =
            |user: Option<&str>, expires_before| Subject::Issued { user: user.map(Into::into), expires_before };
        let one = set(&[(issued(Some("alice"), 500), 500)]);
        assert!(one.contains("499:alice", "alice", Some(499), 10));
        assert!(!one.contains("500:alice", "alice", Some(500), 10));
        assert!(!one.contains("499:bob", "bob", Some(499), 10) && !one.contains("alice", "alice", None, 10));
        let all = set(&[(issued(None, 500), 500), (issued(None, 300), 300)]);
        assert!(all.contains("499:bob", "bob", Some(499), 10) && !all.contains("bob", "bob", None, 10));
    }
}
