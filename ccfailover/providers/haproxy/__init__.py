"""HAProxy: the servers of a backend, weighted, drained and counted over its runtime API.

    providers:
      web: {kind: haproxy, address: /run/haproxy/admin.sock,
            destinations: {hq: hq1, acme: [acme1, acme2], message: sorry}}
    queues:
      applications:
        intake: {provider: web, ref: intake}     # the backend

The API is one line of commands a connection, and lines of text back; it knows no version, so that
a change by somebody else is found by reading once more just before the write.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Final

from ccfailover.errors import UsageError
from ccfailover.model.capabilities import Capabilities
from ccfailover.model.policy import LeverSpec
from ccfailover.model.shares import TREATMENTS
from ccfailover.providers import Provider, Route
from ccfailover.providers.haproxy.link import Link
from ccfailover.providers.haproxy.route import HaproxyRoute, Settings, Zero
from ccfailover.providers.params import DURATION, mapping, text

_NAME: Final = "[A-Za-z0-9_.:-]{1,200}"
_SERVER: Final = {"type": "string", "pattern": f"^{_NAME}$"}
_DESTINATIONS: Final = {
    "type": "object", "minProperties": 1, "propertyNames": {"pattern": "^[a-z][a-z0-9_]*$"},
    "additionalProperties": {"anyOf": [
        _SERVER, {"type": "array", "minItems": 1, "uniqueItems": True, "items": _SERVER}]},
    "description": "site or treatment → its server in the backend, or a list of its servers, "
                   "which share alike",
}


class HaproxyProvider(Provider):
    kind: ClassVar[str] = "haproxy"
    TIMEOUT: ClassVar[float] = 5.0
    summary: ClassVar[str] = "HAProxy backends over the runtime API: weights, drain, live sessions"
    PARAMS: ClassVar[Mapping[str, object]] = {
        "type": "object", "required": ["address"], "additionalProperties": False,
        "properties": {
            "address": {
                "type": "string", "maxLength": 300,
                "pattern": r"^(/.+|[A-Za-z0-9_.-]+:[0-9]{1,5}|\[[0-9A-Fa-f:.]+\]:[0-9]{1,5})$",
                "description": "the `stats socket` of level admin: a path, or host:port"},
            "destinations": _DESTINATIONS,
            "zero": {"enum": [zero.value for zero in Zero],
                     "description": "how a server is taken out: by weight 0 (default), in the "
                                    "state drain, or in maint, which ends its health checks too"},
            "static": {
                "type": "boolean",
                "description": "the backend balances by a static algorithm (static-rr, or a hash "
                               "of type map-based), which takes no weights but 0 % and 100 %"},
            "step": {"type": "integer", "minimum": 1, "maximum": 100,
                     "description": "shares come in multiples of this many percent"},
            "state_file": {
                "type": "string", "pattern": "^/",
                "description": "HAProxy's server-state-file on this machine: written anew after "
                               "every shift, so that a reload keeps the shares"},
            "timeout": {**DURATION, "description": "of one exchange (default 5s)"},
        },
    }
    LEVER: ClassVar[Mapping[str, object]] = {
        "type": "object", "required": ["ref"], "additionalProperties": False,
        "properties": {
            "ref": {"type": "string", "pattern": f"^{_NAME}$", "description": "the backend"},
            "destinations": {**_DESTINATIONS,
                             "description": "of this backend, instead of the provider's"},
        },
    }
    EXAMPLE: ClassVar[str] = """\
sites:
  hq:   {kind: in_house, staff: {applications: {per_hour: 90}}}
  acme: {kind: outsourced, hours: "24/7", staff: {applications: {per_hour: 90}}}
providers:
  web:
    kind: haproxy
    address: /run/haproxy/admin.sock
    destinations: {hq: hq1, acme: [acme1, acme2], message: sorry}
    state_file: /var/lib/haproxy/server-state
queues:
  applications:
    channel: application
    home: hq
    backups: [acme]
    outsource: allowed
    priority: 1
    home_down: message
    normal: {hq: 100}
    objectives: {rto: 15m, mtd: 4h}
    intake: {provider: web, ref: intake}
"""
    RIGHTS: ClassVar[str] = """\
global
    stats socket /run/haproxy/admin.sock mode 660 group ccfailover level admin expose-fd listeners
    server-state-file /var/lib/haproxy/server-state
defaults
    load-server-state-from-file global
"""
    TRAPS: ClassVar[tuple[str, ...]] = (
        "A rollback brings back weights, and states that this route sets itself, as they were "
        "found.",
        "A reload goes back to the weights of the configuration, unless HAProxy loads a state "
        "file that was written since: name it in `state_file`, or let the unit's reload write it "
        "(`show servers state`). HAProxy takes a weight from it only while the configuration "
        "says the same first weight as before.",
        "The runtime API over TCP knows no password and no encryption: bind it to loopback or to "
        "a network of its own.",
        "A server in maint or drain by somebody else's hand stays so, and counts as 0 %; its "
        "site's share goes to the site's other servers. With `zero: drain` or `zero: maint` that "
        "cannot be told once the whole site has been taken out so: a share puts all of its "
        "servers in again.",
        "A shift that ends in its middle with `zero: drain` or `zero: maint` is taken up where it "
        "ended. A server of a receiving site that somebody puts into that same state between two "
        "attempts is put in again: it looks like one that the first had not come to. What another "
        "run, or a step that was skipped, left half done is taken for somebody else's.",
        "Health is not a share: HAProxy sends what a server that is down would get to the others "
        "that have a weight.",
        "Requests that a persistence cookie or a stick table ties to a server still go there at "
        "weight 0 and in drain; with `zero: maint` they do not.",
        "A server in another backend is another lever, also when it is the same machine.",
    )

    @classmethod
    def capabilities(
        cls, params: Mapping[str, object], lever: Mapping[str, object] | None = None
    ) -> Capabilities:
        names = frozenset(_servers(params, lever or {}))
        return Capabilities(
            routes=True, share_step=_step(params), treatments=bool(names & TREATMENTS),
            destinations=names, live=True,
            rights=("a `stats socket` of `level admin`; `level user` is enough to look",),
            needs=("each site is one or more servers of the backend, not `backup` ones",),
        )

    def route(self, lever: LeverSpec) -> Route:
        """Raises UsageError where there are no destinations, or one server belongs to two."""
        servers = _servers(self.spec.params, lever.params)
        if not servers:
            raise UsageError("nothing says which server belongs to which site",
                             where=lever.lever, hint="add destinations: {hq: …, acme: …}")
        named = [server for each in servers.values() for server in each]
        if len(set(named)) < len(named):
            raise UsageError("destinations gives one server to two sites", where=lever.lever)
        params = self.spec.params
        link = Link(self.name, text(params.get("address")), self.runtime,
                    timeout=self.call_seconds)
        return HaproxyRoute(link, lever.ref, Settings(
            servers, _step(params), bool(params.get("static")),
            Zero(text(params.get("zero"), Zero.WEIGHT.value)),
            text(params.get("state_file")) or None))


def _step(params: Mapping[str, object]) -> int:
    step = params.get("step")
    return 100 if params.get("static") else step if isinstance(step, int) else 1


def _servers(params: Mapping[str, object],
             lever: Mapping[str, object]) -> dict[str, tuple[str, ...]]:
    named = mapping(lever.get("destinations")) or mapping(params.get("destinations"))
    return {site: tuple(map(str, found)) if isinstance(found, list | tuple) else (str(found),)
            for site, found in named.items()}
