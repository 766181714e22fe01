"""http: does a URL answer with the right status, and (optionally) the right body?"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar
from urllib.parse import urlsplit

from ccfailover.errors import CcfError
from ccfailover.health import Probe, ProbeJob
from ccfailover.health.expectation import Expectation, figures
from ccfailover.health.names import lookup
from ccfailover.health.patience import NOT_ASKED, Patience, reading
from ccfailover.health.references import Resolve, resolve_all
from ccfailover.health.sweep import Fetch, Sweep
from ccfailover.model.health import Outcome, Reading
from ccfailover.policy.kinds import DURATION
from ccfailover.policy.units import duration
from ccfailover.runtime import Runtime

OBSERVER_ERRNOS = frozenset({errno.ENETUNREACH, errno.ENETDOWN, errno.EADDRNOTAVAIL,
                             errno.EMFILE, errno.ENFILE, errno.ENOBUFS})
REASONS = {
    7: "refused the connection", 8: "gave a reply that is not HTTP", 18: "broke off its answer",
    35: "failed the TLS handshake", 47: "redirects without end", 52: "closed without an answer",
    55: "broke the connection", 56: "broke the connection", 60: "has a certificate that does not "
    "verify", 61: "sent an encoding that cannot be read", 92: "broke the HTTP/2 stream",
}
"""curl's error numbers (libcurl-errors(3)) that are the target's fault, as sentences."""
OWN_FAULTS = {
    1: "no protocol that a probe speaks", 3: "malformed URL", 5: "the proxy does not resolve",
    6: "the name does not resolve", 27: "out of memory", 58: "the client certificate cannot be "
    "used", 77: "the CA file cannot be read",
}
"""Those that are the observer's."""
TIMED_OUT = 28
OWN_VALUES = ("status", "total_s", "connect_s", "body_bytes")
_RANGE = r"[1-5]\d\d(-[1-5]\d\d)?"


@dataclass(frozen=True)
class _Place:
    """A URL cut into what connecting needs; `shown` has no credentials and no query."""

    host: str
    port: int
    shown: str


