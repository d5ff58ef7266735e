"""Starts Turnwell and the tools that speak to it, on free loopback ports, and stops what it started.

Everything waits for an event (a ready line, an echo, an exit) and gives up after a named time.
"""

import json
import os
import random
import secrets
import select
import signal
import socket
import subprocess
import tempfile
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
READY_WITHIN = 15.0
GONE_WITHIN = 5.0
ANSWER_WITHIN = 5.0

# Apart from each other and from the range that Linux gives to clients, so that nobody takes another's port.
RELAY_PORTS = "20000-29999"
PEER_PORTS = range(10000, 19998, 2)

MAGIC_COOKIE = bytes.fromhex("2112a442")
BINDING_REQUEST = bytes.fromhex("0001")
BINDING_SUCCESS = bytes.fromhex("0101")


class Turnwell:
    """A running `turnwell dev`, ready when the constructor returns, stopped when its `with` block ends."""

    def __init__(self, *flags, listen=("127.0.0.1:0",), relay=("127.0.0.1",), workers=1):
        command = [binary(), "dev", "--json", "--api", "127.0.0.1:0", "--workers", str(workers)]
        command += ["--relay-ports", RELAY_PORTS]
        command += [part for address in listen for part in ("--listen", address)]
        command += [part for address in relay for part in ("--relay-ip", address)]
        self._log = tempfile.TemporaryFile("w+")
        self._process = subprocess.Popen(
            [*command, *flags], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=self._log, text=True
        )
        try:
            ready = self._ready_line()
            self.addresses = [split_address(address) for address in ready["listen"]]
            self.streams = {name: [split_address(address) for address in ready[name]] for name in ("tcp", "tls")}
            self.certificate = ready["certificate"]
            self.api, self.api_key, self.secret = ready["api"], ready["api_key"], ready["secret"]
        except BaseException:
            self._process.kill()
            self._process.wait()
            raise

    def __enter__(self):
        return self

    def __exit__(self, failure, *_):
        self._process.send_signal(signal.SIGTERM)
        try:
            code = self._process.wait(GONE_WITHIN)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        self._process.stdout.close()
        log = self.log()
        self._log.close()
        if failure is None and code != 0:
            raise AssertionError(f"turnwell ended with {code}\n{log}")

    def address(self, family, transport="udp"):
        """Host and port of the first listener of this family."""
        addresses = self.streams.get(transport, self.addresses)
        return next(pair for pair in addresses if (":" in pair[0]) == (family == socket.AF_INET6))

    def mint(self, **request):
        """Asks for credentials as an application's back end does."""
        http = urllib.request.Request(
            f"{self.api}/v1/credentials",
            data=json.dumps(request).encode(),
            headers={"authorization": f"Bearer {self.api_key}", "content-type": "application/json"},
        )
        with urllib.request.urlopen(http, timeout=ANSWER_WITHIN) as answer:
            assert answer.status == 201, answer.status
            return json.load(answer)

    def assert_answers(self):
        """Every listener answers Binding requests, from enough ports that each worker gets some."""
        for host, port in self.addresses:
            for _ in range(16):
                assert_binding_answered(host, port)

    def log(self):
        self._log.seek(0)
        return "".join(self._log.readlines()[-100:])

    def _ready_line(self):
        readable, _, _ = select.select([self._process.stdout], [], [], READY_WITHIN)
        line = self._process.stdout.readline() if readable else ""
        if not line:
            raise AssertionError(f"turnwell was not ready within {READY_WITHIN} s\n{self.log()}")
        return json.loads(line)


class Peer:
    """A running `turnutils_peer`: it echoes on two neighbouring ports of one address."""

    def __init__(self, host):
        self.host = host
        for self.port in random.sample(PEER_PORTS, 20):
            if not all(is_free(host, port) for port in (self.port, self.port + 1)):
                continue
            self._process = subprocess.Popen(
                ["turnutils_peer", "-L", host, "-p", str(self.port)],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )
            if self._echoes():
                return
            self._stop()
        raise AssertionError("turnutils_peer found no free pair of ports")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._stop()

    def _echoes(self):
        deadline = time.monotonic() + READY_WITHIN
        with udp_socket(self.host) as probe:
            probe.settimeout(0.05)
            probe.connect((self.host, self.port))
            while self._process.poll() is None and time.monotonic() < deadline:
                try:
                    probe.send(b"ready?")
                    return probe.recv(16) == b"ready?"
                except (TimeoutError, ConnectionRefusedError):
                    continue
        return False

    def _stop(self):
        self._process.kill()
        self._process.wait()


@dataclass(frozen=True)
class Outcome:
    """How a client ended: `code` is None when its time was up."""

    code: int | None
    output: str


def run(*command, within):
    """Runs a client to its end, or to the end of its time."""
    process = subprocess.Popen(
        list(command), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        errors="replace",
    )
    try:
        output, _ = process.communicate(timeout=within)
        return Outcome(process.returncode, output)
    except subprocess.TimeoutExpired:
        process.kill()
        output, _ = process.communicate()
        return Outcome(None, output)


def assert_binding_answered(host, port):
    transaction = secrets.token_bytes(12)
    request = BINDING_REQUEST + bytes(2) + MAGIC_COOKIE + transaction
    deadline = time.monotonic() + ANSWER_WITHIN
    with udp_socket(host) as client:
        client.settimeout(0.5)
        client.connect((host, port))
        while time.monotonic() < deadline:
            try:
                client.send(request)
                answer = client.recv(2048)
            except TimeoutError:
                continue
            assert answer[:2] == BINDING_SUCCESS and answer[8:20] == transaction, answer.hex()
            return
    raise AssertionError(f"no answer to Binding from {host} port {port} within {ANSWER_WITHIN} s")


def has_ipv6():
    try:
        return is_free("::1", 0)
    except OSError:
        return False


def is_free(host, port):
    with udp_socket(host) as candidate:
        try:
            candidate.bind((host, port))
            return True
        except OSError:
            return False


def udp_socket(host):
    return socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)


def split_address(address):
    host, port = address.rsplit(":", 1)
    return host.strip("[]"), int(port)


def binary():
    """TURNWELL_BIN, or the newest of the repository's own builds."""
    if "TURNWELL_BIN" in os.environ:
        return os.environ["TURNWELL_BIN"]
    builds = [REPOSITORY / "target" / profile / "turnwell" for profile in ("release", "debug")]
    built = [path for path in builds if path.exists()]
    if not built:
        raise AssertionError("no turnwell binary: run `cargo build` or set TURNWELL_BIN")
    return str(max(built, key=lambda path: path.stat().st_mtime))
