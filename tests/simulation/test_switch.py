"""The switch's control interface, and the faults that tests may order from it."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from ccfailover.simulation.local import LocalCentre
from ccfailover.simulation.processes.calling import Answer, call

ROUTE = "/routes/loan_calls"
FAULTS = "/faults/loan_calls"


@pytest.fixture(autouse=True)
def as_it_was(centre: LocalCentre) -> Iterator[None]:
    """Each test begins and ends with a healthy switch and everything at hq."""
    yield
    centre.put("switch", FAULTS, {"mode": "none"})
    centre.put("switch", ROUTE, {"shares": {"hq": 100}})


def write(centre: LocalCentre, shares: object, *, if_match: str | None = None,
          timeout: float = 5.0) -> Answer:
    headers = {"If-Match": if_match} if if_match else {}
    return centre.ask("PUT", "switch", ROUTE, {"shares": shares}, headers=headers,
                      timeout=timeout)


def shares(centre: LocalCentre) -> dict[str, int]:
    found: dict[str, int] = centre.get("switch", ROUTE)["shares"]
    return found


def in_force(centre: LocalCentre) -> dict[str, int]:
    """What the switch really does, which a lying read-back does not show."""
    found: dict[str, int] = centre.get("switch", f"{ROUTE}/counts")["shares"]
    return found


def test_shares_are_read_and_written_with_a_version(centre: LocalCentre) -> None:
    """A write is absolute, raises the version, and reads back; zeros are dropped."""
    before = centre.ask("GET", "switch", ROUTE)
    reply = write(centre, {"hq": 30, "acme": 70, "callback": 0})
    after = centre.ask("GET", "switch", ROUTE)
    assert before.json()["shares"] == {"hq": 100}
    assert after.json()["shares"] == {"hq": 30, "acme": 70} == reply.json()["shares"]
    assert int(after.json()["version"]) == int(before.json()["version"]) + 1
    assert after.headers["etag"] == reply.headers["etag"] == f'"{after.json()["version"]}"'


def test_a_write_that_rests_on_an_old_read_is_refused(centre: LocalCentre) -> None:
    """If-Match: the version in force passes, any other is 412 and changes nothing."""
    etag = centre.ask("GET", "switch", ROUTE).headers["etag"]
    assert write(centre, {"acme": 100}, if_match=etag).status == 200
    assert write(centre, {"hq": 50, "acme": 50}, if_match=etag).status == 412
    assert write(centre, {"hq": 50, "acme": 50}, if_match='"junk"').status == 412
    assert shares(centre) == {"acme": 100}
    assert write(centre, {"hq": 50, "acme": 50}, if_match="*").status == 200


def test_of_many_writers_with_one_version_exactly_one_wins(centre: LocalCentre) -> None:
    """Compare-and-set holds under a stampede."""
    etag = centre.ask("GET", "switch", ROUTE).headers["etag"]
    results: list[int | None] = []
    barrier = threading.Barrier(8)

    def race(percent: int) -> None:
        barrier.wait()
        results.append(write(centre, {"hq": percent, "acme": 100 - percent},
                             if_match=etag).status)

    racers = [threading.Thread(target=race, args=(n * 10,)) for n in range(8)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join()
    assert sorted(results, key=str) == [200] + [412] * 7


@pytest.mark.parametrize("asked", [
    {"hq": 99}, {"hq": 101, "acme": -1}, {"hq": 60, "acme": 41}, {"hq": 50.0, "acme": 50.0},
    {"hq": "100"}, {"hq": True, "acme": 99}, {"mars": 100}, {}, [100], None, "hq",
])
def test_impossible_shares_are_refused(centre: LocalCentre, asked: object) -> None:
    """400 with a sentence, and nothing changes."""
    reply = write(centre, asked)
    assert reply.status == 400 and reply.json()["error"]
    assert shares(centre) == {"hq": 100}


def test_control_calls_need_the_token(centre: LocalCentre) -> None:
    """Without it, or with a wrong one, nothing is shown and nothing is done."""
    url = centre.url("switch")
    wrong: list[Mapping[str, str]] = [
        {}, {"Authorization": "Bearer wrong"}, {"Authorization": "Bearer \xff"},
        {"Authorization": "Basic " + centre.token_file.read_text()},
    ]
    for headers in wrong:
        for method, path in (("GET", ROUTE), ("PUT", ROUTE), ("PUT", FAULTS),
                             ("GET", f"{ROUTE}/log"), ("GET", "/nowhere")):
            assert call(method, url + path, b"{}", timeout=5, headers=headers).status == 401
    assert call("GET", url + "/health", timeout=5).status == 200


def test_nonsense_requests_get_an_answer(centre: LocalCentre) -> None:
    """Unknown paths, wrong bodies and floods are refused, and the switch lives on."""
    def status(method: str, path: str, body: bytes | None = None) -> int | None:
        token = centre.token_file.read_text()
        return call(method, centre.url("switch") + path, body, timeout=5,
                    headers={"Authorization": f"Bearer {token}"}).status

    assert status("GET", "/routes/none") == 404
    assert status("PUT", ROUTE, b"{") == 400
    assert status("PUT", ROUTE, b"[" * 100_000) == 400
    assert status("PUT", f"{ROUTE}/rate", b'{"rate": 1e9}') == 400
    assert status("PUT", f"{ROUTE}/rate", b'{"rate": NaN}') == 400
    assert status("PUT", FAULTS, b'{"mode": "unheard_of"}') == 400
    assert status("GET", f"{ROUTE}/log?since=yesterday") == 400
    assert status("POST", "/intake/applications", b"not json") == 400
    assert status("PUT", ROUTE, b'{"a": "' + b"x" * 400_000 + b'"}') in (413, None)
    for body in (b'{"uli": "' + b"x" * 250_000 + b'"}', '{"uli": "A"}'.encode("utf-16")):
        assert status("POST", "/intake/applications", body) in (400, 413)
    assert centre.get("switch", "/routes/applications/counts")["waiting"] == 0
    assert shares(centre) == {"hq": 100}


@pytest.mark.parametrize(("mode", "status", "told"), [
    ("ack_only", 200, {"hq": 100}), ("lie", 200, {"acme": 100}), ("error500", 500, {"hq": 100}),
])
def test_faults_that_do_not_apply_a_write(
    centre: LocalCentre, mode: str, status: int, told: dict[str, int]
) -> None:
    """The shares in force stay, whatever is answered or read back; afterwards all is well."""
    centre.put("switch", FAULTS, {"mode": mode})
    assert write(centre, {"acme": 100}).status == status
    assert shares(centre) == told
    assert in_force(centre) == {"hq": 100}
    centre.put("switch", FAULTS, {"mode": "none"})
    assert shares(centre) == {"hq": 100}
    assert write(centre, {"acme": 100}).status == 200
    assert in_force(centre) == {"acme": 100}


def test_a_switch_that_hangs_says_nothing_and_does_nothing(centre: LocalCentre) -> None:
    """The caller's own time-out ends it; reads still work, until they hang, too."""
    centre.put("switch", FAULTS, {"mode": "hang"})
    reply = write(centre, {"acme": 100}, timeout=0.3)
    assert (reply.status, reply.reason, reply.sent) == (None, "timeout", True)
    assert shares(centre) == {"hq": 100}
    centre.put("switch", FAULTS, {"mode": "hang", "seconds": 0.1, "on": "all"})
    assert centre.ask("GET", "switch", ROUTE).reason == "broken"


