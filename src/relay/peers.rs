//! Which peer addresses may be reached: the operator's lists over the special-purpose ranges, which are denied.
//!
//! The most specific prefix decides; between equal ones the operator's entry beats the built-in one, and deny beats
//! allow. An IPv6 address that carries an IPv4 address is judged twice, as itself and as what it carries, and must
//! pass both (CVE-2020-26262, CVE-2026-27624 and CVE-2026-53450 were the same hole three times).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// The IANA special-purpose registries (RFC 6890 and successors), multicast and the ranges that are not global
/// unicast: every one denied unless the operator allows it.
const SPECIAL_PURPOSE: &[&str] = &[
    "0.0.0.0/8",         // this network
    "10.0.0.0/8",        // private use
    "100.64.0.0/10",     // carrier-grade NAT
    "127.0.0.0/8",       // loopback
    "169.254.0.0/16",    // link local, cloud metadata
    "172.16.0.0/12",     // private use
    "192.0.0.0/24",      // IETF protocol assignments
    "192.0.2.0/24",      // documentation
    "192.31.196.0/24",   // AS112
    "192.52.193.0/24",   // AMT
    "192.88.99.0/24",    // 6to4 relay anycast
    "192.168.0.0/16",    // private use
    "192.175.48.0/24",   // AS112
    "198.18.0.0/15",     // benchmarking
    "198.51.100.0/24",   // documentation
    "203.0.113.0/24",    // documentation
    "224.0.0.0/4",       // multicast
    "240.0.0.0/4",       // reserved, limited broadcast
    "::/3",              // unspecified, loopback, compatible, mapped, NAT64 and everything below global unicast
    "2001::/23",         // IETF protocol assignments, Teredo among them
    "2001:db8::/32",     // documentation
    "2002::/16",         // 6to4
    "2620:4f:8000::/48", // AS112
    "3fff::/20",         // documentation
    "4000::/2",          // unassigned, SRv6 SIDs (5f00::/16) among them
    "8000::/1",          // unassigned, ULA, link local, site local, multicast
];

/// Of what kind an address is that may not be reached; the label of a metric, so that there are few.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum PeerClass {
    /// This machine's own services.
    Loopback,
    /// A private network (RFC 1918, RFC 4193, site local) or one behind a carrier's NAT (RFC 6598): mostly a browser's
    /// candidate in its own LAN.
    Private,
    /// Link local, the metadata service of clouds (169.254.169.254) among them.
    LinkLocal,
    /// Multicast and limited broadcast.
    Multicast,
    /// Any other range that is not global unicast.
    Special,
    /// What the operator denies.
    Denied,
    /// An address of this server where no relayed transport address can be.
    Own,
    /// A port that may not be reached: 0, or one that TCP relaying leaves out.
    Port,
}

impl PeerClass {
    /// Every class, in the order of [`PeerClass::index`].
    pub const ALL: [PeerClass; 8] = [
        PeerClass::Loopback,
        PeerClass::Private,
        PeerClass::LinkLocal,
        PeerClass::Multicast,
        PeerClass::Special,
        PeerClass::Denied,
        PeerClass::Own,
        PeerClass::Port,
    ];

    /// A small number for tables of counters.
    pub fn index(self) -> usize {
        usize::from(self as u8)
    }

    /// The metric label.
    pub fn label(self) -> &'static str {
        match self {
            PeerClass::Loopback => "loopback",
            PeerClass::Private => "private",
            PeerClass::LinkLocal => "link_local",
            PeerClass::Multicast => "multicast",
            PeerClass::Special => "special",
            PeerClass::Denied => "denied",
            PeerClass::Own => "own",
            PeerClass::Port => "port",
        }
    }

    /// That of an address of the special-purpose ranges.
    fn of(ip: IpAddr) -> PeerClass {
        let (is_private, is_link_local, is_broadcast) = match ip {
            IpAddr::V4(v4) => {
                let is_shared = matches!(v4.octets(), [100, 64..=127, ..]);
                (v4.is_private() || is_shared, v4.is_link_local(), v4.is_broadcast())
            }
            IpAddr::V6(v6) => {
                let is_site_local = matches!(v6.segments(), [0xfec0..=0xfeff, ..]);
                (v6.is_unique_local() || is_site_local, v6.is_unicast_link_local(), false)
            }
        };
        if ip.is_loopback() {
            PeerClass::Loopback
        } else if is_private {
            PeerClass::Private
        } else if is_link_local {
            PeerClass::LinkLocal
        } else if ip.is_multicast() || is_broadcast {
            PeerClass::Multicast
        } else {
            PeerClass::Special
        }
    }
}

