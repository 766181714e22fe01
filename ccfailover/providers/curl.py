"""Bounded HTTP exchanges through libcurl, one or several at once; adapters build on it.

Bounded means: a time-out on connecting and one on the whole exchange (a reply that drips or
never ends is cut off by it), and a cap on the bytes of headers and body. Redirects are not
followed (they would carry credentials elsewhere). pycurl is imported on first use.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from select import select
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote, urlsplit, urlunsplit

from ccfailover.errors import Rejected, Unavailable
from ccfailover.providers.catching import Catch, Headers, Many

if TYPE_CHECKING:
    import pycurl

MIB: Final = 1_048_576
_IDLE: Final = 4

_NOT_SENT: Final = {
    5: "its proxy's name does not resolve",
    6: "its name does not resolve",
    7: "the connection was refused or is unreachable",
    35: "no TLS connection could be made",
}
_UNTRUSTED: Final = {
    51: "its certificate is for another name",
    58: "our client certificate is unusable",
    60: "its certificate is not trusted",
    77: "the CA file cannot be read",
}
_BROKEN: Final = {
    18: "the reply was cut short",
    23: "the reply is too large",
    52: "it closed the connection without a reply",
    55: "the connection broke while sending",
    56: "the connection broke while waiting for the reply",
    65: "the connection broke before a reply",
    8: "the reply is not HTTP",
    1: "the reply is not HTTP",
}
_TIMEOUT: Final = 28
_MALFORMED: Final = 3


@dataclass(frozen=True)
class Reply:
    """`headers` by lower-case name, the last one wins. `cut` says that the body went on."""

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    cut: bool = False


@dataclass(frozen=True)
class Request:
    """`where` stands for `url` in errors. `timeout`: seconds, None for the client's own.

    Where a kept connection breaks after a request was sent, libcurl sends it again on a new one by
    itself; `once` forbids that (then it is an error, in doubt), for what is not the same twice.
    """

    method: str
    url: str = field(repr=False)
    where: str
    writes: bool
    headers: Sequence[tuple[str, str]] = field(default=(), repr=False)
    body: bytes | None = field(default=None, repr=False)
    login: tuple[str, str] | None = field(default=None, repr=False)
    timeout: float | None = None
    once: bool = False


@dataclass(frozen=True)
class Origin:
    """A base URL taken apart: `login` never appears in `url` or `shown`."""

    url: str
    shown: str
    login: tuple[str, str] | None = field(repr=False)


def origin(url: str, *, secret: bool = False) -> Origin:
    """Split a base URL. `shown` has no user, password or query, and with `secret` (the URL
    itself came from a secret) no path. Raises ValueError without quoting the URL."""
    if not url.strip().isascii() or not url.strip().isprintable():
        raise ValueError("the URL has a character that no URL may have")
    try:
        parts = urlsplit(url.strip())
        host, port = parts.hostname, parts.port
    except ValueError:
        raise ValueError("the URL is malformed") from None
    if parts.scheme not in ("http", "https") or not host or parts.query or parts.fragment:
        raise ValueError("the URL must be http:// or https://, with a host and no query")
    bracketed = f"[{host}]" if ":" in host else host
    netloc = f"{bracketed}:{port}" if port else bracketed
    path = parts.path.rstrip("/")
    login = None
    if parts.username is not None:
        login = (unquote(parts.username), unquote(parts.password or ""))
    return Origin(
        urlunsplit((parts.scheme, netloc, path, "", "")),
        urlunsplit((parts.scheme, netloc, "" if secret else path, "", "")),
        login,
    )


class Client:
    """Exchanges for one provider; threads may share it. `ca` None means the system's roots."""

    def __init__(
        self, provider: str, *, timeout: float, connect_timeout: float, ca: str | None = None,
        verify: bool = True, cap: int = MIB, environment_proxy: bool = False,
    ) -> None:
        self._provider = provider
        self._timeout = timeout
        self._connect_timeout = min(connect_timeout, timeout)
        self._ca = ca
        self._verify = verify
        self._cap = cap
        self._environment_proxy = environment_proxy
        self._idle: deque[pycurl.Curl] = deque()
        self._idle_many: deque[Many] = deque()

    def send(
        self, method: str, url: str, *, where: str, writes: bool,
        headers: Sequence[tuple[str, str]] = (), body: bytes | None = None,
        login: tuple[str, str] | None = None, timeout: float | None = None,
    ) -> Reply:
        """`exchange` of a request with these parts."""
        return self.exchange(Request(method, url, where, writes, headers, body, login, timeout))

    def exchange(self, request: Request) -> Reply:
        """One exchange, whatever its status.

        Raises Unavailable (`in_doubt` when it writes and may have arrived), and Rejected when TLS
        fails or the URL cannot be used.
        """
        import pycurl

        catch = Catch(self._cap)
        try:
            handle = self._idle.pop()
        except IndexError:
            handle = pycurl.Curl()
        try:
            self._prepare(handle, request, catch)
            code = 0
            try:
                handle.perform()
            except pycurl.error as error:
                code = int(error.args[0])
            outcome = self._outcome(handle, code, request, catch)
        finally:
            handle.reset()
            if len(self._idle) < _IDLE and not catch.cut:
                self._idle.append(handle)
            else:
                handle.close()
        if isinstance(outcome, Reply):
            return outcome
        raise outcome

    def send_all(
        self, requests: Iterable[Request], limit: int
    ) -> Iterator[tuple[int, Reply | Rejected | Unavailable]]:
        """Exchanges side by side on this thread, at most `limit` at a time; each is yielded as it
        ends, with its place in `requests`, and an error is an outcome like any other.

        A request is asked for when it can start, not before. Threads would take turns at
        Python's lock for every header line; libcurl needs one thread for all its sockets.
        """
        import pycurl

        try:
            many = self._idle_many.pop()
        except IndexError:
            many = Many(pycurl.CurlMulti())
        multi, turn = many.multi, enumerate(requests)
        flying: dict[pycurl.Curl, tuple[int, Request, Catch]] = {}
        sound = False
        try:
            while True:
                while len(flying) < limit and (following := next(turn, None)) is not None:
                    handle = many.idle.pop() if many.idle else pycurl.Curl()
                    catch = Catch(self._cap)
                    self._prepare(handle, following[1], catch)
                    multi.add_handle(handle)
                    flying[handle] = (*following, catch)
                if not flying:
                    break
                multi.perform()
                _, good, bad = multi.info_read(limit)
                ended = [(handle, 0) for handle in good] + [(one[0], one[1]) for one in bad]
                for handle, code in ended:
                    index, request, catch = flying.pop(handle)
                    outcome = self._outcome(handle, code, request, catch)
                    multi.remove_handle(handle)
                    handle.reset()
                    many.idle.append(handle)
                    yield index, outcome
                if not ended:
                    self._await(multi)
            sound = True
        finally:
            for handle in flying:
                multi.remove_handle(handle)
                handle.close()
            if sound and len(self._idle_many) < _IDLE:
                self._idle_many.append(many)
            else:
                many.close()

    def close(self) -> None:
        while self._idle:
            self._idle.pop().close()
        while self._idle_many:
            self._idle_many.pop().close()

    @staticmethod
    def _await(multi: pycurl.CurlMulti) -> None:
        """Until a socket stirs or libcurl wants to be asked. Python's own select, because
        pycurl's raises when a signal comes in."""
        alarm = multi.timeout()
        wait = 1.0 if alarm < 0 else min(1.0, alarm / 1000)
        reads, writes, errors = multi.fdset()
        if not (reads or writes or errors):
            wait = min(wait, 0.005)  # nothing to watch yet, and no busy loop
        select(reads, writes, errors, wait)

    def _prepare(self, handle: pycurl.Curl, request: Request, catch: Catch) -> None:
        import pycurl

        total = self._timeout if request.timeout is None else request.timeout
        handle.setopt(pycurl.HEADERFUNCTION, catch.header)
        handle.setopt(pycurl.WRITEFUNCTION, catch.data)
        handle.setopt(pycurl.URL, request.url)
        handle.setopt(pycurl.PROTOCOLS, pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS)
        handle.setopt(pycurl.FOLLOWLOCATION, 0)
        handle.setopt(pycurl.NOSIGNAL, 1)
        handle.setopt(pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_1_1)
        handle.setopt(pycurl.TIMEOUT_MS, max(1, int(total * 1000)))
        handle.setopt(pycurl.CONNECTTIMEOUT_MS, max(1, int(self._connect_timeout * 1000)))
        if not self._environment_proxy:
            handle.setopt(pycurl.PROXY, "")
        handle.setopt(pycurl.SSL_VERIFYPEER, 1 if self._verify else 0)
        handle.setopt(pycurl.SSL_VERIFYHOST, 2 if self._verify else 0)
        roots = self._ca or (system_roots() if request.url.startswith("https:") else None)
        if roots:
            handle.setopt(pycurl.CAINFO, roots)
        lines = [f"{name}: {value}" if value else f"{name};" for name, value in request.headers]
        handle.setopt(pycurl.HTTPHEADER, [line.encode("utf-8") for line in [*lines, "Expect:"]])
        if request.login is not None:
            user, password = (part.encode("utf-8", "surrogateescape") for part in request.login)
            if b"\0" in user + password:
                raise Rejected("the login has a NUL character", provider=self._provider,
                               where=request.where, not_done="nothing was sent")
            handle.setopt(pycurl.HTTPAUTH, pycurl.HTTPAUTH_BASIC)
            handle.setopt(pycurl.USERNAME, user)
            handle.setopt(pycurl.PASSWORD, password)
        if request.body is not None:
            if request.once:  # a body that cannot be wound back cannot be sent again
                handle.setopt(pycurl.POST, 1)
                handle.setopt(pycurl.POSTFIELDSIZE_LARGE, len(request.body))
                handle.setopt(pycurl.READFUNCTION, BytesIO(request.body).read)
            else:
                handle.setopt(pycurl.POSTFIELDS, request.body)
        handle.setopt(pycurl.CUSTOMREQUEST, request.method)

    def _outcome(
        self, handle: pycurl.Curl, code: int, request: Request, catch: Catch
    ) -> Reply | Rejected | Unavailable:
        """What a transfer that has ended with libcurl's `code` comes to."""
        import pycurl

        if code and not (catch.cut and catch.status):
            sent = handle.getinfo(pycurl.PRETRANSFER_TIME) > 0
            return self._failure(code, request.where, request.writes, sent=sent)
        return Reply(catch.status, Headers(catch.lines), bytes(catch.body), catch.cut)

    def _failure(
        self, code: int, where: str, writes: bool, *, sent: bool
    ) -> Rejected | Unavailable:
        """libcurl's own texts are not used: some quote the URL or a header."""
        name = self._provider
        if code in _UNTRUSTED:
            return Rejected(
                f"no safe connection: {_UNTRUSTED[code]}", provider=name, where=where,
                not_done="nothing was sent", hint="check tls.ca of this provider in the policy",
            )
        if code == _MALFORMED:
            return Rejected("the URL cannot be used", provider=name, where=where,
                            not_done="nothing was sent")
        if code in _NOT_SENT or (code == _TIMEOUT and not sent):
            why = _NOT_SENT.get(code, "no connection in time")
            return Unavailable(f"unreachable: {why}", in_doubt=False, provider=name, where=where,
                               not_done="nothing was sent")
        why = "no complete reply in time" if code == _TIMEOUT else _BROKEN.get(
            code, f"the exchange failed (libcurl code {code})")
        return Unavailable(
            why, in_doubt=writes, provider=name, where=where,
            hint="it may have taken effect: read it back before you try again" if writes else None,
        )


