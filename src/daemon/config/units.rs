//! Values that the file writes as text: lengths of time, sizes, port ranges, addresses, secrets.
//!
//! Each type reads and writes its own text form, here and on the command line. The error of a text form is one line
//! saying what is wrong and, after [`REMEDY`], one saying what to write instead.

use std::fmt;
use std::marker::PhantomData;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use ipnet::IpNet;
use serde::de::{Deserialize, Deserializer, Error, Visitor};
use serde::ser::{Serialize, Serializer};
use zeroize::{Zeroize, ZeroizeOnDrop};

/// Separates what is wrong from the remedy in the error of a text form.
pub(super) const REMEDY: char = '\n';

/// A length of time: `"90s"`, `"10m"`, `"24h"`, `"7d"` or a sum such as `"1h30m"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Period(Duration);

impl Period {
    /// A period of whole seconds.
    pub const fn seconds(seconds: u64) -> Period {
        Period(Duration::from_secs(seconds))
    }

    /// The same length as the standard library's type.
    pub const fn duration(self) -> Duration {
        self.0
    }

    fn add_part(total: u64, digits: &str, unit: char) -> Option<u64> {
        let seconds = match unit {
            's' => 1,
            'm' => 60,
            'h' => 3600,
            'd' => 86_400,
            _ => return None,
        };
        total.checked_add(digits.parse::<u64>().ok()?.checked_mul(seconds)?)
    }
}

impl From<Duration> for Period {
    fn from(duration: Duration) -> Period {
        Period(duration)
    }
}

impl FromStr for Period {
    type Err = String;

    fn from_str(text: &str) -> Result<Period, String> {
        let mut total = Some(0);
        let mut rest = text;
        while let Some(end) = rest.find(|c: char| !c.is_ascii_digit()) {
            let unit = rest[end..].chars().next().unwrap_or(' ');
            total = total.and_then(|total| Period::add_part(total, &rest[..end], unit));
            rest = &rest[end + unit.len_utf8()..];
        }
        match total {
            Some(total) if rest.is_empty() && !text.is_empty() && total <= u64::from(u32::MAX) => {
                Ok(Period::seconds(total))
            }
            _ => Err(format!(
                "{text:?} is not a length of time{REMEDY}\
                write a number and a unit (s, m, h, d), for example \"90s\", \"10m\" or \"24h\""
            )),
        }
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        match seconds {
            s if s > 0 && s % 3600 == 0 => write!(f, "{}h", s / 3600),
            s if s > 0 && s % 60 == 0 => write!(f, "{}m", s / 60),
            s => write!(f, "{s}s"),
        }
    }
}

/// A number of bytes: `"512KiB"`, `"4MiB"`, `"1GiB"` or `"4096B"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size(u64);

impl Size {
    const UNITS: [(&'static str, u64); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

    /// A size of so many kibibytes.
    pub const fn kibibytes(count: u64) -> Size {
        Size(count << 10)
    }

    /// A size of so many mebibytes.
    pub const fn mebibytes(count: u64) -> Size {
        Size(count << 20)
    }

    /// The size in bytes.
    pub const fn bytes(self) -> u64 {
        self.0
    }
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Size, String> {
        Size::UNITS
            .iter()
            .find_map(|(unit, factor)| text.strip_suffix(unit)?.parse::<u64>().ok()?.checked_mul(*factor))
            .filter(|bytes| *bytes <= i32::MAX as u64)
            .map(Size)
            .ok_or_else(|| {
                format!(
                    "{text:?} is not a size up to 2GiB{REMEDY}\
                    write a number and a unit (B, KiB, MiB, GiB), for example \"4MiB\""
                )
            })
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, factor) =
            Size::UNITS.into_iter().find(|(_, factor)| self.0.is_multiple_of(*factor)).unwrap_or(("B", 1));
        write!(f, "{}{unit}", self.0 / factor)
    }
}

/// A number of bits in a second: `"64kbit"`, `"10Mbit"`, `"1Gbit"`; `"0"` where that is no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BitRate(u64);

impl BitRate {
    const UNITS: [(&'static str, u64); 4] = [("Gbit", 1_000_000_000), ("Mbit", 1_000_000), ("kbit", 1000), ("bit", 1)];
    const MOST: u64 = 1_000_000_000_000;

    /// A rate of so many millions of bits in a second.
    pub const fn megabits(count: u64) -> BitRate {
        BitRate(count * 1_000_000)
    }

    /// Bits in a second.
    pub const fn bits(self) -> u64 {
        self.0
    }
}

impl FromStr for BitRate {
    type Err = String;

    fn from_str(text: &str) -> Result<BitRate, String> {
        if text == "0" {
            return Ok(BitRate(0));
        }
        BitRate::UNITS
            .iter()
            .find_map(|(unit, factor)| text.strip_suffix(unit)?.parse::<u64>().ok()?.checked_mul(*factor))
            .filter(|bits| *bits <= BitRate::MOST)
            .map(BitRate)
            .ok_or_else(|| {
                format!(
                    "{text:?} is not a bit rate up to 1000Gbit{REMEDY}\
                    write a number and a unit (bit, kbit, Mbit, Gbit), for example \"10Mbit\", or \"0\" for no limit"
                )
            })
    }
}

impl fmt::Display for BitRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fits = |(_, factor): &(&str, u64)| self.0.is_multiple_of(*factor);
        match BitRate::UNITS.into_iter().find(fits) {
            Some((unit, factor)) if self.0 != 0 => write!(f, "{}{unit}", self.0 / factor),
            Some(_) | None => write!(f, "0"),
        }
    }
}

/// An inclusive range of ports: `"49152-65535"`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortRange(RangeInclusive<u16>);

impl PortRange {
    /// The dynamic ports that RFC 8656 §7.2 recommends for relayed addresses.
    pub const DYNAMIC: PortRange = PortRange(49_152..=65_535);

