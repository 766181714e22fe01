"""probes/http.py against a real server with bad habits."""

from __future__ import annotations

import datetime
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from ccfailover.errors import UsageError
from ccfailover.health import ProbeJob
from ccfailover.health.probes.http import HttpProbe
from ccfailover.model.health import Outcome, Reading
from ccfailover.runtime import SystemRuntime

Job = Callable[..., ProbeJob]
GOOD, WARN, BAD, UNKNOWN = Outcome.GOOD, Outcome.WARN, Outcome.BAD, Outcome.UNKNOWN


def resolve(reference: str) -> str:
    secrets = {"env:TOKEN": "s3cr3t", "env:SMUGGLE": "x\r\nX-Evil: 1"}
    if reference not in secrets:
        raise UsageError(f"{reference} is not set")
    return secrets[reference]


def ask(runtime: SystemRuntime, *jobs: ProbeJob, budget: float = 5.0) -> dict[str, Reading]:
    probe = HttpProbe(runtime, resolve=resolve)
    return {seen.key: seen for seen in probe.read_many(jobs, runtime.monotonic() + budget)}


def one(runtime: SystemRuntime, job: ProbeJob, budget: float = 5.0) -> Reading:
    return ask(runtime, job, budget=budget)[job.target.key]


@pytest.mark.parametrize(("code", "wanted", "outcome"), [
    (200, None, GOOD), (204, None, GOOD), (302, None, BAD), (404, None, BAD), (503, None, BAD),
    (401, "200-299,401", GOOD), (500, "200-299,401", BAD), (503, 503, GOOD),
])
def test_the_status_decides(runtime: SystemRuntime, job: Job, web: Any, code: int, wanted: Any,
                            outcome: Outcome) -> None:
    """Only a status in the ranges that the policy names is good."""
    params = {"status": wanted} if wanted else {}
    seen = one(runtime, job("http", url=f"{web.url}/status/{code}", **params))
    assert seen.outcome is outcome
    assert seen.values["status"] == code
    assert f"answered {code}" in seen.detail


@pytest.mark.parametrize(("body", "params", "outcome"), [
    (b"all is well", {"contains": "is well"}, GOOD),
    (b"all is lost", {"contains": "is well"}, BAD),
    (b'{"a": {"b/c": [1, {"ok": true}]}}',
     {"field": {"path": "/a/b~1c/1/ok", "equals": True}}, GOOD),
    (b'{"ok": 1}', {"field": {"path": "/ok", "equals": True}}, BAD),
    (b'{"ok": 1.0}', {"field": {"path": "/ok", "equals": 1}}, GOOD),
    (b'{"ok": null}', {"field": {"path": "/ok", "equals": None}}, GOOD),
    (b"{}", {"field": {"path": "/ok", "equals": None}}, BAD),
    (b"[1]", {"field": {"path": "/01", "equals": 1}}, BAD),
    (b"not json", {"field": {"path": "/ok", "equals": True}}, BAD),
    (b"[" * 60_000, {"field": {"path": "/ok", "equals": True}}, BAD),
    (b'{"ok": true}' + b" " * 70_000, {"field": {"path": "/ok", "equals": True}}, BAD),
    (b"x" * 70_000 + b"is well", {"contains": "is well"}, BAD),
    (b"", {}, GOOD),
])
def test_the_body_decides_when_it_is_asked_for(
    runtime: SystemRuntime, job: Job, web: Any, body: bytes, params: Any, outcome: Outcome
) -> None:
    """A text or a JSON field is compared exactly, within the first 64 KiB, and never quoted."""
    web.body = body
    seen = one(runtime, job("http", url=f"{web.url}/body", **params))
    assert seen.outcome is outcome, seen.detail
    assert "all is lost" not in seen.detail
    assert seen.values["body_bytes"] <= 65_536


