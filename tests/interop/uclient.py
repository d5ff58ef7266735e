"""Runs coturn's `turnutils_uclient` and reads its verdict."""

import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from harness import run

# Clients run side by side: most of their time they wait between packets.
AT_ONCE = 4
MESSAGES = 20
MESSAGE_BYTES = 100
# It picks its first packet's time within 6 s, and waits up to 10 s for what was lost.
WITHIN = 40.0

TOTALS = re.compile(r"tot_send_bytes ~ (\d+), tot_recv_bytes ~ (\d+)")
LOST = re.compile(r"Total lost packets (\d+)")


@dataclass(frozen=True)
class Verdict:
    """What uclient reported at its end; `sent` is None when it never got there."""

    code: int | None
    sent: int | None
    received: int | None
    lost: int | None
    output: str


def uclient(server, *flags, messages=MESSAGES, size=MESSAGE_BYTES, within=WITHIN):
    """One run against `server` (host, port); `flags` hold the scenario and the credentials."""
    host, port = server
    outcome = run(
        "turnutils_uclient", *flags, "-n", str(messages), "-l", str(size), "-p", str(port), host, within=within
    )
    totals = TOTALS.findall(outcome.output)
    lost = LOST.search(outcome.output)
    if not totals or not lost:
        return Verdict(outcome.code, None, None, None, outcome.output)
    sent, received = (int(number) for number in totals[-1])
    return Verdict(outcome.code, sent, received, int(lost[1]), outcome.output)


def side_by_side(task, items):
    """`(item, task(item))` for every item, a few at a time, in order."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(zip(items, pool.map(task, items)))
