"""Two aiortc peers that may use relay candidates only echo over a data channel.

aiortc is WebRTC written in Python, with a TURN client of its own (aioice): it binds channels without creating
permissions first.
"""

import asyncio
import unittest

from aiortc import RTCConfiguration, RTCIceServer, RTCPeerConnection
from aiortc.rtcconfiguration import RTCIceTransportPolicy

from harness import Turnwell

WITHIN = 120.0
MESSAGES = [b"x" * size for size in (1, 1000, 16000, 60000)]


class Echo(unittest.TestCase):
    def test_data_channel_echo_over_two_relays(self):
        for workers in (1, 2, 4):
            with self.subTest(workers=workers), Turnwell(workers=workers) as server:
                asyncio.run(asyncio.wait_for(self.echo(server), WITHIN))

    async def echo(self, server):
        caller, callee = (relay_only(server) for _ in range(2))
        try:
            channel = caller.createDataChannel("echo")
            echoed, opened = asyncio.Queue(), asyncio.Event()
            channel.on("open", opened.set)
            channel.on("message", echoed.put_nowait)
            callee.on("datachannel", lambda remote: remote.on("message", remote.send))
            await negotiate(caller, callee)
            await opened.wait()
            for message in MESSAGES:
                channel.send(message)
            for message in MESSAGES:
                self.assertEqual(await echoed.get(), message)
            for peer in (caller, callee):
                gatherer = peer.sctp.transport.transport.iceGatherer
                self.assertEqual({candidate.type for candidate in gatherer.getLocalCandidates()}, {"relay"})
        finally:
            await caller.close()
            await callee.close()


def relay_only(server):
    """A peer with credentials of its own. aiortc uses the first TURN URL, of an IPv4 address or a name."""
    servers = [RTCIceServer(**entry) for entry in server.mint(user="aiortc")["iceServers"]]
    return RTCPeerConnection(RTCConfiguration(iceServers=servers, iceTransportPolicy=RTCIceTransportPolicy.RELAY))


async def negotiate(caller, callee):
    """aiortc gathers before it describes: both descriptions hold all candidates."""
    await caller.setLocalDescription(await caller.createOffer())
    await callee.setRemoteDescription(caller.localDescription)
    await callee.setLocalDescription(await callee.createAnswer())
    await caller.setRemoteDescription(callee.localDescription)


if __name__ == "__main__":
    unittest.main()
