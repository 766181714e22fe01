"""The whole local centre: real processes that answer, die, come back, and lose nothing."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from ccfailover.errors import Unavailable, UsageError
from ccfailover.simulation.applications import generate
from ccfailover.simulation.children import Port, find_program
from ccfailover.simulation.local import CentreSettings, LocalCentre

Start = Callable[..., LocalCentre]
Wait = Callable[[Callable[[], bool]], None]
VOICE = "/routes/loan_calls"
INTAKE = "/routes/applications"
ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.server("roto-server")


def processes(mark: str) -> list[int]:
    """Processes with `mark` in their command line."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                command = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if mark.encode() in command and int(entry.name) != os.getpid():
                found.append(int(entry.name))
    return found


def settle(centre: LocalCentre, wait_until: Wait) -> dict[str, int]:
    """Stops the stream, waits for its last contact, and gives what each place answered."""
    centre.put("switch", f"{VOICE}/rate", {"rate": 0})
    time.sleep(0.1)
    wait_until(lambda: centre.get("switch", f"{VOICE}/counts")["in_flight"] == 0)
    answered: dict[str, int] = centre.get("switch", f"{VOICE}/counts")["answered"]
    return answered


def test_contacts_obey_the_shares_and_the_receivers_agree(start: Start, wait_until: Wait) -> None:
    """Each place answers its share to within one contact, by the switch's count and its own."""
    centre = start(contacts_per_second=0)
    centre.put("switch", VOICE, {"shares": {"hq": 50, "acme": 30, "callback": 20}})
    centre.put("switch", f"{VOICE}/rate", {"rate": 150})
    wait_until(lambda: centre.get("switch", f"{VOICE}/counts")["offered"] >= 200)
    answered = settle(centre, wait_until)
    counts = centre.get("switch", f"{VOICE}/counts")
    total = counts["offered"]
    assert sum(answered.values()) == total and counts["lost"] == 0
    for name, share in (("hq", 50), ("acme", 30), ("callback", 20)):
        assert abs(answered[name] - total * share / 100) <= 1
        assert centre.get(name, "/counts")["contacts"] == answered[name]


def test_contacts_are_lost_only_while_a_site_is_dead(start: Start, wait_until: Wait) -> None:
    """None before the kill, all of its share while it lasts, none after restart or shift."""
    centre = start(contacts_per_second=100)
    wait_until(lambda: centre.get("switch", f"{VOICE}/counts")["answered"]["hq"] > 20)
    killed = time.time_ns() // 1000
    centre.kill("hq")
    wait_until(lambda: centre.get("switch", f"{VOICE}/counts")["lost"] > 20)
    centre.restart("hq")
    back = time.time_ns() // 1000
    wait_until(lambda: centre.get("hq", "/counts")["contacts"] > 20)
    centre.kill("hq")
    centre.put("switch", VOICE, {"shares": {"acme": 80, "callback": 20}})
    shifted = time.time_ns() // 1000
    wait_until(lambda: centre.get("acme", "/counts")["contacts"] > 20)
    settle(centre, wait_until)
    events = centre.get("switch", f"{VOICE}/log?since=0")["events"]
    slack = 100_000
    for event in events:
        # In flight at the kill or the restart: its fate may be either.
        if event["at"] < killed - slack or event["offered_at"] > shifted + slack:
            assert event["ok"], event
        elif event["offered_at"] > killed + slack and event["at"] < back - slack:
            assert not event["ok"] and event["destination"] == "hq", event
    counts = centre.get("switch", f"{VOICE}/counts")
    lost = [event for event in events if not event["ok"]]
    assert counts["lost"] == len(lost) == counts["lost_by_destination"]["hq"]
    assert [loss["at"] for loss in counts["losses"]] == [event["at"] for event in lost]
    assert {loss["reason"] for loss in counts["losses"]} <= {"refused", "broken"}
    assert counts["offered"] == sum(counts["answered"].values()) + counts["lost"]


