"""Amazon Connect's levers beyond what the conformance suite asks of every route."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from ccfailover.errors import Rejected, Unavailable, UsageError
from ccfailover.model.policy import LeverSpec
from ccfailover.model.shares import Shares
from ccfailover.providers import Gate
from ccfailover.providers.aws.connect import ConnectProvider
from tests.servers.awsconnect import INSTANCE, REGIONS, Connect, uuid
from tests.unit.providers.aws_parts import made

EAST, WEST = REGIONS
SITES = {"hq": EAST, "west": WEST}


@pytest.fixture
def fake() -> Iterator[Connect]:
    with Connect() as server:
        yield server
        assert not server.broken


def provider(fake: Connect, **params: object) -> ConnectProvider:
    return made(ConnectProvider, **{"region": EAST, "instance": INSTANCE,
                                    "endpoint_url": fake.url, **params})


def lever(ref: str, **params: object) -> LeverSpec:
    return LeverSpec("edge", ref, params)


def regions(fake: Connect, operation: str) -> list[str]:
    return [region for name, region in fake.calls if name == operation]


def test_a_group_is_moved_from_the_region_that_takes_the_traffic(fake: Connect) -> None:
    """Telephony and agents together, both Regions given; sign-in is left alone."""
    ref = fake.add_group(1)
    group = fake.groups[uuid(1)]
    route = provider(fake).route(lever(ref, destinations=SITES))
    route.shift(Shares({"west": 100}), expected=route.read(), key="k")
    assert regions(fake, "UpdateTrafficDistribution") == [WEST]
    assert group["calls"] == group["agents"] == {EAST: 0, WEST: 100}
    assert group["sign_in"] == {EAST: True, WEST: True}
    route.shift(Shares({"hq": 40, "west": 60}), expected=route.read(), key="k")
    assert regions(fake, "UpdateTrafficDistribution") == [WEST, EAST]


def test_a_dead_region_does_not_hinder_the_move_out_of_it(fake: Connect) -> None:
    """Reads go to the other Region; the write is never sent to the dead one."""
    ref = fake.add_group(1)
    fake.down.add(EAST)
    route = provider(fake).route(lever(ref, destinations=SITES))
    before = route.read()
    assert before.shares == Shares({"hq": 100})
    route.shift(Shares({"west": 100}), expected=before, key="k")
    assert route.read().shares == Shares({"west": 100})
    fake.down.add(WEST)
    with pytest.raises(Unavailable, match="replied 503") as caught:
        route.read()
    assert not caught.value.in_doubt


def test_the_replica_knows_the_group_by_its_arn_only(fake: Connect) -> None:
    """An id will do at home; for the other Region it is refused before anything is sent."""
    fake.add_group(1)
    route = provider(fake).route(lever(uuid(1), destinations=SITES))
    route.shift(Shares({"hq": 90, "west": 10}), expected=None, key="k")
    with pytest.raises(Rejected, match="by its ARN only"):
        route.shift(Shares({"west": 100}), expected=None, key="k")
    assert regions(fake, "UpdateTrafficDistribution") == [EAST]


def test_sign_in_moves_with_the_default_group_only(fake: Connect) -> None:
    """Asked for another group, it is refused before the write."""
    plain, default = fake.add_group(1), fake.add_group(2, default=True)
    with pytest.raises(Rejected, match="default group"):
        provider(fake).route(lever(plain, destinations=SITES, sign_in=True)).shift(
            Shares({"west": 100}), expected=None, key="k")
    assert not regions(fake, "UpdateTrafficDistribution")
    provider(fake).route(lever(default, destinations=SITES, sign_in=True)).shift(
        Shares({"west": 100}), expected=None, key="k")
    assert fake.groups[uuid(2)]["sign_in"] == {EAST: False, WEST: True}


@pytest.mark.parametrize("status", ["UPDATE_IN_PROGRESS", "CREATION_FAILED"])
def test_a_group_that_is_not_active_is_not_written(fake: Connect, status: str) -> None:
    """Under way: come back; broken: refused."""
    ref = fake.add_group(1)
    fake.groups[uuid(1)]["status"] = status
    with pytest.raises((Rejected, Unavailable), match=status) as caught:
        provider(fake).route(lever(ref, destinations=SITES)).shift(
            Shares({"west": 100}), expected=None, key="k")
    assert isinstance(caught.value, Unavailable) == (status == "UPDATE_IN_PROGRESS")
    assert not regions(fake, "UpdateTrafficDistribution")


def test_a_split_group_and_a_foreign_region_are_unknown(fake: Connect) -> None:
    """Agents elsewhere than calls; calls to a Region that the policy does not name."""
    ref = fake.add_group(1)
    group = fake.groups[uuid(1)]
    group["calls"] = {EAST: 0, WEST: 100}
    with pytest.raises(Rejected, match="calls and agents are apart: calls west 100 %") as caught:
        provider(fake).route(lever(ref, destinations=SITES)).read()
    assert "us-east-1 100 %" in str(caught.value)
    with pytest.raises(Rejected, match="which destinations does not name"):
        provider(fake).route(lever(ref, destinations={"hq": EAST, "x": "eu-west-2"})).read()


def test_somebody_elses_distribution_is_not_overwritten(fake: Connect) -> None:
    """Nor is a number's flow. A repeat of our own write passes."""
    ref = fake.add_group(1)
    route = provider(fake).route(lever(ref, destinations=SITES))
    before = route.read()
    fake.groups[uuid(1)] |= {"calls": {EAST: 50, WEST: 50}, "agents": {EAST: 50, WEST: 50}}
    with pytest.raises(Rejected, match="changed since it was read"):
        route.shift(Shares({"west": 100}), expected=before, key="k")
    route.shift(Shares({"hq": 50, "west": 50}), expected=before, key="k")

    flows = {"hq": uuid(11), "acme": uuid(12), "message": uuid(13)}
    fake.flows |= {*flows.values()}
    fake.numbers[uuid(9)] = flows["hq"]
    number = provider(fake).route(lever(uuid(9), lever="contact_flow", destinations=flows))
    seen = number.read()
    fake.numbers[uuid(9)] = flows["message"]
    with pytest.raises(Rejected, match="changed since it was read"):
        number.shift(Shares({"acme": 100}), expected=seen, key="k")
    assert fake.numbers[uuid(9)] == flows["message"]


