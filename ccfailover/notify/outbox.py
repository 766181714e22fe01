"""What people are told of a run or a decision: words and ids, never a borrower's data.

A message is put into the store's outbox beside the event that it tells of, and another process
delivers it: a dead mail server never holds up a failover.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ccfailover.model.health import Decision
from ccfailover.model.plan import Mode
from ccfailover.store import Store

MOST_CHARACTERS = 2000
"""A body is cut there: some receivers take no more, and nobody reads more at night."""

_RUN_EVENTS = {
    "planned": ("is planned", "ccfailover runs show {run}"),
    "started": ("has started", "ccfailover runs watch {run}"),
    "resumed": ("goes on", "ccfailover runs watch {run}"),
    "approval_wanted": ("waits for an approval", "ccfailover approve {run}"),
    "approval_given": ("was approved", "ccfailover runs show {run}"),
    "approval_declined": ("was declined", "ccfailover runs show {run}"),
    "paused": ("is paused and needs a person", "ccfailover resume {run} | rollback {run}"),
    "interrupted": ("was interrupted and needs a person",
                    "ccfailover resume {run} | rollback {run}"),
    "stolen": ("was taken from its holder before its lease had run out",
               "ccfailover runs watch {run}"),
    "stuck": ("is stuck and needs a person", "ccfailover runs show {run}"),
    "rolling_back": ("is being rolled back", "ccfailover runs watch {run}"),
    "rolled_back": ("was rolled back", "ccfailover status"),
    "succeeded": ("succeeded", "ccfailover report {run}"),
    "succeeded_with_exceptions": ("succeeded with exceptions", "ccfailover report {run}"),
    "aborted": ("was aborted", "ccfailover runs show {run}"),
    "superseded": ("was superseded by another run", "ccfailover runs show {run}"),
}


@dataclass(frozen=True)
class Message:
    """`key` makes it one message, however often it is enqueued; `event` is `run.paused` …"""

    key: str
    event: str
    title: str
    body: str

    def enqueue(self, store: Store) -> bool:
        """Keep it until it is sent. False: it was there already. Raises StoreError."""
        return store.enqueue(self.key, self.event, self.title, self.body)


class Messages:
    """Builds messages; `heading` is the policy's (name, environment and hash), `runs` the head of
    the chain of all runs, so that a run which came before cannot vanish either."""

    def __init__(self, heading: str, runs: tuple[int, str]) -> None:
        self._heading = heading
        self._runs = runs

    def run(
        self,
        event: str,
        *,
        run: str,
        runbook: str,
        subject: str,
        mode: Mode,
        head: tuple[int, str],
        details: Sequence[str] = (),
        key: str | None = None,
        command: str | None = None,
        more: str = "",
    ) -> Message:
        """One event of a run. `head` (seq, hash) is the journal's when it happened.

        `details` are sentences with ids and counts only. A run that pauses twice is told of
        twice (`head` differs); the same pause enqueued again is the same message, unless the
        caller knows a better `key`. `command` is what to do next, if not the usual; `more` goes on
        from the title's words.
        """
        what, usual = _RUN_EVENTS.get(event, (event.replace("_", " "), "ccfailover status"))
        drill = "" if mode is Mode.REAL else f"DRILL ({mode.value}): "
        last = _line(f"NEXT: {command or usual.format(run=run)}", 500)
        lines = [self._heading, *details]
        return Message(
            key=key or f"{run}/{event}/{head[0]}", event=f"run.{event}",
            title=_line(f"{drill}{runbook} {subject} {what}{more}: run {run}", 200),
            body=_body(lines, last, head, self._runs))

    def incident(self, what: str, *, incident: str, head: tuple[int, str],
                 details: Sequence[str]) -> Message:
        """`what` became of an incident: declared, handed over …; `head` is its event's."""
        event = what.replace(" ", "_")
        return Message(
            key=f"incident/{incident}/{head[0]}", event=f"incident.{event}",
            title=_line(f"incident {incident} was {what}", 200),
            body=_body([self._heading, *details], f"NEXT: ccfailover incident show {incident}",
                       head, self._runs))

    def decision(self, decision: Decision, *, head: tuple[int, str]) -> Message:
        """A trigger's condition has held; `head` is that of the stream `automation`."""
        lines = [self._heading, *decision.reasons,
                 *(f"not by itself, because {blocker}" for blocker in decision.blockers)]
        what = {"advise": "is advised", "approve": "waits for an approval",
                "execute": "is due and runs by itself"}.get(decision.action, decision.action)
        return Message(
            key=f"decision/{decision.trigger}/{decision.since}",
            event=f"decision.{decision.action}",
            title=_line(f"{decision.runbook} {decision.subject} {what}: {decision.trigger}", 200),
            body=_body(lines, "NEXT: ccfailover status", head, self._runs))

    def by_hand(self, lever: str, *, key: str, head: tuple[int, str], details: Sequence[str],
                what: str = "", reminder: bool = False, task: int | None = None) -> Message:
        """A lever that a person is to move (`task` is the number), or (`what`) has answered for;
        `head` is that of the stream `automation`."""
        event = "reminder" if reminder else "answered" if what else "asked"
        return Message(
            key=key, event=f"by_hand.{event}",
            title=_line(f"by hand: {lever} {what or 'is to be set by a person'}"
                        + (" (reminder)" if reminder else ""), 200),
            body=_body([self._heading, *details], "NEXT: ccfailover status" if what else
                       f'NEXT: ccfailover done {lever} --task {task} --evidence "…"', head,
                       self._runs))

    def drift(self, queue: str, told: str, *, key: str, head: tuple[int, str]) -> Message:
        """A lever that reads other than the journal says; `told` ends with what to do."""
        return Message(
            key=key, event="drift.seen", title=_line(f"the lever of {queue} was moved", 200),
            body=_body([self._heading, told], "NEXT: ccfailover status --probe", head, self._runs))


def _body(lines: Sequence[str], last: str, head: tuple[int, str], runs: tuple[int, str]) -> str:
    """What to do and the heads come last and are never cut off: these prove the journal's end."""
    tail = f"{last}\njournal head {head[0]}:{head[1]}"
    if runs[0]:
        tail += f"\nhead of all runs {runs[0]}:{runs[1]}"
    text = "\n".join(_line(line, 500) for line in lines if line)
    return f"{text[: MOST_CHARACTERS - len(tail) - 1]}\n{tail}"


def _line(text: str, most: int) -> str:
    """One line, no control characters: text from outside must not forge a second message."""
    shown = "".join(c if c.isprintable() else " " for c in text)
    return shown if len(shown) <= most else f"{shown[: most - 1]}…"