class HttpProbe(Probe):
    """Asks every URL at once, each over a connection of its own.

    BAD: wrong status, wrong body, refused, broken off, a certificate that does not verify, no
    answer in time. UNKNOWN: the name does not resolve, a secret cannot be had, this machine has
    no network, or the poll ended before the target had a fair chance. Proxies of the
    environment are not used: a verdict must not depend on whose shell asks.
    """

    kind: ClassVar[str] = "http"
    summary: ClassVar[str] = "a URL answers with the right status, and body if one is asked for"
    PARAMS: ClassVar[Mapping[str, object]] = {
        "type": "object",
        "required": ["url"],
        "additionalProperties": False,
        "properties": {
            "url": {"type": "string", "pattern": "^https?://[^\\s/]", "maxLength": 2048,
                    "x-message": "must begin with http:// or https:// and a host"},
            "method": {"enum": ["GET", "HEAD"], "default": "GET"},
            "status": {
                "description": "statuses that are good, such as 200-299,401",
                "default": "200-299",
                "anyOf": [{"type": "integer", "minimum": 100, "maximum": 599},
                          {"type": "string",
                           "pattern": f"^{_RANGE}(,{_RANGE})*$"}],
            },
            "contains": {"type": "string", "minLength": 1, "maxLength": 1024,
                         "description": "text that the first 64 KiB of the body must hold"},
            "field": {
                "description": "a JSON field (RFC 6901 pointer) and what it must equal",
                "type": "object", "required": ["path", "equals"], "additionalProperties": False,
                "properties": {"path": {"type": "string", "pattern": "^(/.*)?$"},
                               "equals": {"type": ["string", "number", "boolean", "null"]}},
            },
            "values": {
                "description": "numbers to read from a JSON body: name → RFC 6901 pointer; a "
                "queue's probe with `answered` lets `verify` count what the receiver served",
                "type": "object", "minProperties": 1, "maxProperties": 32,
                "propertyNames": {"pattern": "^[a-z][a-z0-9_]*$",
                                  "not": {"enum": list(OWN_VALUES)}},
                "additionalProperties": {"type": "string", "pattern": "^(/.*)?$",
                                         "maxLength": 256},
            },
            "headers": {
                "description": "values may be secrets by reference: `Bearer env:TOKEN`",
                "type": "object", "maxProperties": 32,
                "propertyNames": {"pattern": "^[A-Za-z0-9-]+$"},
                "additionalProperties": {
                    "type": "string", "pattern": "^[^\\r\\n]*$",
                    "x-message": "must be one line; a secret by reference: Bearer env:TOKEN"},
            },
            "slow": {**DURATION, "description": "from here on a good answer is a warning"},
            "connect_timeout": {**DURATION, "description": "never more than `timeout`"},
            "verify_tls": {"type": "boolean", "default": True},
            "ca_file": {"type": "string", "description": "certificates to trust instead"},
            "follow_redirects": {
                "type": "boolean", "default": False,
                "description": "at most five; never together with `headers`, which could leak"},
        },
        "not": {"required": ["headers", "follow_redirects"],
                "properties": {"follow_redirects": {"const": True}}},
    }

    def __init__(self, runtime: Runtime, *, resolve: Resolve) -> None:
        self._runtime = runtime
        self._resolve = lru_cache(maxsize=1024)(resolve)

    def read_many(self, jobs: Sequence[ProbeJob], deadline: float) -> Iterator[Reading]:
        self._resolve.cache_clear()  # a secret may have been changed since the last poll
        usable: list[tuple[ProbeJob, _Place, Expectation, Mapping[str, str]]] = []
        for job in jobs:
            try:
                usable.append((job, _place(str(job.spec.params["url"])),
                               Expectation.of(job.spec.params), self._headers(job.spec.params)))
            except (CcfError, ValueError) as error:
                yield self._told(job, Outcome.UNKNOWN, f"cannot ask: {error}")
        addresses = lookup({place.host for _, place, _, _ in usable}, self._runtime, deadline)
        patience = Patience(self._runtime.monotonic(), deadline)
        fetches: list[Fetch] = []
        asked: list[tuple[ProbeJob, _Place, Expectation]] = []
        for job, place, expected, headers in usable:
            if not addresses[place.host]:
                yield self._told(job, Outcome.UNKNOWN, f"{place.host} does not resolve")
                continue
            prepare = _prepare(job, place, addresses[place.host], headers, patience)
            fetches.append(Fetch(len(asked), prepare))
            asked.append((job, place, expected))
        if not fetches:
            return
        for fetch in Sweep(fetches, self._runtime, deadline).results():
            job, place, expected = asked[fetch.index]
            yield self._judge(fetch, job, place, expected, patience)

    def _headers(self, params: Mapping[str, object]) -> Mapping[str, str]:
        given = params.get("headers")
        if not isinstance(given, Mapping):
            return {}
        if params.get("follow_redirects"):
            raise ValueError("headers and follow_redirects together could leak a secret")
        return resolve_all({str(name): str(text) for name, text in given.items()}, self._resolve)

    def _judge(
        self, fetch: Fetch, job: ProbeJob, place: _Place, expected: Expectation,
        patience: Patience,
    ) -> Reading:
        values: dict[str, float] = {}
        if fetch.code == 0:
            outcome, detail = expected.judge(fetch.status, bytes(fetch.body), fetch.truncated,
                                             fetch.seconds)
            values = {"status": fetch.status, "total_s": round(fetch.seconds, 6),
                      "connect_s": round(fetch.connect_s, 6), "body_bytes": len(fetch.body)}
            outcome, detail = self._read_values(fetch, job, outcome, detail, values)
        elif fetch.code == -1:
            outcome, detail = Outcome.UNKNOWN, NOT_ASKED
        elif fetch.code in (None, TIMED_OUT):
            outcome, detail = self._silence(fetch, job, patience)
        elif fetch.os_errno in OBSERVER_ERRNOS:
            outcome, detail = Outcome.UNKNOWN, os.strerror(fetch.os_errno).lower()
        elif fetch.code in OWN_FAULTS:
            outcome, detail = Outcome.UNKNOWN, OWN_FAULTS[fetch.code]
        else:
            outcome = Outcome.BAD
            detail = REASONS.get(fetch.code or 0, f"failed (curl error {fetch.code})")
        return self._told(job, outcome, f"{place.shown} {detail}", fetch.seconds, values)

    @staticmethod
    def _read_values(
        fetch: Fetch, job: ProbeJob, outcome: Outcome, detail: str, values: dict[str, float],
    ) -> tuple[Outcome, str]:
        """Adds the figures asked for; a good answer that lacks one is unknown, not good."""
        wanted = job.spec.params.get("values")
        if not isinstance(wanted, Mapping) or outcome is Outcome.BAD:
            return outcome, detail
        pointers = {str(name): str(pointer) for name, pointer in wanted.items()}
        values.update(figures(bytes(fetch.body), fetch.truncated, pointers))
        missing = sorted(set(pointers) - set(values))
        if not missing:
            return outcome, detail
        return Outcome.UNKNOWN, f"{detail}, but without a number for {', '.join(missing)}"

    @staticmethod
    def _silence(fetch: Fetch, job: ProbeJob, patience: Patience) -> tuple[Outcome, str]:
        connect = _seconds(job.spec.params.get("connect_timeout"))
        if fetch.status == 0 and fetch.connect_s == 0 and fetch.code == TIMED_OUT \
                and connect is not None and fetch.seconds >= connect - 0.01:
            return Outcome.BAD, f"no connection in {fetch.seconds:.1f} s"
        outcome, detail = patience.silence(job.spec.timeout, fetch.seconds)
        if fetch.status:
            detail = f"answered {fetch.status}, but its body did not end: {detail}"
        return outcome, detail

    def _told(self, job: ProbeJob, outcome: Outcome, detail: str, seconds: float = 0.0,
              values: Mapping[str, float] | None = None) -> Reading:
        return reading(job.target.key, self._runtime.now(), outcome, detail, seconds=seconds,
                       values=values)