def test_live_counts_leave_out_what_is_null_absent_or_stale(fake: Connect) -> None:
    """Never 0: a site whose queue says nothing, or says null, is not there."""
    ref = fake.add_group(1)
    hq, west, both = uuid(21), uuid(22), uuid(23)
    fake.queues |= {hq: {}, west: {}, both: {}}
    fake.counts = {hq: {"CONTACTS_IN_QUEUE": 4.0, "SLOTS_ACTIVE": 9.0},
                   both: {"CONTACTS_IN_QUEUE": 4.0, "SLOTS_ACTIVE": None}}
    watch = {"hq": {"queue": hq}, "west": {"queue": west},
             "x": {"queue": both, "region": EAST}}
    route = provider(fake).route(lever(ref, destinations=SITES, watch=watch))
    assert route.live() == {"hq": 13}
    assert route.measure() == {"waiting.hq": 4.0, "busy.hq": 9.0, "waiting.x": 4.0}
    assert {*regions(fake, "GetCurrentMetricData")} == {EAST, WEST}
    fake.snapshot_age = 600.0
    assert route.live() == {} and route.measure() == {}
    assert provider(fake).route(lever(ref, destinations=SITES)).live() is None


def test_numbers_are_found_on_every_page_and_by_arn(fake: Connect) -> None:
    """Small pages; the ref as an ARN; a number without a flow is refused."""
    for number in range(5):
        fake.numbers[uuid(30 + number)] = uuid(11)
    fake.flows |= {uuid(11), uuid(12)}
    fake.page = 2
    ref = f"arn:aws:connect:us-east-1:111122223333:phone-number/{uuid(34)}"
    flows = {"hq": uuid(11), "acme": uuid(12)}
    route = provider(fake).route(lever(ref, lever="contact_flow", destinations=flows))
    assert route.read().shares == Shares({"hq": 100})
    assert len(fake.calls) == 3
    route.shift(Shares({"acme": 100}), expected=None, key="k")
    assert fake.numbers[uuid(34)] == uuid(12)
    with pytest.raises(Rejected, match="no such number with a flow"):
        provider(fake).route(lever(uuid(99), lever="contact_flow", destinations=flows)).read()
    fake.numbers[uuid(34)] = uuid(77)
    with pytest.raises(Rejected, match="which destinations does not name"):
        route.read()
    with pytest.raises(Rejected, match="does not name the instance"):
        provider(fake, instance="").route(
            lever(ref, lever="contact_flow", destinations=flows)).read()


def test_an_announcement_is_a_flow_with_a_name(fake: Connect) -> None:
    """On, off, and unknown when the number has a flow that the policy does not name."""
    fake.flows |= {uuid(1), uuid(2), uuid(3)}
    fake.numbers[uuid(9)] = uuid(1)
    said = provider(fake).announcement(lever(
        uuid(9), lever="announcement", normal=uuid(1),
        announcements={"outage": uuid(2), "storm": uuid(3)}))
    assert said.said() is None
    for name in ("outage", "storm", "storm", None):
        said.say(name, key="k")
        assert said.said() == name
    with pytest.raises(Rejected, match="announcements does not name 'fire'"):
        said.say("fire", key="k")
    fake.numbers[uuid(9)] = uuid(4)
    with pytest.raises(Rejected, match="which the policy does not name"):
        said.said()


