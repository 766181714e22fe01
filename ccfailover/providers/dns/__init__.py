"""The DNS, by dynamic update (RFC 2136) signed with TSIG (RFC 8945): SRV sets, A and AAAA sets.

    providers:
      names:
        kind: dns
        server: 192.0.2.53            # the zone's primary
        zone: cc.example
        key: {name: ccfailover, secret: "env:TSIG_SECRET"}
        type: SRV
        ttl: 30
        destinations: {hq: "sip.hq.example:5060", acme: ["sip1.acme.example:5060",
                                                         "sip2.acme.example:5060"]}
    queues:
      loan_calls:
        route: {provider: names, ref: _sip._udp}

SRV records carry weights (RFC 2782), any percentage. Addresses carry none: each of a set gets an
equal part of the callers, so that only such parts can be set.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Final

from ccfailover.errors import UsageError
from ccfailover.model.capabilities import Capabilities
from ccfailover.model.policy import LeverSpec
from ccfailover.model.shares import TREATMENTS
from ccfailover.providers import Provider, Route
from ccfailover.providers.dns.link import ALGORITHMS, Key, Link
from ccfailover.providers.dns.records import AddressSet, RecordSet, SrvSet, too_long
from ccfailover.providers.dns.route import DnsRoute
from ccfailover.providers.params import DURATION, REFERENCE, mapping, seconds, text

TTL: Final = 30
_LABEL: Final = "[A-Za-z0-9_-]{1,63}"
_NAME: Final = rf"{_LABEL}(\.{_LABEL})*\.?"
_PLACE: Final = {"type": "string", "maxLength": 260, "pattern": rf"^({_NAME}:[0-9]{{1,5}}|"
                 r"[0-9A-Fa-f.:]{2,45})$"}
_DESTINATIONS: Final = {
    "type": "object", "minProperties": 1, "propertyNames": {"pattern": "^[a-z][a-z0-9_]*$"},
    "additionalProperties": {"anyOf": [
        _PLACE, {"type": "array", "minItems": 1, "uniqueItems": True, "items": _PLACE}]},
    "description": "site or treatment → host:port for SRV, an address for A and AAAA; or a list "
                   "of them, which share alike",
}
_TYPE: Final = {"enum": ["SRV", "A", "AAAA"], "description": "of the records (default SRV)"}
_TTL: Final = {"type": "integer", "minimum": 1, "maximum": 86_400,
               "description": f"seconds that a resolver may keep what is set (default {TTL}); the "
                              "expected time of a shift counts it"}


class DnsProvider(Provider):
    kind: ClassVar[str] = "dns"
    TIMEOUT: ClassVar[float] = 5.0
    summary: ClassVar[str] = "the DNS by RFC 2136 and TSIG: SRV weights, A and AAAA sets"
    PARAMS: ClassVar[Mapping[str, object]] = {
        "type": "object", "required": ["server", "zone", "key"], "additionalProperties": False,
        "properties": {
            "server": {
                "type": "string", "pattern": "^([0-9]{1,3}(\\.[0-9]{1,3}){3}|[0-9A-Fa-f:.]*:"
                                             "[0-9A-Fa-f:.]*)$",
                "description": "the address of the zone's primary; no name, which would need the "
                               "very DNS that it moves"},
            "port": {"type": "integer", "minimum": 1, "maximum": 65_535,
                     "description": "of TCP, default 53"},
            "zone": {"type": "string", "maxLength": 254, "pattern": f"^{_NAME}$",
                     "description": "the zone's name, such as cc.example"},
            "key": {
                "type": "object", "required": ["name", "secret"], "additionalProperties": False,
                "description": "the TSIG key that signs queries and updates",
                "properties": {
                    "name": {"type": "string", "maxLength": 254, "pattern": f"^{_NAME}$",
                             "description": "of the TSIG key, as the server knows it"},
                    "secret": {**REFERENCE, "description": "a reference to its secret in base64"},
                    "algorithm": {"enum": list(ALGORITHMS),
                                  "description": "default hmac-sha256"},
                },
            },
            "type": _TYPE,
            "ttl": _TTL,
            "priority": {"type": "integer", "minimum": 0, "maximum": 65_535,
                         "description": "of the SRV records that are set, default 10"},
            "destinations": _DESTINATIONS,
            "secondaries": {**DURATION,
                            "description": "how long until every secondary has what the primary "
                                           "was told; added to the ttl"},
            "compare": {
                "enum": ["serial", "records"],
                "description": "what a change since the read is found by: the zone's serial and "
                               "the records (default), or the records alone, for a zone that "
                               "changes all the time or is signed inline"},
            "timeout": {**DURATION, "description": "of one read or write whole (default 5s)"},
        },
    }
    LEVER: ClassVar[Mapping[str, object]] = {
        "type": "object", "required": ["ref"], "additionalProperties": False,
        "properties": {
            "ref": {"type": "string", "maxLength": 254, "pattern": f"^(@|{_NAME})$",
                    "description": "the records' name: within the zone, or whole with a dot at "
                                   "its end; @ is the zone itself"},
            "type": _TYPE,
            "ttl": _TTL,
            "destinations": {**_DESTINATIONS, "description": "instead of the provider's"},
        },
    }
    EXAMPLE: ClassVar[str] = """\