def _seconds(given: object) -> float | None:
    return None if given is None else duration(given)


def _place(url: str) -> _Place:
    """Raises ValueError, without the URL in it, for one that cannot be asked."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("the URL is not http://host… or https://host…")
    port = parts.port or (443 if parts.scheme == "https" else 80)
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    shown = f"{parts.scheme}://{host}{f':{parts.port}' if parts.port else ''}{parts.path}"
    return _Place(parts.hostname, port, shown)


def _prepare(
    job: ProbeJob, place: _Place, addresses: Sequence[str], headers: Mapping[str, str],
    patience: Patience,
) -> Callable[[Any, float], None]:
    """What sets up one curl handle for `job`, at the moment `now` when its turn comes."""
    params = job.spec.params

    def prepare(handle: Any, now: float) -> None:
        import pycurl

        allowance = patience.allowance(job.spec.timeout, now)
        connect = _seconds(params.get("connect_timeout")) or allowance
        handle.setopt(pycurl.URL, str(params["url"]))
        handle.setopt(pycurl.PROTOCOLS, pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS)
        handle.setopt(pycurl.REDIR_PROTOCOLS, pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS)
        handle.setopt(pycurl.NOSIGNAL, 1)
        handle.setopt(pycurl.PROXY, "")
        handle.setopt(pycurl.NETRC, 0)
        handle.setopt(pycurl.USERAGENT, "ccfailover")
        handle.setopt(pycurl.FRESH_CONNECT, 1)
        handle.setopt(pycurl.FORBID_REUSE, 1)
        handle.setopt(pycurl.TIMEOUT_MS, max(1, int(allowance * 1000)))
        handle.setopt(pycurl.CONNECTTIMEOUT_MS, max(1, int(min(connect, allowance) * 1000)))
        handle.setopt(pycurl.NOBODY, 1 if params.get("method") == "HEAD" else 0)
        handle.setopt(pycurl.HTTPHEADER, [f"{name}: {text}" for name, text in headers.items()])
        if params.get("follow_redirects"):
            handle.setopt(pycurl.FOLLOWLOCATION, 1)
            handle.setopt(pycurl.MAXREDIRS, 5)
        if place.host not in addresses:
            known = ",".join(f"[{one}]" if ":" in one else one for one in addresses)
            handle.setopt(pycurl.RESOLVE, [f"{place.host}:{place.port}:{known}"])
        if place.shown.startswith("https:"):
            verify = bool(params.get("verify_tls", True))
            handle.setopt(pycurl.SSL_VERIFYPEER, 1 if verify else 0)
            handle.setopt(pycurl.SSL_VERIFYHOST, 2 if verify else 0)
            trusted = params.get("ca_file") or _system_certificates()
            if trusted:
                handle.setopt(pycurl.CAINFO, str(trusted))

    return prepare


@lru_cache(maxsize=1)
def _system_certificates() -> str | None:
    """The system's own CA file: a curl that came in a wheel may not know where it lies."""
    import ssl

    usual = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt",
             "/etc/ssl/cert.pem")
    told = ssl.get_default_verify_paths().cafile
    return next((path for path in (told, *usual) if path and os.path.isfile(path)), None)
