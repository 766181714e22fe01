"""Calls to Amazon's services: what errors become, what they show, and how long they take."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ccfailover.errors import ProviderError, Rejected, Unavailable
from ccfailover.model.policy import LeverSpec, ProviderSpec
from ccfailover.model.shares import Shares
from ccfailover.providers.aws.connect import ConnectProvider
from ccfailover.providers.aws.route53 import Route53Provider
from ccfailover.runtime import SystemRuntime
from tests.servers.awsconnect import INSTANCE, REGIONS, Connect, uuid
from tests.servers.awsfake import Fault
from tests.servers.awsroute53 import Route53
from tests.servers.weather import Weather
from tests.unit.providers.aws_parts import SECRETS, made

GATE = LeverSpec("edge", uuid(5), {"lever": "queue_status"})


class Grumpy(Connect):
    """Refuses every look at a queue, and every change of one, in the words that it is given."""

    fault: Fault | None = None

    def do_DescribeQueue(self, params: dict[str, object], region: str) -> dict[str, object]:
        if self.fault is not None:
            raise self.fault
        return super().do_DescribeQueue(params, region)

    def do_UpdateQueueStatus(self, params: dict[str, object], region: str) -> None:
        if self.fault is not None:
            raise self.fault
        super().do_UpdateQueueStatus(params, region)


@pytest.fixture(scope="module")
def fake() -> Iterator[Grumpy]:
    with Grumpy() as server:
        server.queues[uuid(5)] = {"status": "ENABLED", "hours": "h"}
        yield server


@pytest.fixture(scope="module")
def edge(fake: Grumpy) -> Iterator[ConnectProvider]:
    found = made(ConnectProvider, region=REGIONS[0], instance=INSTANCE, endpoint_url=fake.url)
    yield found
    found.close()
    found.close()


@pytest.mark.parametrize(("code", "status", "kind", "word"), [
    ("TooManyRequestsException", 429, Unavailable, "throttled"),
    ("ThrottlingException", 400, Unavailable, "throttled"),
    ("InternalServiceException", 500, Unavailable, "replied 500"),
    ("ServiceUnavailable", 503, Unavailable, "replied 503"),
    ("AccessDeniedException", 403, Rejected, "refused (AccessDeniedException)"),
    ("UnrecognizedClientException", 403, Rejected, "refused"),
    ("InvalidSignatureException", 403, Rejected, "refused"),
    ("ResourceNotFoundException", 404, Rejected, "refused"),
    ("<script>", 400, Rejected, "refused (?)"),
])
def test_codes_become_errors(fake: Grumpy, edge: ConnectProvider, code: str, status: int,
                             kind: type[ProviderError], word: str) -> None:
    """Only a 5xx of a write is in doubt, and the service's own text is never shown."""
    fake.fault = Fault(code, f"you sent {SECRETS['env:SECRET']}", status)
    try:
        for writes in (False, True):
            with pytest.raises(kind) as caught:
                if writes:
                    edge.gate(GATE).set_open(False, key="k")
                else:
                    edge.gate(GATE).is_open()
            error = caught.value
            assert word in error.what and "you sent" not in "\n".join(error.lines())
            if isinstance(error, Unavailable):
                assert error.in_doubt == (writes and status >= 500)
    finally:
        fake.fault = None


@pytest.mark.parametrize(("code", "hint"), [
    ("AccessDeniedException", "lack a right"), ("InvalidClientTokenId", "credentials"),
    ("RequestExpired", "clock")])
def test_refusals_say_what_to_look_at(fake: Grumpy, edge: ConnectProvider, code: str,
                                      hint: str) -> None:
    """Rights, credentials and clocks are three different things to mend."""
    fake.fault = Fault(code, "no", 403)
    try:
        with pytest.raises(Rejected) as caught:
            edge.gate(GATE).is_open()
        assert hint in (caught.value.hint or "")
    finally:
        fake.fault = None


def test_without_credentials_nothing_is_sent(fake: Grumpy, tmp_path: Path,
                                             monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither in the policy nor in boto3's usual places; or a profile that is not there."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    before = len(fake.calls)
    for more in ({}, {"profile": "nobody"}):
        spec = ProviderSpec("edge", "connect", {
            "region": REGIONS[0], "instance": INSTANCE, "endpoint_url": fake.url, **more})
        provider = ConnectProvider(spec, resolve=SECRETS.__getitem__, runtime=SystemRuntime())
        with pytest.raises(Rejected, match="no usable credentials"):
            provider.gate(GATE).is_open()
    assert len(fake.calls) == before


def test_a_failed_look_before_a_write_is_no_doubt_and_takes_no_longer_than_one_call() -> None:
    """All calls of a shift together have the time of one: the lease counts on that."""
    with Route53() as fake, Weather(fake.port) as weather:
        for mark, weight in (("hq", 100), ("acme", 0)):
            fake.put("Z1", Name="a.example", Type="A", SetIdentifier=mark, Weight=weight, TTL=60,
                     ResourceRecords=[{"Value": "192.0.2.1"}])
        route = made(Route53Provider, zone="Z1", timeout=0.5,
                     endpoint_url=f"http://127.0.0.1:{weather.port}").route(
            LeverSpec("edge", "a.example", {"destinations": {"hq": "hq", "acme": "acme"}}))
        before = route.read()
        for mode in ("garbage", "hang", "huge", "cut_reply"):
            weather.next(mode)
            with pytest.raises(Unavailable) as caught:
                route.shift(Shares({"acme": 100}), expected=before, key="k")
            assert not caught.value.in_doubt, mode
        for modes in (["hang"], ["fair", "hang"], ["fair", "endless"]):
            weather.next(*modes)
            began = time.monotonic()
            with pytest.raises(Unavailable) as caught:
                route.shift(Shares({"acme": 100}), expected=before, key="k")
            assert time.monotonic() - began < 1.5
            assert caught.value.in_doubt == (len(modes) > 1)
        assert not fake.batches
