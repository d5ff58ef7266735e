//! Who the clients are: user names, passwords, and the long-term key once the realm is known.

use std::cell::RefCell;
use std::time::{SystemTime, UNIX_EPOCH};

use md5::{Digest, Md5};

use super::args::{Mode, Plan};
use super::error::BenchError;
use crate::credentials::{Credentials, Secret};
use crate::wire::IntegrityKey;

/// One user.
#[derive(Debug)]
pub(super) struct Account {
    pub(super) username: String,
    password: String,
    /// The key of the realm that was asked for last; servers have one.
    key: RefCell<Option<(String, IntegrityKey)>>,
}

impl Account {
    pub(super) fn new(username: String, password: String) -> Account {
        Account { username, password, key: RefCell::new(None) }
    }

    /// `MD5(username:realm:password)` (RFC 8489 §9.2.2)
    pub(super) fn key(&self, realm: &str) -> IntegrityKey {
        let mut known = self.key.borrow_mut();
        if let Some((of, key)) = &*known
            && of == realm
        {
            return key.clone();
        }
        let key = IntegrityKey::new(&Md5::digest(format!("{}:{realm}:{}", self.username, self.password)));
        *known = Some((realm.to_owned(), key.clone()));
        key
    }
}

/// Time-limited credentials outlast the longest run.
const LIFETIME: u64 = 3600;

/// The plan's users: time-limited ones from the secret, or the one with the password. Binding needs none, and forgeries
/// have a name that could be a user's.
pub(super) fn accounts(plan: &Plan) -> Result<Vec<Account>, BenchError> {
    let args = &plan.args;
    let user = args.user.as_deref().unwrap_or("bench");
    if args.mode == Mode::Forged {
        return Ok(vec![Account::new(format!("{}:{user}", expires()), "forged".to_owned())]);
    }
    let Some(secret) = &args.secret else {
        return Ok(vec![Account::new(user.to_owned(), args.password.clone().unwrap_or_default())]);
    };
    let secret = Secret::new(secret).map_err(|_| BenchError::Usage("the secret is empty".to_owned()))?;
    let mut credentials = Credentials::new("");
    credentials.add_secret(secret);
    let names = (0..args.users).map(|number| match args.users {
        1 => user.to_owned(),
        _ => format!("{user}-{number}"),
    });
    names
        .map(|name| match credentials.issue(Some(&name), expires()) {
            Ok(issued) => Ok(Account::new(issued.username, issued.password)),
            Err(_) => Err(BenchError::Usage("--user is empty or too long, or has control characters".to_owned())),
        })
        .collect()
}

/// When time-limited credentials end, in seconds since 1970.
fn expires() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs()) + LIFETIME
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_follows_the_realm() {
        let account = Account::new("user".to_owned(), "pass".to_owned());
        let signed = |key: IntegrityKey| {
            let mut out = Vec::new();
            crate::wire::Writer::success(&mut out, crate::wire::Method::BINDING, crate::wire::TransactionId([0; 12]))
                .integrity(&key, crate::wire::Algorithm::Sha1)
                .finish();
            out
        };
        // RFC 8489 §9.2.2's own example: MD5("user:realm:pass").
        let expected = [0x84, 0x93, 0xfb, 0xc5, 0x3b, 0xa5, 0x82, 0xfb, 0x4c, 0x04, 0x4c, 0x45, 0x6b, 0xdc, 0x40, 0xeb];
        assert_eq!(signed(account.key("realm")), signed(IntegrityKey::new(&expected)));
        assert_ne!(signed(account.key("other")), signed(IntegrityKey::new(&expected)));
        assert_eq!(signed(account.key("realm")), signed(IntegrityKey::new(&expected)));
    }
}
