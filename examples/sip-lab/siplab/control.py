"""ccfailover as its users run it: a policy, a cron job, and an engineer at the command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any

from siplab.machines import LAB, RPC_PORT, SETS, Machines
from siplab.network import HOSTS

ACME_PART = 0.7
"""Part of hq's callers for whom acme has people; the others hear the announcement."""


@dataclass(frozen=True)
class Said:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def write_policy(machines: Machines, path: Path, *, cps: int, hold: float,
                 patience: float) -> None:
    """The lab's policy, with this lab's names and numbers. `patience`: seconds for which hq must be
    down before anything is decided."""
    def probe(host: str, observer: str) -> str:
        argv = machines.net.inside(observer, sys.executable, "-I", "-S",
                                   str(LAB / "check_sip.py"), HOSTS[host], "5060", "0.25")
        return json.dumps({"kind": "command", "observer": observer, "argv": argv})

    heads = round(cps * hold)
    path.write_text(Template((LAB / "policy.yaml").read_text()).substitute(
        store=path.parent / "journal.db", rpc=f"http://127.0.0.1:{RPC_PORT}/RPC",
        hq_from_edge=probe("hq", "edge"), hq_from_branch=probe("hq", "branch"),
        acme_from_edge=probe("acme", "edge"), acme_from_branch=probe("acme", "branch"),
        sets=json.dumps(SETS), handle_time=f"{round(hold * 1000)}ms",
        patience=f"{round(patience * 1000)}ms",
        hq_agents=heads * 2, acme_agents=round(heads * ACME_PART),
        servicing_agents=heads, per_hour=cps * 3600, drain=round(hold) + 30))


class Control:
    """The machine of the engineers: the edge itself, where the RPC listens on loopback."""

    def __init__(self, machines: Machines, policy: Path, every: float) -> None:
        """`every`: seconds from one start of the cron job to the next, at least; the job itself
        takes about one."""
        self._machines = machines
        self._every = every
        self._environment = {
            **{name: value for name, value in os.environ.items()
               if not name.startswith("CCFAILOVER_")},
            "CCFAILOVER_POLICY": str(policy), "XDG_STATE_HOME": str(policy.parent / "state"),
            "NO_COLOR": "1",
        }
        self._stopping = threading.Event()
        self._cron = threading.Thread(target=self._tick, name="cron", daemon=True)
        self.rounds: list[dict[str, Any]] = []
        self.trouble: list[str] = []

    def __enter__(self) -> Control:
        self._cron.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stopping.set()
        self._cron.join(60)

    def say(self, *words: str, limit: float = 120.0) -> Said:
        """One command; raises when it does not come back within `limit` seconds."""
        done = subprocess.run(
            self._machines.net.inside("edge", sys.executable, "-P", "-m", "ccfailover", *words),
            env=self._environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=limit, check=False)
        return Said(done.returncode, done.stdout, done.stderr)

    def _tick(self) -> None:
        """`* * * * * ccfailover check --quiet; ccfailover execute-due`, only more often."""
        while not self._stopping.is_set():
            began = time.monotonic()
            checked = self.say("check", "--json")
            try:
                self.rounds.append(checked.json)
            except ValueError:
                self.trouble.append(f"check: {checked.code} {checked.out} {checked.err}")
            carried = self.say("execute-due", "--json")
            if carried.code:
                self.trouble.append(f"execute-due: {carried.code} {carried.out} {carried.err}")
            self._stopping.wait(max(0.0, began + self._every - time.monotonic()))

    def until(self, what: str, holds: Callable[[], bool], seconds: float) -> None:
        """Raises when it does not hold within `seconds`."""
        end = time.monotonic() + seconds
        while not holds():
            if time.monotonic() > end:
                last = self.rounds[-1]["line"] if self.rounds else "no check yet"
                raise RuntimeError(f"{what}: not within {seconds:g} s; {last}; "
                                   f"{'; '.join(self.trouble[-3:])}")
            time.sleep(0.05)

    def site(self, name: str) -> str:
        """What the last check made of a site."""
        return str(self.rounds[-1]["sites"][name]) if self.rounds else "unknown"

    def act(self, *words: str, reason: str) -> Said:
        """Plan, then do exactly that, as somebody without a terminal has to."""
        planned = self.say("plan", *words, "--json")
        if planned.code:
            return planned
        return self.say(*words, "--reason", reason, "--yes", "--plan",
                        str(planned.json["hash"]), "--json")

    def journal(self) -> list[dict[str, Any]]:
        exported = self.say("journal", "export")
        if exported.code:
            raise RuntimeError(f"journal export: {exported.err}")
        return [json.loads(line) for line in exported.out.splitlines()]