def test_queues_are_gates_by_status_and_by_hours(fake: Connect) -> None:
    """Both are absolute; hours that the policy does not name are unknown."""
    fake.queues[uuid(5)] = {"status": "ENABLED", "hours": "day"}
    fake.hours |= {"day", "never"}
    status = provider(fake).gate(lever(uuid(5), lever="queue_status"))
    hours = provider(fake).gate(lever(uuid(5), lever="queue_hours",
                                      hours={"open": "day", "closed": "never"}))
    for gate in (status, hours):
        for is_open in (True, False, False, True):
            gate.set_open(is_open, key="k")
            assert gate.is_open() is is_open
    fake.queues[uuid(5)]["hours"] = "summer"
    with pytest.raises(Rejected, match="which the policy does not name"):
        hours.is_open()


def override_gate(fake: Connect, **params: object) -> Gate:
    fake.hours.add("day")
    return provider(fake).gate(lever("day", lever="hours_override", **params))


def test_hours_are_overridden_and_given_back(fake: Connect) -> None:
    """Absolute both ways; read from the effective hours; another's override stays."""
    later = (datetime.now(UTC) + timedelta(days=60)).date().isoformat()
    fake.overrides["f"] = {"hours": "day", "Name": "fair", "Config": [], "EffectiveFrom": later,
                           "EffectiveTill": later, "OverrideType": "STANDARD"}
    fake.page = 1
    gate = override_gate(fake)
    for is_open in (True, False, False, True, True, False):
        gate.set_open(is_open, key="k")
        assert gate.is_open() is is_open
        assert len(fake.overrides) == (1 if is_open else 2)
    assert fake.overrides["f"]["Name"] == "fair"
    assert not fake.broken


@pytest.mark.parametrize("zone", ["Pacific/Kiritimati", "Etc/GMT+12", "America/New_York"])
def test_an_override_begins_on_the_day_it_is_there(fake: Connect, zone: str) -> None:
    fake.zone = zone
    gate = override_gate(fake, days=2, name="hurricane")
    gate.set_open(False, key="k")
    today = datetime.now(ZoneInfo(zone)).date()
    (made,) = fake.overrides.values()
    assert (made["Name"], made["EffectiveFrom"], made["EffectiveTill"]) == (
        "hurricane", today.isoformat(), (today + timedelta(days=2)).isoformat())


def test_an_override_that_ran_out_closes_nothing_until_it_is_set_again(fake: Connect) -> None:
    gate = override_gate(fake)
    gate.set_open(False, key="k")
    (made,) = fake.overrides.values()
    made |= {"EffectiveFrom": "2020-01-01", "EffectiveTill": "2020-01-31"}
    assert gate.is_open()
    gate.set_open(False, key="k")
    assert not gate.is_open()
    assert len(fake.overrides) == 1


def test_an_override_that_does_not_close_is_no_closed_gate(fake: Connect) -> None:
    """Somebody gave it hours."""
    gate = override_gate(fake)
    gate.set_open(False, key="k")
    (made,) = fake.overrides.values()
    made["Config"] = [{"Day": "MONDAY", "StartTime": {"Hours": 9, "Minutes": 0},
                       "EndTime": {"Hours": 12, "Minutes": 0}}]
    with pytest.raises(Rejected, match="has open hours"):
        gate.is_open()


def test_an_override_of_the_same_days_is_in_the_way(fake: Connect) -> None:
    """Overrides do not overlap; nothing of another's is touched, and the code is shown."""
    gate = override_gate(fake)
    gate.set_open(False, key="k")
    (made,) = fake.overrides.values()
    made["Name"] = "holiday"
    with pytest.raises(Rejected, match=r"refused \(InvalidRequestException\)") as caught:
        gate.set_open(False, key="k")
    assert "day in common" in (caught.value.hint or "")
    assert [each["Name"] for each in fake.overrides.values()] == ["holiday"]


def test_a_lever_is_one_sort_of_thing(fake: Connect) -> None:
    """A group is no gate, a queue no route, and each says what it would have to be."""
    edge = provider(fake)
    with pytest.raises(UsageError, match="is no gate"):
        edge.gate(lever("g"))
    with pytest.raises(UsageError, match="is no route"):
        edge.route(lever("q", lever="queue_status"))
    with pytest.raises(UsageError, match="is no announcement"):
        edge.announcement(lever("n", lever="announcement"))
    with pytest.raises(UsageError, match="same name on the platform"):
        edge.route(lever("g", destinations={"hq": EAST, "acme": EAST}))
    with pytest.raises(UsageError, match="hours of operation when open"):
        edge.gate(lever("q", lever="queue_hours"))


def test_throttling_ends_the_round(fake: Connect) -> None:
    """The other Region is no way round a limit, and nothing is in doubt."""
    ref = fake.add_group(1)
    route = provider(fake).route(lever(ref, destinations=SITES))
    fake.throttle()
    with pytest.raises(Unavailable, match=r"throttled \(TooManyRequestsException\)") as caught:
        for _ in range(9):
            route.read()
    assert not caught.value.in_doubt and caught.value.retry_after == 2.5
    assert {region for _, region in fake.calls} == {EAST}