def test_an_endless_body_is_read_to_64_kib_only(runtime: SystemRuntime, job: Job, web: Any) -> None:
    """A server that never stops sending costs 64 KiB, not memory and not the time-out."""
    seen = one(runtime, job("http", url=f"{web.url}/endless", timeout=4.0))
    assert seen.outcome is GOOD
    assert seen.values["body_bytes"] == 65_536
    assert seen.seconds < 4.0
    assert web.sent < 50_000_000


def test_silence_is_bad(runtime: SystemRuntime, job: Job, web: Any, mute: int) -> None:
    """Hanging before the answer, dripping a body, or never accepting is the site's own fault."""
    found = ask(
        runtime,
        job("http", "hang", url=f"{web.url}/hang", timeout=0.4),
        job("http", "drip", url=f"{web.url}/drip", timeout=0.4),
        job("http", "mute", url=f"http://127.0.0.1:{mute}/", timeout=0.4),
    )
    assert {key: seen.outcome for key, seen in found.items()} == \
        {"hang": BAD, "drip": BAD, "mute": BAD}
    assert "body did not end" in found["drip"].detail


def test_refused_and_not_http_are_bad(runtime: SystemRuntime, job: Job, closed: int) -> None:
    """A closed port is down, and says so."""
    seen = one(runtime, job("http", url=f"http://127.0.0.1:{closed}/"))
    assert seen.outcome is BAD
    assert "refused" in seen.detail


def test_the_whole_poll_ends_at_its_deadline(runtime: SystemRuntime, job: Job, mute: int) -> None:
    """1100 targets that all hang: back at the deadline, every one told, and no lie about those
    that were never asked."""
    jobs = [job("http", f"k{index}", url=f"http://127.0.0.1:{mute}/", timeout=30.0)
            for index in range(1100)]
    began = runtime.monotonic()
    # A fifth of it is left for asking a thousand, which a busy machine needs a second for.
    found = ask(runtime, *jobs, budget=7.0)
    assert runtime.monotonic() - began < 7.0 + 2.0
    assert len(found) == 1100
    assert all(found[f"k{index}"].outcome is UNKNOWN for index in range(1000, 1100))
    assert found["k0"].outcome is BAD
    assert "not asked" in found["k1099"].detail


def test_a_name_that_does_not_resolve_is_unknown(runtime: SystemRuntime, job: Job) -> None:
    """No address says more about our resolver than about the site."""
    seen = one(runtime, job("http", url=f"http://{'x' * 64}.invalid/"))
    assert seen.outcome is UNKNOWN
    assert "does not resolve" in seen.detail


def test_redirects_are_not_followed_unless_asked(runtime: SystemRuntime, job: Job,
                                                 web: Any) -> None:
    """A redirect is an answer of its own; followed only on request, and never off HTTP."""
    web.location = f"{web.url}/status/200"
    assert one(runtime, job("http", url=f"{web.url}/redirect")).outcome is BAD
    follow = {"url": f"{web.url}/redirect", "follow_redirects": True}
    assert one(runtime, job("http", **follow)).outcome is GOOD
    web.location = "file:///etc/passwd"
    assert one(runtime, job("http", **follow)).outcome is not GOOD
    web.location = f"{web.url}/redirect"
    assert one(runtime, job("http", **follow)).outcome is BAD


def test_secrets_reach_the_server_and_nothing_else(runtime: SystemRuntime, job: Job,
                                                   web: Any) -> None:
    """A header's secret is sent; neither it nor the URL's query or password is told."""
    url = f"http://user:hush@127.0.0.1:{web.server_port}/status/500?key=quiet"
    seen = one(runtime, job("http", url=url, headers={"Authorization": "Bearer env:TOKEN",
                                                      "X-Plain": "as it is"}))
    headers = web.seen[0][1]
    assert (headers["Authorization"], headers["X-Plain"]) == ("Bearer s3cr3t", "as it is")
    for word in ("s3cr3t", "hush", "quiet"):
        assert word not in repr(seen)


