"""The `command` provider beside what every route owes: what the program sees, says and leaves."""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from ccfailover.errors import Rejected, Unavailable
from ccfailover.model.policy import LeverSpec, ProviderSpec
from ccfailover.model.shares import Shares
from ccfailover.providers import Route
from ccfailover.providers.command import CommandProvider
from ccfailover.runtime import SystemRuntime
from tests.conformance.subjects_command import CommandSubject

MOVED = Shares({"acme": 70, "message": 30})


def route_of(script: str, **params: Any) -> Route:
    """A route whose program is these lines of Python; `asked` is what it was asked."""
    text = f"import json, os, sys\nasked = json.load(sys.stdin)\n{script}"
    given = {"argv": [sys.executable, "-I", "-S", "-c", text], **params}
    provider = CommandProvider(ProviderSpec("pbx", "command", given),
                               resolve={"env:PIN": "s3cret-pin\n",
                                        "env:PEM": "s3cret-one\ns3cret-two\n"}.__getitem__,
                               runtime=SystemRuntime())
    return provider.route(LeverSpec("pbx", "800"))


@pytest.fixture
def subject(tmp_path: Path) -> CommandSubject:
    return CommandSubject(tmp_path)


def test_a_program_that_hangs_is_killed_with_its_children(subject: CommandSubject) -> None:
    """Time is up: the whole group goes, and the write is in doubt."""
    subject.meet("child")
    with pytest.raises(Unavailable, match="did not end in time") as caught:
        subject.route(timeout=0.6).shift(MOVED, expected=None, key="k")
    assert caught.value.in_doubt
    child = int((subject.folder / "child").read_text())
    end = time.monotonic() + 5
    while Path(f"/proc/{child}/stat").exists() and \
            Path(f"/proc/{child}/stat").read_text().split(")")[1].split()[0] != "Z":
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_program_that_dies_leaves_doubt_only_over_a_write(subject: CommandSubject) -> None:
    for write in (True, False):
        subject.meet("killed")
        with pytest.raises(Unavailable, match="killed by signal 9") as caught:
            if write:
                subject.route().shift(MOVED, expected=None, key="k")
            else:
                subject.route().read()
        assert caught.value.in_doubt is write


