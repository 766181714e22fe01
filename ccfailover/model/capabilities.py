"""What a provider kind can do, declared so that planner, guards and `validate` can read it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import lcm

from ccfailover.model.policy import LeverSpec


@dataclass(frozen=True)
class Capabilities:
    """What a kind can do; planner, guards and `validate` read this, never the adapter's class.

    `share_step`: shares come in multiples of this many percent. `treatments`: may a share go to
    one. `compare_and_set`: `shift` refuses when the lever changed since it was read.
    `idempotent_put`: a repeated put with the same key is swallowed by the platform, for
    `put_window` seconds (None: for ever). `max_item_bytes`: larger items cannot be put.
    `rights`: the least that the credentials must allow, for `providers list`. `destinations`:
    the sites and treatments that a route can send to (None: any).

    Of levers: `propagation` seconds pass between a write that is done and the last caller who goes
    by it (a record's TTL). `live`: a route can tell the contacts in progress at each site.
    `by_hand`: a person moves it, and is given so many seconds.
    `announcements`, `procedures`: it has levers of these sorts. `needs`: what has to be there on
    the platform's side, a sentence each, for `providers list`.

    Of backlogs: `max_batch` items come with one claim at most. `ordered`: items of one group leave
    and arrive in the order in which they came. `claims_lapse`: a claim ends by itself after its
    time (else: with the connection that made it). `transactional`: a batch is put, or settled,
    whole or not at all. `deadline_first`: how far the nearest deadline can be taken first.
    `claims`: work can be taken from it again (else it is put in, and stays to its end). `assignee`:
    the backlog is the part of one system of record that is assigned so; a put there moves the very
    record that was claimed, by compare-and-set, and nothing is ever deleted.
    """

    routes: bool = False
    backlogs: bool = False
    gates: bool = False
    announcements: bool = False
    procedures: bool = False
    share_step: int = 1
    treatments: bool = True
    compare_and_set: bool = False
    idempotent_put: bool = False
    put_window: float | None = None
    max_item_bytes: int = 262_144
    rights: tuple[str, ...] = ()
    destinations: frozenset[str] | None = None
    propagation: float = 0.0
    live: bool = False
    by_hand: float | None = None
    needs: tuple[str, ...] = ()
    max_batch: int = 10
    ordered: bool = False
    claims_lapse: bool = True
    transactional: bool = False
    deadline_first: str = "within what one claim shows"
    claims: bool = True
    assignee: str | None = None


def combined(lever: LeverSpec, of: Callable[[LeverSpec], Capabilities]) -> Capabilities:
    """What a lever can do, several that act as one included; `of` tells it of a single one.

    Levers that replace each other can do what each of them can. Of levers that multiply, the one
    that splits says where shares may go and in which steps: the others can leave it to that one.
    """
    if lever.several is None:
        return of(lever)
    parts = {part.lever: of(part) for part in lever.several.parts}
    each = list(parts.values())
    known = [one.destinations for one in each if one.destinations is not None]
    together = Capabilities(
        routes=all(one.routes for one in each),
        share_step=lcm(*(one.share_step for one in each)),
        treatments=all(one.treatments for one in each),
        destinations=frozenset.intersection(*known) if known else None,
        compare_and_set=all(one.compare_and_set for one in each),
        propagation=max(one.propagation for one in each),
        live=any(one.live for one in each),
        by_hand=max((one.by_hand for one in each if one.by_hand is not None), default=None),
        rights=tuple(dict.fromkeys(right for one in each for right in one.rights)),
        needs=tuple(dict.fromkeys(need for one in each for need in one.needs)),
    )
    if lever.several.combine == "replace":
        return replace(together, live=each[0].live)  # what it carries only it can count
    split = parts[lever.several.split]
    return replace(together, share_step=split.share_step, treatments=split.treatments,
                   destinations=split.destinations)
