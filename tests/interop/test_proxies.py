"""HAProxy and nginx in front, configured as docs/proxies.md says: clients keep their address, untrusted headers are refused."""

import re
import secrets
import socket
import ssl
import subprocess
import tempfile
import time
import unittest
from pathlib import Path

from harness import ANSWER_WITHIN, BINDING_REQUEST, BINDING_SUCCESS, MAGIC_COOKIE, READY_WITHIN, REPOSITORY, Turnwell

NAME = "turn.example.org"
NGINX_PREAMBLE = """
load_module /usr/lib/nginx/modules/ngx_stream_module.so;
daemon off; master_process off; pid {folder}/nginx.pid; error_log stderr;
events {{ }}
"""


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
        self.through_haproxy(lambda text: text)

    def test_haproxy_with_version_1(self):
        self.through_haproxy(lambda text: text.replace("send-proxy-v2", "send-proxy"))

    def test_nginx(self):
        port, text = self.configuration("nginx", "listen 443", "listen 127.0.0.1:{}")
        self.through(port, ["nginx", "-e", "stderr", "-c"], NGINX_PREAMBLE.format(folder=self.folder) + text)

    def test_a_proxy_that_is_not_trusted_is_refused(self):
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

    def through_haproxy(self, change):
        port, text = self.configuration("haproxy", "bind :443", "bind 127.0.0.1:{}")
        self.through(port, ["haproxy", "-db", "-f"], change(text))

    def configuration(self, language, listen, instead):
        """The block of docs/proxies.md, with a free port in place of 443 and the server's in place of 5349."""
        text = (REPOSITORY / "docs" / "proxies.md").read_text()
        block = re.search(rf"```{language}\n(.*?)```", text, re.DOTALL)[1]
        self.assertIn(listen, block)
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        behind = self.server.address(socket.AF_INET, "tls")[1]
        return port, block.replace(listen, instead.format(port)).replace("127.0.0.1:5349", f"127.0.0.1:{behind}")

    def through(self, port, command, text):
        path = self.folder / f"{command[0]}.conf"
        path.write_text(text)
        with tempfile.TemporaryFile("w+") as log:
            proxy = subprocess.Popen([*command, str(path)], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
            try:
                with connected(port) as client, unverified().wrap_socket(client, server_hostname=NAME) as tls:
                    self.assertEqual(reflexive(tls), client_address(tls))
            except Exception as error:
                log.seek(0)
                raise AssertionError(f"{log.read()}\n{self.server.log()}") from error
            finally:
                proxy.kill()
                proxy.wait()


def unverified():
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def connected(port):
    deadline = time.monotonic() + READY_WITHIN
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port), ANSWER_WITHIN)
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
