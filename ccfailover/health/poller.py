"""One poll: every kind of probe side by side, a reading for every job, within its budget."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ccfailover.errors import CcfError
from ccfailover.health import Probe, ProbeJob
from ccfailover.health.jobs import jobs_for
from ccfailover.health.patience import reading
from ccfailover.model.health import Outcome, Reading
from ccfailover.runtime import Runtime

__all__ = ["jobs_for", "poll"]

KINDS_AT_ONCE = 16
GRACE = 0.25
"""Seconds after its deadline that a probe class has to hand over what it has."""


def poll(
    jobs: Sequence[ProbeJob], probes: Callable[[str], Probe], runtime: Runtime, budget: float
) -> list[Reading]:
    """A reading for each job, in the order of `jobs`, at most `budget` + 0.3 s from now.

    `probes` gives the probe of a kind and may raise. A probe class that raises, answers for
    things it was not asked, forgets some or does not come back costs only its own kind: what it
    did not tell is UNKNOWN, and the reading's detail says why.
    """
    if not jobs:
        return []
    deadline = runtime.monotonic() + budget
    by_kind: dict[str, list[ProbeJob]] = {}
    for job in jobs:
        by_kind.setdefault(job.spec.kind, []).append(job)
    found: dict[str, dict[str, Reading]] = {kind: {} for kind in by_kind}

    def ask(kind: str) -> str:
        """Fills `found[kind]` as readings come; the answer is what to say of the missing ones."""
        wanted = {job.target.key for job in by_kind[kind]}
        try:
            for seen in probes(kind).read_many(by_kind[kind], deadline):
                if seen.key in wanted:
                    found[kind].setdefault(seen.key, seen)
        except Exception as error:  # noqa: BLE001 - one kind's bug must not blind us to the others
            return f"the {kind} probe failed: {_told(error)}"
        return f"the {kind} probe gave no reading"

    kinds = list(by_kind)
    # Always in threads, also a single kind: only so can it be left behind when it overstays.
    words = runtime.each_by(ask, kinds, KINDS_AT_ONCE, deadline + GRACE)
    missing = {kind: said or f"the {kind} probe did not come back in time"
               for kind, said in zip(kinds, words, strict=True)}
    now = runtime.now()
    return [
        found[job.spec.kind].get(job.target.key)
        or reading(job.target.key, now, Outcome.UNKNOWN, missing[job.spec.kind])
        for job in jobs
    ]


def _told(error: Exception) -> str:
    """Our own errors speak for themselves; of a stranger's only type and place, as its text may
    hold a secret."""
    if isinstance(error, CcfError):
        return str(error)
    import traceback

    frames = traceback.extract_tb(error.__traceback__)
    place = f" at {frames[-1].filename.rpartition('/')[2]}:{frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}{place} (a bug in this probe)"
