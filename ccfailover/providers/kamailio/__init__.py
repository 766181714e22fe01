"""Kamailio, a SIP proxy before the sites: shares of new calls, over JSON-RPC.

    providers:
      edge:
        kind: kamailio
        url: "http://127.0.0.1:8060/RPC"          # or  socket: /run/kamailio/jsonrpc.sock
        destinations: {hq: 10, acme: 20, message: 30}
        counters: cnt
        profile: route
    queues:
      loan_calls:
        route: {provider: edge}

A configuration that goes with it is examples/kamailio/kamailio.cfg.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from ccfailover.model.capabilities import Capabilities
from ccfailover.model.policy import LeverSpec, ProviderSpec
from ccfailover.model.shares import TREATMENTS
from ccfailover.providers import Provider, Resolve, Route
from ccfailover.providers.kamailio import schema
from ccfailover.providers.kamailio.counting import Counting
from ccfailover.providers.kamailio.rpc import Rpc
from ccfailover.providers.params import mapping, text, texts
from ccfailover.runtime import Runtime


class KamailioProvider(Provider):
    kind: ClassVar[str] = "kamailio"
    TIMEOUT: ClassVar[float] = 5.0
    summary: ClassVar[str] = "Kamailio, a SIP proxy: shares of new calls, calls in progress"
    PARAMS: ClassVar[Mapping[str, object]] = schema.PARAMS
    LEVER: ClassVar[Mapping[str, object]] = schema.LEVER
    EXAMPLE: ClassVar[str] = schema.EXAMPLE
    RIGHTS: ClassVar[str] = schema.RIGHTS
    TRAPS: ClassVar[tuple[str, ...]] = schema.TRAPS

    def __init__(self, spec: ProviderSpec, *, resolve: Resolve, runtime: Runtime) -> None:
        super().__init__(spec, resolve=resolve, runtime=runtime)
        self._rpc = Rpc(spec, resolve, runtime, timeout=self.call_seconds)

    @classmethod
    def capabilities(
        cls, params: Mapping[str, object], lever: Mapping[str, object] | None = None
    ) -> Capabilities:
        names = frozenset(mapping(params.get("destinations")))
        way = text(params.get("way"), "split")
        return Capabilities(
            routes=True, treatments=bool(names & TREATMENTS), destinations=names,
            live="profile" in params, needs=schema.NEEDS[way],
            rights=("JSON-RPC of the edge, from this machine",),
        )

    def route(self, lever: LeverSpec) -> Route:
        params = self.spec.params
        names, labels = mapping(params.get("destinations")), texts(params.get("labels"))
        counting = Counting(
            self._rpc, text(lever.params.get("counted"), lever.ref),
            {name: labels.get(name, name) for name in names},
            table=text(params.get("counters")) or None, profile=text(params.get("profile")) or None)
        if params.get("way") == "weights":
            from ccfailover.providers.kamailio.listfile import ListFile
            from ccfailover.providers.kamailio.weights import WeightsRoute

            file = ListFile(text(params.get("list")), self.name, self.runtime)
            return WeightsRoute(self._rpc, lever, file, texts(names), counting,
                                seconds=self.call_seconds)
        from ccfailover.providers.kamailio.split import SplitRoute

        sets = {name: number for name, number in names.items() if isinstance(number, int)}
        return SplitRoute(self._rpc, lever, text(params.get("table"), "split"), sets, counting)

    def close(self) -> None:
        self._rpc.close()
