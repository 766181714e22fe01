"""Progress of a run for people: one line a step, and a live line for long ones at a terminal."""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING

import click

from ccfailover.commands.common import console

if TYPE_CHECKING:
    from rich.status import Status

    from ccfailover.model.journal import Record

_MARKS = {
    "step.succeeded": ("✓ done", "green"), "step.failed": ("✗ FAILED", "red"),
    "step.skipped": ("» skipped", "yellow"), "step.rehearsed": ("· rehearsed", "cyan"),
    "step.observed": ("? looked again", "yellow"), "undo.succeeded": ("↶ undone", "green"),
    "step.guarded": ("! guards", "yellow"), "step.holding": ("… holding", "yellow"),
    "step.backing_off": ("↶ BACKING OFF", "red"), "undo.failed": ("✗ UNDO FAILED", "red"),
    "branch.paused": ("‖ PAUSED", "red"),
}


class Ticker:
    """A `drive.Watcher`; called from several branch threads. Rich is for terminals only."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._console = console(err=True) if not quiet and sys.stderr.isatty() else None
        self._lock = threading.Lock()
        self._status: Status | None = None

    def event(self, record: Record) -> None:
        mark = _MARKS.get(record.kind)
        if self._quiet or mark is None:
            return
        name = record.data.get("step") or record.data.get("branch") or ""
        said = record.data.get("detail") or record.data.get("reason") or "; ".join(
            str(finding["sentence"]) for finding in record.data.get("guards", ()))
        with self._lock:
            if self._console is None:
                click.echo(f"{mark[0]:16}{name}  {said}", err=True)
                return
            from rich.text import Text

            self._console.print(Text.assemble((f"{mark[0]:16}", mark[1]), f"{name}  {said}"))

    def progress(self, step: str, done: int, total: int | None, note: str) -> None:
        if self._console is None:
            return
        text = f"{step}: {done}" + (f" of {total}" if total is not None else "") + f"  {note}"
        with self._lock:
            if self._status is None:
                self._status = self._console.status(text)
                self._status.start()
            else:
                self._status.update(text)

    def close(self) -> None:
        if self._status is not None:
            self._status.stop()