/// A list of ranges with verdicts, ready to be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerPolicy {
    v4: Vec<Span>,
    v6: Vec<Span>,
}

/// From `first` on, up to the next span, the verdict is this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span {
    first: u128,
    verdict: Verdict,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// By the special-purpose registries.
    Special,
    /// By the operator.
    Denied,
    /// Nobody says anything against it.
    Allowed,
    /// The operator says so.
    Named,
}

impl Verdict {
    fn allows(self) -> bool {
        match self {
            Verdict::Special | Verdict::Denied => false,
            Verdict::Allowed | Verdict::Named => true,
        }
    }
}

/// A prefix with a verdict; `rank` decides between prefixes of equal length.
#[derive(Clone, Copy)]
struct Rule {
    first: u128,
    last: u128,
    length: u8,
    rank: u8,
}

impl Rule {
    const BUILT_IN_DENY: u8 = 0;
    const ALLOW: u8 = 1;
    const DENY: u8 = 2;

    fn new(net: IpNet, rank: u8) -> Rule {
        let (first, last) = (bits(net.network()), bits(net.broadcast()));
        Rule { first, last, length: net.prefix_len(), rank }
    }

    fn verdict(self) -> Verdict {
        match self.rank {
            Rule::ALLOW => Verdict::Named,
            Rule::DENY => Verdict::Denied,
            _ => Verdict::Special,
        }
    }
}

impl Default for PeerPolicy {
    /// Global unicast only.
    fn default() -> PeerPolicy {
        PeerPolicy::new(&[], &[])
    }
}

impl PeerPolicy {
    /// The operator's lists over the built-in one.
    pub fn new(allow: &[IpNet], deny: &[IpNet]) -> PeerPolicy {
        let built_in = SPECIAL_PURPOSE.iter().filter_map(|text| text.parse().ok());
        let rules: Vec<(IpNet, u8)> = built_in
            .map(|net| (net, Rule::BUILT_IN_DENY))
            .chain(allow.iter().map(|net| (*net, Rule::ALLOW)))
            .chain(deny.iter().map(|net| (*net, Rule::DENY)))
            .collect();
        let family = |v4: bool| -> Vec<Rule> {
            let of_family = rules.iter().filter(|(net, _)| matches!(net, IpNet::V4(_)) == v4);
            of_family.map(|(net, rank)| Rule::new(*net, *rank)).collect()
        };
        PeerPolicy { v4: spans(&family(true)), v6: spans(&family(false)) }
    }

    /// Whether a packet may go to, or come from, this address.
    pub fn allows(&self, ip: IpAddr) -> bool {
        self.of(ip).allows() && embedded_v4(ip).all(|v4| self.of(IpAddr::V4(v4)).allows())
    }

    /// Of what kind an address is that is not allowed: by what it carries before what carries it, since that is whom a
    /// packet would reach.
    pub(super) fn class(&self, ip: IpAddr) -> PeerClass {
        let carried = embedded_v4(ip).map(IpAddr::V4).find(|v4| !self.of(*v4).allows());
        let denied = carried.unwrap_or(ip);
        match self.of(denied) {
            Verdict::Denied => PeerClass::Denied,
            Verdict::Special | Verdict::Allowed | Verdict::Named => PeerClass::of(denied),
        }
    }

    /// Whether an entry of the operator's own allows this address, not only the lack of one against it.
    pub fn names(&self, ip: IpAddr) -> bool {
        self.of(ip) == Verdict::Named && self.allows(ip)
    }

