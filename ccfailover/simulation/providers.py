"""Kind `simulated`: the adapter of a platform that exists only in memory.

It keeps the same promises as the others and passes the same conformance suite. A test makes the
platform, then hands it over (`SimulatedProvider(…, platform=p)`) or lets the policy find it by
name (`platform: world` and `register(p)`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import ClassVar, Final
from weakref import WeakValueDictionary

from ccfailover.errors import Rejected, Unavailable
from ccfailover.model.capabilities import Capabilities
from ccfailover.model.items import PutResult, WorkItem
from ccfailover.model.policy import LeverSpec, ProviderSpec
from ccfailover.model.shares import TREATMENTS, Shares
from ccfailover.providers import (
    Announcement,
    Backlog,
    BacklogMeasure,
    Gate,
    Procedure,
    ProcedureState,
    Provider,
    Resolve,
    Route,
    RouteState,
    understand,
)
from ccfailover.runtime import SECOND, Runtime
from ccfailover.simulation.platform import DEDUP_WINDOW, Message, SimulatedPlatform
from ccfailover.simulation.voice import SimulatedProcedure

_CLAIM_SECONDS: Final = 120.0
_MAX_ITEM: Final = 262_144
_BATCH: Final = 10
_PLATFORMS: WeakValueDictionary[str, SimulatedPlatform] = WeakValueDictionary()


def register(platform: SimulatedPlatform) -> SimulatedPlatform:
    """Let policies find it by its name for as long as the caller holds it."""
    _PLATFORMS[platform.name] = platform
    return platform


class SimulatedProvider(Provider):
    kind: ClassVar[str] = "simulated"
    summary: ClassVar[str] = "a platform in memory, for tests and simulated drills"
    PARAMS: ClassVar[Mapping[str, object]] = {
        "type": "object", "additionalProperties": False,
        "properties": {
            "platform": {"type": "string", "minLength": 1},
            "destinations": {"type": "array", "items": {"type": "string"}, "minItems": 1,
                             "uniqueItems": True},
            "step": {"type": "integer", "minimum": 1, "maximum": 100},
            "live": {"type": "boolean"},
            "propagation": {"type": "number", "minimum": 0},
        },
    }
    LEVER: ClassVar[Mapping[str, object]] = {
        "type": "object", "additionalProperties": False,
        "properties": {
            "ref": {"type": "string", "minLength": 1},
            "claim_seconds": {"type": "number", "exclusiveMinimum": 0},
        },
    }

    def __init__(self, spec: ProviderSpec, *, resolve: Resolve, runtime: Runtime,
                 platform: SimulatedPlatform | None = None) -> None:
        super().__init__(spec, resolve=resolve, runtime=runtime)
        name = str(spec.params.get("platform", spec.name))
        self.platform = platform or _PLATFORMS.get(name) or register(
            SimulatedPlatform(runtime, name))

    @classmethod
    def capabilities(
        cls, params: Mapping[str, object], lever: Mapping[str, object] | None = None
    ) -> Capabilities:
        fifo = str((lever or {}).get("ref", "")).endswith(".fifo")
        names = _destinations(params)
        return Capabilities(
            routes=True, backlogs=True, gates=True, share_step=_step(params),
            treatments=names is None or bool(names & TREATMENTS), destinations=names,
            compare_and_set=True, idempotent_put=fifo,
            put_window=DEDUP_WINDOW if fifo else None, max_item_bytes=_MAX_ITEM,
            rights=("none: it is simulated",), announcements=True, procedures=True,
            live=params.get("live") is True, propagation=_seconds(params),
        )

    def route(self, lever: LeverSpec) -> Route:
        return _Route(self.platform, lever.ref, _destinations(self.spec.params),
                      _step(self.spec.params))

    def gate(self, lever: LeverSpec) -> Gate:
        return _Gate(self.platform, lever.ref)

    def announcement(self, lever: LeverSpec) -> Announcement:
        return _Announcement(self.platform, lever.ref)

    def procedure(self, lever: LeverSpec) -> Procedure:
        return _Procedure(self.platform, lever.ref)

    def backlog(self, lever: LeverSpec) -> Backlog:
        return _Backlog(self.platform, lever)


class _Route(Route):
    def __init__(self, platform: SimulatedPlatform, ref: str,
                 destinations: frozenset[str] | None, step: int) -> None:
        self._platform, self._ref = platform, ref
        self._destinations, self._step = destinations, step

    def read(self) -> RouteState:
        shares, version = self._platform.act(
            "read", self._ref, lambda: self._platform.route_state(self._ref))
        return RouteState(shares, version, boot=self._platform.boot or None)

    def measure(self) -> Mapping[str, float]:
        return self._platform.act(
            "measure", self._ref, lambda: self._platform.counts(self._ref))

    def live(self) -> Mapping[str, int] | None:
        return self._platform.act(
            "live", self._ref, lambda: self._platform.voice.live.get(self._ref))

    def shift(self, to: Shares, *, expected: RouteState | None, key: str) -> None:
        unknown = set(to) - self._destinations if self._destinations is not None else set()
        if unknown:
            raise self._refused(f"destinations does not name {', '.join(sorted(unknown))}")
        for name, percent in to.items():
            if percent % self._step:
                raise self._refused(f"{name} {percent} % is no multiple of the step {self._step} %")
        version = expected.version if expected else None

        def apply() -> bool:
            self._platform.set_shares(self._ref, to, version)
            return True

        self._platform.act("shift", self._ref, apply, instead=True, writes=True)

    def _refused(self, what: str) -> Rejected:
        return Rejected(what, provider=self._platform.name, where=self._ref,
                        not_done="the shares were not changed")


class _Gate(Gate):
    def __init__(self, platform: SimulatedPlatform, ref: str) -> None:
        self._platform, self._ref = platform, ref

    def is_open(self) -> bool:
        return self._platform.act(
            "is_open", self._ref, lambda: self._platform.gate_state(self._ref))

    def set_open(self, is_open: bool, *, key: str) -> None:
        def apply() -> bool:
            self._platform.set_gate(self._ref, is_open)
            return True

        self._platform.act("set_open", self._ref, apply, instead=True, writes=True)


class _Announcement(Announcement):
    def __init__(self, platform: SimulatedPlatform, ref: str) -> None:
        self._platform, self._ref = platform, ref

    def said(self) -> str | None:
        return self._platform.act(
            "said", self._ref, lambda: self._platform.voice.said.get(self._ref))

    def say(self, name: str | None, *, key: str) -> None:
        def apply() -> bool:
            self._platform.voice.said[self._ref] = name
            return True

        self._platform.act("say", self._ref, apply, instead=True, writes=True)


class _Procedure(Procedure):
    def __init__(self, platform: SimulatedPlatform, ref: str) -> None:
        self._platform, self._ref = platform, ref

    @property
    def _plan(self) -> SimulatedProcedure:
        return self._platform.voice.procedures.setdefault(self._ref, SimulatedProcedure())

    def read(self, execution: str | None = None) -> ProcedureState:
        return self._platform.act("follow", self._ref, lambda: self._plan.read(execution))

    def start(self, action: str, *, key: str) -> str:
        return self._platform.act("start", self._ref, lambda: self._plan.start(action, key),
                                  writes=True)

    def approve(self, execution: str, step: str, *, approve: bool, key: str) -> None:
        self._platform.act("approve", self._ref, lambda: self._plan.approve(execution, step),
                           writes=True)


class _Backlog(Backlog):
    def __init__(self, platform: SimulatedPlatform, lever: LeverSpec) -> None:
        self._platform, self._ref = platform, lever.ref
        item, largest = lever.params.get("item"), lever.params.get("max_item_bytes")
        hide = lever.params.get("claim_seconds")
        self._item = {str(k): str(v) for k, v in item.items()} if isinstance(
            item, Mapping) else {}
        self._largest = largest if isinstance(largest, int) else _MAX_ITEM
        self.claim_seconds = float(hide) if isinstance(hide, int | float) else _CLAIM_SECONDS

    def measure(self) -> BacklogMeasure:
        return self._platform.act("measure", self._ref, self._measured)

    def _measured(self) -> BacklogMeasure:
        now, messages = self._platform.runtime.now(), self._platform.queue(self._ref).messages
        hidden = sum(message.visible_at > now for message in messages)
        oldest = min((message.sent_at for message in messages), default=None)
        return BacklogMeasure(len(messages) - hidden, hidden,
                              None if oldest is None else (now - oldest) / SECOND)

    def max_receives(self) -> int | None:
        return self._platform.queue(self._ref).max_receives

    def claim(self, limit: int) -> Sequence[WorkItem]:
        taken = self._platform.act(
            "claim", self._ref, lambda: self._platform.receive(
                self._ref, min(limit, _BATCH), self.claim_seconds), writes=True)
        return [self._item_of(message) for message in taken]

    def extend(self, handles: Sequence[str], seconds: float) -> Mapping[str, bool]:
        return self._platform.act(
            "extend", self._ref, lambda: {
                handle: self._platform.hide(self._ref, handle, seconds) for handle in handles},
            writes=True)

    def settle(self, handles: Sequence[str]) -> Mapping[str, bool]:
        try:
            return self._platform.act(
                "settle", self._ref, lambda: {
                    handle: self._platform.delete(self._ref, handle) for handle in handles},
                instead=dict.fromkeys(handles, True), writes=True)
        except Unavailable:
            return dict.fromkeys(handles, False)

    def put(self, items: Sequence[WorkItem], *, keys: Mapping[str, str]) -> Sequence[PutResult]:
        return self._platform.deliver(self._ref, items, keys)

    def _item_of(self, message: Message) -> WorkItem:
        found = understand(message.body, self._item, self._largest)
        sent = datetime.fromtimestamp(message.sent_at / SECOND, UTC)
        return WorkItem(
            item_id=found.item_id, message_id=message.message_id, body=message.body,
            fields=found.fields, handle=message.handle, hops=message.hops,
            submitted=message.submitted or found.submitted or sent.isoformat(),
            receives=message.receives, problem=found.problem, attributes=message.attributes,
        )


def _destinations(params: Mapping[str, object]) -> frozenset[str] | None:
    names = params.get("destinations")
    return frozenset(str(name) for name in names) if isinstance(names, list | tuple) else None


def _seconds(params: Mapping[str, object]) -> float:
    given = params.get("propagation")
    return float(given) if isinstance(given, int | float) else 0.0


def _step(params: Mapping[str, object]) -> int:
    step = params.get("step")
    return step if isinstance(step, int) else 1
