"""An approval counts for what it was given for, and for nothing else."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from ccfailover.model.journal import Record, person
from ccfailover.runbooks import consent
from ccfailover.runbooks.step import Truth
from ccfailover.runbooks.steps.approve import Approve
from ccfailover.runtime import SECOND, SystemRuntime
from ccfailover.store import open_store
from tests.unit.runbooks.stage import plan, spec

POLICY = "0" * 64
PLAN = plan(shares_before={"q": {"hq": 100}}, shares_after={"q": {"acme": 65, "callback": 35}})
AT = 1_790_000_000 * SECOND


def event(kind: str, actor: str, data: dict[str, Any], at: int = AT) -> Record:
    return Record("run:r1-0000", 9, at, 0, actor, kind, data, "", "h9")


def given(actor: str = "mary@b[2]", *, at: int = AT, **changes: Any) -> Record:
    data = consent.given_for(PLAN, policy_sha256=POLICY, role="", states={"acme": "healthy"},
                             valid_until=at + 3600 * SECOND)
    return event(consent.GIVEN, actor, data | changes, at)


ASKED = event("run.planned", "dana@a[1]", {})


def judge(**changes: Any) -> consent.Judge:
    made: dict[str, Any] = {"plan": PLAN, "policy_sha256": POLICY, "people": {}, "role": "",
                            "valid": 3600.0, "now": AT + SECOND}
    return consent.Judge(**(made | changes))


def standing(*records: Record, states: dict[str, str] | None = None, wanted: int = 1,
             **changes: Any) -> consent.Standing:
    seen = {"acme": "healthy", "hq": "healthy"} | (states or {})
    return judge(**changes).standing([ASKED, *records], seen.__getitem__, wanted=wanted)


def test_an_approval_as_given_counts() -> None:
    """Same plan, same policy, same receivers, in time."""
    found = standing(given())
    assert set(found.given) == {"mary"} and not found.void and not found.declined


@pytest.mark.parametrize("name", [
    "dana@other[9]", "Dana@a[1]", " DANA @a[3]", "da\u200bna@a[1]", "ｄana@a[1]"])
def test_nobody_approves_their_own_request(name: str) -> None:
    """From another host, in capitals, with signs that cannot be seen: one person."""
    assert person(name) == "dana"
    assert not standing(given(name)).given


def test_a_login_that_is_an_address_is_a_whole_name() -> None:
    """`dana@example.com` on host a: two people of one company are two."""
    assert person("Dana@Example.com@a[1]") == "dana@example.com" == person("dana@example.com")
    assert person("joe@example.com@a[1]") != person("dana@example.com@a[1]")


@pytest.mark.parametrize(("changes", "why"), [
    ({"plan": "000000000000"}, "it was given for plan 000000000000"),
    ({"policy": "f" * 64}, "given under policy ffffffffffff, which is now 000000000000"),
    ({"shares": {"q": {"acme": 100}}}, "given for other shares"),
    ({"valid_until": AT}, "expired at"),
])
def test_what_makes_an_approval_void_is_said(changes: dict[str, Any], why: str) -> None:
    """Another plan, another policy, other shares, its time: each in a sentence."""
    found = standing(given(**changes))
    assert not found.given
    (said,) = found.void
    assert said.startswith("the approval by mary is void: ") and why in said


def test_a_policy_that_changed_since_voids_it() -> None:
    """Whoever resumes with another file has no approval for that."""
    (said,) = standing(given(), policy_sha256="e" * 64).void
    assert "which is now eeeeeeeeeeee" in said


@pytest.mark.parametrize(("was", "now", "counts"), [
    ("healthy", "healthy", True), ("degraded", "degraded", True), ("unknown", "healthy", True),
    ("down", "degraded", True), ("healthy", "degraded", False), ("healthy", "unknown", False),
    ("degraded", "unknown", False), ("healthy", "down", False), ("unknown", "down", False),
])
def test_a_receiver_that_got_worse_voids_it(was: str, now: str, counts: bool) -> None:
    """Worse than when it was approved; better, or as bad as the approver saw it, does not."""
    found = standing(given(receivers={"acme": was}), states={"acme": now})
    assert bool(found.given) is counts
    if not counts:
        assert f"acme was {was} when it was given, and is {now}" in found.void[0]


def test_a_home_that_gets_worse_voids_nothing() -> None:
    """That is what the plan is for: home is no receiver, nor is a treatment."""
    assert consent.receivers(PLAN) == ("acme",)
    assert standing(given(), states={"hq": "down"}).given


def test_home_is_a_receiver_of_a_failback() -> None:
    """Who comes home wants home to be well; an unknown start means every site."""
    back = plan(shares_before={"q": {"acme": 100}}, shares_after={"q": {"hq": 100}})
    assert consent.receivers(back) == ("hq",)
    assert consent.receivers(replace(back, shares_before={"q": None})) == ("hq",)
    partly = plan(shares_before={"q": {"hq": 100}}, shares_after={"q": {"hq": 80, "acme": 20}})
    assert consent.receivers(partly) == ("acme",)


def test_two_days_later_it_does_not_count() -> None:
    """Nor does a recipe that was read with a shorter time let it count longer."""
    (said,) = standing(given(), now=AT + 48 * 3600 * SECOND).void
    assert "expired at" in said
    assert standing(given(), valid=0.5).void
    assert not standing(given(valid_until=AT + 10**15), now=AT + 3601 * SECOND).given


def test_the_same_person_twice_is_one_person() -> None:
    """Two of two are two different people."""
    assert set(standing(given(), given("MARY@c[7]"), wanted=2).given) == {"mary"}
    assert set(standing(given(), given("joe@c[7]"), wanted=2).given) == {"mary", "joe"}


def test_the_last_word_of_each_person_counts() -> None:
    """A no is taken back by a yes, a yes by a no; a no to another plan is none."""
    no = event(consent.DECLINED, "mary@b[2]", {"plan": PLAN.hash, "reason": "not now"})
    assert standing(given(), no).declined and not standing(given(), no).given
    assert standing(no, given()).given and not standing(no, given()).declined
    other = event(consent.DECLINED, "mary@b[2]", {"plan": "another", "reason": "x"})
    assert not standing(other).declined


def test_roles_say_who_counts() -> None:
    """The named role; any role where none is named; everybody where the policy names nobody."""
    people = {"commander": ("Mary",), "operations": ("joe",)}
    assert standing(given(), people=people, role="commander").given
    assert not standing(given("joe@c[7]"), people=people, role="commander").given
    assert standing(given("joe@c[7]"), people=people).given
    assert not standing(given("eve@c[7]"), people=people).given
    no = event(consent.DECLINED, "eve@c[7]", {"plan": PLAN.hash, "reason": "x"})
    assert not standing(no, people=people).declined
    own = event(consent.DECLINED, "dana@c[7]", {"plan": PLAN.hash, "reason": "x"})
    assert standing(own, people=people).declined, "the requester may take it back"


def test_the_receivers_are_looked_at_only_when_it_matters() -> None:
    """A look costs seconds: not while approvals are missing anyway."""
    def look(site: str) -> str:
        raise AssertionError(site)

    assert judge().standing([ASKED, given()], look, wanted=2).given
    assert judge().standing([ASKED, given()], None, wanted=1).given


def step(records: list[Record], states: dict[str, str], **params: Any) -> Any:
    """The step itself, over a real store."""
    store = open_store(":memory:", SystemRuntime())
    context = SimpleNamespace(
        plan=PLAN, policy=SimpleNamespace(sha256=POLICY, people={}, heading="loans"),
        store=store, records=lambda: records, site_state=states.__getitem__, run="r1-0000")
    return Approve(replace(spec("approve"), kind="approve", params={
        "people": 1, "role": "", "valid": 3600.0, **params}), cast(Any, context)), store


def test_the_step_says_what_is_missing_and_why() -> None:
    """`0 of 1 approvals; the approval by mary is void: …`, which runs show and reports tell."""
    now = SystemRuntime().now()
    asked, store = step([ASKED, given(at=now)], {"acme": "down"})
    observed = asked.holds(None)
    assert observed.truth is Truth.NO and not observed.final
    assert observed.detail == ("0 of 1 approvals; the approval by mary is void: acme was healthy "
                               "when it was given, and is down")
    store.close()


def test_the_step_tells_of_an_approval_whose_giver_died_before_the_outbox() -> None:
    """When it counts, its message is there; the same message once."""
    now = SystemRuntime().now()
    asked, store = step([ASKED, given(at=now)], {"acme": "healthy"})
    assert asked.holds(None).truth is Truth.YES
    assert asked.holds(None).truth is Truth.YES
    (message,) = store.pending()
    assert message.event == "run.approval_given" and "acme was healthy" in message.body
    assert message.body.endswith("journal head 9:h9"), "nor did any run end yet"
    store.close()


def test_an_approval_is_asked_for_again_on_a_late_resume() -> None:
    """It held when the run went on; two days later it does not, and says so."""
    old = SystemRuntime().now() - 48 * 3600 * SECOND
    asked, store = step([ASKED, given(at=old)], {"acme": "healthy"})
    seen = asked.still(None)
    assert seen.truth is Truth.NO and "expired" in seen.detail
    store.close()


def test_a_receiver_under_its_new_load_does_not_void_what_has_begun() -> None:
    """Once a lever has moved, the guards watch the receivers; the approval only has its time."""
    now = SystemRuntime().now()
    moved = event("step.started", "dana@a[1]", {"step": "q/1-shift_route"})
    asked, store = step([ASKED, given(at=now)], {"acme": "degraded"})
    assert asked.still(None).truth is Truth.NO
    whole = plan(shares_before=PLAN.shares_before, shares_after=PLAN.shares_after)
    branch = type(whole.before)("q", (spec("q/1-shift_route", lever="sw:q"),))
    whole = replace(whole, branches=(branch,))
    yes = replace(given(at=now), data=given(at=now).data | {"plan": whole.hash})
    asked.ctx.plan, asked.ctx.records = whole, lambda: [ASKED, yes, moved]
    assert asked.still(None).truth is Truth.YES
    store.close()
