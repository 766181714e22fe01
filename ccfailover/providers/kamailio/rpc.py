"""Kamailio's JSON-RPC, one call an exchange: over HTTP (module xhttp) or a unix datagram socket.

Replies are matched by id. An error of the edge's own is Rejected with its message, cut and escaped;
what a call that writes leaves open (no reply, or one that makes no sense) is in doubt.
"""

from __future__ import annotations

import base64
import errno
import json
import os
import socket
from collections.abc import Sequence
from typing import Final, Protocol

from ccfailover.errors import Rejected, Unavailable
from ccfailover.model.policy import ProviderSpec
from ccfailover.providers import Resolve
from ccfailover.providers.curl import Client, Origin, Reply, check_status, origin
from ccfailover.providers.documents import MISSING, at, parse, quoted
from ccfailover.providers.params import is_reference, mapping, text
from ccfailover.runtime import Runtime

CAP: Final = 4 * 1_048_576
"""Bytes of a reply: a list of some ten thousand destinations."""
_DATAGRAM: Final = 196_608
"""Bytes; much larger ones do not leave the edge, with the buffers that Linux gives it."""
_CONNECT_TIMEOUT: Final = 5.0
_BUSY: Final = frozenset({"Ongoing reload", "Not ready for reload"})
"""What `dispatcher.reload` says within `reload_delta` seconds of the last one, and at start."""
_RELOAD_DELTA: Final = 5.0
"""Seconds; Kamailio's default, and it does not say how many are left."""
_LOOK: Final = "it may have taken effect: read it back before you try again"

Value = str | int
"""What a call is given."""


class Wire(Protocol):
    """One exchange. Raises Rejected and Unavailable; `seconds` bounds it all."""

    def exchange(self, body: bytes, ident: str, *, where: str, writes: bool,
                 seconds: float) -> object: ...

    def repeats_secret(self, said: str) -> bool: ...

    def close(self) -> None: ...


class Rpc:
    """Calls to one edge; threads may share it."""

    def __init__(self, spec: ProviderSpec, resolve: Resolve, runtime: Runtime, *,
                 timeout: float) -> None:
        self.name, self._timeout, self._runtime = spec.name, timeout, runtime
        path = text(spec.params.get("socket"))
        self._wire: Wire = (Datagrams(spec.name, path, runtime) if path
                            else Web(spec, resolve, runtime, timeout))

    def close(self) -> None:
        self._wire.close()

    def end(self) -> float:
        """When several calls that begin now have to be over (monotonic seconds)."""
        return self._runtime.monotonic() + self._timeout

    def call(self, method: str, *params: Value, end: float, writes: bool = False,
             not_done: str | None = None) -> object:
        """The call's result, until `end`.

        Raises Rejected for an error of the edge's own, Unavailable (in doubt where it `writes`)
        when there was no reply in time; `not_done` is said where nothing was changed."""
        ident = self._runtime.new_id()
        body = json.dumps({"jsonrpc": "2.0", "id": ident, "method": method,
                           "params": list(params)}).encode()
        where = " ".join([method, *(quoted(str(each), 40) for each in params[:2])])
        left = end - self._runtime.monotonic()
        if left <= 0:
            raise Unavailable("no time was left for this call", in_doubt=False,
                              provider=self.name, where=where,
                              not_done=not_done or "it was not sent")
        try:
            document = self._wire.exchange(body, ident, where=where, writes=writes, seconds=left)
        except Unavailable as error:
            if not error.in_doubt and error.not_done is None:
                error.not_done = not_done
            raise
        result, fault = at(document, "/result"), at(document, "/error")
        if fault is MISSING and result is not MISSING:
            if at(document, "/id") != ident:
                raise self._nonsense("it answers another call", where, writes=writes)
            return result
        message = at(fault, "/message") if isinstance(fault, dict) else MISSING
        if not isinstance(message, str):
            raise self._nonsense("neither result nor error", where, writes=writes)
        if message in _BUSY:
            raise Unavailable(f"the edge takes no reload now: {message}", in_doubt=False,
                              provider=self.name, where=where, retry_after=_RELOAD_DELTA,
                              not_done=not_done,
                              hint="modparam(\"dispatcher\", \"reload_delta\", 0) lets it")
        shown = "(a message that repeats a secret)" if self._wire.repeats_secret(message) \
            else quoted(message, 120)
        raise Rejected(f"the edge says no: {shown}", provider=self.name, where=where,
                       not_done=not_done)

    def _nonsense(self, what: str, where: str, *, writes: bool) -> Rejected | Unavailable:
        return nonsense(what, self.name, where, writes=writes)


def nonsense(what: str, provider: str, where: str, *, writes: bool) -> Rejected | Unavailable:
    """A reply that says nothing: whether a write was done is open then."""
    said = f"the reply makes no sense: {what}"
    if writes:
        return Unavailable(said, in_doubt=True, provider=provider, where=where, hint=_LOOK)
    return Rejected(said, provider=provider, where=where)


