"""What every verb that moves work does: show before and after, ask, run, say how it ended."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ccfailover.commands.common import (
    at_terminal,
    desk_for,
    local_option,
    print_json,
    shares_text,
    table,
)
from ccfailover.commands.common import finish as finish
from ccfailover.commands.live import Ticker
from ccfailover.errors import Exit, Refused, UsageError
from ccfailover.model.plan import Mode, Plan
from ccfailover.operations import prepare as preparing
from ccfailover.operations import runs
from ccfailover.operations.prepare import Prepared
from ccfailover.runbooks.run import RunState

if TYPE_CHECKING:
    from ccfailover.operations.desk import Desk
    from ccfailover.runbooks.drive import Driver
    from ccfailover.runbooks.plan import Request

F = TypeVar("F", bound=Callable[..., Any])

ASKED = "asked at the terminal"


def override_options(fn: F) -> F:
    for option in (
        click.option("--override", "override", multiple=True, metavar="GUARD",
                     help="Beat this soft guard; needs --override-reason."),
        click.option("--override-reason", default="", metavar="TEXT"),
    ):
        fn = option(fn)
    return fn


def acting_options(fn: F) -> F:
    """The options of every verb that makes and runs a plan."""
    for option in (
        override_options, local_option,
        click.option("--supersede", metavar="RUN", help="Take over an unfinished run's scope."),
        click.option("--yes", is_flag=True, help="Do not ask. Without a terminal it needs --plan."),
        click.option("--plan", "wanted", metavar="HASH|FILE",
                     help="Run only if this plan, made before, still fits."),
    ):
        fn = option(fn)
    return fn


def overrides(names: tuple[str, ...], reason: str) -> dict[str, str]:
    if names and not reason.strip():
        raise UsageError("an override needs a reason", not_done="nothing was moved",
                         hint='--override-reason "agreed with the duty manager"')
    return dict.fromkeys(names, reason)


def incident_option(fn: F) -> F:
    return click.option("--incident", metavar="ID",
                        help="The incident it belongs to, or none; else the only open one.")(fn)


def act(policy: str | None, request: Request, *, yes: bool, wanted: str | None,
        as_json: bool, incident: str | None = None) -> int:
    """Plan, show, ask, run. The exit code is the run's. A drill belongs to no incident."""
    return act_on(policy, lambda desk: request, yes=yes, wanted=wanted, as_json=as_json,
                  incident=incident)


def act_on(policy: str | None, asks: Callable[[Desk], Request], *, yes: bool, wanted: str | None,
           as_json: bool, incident: str | None = None) -> int:
    """`act` for what can only be asked for once the journal has been read."""
    desk = desk_for(policy)
    request = asks(desk)
    of = _incident(desk, incident) if request.mode is Mode.REAL else None
    prepared = preparing.prepare(desk, request)
    if wanted is not None:
        preparing.agreed(desk, prepared, _made(desk, wanted))
    if not as_json:
        show_plan(desk, prepared)
    runs.may_start(prepared)
    if prepared.nothing_to_do:
        return _nothing(desk, prepared, as_json=as_json)
    how = _confirmed(desk, prepared, yes=yes, wanted=wanted, as_json=as_json)
    if baton(desk, yes=yes, as_json=as_json) or how == ASKED:
        # A prompt may stand for long: what was shown must still be so.
        fresh = preparing.prepare(desk, request)
        preparing.agreed(desk, fresh, prepared.plan)
        runs.may_start(prepared := fresh)
    return carry(desk, lambda watcher, on_driver: runs.start(
        desk, prepared, confirmed=how, incident=of, watcher=watcher, on_driver=on_driver),
        as_json=as_json)


def _incident(desk: Desk, named: str | None) -> str | None:
    """The id of the incident that the run will belong to; said aloud where nobody named it."""
    if named is None and not desk.store.fact("incidents"):
        return None
    from ccfailover.operations import incidents

    found = incidents.chosen(desk, named)
    opened = incidents.listed(desk, only_open=True) if named is None else []
    if found is not None:
        click.echo(f"incident {found.id}, commander {found.commander}"
                   + (" (the only open one; --incident says otherwise)" if opened else ""),
                   err=True)
    elif len(opened) > 1:
        click.echo(f"{len(opened)} incidents are open ({', '.join(one.id for one in opened)}): "
                   "this run will belong to none; --incident names one", err=True)
    return found.id if found else None


