"""Janus (Debian) asks our draft-uberti route for a credential, by GET and by POST, and allocates with it."""

import asyncio
import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
import unittest
import urllib.error
import urllib.request
from pathlib import Path

from aiortc import RTCConfiguration, RTCPeerConnection

from harness import Turnwell

WITHIN = 60.0


class JanusAllocates(unittest.TestCase):
    def test_by_get(self):
        self.allocates("GET")

    def test_by_post(self):
        self.allocates("POST")

    def allocates(self, method):
        installed = next(Path("/usr/lib").glob("**/janus/plugins/libjanus_echotest.so"), None)
        if shutil.which("janus") is None or installed is None:
            self.skipTest("janus is not installed")
        address = outward_address()
        if address is None:
            self.skipTest("Janus uses no loopback interface, and there is no other")
        with Turnwell(listen=(f"{address}:0",), relay=(address,)) as server, tempfile.TemporaryDirectory() as folder:
            port = configure(Path(folder), installed.parents[1], f"{server.api}/turn", server.api_key, method)
            command = ["janus", f"--configs-folder={folder}"]
            with Path(folder, "log").open("w") as log:
                janus = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
            try:
                sessions = make_it_gather(port, server)
            except BaseException:
                print(Path(folder, "log").read_text()[-4000:])
                raise
            finally:
                janus.kill()
                janus.wait()
        self.assertTrue(all(session["relayed"].startswith(f"{address}:") for session in sessions), sessions)


def configure(folder, libraries, url, key, method):
    """One plugin, one transport, on a port that was free a moment ago."""
    for kind, name in (("plugins", "libjanus_echotest.so"), ("transports", "libjanus_http.so")):
        Path(folder, kind).mkdir()
        os.symlink(libraries / kind / name, folder / kind / name)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    Path(folder, "janus.jcfg").write_text(f"""
general: {{
    plugins_folder = "{folder}/plugins"
    transports_folder = "{folder}/transports"
    debug_level = 5
}}
nat: {{
    turn_rest_api = "{url}"
    turn_rest_api_key = "{key}"
    turn_rest_api_method = "{method}"
}}
""")
    http = f'general: {{ json = "compact", base_path = "/janus", http = true, port = {port}, ip = "127.0.0.1", https = false }}\n'
    Path(folder, "janus.transport.http.jcfg").write_text(http + "admin: { admin_http = false }\n")
    Path(folder, "janus.plugin.echotest.jcfg").write_text("general: { }\n")
    return port


def make_it_gather(port, server):
    """Offers a call to the echo test; Janus then gathers candidates, relayed ones among them."""
    base = f"http://127.0.0.1:{port}/janus"
    deadline = time.monotonic() + WITHIN
    while True:
        try:
            session = post(base, {"janus": "create"})["data"]["id"]
            break
        except (urllib.error.URLError, ConnectionError):
            if time.monotonic() > deadline:
                raise
    handle = post(f"{base}/{session}", {"janus": "attach", "plugin": "janus.plugin.echotest"})["data"]["id"]
    jsep = {"type": "offer", "sdp": asyncio.run(offer())}
    post(f"{base}/{session}/{handle}", {"janus": "message", "body": {"audio": True, "video": False}, "jsep": jsep})
    deadline = time.monotonic() + WITHIN
    while time.monotonic() < deadline:
        request = urllib.request.Request(f"{server.api}/v1/sessions", headers={"Authorization": f"Bearer {server.api_key}"})
        with urllib.request.urlopen(request, timeout=5) as answer:
            sessions = json.load(answer)["sessions"]
        if sessions:
            return sessions
    raise AssertionError("Janus made no allocation")


async def offer():
    # otherwise it asks a public STUN server
    peer = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    peer.addTransceiver("audio")
    await peer.setLocalDescription(await peer.createOffer())
    sdp = peer.localDescription.sdp
    await peer.close()
    return sdp


def post(url, message):
    body = json.dumps({**message, "transaction": "t"}).encode()
    request = urllib.request.Request(url, data=body, headers={"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        answer = json.load(answer)
    if answer["janus"] == "error":
        raise AssertionError(answer)
    return answer


def outward_address():
    """The address of an ordinary interface; no packet is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return None
        return probe.getsockname()[0]


if __name__ == "__main__":
    unittest.main()
