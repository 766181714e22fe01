"""What the sessions with one vendor's interface have in common: one address each, a time for all
requests of a call, and JSON objects as replies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ccfailover.errors import Rejected, Unavailable
from ccfailover.model.policy import ProviderSpec
from ccfailover.providers import Resolve
from ccfailover.providers.curl import Client, Reply, check_status, origin
from ccfailover.providers.documents import parse
from ccfailover.providers.params import text
from ccfailover.runtime import Runtime

_CONNECT_TIMEOUT: Final = 5.0


class VendorSession:
    """Threads may share it. Of the vendor's words none gets into an error, since a reply may quote
    what it was sent."""

    def __init__(self, spec: ProviderSpec, resolve: Resolve, runtime: Runtime, *,
                 timeout: float) -> None:
        self.name = spec.name
        self._params, self._resolve, self._runtime = spec.params, resolve, runtime
        self._client = Client(spec.name, timeout=timeout, connect_timeout=_CONNECT_TIMEOUT)
        self._timeout = timeout

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name})"

    def close(self) -> None:
        self._client.close()

    def end(self) -> float:
        """When a call of several requests that begins now has to be over (monotonic seconds)."""
        return self._runtime.monotonic() + self._timeout

    def left(self, end: float, where: str) -> float:
        """Seconds for the next request. Raises Unavailable, not in doubt, when there are none."""
        left = end - self._runtime.monotonic()
        if left <= 0:
            raise Unavailable("no time was left for this request", in_doubt=False,
                              provider=self.name, where=where, not_done="it was not sent")
        return left

    def nonsense(self, what: str, where: str) -> Rejected:
        return Rejected(f"the reply makes no sense: {what}", provider=self.name, where=where)

    def check(self, reply: Reply, where: str, *, writes: bool,
              not_done: str | None = None) -> None:
        """Raises what the reply's status means."""
        check_status(reply, provider=self.name, where=where, writes=writes,
                     now=self._runtime.now, not_done=not_done)

    def document(self, reply: Reply, where: str) -> Mapping[str, object]:
        """Raises Rejected when the reply is no JSON object."""
        if reply.cut:
            raise self.nonsense("it is larger than 1 MiB", where)
        try:
            document = parse(reply.body)
        except ValueError as error:
            raise self.nonsense(str(error), where) from None
        if not isinstance(document, dict):
            raise self.nonsense("no JSON object", where)
        return document

    def base(self, name: str, default: str, hint: str) -> str:
        """The address that the policy gives under `name`. Raises Rejected for what is none."""
        try:
            return origin(text(self._params.get(name), default)).url
        except ValueError as error:
            raise Rejected(str(error), provider=self.name, not_done="nothing was sent",
                           hint=f"correct {hint} of this provider in the policy") from None

    def secret(self, name: str) -> str:
        """What the reference under `name` stands for: fetched for every call, so that a rotated
        one counts."""
        return self._resolve(text(self._params.get(name))).strip()
