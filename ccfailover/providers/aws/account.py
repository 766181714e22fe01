"""Calls to Amazon's services: botocore writes, signs and reads them, libcurl carries them.

botocore's own transport bounds each read of a socket, but neither the whole exchange nor its size
(docs/adr/0013-sqs-calls-of-our-own.md). Its event `before-send` lets another one answer in its
place; so every call has one deadline and a cap, and its parts are still the published model's.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from io import BytesIO
from threading import RLock
from typing import TYPE_CHECKING, Any, Final

from ccfailover.errors import Unavailable
from ccfailover.model.policy import ProviderSpec
from ccfailover.providers import Resolve
from ccfailover.providers.aws.faults import Explain, as_provider_error
from ccfailover.providers.curl import MIB, Client, Request
from ccfailover.providers.params import mapping, text
from ccfailover.runtime import Runtime

if TYPE_CHECKING:
    import boto3
    from botocore.awsrequest import AWSPreparedRequest, AWSResponse

Document = Mapping[str, object]
_CONNECT_TIMEOUT: Final = 5.0
_CAP: Final = 4 * MIB


@dataclass(frozen=True)
class Place:
    """Where a call goes: a service in a Region, at another address where `endpoint` says so."""

    service: str
    region: str
    endpoint: str | None = None


@dataclass(frozen=True)
class _Flight:
    where: str
    writes: bool
    timeout: float


@dataclass
class _Spell:
    """`until`: when the time of several calls is over, on the runtime's monotonic clock."""

    until: float


_FLIGHT: ContextVar[_Flight] = ContextVar("flight")
_SPELL: ContextVar[_Spell | None] = ContextVar("spell", default=None)


class Account:
    """One per provider; threads may share it. boto3 is imported by the first call."""

    def __init__(self, spec: ProviderSpec, resolve: Resolve, runtime: Runtime, *,
                 timeout: float) -> None:
        self.provider = spec.name
        self.runtime = runtime
        self.timeout = timeout
        self._params, self._resolve = spec.params, resolve
        self._lock = RLock()
        self._session: boto3.session.Session | None = None
        self._clients: dict[Place, Any] = {}
        self._curl = Client(spec.name, timeout=timeout, connect_timeout=_CONNECT_TIMEOUT,
                            ca=os.environ.get("AWS_CA_BUNDLE") or None, cap=_CAP,
                            environment_proxy=True)

    def close(self) -> None:
        with self._lock:
            clients, self._clients, self._session = self._clients, {}, None
        for client in clients.values():
            client.close()
        self._curl.close()

    def call(self, place: Place, operation: str, params: Document, *, where: str, writes: bool,
             timeout: float | None = None, explain: Explain | None = None) -> Document:
        """The answer to one call; `operation` as boto3's client names it, `where` as errors do.

        Raises Rejected and Unavailable (`in_doubt` when it writes and may have landed)."""
        shown = f"{where} {operation}"
        spell = _SPELL.get()
        try:
            began = self.runtime.monotonic()
            method = getattr(self._client(place), operation)
            now = self.runtime.monotonic()
            if spell is not None:
                spell.until += now - began  # reading models is no waiting, and done only once
            left = self.timeout if spell is None else spell.until - now
            if left <= 0:
                raise Unavailable("no time is left for it", in_doubt=False, where=shown,
                                  provider=self.provider, not_done="nothing was sent")
            with _in_flight(_Flight(shown, writes, min(timeout or left, left))):
                answer = method(**params)
        # Whatever it is that a hostile reply makes botocore's parsers raise.
        except Exception as error:  # noqa: BLE001
            raise as_provider_error(error, self.provider, shown, writes=writes,
                                    explain=explain) from None
        return answer if isinstance(answer, dict) else {}

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """All calls herein have together the time of one: a lease counts on that."""
        if _SPELL.get() is not None:
            yield
            return
        token = _SPELL.set(_Spell(self.runtime.monotonic() + self.timeout))
        try:
            yield
        finally:
            _SPELL.reset(token)

    def _client(self, place: Place) -> Any:
        """Made once for each place: it takes longer than a call, and on one thread at a time."""
        with self._lock:
            if place not in self._clients:
                self._clients[place] = self._connect(place)
            return self._clients[place]

    def _connect(self, place: Place) -> Any:
        import boto3
        from botocore.config import Config

        if self._session is None:
            keys = {name: self._resolve(text(ref)).strip()
                    for name, ref in mapping(self._params.get("credentials")).items()}
            self._session = boto3.session.Session(
                profile_name=text(self._params.get("profile")) or None,
                aws_access_key_id=keys.get("key_id"), aws_secret_access_key=keys.get("secret"),
                aws_session_token=keys.get("session_token"))
        make: Callable[..., Any] = self._session.client
        client = make(
            place.service, region_name=place.region,
            endpoint_url=place.endpoint or text(self._params.get("endpoint_url")) or None,
            # Repeating is the wrapper's business: it knows what may be repeated.
            config=Config(retries={"total_max_attempts": 1, "mode": "standard"}))
        client.meta.events.register("before-send", self._carry)
        return client

    def _carry(self, request: AWSPreparedRequest, **_: object) -> AWSResponse:
        from botocore.awsrequest import AWSResponse

        flight = _FLIGHT.get()
        body = None if request.method in ("GET", "DELETE") else _bytes(request.body)
        headers = {str(name): _plain(value) for name, value in request.headers.items()
                   if str(name).lower() not in ("content-length", "expect")}
        if body and "content-type" not in {name.lower() for name in headers}:
            headers["Content-Type"] = "application/xml"  # libcurl would call it a form
        reply = self._curl.exchange(Request(
            request.method, request.url, flight.where, flight.writes, tuple(headers.items()),
            body, timeout=flight.timeout))
        if reply.cut:
            raise Unavailable(f"the reply is larger than {_CAP // MIB} MiB",
                              in_doubt=flight.writes, provider=self.provider, where=flight.where)
        heard: Any = dict(reply.headers)  # AWSResponse takes any mapping
        return AWSResponse(request.url, reply.status, heard, _Body(reply.body))


class _Body(BytesIO):
    """As much of urllib3's response as botocore asks for."""

    def stream(self, **_: object) -> Iterator[bytes]:
        yield self.read()


@contextmanager
def _in_flight(flight: _Flight) -> Iterator[None]:
    token = _FLIGHT.set(flight)
    try:
        yield
    finally:
        _FLIGHT.reset(token)


def _plain(value: object) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)


def _bytes(body: object) -> bytes | None:
    if isinstance(body, str):
        return body.encode()
    if isinstance(body, bytes | bytearray):
        return bytes(body)
    read = getattr(body, "read", None)
    return bytes(read()) if callable(read) else None
