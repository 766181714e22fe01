"""Which file is the policy. Never found by the working directory: at 3 a.m. that is chance."""

from __future__ import annotations

import os
from collections.abc import Mapping

from ccfailover.errors import UsageError

VARIABLE = "CCFAILOVER_POLICY"
SYSTEM = "/etc/ccfailover/policy.yaml"


def find_policy(option: str | None, environ: Mapping[str, str], *, system: str = SYSTEM) -> str:
    """The absolute path of the policy: `--policy`, `$CCFAILOVER_POLICY`, `system`, in that order.

    The first one that is given counts, also when there is no such file: silently taking the next
    would move the traffic of another policy. Raises UsageError, saying where it looked.
    """
    for said, where in ((option, "--policy"), (environ.get(VARIABLE), f"${VARIABLE}")):
        if said:
            path = os.path.abspath(os.path.expanduser(said))
            if os.path.exists(path):
                return path
            raise UsageError(f"{where} names {said}, and there is no such file",
                             not_done="no other place was looked at",
                             hint=f"correct {where}, or write one: ccfailover init {said}")
    if os.path.exists(system):
        return system
    raise UsageError("no policy", not_done=f"looked at --policy (not given), ${VARIABLE} (not set) "
                     f"and {system} (no such file); the working directory is never looked at",
                     hint="name one: ccfailover --policy FILE …, or write a first one: "
                          "ccfailover init FILE")
