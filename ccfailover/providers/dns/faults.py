"""What a name server says when it refuses, as our errors: response codes of RFC 1035, 2.2 of RFC
2136, and those of TSIG (RFC 8945)."""

from __future__ import annotations

from typing import Final

from ccfailover.errors import ProviderError, Rejected, Unavailable

_STALE: Final = frozenset({"NXRRSET", "YXRRSET", "NXDOMAIN", "YXDOMAIN"})
"""Of an update: a prerequisite does not hold."""
_REFUSALS: Final = {
    "REFUSED": ("the server refuses this key (REFUSED)",
                "let the key read these records (allow-query) and update them (update-policy "
                "{ grant KEY name NAME TYPE; }); a zone without one takes no updates"),
    "NOTAUTH": ("the server does not speak for the zone (NOTAUTH)",
                "`server` is to be the zone's primary"),
    "NOTZONE": ("the name is not in the zone (NOTZONE)", "compare `zone` with the server's"),
    "FORMERR": ("the server does not understand it (FORMERR)", None),
    "NOTIMP": ("the server takes no dynamic updates (NOTIMP)", None),
}
_TSIG: Final = {
    "PeerBadSignature": ("TSIG: the signature is wrong (BADSIG)",
                         "compare the secret with the server's"),
    "PeerBadKey": ("TSIG: the server does not know the key (BADKEY)",
                   "compare the key's name and algorithm with the server's"),
    "PeerBadTime": ("TSIG: the clocks differ too much (BADTIME)",
                    "set the clock of this machine, or the server's"),
}


def done(rcode: str, provider: str, where: str) -> bool:
    """Whether an update was carried out; False: a prerequisite did not hold."""
    if rcode == "NOERROR":
        return True
    if rcode in _STALE:
        return False
    raise _fault(rcode, provider, where, in_doubt=True)


def answered(rcode: str, provider: str, where: str) -> None:
    """Raises what a query's code means; that there is no such name is an answer."""
    if rcode not in ("NOERROR", "NXDOMAIN"):
        raise _fault(rcode, provider, where, in_doubt=False)


def distrusted(error: str, provider: str, where: str) -> ProviderError:
    """The server does not accept our signature (dnspython's name of the error): nothing done."""
    what, hint = _TSIG.get(error, ("TSIG: the server refuses the signature", None))
    return Rejected(what, provider=provider, where=where, not_done="nothing was changed",
                    hint=hint)


def nonsense(kind: str, provider: str, where: str, *, write: bool) -> ProviderError:
    """A reply that is none, or that nobody vouches for: after a write that proves nothing."""
    what = f"the reply makes no sense or is not signed as it should be ({kind})"
    hint = "a server that does not know the key answers without a signature"
    if write:
        return Unavailable(what, in_doubt=True, provider=provider, where=where, hint=hint)
    return Rejected(what, provider=provider, where=where, hint=hint)


def _fault(rcode: str, provider: str, where: str, *, in_doubt: bool) -> ProviderError:
    if rcode in _REFUSALS:
        what, hint = _REFUSALS[rcode]
        return Rejected(what, provider=provider, where=where, not_done="nothing was changed",
                        hint=hint)
    # SERVFAIL, above all; other codes are unheard of here.
    return Unavailable(f"the server failed ({rcode[:20]})", in_doubt=in_doubt, provider=provider,
                       where=where)
