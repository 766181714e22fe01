"""Who holds a lease, and whether that process is still there.

A process is known by host, boot, pid and start time, since pids are given again.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from ccfailover.model.journal import Actor

_NO_LONGER = frozenset("ZXx")
"""States of a process that is gone but for its entry in the table."""


def this_process(name: str) -> Actor:
    """The Actor that stands for this very process, acting for `name` (a login or `cron`)."""
    pid = os.getpid()
    found = _started(pid)
    return Actor(name, os.uname().nodename, pid, boot_id(), found[0] if found else "")


def boot_id() -> str:
    """The kernel's name for this boot, and for the set of processes that we can see; "" where
    the system does not say. Two containers of one machine do not see each other's processes:
    without the second part each would take the other's for dead."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            boot = file.read(64).strip()
        return f"{boot}/{os.readlink('/proc/self/ns/pid')}" if boot else ""
    except OSError:
        return ""


def alive(holder: Mapping[str, Any]) -> bool | None:
    """True: that process runs. False: it is provably gone. None: cannot be told from here
    (another host or boot, or a system that does not say)."""
    boot = boot_id()
    if not boot or holder.get("boot") != boot or holder.get("host") != os.uname().nodename:
        return None
    pid, started = holder.get("pid"), holder.get("started")
    if not isinstance(pid, int) or pid <= 0 or not started:
        return None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # it exists and belongs to someone else: look at its start time
    except OverflowError:
        return False
    found = _started(pid)
    if found is None:
        return True  # it answers to signals, but /proc hides it
    return found[0] == started and found[1] not in _NO_LONGER


def same_process(holder: Mapping[str, Any], actor: Actor) -> bool:
    """Whether `holder` (as stored) is the process of `actor`, whoever it acts for."""
    theirs = tuple(holder.get(name) for name in ("host", "pid", "boot", "started"))
    return theirs == (actor.host, actor.pid, actor.boot, actor.started)


def describe(holder: Mapping[str, Any]) -> str:
    return f"{holder.get('name')}@{holder.get('host')}[{holder.get('pid')}]"


def _started(pid: int) -> tuple[str, str] | None:
    """(start time in clock ticks since boot, state letter) of a process, from /proc."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            text = file.read(4096)
    except OSError:
        return None
    # The command name may hold blanks and brackets; the last bracket ends it.
    fields = text[text.rfind(b")") + 1:].split()
    if len(fields) < 20:
        return None
    return fields[19].decode("ascii", "replace"), fields[0].decode("ascii", "replace")
