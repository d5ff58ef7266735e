"""The HTTP API judged by tools that we did not write: promtool and schemathesis."""

import shutil
import subprocess
import sys
import tempfile
import unittest
import urllib.request
from pathlib import Path

from harness import Turnwell

SCHEMATHESIS_WITHIN = 240.0
CHECKS = [
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
    "response_headers_conformance",
    "unsupported_method",
]


class Api(unittest.TestCase):
    def test_promtool_accepts_the_metrics(self):
        promtool = shutil.which("promtool")
        if promtool is None:
            self.skipTest("promtool (Debian: prometheus) is not installed")
        with Turnwell() as server:
            call(server, "POST", "/v1/credentials")
            metrics = call(server, "GET", "/metrics")
        checked = subprocess.run([promtool, "check", "metrics"], input=metrics, capture_output=True, timeout=30)
        self.assertEqual((checked.returncode, checked.stdout + checked.stderr), (0, b""))

    def test_promtool_accepts_the_alerts(self):
        promtool = shutil.which("promtool")
        if promtool is None:
            self.skipTest("promtool (Debian: prometheus) is not installed")
        rules = Path(__file__).parents[2] / "deploy/prometheus/alerts.yml"
        checked = subprocess.run([promtool, "check", "rules", rules], capture_output=True, text=True, timeout=30)
        self.assertEqual(checked.returncode, 0, checked.stdout + checked.stderr)
        tests = rules.with_name("alerts_test.yml")
        fired = subprocess.run([promtool, "test", "rules", tests], capture_output=True, text=True, timeout=30)
        self.assertEqual(fired.returncode, 0, fired.stdout + fired.stderr)

    def test_schemathesis_finds_nothing(self):
        schemathesis = Path(sys.executable).with_name("schemathesis")
        if not schemathesis.exists():
            self.skipTest("schemathesis is not installed")
        # it leaves a folder behind where it runs
        with Turnwell() as server, tempfile.TemporaryDirectory() as folder:
            command = [schemathesis, "run", f"{server.api}/openapi.json"]
            command += ["--header", f"Authorization: Bearer {server.api_key}"]
            # a drained server would refuse everything after
            command += ["--exclude-path", "/v1/drain", "--checks", ",".join(CHECKS)]
            command += ["--phases", "examples,coverage,fuzzing", "--max-examples", "25", "--seed", "1"]
            command += ["--max-time", "60"]
            run = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=SCHEMATHESIS_WITHIN)
        self.assertEqual(run.returncode, 0, run.stdout[-8000:] + run.stderr[-2000:])


def call(server, method, path):
    headers = {"Authorization": f"Bearer {server.api_key}"}
    request = urllib.request.Request(server.api + path, method=method, headers=headers)
    with urllib.request.urlopen(request, timeout=5) as answer:
        return answer.read()


if __name__ == "__main__":
    unittest.main()
