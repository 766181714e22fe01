"""What every route owes, against a real switch and the simulated one."""

from __future__ import annotations

import json
import traceback

import jsonschema
import pytest

from ccfailover.errors import ProviderError, Refused, Rejected, Unavailable
from ccfailover.model.shares import Shares
from ccfailover.providers.wrappers import Patience, Retrying, ViewsOnly
from ccfailover.runtime import SystemRuntime
from tests.conformance.subjects import HASTY, SECRETS, RouteSubject


def test_a_shift_is_absolute_and_reads_back(route_subject: RouteSubject) -> None:
    """After any sequence of shifts the platform has exactly the last shares, and says so."""
    route = route_subject.route()
    assert route.read().shares == Shares({"hq": 100})
    for shares in route_subject.walk:
        route.shift(Shares(shares), expected=None, key="r1/s1")
        assert route_subject.truth() == dict(shares)
        assert route.read().shares == Shares(shares)


def test_the_same_shift_twice_lands_in_the_same_place(route_subject: RouteSubject) -> None:
    """Repeating a write changes nothing, also when it carries what was read before the first."""
    route = route_subject.route()
    before = route.read()
    for _ in range(2):
        route.shift(route_subject.moved, expected=before, key="r1/s1")
        assert route_subject.truth() == dict(route_subject.moved)


def test_what_cannot_be_expressed_is_refused_before_anything_is_sent(
        route_subject: RouteSubject) -> None:
    """An unknown destination, or a share off the lever's step, is Rejected and not sent."""
    for shares, match in route_subject.unexpressed:
        with pytest.raises(Rejected, match=match):
            route_subject.route().shift(Shares(shares), expected=None, key="k")
    coarse = 10 if route_subject.adjustable_step else route_subject.step
    if coarse > 1:
        with pytest.raises(Rejected, match=f"multiple of the step {coarse}"):
            route_subject.route(step=coarse).shift(Shares({"hq": 55, "acme": 45}), expected=None,
                                                   key="k")
    assert route_subject.writes() == 0
    assert route_subject.truth() == {"hq": 100}


def test_a_change_by_somebody_else_is_detected(route_subject: RouteSubject) -> None:
    """With what was read as `expected`, a route that changed since is not overwritten."""
    route = route_subject.route()
    before = route.read()
    route_subject.elsewhere(route_subject.foreign)
    if not route_subject.compare_and_set:
        assert route.read().shares == Shares(route_subject.foreign)
        return
    with pytest.raises(Rejected, match="changed since it was read") as caught:
        route.shift(route_subject.moved, expected=before, key="k")
    assert caught.value.not_done
    assert route_subject.truth() == dict(route_subject.foreign)
    route.shift(route_subject.moved, expected=route.read(), key="k")
    assert route_subject.truth() == dict(route_subject.moved)


def test_a_change_back_to_the_same_shares_is_detected_by_version(
        route_subject: RouteSubject) -> None:
    """Compare-and-set goes by version: away and back again is a change, too."""
    if not route_subject.versioned:
        pytest.skip("this platform keeps no version")
    route = route_subject.route()
    before = route.read()
    route_subject.elsewhere({"acme": 100})
    route_subject.elsewhere({"hq": 100})
    with pytest.raises(Rejected, match="changed since it was read"):
        route.shift(route_subject.moved, expected=before, key="k")


def test_a_lost_reply_leaves_doubt_and_the_same_write_settles_it(
        route_subject: RouteSubject) -> None:
    """Time-out after success: in doubt; the same write with the same `expected` ends well."""
    before = route_subject.route().read()
    hasty = route_subject.route(timeout=HASTY)
    route_subject.meet("after")
    with pytest.raises(Unavailable) as caught:
        hasty.shift(route_subject.moved, expected=before, key="k")
    assert caught.value.in_doubt
    route_subject.wait_for(route_subject.moved)
    route_subject.route().shift(route_subject.moved, expected=before, key="k")
    assert route_subject.truth() == dict(route_subject.moved)