def test_it_sees_named_variables_and_few_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of our environment but PATH and its like; secrets as the policy refers to them."""
    monkeypatch.setenv("OUR_SECRET", "x")
    route = route_of("sys.stderr.write(json.dumps(sorted(os.environ))); sys.exit(3)",
                     env={"PIN": "env:PIN", "REGION": "us"})
    with pytest.raises(Rejected) as caught:
        route.read()
    seen = set(json.loads(caught.value.what.partition(": ")[2]))
    assert {"PIN", "REGION"} <= seen <= {"PIN", "REGION", "PATH", "LANG", "LC_ALL", "TZ", "HOME",
                                         "LC_CTYPE"}


@pytest.mark.parametrize(("script", "says"), [
    ("sys.exit('\\n  wrong pin ' + os.environ['PIN'] + '\\x1b[2J\\nsecond')",
     "the program refuses (exit code 1): wrong pin … [2J"),
    ("sys.exit('bad key ' + os.environ['PEM'])", "bad key …"),
    ("sys.exit('bad key ' + os.environ['PEM'].split()[1])", "bad key …"),
    ("sys.exit(9)", "the program refuses (exit code 9): it does not say why"),
    ("sys.stderr.buffer.write(b'\\xff' + b'y' * 100_000); sys.exit(2)", "y" * 190),
])
def test_the_first_line_of_stderr_says_why(script: str, says: str) -> None:
    """One bounded line, without control characters and without the secret that it was given."""
    with pytest.raises(Rejected) as caught:
        route_of(script, env={"PIN": "env:PIN", "PEM": "env:PEM"}).shift(
            MOVED, expected=None, key="k")
    assert says in caught.value.what and len(caught.value.what) < 300
    assert caught.value.not_done == "the shares were not changed"
    assert "s3cret" not in str(caught.value) and caught.value.what.isprintable()


@pytest.mark.parametrize(("out", "wait"), [
    ('{"retry_after": 5}', 5.0), ('{"retry_after": 1e9}', 3600.0), ('{"retry_after": -1}', None),
    ('{"retry_after": true}', None), ("later", None), ("", None),
    ('{"retry_after": 1' + "0" * 400 + "}", 3600.0)])
def test_75_is_come_again(out: str, wait: float | None) -> None:
    with pytest.raises(Unavailable, match="come again") as caught:
        route_of(f"print({out!r}); sys.exit(75)").shift(MOVED, expected=None, key="k")
    assert (caught.value.in_doubt, caught.value.retry_after) == (False, wait)


@pytest.mark.parametrize("answer", [
    "[]", "{}", '{"shares": []}', '{"shares": {"hq": 50}}', '{"shares": {"hq": "100"}}',
    '{"shares": {"hq": true, "acme": 99}}', '{"shares": {"hq": 101}}', '{"shares": {"hq": 1e2}}',
    '{"shares": {"hq": 100}, "version": {}}', '{"shares": {"hq": 100}, "version": true}',
    '{"shares": {"hq": 100}, "shares": {"hq": 100}}', '{"shares": {"hq": NaN}}', "",
    '{"shares": {"' + "x" * 200 + '": 100}}',
    '{"shares": {"hq": 100}, "version": "' + "7" * 201 + '"}'])
def test_an_answer_that_makes_no_sense_is_refused(answer: str) -> None:
    with pytest.raises(Rejected, match="makes no sense") as caught:
        route_of(f"print({answer!r})", destinations={"hq": "hq", "acme": "acme"}).read()
    assert len(str(caught.value)) < 300


def test_one_that_cannot_be_started_is_no_doubt() -> None:
    route = CommandProvider(
        ProviderSpec("pbx", "command", {"argv": ["/nonesuch"]}), resolve=str,
        runtime=SystemRuntime()).route(LeverSpec("pbx", "800"))
    with pytest.raises(Rejected, match="No such file") as caught:
        route.shift(MOVED, expected=None, key="k")
    assert caught.value.not_done == "nothing was started"


def test_out_of_descriptors_is_a_matter_of_time() -> None:
    """Nothing was started, so nothing is in doubt; and once there are some again, it works."""
    route = route_of("print(json.dumps({'shares': {'hq': 100}}))")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    opened: list[int] = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(256, hard), hard))
    try:
        with pytest.raises(OSError):
            while True:
                opened.append(os.open("/dev/null", os.O_RDONLY))
        for _ in range(6):  # at whichever of its descriptors it falls short
            with pytest.raises(Unavailable, match="cannot run the program now") as caught:
                route.shift(MOVED, expected=None, key="k")
            assert not caught.value.in_doubt
            os.close(opened.pop())
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for each in opened:
            os.close(each)
    assert route.read().shares == Shares({"hq": 100})


def test_without_compare_and_set_it_is_read_just_before(subject: CommandSubject) -> None:
    """Somebody else's change is refused, also away and back where there is a version; our own
    from an attempt that seemed to fail is not."""
    route = subject.make(guarded=False).route(subject.lever)
    before = route.read()
    subject.elsewhere({"hq": 90, "acme": 10})
    with pytest.raises(Rejected, match="changed since it was read"):
        route.shift(MOVED, expected=before, key="k")
    subject.elsewhere({"hq": 100})
    with pytest.raises(Rejected, match="changed since it was read"):
        route.shift(MOVED, expected=before, key="k")
    assert subject.truth() == {"hq": 100} and subject.writes() == 0
    for _ in range(2):
        route.shift(MOVED, expected=route.read(), key="k")
    route.shift(MOVED, expected=before, key="k")
    assert subject.truth() == dict(MOVED)


def test_a_shift_takes_as_long_as_is_said_before_it() -> None:
    """Who repeats a write asks first whether the lease lasts that long: the read counts, too."""
    for guarded, longest in ((True, 3.0), (False, 6.0)):
        block = {"argv": ["/bin/true"], "timeout": 3, "compare_and_set": guarded}
        made = CommandProvider(ProviderSpec("pbx", "command", block), resolve=str,
                               runtime=SystemRuntime())
        assert made.call_seconds == longest


def test_live_counts_leave_out_what_is_not_known(subject: CommandSubject) -> None:
    assert subject.route().live() == {"hq": 3, "acme": 0}
    assert route_of("").live() is None and route_of("").measure() == {}
    with pytest.raises(Rejected, match="no number of contacts"):
        route_of("print('{\"live\": {\"hq\": -1}}')", live=True).live()


def test_one_that_reads_nothing_is_not_waited_for(subject: CommandSubject) -> None:
    """A program may end without looking at its stdin, however much is written there."""
    provider = CommandProvider(
        ProviderSpec("pbx", "command", {"argv": ["/bin/true"], "env": {"X": "1"}}), resolve=str,
        runtime=SystemRuntime())
    route = provider.route(LeverSpec("pbx", "r" * 500))
    route.shift(MOVED, expected=None, key="k" * 300_000)
