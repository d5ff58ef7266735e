//! Every special-purpose range, in every encoding of IPv4 in IPv6, by every way to name a peer.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::{IpNet, Ipv4Net};
use turnwell::relay::{Discard, Live, PeerClass, PeerPolicy, StreamId, TcpRelaying, Why};
use turnwell::wire::Method;

use crate::client::Client;
use crate::connecting::{ask_connect, tcp};
use crate::harness::{Outcome, RELAY_V4, World, config, live};

/// The IANA registry of IPv4 special-purpose addresses, multicast and class E, typed in from there.
const SPECIAL_V4: &[&str] = &[
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.0.2.0/24",
    "192.31.196.0/24",
    "192.52.193.0/24",
    "192.88.99.0/24",
    "192.168.0.0/16",
    "192.175.48.0/24",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "224.0.0.0/4",
    "240.0.0.0/4",
    "255.255.255.255/32",
];

/// The same of IPv6, with site-local and multicast.
const SPECIAL_V6: &[&str] = &[
    "::/128",
    "::1/128",
    "::ffff:0:0/96",
    "64:ff9b::/96",
    "64:ff9b:1::/48",
    "100::/64",
    "100:0:0:1::/64",
    "2001::/23",
    "2001::/32",
    "2001:1::1/128",
    "2001:2::/48",
    "2001:3::/32",
    "2001:4:112::/48",
    "2001:10::/28",
    "2001:20::/28",
    "2001:30::/28",
    "2001:db8::/32",
    "2002::/16",
    "2620:4f:8000::/48",
    "3fff::/20",
    "5f00::/16",
    "fc00::/7",
    "fe80::/10",
    "fec0::/10",
    "ff00::/8",
];

/// An address in every IPv6 clothing it may come in.
fn encodings(v4: Ipv4Addr) -> Vec<(&'static str, Ipv6Addr)> {
    let [a, b, c, d] = v4.octets().map(u16::from);
    let (high, low) = ((a << 8) | b, (c << 8) | d);
    [
        ("compatible", [0, 0, 0, 0, 0, 0, high, low]),
        ("mapped", [0, 0, 0, 0, 0, 0xffff, high, low]),
        ("translated", [0, 0, 0, 0, 0xffff, 0, high, low]),
        ("NAT64", [0x64, 0xff9b, 0, 0, 0, 0, high, low]),
        ("local NAT64 /48", [0x64, 0xff9b, 1, high, c, d << 8, 0, 0]),
        ("local NAT64 /56", [0x64, 0xff9b, 1, 0x0800 | a, b, low, 0, 0]),
        ("local NAT64 /64", [0x64, 0xff9b, 1, 0x0808, a, (b << 8) | c, d << 8, 0]),
        ("local NAT64 /96", [0x64, 0xff9b, 1, 0x0808, 0x0008, 0x0808, high, low]),
        ("6to4", [0x2002, high, low, 0, 0, 0, 0, 1]),
        ("Teredo client", [0x2001, 0, 0x0808, 0x0808, 0, 0, !high, !low]),
        ("Teredo server", [0x2001, 0, high, low, 0, 0, 0xf7f7, 0xf7f7]),
        ("ISATAP, private", [0x2a00, 1, 2, 3, 0, 0x5efe, high, low]),
        ("ISATAP, global", [0x2a00, 1, 2, 3, 0x0200, 0x5efe, high, low]),
    ]
    .map(|(name, segments)| (name, Ipv6Addr::from(segments)))
    .to_vec()
}

/// First, last and one in the middle that looks harmless in its last byte.
fn samples(net: &str) -> [IpAddr; 3] {
    let net: IpNet = net.parse().unwrap();
    let middle = match (net.network(), net.broadcast()) {
        (IpAddr::V4(first), IpAddr::V4(last)) => {
            IpAddr::V4(Ipv4Addr::from_bits((first.to_bits() + (last.to_bits() - first.to_bits()) / 2) & !0xff | 8))
        }
        (IpAddr::V6(first), IpAddr::V6(last)) => {
            IpAddr::V6(Ipv6Addr::from_bits(first.to_bits() + (last.to_bits() - first.to_bits()) / 2))
        }
        _ => unreachable!("a net has one family"),
    };
    [net.network(), net.broadcast(), middle]
}

struct Clients {
    world: World,
    v4: Client,
    v6: Client,
    /// On connections, with relayed addresses for connections.
    tcp_v4: Client,
    tcp_v6: Client,
}