def baton(desk: Desk, *, yes: bool, as_json: bool = False) -> bool:
    """With a local journal: whoever acts says that nobody else does, and every lease that the
    shared store gave is let run out. True when time has passed."""
    if desk.local is None:
        return False
    from ccfailover.operations.local import wait_out, wait_seconds

    if not yes:
        asked(f"{desk.local.shared} cannot be used ({desk.local.reason}). Whether somebody else "
              "acts cannot be proved without it. Do you hold the baton?",
              not_done="nothing was moved")

    whole = wait_seconds(desk)

    def tell(left: float) -> None:
        if at_terminal() and not as_json:
            click.echo(f"\rWaiting until every lease of the shared store has run out: "
                       f"{left:3.0f} s ", nl=False, err=True)
        elif left > whole - 0.5:
            click.echo(f"Waiting {whole:g} s until every lease of the shared store has "
                       "run out", err=True)

    wait_out(desk, tell)
    if at_terminal() and not as_json:
        click.echo(err=True)
    return True


def _nothing(desk: Desk, prepared: Prepared, *, as_json: bool) -> int:
    said = "nothing to do: every affected queue is where it would go; no run was created"
    if as_json:
        print_json({"policy": desk.policy.heading, "run": None, "plan": prepared.plan.hash,
                    "nothing_to_do": True, "message": said})
    else:
        click.echo(said)
    return int(Exit.DONE)


def _made(desk: Desk, wanted: str) -> Plan:
    if not os.path.isfile(wanted):
        return preparing.saved_plan(desk, wanted)
    if os.path.getsize(wanted) > 4_000_000:
        raise UsageError(f"{wanted} is too large for a plan", not_done="nothing was moved",
                         hint="ccfailover plan … --out FILE")
    try:
        with open(wanted, encoding="utf-8") as file:
            data = json.load(file)
        plan = Plan.from_json(data["plan"])
        said = data["hash"]
    except (ValueError, KeyError, TypeError):
        raise UsageError(f"{wanted} is not a saved plan", not_done="nothing was moved",
                         hint="ccfailover plan … --out FILE") from None
    if said != plan.hash:
        raise UsageError(f"{wanted} was changed after it was made: its hash is {plan.hash}, "
                         f"it says {said}", not_done="nothing was moved",
                         hint="make it anew: ccfailover plan … --out FILE")
    return plan


def _confirmed(desk: Desk, prepared: Prepared, *, yes: bool, wanted: str | None,
               as_json: bool) -> str:
    if prepared.plan.mode is not Mode.REAL:
        return "a drill needs no confirmation"
    if at_terminal() and not yes and not as_json:
        return asked(f"{desk.policy.heading}: {prepared.plan.runbook} "
                     f"{prepared.plan.subject} as shown?", not_done="nothing was moved")
    if yes and (wanted is not None or at_terminal()):
        return f"--yes --plan {prepared.plan.hash}" if wanted else "--yes at the terminal"
    raise UsageError(
        "with --json nobody is asked" if as_json else "there is no terminal to ask at",
        not_done="nothing was moved",
        hint=f"if the plan is right: --yes --plan {_kept(desk, prepared)}")


def asked(question: str, *, not_done: str) -> str:
    """How the person at the terminal confirmed. Raises Refused for a no, ^C or no answer."""
    try:
        agreed = click.confirm(question, err=True)
    except click.Abort:
        click.echo(err=True)
        agreed = False
    except OSError as error:  # the terminal was closed while it asked
        raise Refused(f"nobody can answer any more: {error.strerror}", guard="confirmation",
                      not_done=not_done, hint="ccfailover status") from error
    if not agreed:
        raise Refused("not confirmed", guard="confirmation", not_done=not_done,
                      hint="ccfailover status")
    return ASKED


def _kept(desk: Desk, prepared: Prepared) -> str:
    preparing.save_plan(desk, prepared)
    return prepared.plan.hash


