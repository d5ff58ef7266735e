"""coturn's own clients against Turnwell over UDP, TCP and TLS, relaying datagrams and connections: everything comes
back, and abuse is refused.

The rows are those of coturn's test scripts that need no other transport. Each runs on one worker, on two and on four.
"""

import re
import socket
import unittest
from dataclasses import dataclass

from harness import Peer, Turnwell, has_ipv6, run
from uclient import MESSAGE_BYTES, MESSAGES, WITHIN, side_by_side, uclient

SECRET = "interop-secret"
# uclient that damages its own requests waits for ever for some of the answers.
MAY_NOT_END = 12.0


@dataclass(frozen=True)
class Relay:
    """A run in which every byte must come back. `clients` is how many relayed clients uclient makes of it."""

    name: str
    flags: str
    clients: int
    peer: str | None = "127.0.0.1"
    family: int = socket.AF_INET
    messages: int = MESSAGES
    size: int = MESSAGE_BYTES
    transport: str = "udp"


# -c: no RTCP companion (it still asks for an even port half of the time); without it, EVEN-PORT reserves the
# next port and RESERVATION-TOKEN takes it. -X/-x: IPv4/IPv6 relay, -g: DONT-FRAGMENT, -s: Send indications
# instead of channels, -y: relay to relay, -G: extra permissions and channels towards odd peers.
RELAYS = [
    Relay("channels", "-c -X", clients=1),
    Relay("channels, no address family named", "-c", clients=1),
    Relay("channels, RTCP pair", "-X -g", clients=2),
    Relay("channels, extra requests", "-c -X -G", clients=1),
    Relay("channels, extra requests, RTCP pair", "-X -G", clients=2),
    Relay("channels, small messages", "-c -X", clients=1, size=16),
    Relay("channels, large messages", "-c -X", clients=1, size=1300),
    Relay("channels, twenty clients", "-c -X -m 20", clients=20, messages=100),
    Relay("indications", "-c -X -s", clients=1),
    Relay("indications, RTCP pair", "-X -g -s", clients=2),
    Relay("indications, extra requests", "-c -X -G -s", clients=1),
    Relay("relay to relay", "-y -c", clients=2, peer=None),
    Relay("relay to relay, RTCP pairs", "-y", clients=4, peer=None),
    Relay("relay to relay, indications", "-y -s", clients=4, peer=None),
    Relay("relay to relay, ten clients", "-y -c -m 10", clients=10, peer=None, messages=100),
    Relay("IPv6 channels", "-c -x", clients=1, peer="::1", family=socket.AF_INET6),
    Relay("IPv6 indications", "-x -s", clients=2, peer="::1", family=socket.AF_INET6),
    Relay("IPv6 relay to relay", "-x -y", clients=4, peer=None, family=socket.AF_INET6),
    Relay("IPv6 client, IPv4 relay", "-c -X", clients=1, family=socket.AF_INET6),
    Relay("IPv4 client, IPv6 relay", "-c -x", clients=1, peer="::1"),
    *(
        Relay(f"{transport.upper()} {name}", f"{flags} {options}", transport=transport, **how)
        # -t: TCP, -S: TLS over it. Over TLS uclient loses what it reads late, so it sends every 80 ms.
        for transport, options in (("tcp", "-t"), ("tls", "-t -S -z 80"))
        for name, flags, how in (
            ("channels", "-c -X", {"clients": 1}),
            ("channels, RTCP pair", "-X -g", {"clients": 2}),
            ("channels, odd sizes", "-c -X", {"clients": 1, "size": 171}),
            ("channels, large messages", "-c -X", {"clients": 1, "size": 1300}),
            ("indications, odd sizes", "-c -X -s", {"clients": 1, "size": 171}),
            ("relay to relay", "-y -c", {"clients": 2, "peer": None}),
            ("twenty clients", "-c -X -m 20", {"clients": 20, "messages": 50}),
            ("IPv6 channels", "-c -x", {"clients": 1, "peer": "::1", "family": socket.AF_INET6}),
            ("IPv4 client, IPv6 relay", "-c -x", {"clients": 1, "peer": "::1"}),
        )
    ),
    Relay("TCP padded channels", "-c -X -D -t", clients=1, size=171, transport="tcp"),
    # -T: TCP relaying (RFC 6062) between the relayed addresses of its own clients.
    *(
        Relay(f"{transport.upper()} {name}", f"{flags} {options}", transport=transport, peer=None, **how)
        for transport, options in (("tcp", ""), ("tls", "-S -z 80"))
        for name, flags, how in (
            ("connections", "-T", {"clients": 2}),
            ("connections, odd sizes", "-T", {"clients": 2, "size": 171}),
            ("IPv6 connections", "-T -x", {"clients": 2, "family": socket.AF_INET6}),
            ("IPv4 client, IPv6 connections", "-T -x", {"clients": 2}),
        )
    ),
    # Not over TLS, where uclient loses the ConnectionAttempts that it reads late.
    Relay("TCP connections, ten clients", "-T -m 10", clients=10, peer=None, messages=50, transport="tcp"),
]
# Not among them: -Z, both families at once, which uclient before coturn 4.7 asks for by a number that is not the RFC's.