def test_a_frozen_site_loses_contacts_by_time_out(start: Start, wait_until: Wait) -> None:
    """A site that takes connections and answers nothing is worse than a dead one, and shows."""
    centre = start(contacts_per_second=20)
    os.kill(centre.pid("hq"), signal.SIGSTOP)
    try:
        wait_until(lambda: any(
            loss["reason"] == "timeout"
            for loss in centre.get("switch", f"{VOICE}/counts")["losses"]))
        assert centre.alive("hq")
    finally:
        os.kill(centre.pid("hq"), signal.SIGCONT)


def test_intake_loses_no_application(start: Start, wait_until: Wait) -> None:
    """Across a dead destination, a killed switch and a shift, each arrives; twice if listed."""
    centre = start(contacts_per_second=0, consumers="closed")
    rows = list(generate(60, 3))
    for row in rows[:20]:
        centre.submit(row)
    wait_until(lambda: centre.get("switch", f"{INTAKE}/counts")["forwarded"]["hq"] == 20)
    centre.kill("hq")
    for row in rows[20:40]:
        centre.submit(row)
    assert centre.get("switch", f"{INTAKE}/counts")["waiting"] == 20
    for row in rows[40:]:
        centre.submit(row)
        if row is rows[50]:
            centre.kill("switch")
            centre.restart("switch")
    counts = centre.get("switch", f"{INTAKE}/counts")
    assert (counts["waiting"], counts["offered"]) == (40, 60)
    centre.put("switch", INTAKE, {"shares": {"acme": 100}})
    wait_until(lambda: centre.get("switch", f"{INTAKE}/counts")["waiting"] == 0)
    counts = centre.get("switch", f"{INTAKE}/counts")
    assert counts["forwarded"] == {"hq": 20, "acme": 40}
    found = Counter(json.loads(body)["uli"]
                    for site in ("hq", "acme") for body in centre.waiting(site))
    assert set(found) == {row["uli"] for row in rows}
    assert {uli for uli, n in found.items() if n > 1} <= set(counts["possible_duplicates"])


def test_a_switch_killed_while_it_forwards_loses_nothing(start: Start, wait_until: Wait) -> None:
    """Killed again and again in full flow; what may have been sent twice is listed."""
    centre = start(contacts_per_second=0, consumers="closed")
    rows = list(generate(90, 4))
    for number, row in enumerate(rows):
        centre.submit(row)
        if number % 30 == 29:
            centre.kill("switch")
            centre.restart("switch")
    wait_until(lambda: centre.get("switch", f"{INTAKE}/counts")["waiting"] == 0)
    doubtful = centre.get("switch", f"{INTAKE}/counts")["possible_duplicates"]
    found = Counter(json.loads(body)["uli"] for body in centre.waiting("hq"))
    assert set(found) == {row["uli"] for row in rows}
    assert {uli for uli, n in found.items() if n > 1} <= set(doubtful)


def test_intake_holds_while_a_site_has_lost_its_queue(start: Start, wait_until: Wait) -> None:
    """A site that lives but cannot store an application says so, and the switch keeps it."""
    centre = start(contacts_per_second=0, consumers="closed", separate_queues=True)
    centre.kill("queues")
    rows = list(generate(5, 6))
    for row in rows:
        centre.submit(row)
    time.sleep(0.5)
    counts = centre.get("switch", f"{INTAKE}/counts")
    assert counts["waiting"] == 5 and counts["possible_duplicates"] == []
    centre.restart("queues")
    wait_until(lambda: centre.get("switch", f"{INTAKE}/counts")["forwarded"]["hq"] == 5)
    assert centre.depth("hq") == (5, 0) and centre.depth("acme") == (0, 0)


