//! The forms of a time-limited user name.

/// What a time-limited user name says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeLimited<'a> {
    /// When it ends, in seconds since the Unix epoch.
    pub expires: u64,
    /// The part that is not the time stamp; for a bare time stamp the whole name.
    pub user: &'a str,
}

/// Reads `ts`, `ts:user:with:colons` (the first colon splits) or `user:ts` (the last colon splits, when what stands
/// before the first one is not all digits). `None` for anything else.
pub fn parse_username(username: &str) -> Option<TimeLimited<'_>> {
    if let Some(expires) = timestamp(username) {
        return Some(TimeLimited { expires, user: username });
    }
    let (first, rest) = username.split_once(':')?;
    if let Some(expires) = timestamp(first) {
        return Some(TimeLimited { expires, user: rest });
    }
    let (user, last) = username.rsplit_once(':')?;
    timestamp(last).map(|expires| TimeLimited { expires, user })
}

/// Digits only: `str::parse` alone would take a sign.
fn timestamp(text: &str) -> Option<u64> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_three_forms() {
        let parse = |text| parse_username(text).map(|name| (name.expires, name.user));
        assert_eq!(parse("1700000000"), Some((1_700_000_000, "1700000000")));
        assert_eq!(parse("1700000000:alice"), Some((1_700_000_000, "alice")));
        assert_eq!(parse("1700000000:@u:example.org"), Some((1_700_000_000, "@u:example.org")));
        assert_eq!(parse("1700000000:42:43"), Some((1_700_000_000, "42:43")));
        assert_eq!(parse("alice:1700000000"), Some((1_700_000_000, "alice")));
        assert_eq!(parse("a:b:1700000000"), Some((1_700_000_000, "a:b")));
        assert_eq!(parse("1700000000:"), Some((1_700_000_000, "")));
    }

    #[test]
    fn other_names_are_not_time_limited() {
        for text in ["", "alice", ":", "alice:", "alice:bob", "+5:x", "x:-5", "99999999999999999999999"] {
            assert_eq!(parse_username(text), None, "{text}");
        }
    }
}
