"""Watching: probes make readings, `assess` makes verdicts, `triggers` make decisions."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from ccfailover.model.health import Reading, Target
from ccfailover.model.policy import ProbeSpec


@dataclass(frozen=True)
class ProbeJob:
    """One thing to observe now."""

    target: Target
    spec: ProbeSpec


class Probe(ABC):
    """One kind of observation, made of many targets at once."""

    kind: ClassVar[str]
    PARAMS: ClassVar[Mapping[str, object]]
    summary: ClassVar[str]

    @abstractmethod
    def read_many(self, jobs: Sequence[ProbeJob], deadline: float) -> Iterator[Reading]:
        """A reading for every job, as they come, all before `deadline` (monotonic seconds).

        What did not answer in time is BAD where silence is the fault itself (http, tcp) and
        UNKNOWN where the observer failed (a provider's API). Never raises for a target's sake.
        """
