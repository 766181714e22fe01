"""May work go between these two backlogs at all? What `validate` says, asked again before a move:
a stamp of an older version may have let the policy through."""

from __future__ import annotations

from ccfailover.errors import Rejected
from ccfailover.model.capabilities import Capabilities
from ccfailover.model.policy import LeverSpec

Way = tuple[LeverSpec, Capabilities]


def check_modes(source: Way, target: Way, site: str) -> None:
    """Raises Rejected when `site`, the source, gives nothing back, or when one side assigns the
    records of a system and the other takes items in."""
    (lever, can), (to, takes) = source, target
    if not can.claims:
        raise Rejected(f"{site} takes work in and gives none back", where=lever.lever,
                       not_done="nothing was claimed",
                       hint="describe `claim`, `extend`, `settle` where its interface has them")
    one_place = (lever.provider, lever.ref) == (to.provider, to.ref)
    if (can.assignee is None) != (takes.assignee is None) or (
            can.assignee is not None and not one_place):
        raise Rejected("one side assigns records and the other takes items in: a record "
                       "would be worked at both", where=lever.lever,
                       not_done="nothing was claimed", hint="ccfailover validate")