def system_roots() -> str | None:
    """The system's CA file; libcurl wheels may have been built for another place."""
    import ssl

    return ssl.get_default_verify_paths().cafile


def retry_after(headers: Mapping[str, str], now: Callable[[], int]) -> float | None:
    """Seconds of a Retry-After header (a number or a date), within 0..3600; None without."""
    value = headers.get("retry-after", "")
    if value.isascii() and value.isdigit() and len(value) <= 9:
        return min(float(value), 3600.0)
    if not value:
        return None
    from email.utils import parsedate_to_datetime

    try:
        then = parsedate_to_datetime(value).timestamp()
    except (ValueError, OverflowError):
        return None
    return min(max(0.0, then - now() / 1_000_000), 3600.0)


class Changed(Rejected):
    """The platform refused because the lever is not what it was when it was read."""


def check_status(
    reply: Reply, *, provider: str, where: str, writes: bool, now: Callable[[], int],
    not_done: str | None = None,
) -> None:
    """Raise what a status means, by number alone: a reason phrase or body could quote secrets."""
    status = reply.status
    if 200 <= status < 300:
        return
    if status in (408, 425, 429) or status >= 500:
        doubt = writes and (status >= 500 or status == 408)
        raise Unavailable(
            f"replied {status}", in_doubt=doubt, provider=provider, where=where,
            retry_after=retry_after(reply.headers, now),
            not_done=None if doubt else not_done,
            hint="it may have taken effect: read it back before you try again" if doubt else None,
        )
    hints = {
        401: "check this provider's auth in the policy and the secret that it names",
        403: "the credentials lack the right to do this",
        404: "check url, path and ref in the policy",
        409: "read it again: somebody else may be changing it",
        412: "read it again: somebody else may be changing it",
    }
    text = f"replied {status}"
    kind = Rejected
    if status in (409, 412):
        kind = Changed
        text = f"changed since it was read (replied {status})"
    elif 300 <= status < 400:
        text = f"replied {status}: redirects are not followed"
    raise kind(text, provider=provider, where=where, not_done=not_done,
                   hint=hints.get(status))
