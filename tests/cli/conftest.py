"""One running centre for all tests of the command line, and a way to say a command."""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from ccfailover.commands import run
from ccfailover.simulation.local import CentreSettings, LocalCentre

# Runbooks of two steps a queue: how a site is served is for other tests.
QUICK = """
runbooks:
  full_failover:
    before: [{confirm: {}}]
    branch: [{redirect_intake: {deadline: 1}}, {shift_route: {deadline: 1}}]
    after: []
  failback:
    before: [{confirm: {}}]
    branch: [{redirect_intake: {}}, {shift_route: {}}]
    after: []
"""


@dataclass(frozen=True)
class Said:
    """What a command answered."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@dataclass
class World:
    """A policy of a test's own for the running centre, with a store of its own."""

    centre: LocalCentre
    policy: Path
    store: Path
    environment: Mapping[str, str]
    plan_of: dict[str, str] = field(default_factory=dict)

    def say(self, *words: str, **environment: str) -> Said:
        """Run a command in this process, without a terminal, as cron would."""
        out, err = io.StringIO(), io.StringIO()
        before, stdin = dict(os.environ), sys.stdin
        os.environ.update({**self.environment, **environment})
        try:
            with (contextlib.redirect_stdout(out), contextlib.redirect_stderr(err),
                  open(os.devnull) as sys.stdin):
                code = run(list(words))
        finally:
            os.environ.clear()
            os.environ.update(before)
            sys.stdin = stdin
        assert "Traceback" not in err.getvalue() and code != 1 or words[0] == "check", \
            f"{words}: {code}\n{out.getvalue()}\n{err.getvalue()}"
        return Said(code, out.getvalue(), err.getvalue())

    def ok(self, *words: str, **environment: str) -> Said:
        said = self.say(*words, **environment)
        assert said.code == 0, f"{words}: {said.code}\n{said.out}\n{said.err}"
        return said

    def act(self, *words: str, reason: str = "INC-1", **environment: str) -> Said:
        """Plan, then do it, as somebody without a terminal has to."""
        plan = self.ok("plan", *words, "--json", **environment).json["hash"]
        return self.say(*words, "--reason", reason, "--yes", "--plan", plan, **environment)

    def edit(self, old: str, new: str) -> None:
        text = self.policy.read_text()
        assert old in text, f"{old!r} is not in the policy"
        self.policy.write_text(text.replace(old, new))

    def shares(self, route: str = "loan_calls") -> dict[str, int]:
        """What the switch itself says."""
        return {site: share for site, share in
                self.centre.get("switch", f"/routes/{route}")["shares"].items() if share}

    def move(self, shares: Mapping[str, int], route: str = "loan_calls") -> None:
        """Somebody sets the switch by hand."""
        self.centre.put("switch", f"/routes/{route}", {"shares": dict(shares)})

    def fault(self, mode: str, route: str = "loan_calls") -> None:
        self.centre.put("switch", f"/faults/{route}", {"mode": mode})

    def check_until(self, true: Callable[[Said], bool], *words: str,
                    seconds: float = 15.0) -> Said:
        """`check` again and again, as cron does. Fails when it never comes true."""
        end = time.monotonic() + seconds
        while not true(said := self.say("check", *words)):
            assert time.monotonic() < end, said
            time.sleep(0.3)
        return said


@pytest.fixture(scope="session")
def centre(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCentre]:
    settings = CentreSettings(contacts_per_second=4.0)
    with LocalCentre(tmp_path_factory.mktemp("centre"), settings) as running:
        yield running


@pytest.fixture
def world(centre: LocalCentre, tmp_path: Path) -> Iterator[World]:
    """Everything as it is on a good day, and put right again afterwards."""
    policy, store = tmp_path / "policy.yaml", tmp_path / "store.db"
    text = centre.policy_text(store=store)
    for slow, quick in (("soak: 1s", "soak: 0s"), ("hold: 2s", "hold: 500ms"),
                        ("every: 1s, timeout: 1s, fall: 3, rise: 2",
                         "every: 500ms, timeout: 1s, fall: 2, rise: 1")):
        assert slow in text
        text = text.replace(slow, quick)
    policy.write_text(text + QUICK)
    made = World(centre, policy, store, {**centre.environment({}), "USER": "dana",
                                         "CCFAILOVER_POLICY": str(policy)})
    yield made
    if not centre.alive("hq"):
        centre.restart("hq", consumers="open")
    for route in ("loan_calls", "applications"):
        made.fault("none", route)
        made.move({"hq": 100}, route)