def test_a_lost_request_leaves_doubt(route_subject: RouteSubject) -> None:
    """No reply in time and nothing done: in doubt as well, for we cannot know."""
    hasty = route_subject.route(timeout=HASTY)
    route_subject.meet("lost")
    with pytest.raises(Unavailable) as caught:
        hasty.shift(route_subject.moved, expected=None, key="k")
    assert caught.value.in_doubt
    assert route_subject.truth() == {"hq": 100}


def test_unreachable_is_no_doubt(route_subject: RouteSubject) -> None:
    """A platform that nobody could connect to has done nothing, and the error says so."""
    route = route_subject.route(port=0)
    with pytest.raises(Unavailable) as caught:
        route.shift(route_subject.moved, expected=None, key="k")
    assert not caught.value.in_doubt
    assert route_subject.truth() == {"hq": 100}


def test_throttling_says_when_to_come_back(route_subject: RouteSubject) -> None:
    """Throttled calls are transient, not in doubt, and carry Retry-After."""
    if not route_subject.throttles:
        pytest.skip("this platform does not throttle")
    route = route_subject.route()
    route_subject.meet("throttled")
    with pytest.raises(Unavailable) as caught:
        route.shift(route_subject.moved, expected=None, key="k")
    assert not caught.value.in_doubt
    if route_subject.says_when:
        assert caught.value.retry_after is not None and caught.value.retry_after > 0
    assert route_subject.truth() == {"hq": 100}


def test_a_shift_that_ends_in_its_middle(route_subject: RouteSubject) -> None:
    """Whichever of its writes fails, and all after it: the error does not say that nothing was
    done, what is read is what stands, somebody takes traffic all the time, and the same shift once
    more brings the rest. Where a shift is one write, half of it does nothing at all."""
    subject = route_subject
    assert (subject.pieces == 1) == bool(subject.whole), "one write, and why it is no two"
    for how in subject.breaks:
        for number in range(1, subject.pieces + 1):
            if subject.truth() != {"hq": 100}:
                subject.elsewhere({"hq": 100})
            before, untouched = subject.route().read(), subject.takes()
            subject.break_writes(number, how)
            with pytest.raises(Unavailable) as caught:
                subject.route(timeout=HASTY).shift(subject.moved, expected=before, key=how)
            subject.mend()
            at = f"{how} at write {number}"
            assert caught.value.in_doubt or (how == "down" and number == 1), at
            if caught.value.in_doubt:
                assert "not changed" not in f"{caught.value} {caught.value.not_done}", at
            takes = subject.takes()
            if subject.pieces == 1:
                assert takes == untouched, at
            else:
                assert number == 1 or takes != untouched, f"{at}: no part of it was applied"
                assert "hq" in takes or set(subject.moved) <= set(takes), at
            read = subject.route().read()
            assert set(read.shares) == set(takes), at
            for name, weight in takes.items():
                assert abs(read.shares.of(name) - 100 * weight / sum(takes.values())) < 1, at
            subject.route().shift(subject.moved, expected=before, key=how)
            assert subject.truth() == subject.moved.to_json(), at
    subject.elsewhere({"hq": 100})
    before_it = subject.writes()
    subject.route().shift(subject.moved, expected=None, key="k")
    assert subject.writes() - before_it == subject.pieces * subject.noted


def test_patience_outlasts_a_lost_reply(route_subject: RouteSubject) -> None:
    """Retrying repeats a shift whose reply was lost, and does not take its own change for
    somebody else's."""
    before = route_subject.route().read()
    provider = route_subject.make(timeout=2.0)
    route = Retrying(provider, SystemRuntime(),
                     patience=Patience(SystemRuntime(), first=0.01)).route(route_subject.lever)
    route_subject.meet("after")
    route.shift(route_subject.moved, expected=before, key="k")
    assert route_subject.truth() == dict(route_subject.moved)


@pytest.mark.slow
def test_patience_gets_through_a_limit(route_subject: RouteSubject) -> None:
    """2 calls a second with bursts of 5, as the clouds have it: whoever is patient in the usual
    way moves the lever to and fro, and reads it, without a failure."""
    bucket = route_subject.throttle(on=True)
    if bucket is None:
        pytest.skip("the server of this platform has no such limit")
    try:
        route = Retrying(route_subject.make(), SystemRuntime()).route(route_subject.lever)
        for shares in (route_subject.moved, Shares({"hq": 100}), route_subject.moved):
            route.shift(shares, expected=route.read(), key="k")
            assert route_subject.truth() == dict(shares)
        assert bucket.refused
    finally:
        route_subject.throttle(on=False)


