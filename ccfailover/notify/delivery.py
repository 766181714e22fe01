"""Outbox → people, through Apprise, with bounded retries that survive a crash.

Delivery is at least once: a receiver that got a message and never answered, or a crash between
the send and its record, makes a second one. Run it from one process at a time (`worker`, or at
the end of `check`).
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ccfailover.errors import CcfError, ProviderError, Rejected, Unavailable
from ccfailover.model.policy import NotifySpec
from ccfailover.runtime import Runtime
from ccfailover.store import OutboxMessage, Store

Send = Callable[[str, str, str, float], None]
"""(url, title, body, timeout in seconds) → sent, or raises ProviderError."""

MOST_ATTEMPTS = 12
FIRST_RETRY = 10.0
LONGEST_RETRY = 3600.0
NEVER = 100 * 365.0 * 86_400
_TO = "#to="
_SENDER = Path(__file__).with_name("sender.py")


@dataclass(frozen=True)
class DeliveryReport:
    """What one pass did. `problems` are sentences without addresses.

    `waiting` were left for the next pass, because their receiver had just failed or the time was
    up; `unaddressed` are messages that no receiver of the policy wants.
    """

    sent: int = 0
    failed: int = 0
    given_up: int = 0
    unaddressed: int = 0
    waiting: int = 0
    problems: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        return not self.failed and not self.given_up


def apprise_send(url: str, title: str, body: str, timeout: float) -> None:
    """Send through Apprise, in a process of its own that is ended after `timeout` seconds.

    Raises Rejected when Apprise does not know such an address, Unavailable otherwise; neither
    holds any part of the address.
    """
    job = json.dumps({"url": url, "title": title, "body": body})
    try:
        done = subprocess.run(
            [sys.executable, "-I", str(_SENDER)], input=job.encode(), timeout=timeout,
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False)
    except subprocess.TimeoutExpired:
        raise Unavailable(f"no answer within {timeout:g} s", in_doubt=True) from None
    except OSError as error:
        raise Unavailable(f"the sender cannot be started: {error.strerror}",
                          in_doubt=False) from None
    try:
        answer = json.loads(done.stdout)
        result, status = answer["result"], int(answer["status"])
    except (ValueError, KeyError, TypeError):
        raise Unavailable(f"the sender ended with code {done.returncode} and no answer",
                          in_doubt=True) from None
    if result == "address":
        raise Rejected("the address is none that Apprise knows",
                       hint="https://appriseit.com lists the forms; correct the secret")
    if result != "sent":
        raise Unavailable(f"answered {status}" if status else "not reached or not accepted",
                          in_doubt=False)


def deliver(
    store: Store,
    specs: Sequence[NotifySpec],
    resolve: Callable[[str], str],
    runtime: Runtime,
    *,
    send: Send = apprise_send,
    timeout: float = 15.0,
    budget: float = 120.0,
    limit: int = 50,
) -> DeliveryReport:
    """Send what is due; each send is bounded by `timeout`, none starts after `budget` seconds.

    A message for several receivers becomes one for each, so that a receiver that fails is tried
    again alone. A receiver that failed is left in peace for the rest of the pass. After 12
    attempts (about 3.5 hours) a message stays in the store, unsent, with its last error. `resolve`
    turns a secret's reference into the address when it is needed. Raises StoreError.
    """
    wanted = _by_name(specs)
    ended = runtime.monotonic() + budget
    unaddressed = _address(store, wanted, limit)
    sent = failed = given_up = waiting = 0
    problems: list[str] = []
    resting: set[str] = set()
    for message in store.pending(limit):
        names = _receivers(message, wanted)
        if len(names) != 1 or names[0] in resting or runtime.monotonic() >= ended:
            waiting += 1
            continue
        name = names[0]
        error = _try(wanted[name], message, resolve, send, timeout)
        if error is None:
            store.mark_sent(message.id)
            sent += 1
            continue
        resting.add(name)
        attempt = message.attempts + 1
        last = attempt >= MOST_ATTEMPTS
        given_up, failed = given_up + last, failed + (not last)
        store.mark_failed(
            message.id, f"given up after {attempt} attempts: {error}" if last else error,
            retry_in=NEVER if last else _pause(message.attempts, runtime.random()))
        problems.append(f"{message.event} to {name}: {error}" + (
            f"; given up after {attempt} attempts" if last else ""))
    return DeliveryReport(sent, failed, given_up, unaddressed, waiting, tuple(problems))


def _by_name(specs: Sequence[NotifySpec]) -> dict[str, NotifySpec]:
    named: dict[str, NotifySpec] = {}
    for position, spec in enumerate(specs):
        named[spec.name if spec.name not in named else f"{spec.name}.{position}"] = spec
    return named


def _wants(spec: NotifySpec, event: str) -> bool:
    """`run.paused`, `run` (all of its kind) or `paused`; no list means everything."""
    kind, _, last = event.partition(".")
    return not spec.events or not {event, kind, last}.isdisjoint(spec.events)


def _receivers(message: OutboxMessage, wanted: dict[str, NotifySpec]) -> list[str]:
    _, marked, name = message.key.rpartition(_TO)
    if marked:
        return [name] if name in wanted else []
    return [name for name, spec in wanted.items() if _wants(spec, message.event)]


def _address(store: Store, wanted: dict[str, NotifySpec], limit: int) -> int:
    """One message per receiver; a crash halfway repeats nothing, because keys are unique."""
    unaddressed = 0
    for message in store.pending(limit):
        names = _receivers(message, wanted)
        if len(names) == 1:
            continue
        for name in names:
            store.enqueue(f"{message.key}{_TO}{name}", message.event, message.title, message.body)
        store.mark_sent(message.id)
        unaddressed += not names
    return unaddressed


def _try(spec: NotifySpec, message: OutboxMessage, resolve: Callable[[str], str], send: Send,
         timeout: float) -> str | None:
    """None: sent. Otherwise why not, without any part of the address."""
    try:
        url = resolve(spec.url)
    except CcfError as error:
        return f"its address cannot be resolved ({type(error).__name__}); set the secret"
    try:
        send(url, message.title, message.body, timeout)
    except ProviderError as error:
        # A sender of somebody else's may quote the address; better no detail than a password.
        told = error.what
        secret = any(len(part) > 3 and part in told for part in re.split(r"[/:@?&=#]+", url))
        return type(error).__name__ if secret else told
    return None


def _pause(attempts: int, chance: float) -> float:
    """Seconds until the next attempt: 10, 20, 40 … at most an hour, give or take a quarter."""
    return min(LONGEST_RETRY, FIRST_RETRY * 2.0 ** attempts) * (0.75 + chance / 2)