    /// All but the system ports (RFC 6335 §6).
    pub const UNPRIVILEGED: PortRange = PortRange(1024..=65_535);

    /// The range itself; never empty.
    pub fn range(&self) -> RangeInclusive<u16> {
        self.0.clone()
    }
}

impl FromStr for PortRange {
    type Err = String;

    fn from_str(text: &str) -> Result<PortRange, String> {
        let wrong = |what: &str| {
            format!("{text:?} {what}{REMEDY}write the lowest and the highest port, for example \"49152-65535\"")
        };
        let (low, high) = text.split_once('-').ok_or_else(|| wrong("is not a range of ports"))?;
        let port =
            |text: &str| text.trim().parse::<u16>().map_err(|_| wrong("is not a range of ports between 1 and 65535"));
        match (port(low)?, port(high)?) {
            (0, _) => Err(wrong("contains port 0, which cannot be used")),
            (low, high) if low > high => Err(wrong("is an empty range of ports")),
            (low, high) => Ok(PortRange(low..=high)),
        }
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.0.start(), self.0.end())
    }
}

/// Where to listen: `"0.0.0.0:3478"`, `"[::]:3478"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endpoint(pub SocketAddr);

impl FromStr for Endpoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Endpoint, String> {
        text.parse().map(Endpoint).map_err(|_| {
            format!(
                "{text:?} is not an IP address with a port{REMEDY}\
                write for example \"192.0.2.1:3478\", or \"[2001:db8::1]:3478\" with brackets for IPv6"
            )
        })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// An IP address without a port: `"192.0.2.1"`, `"2001:db8::1"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address(pub IpAddr);

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Address, String> {
        text.parse().map(Address).map_err(|_| {
            format!(
                "{text:?} is not an IP address{REMEDY}\
                write for example \"192.0.2.1\" or \"2001:db8::1\", without port, brackets or host name"
            )
        })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A range of addresses in CIDR form, or one address: `"10.0.0.0/8"`, `"2001:db8::1"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr(pub IpNet);

impl FromStr for Cidr {
    type Err = String;

    fn from_str(text: &str) -> Result<Cidr, String> {
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Cidr(IpNet::from(address)));
        }
        match text.parse::<IpNet>() {
            Ok(net) if net.trunc() == net => Ok(Cidr(net)),
            Ok(net) => Err(format!(
                "{text:?} has bits set beyond its prefix length{REMEDY}\
                write \"{}\" for the whole range or \"{}\" for the one address",
                net.trunc(),
                net.addr()
            )),
            Err(_) => Err(format!(
                "{text:?} is not a range of addresses{REMEDY}\
                write it in CIDR form, for example \"10.0.0.0/8\" or \"2001:db8::/32\""
            )),
        }
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A secret as text: shown by neither Debug nor serialization, wiped when dropped.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct SecretText(String);

impl SecretText {
    /// Keeps a text secret.
    pub fn new(text: String) -> SecretText {
        SecretText(text)
    }

    /// The secret itself, for whoever hashes or signs with it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl FromStr for SecretText {
    type Err = String;

    fn from_str(text: &str) -> Result<SecretText, String> {
        Ok(SecretText(text.to_owned()))
    }
}

impl fmt::Display for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretText")
    }
}

/// What a type wants to read, for serde's "invalid type: …, expected …".
trait TextForm: FromStr<Err = String> {
    const EXPECTED: &'static str;
}

impl TextForm for Period {
    const EXPECTED: &'static str = "a length of time in quotes, such as \"10m\" or \"24h\"";
}

impl TextForm for Size {
    const EXPECTED: &'static str = "a size in quotes, such as \"4MiB\"";
}

impl TextForm for BitRate {
    const EXPECTED: &'static str = "a bit rate in quotes, such as \"10Mbit\", or \"0\" for no limit";
}

impl TextForm for PortRange {
    const EXPECTED: &'static str = "a range of ports in quotes, such as \"49152-65535\"";
}

impl TextForm for Endpoint {
    const EXPECTED: &'static str = "an address with a port in quotes, such as \"0.0.0.0:3478\"";
}

impl TextForm for Address {
    const EXPECTED: &'static str = "an IP address in quotes, such as \"192.0.2.1\"";
}

impl TextForm for Cidr {
    const EXPECTED: &'static str = "a range of addresses in quotes, such as \"10.0.0.0/8\"";
}

impl TextForm for SecretText {
    const EXPECTED: &'static str = "a text in quotes";
}

struct TextVisitor<T>(PhantomData<T>);

impl<T: TextForm> Visitor<'_> for TextVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(T::EXPECTED)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }
}

/// Ties the text form of each type to serde: one definition serves file, command line and output.
macro_rules! serde_as_text {
    ($($name:ty),*) => {$(
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_str(TextVisitor(PhantomData))
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
    )*};
}

serde_as_text!(Period, Size, BitRate, PortRange, Endpoint, Address, Cidr, SecretText);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn periods_are_sums_of_numbers_with_units() {
        for (text, seconds) in [("90s", 90), ("10m", 600), ("24h", 86_400), ("7d", 604_800), ("1h30m", 5400), ("0s", 0)]
        {
            assert_eq!(text.parse(), Ok(Period::seconds(seconds)), "{text}");
        }
        for text in ["", "10", "m", "10 m", "-1s", "1w", "1.5h", "99999999999999999999s", "5000000000s", "1€"] {
            assert!(text.parse::<Period>().is_err(), "{text}");
        }
        for text in ["10m", "24h", "90s", "0s"] {
            assert_eq!(text.parse::<Period>().map(|period| period.to_string()).as_deref(), Ok(text));
        }
    }

    #[test]
    fn sizes_have_binary_units() {
        for (text, bytes) in [("4MiB", 4 << 20), ("512KiB", 512 << 10), ("1GiB", 1 << 30), ("100B", 100)] {
            assert_eq!(text.parse::<Size>().map(Size::bytes), Ok(bytes), "{text}");
            assert_eq!(text.parse::<Size>().map(|size| size.to_string()).as_deref(), Ok(text));
        }
        for text in ["", "4", "4MB", "MiB", "-1B", "4GiB"] {
            assert!(text.parse::<Size>().is_err(), "{text}");
        }
    }

    #[test]
    fn bit_rates_have_decimal_units_and_zero_has_none() {
        for (text, bits) in
            [("10Mbit", 10_000_000), ("64kbit", 64_000), ("1Gbit", 1_000_000_000), ("7bit", 7), ("0", 0)]
        {
            assert_eq!(text.parse::<BitRate>().map(BitRate::bits), Ok(bits), "{text}");
            assert_eq!(text.parse::<BitRate>().map(|rate| rate.to_string()).as_deref(), Ok(text));
        }
        for text in ["", "10", "Mbit", "10mbit", "10 Mbit", "1.5Mbit", "-1bit", "1001Gbit", "10MB"] {
            assert!(text.parse::<BitRate>().is_err(), "{text}");
        }
    }

    #[test]
    fn port_ranges_are_never_empty() {
        assert_eq!("49152-65535".parse(), Ok(PortRange::DYNAMIC));
        assert_eq!("5000-5000".parse::<PortRange>().map(|range| range.range()), Ok(5000..=5000));
        for text in ["", "5000", "600-500", "0-5", "1-65536", "a-b", "1-2-3"] {
            assert!(text.parse::<PortRange>().is_err(), "{text}");
        }
    }

    #[test]
    fn ranges_with_host_bits_name_both_readings() {
        let error = "10.1.2.3/8".parse::<Cidr>().unwrap_err();
        assert!(error.contains("\"10.0.0.0/8\"") && error.contains("\"10.1.2.3\""), "{error}");
        assert_eq!("10.1.2.3".parse::<Cidr>().map(|cidr| cidr.to_string()).as_deref(), Ok("10.1.2.3/32"));
        assert!("10.0.0.0/33".parse::<Cidr>().is_err());
        assert!("example.org".parse::<Cidr>().is_err());
    }

    #[test]
    fn secrets_print_nothing() {
        let secret = SecretText::new("hunter2".into());
        assert!(!format!("{secret:?}{secret}").contains("hunter2"));
        assert!(!serde_json::to_string(&secret).unwrap_or_default().contains("hunter2"));
    }
}