def test_an_unknown_route_is_rejected(route_subject: RouteSubject) -> None:
    """A ref that the platform does not have is a permanent error."""
    with pytest.raises(Rejected):
        route_subject.provider.route(
            route_subject.nonesuch()).read()


def test_measure_gives_numbers_only(route_subject: RouteSubject) -> None:
    """What the switch does not count, or says null to, is left out: never 0."""
    assert route_subject.route().measure() == route_subject.counts


def test_hostile_replies_are_bounded_errors(route_subject: RouteSubject) -> None:
    """Garbage, floods, silence and endless replies end in a ProviderError on reads and writes,
    and no error shows a credential, even when the peer echoes it."""
    for mode in route_subject.hostile:
        for write in (False, True):
            (route_subject.meet_write if write else route_subject.meet)(mode)
            written = route_subject.writes()
            error = _met(route_subject, HASTY, write)
            if (write and isinstance(error, Unavailable) and not error.in_doubt
                    and route_subject.writes() == written):
                # On a busy machine the look before it took all the time there was.
                error = _met(route_subject, 10 * HASTY, write)
            if error is None:
                # Only a reply that says 200 can make a write look done; reading back decides.
                assert write and mode in ("garbage", "huge", "truncated", "odd"), mode
                continue
            shown = [str(error), repr(error), json.dumps(error.to_json()), *error.lines(),
                     *traceback.format_exception(error)]
            assert not [s for s in SECRETS.values() if s in "\n".join(shown)], mode
            in_doubt = isinstance(error, Unavailable) and error.in_doubt
            assert not write or isinstance(error, Rejected) or in_doubt, mode


def _met(subject: RouteSubject, timeout: float, write: bool) -> ProviderError | None:
    route = subject.route(timeout=timeout)
    try:
        if write:
            route.shift(subject.moved, expected=None, key="k")
        else:
            route.read()
    except ProviderError as error:
        return error
    return None


def test_nothing_shows_a_credential(route_subject: RouteSubject) -> None:
    """Neither provider nor route shows a secret in its repr, before or after its use."""
    route = route_subject.route()
    route.read()
    shown = f"{route_subject.provider!r} {route!r} {vars(route)!r}"
    assert not [s for s in SECRETS.values() if s in shown]


def test_a_drill_cannot_write(route_subject: RouteSubject) -> None:
    """ViewsOnly gives reads; its views have nothing to write with, and levers are Refused."""
    views = ViewsOnly(route_subject.make())
    view = views.route_view(route_subject.lever)
    assert view.read().shares == Shares({"hq": 100})
    assert not hasattr(view, "shift")
    with pytest.raises(Refused, match="a drill asked to write") as caught:
        views.route(route_subject.lever)
    assert caught.value.guard == "drill"
    assert route_subject.writes() == 0


def test_the_policy_blocks_fit_the_schemas(route_subject: RouteSubject) -> None:
    """PARAMS and LEVER are sound JSON Schemas, accept what is used here, and refuse typos."""
    kind = type(route_subject.provider)
    for schema in (kind.PARAMS, kind.LEVER):
        jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(dict(route_subject.provider.spec.params), kind.PARAMS)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**route_subject.provider.spec.params, "typo": 1}, kind.PARAMS)


def test_capabilities_tell_what_the_lever_can_do(route_subject: RouteSubject) -> None:
    """Step, destinations and compare-and-set are known without asking the platform."""
    step = 10 if route_subject.adjustable_step else route_subject.step
    provider = route_subject.make(step=step)
    able = provider.capabilities(provider.spec.params, {"ref": route_subject.ref,
                                                        **route_subject.lever.params})
    assert able.routes and able.compare_and_set == route_subject.compare_and_set
    assert able.treatments == ("message" in route_subject.sites)
    assert able.share_step == step
    assert able.destinations == set(route_subject.sites)
    assert able.rights