def test_the_gate_holds_and_releases_the_consumers(start: Start, wait_until: Wait) -> None:
    """Closed: nothing is taken, and what was in hand is given back at once. Open: all is done."""
    centre = start(contacts_per_second=0, hq_rate=40.0, visibility=60)
    rows = list(generate(40, 9))
    centre.seed(rows)
    wait_until(lambda: len(centre.completed("hq")) >= 3)
    reply = centre.put("hq", "/consumers", {"open": False})
    assert reply == {"open": False, "in_hand": 0} == centre.get("hq", "/consumers")
    done = len(centre.completed("hq"))
    time.sleep(0.6)
    assert len(centre.completed("hq")) == done < 40
    assert centre.depth("hq") == (40 - done, 0)
    assert centre.ask("PUT", "hq", "/consumers", {"open": "yes"}).status == 400
    centre.put("hq", "/consumers", {"open": True})
    wait_until(lambda: len(centre.completed("hq")) == 40)
    assert Counter(centre.completed("hq")) == Counter(row["uli"] for row in rows)
    wait_until(lambda: centre.depth("hq") == (0, 0))


def test_a_killed_site_comes_back_held_and_its_work_is_done_once_more(
    start: Start, wait_until: Wait
) -> None:
    """Its record survives, its gate is closed, and what it had in hand reappears."""
    centre = start(contacts_per_second=0, hq_rate=10.0, visibility=2)
    rows = list(generate(15, 10))
    centre.seed(rows)
    wait_until(lambda: len(centre.completed("hq")) >= 3)
    pid = centre.pid("hq")
    centre.kill("hq")
    assert not centre.alive("hq")
    with pytest.raises(Unavailable) as caught:
        centre.get("hq", "/health")
    assert not caught.value.in_doubt
    done = centre.completed("hq")
    url = centre.url("hq")
    centre.restart("hq")
    assert centre.url("hq") == url and centre.pid("hq") != pid
    assert centre.get("hq", "/counts")["completed"] == len(done)
    assert centre.get("hq", "/consumers")["open"] is False
    centre.put("hq", "/consumers", {"open": True})
    wait_until(lambda: centre.depth("hq") == (0, 0) and len(centre.completed("hq")) >= 15)
    finished = Counter(centre.completed("hq"))
    assert set(finished) == {row["uli"] for row in rows}
    # At most the one between its record and its delete at the moment of the kill.
    assert sum(finished.values()) <= 16


def test_malformed_messages_are_left_and_counted(start: Start, wait_until: Wait) -> None:
    """Text that is no application is nobody's work; the rest goes on."""
    centre = start(contacts_per_second=0, hq_rate=50.0, visibility=30)
    assert centre.put_raw("hq", ["not json", "[1, 2]", '{"uli": 5}', "x" * 200_000]) == 4
    centre.seed(generate(5, 1))
    wait_until(lambda: centre.get("hq", "/counts")["malformed"] == 4)
    wait_until(lambda: centre.depth("hq") == (0, 4))
    assert len(centre.completed("hq")) == 5


def test_the_home_queue_can_die_alone(start: Start) -> None:
    """With separate servers acme's queue lives on; what was in hq's survives on disk."""
    centre = start(contacts_per_second=0, consumers="closed", separate_queues=True)
    centre.seed(generate(30, 1), "hq")
    centre.seed(generate(7, 2), "acme")
    centre.kill("queues")
    with pytest.raises(Unavailable):
        centre.depth("hq")
    assert centre.depth("acme") == (7, 0)
    assert centre.get("hq", "/health")["ok"] is True
    centre.restart("queues")
    assert centre.depth("hq") == (30, 0)


def test_two_centres_side_by_side_do_not_touch(start: Start) -> None:
    """No port, queue name or file is shared; stopping one leaves the other at work."""
    one, two = start(consumers="closed"), start(consumers="closed")
    one.seed(generate(3, 1))
    assert not {one.url(name) for name in one.names} & {two.url(name) for name in two.names}
    assert one.queue_url("hq").rsplit("/", 1)[1] != two.queue_url("hq").rsplit("/", 1)[1]
    assert (one.depth("hq"), two.depth("hq")) == ((3, 0), (0, 0))
    two.put("switch", VOICE, {"shares": {"acme": 100}})
    assert one.get("switch", VOICE)["shares"] == {"hq": 100}
    assert processes(str(one.directory))
    one.stop()
    one.stop()
    assert not processes(str(one.directory))
    assert two.get("switch", "/health")["switch"] == "ok"


