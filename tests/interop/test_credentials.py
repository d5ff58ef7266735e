"""Passwords that `openssl` computed, as any back end can: every form of user name, every configured secret."""

import base64
import json
import socket
import subprocess
import tempfile
import time
import unittest

from harness import Peer, Turnwell
from uclient import MESSAGE_BYTES, MESSAGES, side_by_side, uclient

# The first signs; `dev` takes it as a flag, and the others from its file.
SECRETS = ["signing-secret", "rotated-out", "with spaces: & $igns"]
FORMS = {
    "time stamp and user": "{expires}:alice",
    "time stamp and user with colons": "{expires}:@alice:example.org",
    "time stamp alone": "{expires}",
    "user and time stamp": "alice:{expires}",
}
CONFIG = """
[credentials]
secrets = {secrets}

[limits]
# uclient leaves a probe allocation behind in every run
allocations-per-user = 0
allocations-per-source = 0
"""


def openssl_password(secret, username):
    digest = subprocess.run(
        ["openssl", "dgst", "-sha1", "-hmac", secret, "-binary"],
        input=username.encode(), capture_output=True, check=True,
    )
    return base64.b64encode(digest.stdout).decode()


class OpensslPasswords(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        config = cls.enterClassContext(tempfile.NamedTemporaryFile("w", suffix=".toml"))
        config.write(CONFIG.format(secrets=json.dumps(SECRETS[1:])))
        config.flush()
        cls.server = cls.enterClassContext(Turnwell("--config", config.name, "--secret", SECRETS[0]))
        cls.peer = cls.enterClassContext(Peer("127.0.0.1"))

    def test_every_form_of_every_secret_is_accepted(self):
        expires = int(time.time()) + 600
        for case, verdict in self.relay_with(expires):
            with self.subTest(case=case[0]):
                total = MESSAGES * MESSAGE_BYTES
                self.assertEqual((verdict.code, verdict.sent, verdict.received), (0, total, total), verdict.output)

    def test_expired_is_refused(self):
        for case, verdict in self.relay_with(int(time.time()) - 5):
            with self.subTest(case=case[0]):
                self.assert_refused(verdict)

    def test_password_of_another_time_stamp_is_refused(self):
        now = int(time.time())
        password = openssl_password(SECRETS[0], f"{now + 600}:alice")
        self.assert_refused(self.relay(f"{now + 601}:alice", password))

    def test_minted_pair_is_accepted_and_is_what_openssl_computes(self):
        minted = self.server.mint(user="alice", ttl=600)
        self.assertEqual(minted["password"], openssl_password(SECRETS[0], minted["username"]))
        self.assertEqual(self.relay(minted["username"], minted["password"]).code, 0)

    def relay_with(self, expires):
        cases = [
            ((name, secret), form.format(expires=expires), openssl_password(secret, form.format(expires=expires)))
            for secret in SECRETS
            for name, form in FORMS.items()
        ]
        return side_by_side(lambda case: self.relay(*case[1:]), cases)

    def relay(self, username, password):
        return uclient(
            self.server.address(socket.AF_INET), "-c", "-X", "-e", self.peer.host, "-r", str(self.peer.port),
            "-u", username, "-w", password,
        )

    def assert_refused(self, verdict):
        self.assertEqual((verdict.code, verdict.received), (255, None), verdict.output)
        self.assertIn("Cannot complete Allocation", verdict.output)


if __name__ == "__main__":
    unittest.main()