impl Clients {
    fn new(live: Live) -> Clients {
        let tcp = TcpRelaying { enabled: true, peer_ports: vec![4444..=4444] };
        let mut world = World::with(config(), Live { tcp, ..live });
        let mut v4 = world.client(1000);
        world.allocate_ok(&mut v4);
        let mut v6 = world.client_of("alice", "[2a00::77]:1000");
        world.allocate_ok(&mut v6);
        let [tcp_v4, tcp_v6] = ["100.0.0.1:1001", "[2a00::77]:1001"].map(|address| connected(&mut world, address));
        Clients { world, v4, v6, tcp_v4, tcp_v6 }
    }

    /// Whether CreatePermission, ChannelBind, Send and Connect all refuse an address; they must agree.
    #[track_caller]
    fn refuses(&mut self, ip: IpAddr, what: &str) -> bool {
        let client = if ip.is_ipv4() { &mut self.v4 } else { &mut self.v6 };
        let peer = SocketAddr::new(ip, 4444).to_string();
        let codes = [self.world.permit(client, &[&peer]).code(), self.world.bind(client, 0x4000, &peer).code()];
        let sent = self.world.send(client, &peer, b"x");
        let on_connection = if ip.is_ipv4() { &mut self.tcp_v4 } else { &mut self.tcp_v6 };
        let is_refused = match ask_connect(&mut self.world, on_connection, &peer) {
            Outcome::Connect { connection, .. } => {
                self.world.relay.connection_lost(self.world.now, connection);
                self.world.drain_events();
                false
            }
            other => {
                assert_eq!(other.reply().code(), 403, "{ip} {what}");
                true
            }
        };
        assert_eq!(is_refused, codes == [403, 403], "{ip} {what}: Connect");
        match codes {
            [403, 403] => {
                assert_eq!(sent, Outcome::Discard(Discard::NoPermission), "{ip} {what}");
                true
            }
            [200, 200] => {
                assert!(matches!(sent, Outcome::ToPeer { .. }), "{ip} {what}: {sent:?}");
                let (client, world) = (client.clone(), &mut self.world);
                world.close(&client);
                let client = if ip.is_ipv4() { &mut self.v4 } else { &mut self.v6 };
                world.allocate_ok(client);
                false
            }
            codes => panic!("{ip} {what}: {codes:?}"),
        }
    }
}

/// A client on a connection that has a relayed address for connections.
fn connected(world: &mut World, address: &str) -> Client {
    let mut client = Client::new(address, "alice", "pw");
    client.at.stream = std::num::NonZeroU32::new(u32::from(client.at.client.is_ipv6()) + 1).map(StreamId);
    world.challenge(&mut client);
    assert_eq!(world.ask(&mut client, Method::ALLOCATE, tcp).code(), 200);
    client
}

/// Everything is allowed but the IPv4 ranges: what an operator gets who opens IPv6 and means it well.
fn all_v6_open() -> Live {
    let open =
        ["::/0", "::/3", "2000::/3", "2001::/23", "2001:db8::/32", "2002::/16", "2620:4f:8000::/48", "3fff::/20"];
    let open = open.iter().chain(&["4000::/2", "8000::/1", "64:ff9b::/96", "64:ff9b:1::/48", "2001::/32"]);
    Live { peers: PeerPolicy::new(&open.map(|net| net.parse().unwrap()).collect::<Vec<_>>(), &[]), ..live() }
}

#[test]
fn special_purpose_addresses_are_refused_by_every_method() {
    let mut clients = Clients::new(live());
    for net in SPECIAL_V4.iter().chain(SPECIAL_V6) {
        for ip in samples(net) {
            assert!(clients.refuses(ip, net), "{ip} of {net}");
        }
    }
}

#[test]
fn global_unicast_is_reached_up_to_the_edge_of_every_range() {
    let mut clients = Clients::new(live());
    let special: Vec<Ipv4Net> = SPECIAL_V4.iter().map(|net| net.parse().unwrap()).collect();
    for net in &special {
        let (before, after) = (net.network().to_bits().checked_sub(1), net.broadcast().to_bits().checked_add(1));
        for ip in [before, after].into_iter().flatten().map(Ipv4Addr::from_bits) {
            let denied = special.iter().any(|net| net.contains(&ip));
            assert_eq!(clients.refuses(IpAddr::V4(ip), "edge"), denied, "{ip} beside {net}");
        }
    }
    for text in
        ["2000::1", "2001:200::", "2001:db7:ffff::1", "2001:db9::", "2003::1", "2620:4f:7fff::1", "3ffe:ffff::1"]
    {
        assert!(!clients.refuses(text.parse().unwrap(), "edge"), "{text}");
    }
}

