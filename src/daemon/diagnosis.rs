//! Says in words why credentials are refused. What a client can cause in numbers is limited: a line for each cause, at
//! once and then every ten minutes with what came in between. The workers send samples, so the numbers are no totals.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use tracing::{info, warn};

use crate::credentials::{Cause, Credentials, Evidence};

/// How long a cause stays silent after a line about it.
const PAUSE: Duration = Duration::from_secs(600);

/// What has been said about which cause.
#[derive(Debug, Default)]
pub(super) struct Diagnosis {
    seen: BTreeMap<Cause, Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    /// None: never yet.
    said: Option<Instant>,
    /// Samples since then.
    samples: u64,
}

impl Diagnosis {
    /// Takes samples and logs what is due.
    pub(super) fn look(&mut self, now: Instant, samples: &[Evidence], credentials: &Credentials) {
        for (cause, samples) in self.due(now, samples, credentials) {
            match cause {
                // what may be a stranger, or a page that stayed open for days
                Cause::Expired | Cause::NoSuchUser | Cause::WrongPassword | Cause::OtherSecret => {
                    info!(samples, "credentials are refused: {}", words(cause));
                }
                Cause::Milliseconds => warn!(samples, "credentials never expire: {}", words(cause)),
                _ => warn!(samples, "credentials are refused: {}", words(cause)),
            }
        }
    }

    fn due(&mut self, now: Instant, samples: &[Evidence], credentials: &Credentials) -> Vec<(Cause, u64)> {
        for sample in samples {
            self.seen.entry(credentials.diagnose(sample)).or_default().samples += 1;
        }
        let mut due = Vec::new();
        for (cause, seen) in &mut self.seen {
            let is_silent = seen.said.is_some_and(|said| now.duration_since(said) < PAUSE);
            if seen.samples > 0 && !is_silent {
                due.push((*cause, std::mem::take(&mut seen.samples)));
                seen.said = Some(now);
            }
        }
        due
    }
}

/// The cause and what to do about it.
fn words(cause: Cause) -> &'static str {
    match cause {
        Cause::SecretNewline => {
            "the app signs with the secret and a newline behind it; strip it where the app reads the secret"
        }
        Cause::SecretSpace => {
            "this server's secret has white space around it that the app's lacks; see credentials.secrets"
        }
        Cause::SecretBase64 => "the app decodes the secret from base64 before it signs; it must take the text as it is",
        Cause::SecretHex => {
            "the app decodes the secret from hexadecimal digits before it signs; it must take the text as it is"
        }
        Cause::HmacSha256 => "the app signs with HMAC-SHA256; the password is base64(HMAC-SHA1(secret, username))",
        Cause::UnpaddedBase64 => "the password lacks the `=` at its end; the app must encode it in padded base64",
        Cause::UrlBase64 => "the password is in URL-safe base64; the app must use the ordinary alphabet, padded",
        Cause::HexPassword => "the password is in hexadecimal digits; the app must encode it in base64",
        Cause::PercentEncoded => {
            "the password was changed by URL encoding on its way to the client (+ / = or %2B %2F %3D)"
        }
        Cause::PartOfUsername => {
            "the app signs a part of the user name; it must sign the whole of it, time stamp included"
        }
        Cause::TimeOfIssue => {
            "time stamps are over within seconds; they must say when the credential ends, not when it was made"
        }
        Cause::Milliseconds => "time stamps count milliseconds; they must count seconds since 1970",
        Cause::Expired => {
            "they are right but too old; if they are new, compare the clocks of this server and of the app"
        }
        Cause::NoTimeStamp => {
            "user names have no time stamp (`1700000000:alice`) and are not those of credentials.users"
        }
        Cause::NoSuchUser => "user names are not those of credentials.users, and there is no shared secret",
        Cause::WrongPassword => {
            "the password of a static user is wrong; a key in credentials.users must be of this realm"
        }
        Cause::OtherSecret => "they were signed with another secret, or in a way that is not recognised",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credentials::{AuthFailure, Secret, Symptom};
    use crate::wire::PasswordAlgorithm;

    fn sample(symptom: Symptom) -> Evidence {
        let (username, algorithm) = ("1700003600000:alice".into(), PasswordAlgorithm::Md5);
        Evidence { symptom, username, algorithm, message: Box::default() }
    }

    #[test]
    fn a_cause_is_told_at_once_and_then_with_what_came_in_the_pause() {
        let mut credentials = Credentials::new("example.org");
        credentials.add_secret(Secret::new("s").unwrap());
        let (mut diagnosis, start) = (Diagnosis::default(), Instant::now());
        let mut due =
            |after: u64, samples: &[Evidence]| diagnosis.due(start + Duration::from_secs(after), samples, &credentials);
        let far = sample(Symptom::NeverExpires);
        let old = sample(Symptom::Refused(AuthFailure::Expired { ago: 900 }));
        assert_eq!(due(0, &[]), []);
        assert_eq!(due(0, &[far.clone(), far.clone()]), [(Cause::Milliseconds, 2)]);
        assert_eq!(due(1, &[far.clone(), old, far.clone()]), [(Cause::Expired, 1)]);
        assert_eq!(due(599, &[]), []);
        assert_eq!(due(600, &[far]), [(Cause::Milliseconds, 3)]);
        assert_eq!(due(9999, &[]), [], "nothing new, nothing said");
    }
}
