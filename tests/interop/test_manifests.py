"""The Kubernetes manifests judged by the schemas of Kubernetes itself, which a package carries: nothing is fetched."""

import copy
import subprocess
import tempfile
import unittest
from pathlib import Path

import kubernetes_validate
import yaml

from harness import REPOSITORY, binary

MANIFESTS = REPOSITORY / "deploy/kubernetes"
# the oldest that is looked after anywhere, and the newest that the schemas know
VERSIONS = ["1.28", kubernetes_validate.latest_version()]


def documents(name):
    return list(yaml.safe_load_all((MANIFESTS / name).read_text()))


def of_kind(kind):
    [found] = [document for document in documents("turnwell.yaml") if document["kind"] == kind]
    return found


class Manifests(unittest.TestCase):
    def test_kubernetes_knows_every_field(self):
        for version in VERSIONS:
            for document in documents("turnwell.yaml"):
                with self.subTest(version=version, kind=document["kind"]):
                    kubernetes_validate.validate(document, version, strict=True)

    def test_a_field_that_it_does_not_know_is_refused(self):
        broken = copy.deepcopy(of_kind("DaemonSet"))
        broken["spec"]["template"]["spec"]["hostNetworking"] = True
        with self.assertRaises(kubernetes_validate.ValidationError):
            kubernetes_validate.validate(broken, VERSIONS[-1], strict=True)

    def test_the_server_takes_the_configuration(self):
        config = of_kind("ConfigMap")["data"]["turnwell.toml"]
        with tempfile.TemporaryDirectory() as folder:
            for name in ("secret", "api-key"):
                path = Path(folder, name)
                path.write_text("0123456789abcdef")
                path.chmod(0o600)
            path = Path(folder, "turnwell.toml")
            path.write_text(config.replace("/run/secrets/turnwell", folder))
            checked = subprocess.run([binary(), "check-config", path], capture_output=True, text=True, timeout=30)
        self.assertEqual(checked.returncode, 0, checked.stdout + checked.stderr)

    def test_the_parts_fit_together(self):
        pod = of_kind("DaemonSet")["spec"]["template"]["spec"]
        [container] = pod["containers"]
        volumes = {volume["name"] for volume in pod["volumes"]}
        self.assertEqual({mount["name"] for mount in container["volumeMounts"]}, volumes)
        ports = {port["name"] for port in container["ports"]}
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            self.assertIn(container[probe]["httpGet"]["port"], ports)
        [monitor] = documents("podmonitor.yaml")
        labels = of_kind("DaemonSet")["spec"]["template"]["metadata"]["labels"]
        self.assertEqual(monitor["spec"]["selector"]["matchLabels"], labels)
        self.assertIn(monitor["spec"]["podMetricsEndpoints"][0]["port"], ports)
        # the drain ends before the kubelet kills
        self.assertIn('drain-timeout = "1h"', of_kind("ConfigMap")["data"]["turnwell.toml"])
        self.assertGreater(pod["terminationGracePeriodSeconds"], 3600)


if __name__ == "__main__":
    unittest.main()
