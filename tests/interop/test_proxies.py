"""HAProxy and nginx in front, configured as docs/proxies.md says: clients keep their address, untrusted headers are refused.

HAProxy sends either version of the PROXY protocol, nginx version 1 only, as Debian's does to every upstream of a stream.
"""

import re
import secrets
import socket
import ssl
import subprocess
import tempfile
import time
import unittest
import urllib.request
from contextlib import contextmanager
from pathlib import Path

from harness import ANSWER_WITHIN, BINDING_REQUEST, BINDING_SUCCESS, MAGIC_COOKIE, READY_WITHIN, REPOSITORY, Turnwell

NAME = "turn.example.org"
NGINX_PREAMBLE = """
load_module /usr/lib/nginx/modules/ngx_stream_module.so;
daemon off; master_process off; pid {folder}/nginx.pid; error_log stderr;
events {{ }}
"""
HAPROXY, NGINX = "haproxy", "nginx"
# How a configuration listens, how it does here, what runs it, and what stands before it.
PROXIES = {
    HAPROXY: ("bind :443", "bind 127.0.0.1:{}", ["haproxy", "-db", "-f"], ""),
    NGINX: ("listen 443", "listen 127.0.0.1:{}", ["nginx", "-e", "stderr", "-c"], NGINX_PREAMBLE),
}