#[test]
fn no_encoding_of_ipv4_in_ipv6_gets_past_the_ipv4_ranges() {
    for live in [live(), all_v6_open()] {
        let mut clients = Clients::new(live);
        for net in SPECIAL_V4 {
            for ip in samples(net) {
                let IpAddr::V4(v4) = ip else { unreachable!("an IPv4 range") };
                for (name, v6) in encodings(v4) {
                    if v6 != Ipv6Addr::LOCALHOST {
                        assert!(clients.refuses(IpAddr::V6(v6), name), "{v6}: {v4} as {name}");
                    }
                }
            }
        }
    }
}

/// The table above would also pass if every encoding were refused whatever it carried.
#[test]
fn encodings_of_global_ipv4_are_reached_where_the_operator_opened_their_ranges() {
    let mut clients = Clients::new(all_v6_open());
    for (name, v6) in encodings(Ipv4Addr::new(8, 8, 8, 8)) {
        // The bytes that a /48 or /56 reader takes for zero padding are an address to a /96 reader.
        let reads_as_zero = name.ends_with("/48") || name.ends_with("/56");
        assert_eq!(clients.refuses(IpAddr::V6(v6), name), reads_as_zero, "{v6} as {name}");
    }
}

/// Clients ask for permissions with port 0, since a permission has no port; but nobody can be at it.
#[test]
fn port_0_is_no_peer() {
    let mut world = World::new();
    let (mut client, relay) = world.allocated(1000);
    let peer = "9.9.9.9:0";
    assert_eq!(world.permit(&mut client, &[peer]).code(), 200);
    assert_eq!(world.send(&client, peer, b"x"), Outcome::Discard(Discard::ForbiddenPeer));
    assert_eq!(world.peer_sends(relay, peer, b"x"), Outcome::Discard(Discard::ForbiddenPeer));
    assert_eq!(world.bind(&mut client, 0x4000, peer).code(), 403);
    assert!(matches!(world.send(&client, "9.9.9.9:1", b"x"), Outcome::ToPeer { .. }));
}

#[test]
fn what_is_forbidden_is_told_and_counted_by_kind() {
    let deny = ["8.8.0.0/16".parse().unwrap()];
    let mut world = World::with(config(), Live { peers: PeerPolicy::new(&[], &deny), ..live() });
    let (mut client, _) = world.allocated(1000);
    let own = format!("{RELAY_V4}:80");
    for (peer, class) in [
        ("127.0.0.1:1", PeerClass::Loopback),
        ("192.168.1.2:1", PeerClass::Private),
        ("169.254.169.254:80", PeerClass::LinkLocal),
        ("224.0.0.251:5353", PeerClass::Multicast),
        ("240.0.0.1:1", PeerClass::Special),
        ("8.8.8.8:53", PeerClass::Denied),
        ("192.0.2.1:3478", PeerClass::Own),
        (&own, PeerClass::Own),
        ("9.9.9.9:0", PeerClass::Port),
    ] {
        let before = world.relay.tally().peers_forbidden;
        assert_eq!(world.bind(&mut client, 0x4000, peer).code(), 403, "{peer}");
        assert_eq!(world.last_refusal(), Some(Why::ForbiddenPeer(class)), "{peer}");
        let mut expected = before;
        expected[class.index()] += 1;
        assert_eq!(world.relay.tally().peers_forbidden, expected, "{peer}");
    }
}

#[test]
fn an_operators_deny_holds_in_every_encoding() {
    let open = all_v6_open();
    let deny = ["8.8.0.0/16".parse().unwrap()];
    let everything: Vec<IpNet> =
        ["::/3", "2000::/3", "2001::/23", "2002::/16"].map(|net| net.parse().unwrap()).to_vec();
    let mut clients = Clients::new(Live { peers: PeerPolicy::new(&everything, &deny), ..open });
    for (name, v6) in encodings(Ipv4Addr::new(8, 8, 4, 4)) {
        assert!(clients.refuses(IpAddr::V6(v6), name), "{v6} as {name}");
    }
    assert!(clients.refuses("8.8.4.4".parse().unwrap(), "plain"));
    assert!(!clients.refuses("8.9.0.1".parse().unwrap(), "plain"));
}
