"""Any switch with a REST interface, described in the policy: read, shift, verify.

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
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from ccfailover.errors import UsageError
from ccfailover.model.capabilities import Capabilities
from ccfailover.model.policy import LeverSpec, ProviderSpec
from ccfailover.model.shares import TREATMENTS
from ccfailover.providers import Gate, Provider, Resolve, Route
from ccfailover.providers.http.levers import HttpGate, HttpRoute
from ccfailover.providers.http.schema import LEVER, PARAMS
from ccfailover.providers.http.session import Session
from ccfailover.providers.http.settings import gate_settings, merged, route_settings
from ccfailover.providers.params import mapping
from ccfailover.runtime import Runtime


class HttpProvider(Provider):
    kind: ClassVar[str] = "http"
    summary: ClassVar[str] = "any switch with a REST interface: routes and consumer gates"
    PARAMS: ClassVar[Mapping[str, object]] = PARAMS
    LEVER: ClassVar[Mapping[str, object]] = LEVER

    def __init__(self, spec: ProviderSpec, *, resolve: Resolve, runtime: Runtime) -> None:
        super().__init__(spec, resolve=resolve, runtime=runtime)
        self._session = Session(spec, resolve, runtime, timeout=self.call_seconds)

    @classmethod
    def capabilities(
        cls, params: Mapping[str, object], lever: Mapping[str, object] | None = None
    ) -> Capabilities:
        block = merged(params, lever or {})
        route = route_settings(block)
        names = frozenset(mapping(block.get("destinations"))) or None
        return Capabilities(
            routes=route is not None and route.shift is not None,
            gates="gate" in block,
            share_step=route.step if route else 1,
            treatments=names is None or bool(names & TREATMENTS),
            compare_and_set=bool(route and route.if_match and route.version),
            destinations=names,
            rights=("read and write at the paths that the policy names",),
        )

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

    def close(self) -> None:
        self._session.close()
