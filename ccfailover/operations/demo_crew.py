"""The demo's hands: its stream of applications, its eyes on the servers, its command line.

One loop does all of it, so that a demo needs no threads: whoever waits lets the world go on.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ccfailover.errors import StateUnknown, Unavailable
from ccfailover.operations.demo_events import Command, Ended, Event, Line, Tick
from ccfailover.runtime import Runtime
from ccfailover.simulation.local import INTAKE, SITES, VOICE, LocalCentre

LOOK = 0.5
"""Seconds between two looks at the servers."""

BEAT = 0.05
LONGEST = 240.0
"""Seconds after which a command is ended: a demo that hangs has failed."""

MOST_OUTPUT = 4_000_000


@dataclass(frozen=True)
class Said:
    """What a command printed, and how it ended."""

    code: int
    out: str
    err: str


Show = Callable[[str], bool]


def everything(line: str) -> bool:
    return True


def nothing(line: str) -> bool:
    return False


class Crew:
    """`applications`: what comes in while the story runs, `rate` a second."""

    def __init__(self, centre: LocalCentre, runtime: Runtime, environment: Mapping[str, str],
                 directory: Path, applications: Iterator[Mapping[str, str]], rate: float) -> None:
        self.centre = centre
        self.submitted: list[str] = []
        self._runtime = runtime
        self._environment = {**environment, "COLUMNS": "100", "PYTHONUNBUFFERED": "1"}
        self._directory = directory
        self._applications = applications
        self._rate = rate
        self._begun = runtime.monotonic()
        self._submit_from: float | None = None
        self._looked = float("-inf")
        self._before: tuple[float, dict[str, int], int] | None = None
        self._commands = 0

    @property
    def seconds(self) -> float:
        return self._runtime.monotonic() - self._begun

    # --- letting time pass

    def open_doors(self) -> None:
        """From now on applications come in."""
        self._submit_from = self._runtime.monotonic()

    def close_doors(self) -> None:
        self._submit_from = None

    def beat(self) -> Iterator[Event]:
        """One short moment: applications that are due come in, and now and then a look."""
        self._submit()
        if self._runtime.monotonic() - self._looked >= LOOK:
            self._looked = self._runtime.monotonic()
            yield self.look()
        self._runtime.sleep(BEAT)

    def wait(self, seconds: float) -> Iterator[Event]:
        end = self._runtime.monotonic() + seconds
        while self._runtime.monotonic() < end:
            yield from self.beat()

    def _submit(self) -> None:
        if self._submit_from is None or self._rate <= 0:
            return
        while self._runtime.monotonic() - self._submit_from >= 1 / self._rate:
            self._submit_from += 1 / self._rate
            row = next(self._applications, None)
            if row is None:
                return
            self.centre.submit(row)
            self.submitted.append(row["uli"])

    # --- looking

    def look(self) -> Tick:
        """What every server says at this moment."""
        counts = self.centre.counts()
        voice, intake = counts["voice"] or {}, counts["intake"] or {}
        answered = {str(name): int(n) for name, n in voice.get("answered", {}).items()}
        lost, now = int(voice.get("lost", 0)), self._runtime.monotonic()
        then, before, lost_before = self._before or (now, answered, lost)
        seconds = max(now - then, 1e-6)
        self._before = (now, answered, lost)
        return Tick(
            seconds=self.seconds,
            alive={name: self.centre.alive(name) for name in self.centre.names},
            shares=voice.get("shares"), intake=intake.get("shares"),
            per_second={name: (n - before.get(name, 0)) / seconds
                        for name, n in answered.items()},
            lost_per_second=(lost - lost_before) / seconds,
            answered=answered, lost=lost,
            waiting={site: self.depth(site) for site in SITES},
            completed={site: len(self.centre.completed(site)) for site in SITES},
            held=int(intake["waiting"]) if "waiting" in intake else None,
        )

    def depth(self, site: str) -> int | None:
        """Applications in a site's queue, hidden ones included; None: its server is silent."""
        if not self.centre.alive(self.centre.queue_server(site)):
            return None
        try:
            return sum(self.centre.depth(site))
        except Unavailable:
            return None

    def forwarded(self) -> int:
        """Applications that the switch has handed on to a site."""
        counts = self.centre.get("switch", f"/routes/{INTAKE}/counts")
        return sum(int(n) for n in counts["forwarded"].values())

    def held(self) -> int:
        """Applications that the switch has taken and not handed on yet."""
        return int(self.centre.get("switch", f"/routes/{INTAKE}/counts")["waiting"])

    def calls(self) -> list[dict[str, object]]:
        """Every contact that the switch has seen end, oldest first."""
        found: list[dict[str, object]] = []
        since = 0
        while True:
            page = self.centre.get("switch", f"/routes/{VOICE}/log?since={since}")
            if page["dropped"]:
                raise StateUnknown("the switch no longer remembers every contact of the demo")
            found.extend(page["events"])
            if not page["more"]:
                return found
            since = page["events"][-1]["at"]

    # --- the command line

    def run(self, *words: str, out: Show = everything, err: Show = everything,
            meanwhile: Callable[[], None] | None = None) -> Generator[Event, None, Said]:
        """A real ccfailover process. `out` and `err` choose which of its lines are told;
        `meanwhile` is called at every beat while it runs."""
        self._commands += 1
        text = "ccfailover " + " ".join(_quoted(word) for word in words)
        stem = f"{self._commands:02d}-{words[0]}"
        files = [self._directory / f"{stem}.{kind}" for kind in ("out", "err")]
        yield Command(text)
        begun = self._runtime.monotonic()
        with files[0].open("wb") as stdout, files[1].open("wb") as stderr:
            process = subprocess.Popen(
                [sys.executable, "-m", "ccfailover", *words], env=dict(self._environment),
                stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr, start_new_session=True)
        # What was said on the way (stderr) comes before how it ended (stdout).
        readers = [(_Tail(files[1]), err), (_Tail(files[0]), out)]
        try:
            while True:
                code = process.poll()
                for tail, show in readers:
                    for line in tail.lines(rest=code is not None):
                        if show(line):
                            yield Line(line)
                if code is not None:
                    break
                if self._runtime.monotonic() - begun > LONGEST:
                    raise StateUnknown(f"{text} did not end within {LONGEST:g} s",
                                       hint="ccfailover demo --keep DIR, and read its logs there")
                if meanwhile is not None:
                    meanwhile()
                yield from self.beat()
        finally:
            _end(process)
        yield Ended(text, code, self._runtime.monotonic() - begun)
        return Said(code, _text(files[0]), _text(files[1]))


class _Tail:
    """The whole lines that have come into a file since the last time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._at = 0

    def lines(self, *, rest: bool) -> list[str]:
        with self._path.open("rb") as file:
            file.seek(self._at)
            found = file.read(MOST_OUTPUT)
        end = len(found) if rest else found.rfind(b"\n") + 1
        self._at += end
        text = found[:end].decode(errors="replace")
        return [line.rstrip() for line in text.splitlines() if line.strip()]


def _end(process: subprocess.Popen[bytes]) -> None:
    """Nothing is left behind when the demo is stopped in the middle of a command."""
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(3.0)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _text(path: Path) -> str:
    with path.open("rb") as file:
        return file.read(MOST_OUTPUT).decode(errors="replace")


def _quoted(word: str) -> str:
    if os.sep in word and Path(word).is_absolute():
        word = Path(word).name  # the story is told to people; where files lie is told at its end
    return f'"{word}"' if " " in word else word
