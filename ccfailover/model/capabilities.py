"""What a provider kind can do, declared so that planner, guards and `validate` can read it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Capabilities:
    """What a kind can do; planner, guards and `validate` read this, never the adapter's class.

    `share_step`: shares come in multiples of this many percent. `treatments`: may a share go to
    one. `compare_and_set`: `shift` refuses when the lever changed since it was read.
    `idempotent_put`: a repeated put with the same key is swallowed by the platform, for
    `put_window` seconds (None: for ever). `max_item_bytes`: larger items cannot be put.
    `rights`: the least that the credentials must allow, for `providers list`. `destinations`:
    the sites and treatments that a route can send to (None: any).
    """

    routes: bool = False
    backlogs: bool = False
    gates: bool = False
    share_step: int = 1
    treatments: bool = True
    compare_and_set: bool = False
    idempotent_put: bool = False
    put_window: float | None = None
    max_item_bytes: int = 262_144
    rights: tuple[str, ...] = ()
    destinations: frozenset[str] | None = None
