"""coturn's NAT discovery clients against a server with two addresses and two ports (RFC 5780).

There is no NAT on loopback, so every verdict is known: endpoint-independent mapping and filtering.
"""

import random
import signal
import subprocess
import tempfile
import time
import unittest
from pathlib import Path

from harness import (
    BINDING_REQUEST, BINDING_SUCCESS, GONE_WITHIN, MAGIC_COOKIE, PEER_PORTS, READY_WITHIN, binary, is_free, run,
    udp_socket,
)

FIRST, SECOND = "127.0.0.1", "127.0.0.2"
WITHIN = 20
CONFIG = """
[listen]
udp = ["{first}:{port}"]
[relay]
ports = "20000-29999"
[discovery]
primary = ["{first}:{port}"]
alternate = ["{second}:{other}"]
[api]
listen = []
"""


class Discovering:
    """A running `turnwell serve` with discovery on two free neighbouring ports of two loopback addresses."""

    def __enter__(self):
        self._folder = tempfile.TemporaryDirectory()
        self.port = next(port for port in random.sample(PEER_PORTS, 100) if self._free(port))
        config = Path(self._folder.name) / "turnwell.toml"
        config.write_text(CONFIG.format(first=FIRST, second=SECOND, port=self.port, other=self.port + 1))
        self._log = tempfile.TemporaryFile("w+")
        self._process = subprocess.Popen(
            [binary(), "serve", "--config", str(config)], stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log,
        )
        self._wait_for_an_answer()
        return self

    def __exit__(self, *_):
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(GONE_WITHIN)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()
        self._folder.cleanup()

    def log(self):
        self._log.seek(0)
        return self._log.read()

    def _free(self, port):
        return all(is_free(host, each) for host in (FIRST, SECOND) for each in (port, port + 1))

    def _wait_for_an_answer(self):
        deadline = time.monotonic() + READY_WITHIN
        request = BINDING_REQUEST + bytes(2) + MAGIC_COOKIE + bytes(12)
        with udp_socket(FIRST) as client:
            client.settimeout(0.1)
            client.connect((FIRST, self.port))
            while self._process.poll() is None and time.monotonic() < deadline:
                try:
                    client.send(request)
                    if client.recv(2048)[:2] == BINDING_SUCCESS:
                        return
                except (TimeoutError, ConnectionRefusedError):
                    continue
        self._process.kill()
        self._process.wait()
        raise AssertionError(f"turnwell does not answer\n{self.log()}")


class Discovery(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = cls.enterClassContext(Discovering())

    def discover(self, *flags):
        outcome = run(
            "turnutils_natdiscovery", *flags, "-p", str(self.server.port), "-L", FIRST, FIRST, within=WITHIN
        )
        self.assertEqual(outcome.code, 0, outcome.output)
        return outcome.output

    def test_stunclient_is_answered_from_all_four(self):
        outcome = run("turnutils_stunclient", "-f", "-p", str(self.server.port), FIRST, within=WITHIN)
        self.assertEqual(outcome.code, 0, outcome.output)
        self.assertEqual(outcome.output.count("RFC 5780 response"), 3, outcome.output)
        self.assertIn(f"{SECOND}:{self.server.port + 1}", outcome.output)

    def test_mapping_and_filtering(self):
        for padding in ([], ["-P"]):
            with self.subTest(padding=padding):
                output = self.discover("-m", "-f", *padding)
                self.assertIn("NAT with Endpoint Independent Filtering!", output)
                self.assertRegex(output, r"No NAT|Endpoint Independent Mapping")

    def test_hairpinning_collision_and_mapping_lifetime(self):
        # The lifetime is found out by RESPONSE-PORT: the second answer arrives where nothing was sent from.
        rows = {
            ("-H",): "maybe a successful hairpinning",
            ("-c", "-A", SECOND): "RFC 5780 response 2",
            ("-t", "-T", "1"): "RFC 5780 response 2",
        }
        for flags, words in rows.items():
            with self.subTest(flags=flags):
                self.assertIn(words, self.discover(*flags))


if __name__ == "__main__":
    unittest.main()