sites:
  hq:   {kind: in_house, staff: {loan_calls: {agents: 40, handle_time: 300s}}}
  acme: {kind: outsourced, hours: "24/7", staff: {loan_calls: {agents: 60, handle_time: 330s}}}
providers:
  names:
    kind: dns
    server: 192.0.2.53
    zone: cc.example
    key: {name: ccfailover, secret: "env:TSIG_SECRET"}
    type: SRV
    ttl: 30
    destinations: {hq: "sip.hq.example:5060", acme: "sip.acme.example:5060"}
queues:
  loan_calls:
    channel: voice
    home: hq
    backups: [acme]
    outsource: allowed
    priority: 1
    home_down: hold
    normal: {hq: 100}
    objectives: {rto: 15m, mtd: 4h}
    route: {provider: names, ref: _sip._udp}
"""
    RIGHTS: ClassVar[str] = """\
key ccfailover { algorithm hmac-sha256; secret "..."; };
zone "cc.example" {
    type primary;
    file "cc.example.zone";
    update-policy { grant ccfailover name _sip._udp.cc.example. SRV; };
};
"""
    TRAPS: ClassVar[tuple[str, ...]] = (
        "A shift writes the records of its `priority` and the `ttl`. Records of a later priority "
        "stay, those of the sites too. A rollback brings back records and TTL as they were found; "
        "what else came into the set since stays.",
        "What counts is the TTL that the old records had: where it is larger than `ttl`, the first "
        "shift takes that long, and some resolvers keep records longer than they may.",
        "A name that is looked up once, when a client starts, does not move that client at all.",
        "Addresses share alike: with one address a site only 100 %, or equal parts, can be set; "
        "everything else needs SRV records and clients that ask for them.",
        "Records of the set that `destinations` does not name stay where they are: at a larger "
        "priority number as a last resort, else the lever's state is unknown and nothing moves.",
        "TSIG refuses clocks that differ by more than 300 s.",
        "With `compare: serial` any other change in the zone between read and write makes the "
        "write fail, though nothing is lost: try again.",
    )

    @classmethod
    def capabilities(
        cls, params: Mapping[str, object], lever: Mapping[str, object] | None = None
    ) -> Capabilities:
        places = _places(params, lever or {})
        step = 1 if _type(params, lever or {}) == "SRV" else AddressSet.step_of(places)
        return Capabilities(
            routes=True, share_step=step, treatments=bool(places.keys() & TREATMENTS),
            compare_and_set=True, destinations=frozenset(places),
            propagation=_ttl(params, lever or {}) + seconds(params.get("secondaries"), 0.0),
            rights=("queries and updates of these records with the key, at the primary, by TCP",),
            needs=("the extra `dns` (pip install ccfailover[dns])",
                   "the records exist already, in a zone that takes dynamic updates"),
        )

    def route(self, lever: LeverSpec) -> Route:
        """Raises UsageError for destinations that are no such records, or a name elsewhere."""
        params = self.spec.params
        key = mapping(params.get("key"))
        zone = _whole(text(params.get("zone")))
        port = params.get("port")
        link = Link(self.name, text(params.get("server")), port if isinstance(port, int) else 53,
                    zone, Key(_whole(text(key.get("name"))), text(key.get("secret")),
                              text(key.get("algorithm"), ALGORITHMS[0])),
                    self.resolve, self.runtime, timeout=self.call_seconds)
        try:
            records = self._records(lever)
            name = _within(lever.ref, zone)
        except ValueError as error:
            raise UsageError(str(error), where=lever.lever) from None
        return DnsRoute(link, name, records, ttl=_ttl(params, lever.params),
                        by_serial=params.get("compare", "serial") == "serial")

    def _records(self, lever: LeverSpec) -> RecordSet:
        params = self.spec.params
        places, rtype = _places(params, lever.params), _type(params, lever.params)
        if not places:
            raise ValueError("nothing says which records belong to which site")
        if rtype == "SRV":
            priority = params.get("priority")
            return SrvSet(places, priority if isinstance(priority, int) else 10)
        return AddressSet(places, 4 if rtype == "A" else 6)


def _places(params: Mapping[str, object],
            lever: Mapping[str, object]) -> dict[str, tuple[str, ...]]:
    named = mapping(lever.get("destinations")) or mapping(params.get("destinations"))
    return {site: tuple(map(str, found)) if isinstance(found, list | tuple) else (str(found),)
            for site, found in named.items()}


def _type(params: Mapping[str, object], lever: Mapping[str, object]) -> str:
    return text(lever.get("type")) or text(params.get("type"), "SRV")


def _ttl(params: Mapping[str, object], lever: Mapping[str, object]) -> int:
    found = lever.get("ttl", params.get("ttl"))
    return found if isinstance(found, int) else TTL


def _whole(name: str) -> str:
    return name.lower().rstrip(".") + "."


def _within(ref: str, zone: str) -> str:
    """The whole name of a lever's records."""
    if ref == "@":
        return zone
    name = ref.lower() if ref.endswith(".") else f"{ref.lower()}.{zone}"
    if name != zone and not name.endswith(f".{zone}"):
        raise ValueError(f"{name} is not in the zone {zone}")
    if too_long(name):
        raise ValueError(f"{name[:80]}… is too long for a name")
    return name