def test_a_dead_server_keeps_its_port(tmp_path: Path) -> None:
    """Nobody else can be given it, and a caller is refused rather than met by a stranger."""
    port = Port()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port.number), 1)
    stranger = socket.socket()
    with pytest.raises(OSError, match="in use"):
        stranger.bind(("127.0.0.1", port.number))
    stranger.close()
    port.close()


STARTER = """
import sys, time
from pathlib import Path
from ccfailover.simulation.local import CentreSettings, LocalCentre
centre = LocalCentre(Path(sys.argv[1]), CentreSettings(separate_queues=True))
centre.start()
print("up", flush=True)
if sys.argv[2] == "wait":
    time.sleep(60)
"""


def starter(directory: Path, how: str, prefix: Sequence[str] = ()) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [*prefix, sys.executable, "-c", STARTER, str(directory), how], stdout=subprocess.PIPE,
        text=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    return process


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize("how", ["kill", "exit"])
def test_nothing_outlives_who_started_it(tmp_path: Path, wait_until: Wait, how: str) -> None:
    """Killed with -9 or gone without stop(): every server ends, the queue servers too."""
    directory = tmp_path / "orphans"
    process = starter(directory, "wait" if how == "kill" else "exit")
    if how == "kill":
        assert len(processes(str(directory))) == 8  # six servers, two of them under a tether
        process.kill()
    process.communicate(timeout=20)
    wait_until(lambda: not processes(str(directory)))


@pytest.mark.skipif(sys.platform != "linux" or os.getuid() != 0 or not shutil.which("unshare"),
                    reason="only root on Linux can become somebody else; others already are")
def test_it_works_without_root(tmp_path: Path) -> None:
    """Somebody without a single right of root may run it."""
    prefix = ["unshare", "--user", "--map-user=1000", "--map-group=1000"]
    if subprocess.run([*prefix, "true"], capture_output=True).returncode:
        pytest.skip("this kernel lets nobody make a user namespace")
    process = starter(tmp_path / "centre", "exit", prefix=prefix)
    process.communicate(timeout=20)
    assert process.returncode == 0


def test_a_directory_in_use_is_refused_and_nothing_is_left_running(start: Start) -> None:
    """Two centres in one place would mix their files: the second says so before it starts."""
    centre = start()
    second = LocalCentre(centre.directory, CentreSettings())
    with pytest.raises(UsageError, match="before"):
        second.start()
    with pytest.raises(UsageError, match="running"):
        centre.restart("hq")
    with pytest.raises(UsageError, match="no server is called"):
        centre.kill("mars")
    assert centre.alive("hq")


def test_a_missing_queue_server_names_the_extra() -> None:
    """The error says what to install."""
    with pytest.raises(UsageError) as caught:
        find_program("no-such-program-anywhere", extra="demo")
    assert "pip install 'ccfailover[demo]'" in str(caught.value.hint)


def test_secrets_are_private_and_our_environment_stays_ours(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Token and state files are for the owner only; servers are not given our secrets."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "of the developer")
    centre = start()
    assert centre.token_file.stat().st_mode & 0o077 == 0
    assert centre.directory.stat().st_mode & 0o077 == 0
    handed = Path(f"/proc/{centre.pid('hq')}/environ").read_bytes()
    assert b"of the developer" not in handed
    assert centre.environment()["AWS_SECRET_ACCESS_KEY"] != "of the developer"
    assert "AWS_PROFILE" not in centre.environment({"AWS_PROFILE": "mine", "HTTP_PROXY": "x"})
    for path in centre.directory.glob("*.log"):
        assert centre.token_file.read_text() not in path.read_text()