    /// What is said of an address itself, whatever it carries.
    fn of(&self, ip: IpAddr) -> Verdict {
        match ip {
            IpAddr::V4(v4) => verdict(&self.v4, u128::from(v4.to_bits())),
            IpAddr::V6(v6) => verdict(&self.v6, v6.to_bits()),
        }
    }
}

fn bits(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(v4) => u128::from(v4.to_bits()),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

/// Cuts the address space at every rule's edge and settles each piece once; what no rule covers is allowed.
fn spans(rules: &[Rule]) -> Vec<Span> {
    let mut edges: Vec<u128> =
        rules.iter().flat_map(|rule| [Some(rule.first), rule.last.checked_add(1)]).flatten().collect();
    edges.push(0);
    edges.sort_unstable();
    edges.dedup();
    let mut spans: Vec<Span> = Vec::new();
    for first in edges {
        let covering = rules.iter().filter(|rule| (rule.first..=rule.last).contains(&first));
        let best = covering.max_by_key(|rule| (rule.length, rule.rank));
        let verdict = best.map_or(Verdict::Allowed, |rule| rule.verdict());
        if spans.last().is_none_or(|span| span.verdict != verdict) {
            spans.push(Span { first, verdict });
        }
    }
    spans
}

fn verdict(spans: &[Span], address: u128) -> Verdict {
    let after = spans.partition_point(|span| span.first <= address);
    after.checked_sub(1).and_then(|at| spans.get(at)).map_or(Verdict::Special, |span| span.verdict)
}

/// The IPv4 addresses that an IPv6 address carries, in every encoding in use; none for an IPv4 address.
pub(super) fn embedded_v4(ip: IpAddr) -> impl Iterator<Item = Ipv4Addr> {
    let carried = match ip {
        IpAddr::V4(_) => [None; 4],
        IpAddr::V6(v6) => carried(v6),
    };
    carried.into_iter().flatten()
}

fn carried(v6: Ipv6Addr) -> [Option<Ipv4Addr>; 4] {
    let one = |high: u16, low: u16| [pair(high, low), None, None, None];
    match v6.segments() {
        // Loopback carries none, though its prefix is that of IPv4-compatible addresses.
        [0, 0, 0, 0, 0, 0, 0, 1] => [None; 4],
        // IPv4-compatible (RFC 4291 §2.5.5.1), mapped (§2.5.5.2), translated (RFC 2765 §2.1)
        [0, 0, 0, 0, 0, 0, high, low] | [0, 0, 0, 0, 0, 0xffff, high, low] | [0, 0, 0, 0, 0xffff, 0, high, low] => {
            one(high, low)
        }
        // NAT64, well-known prefix (RFC 6052 §2.1)
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => one(high, low),
        // NAT64, local prefix (RFC 8215): the address stands where the length of the network's own prefix puts it.
        [0x64, 0xff9b, 1, ..] => local_nat64(v6),
        // 6to4 (RFC 3056 §2)
        [0x2002, high, low, ..] => one(high, low),
        // Teredo (RFC 4380 §4): server, and the client's address with all bits inverted
        [0x2001, 0, high, low, _, _, c, d] => [pair(high, low), pair(!c, !d), None, None],
        // ISATAP (RFC 5214 §6.1)
        [_, _, _, _, 0 | 0x0200, 0x5efe, high, low] => one(high, low),
        _ => [None; 4],
    }
}

fn pair(high: u16, low: u16) -> Option<Ipv4Addr> {
    Some(Ipv4Addr::from_bits((u32::from(high) << 16) | u32::from(low)))
}

/// The four places for an IPv4 address behind a prefix of 48 bits or more, around the reserved byte (RFC 6052 §2.2).
///
/// ```text
/// byte      6   7   8   9  10  11  12  13  14  15
/// /48       a   b   -   c   d
/// /56           a   -   b   c   d
/// /64               -   a   b   c   d
/// /96                           a   b   c   d
/// ```
fn local_nat64(v6: Ipv6Addr) -> [Option<Ipv4Addr>; 4] {
    let [_, _, _, _, _, _, b6, b7, _, b9, b10, b11, b12, b13, b14, b15] = v6.octets();
    [
        Some(Ipv4Addr::new(b6, b7, b9, b10)),
        Some(Ipv4Addr::new(b7, b9, b10, b11)),
        Some(Ipv4Addr::new(b9, b10, b11, b12)),
        Some(Ipv4Addr::new(b12, b13, b14, b15)),
    ]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn nets(texts: &[&str]) -> Vec<IpNet> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    /// A v4 address in every encoding there is.
    fn encodings(v4: Ipv4Addr) -> Vec<IpAddr> {
        let [a, b, c, d] = v4.octets();
        let (high, low) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
        [
            [0, 0, 0, 0, 0, 0, high, low],
            [0, 0, 0, 0, 0, 0xffff, high, low],
            [0, 0, 0, 0, 0xffff, 0, high, low],
            [0x64, 0xff9b, 0, 0, 0, 0, high, low],
            [0x64, 0xff9b, 1, 0, 0, 0, high, low],
            [0x64, 0xff9b, 1, high, u16::from(c), u16::from(d) << 8, 0, 0],
            [0x2002, high, low, 0, 0, 0, 0, 1],
            [0x2001, 0, 0x0808, 0x0808, 0, 0, !high, !low],
            [0x2001, 0, high, low, 0, 0, 0xf7f7, 0xf7f7],
            [0x2600, 0, 0, 0, 0, 0x5efe, high, low],
        ]
        .into_iter()
        .map(|segments| IpAddr::V6(Ipv6Addr::from(segments)))
        .chain([IpAddr::V4(v4)])
        .collect()
    }

    #[test]
    fn special_purpose_is_denied_and_global_unicast_allowed() {
        let policy = PeerPolicy::default();
        for text in SPECIAL_PURPOSE {
            let net: IpNet = text.parse().unwrap();
            assert!(!policy.allows(net.network()), "{text}");
            assert!(!policy.allows(net.broadcast()), "{text}");
        }
        for text in
            ["1.1.1.1", "8.8.8.8", "9.255.255.255", "11.0.0.0", "172.32.0.1", "223.255.255.255", "2606::1", "2a00::1"]
        {
            assert!(policy.allows(ip(text)), "{text}");
        }
        for text in ["::", "::1", "fe80::1", "fc00::1", "fec0::1", "ff02::1", "255.255.255.255", "169.254.169.254"] {
            assert!(!policy.allows(ip(text)), "{text}");
        }
    }

    #[test]
    fn no_encoding_passes_a_denied_v4_even_when_its_v6_range_is_allowed() {
        let open =
            PeerPolicy::new(&nets(&["::/0", "::/3", "2000::/3", "2001::/23", "2002::/16"]), &nets(&["9.9.9.9/32"]));
        for net in SPECIAL_PURPOSE.iter().filter_map(|text| text.parse::<ipnet::Ipv4Net>().ok()) {
            for v4 in [net.network(), net.broadcast()] {
                assert!(encodings(v4).into_iter().all(|ip| !open.allows(ip)), "{v4}");
            }
        }
        for ip in encodings(Ipv4Addr::new(9, 9, 9, 9)) {
            assert!(!open.allows(ip), "{ip}");
        }
        for ip in encodings(Ipv4Addr::new(8, 8, 8, 8)) {
            // The /48 form of NAT64 leaves zero bytes where the /96 form has its address.
            let reads_as_zero = matches!(ip, IpAddr::V6(v6) if v6.segments()[1] == 0xff9b && v6.segments()[2] == 1);
            assert_eq!(open.allows(ip), !reads_as_zero, "{ip}");
        }
    }

    #[test]
    fn most_specific_wins_then_operator_then_deny() {
        let policy = PeerPolicy::new(
            &nets(&["10.1.0.0/16", "10.0.0.0/8", "1.0.0.0/24", "fd00::/8"]),
            &nets(&["10.1.2.0/24", "1.0.0.0/24", "8.0.0.0/8"]),
        );
        assert!(policy.allows(ip("10.1.0.1")));
        assert!(policy.allows(ip("10.200.0.1")), "an equal prefix of the operator beats the built-in one");
        assert!(!policy.allows(ip("10.1.2.3")));
        assert!(!policy.allows(ip("1.0.0.7")), "deny beats allow");
        assert!(!policy.allows(ip("8.8.8.8")));
        assert!(policy.allows(ip("fd12::1")));
        let loopback = PeerPolicy::new(&nets(&["::1/128"]), &[]);
        assert!(loopback.allows(ip("::1")) && !loopback.allows(ip("::")) && !loopback.allows(ip("::7f00:1")));
        assert!(!policy.allows(ip("fc12::1")));
    }

    #[test]
    fn what_is_denied_is_told_apart_by_kind() {
        let policy = PeerPolicy::new(&nets(&["fd00::/8", "::/0"]), &nets(&["8.8.8.0/24", "10.9.0.0/16"]));
        for (text, class) in [
            ("127.0.0.1", PeerClass::Loopback),
            ("::1", PeerClass::Loopback),
            ("::ffff:127.0.0.1", PeerClass::Loopback),
            ("64:ff9b::7f00:1", PeerClass::Loopback),
            ("10.1.2.3", PeerClass::Private),
            ("172.31.0.1", PeerClass::Private),
            ("192.168.0.1", PeerClass::Private),
            ("100.64.0.1", PeerClass::Private),
            ("100.127.255.255", PeerClass::Private),
            ("fc00::1", PeerClass::Private),
            ("fec0::1", PeerClass::Private),
            ("2002:a01:203::1", PeerClass::Private),
            ("169.254.169.254", PeerClass::LinkLocal),
            ("fe80::1", PeerClass::LinkLocal),
            ("224.0.0.251", PeerClass::Multicast),
            ("255.255.255.255", PeerClass::Multicast),
            ("ff02::fb", PeerClass::Multicast),
            ("0.0.0.0", PeerClass::Special),
            ("240.0.0.1", PeerClass::Special),
            ("2001:db8::1", PeerClass::Special),
            ("8.8.8.8", PeerClass::Denied),
            ("10.9.0.1", PeerClass::Denied),
            ("2002:808:808::1", PeerClass::Denied),
        ] {
            assert!(!policy.allows(ip(text)), "{text}");
            assert_eq!(policy.class(ip(text)), class, "{text}");
        }
        let labels: std::collections::BTreeSet<_> = PeerClass::ALL.map(PeerClass::label).into();
        assert_eq!(labels.len(), PeerClass::ALL.len());
        assert!(PeerClass::ALL.iter().enumerate().all(|(at, class)| class.index() == at));
    }

    proptest! {
        /// The cut-up table says what comparing against every rule says.
        #[test]
        fn table_equals_comparison(
            allow in prop::collection::vec((any::<u32>(), 0u8..=32), 0..6),
            deny in prop::collection::vec((any::<u32>(), 0u8..=32), 0..6),
            probes in prop::collection::vec(any::<u32>(), 50),
        ) {
            let net = |(bits, length): &(u32, u8)| {
                IpNet::V4(ipnet::Ipv4Net::new(Ipv4Addr::from_bits(*bits), *length).unwrap().trunc())
            };
            let (allow, deny): (Vec<_>, Vec<_>) = (allow.iter().map(net).collect(), deny.iter().map(net).collect());
            let policy = PeerPolicy::new(&allow, &deny);
            let built_in = nets(SPECIAL_PURPOSE);
            let edges = allow.iter().chain(&deny).flat_map(|net| [net.network(), net.broadcast()]);
            for ip in probes.iter().map(|bits| IpAddr::V4(Ipv4Addr::from_bits(*bits))).chain(edges) {
                let best = |list: &[IpNet]| list.iter().filter(|n| n.contains(&ip)).map(|n| i16::from(n.prefix_len())).max().unwrap_or(-1);
                let (a, d, b) = (best(&allow), best(&deny), best(&built_in));
                let expected = if d >= a && d >= b && d >= 0 { false } else if a >= b && a >= 0 { true } else { b < 0 };
                prop_assert_eq!(policy.allows(ip), expected, "{}", ip);
            }
        }
    }
}
