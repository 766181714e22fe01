"""`execute-due`: run what the policy lets run by itself, apart from `check`, so that a long run
never delays the next look."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from ccfailover.errors import CcfError, Fenced, LeaseHeld, Refused, UsageError
from ccfailover.model.health import Decision, World
from ccfailover.operations import runs
from ccfailover.operations.check import answered, decide
from ccfailover.operations.desk import Desk
from ccfailover.operations.incidents import chosen
from ccfailover.operations.look import look
from ccfailover.operations.prepare import prepare
from ccfailover.operations.status import automation
from ccfailover.operations.until import over
from ccfailover.runbooks.drive import Driver
from ccfailover.runbooks.plan import Request


@dataclass(frozen=True)
class Executed:
    """What became of one due decision: `outcome` when it ran, else `why_not`."""

    decision: Decision
    outcome: runs.RunOutcome | None
    why_not: CcfError | None


class Carrier(Protocol):
    """Whoever may stop what is carried here. `asked`: to stop, so that nothing else is begun."""

    asked: bool

    def on_driver(self, driver: Driver) -> None: ...


class Alone:
    """Nobody stops it."""

    asked = False

    def on_driver(self, driver: Driver) -> None:
        """Nobody minds."""


def execute_due(desk: Desk, carrier: Carrier | None = None) -> list[Executed]:
    """Each decision that may run by itself, one after the other, most important queue first.

    What a decision rests on is looked at again before anything is moved.
    """
    carrier = carrier or Alone()
    done: list[Executed] = []
    tried: set[str] = set()
    # A run may take long. What was due before it may have been answered, cleared, or switched
    # off by a person since, so that after each one everything is decided anew.
    while True:
        world = look(desk)
        due = [decision for decision in decide(desk, world, record=True)
               if decision.action == "execute" and not decision.blockers
               and decision.trigger not in tried]
        if not due or carrier.asked:
            return done
        tried.add(due[0].trigger)
        # The plan rests on the very look that the decision does: a second one would cost, where
        # home is dead, its probes' time-outs once more, and callers.
        done.append(_execute(desk, due[0], carrier, world=world))


def return_due(desk: Desk, carrier: Carrier | None = None) -> list[Executed]:
    """Bring back the timed overflows that are over, unless automation is off."""
    if automation(desk)["off_until"] is not None:
        return []
    carrier = carrier or Alone()
    done: list[Executed] = []
    for decision, queue in list(over(desk)):
        if carrier.asked:
            break
        done.append(_execute(desk, decision, carrier, queues=(queue,)))
    return done


def reassert_due(desk: Desk, carrier: Carrier | None = None) -> list[Executed]:
    """Set the levers again whose platforms forgot them in a restart, where the policy lets it be
    done by itself and automation is not off."""
    if automation(desk)["off_until"] is not None:
        return []
    carrier = carrier or Alone()
    done: list[Executed] = []
    if not any(lever.reassert for queue in desk.policy.queues.values()
               for lever in (queue.route, queue.intake) if lever is not None):
        return done
    from ccfailover.operations.reassert import due

    for decision, queue in list(due(desk)):
        if carrier.asked:
            break
        done.append(_execute(desk, decision, carrier, queues=(queue,)))
    return done


def _execute(desk: Desk, decision: Decision, carrier: Carrier, *,
             queues: tuple[str, ...] = (), world: World | None = None) -> Executed:
    def begun(driver: Driver) -> None:
        carrier.on_driver(driver)
        answered(desk, decision.trigger, driver.run_id)

    request = Request(
        runbook=decision.runbook, subject=decision.subject, automatic=True, queues=queues,
        reason=f"trigger {decision.trigger}: {'; '.join(decision.reasons)}"[:500],
    )
    try:
        prepared = prepare(desk, request, world=world)
        incident = chosen(desk, None)
        # Answered before its first step: were we killed in the middle, the run must not be started
        # again by itself once a person has rolled it back.
        outcome = runs.start(
            desk, prepared, confirmed=f"policy: trigger {decision.trigger} is automatic",
            incident=incident.id if incident else None,
            on_driver=begun)
    except Fenced:
        raise  # it had begun, and somebody took it over
    except (Refused, LeaseHeld, UsageError) as error:
        nothing = isinstance(error, Refused) and error.guard == "nothing_to_do"
        if nothing:
            answered(desk, decision.trigger, "nothing to do")
        else:
            # Told once for each reason, however often cron tries again.
            name = f"refused:{decision.trigger}"
            if desk.store.fact(name) != str(error):
                desk.store.set_fact(name, str(error), actor=str(desk.actor))
        return Executed(decision, None, error)
    return Executed(decision, outcome, None)
