"""Queries and updates at a zone's primary, over TCP, each signed with TSIG and its reply too."""

from __future__ import annotations

import binascii
import socket
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from ccfailover.errors import Rejected, Unavailable
from ccfailover.providers import Resolve
from ccfailover.providers.dns import faults
from ccfailover.runtime import Runtime

if TYPE_CHECKING:
    from dns.message import Message
    from dns.rrset import RRset
    from dns.tsig import Key as TsigKey

ALGORITHMS: Final = ("hmac-sha256", "hmac-sha384", "hmac-sha512", "hmac-sha224")
RECORD_CAP: Final = 1000
"""Records in one set; more is not a route."""


@dataclass(frozen=True)
class Key:
    """`secret` is a reference: what it stands for is kept nowhere."""

    name: str
    secret: str
    algorithm: str


@dataclass(frozen=True)
class Seen:
    """A set as the primary had it. `soa`: the text of the zone's SOA record then."""

    records: frozenset[str]
    ttl: int
    serial: int
    soa: str


@dataclass(frozen=True)
class Change:
    """A set as it shall be. `by_soa`: only while the zone's SOA record is the one seen."""

    name: str
    rtype: str
    records: frozenset[str]
    ttl: int
    by_soa: bool


class Link:
    def __init__(self, provider: str, server: str, port: int, zone: str, key: Key,
                 resolve: Resolve, runtime: Runtime, *, timeout: float) -> None:
        self.provider = provider
        self._server = server
        self._port = port
        self._zone = zone
        self._key = key
        self._resolve = resolve
        self._runtime = runtime
        self._timeout = timeout

    def until(self) -> float:
        """When a call that begins now has to be over, a read and a write together."""
        return self._runtime.monotonic() + self._timeout

    def look(self, name: str, rtype: str, until: float) -> Seen:
        """The set and the zone's SOA, by one connection. Raises Rejected (also where there is no
        such set), or Unavailable, which is never in doubt."""
        import dns.flags
        import dns.message
        import dns.rdatatype

        where = f"{name} {rtype}"
        key = self._tsig(where)

        def query(of: str, kind: str) -> Message:
            asked = dns.message.make_query(of, kind)
            asked.flags &= ~dns.flags.RD
            asked.use_tsig(key)
            return asked

        # The SOA first: what changes in between is then newer than the serial, and found out.
        soas, found = self._exchange([query(self._zone, "SOA"), query(name, rtype)], where,
                                     until, write=False)
        soa = self._answer(soas, self._zone, dns.rdatatype.SOA, where)
        records = self._answer(found, name, dns.rdatatype.from_text(rtype), where)
        if len(records) > RECORD_CAP or len(soa) != 1:
            raise Rejected("the reply makes no sense: too many records", provider=self.provider,
                           where=where)
        return Seen(frozenset(each.to_text().lower() for each in records), records.ttl,
                    int(soa[0].serial), soa[0].to_text())

    def update(self, change: Change, seen: Seen, until: float) -> bool:
        """Replace what was seen; False: it is no longer what was seen, and nothing was done.

        Records that stay are added once more, for the sake of their TTL.
        """
        import dns.rdata
        import dns.rdataclass
        import dns.rdatatype
        import dns.update

        where = f"{change.name} {change.rtype}"
        kind = dns.rdatatype.from_text(change.rtype)

        def parsed(record: str, of: dns.rdatatype.RdataType = kind) -> dns.rdata.Rdata:
            return dns.rdata.from_text(dns.rdataclass.IN, of, record)

        update = dns.update.UpdateMessage(self._zone)
        update.use_tsig(self._tsig(where))
        update.present(change.name, *map(parsed, sorted(seen.records)))
        if change.by_soa:
            update.present(self._zone, parsed(seen.soa, dns.rdatatype.SOA))
        for record in sorted(seen.records - change.records):
            update.delete(change.name, parsed(record))
        for record in sorted(change.records):
            update.add(change.name, change.ttl, parsed(record))
        reply = self._exchange([update], where, until, write=True)[0]
        return faults.done(reply.rcode().name, self.provider, where)

    def _answer(self, reply: Message, name: str, kind: Any, where: str) -> RRset:
        import dns.flags
        import dns.name
        import dns.rdataclass

        faults.answered(reply.rcode().name, self.provider, where)
        if not reply.flags & dns.flags.AA:
            raise Rejected(f"{self._server} does not speak for the zone", provider=self.provider,
                           where=where, hint="`server` is to be the zone's primary")
        found = reply.get_rrset(reply.answer, dns.name.from_text(name), dns.rdataclass.IN, kind)
        if found is None or not len(found):
            raise Rejected("there are no such records", provider=self.provider, where=where,
                           hint="compare the lever's `ref` and `type` with the zone; the first "
                                "records are made by hand")
        return found

    def _tsig(self, where: str) -> TsigKey:
        """Made anew for each call: dnspython's key shows its secret to whoever prints it."""
        try:
            import dns.tsig
        except ImportError:
            raise Rejected("dnspython is not installed", provider=self.provider, where=where,
                           not_done="nothing was sent",
                           hint="pip install 'ccfailover[dns]'") from None
        try:
            return dns.tsig.Key(self._key.name, self._resolve(self._key.secret).strip(),
                                self._key.algorithm)
        except (binascii.Error, UnicodeError):
            raise Rejected("the TSIG secret is no base64", provider=self.provider, where=where,
                           not_done="nothing was sent") from None

    def _exchange(self, messages: list[Any], where: str, until: float, *,
                  write: bool) -> list[Message]:
        """A reply to each, by one connection."""
        import dns.exception
        import dns.query
        import dns.tsig

        replies: list[Message] = []
        with self._connected(where, until - self._runtime.monotonic()) as sock:
            for message in messages:
                try:
                    reply = dns.query.tcp(
                        message, self._server, sock=sock,
                        timeout=max(0.001, until - self._runtime.monotonic()))
                except dns.tsig.PeerError as error:
                    raise faults.distrusted(type(error).__name__, self.provider, where) from None
                except (dns.exception.Timeout, OSError, EOFError) as error:
                    raise Unavailable(f"no answer ({type(error).__name__})", in_doubt=write,
                                      provider=self.provider, where=where) from None
                except (dns.exception.DNSException, ValueError, LookupError,
                        struct.error) as error:
                    raise faults.nonsense(type(error).__name__, self.provider, where,
                                          write=write) from None
                if not reply.had_tsig:
                    raise faults.nonsense("unsigned", self.provider, where, write=write)
                replies.append(reply)
        return replies

    def _connected(self, where: str, left: float) -> socket.socket:
        try:
            if left <= 0:
                raise TimeoutError
            sock = socket.create_connection((self._server, self._port), left)
        except OSError as error:
            raise Unavailable(f"{self._server}:{self._port} cannot be reached "
                              f"({type(error).__name__})", in_doubt=False,
                              provider=self.provider, where=where) from None
        sock.setblocking(False)  # dnspython waits itself
        return sock
