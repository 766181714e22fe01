"""Any platform with a REST interface, described in the policy: routes, gates and intakes.

    providers:
      edge:
        kind: http
        url: https://switch.example/api
        auth: {bearer: "env:SWITCH_TOKEN"}
        destinations: {hq: trunk-1, acme: trunk-7, message: announcement}
        route:
          read:  {path: "/routes/{ref}", shares: /shares, version: etag}
          shift: {method: PUT, path: "/routes/{ref}", if_match: true,
                  body: '{"shares": {{ shares | tojson }}}'}
      acme_intake:
        kind: http
        url: https://intake.acme.example/v2
        backlog:
          put: {path: "/queues/{ref}/applications", id: /receipt, duplicate: [409],
                idempotent: 24h}
          measure: {path: "/queues/{ref}", visible: /waiting}
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from ccfailover.errors import UsageError
from ccfailover.model.capabilities import Capabilities
from ccfailover.model.policy import LeverSpec, ProviderSpec
from ccfailover.model.shares import TREATMENTS
from ccfailover.providers import Backlog, Gate, Provider, Resolve, Route
from ccfailover.providers.http.about import EXAMPLE, RIGHTS, TRAPS
from ccfailover.providers.http.levers import HttpGate, HttpRoute
from ccfailover.providers.http.schema import LEVER, PARAMS
from ccfailover.providers.http.session import Session
from ccfailover.providers.http.settings import gate_settings, merged, route_settings
from ccfailover.providers.params import mapping, text
from ccfailover.runtime import Runtime

REPLY_CAP = 16 * 1_048_576
"""Bytes of a reply about items: ten of the largest, in base64, and what goes around them."""


class HttpProvider(Provider):
    kind: ClassVar[str] = "http"
    summary: ClassVar[str] = "any REST interface: routes, consumer gates, a provider's intake"
    EXAMPLE: ClassVar[str] = EXAMPLE
    RIGHTS: ClassVar[str] = RIGHTS
    TRAPS: ClassVar[tuple[str, ...]] = TRAPS
    PARAMS: ClassVar[Mapping[str, object]] = PARAMS
    LEVER: ClassVar[Mapping[str, object]] = LEVER

    def __init__(self, spec: ProviderSpec, *, resolve: Resolve, runtime: Runtime) -> None:
        super().__init__(spec, resolve=resolve, runtime=runtime)
        self._session = Session(spec, resolve, runtime, timeout=self.call_seconds)
        self._intake = Session(spec, resolve, runtime, timeout=self.call_seconds, cap=REPLY_CAP)

    @classmethod
    def capabilities(
        cls, params: Mapping[str, object], lever: Mapping[str, object] | None = None
    ) -> Capabilities:
        block = merged(params, lever or {})
        route = route_settings(block)
        names = frozenset(mapping(block.get("destinations"))) or None
        found = Capabilities(
            routes=route is not None and route.shift is not None,
            gates="gate" in block,
            share_step=route.step if route else 1,
            treatments=names is None or bool(names & TREATMENTS),
            compare_and_set=bool(route and route.if_match and route.version),
            destinations=names,
            rights=("read and write at the paths that the policy names",),
        )
        if "backlog" not in block:
            return found
        from ccfailover.providers.http.terms import able

        return able(found, block, text((lever or {}).get("assignee")) or None)

    def route(self, lever: LeverSpec) -> Route:
        settings = route_settings(merged(self.spec.params, lever.params))
        if settings is None:
            raise UsageError("no route is described for this provider or lever",
                             where=lever.lever, hint="add route: {read: …, shift: …}")
        return HttpRoute(self._session, lever, settings)

    def gate(self, lever: LeverSpec) -> Gate:
        settings = gate_settings(merged(self.spec.params, lever.params))
        if settings is None:
            raise UsageError("no gate is described for this provider or lever",
                             where=lever.lever, hint="add gate: {read: …, set: …}")
        return HttpGate(self._session, lever, settings)

    def backlog(self, lever: LeverSpec) -> Backlog:
        from ccfailover.providers.http.terms import backlog_terms

        terms = backlog_terms(merged(self.spec.params, lever.params))
        if terms is None:
            raise UsageError("no backlog is described for this provider or lever",
                             where=lever.lever, hint="add backlog: {put: …, measure: …}")
        from ccfailover.providers.http.intake import HttpBacklog
        from ccfailover.providers.http.records import HttpRecords

        if lever.params.get("assignee"):
            if terms.reassign is None:
                raise UsageError("the lever has an assignee, and how a record is assigned is not "
                                 "described", where=lever.lever,
                                 hint="add backlog: {reassign: {write: …, read: …}}")
            return HttpRecords(self._intake, lever, terms, terms.reassign, self.runtime)
        return HttpBacklog(self._intake, lever, terms, self.runtime)

    def close(self) -> None:
        self._session.close()
        self._intake.close()
