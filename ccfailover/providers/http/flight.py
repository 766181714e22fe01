"""Several requests at a time, all of them within the time that one has."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from ccfailover.errors import Rejected, Unavailable
from ccfailover.providers.curl import Client, Reply, Request
from ccfailover.runtime import Runtime

Ended = Reply | Rejected | Unavailable
"""How one of several exchanges ended."""

GoOn = Callable[[Ended], bool]

LEAST = 0.01
"""Seconds: with less left a request is not begun. One that hangs ends by milliseconds, a moment
before the time of all is over, and the next could then be sent and never answered."""


def send_many(client: Client, requests: Sequence[Request], *, at_a_time: int, seconds: float,
              runtime: Runtime, go_on: GoOn) -> list[Ended | None]:
    """How each ended, in order. None: it was not begun, because `go_on` said no to how an earlier
    one ended, or because the `seconds` for all of them were over."""
    found: list[Ended | None] = [None] * len(requests)
    end, going = runtime.monotonic() + seconds, True

    def following() -> Iterator[Request]:
        for request in requests:
            left = end - runtime.monotonic()
            if not going or left < LEAST:
                return
            yield replace(request, timeout=left)

    for index, ended in client.send_all(following(), max(1, at_a_time)):
        found[index] = ended
        going = going and go_on(ended)
    return found
