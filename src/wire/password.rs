//! PASSWORD-ALGORITHMS and PASSWORD-ALGORITHM: how a password becomes a key (RFC 8489 §14.11, §14.12, §18.5).
//!
//! ```text
//! | algorithm (16 bits) | length of its parameters (16 bits) | parameters, padded … |
//! ```

use super::attribute::{Attribute, Malformed};
use super::{padding, read_u16};

/// Bytes of an entry without parameters, and neither known algorithm has any.
const ENTRY: usize = 4;

/// How a long-term key is derived.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PasswordAlgorithm {
    /// 0x0001: 16 bytes, the only one before RFC 8489 (§18.5.1.1).
    Md5,
    /// 0x0002: 32 bytes (§18.5.1.2).
    Sha256,
}

impl PasswordAlgorithm {
    /// The value of PASSWORD-ALGORITHM, which is also an entry of PASSWORD-ALGORITHMS.
    pub const fn value(self) -> [u8; ENTRY] {
        match self {
            PasswordAlgorithm::Md5 => [0, 1, 0, 0],
            PasswordAlgorithm::Sha256 => [0, 2, 0, 0],
        }
    }

    fn from_value(value: &[u8]) -> Option<PasswordAlgorithm> {
        let mut known = [PasswordAlgorithm::Md5, PasswordAlgorithm::Sha256].into_iter();
        known.find(|algorithm| algorithm.value() == value)
    }
}

impl<'a> Attribute<'a> {
    /// The value of PASSWORD-ALGORITHM; `Ok(None)` for an algorithm, or parameters, that this implementation does not
    /// know.
    pub fn password_algorithm(&self) -> Result<Option<PasswordAlgorithm>, Malformed> {
        let mut entries = self.password_algorithms();
        match (entries.next(), entries.next()) {
            (Some(Ok(only)), None) => Ok(only),
            _ => Err(Malformed),
        }
    }

    /// The entries of PASSWORD-ALGORITHMS in the order of the server's preference; `None` for those that this
    /// implementation does not know. After a malformed one it ends.
    pub fn password_algorithms(&self) -> impl Iterator<Item = Result<Option<PasswordAlgorithm>, Malformed>> + use<'a> {
        let mut rest = self.value;
        std::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            let parameters = read_u16(rest, 2).map(usize::from);
            let cut = parameters.and_then(|length| rest.split_at_checked(ENTRY + length));
            let Some((entry, after)) = cut else {
                rest = &[];
                return Some(Err(Malformed));
            };
            rest = after.get(padding(entry.len())..).unwrap_or_default();
            Some(Ok(PasswordAlgorithm::from_value(entry)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::AttributeType;

    fn attribute(value: &[u8]) -> Attribute<'_> {
        Attribute { kind: AttributeType::PASSWORD_ALGORITHMS, value, offset: 20 }
    }

    #[test]
    fn the_list_keeps_its_order_and_skips_parameters_of_the_unknown() {
        let found = |value| attribute(value).password_algorithms().collect::<Vec<_>>();
        let (md5, sha256) = (Ok(Some(PasswordAlgorithm::Md5)), Ok(Some(PasswordAlgorithm::Sha256)));
        assert_eq!(found(&[0, 2, 0, 0, 0, 1, 0, 0]), [sha256, md5]);
        assert_eq!(found(&[0, 9, 0, 5, 1, 2, 3, 4, 5, 0, 0, 0, 0, 1, 0, 0]), [Ok(None), md5]);
        assert_eq!(found(&[0, 1, 0, 4, 1, 2, 3, 4]), [Ok(None)], "MD5 has no parameters");
        assert_eq!(found(&[0, 1, 0, 0, 0, 2]), [md5, Err(Malformed)]);
        assert_eq!(found(&[0, 1, 0xff, 0xff, 0, 0]), [Err(Malformed)]);
        assert_eq!(found(&[]), []);
    }

    #[test]
    fn one_algorithm_is_one() {
        assert_eq!(attribute(&[0, 2, 0, 0]).password_algorithm(), Ok(Some(PasswordAlgorithm::Sha256)));
        assert_eq!(attribute(&[0, 7, 0, 0]).password_algorithm(), Ok(None));
        for value in [&[][..], &[0, 2], &[0, 2, 0, 4], &[0, 2, 0, 0, 0, 1, 0, 0]] {
            assert_eq!(attribute(value).password_algorithm(), Err(Malformed), "{value:?}");
        }
    }
}
