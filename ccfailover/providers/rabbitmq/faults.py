"""What a broker says when it refuses, as our errors. Only codes are shown: its texts quote names,
and a peer that is no broker could say anything."""

from __future__ import annotations

from typing import Final

from ccfailover.errors import ProviderError, Rejected, Unavailable

BUSY_SECONDS: Final = 1.0
BLOCKED: Final = "the broker takes no messages now (connection.blocked)"
BLOCKED_HINT: Final = "it is out of memory or disk space: rabbitmq-diagnostics alarms"
_PASSES: Final = {
    320: "the broker ends the connection", 506: "the broker has no resources for it",
    541: "the broker has an internal error",
    # Also what a claim hears that was not settled within the broker's consumer_timeout.
    406: "the broker ended the channel",
}
_HINTS: Final = {
    403: "ccfailover providers list says which rights it needs; a queue that another consumer "
         "holds exclusively is refused, too",
    404: "compare the lever's `ref` and the vhost in the address with the broker's queues",
    405: "another connection holds this queue exclusively",
    530: "compare the vhost in the address with the broker's, and the user's rights there",
}


def closed(code: int, provider: str, where: str) -> ProviderError:
    """The error for a reply code in `connection.close` or `channel.close`. Not in doubt: whoever
    has written something knows better what became of it."""
    if code in _PASSES:
        return Unavailable(f"{_PASSES[code]} ({code})", in_doubt=False, provider=provider,
                           where=where, retry_after=BUSY_SECONDS)
    return Rejected(f"refused ({code})", provider=provider, where=where, hint=_HINTS.get(code))


def lost(what: str, provider: str, where: str) -> Unavailable:
    return Unavailable(what, in_doubt=False, provider=provider, where=where)


def blocked(provider: str, where: str) -> Unavailable:
    return Unavailable(BLOCKED, in_doubt=False, provider=provider, where=where,
                       retry_after=BUSY_SECONDS, hint=BLOCKED_HINT)