def show_plan(desk: Desk, prepared: Prepared) -> None:
    """Heading, before and after per queue, findings, steps: on stderr-free stdout, for reading."""
    plan = prepared.plan
    stamp = "" if plan.mode is Mode.REAL else "DRILL (writes nothing outside)  "
    click.echo(f"{stamp}{desk.policy.heading}  {plan.runbook} {plan.subject}  plan {plan.hash}")
    table("", ("queue", "now", "after"), [
        (name, shares_text(plan.shares_before.get(name)), shares_text(after))
        for name, after in plan.shares_after.items()
    ])
    for finding in plan.findings:
        where = f"{finding.queue}: " if finding.queue else ""
        overridden = finding.guard in plan.overrides and finding.level == "soft"
        level = "OVERRIDDEN" if overridden else finding.level.upper()
        click.echo(f"  {level:9} {where}{finding.sentence} [{finding.guard}]")
    if plan.cost_per_hour not in ("0", "0.00"):
        click.echo(f"  cost      {plan.cost_per_hour} {desk.policy.currency} an hour")
    for branch in plan.all_branches():
        for step in branch.steps:
            click.echo(f"  · {step.id}: {step.title}")


@contextmanager
def ticking(as_json: bool) -> Iterator[Ticker]:
    """Progress on stderr; a live line at a terminal, plain lines without one."""
    ticker = Ticker(quiet=as_json)
    try:
        yield ticker
    finally:
        ticker.close()


class Stopping:
    """What signals have asked of the run that is carried now. The first ^C, or SIGTERM however
    often: stop at the next safe point. ^C after that: now, and the journal says in doubt."""

    def __init__(self) -> None:
        self.asked = False
        self._driver: Driver | None = None

    @property
    def run(self) -> str | None:
        """The run that was begun; None: nothing was."""
        return self._driver.run_id if self._driver else None

    def on_driver(self, driver: Driver) -> None:
        self._driver = driver
        if self.asked:
            driver.stop()

    def on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._driver is None:
            raise KeyboardInterrupt
        if not self.asked:
            self.asked = True
            self._driver.stop()
            click.echo("Stopping at the next safe point; ^C again stops now.", err=True)
        elif number == signal.SIGINT:
            self._driver.halt()
            raise KeyboardInterrupt


@contextmanager
def stoppable() -> Iterator[Stopping]:
    """Within the block SIGINT and SIGTERM go to the run."""
    stopping = Stopping()
    former = {number: signal.signal(number, stopping.on_signal)
              for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stopping
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def carry(desk: Desk, go: Callable[[Ticker, runs.OnDriver], runs.RunOutcome], *,
          as_json: bool) -> int:
    """Let a run go on, with progress for people and an ear for signals; say how it ended."""
    with ticking(as_json) as watcher, stoppable() as stopping:
        try:
            outcome = go(watcher, stopping.on_driver)
        except KeyboardInterrupt:
            if stopping.run is None:
                raise
            outcome = runs.cut_off(desk, stopping.run)
    return conclude(desk, outcome, as_json=as_json, stopped=stopping.asked)


def conclude(desk: Desk, outcome: runs.RunOutcome, *, as_json: bool,
             stopped: bool = False) -> int:
    """Say how the run ended, in one place for every verb, and where everything stands if it did
    not come through. `stopped`: it was asked to stop."""
    from ccfailover.operations.describe import run_facts, standing
    from ccfailover.operations.look import read_levers

    facts = run_facts(desk, outcome.run, outcome.state)
    if as_json:
        print_json(facts | {"stopped": stopped})
        return int(outcome.exit)
    word = outcome.state.value.replace("_", " ")
    click.echo(f"run {outcome.run.id}: {word}{', as it was asked to stop' if stopped else ''}")
    for line in facts["exceptions"]:
        click.echo(f"  exception: {line}")
    for line in facts["problems"]:
        click.echo(f"  {line}")
    if outcome.state.is_open or outcome.state is RunState.ABORTED:
        # Who stopped it at once does not wait for a platform's answer.
        cut_off = outcome.state is RunState.INTERRUPTED
        for line in standing(outcome.run, {} if cut_off else read_levers(desk, outcome.run)):
            click.echo(f"  {line}")
    mirror = desk.store.mirror
    if mirror is not None and mirror.trouble is not None:
        click.echo(f"Warning: not all of it is in the mirror: {mirror.trouble}", err=True)
    click.echo(f"NEXT: {facts['next']}")
    return int(outcome.exit)
