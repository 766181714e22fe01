"""Route 53's records beyond what the conformance suite asks of every route."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ccfailover.errors import Rejected, Unavailable
from ccfailover.model.policy import LeverSpec
from ccfailover.model.shares import Shares
from ccfailover.providers import Route
from ccfailover.providers.aws.route53 import Route53Provider
from tests.servers.awsroute53 import Route53
from tests.unit.providers.aws_parts import made

NAME = "sip.lender.example"
SITES = {"hq": "set-hq", "acme": "set-acme"}


@pytest.fixture
def fake() -> Iterator[Route53]:
    with Route53() as server:
        yield server
        assert not server.broken


def put(fake: Route53, mark: str, **more: object) -> None:
    fake.put("Z1", Name=NAME, Type="A", SetIdentifier=mark, TTL=300,
             ResourceRecords=[{"Value": "192.0.2.1"}], **more)


def route(fake: Route53, zone: str = "Z1", **params: object) -> Route:
    provider = made(Route53Provider, zone=zone, endpoint_url=fake.url)
    return provider.route(LeverSpec("edge", NAME, {"destinations": SITES, **params}))


def test_a_shift_writes_the_whole_set_in_one_batch_and_keeps_the_rest(fake: Route53) -> None:
    """Values and health checks stay; the TTL becomes what the policy says."""
    put(fake, "set-hq", Weight=10, HealthCheckId="check-1")
    put(fake, "set-acme", Weight=0)
    assert route(fake).read().shares == Shares({"hq": 100})
    route(fake, ttl="60s").shift(Shares({"hq": 25, "acme": 75}), expected=None, key="r/s")
    assert fake.batches == [["UPSERT", "UPSERT"]]
    hq, acme = (fake.record("Z1", NAME, mark) for mark in SITES.values())
    assert (hq["Weight"], acme["Weight"]) == (25, 75)
    assert hq["HealthCheckId"] == "check-1" and hq["ResourceRecords"] == [{"Value": "192.0.2.1"}]
    assert hq["TTL"] == 60
    route(fake).shift(Shares({"hq": 100}), expected=None, key="r/s")
    assert fake.record("Z1", NAME, "set-hq")["TTL"] == 60


def test_a_change_counts_when_all_name_servers_have_it(fake: Route53) -> None:
    """Until it is INSYNC, reading says pending, in nobody's doubt, and when to ask again."""
    put(fake, "set-hq", Weight=100)
    put(fake, "set-acme", Weight=0)
    fake.pending_for = 2
    lever = route(fake)
    lever.shift(Shares({"acme": 100}), expected=None, key="r/s")
    for _ in range(2):
        with pytest.raises(Unavailable, match="pending") as caught:
            lever.read()
        assert not caught.value.in_doubt and caught.value.retry_after
    assert lever.read().shares == Shares({"acme": 100})
    assert lever.read().shares == Shares({"acme": 100})
    assert [name for name, _ in fake.calls].count("GetChange") == 3


def test_somebody_elses_weights_are_not_overwritten(fake: Route53) -> None:
    """What was read is compared once more just before the write; our own repeat passes."""
    put(fake, "set-hq", Weight=100)
    put(fake, "set-acme", Weight=0)
    lever = route(fake)
    before = lever.read()
    put(fake, "set-acme", Weight=100)
    with pytest.raises(Rejected, match="changed since it was read") as caught:
        lever.shift(Shares({"hq": 10, "acme": 90}), expected=before, key="r/s")
    assert caught.value.not_done and not fake.batches
    lever.shift(Shares({"hq": 50, "acme": 50}), expected=before, key="r/s")
    assert fake.record("Z1", NAME, "set-hq")["Weight"] == 50


@pytest.mark.parametrize(("weights", "shares"), [
    ((255, 255), {"hq": 50, "acme": 50}), ((0, 0), {"hq": 50, "acme": 50}),
    ((0, 255), {"acme": 100}), ((1, 3), {"hq": 25, "acme": 75})])
def test_any_weights_that_are_whole_percentages_are_read(
        fake: Route53, weights: tuple[int, int], shares: dict[str, int]) -> None:
    """And when all are 0, Route 53 answers with each alike."""
    for mark, weight in zip(SITES.values(), weights, strict=True):
        put(fake, mark, Weight=weight)
    assert route(fake).read().shares == Shares(shares)


def test_what_cannot_be_told_in_shares_is_refused(fake: Route53) -> None:
    """No percentages; another record that is answered; one that is missing; an unknown zone."""
    put(fake, "set-hq", Weight=1)
    put(fake, "set-acme", Weight=2)
    with pytest.raises(Rejected, match="makes no sense: the weights acme 2, hq 1"):
        route(fake).read()
    put(fake, "set-hq", Weight=2)
    put(fake, "third", Weight=0)
    assert route(fake).read().shares == Shares({"hq": 50, "acme": 50})
    put(fake, "third", Weight=1)
    with pytest.raises(Rejected, match="'third' takes part, and destinations does not name it"):
        route(fake).read()
    with pytest.raises(Rejected, match="no A record for mars"):
        route(fake, destinations={"hq": "set-hq", "acme": "set-acme", "x": "third",
                                  "mars": "mars"}).read()
    with pytest.raises(Rejected, match=r"refused \(NoSuchHostedZone\)"):
        route(fake, zone="Z2").read()


def test_all_pages_are_read_and_neighbours_left_out(fake: Route53) -> None:
    """More than 300 records of one name; names before and behind do not count."""
    for number in range(301):
        put(fake, f"aside-{number:03d}", Weight=0)
    put(fake, "set-hq", Weight=100)
    put(fake, "set-acme", Weight=0)
    fake.put("Z1", Name=f"x.{NAME}", Type="A", SetIdentifier="set-hq", Weight=7, TTL=60,
             ResourceRecords=[{"Value": "192.0.2.9"}])
    assert route(fake).read().shares == Shares({"hq": 100})
    assert len(fake.calls) == 2


def test_failover_records_change_places(fake: Route53) -> None:
    """All to one; both records go before they come again, so that no two are primary; a repeat
    does nothing; halves are refused."""
    put(fake, "set-hq", Failover="PRIMARY", HealthCheckId="check-1")
    put(fake, "set-acme", Failover="SECONDARY", HealthCheckId="check-2")
    lever = route(fake, policy="failover")
    before = lever.read()
    assert before.shares == Shares({"hq": 100})
    for _ in range(2):
        lever.shift(Shares({"acme": 100}), expected=before, key="r/s")
    assert fake.batches == [["DELETE", "DELETE", "CREATE", "CREATE"]]
    hq = fake.record("Z1", NAME, "set-hq")
    assert (hq["Failover"], hq["HealthCheckId"]) == ("SECONDARY", "check-1")
    assert lever.read().shares == Shares({"acme": 100})
    with pytest.raises(Rejected, match="multiple of the step 100"):
        lever.shift(Shares({"hq": 50, "acme": 50}), expected=None, key="r/s")
    with pytest.raises(Rejected, match="changed since it was read"):
        lever.shift(Shares({"hq": 100}), expected=type(before)(Shares({"message": 100})), key="k")
    with pytest.raises(Rejected, match="is not a weighted one"):
        route(fake).read()


def test_ttl_and_sync_are_in_the_expected_time() -> None:
    """A run waits for callers that long."""
    lever = {"ref": NAME, "destinations": SITES}
    assert Route53Provider.capabilities({}, {**lever, "ttl": "30s"}).propagation == 90.0
    able = Route53Provider.capabilities({}, {**lever, "policy": "failover"})
    assert (able.share_step, able.propagation) == (100, 120.0)