class Web:
    """Over HTTP. The address and the token are fetched when first used, anew after a 401."""

    def __init__(self, spec: ProviderSpec, resolve: Resolve, runtime: Runtime,
                 timeout: float) -> None:
        self._name, self._params = spec.name, spec.params
        self._resolve, self._runtime = resolve, runtime
        tls = mapping(spec.params.get("tls"))
        self._client = Client(spec.name, timeout=timeout, connect_timeout=_CONNECT_TIMEOUT,
                              ca=text(tls.get("ca")) or None,
                              verify=tls.get("verify") is not False, cap=CAP)
        self._cached: dict[str, str] = {}

    def exchange(self, body: bytes, ident: str, *, where: str, writes: bool,
                 seconds: float) -> object:
        base = self._origin()
        where = f"{base.shown} {where}"
        headers = [("Content-Type", "application/json"), ("Accept", "application/json")]
        if token := text(self._params.get("token")):
            secret = self._secret(token)
            if not secret.isprintable():
                raise Rejected("the token has a control character", provider=self._name,
                               where=where, not_done="nothing was sent")
            headers.append(("Authorization", f"Bearer {secret}"))
        reply = self._client.send("POST", base.url, where=where, writes=writes, headers=headers,
                                  body=body, login=base.login, timeout=seconds)
        if reply.status == 401:
            self._cached.clear()
        document = self._document(reply)
        # Its own errors come as 404 or 500, with a JSON-RPC body that says more than the number; a
        # proxy's have none.
        own = at(document, "/jsonrpc") == "2.0" and isinstance(at(document, "/error"), dict)
        if not own:
            check_status(reply, provider=self._name, where=where, writes=writes,
                         now=self._runtime.now)
        if document is MISSING:
            what = f"larger than {CAP >> 20} MiB" if reply.cut else "not JSON"
            raise nonsense(what, self._name, where, writes=writes)
        return document

    def repeats_secret(self, said: str) -> bool:
        login = self._origin().login
        known = [*self._cached.values(), *(login or ())]
        if login is not None:
            known.append(base64.b64encode(":".join(login).encode()).decode())
        return any(len(secret) > 3 and secret in said for secret in known)

    def close(self) -> None:
        self._client.close()
        self._cached.clear()

    @staticmethod
    def _document(reply: Reply) -> object:
        if reply.cut:
            return MISSING
        try:
            return parse(reply.body)
        except ValueError:
            return MISSING

    def _secret(self, reference: str) -> str:
        if reference not in self._cached:
            self._cached[reference] = self._resolve(reference).strip()
        return self._cached[reference]

    def _origin(self) -> Origin:
        url = text(self._params.get("url"))
        secret = is_reference(url)
        try:
            return origin(self._secret(url) if secret else url, secret=secret)
        except ValueError as error:
            raise Rejected(str(error), provider=self._name, not_done="nothing was sent",
                           hint="correct url of this provider in the policy") from None


class Datagrams:
    """Over a unix datagram socket: a new one of ours for each call, without a name in any folder
    (Linux gives it one of its own), so that no late reply meets the next call."""

    def __init__(self, name: str, path: str, runtime: Runtime) -> None:
        self._name, self._path, self._runtime = name, path, runtime

    def exchange(self, body: bytes, ident: str, *, where: str, writes: bool,
                 seconds: float) -> object:
        end = self._runtime.monotonic() + seconds
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ours:
            try:
                ours.bind("")
                ours.settimeout(seconds)
                ours.connect(self._path)
                ours.send(body)
            except OSError as error:
                why = "no room in time" if isinstance(error, TimeoutError) \
                    else os.strerror(error.errno or errno.EIO)
                raise Unavailable(f"unreachable: {why}", in_doubt=False,
                                  provider=self._name, where=where,
                                  not_done="nothing was sent") from None
            while True:
                document = self._reply(ours, end, where, writes=writes)
                if at(document, "/id") in (ident, MISSING):
                    return document  # what has no id is for the caller to refuse

    def _reply(self, ours: socket.socket, end: float, where: str, *, writes: bool) -> object:
        try:
            left = end - self._runtime.monotonic()
            if left <= 0:
                raise TimeoutError
            ours.settimeout(left)
            data, _, flags, _ = ours.recvmsg(_DATAGRAM)
        except TimeoutError:
            raise Unavailable("no reply in time", in_doubt=writes, provider=self._name,
                              where=where, hint=_LOOK if writes else None) from None
        except OSError as error:
            raise Unavailable(f"the socket broke: {os.strerror(error.errno or errno.EIO)}",
                              in_doubt=writes, provider=self._name, where=where,
                              hint=_LOOK if writes else None) from None
        if flags & socket.MSG_TRUNC:
            raise nonsense("it is cut off", self._name, where, writes=writes)
        try:
            return parse(data)
        except ValueError:
            raise nonsense("not JSON", self._name, where, writes=writes) from None

    def repeats_secret(self, said: str) -> bool:
        return False  # there is none: the socket's file mode decides who may call

    def close(self) -> None:
        """Nothing is kept open."""


def words(result: object, *pointers: str) -> Sequence[str]:
    """The texts at these places; raises ValueError where one is missing or no text."""
    found = [at(result, pointer) for pointer in pointers]
    texts = [value for value in found if isinstance(value, str)]
    if len(texts) != len(found):
        raise ValueError(f"no text at one of {', '.join(pointers)}")
    return texts