class Proxies(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        folder = cls.enterClassContext(tempfile.TemporaryDirectory())
        cls.folder = Path(folder)
        config = cls.folder / "turnwell.toml"
        config.write_text(f'[server]\npublic-host = "{NAME}"\n[streams]\nproxies = ["127.0.0.1"]\n')
        cls.server = cls.enterClassContext(Turnwell("--config", str(config)))
        cls.plain = cls.enterClassContext(Turnwell())

    def test_haproxy_with_version_2(self):
        self.assert_clients_keep_their_address(HAPROXY, str)

    def test_haproxy_with_version_1(self):
        self.assert_clients_keep_their_address(HAPROXY, version_1)

    def test_nginx_with_version_1(self):
        self.assert_clients_keep_their_address(NGINX, str)

    def test_each_sends_the_version_that_is_meant(self):
        v1 = re.compile(rb"PROXY TCP4 127\.0\.0\.2 127\.0\.0\.1 \d+ \d+\r\n")
        v2 = re.compile(rb"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x7f\0\0\x02\x7f\0\0\x01")
        for language, change, header in ((HAPROXY, version_1, v1), (HAPROXY, str, v2), (NGINX, str, v1)):
            with socket.create_server(("127.0.0.1", 0)) as behind:
                behind.settimeout(READY_WITHIN)
                with self.proxy(language, change, behind.getsockname()[1]) as port, connected(port) as client:
                    client.sendall(client_hello())
                    accepted, _ = behind.accept()
                    with accepted:
                        accepted.settimeout(ANSWER_WITHIN)
                        self.assertRegex(accepted.recv(4096), header, language)

    def test_a_proxy_that_is_not_trusted_is_refused(self):
        for language, change in ((HAPROXY, version_1), (HAPROXY, str), (NGINX, str)):
            before = closed(self.plain, "proxy_untrusted")
            with self.proxy(language, change, self.plain.address(socket.AF_INET, "tls")[1]) as port:
                with connected(port) as client:
                    client.sendall(client_hello())
                    self.assertTrue(is_closed(client), language)
            wait_for_closed(self.plain, "proxy_untrusted", before + 1)

    def test_a_header_from_anywhere_else_is_refused(self):
        host, port = self.plain.address(socket.AF_INET, "tls")
        for header in (b"PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\n", bytes.fromhex("0d0a0d0a000d0a515549540a20000000")):
            with socket.create_connection((host, port), ANSWER_WITHIN) as client:
                client.sendall(header)
                self.assertTrue(is_closed(client), header)

    def test_a_client_that_bypasses_the_proxy_is_refused(self):
        host, port = self.server.address(socket.AF_INET, "tcp")
        with socket.create_connection((host, port), ANSWER_WITHIN) as client:
            client.sendall(BINDING_REQUEST + bytes(2) + MAGIC_COOKIE + bytes(12))
            self.assertTrue(is_closed(client))

    def assert_clients_keep_their_address(self, language, change):
        with self.proxy(language, change, self.server.address(socket.AF_INET, "tls")[1]) as port:
            with connected(port) as client, unverified().wrap_socket(client, server_hostname=NAME) as tls:
                self.assertEqual(reflexive(tls), client_address(tls))

    @contextmanager
    def proxy(self, language, change, behind):
        """A proxy that runs the block of docs/proxies.md, with a free port in place of 443 and `behind` in place of 5349."""
        listen, instead, command, preamble = PROXIES[language]
        text = (REPOSITORY / "docs" / "proxies.md").read_text()
        block = re.search(rf"```{language}\n(.*?)```", text, re.DOTALL)[1]
        self.assertIn(listen, block)
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        block = block.replace(listen, instead.format(port)).replace("127.0.0.1:5349", f"127.0.0.1:{behind}")
        path = self.folder / f"{language}.conf"
        path.write_text(preamble.format(folder=self.folder) + change(block))
        with tempfile.TemporaryFile("w+") as log:
            proxy = subprocess.Popen([*command, str(path)], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
            try:
                yield port
            except Exception as error:
                log.seek(0)
                raise AssertionError(f"{log.read()}\n{self.server.log()}\n{self.plain.log()}") from error
            finally:
                proxy.kill()
                proxy.wait()


def version_1(text):
    return text.replace("send-proxy-v2", "send-proxy")


def closed(server, reason):
    """How many connections a server has closed for a reason."""
    with urllib.request.urlopen(f"{server.api}/metrics", timeout=ANSWER_WITHIN) as answer:
        text = answer.read().decode()
    return int(re.search(rf'^turnwell_connections_closed_total\{{reason="{reason}"\}} (\d+)$', text, re.MULTILINE)[1])


def wait_for_closed(server, reason, count):
    """Counters are published twenty times a second."""
    deadline = time.monotonic() + ANSWER_WITHIN
    while closed(server, reason) < count:
        assert time.monotonic() < deadline, f"{closed(server, reason)} connections closed as {reason}, not {count}"


def client_hello():
    """What a TLS client says first."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = unverified().wrap_bio(incoming, outgoing, server_hostname=NAME)
    try:
        client.do_handshake()
    except ssl.SSLWantReadError:
        return outgoing.read()


def unverified():
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def connected(port):
    deadline = time.monotonic() + READY_WITHIN
    while True:
        try:
            # from another address than the proxy's own
            return socket.create_connection(("127.0.0.1", port), ANSWER_WITHIN, ("127.0.0.2", 0))
        except ConnectionRefusedError:
            if time.monotonic() > deadline:
                raise


def client_address(client):
    return client.getsockname()[:2]


def reflexive(client):
    """The IPv4 address in the answer to a Binding request."""
    transaction = secrets.token_bytes(12)
    client.sendall(BINDING_REQUEST + bytes(2) + MAGIC_COOKIE + transaction)
    answer = client.recv(2048)
    assert answer[:2] == BINDING_SUCCESS and answer[8:20] == transaction, answer.hex()
    assert answer[20:26] == bytes.fromhex("002000080001"), answer.hex()
    port = int.from_bytes(answer[26:28], "big") ^ int.from_bytes(MAGIC_COOKIE[:2], "big")
    host = bytes(byte ^ mask for byte, mask in zip(answer[28:32], MAGIC_COOKIE))
    return socket.inet_ntoa(host), port


def is_closed(client):
    try:
        return client.recv(1) == b""
    except ConnectionResetError:
        return True


if __name__ == "__main__":
    unittest.main()
