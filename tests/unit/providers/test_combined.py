"""Several levers that act as one, where one of them answers late, by hand, or not at all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

from ccfailover.errors import Unavailable
from ccfailover.model.capabilities import Capabilities, combined
from ccfailover.model.policy import LeverSpec, Several
from ccfailover.model.shares import Shares
from ccfailover.providers import Route, RouteState
from ccfailover.providers.combined import CombinedRoute

HQ, ACME = Shares({"hq": 100}), Shares({"acme": 100})
HALF = Shares({"hq": 50, "bravo": 50})
EDGE, DNS = LeverSpec("edge", "calls"), LeverSpec("dns", "sip")


class Part(Route):
    """A lever in memory. `person`: a shift only asks; `dark`: nothing reaches it."""

    def __init__(self, *, person: bool = False, boot: str | None = None,
                 counts: Mapping[str, int] | None = None) -> None:
        self.shares, self.pending, self.refused = HQ, None, ""
        self.person, self.boot, self.counts, self.dark = person, boot, counts, False

    pending: Shares | None

    def read(self) -> RouteState:
        self.reach()
        return RouteState(self.shares, boot=self.boot, pending=self.pending, refused=self.refused)

    def shift(self, to: Shares, *, expected: RouteState | None, key: str) -> None:
        self.reach()
        if self.person:
            self.pending = to
        else:
            self.shares = to

    def live(self) -> Mapping[str, int] | None:
        self.reach()
        return self.counts

    def reach(self) -> None:
        if self.dark:
            raise Unavailable("nobody there", in_doubt=False)


def lever(combine: str, *, split: LeverSpec = DNS) -> Several:
    return Several(combine=combine, parts=(EDGE, DNS), through="hq", split=split.lever, rest=HQ)


def act(combine: str, edge: Part, dns: Part, *, split: LeverSpec = DNS) -> CombinedRoute:
    return CombinedRoute(lever(combine, split=split), [edge, dns],
                         lambda _: Capabilities(routes=True))


def test_a_person_among_them_is_given_their_time() -> None:
    """Else the step would give up before anybody could answer."""
    each = {EDGE.lever: Capabilities(routes=True),
            DNS.lever: Capabilities(routes=True, by_hand=900.0)}
    one = LeverSpec("edge", "calls", several=lever("replace"))
    assert combined(one, lambda part: each[part.lever]).by_hand == 900.0


@pytest.mark.parametrize("combine", ["replace", "multiply"])
def test_what_a_person_is_still_to_do_is_told(combine: str) -> None:
    """The shares are what they were, and will not stay so."""
    edge, dns = Part(), Part(person=True)
    dns.pending = ACME
    state = act(combine, edge, dns).read()
    assert (state.shares, state.pending) == (HQ, ACME)
    assert not state.stands_at(HQ)


@pytest.mark.parametrize("combine", ["replace", "multiply"])
def test_a_person_who_was_asked_is_asked_to_leave_it(combine: str) -> None:
    """A rollback before they answered: else they would move the calls after it."""
    edge, dns = Part(), Part(person=True)
    route = act(combine, edge, dns)
    dns.pending = ACME
    route.shift(HQ, expected=route.read(), key="k")
    assert dns.pending == HQ
    # They may have begun: it stands once they have said that it does.
    assert not route.read().stands_at(HQ)
    dns.pending = None
    assert route.read().stands_at(HQ)


def test_a_no_of_the_person_who_carries_is_told() -> None:
    edge, dns = Part(), Part(person=True)
    edge.dark, dns.refused = True, "turned down by ann: no"
    assert act("replace", edge, dns).read().refused == "turned down by ann: no"


def test_a_lever_that_cannot_be_read_has_not_restarted() -> None:
    """Which boot it is in is not known, and so not of the whole."""
    edge, dns = Part(boot="a"), Part(boot="b")
    route = act("replace", edge, dns)
    whole = route.read().boot
    dns.dark = True
    assert route.read().boot is None
    dns.dark = False
    assert route.read().boot == whole
    dns.boot = "c"
    assert route.read().boot not in (None, whole)


def test_a_mix_of_somebody_elses_is_not_ours() -> None:
    edge, dns = Part(), Part()
    route = act("multiply", edge, dns, split=EDGE)
    edge.shares, dns.shares = HALF, ACME
    ours = [RouteState(ACME), RouteState(HALF)]
    assert route.between(route.read(), ours)
    edge.shares = Shares({"hq": 40, "bravo": 60})
    assert not route.between(route.read(), ours)


def test_of_levers_that_replace_each_other_every_count_counts() -> None:
    """A contact came by one of them: the same place's counts are of different contacts. A place of
    which one says nothing is not known."""
    edge = Part(counts={"hq": 2, "acme": 1})
    dns = Part(counts={"hq": 3})
    assert act("replace", edge, dns).live() == {"hq": 5}
    assert act("multiply", edge, dns).live() == {"hq": 3, "acme": 1}


def test_while_one_that_counts_nothing_carries_nothing_is_known() -> None:
    """dns sends callers past the edge, which sees none of them: that is not nought."""
    edge, dns = Part(counts={"hq": 0, "acme": 0}), Part()
    route = act("replace", edge, dns)
    assert route.live() == {"hq": 0, "acme": 0}
    dns.shares = ACME
    assert route.live() is None


@pytest.mark.parametrize("first", [True, False])
def test_the_first_must_count(first: bool) -> None:
    """A fall-back's counts say nothing of what the first one carries."""
    each = {EDGE.lever: Capabilities(routes=True, live=first),
            DNS.lever: Capabilities(routes=True, live=not first)}
    one = LeverSpec("edge", "calls", several=lever("replace"))
    assert combined(one, lambda part: each[part.lever]).live is first


class Noting(Part):
    """Keeps what it was told of the time before the first attempt."""

    was: str | None = None

    def read(self) -> RouteState:
        return RouteState(self.shares, raw=f"{self.shares}")

    def shift(self, to: Shares, *, expected: RouteState | None, key: str) -> None:
        self.was = expected.was if expected else None
        super().shift(to, expected=expected, key=key)


@pytest.mark.parametrize("combine", ["replace", "multiply"])
def test_each_lever_hears_what_it_was_itself(combine: str) -> None:
    """An attempt after one that broke off: the levers tell their own doing from others'."""
    edge, dns = Noting(), Noting()
    edge.shares = dns.shares = HALF if combine == "replace" else HQ
    route = act(combine, edge, dns, split=EDGE)
    before = route.read()
    edge.shares = HALF
    route.shift(ACME, expected=replace(route.read(), was=before.raw), key="k")
    assert edge.shares == ACME
    assert edge.was == f"{HALF if combine == 'replace' else HQ}"
    route.shift(HQ, expected=route.read(), key="k")
    assert edge.was is None, "a first attempt has nothing before it"