@pytest.mark.parametrize("params", [
    {"headers": {"X-A": "env:MISSING"}},
    {"headers": {"X-A": "env:SMUGGLE"}},
    {"headers": {"X-A": "env:TOKEN"}, "follow_redirects": True},
    {"status": "abc"},
])
def test_what_cannot_be_asked_is_unknown(runtime: SystemRuntime, job: Job, web: Any,
                                         params: Any) -> None:
    """A secret that is missing or smuggles a header costs that one probe, and nothing is sent."""
    found = ask(runtime, job("http", "odd", url=f"{web.url}/status/200", **params),
                job("http", "fine", url=f"{web.url}/status/200"))
    assert found["odd"].outcome is UNKNOWN
    assert "Evil" not in found["odd"].detail
    assert found["fine"].outcome is GOOD
    assert len(web.seen) == 1


def test_head_and_slow(runtime: SystemRuntime, job: Job, web: Any) -> None:
    """HEAD reads no body; a good answer that took too long is a warning."""
    web.body = b"x" * 100
    seen = one(runtime, job("http", url=f"{web.url}/body", method="HEAD"))
    assert (seen.outcome, seen.values["body_bytes"]) == (GOOD, 0)
    late = one(runtime, job("http", url=f"{web.url}/body", slow="0.00001s"))
    assert late.outcome is WARN


def test_a_proxy_of_the_environment_is_not_used(
    runtime: SystemRuntime, job: Job, web: Any, closed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The verdict does not depend on whose shell asks."""
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{closed}")
    assert one(runtime, job("http", url=f"{web.url}/status/200")).outcome is GOOD


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    today = datetime.datetime.now(datetime.UTC)
    made = (x509.CertificateBuilder().subject_name(name).issuer_name(name)
            .public_key(key.public_key()).serial_number(1)
            .not_valid_before(today - datetime.timedelta(1))
            .not_valid_after(today + datetime.timedelta(1))
            .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), False)
            .sign(key, hashes.SHA256()))
    path = tmp_path / "both.pem"
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                          serialization.NoEncryption())
        + made.public_bytes(serialization.Encoding.PEM))
    return path


def test_tls_is_verified(runtime: SystemRuntime, job: Job, web: Any, certificate: Path) -> None:
    """A certificate nobody vouches for is bad; a CA file, or an explicit waiver, makes it good."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    web.socket = context.wrap_socket(web.socket, server_side=True)
    url = f"https://localhost:{web.server_port}/status/200"
    found = ask(runtime, job("http", "stranger", url=url),
                job("http", "vouched", url=url, ca_file=str(certificate)),
                job("http", "waived", url=url, verify_tls=False),
                job("http", "nofile", url=url, ca_file="/nonexistent/ca.pem"))
    assert {key: seen.outcome for key, seen in found.items()} == \
        {"stranger": BAD, "vouched": GOOD, "waived": GOOD, "nofile": UNKNOWN}
    assert "certificate" in found["stranger"].detail


@pytest.mark.parametrize(("body", "outcome", "values"), [
    (b'{"a": {"n": 7}, "m": 2.5}', GOOD, {"answered": 7.0, "waiting": 2.5}),
    (b'{"a": {"n": 7}}', UNKNOWN, {"answered": 7.0}),
    (b'{"a": {"n": "7"}, "m": true}', UNKNOWN, {}),
    (b'{"a": {"n": NaN}, "m": 1e999}', UNKNOWN, {}),
    (b"not JSON", UNKNOWN, {}),
])
def test_figures_are_read_and_a_missing_one_is_never_zero(
    runtime: SystemRuntime, job: Job, web: Any, body: bytes, outcome: Outcome,
    values: dict[str, float],
) -> None:
    """`values` gives numbers of the body by name; one that is no finite number is left out."""
    web.body = body
    seen = one(runtime, job("http", url=f"{web.url}/body",
                            values={"answered": "/a/n", "waiting": "/m"}))
    assert seen.outcome is outcome
    assert {name: seen.values[name] for name in ("answered", "waiting")
            if name in seen.values} == values