class Uclient:
    """The tests; the classes below say on how many workers."""

    workers: int

    @classmethod
    def setUpClass(cls):
        cls.ipv6 = has_ipv6()
        hosts = ["127.0.0.1", "::1"] if cls.ipv6 else ["127.0.0.1"]
        listen = [f"[{host}]:0" if ":" in host else f"{host}:0" for host in hosts]
        cls.server = cls.enterClassContext(
            Turnwell("--secret", SECRET, listen=listen, relay=hosts, workers=cls.workers)
        )
        cls.peers = {host: cls.enterClassContext(Peer(host)) for host in hosts}

    def test_binding_tells_the_reflexive_address(self):
        for host, port in self.server.addresses:
            with self.subTest(host):
                outcome = run("turnutils_stunclient", "-p", str(port), host, within=10)
                self.assertRegex(outcome.output, rf"UDP reflexive addr: \[?{re.escape(host)}\]?:\d+")

    def test_every_byte_comes_back(self):
        for relay, verdict in side_by_side(self.relay, [relay for relay in RELAYS if self.possible(relay)]):
            with self.subTest(relay.name):
                expected = relay.clients * relay.messages * relay.size
                self.assertEqual(
                    (verdict.code, verdict.sent, verdict.received, verdict.lost), (0, expected, expected, 0),
                    f"uclient {relay.flags}\n{verdict.output}\nturnwell's log:\n{self.server.log()}",
                )
        if not self.ipv6:
            self.skipTest("no IPv6 on this machine: its rows did not run")

    def test_peers_connect_to_relayed_addresses(self):
        """-P: its peers begin the connections, and send back half of what they get, by design."""
        verdict = uclient(
            self.server.address(socket.AF_INET, "tcp"), "-P", "-L", "127.0.0.1", "-u", "interop", "-W", SECRET
        )
        self.assertEqual(verdict.code, 0, verdict.output)
        self.assertGreaterEqual(2 * verdict.received, verdict.sent, verdict.output)
        self.assertEqual(verdict.sent, 2 * MESSAGES * MESSAGE_BYTES)

    def test_wrong_secret_is_refused(self):
        verdict = self.refused("-c", "-X", "-W", "not-the-secret")
        self.assertIn("Cannot complete Allocation", verdict.output)

    def test_peer_bound_to_another_channel_is_refused(self):
        verdict = self.refused("-c", "-X", "-N", "-W", SECRET)
        self.assertIn("channel bind: error 400", verdict.output)

    def test_flipped_bits_do_no_harm(self):
        runs = ["-R -X", "-R -X -s", "-R -c -X", "-R -c -X -s", "-R -y", "-R -c -y"]
        side_by_side(lambda flags: self.against_peer(*flags.split(), "-W", SECRET, within=MAY_NOT_END), runs)
        self.server.assert_answers()

    def test_clients_that_vanish_do_no_harm(self):
        runs = ["-O -G -X -g -m 12", "-O -c -X -m 12"] * 12
        side_by_side(lambda flags: self.against_peer(*flags.split(), "-W", SECRET, within=MAY_NOT_END), runs)
        for transport, flags, times in (
            ("tcp", "-O -c -X -t -m 12", 6), ("tls", "-O -c -X -t -S -m 12", 6), ("tcp", "-O -T -m 12", 2),
        ):
            def vanish(flags, transport=transport):
                return self.against_peer(*flags.split(), "-W", SECRET, within=MAY_NOT_END, transport=transport)
            side_by_side(vanish, [flags] * times)
        self.server.assert_answers()

    def possible(self, relay):
        return self.ipv6 or not (relay.family == socket.AF_INET6 or relay.peer == "::1" or "-x" in relay.flags.split())

    def relay(self, relay):
        towards = ["-e", relay.peer, "-r", str(self.peers[relay.peer].port)] if relay.peer else []
        return uclient(
            self.server.address(relay.family, relay.transport), *relay.flags.split(), *towards, "-u", "interop", "-W", SECRET,
            messages=relay.messages, size=relay.size,
        )

    def against_peer(self, *flags, within=WITHIN, transport="udp"):
        peer = self.peers["127.0.0.1"]
        return uclient(
            self.server.address(socket.AF_INET, transport), *flags, "-e", peer.host, "-r", str(peer.port), "-u", "interop",
            within=within,
        )

    def refused(self, *flags):
        verdict = self.against_peer(*flags)
        self.assertEqual((verdict.code, verdict.received), (255, None), verdict.output)
        self.server.assert_answers()
        return verdict


class OneWorker(Uclient, unittest.TestCase):
    workers = 1


class TwoWorkers(Uclient, unittest.TestCase):
    workers = 2


class FourWorkers(Uclient, unittest.TestCase):
    workers = 4
