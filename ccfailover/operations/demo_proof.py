"""What the demo proves, worked out from what the servers themselves counted. Pure.

ccfailover's own word is used for three things only: when its runs began and ended, how long each
phase of the recovery took, and what its ledger calls claimed, stranded, quarantined, returned.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

LEFT_SIDE = ("present", "arrived")
RIGHT_SIDE = ("left", "unreachable", "claimed", "at target", "completed", "returned", "stranded",
              "quarantined")


@dataclass(frozen=True)
class Check:
    """One thing that must hold. `text` says what was seen, with its numbers."""

    name: str
    holds: bool
    text: str


@dataclass(frozen=True)
class Stretch:
    """Contacts that began between two moments of the story, by how they ended."""

    name: str
    seconds: float
    offered: int
    answered: Mapping[str, int]
    lost: int


@dataclass(frozen=True)
class Equation:
    """DESIGN §5 with numbers, for what was at home when it died and what came in afterwards."""

    terms: Mapping[str, int]

    @property
    def balanced(self) -> bool:
        return self._sum(LEFT_SIDE) == self._sum(RIGHT_SIDE)

    @property
    def sides(self) -> str:
        return (f"{self._sum(LEFT_SIDE):,} present and arrived, {self._sum(RIGHT_SIDE):,} "
                "accounted for by the servers")

    @property
    def text(self) -> str:
        left = " + ".join(f"{name} {self.terms[name]}" for name in LEFT_SIDE)
        right = " + ".join(f"{name} {self.terms[name]}" for name in RIGHT_SIDE)
        return f"{left} {'=' if self.balanced else '≠'} {right}"

    def _sum(self, names: Iterable[str]) -> int:
        return sum(self.terms[name] for name in names)


@dataclass(frozen=True)
class Ids:
    """Every application by id: where it is at the end. `known` = seeded + submitted.

    `twice`: worked on twice, or still waiting somewhere though done. `in_hand`: of these the one
    that the home had finished and not yet taken off its queue when it was killed: a site that
    dies in that instant does its last piece of work twice, whoever moves its queue.
    """

    seeded: int
    submitted: int
    completed: Mapping[str, int]
    waiting: Mapping[str, int]
    held: int
    lost: tuple[str, ...]
    unknown: tuple[str, ...]
    twice: tuple[str, ...]
    in_hand: tuple[str, ...]

    @property
    def known(self) -> int:
        return self.seeded + self.submitted


@dataclass(frozen=True)
class Proof:
    """`ok` only if every check holds."""

    checks: tuple[Check, ...]
    contacts: tuple[Stretch, ...]
    equations: tuple[tuple[str, Equation], ...]
    reconciled: str
    ids: Ids
    recovery: tuple[Mapping[str, Any], ...]
    report: str
    messages: int

    @property
    def ok(self) -> bool:
        return all(check.holds for check in self.checks)

    def to_json(self) -> dict[str, Any]:
        return {
            "ok": self.ok,
            "checks": [asdict(check) for check in self.checks],
            "contacts": [asdict(stretch) for stretch in self.contacts],
            "equations": [{"of": name, "terms": dict(found.terms), "balanced": found.balanced,
                           "text": found.text} for name, found in self.equations],
            "reconciled": self.reconciled,
            "applications": {**asdict(self.ids), "known": self.ids.known},
            "recovery": [dict(row) for row in self.recovery],
            "report": self.report,
            "messages": self.messages,
        }


def stretches(log: Sequence[Mapping[str, Any]], marks: Sequence[tuple[str, int]],
              end: int) -> tuple[Stretch, ...]:
    """The switch's log cut at `marks` (name, instant µs at which it begins), oldest first.

    A contact belongs to the stretch in which it began, however long it rang.
    """
    out = []
    edges = [*(at for _, at in marks[1:]), end]
    for (name, begin), edge in zip(marks, edges, strict=True):
        mine = [event for event in log if begin <= int(event["offered_at"]) < edge]
        answered = Counter(str(event["destination"]) for event in mine if event["ok"])
        out.append(Stretch(name, max(0.0, (edge - begin) / 1e6), len(mine), dict(answered),
                           len(mine) - sum(answered.values())))
    return tuple(out)


def account(seeded: Sequence[str], submitted: Sequence[str],
            completed: Mapping[str, Sequence[str]], waiting: Mapping[str, Sequence[str]],
            held: int, in_hand: Iterable[str]) -> Ids:
    """Compare the ids that came in with those that are done or waiting, one by one."""
    came = [*seeded, *submitted]
    done = Counter(uli for ids in completed.values() for uli in ids)
    there = Counter(uli for ids in waiting.values() for uli in ids)
    everywhere = done + there
    twice = {uli for uli, count in everywhere.items() if count > 1}
    excused = twice & set(in_hand)
    missing = set(came) - set(everywhere)
    return Ids(
        seeded=len(seeded), submitted=len(submitted),
        completed={site: len(ids) for site, ids in completed.items()},
        waiting={site: len(ids) for site, ids in waiting.items()},
        held=held, lost=tuple(sorted(missing)), unknown=tuple(sorted(set(everywhere) - set(came))),
        twice=tuple(sorted(twice - excused)), in_hand=tuple(sorted(excused)),
    )


def equation(*, present: int, arrived: int, left: int | None, at_target: int, completed: int,
             claimed: int, stranded: int, returned: int, quarantined: int,
             unreachable: int | None = None) -> Equation:
    """From the servers' counts. `left` None: the home's queue does not answer; then what cannot
    be reached is `unreachable`, or follows from the rest where nobody could count it later.

    What is stranded has been delivered: the target counts it among its own, and it is shown
    apart. What is quarantined lies in the home's queue and is shown apart likewise.
    """
    apart = min(stranded, at_target)
    parts = {"present": present, "arrived": arrived, "claimed": claimed,
             "at target": at_target - apart, "completed": completed - (stranded - apart),
             "returned": returned, "stranded": stranded, "quarantined": quarantined}
    if left is None:
        rest = present + arrived - claimed - at_target - completed - returned - quarantined
        return Equation({**parts, "left": 0,
                         "unreachable": rest if unreachable is None else unreachable})
    return Equation({**parts, "left": left - quarantined - claimed, "unreachable": 0})