def test_a_slow_write_lands_after_the_caller_gave_up(
    centre: LocalCentre, wait_until: Callable[[Callable[[], bool]], None]
) -> None:
    """The late write that makes a time-out an open question."""
    centre.put("switch", FAULTS, {"mode": "slow", "seconds": 0.6})
    assert write(centre, {"acme": 100}, timeout=0.2).reason == "timeout"
    assert in_force(centre) == {"hq": 100}
    wait_until(lambda: in_force(centre) == {"acme": 100})


def test_a_dropped_reply_hides_a_write_that_was_done(centre: LocalCentre) -> None:
    """No answer, and yet it landed."""
    centre.put("switch", FAULTS, {"mode": "drop"})
    assert write(centre, {"acme": 100}).reason == "broken"
    assert in_force(centre) == {"acme": 100}


def test_faults_of_one_route_leave_the_other_alone(centre: LocalCentre) -> None:
    """The other branch of a failover must be able to go on."""
    centre.put("switch", FAULTS, {"mode": "error500", "on": "all"})
    assert centre.ask("GET", "switch", ROUTE).status == 500
    assert centre.get("switch", "/routes/applications")["shares"] == {"hq": 100}


def test_the_same_submission_twice_is_one_application(centre: LocalCentre) -> None:
    """A submitter who retries after a lost answer does no harm."""
    before = centre.get("switch", "/routes/applications/counts")["offered"]

    def submit() -> dict[str, Any]:
        reply = centre.ask("POST", "switch", "/intake/applications", {"uli": "A1"},
                           headers={"Idempotency-Key": "A1"})
        found: dict[str, Any] = json.loads(reply.body)
        return found

    assert [submit()["duplicate"], submit()["duplicate"]] == [False, True]
    assert centre.get("switch", "/routes/applications/counts")["offered"] == before + 1


def test_the_log_can_be_followed_without_a_gap(centre: LocalCentre) -> None:
    """Reading on from the last event's instant shows every contact once, in order."""
    centre.put("switch", f"{ROUTE}/rate", {"rate": 100})
    seen: list[dict[str, Any]] = []
    deadline = time.monotonic() + 0.5
    while time.monotonic() < deadline or len(seen) < 30:
        since = seen[-1]["at"] if seen else 0
        seen += centre.get("switch", f"{ROUTE}/log?since={since}")["events"]
    centre.put("switch", f"{ROUTE}/rate", {"rate": 0})
    time.sleep(0.3)
    seen += centre.get("switch", f"{ROUTE}/log?since={seen[-1]['at']}")["events"]
    counts = centre.get("switch", f"{ROUTE}/counts")
    assert len(seen) == counts["offered"] == counts["answered"]["hq"]
    assert [event["at"] for event in seen] == sorted({event["at"] for event in seen})
    assert sum(second["offered"] for second in counts["per_second"]) == counts["offered"]
    assert all(event["offered_at"] <= event["at"] and event["ok"] for event in seen)
