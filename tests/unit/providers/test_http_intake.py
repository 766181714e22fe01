"""What is peculiar to a provider's intake over HTTP, against a real one. What every backlog owes is
in tests/conformance."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import jsonschema
import pytest

from ccfailover.errors import Rejected, Unavailable, UsageError
from ccfailover.model.items import WorkItem
from ccfailover.model.policy import LeverSpec, ProviderSpec
from ccfailover.providers import Backlog
from ccfailover.providers.http import HttpProvider
from ccfailover.providers.http.putting import REQUEST_CAP
from ccfailover.providers.wrappers import Retrying
from ccfailover.runtime import Runtime, SystemRuntime
from tests.conformance.subjects import HASTY, INTAKE, TOKEN, IntakeSubject
from tests.servers import start
from tests.servers.weather import Weather
from tests.unit.transfer.world import VirtualRuntime

BATCH = {"path": "/queues/{ref}/batches", "batch": 10, "body": '{"items": [{{ items }}]}',
         "results": {"list": "/results", "key": "/key", "status": "/status", "id": "/receipt"},
         "accepted": [207, "taken"], "duplicate": ["known"], "refused": ["bad"],
         "later": [503, "busy"]}


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with start.intake(TOKEN) as port:
        yield port


class Place:
    """One intake, and providers that describe it in different words."""

    def __init__(self, port: int, weather: Weather) -> None:
        self.subject = IntakeSubject(port, weather, fifo=True)
        self.lever = replace(self.subject.target, params={"item": {"id": "uli"}})
        self.weather, self.port = weather, port
        self._made: list[HttpProvider] = []

    def provider(self, *, timeout: float = 10.0, runtime: Runtime | None = None,
                 secret: Callable[[str], str] = lambda reference: TOKEN,
                 **block: Any) -> HttpProvider:
        params = {"url": f"http://127.0.0.1:{self.weather.port}", "timeout": timeout,
                  "auth": {"bearer": "env:TOKEN"}, "backlog": {**INTAKE, **block}}
        jsonschema.validate(params, HttpProvider.PARAMS)
        made = HttpProvider(ProviderSpec("acme", "http", params), resolve=secret,
                            runtime=runtime or SystemRuntime())
        self._made.append(made)
        return made

    def backlog(self, *, lever: LeverSpec | None = None, **how: Any) -> Backlog:
        return self.provider(**how).backlog(lever or self.lever)

    def putting(self, *, timeout: float = 10.0, **put: Any) -> Backlog:
        return self.backlog(put={**INTAKE["put"], **put}, timeout=timeout)

    def set(self, **settings: Any) -> None:
        self.subject.console("PUT", self.lever, settings)

    def add(self, body: bytes) -> None:
        self.subject.console("POST", self.lever, {"base64": base64.b64encode(body).decode()})

    def truth(self) -> Any:
        return self.subject.console("GET", self.lever)

    def there(self) -> list[str]:
        return sorted(each["sent"]["id"] for each in self.truth()["items"])

    def close(self) -> None:
        for each in [*self._made, self.subject.provider]:
            each.close()


@pytest.fixture
def place(port: int) -> Iterator[Place]:
    with Weather(port) as weather:
        made = Place(port, weather)
        yield made
        made.close()


def items(*names: str, body: bytes = b'{"uli": "x"}') -> list[WorkItem]:
    return [WorkItem(name, f"m-{name}", body, {}, "") for name in names]


def put(backlog: Backlog, batch: list[WorkItem], hop: int = 1) -> Any:
    return backlog.put(batch, keys={each.item_id: f"{each.item_id}:r1:{hop}" for each in batch})


@pytest.mark.parametrize("at_a_time", [3, 6])
def test_several_puts_are_under_way_at_once_and_no_more(place: Place, at_a_time: int) -> None:
    """The intake answers when so many have arrived; it never sees one more than allowed."""
    place.set(gather=at_a_time)
    names = [f"a{number}" for number in range(12)]
    results = put(place.putting(at_a_time=at_a_time), items(*names))
    assert [(each.item_id, each.ok) for each in results] == [(name, True) for name in names]
    assert place.truth()["most"] == at_a_time
    assert place.there() == sorted(names)


def test_in_doubt_is_exactly_the_one_whose_reply_did_not_come(place: Place) -> None:
    """Of six on their way, one reply is lost: five are known to be there, and it is there, too."""
    place.weather.next("fair", "fair", "lose_reply")
    results = put(place.putting(timeout=HASTY * 2), items(*"abcdef"))
    assert sorted((each.ok, each.in_doubt) for each in results) == [
        (False, True), *[(True, False)] * 5]
    assert place.there() == list("abcdef")
    again = put(place.putting(), items(*"abcdef"))
    assert all(each.ok for each in again) and place.there() == list("abcdef")
    known = {each.item_id: each.target_ref for each in results if each.ok}
    assert all(each.target_ref == known.get(each.item_id, each.target_ref) for each in again)


def test_who_asks_to_be_left_alone_is(place: Place) -> None:
    """503 with Retry-After: that one and the rest may come again, and the rest are not sent."""
    place.set(odd={"b": "busy"})
    results = put(place.putting(at_a_time=1), items(*"abcd"))
    assert [(each.ok, each.in_doubt, each.permanent, each.retry_after) for each in results] == [
        (True, False, False, None), *[(False, False, False, 2.0)] * 3]
    assert place.there() == ["a"] and place.truth()["requests"] == 2


def test_patience_waits_as_long_as_it_was_asked_to(place: Place) -> None:
    """429 with Retry-After 7 costs at least seven seconds (of a clock that does not run by
    itself), and then everything is there."""
    runtime = VirtualRuntime()
    backlog = Retrying(place.provider(runtime=runtime), runtime).backlog(place.lever)
    place.weather.next("busy")
    results = put(backlog, items("a"))
    assert results[0].ok and 7 <= runtime.seconds < 15


def test_a_refused_item_spoils_nothing_for_the_others(place: Place) -> None:
    """422 is the item's own fault, for good."""
    place.set(odd={"b": "bad"})
    results = put(place.putting(), items(*"abc"))
    assert [(each.ok, each.permanent) for each in results] == [
        (True, False), (False, True), (True, False)]
    assert "replied 422" in results[1].detail


@pytest.mark.parametrize(("declared", "ok", "doubt"), [
    ({"duplicate": [409]}, True, False), ({"duplicate": []}, False, True),
    ({"duplicate": [], "refused": [409]}, False, False)])
def test_what_a_second_put_with_its_key_means_is_the_policys_word(
        place: Place, declared: dict[str, Any], ok: bool, doubt: bool) -> None:
    """409 is a yes where the policy says so. Where it says nothing, it may be there: in doubt."""
    backlog = place.putting(**declared)
    [first] = put(backlog, items("a"))
    [second] = put(backlog, items("a"))
    assert first.ok and (second.ok, second.in_doubt) == (ok, doubt)
    assert second.target_ref == (first.target_ref if ok else None)
    assert place.there() == ["a"]


def test_each_item_of_a_batch_has_its_own_result(place: Place) -> None:
    """Taken, known, bad, busy, and one of which the reply says nothing: that one is in doubt."""
    place.set(odd={"c": "bad", "d": "busy", "e": "silent"})
    put(place.backlog(put=BATCH), items("b"))
    results = put(place.backlog(put=BATCH), items(*"abcdef"))
    assert [(each.ok, each.in_doubt, each.permanent) for each in results] == [
        (True, False, False), (True, False, False), (False, False, True), (False, False, False),
        (False, True, False), (True, False, False)]
    assert all(each.target_ref for each in results if each.ok)
    assert place.truth()["requests"] == 2


def test_entries_without_keys_go_by_their_order_and_only_if_none_is_missing(
        place: Place) -> None:
    """A list that is shorter than the batch tells nothing about anybody."""
    block = {**BATCH, "results": {"list": "/results", "status": "/status"}}
    assert all(each.ok for each in put(place.backlog(put=block), items(*"abc")))
    place.set(odd={"e": "silent"})
    results = put(place.backlog(put=block), items(*"def"))
    assert [(each.ok, each.in_doubt) for each in results] == [(False, True)] * 3


def test_a_batch_is_cut_where_a_request_would_be_too_long(place: Place) -> None:
    """By bytes, too; and one item that is too long by itself is refused before it is sent."""
    large = items(*"abc", body=b'{"uli": "' + b"x" * (REQUEST_CAP // 3) + b'"}')
    over = items("d", body=b"x" * REQUEST_CAP)
    results = put(place.backlog(put=BATCH), [*large, *over])
    assert [(each.ok, each.permanent) for each in results] == [(True, False)] * 3 + [(False, True)]
    assert place.truth()["requests"] == 2


@pytest.mark.parametrize("bad", [{"id": "/nowhere"}, {"id": "/error"}])
def test_a_reply_that_acknowledges_nothing_proves_nothing(place: Place, bad: Any) -> None:
    """201 without the acknowledgement that the policy names is in doubt."""
    [result] = put(place.putting(**bad), items("a"))
    assert (result.ok, result.in_doubt) == (False, True)


def test_an_acknowledgement_that_repeats_our_credential_is_not_kept(place: Place) -> None:
    """A peer that echoes what it was sent gets nothing into the ledger."""
    place.set(odd={"a": "echo"})
    [result] = put(place.putting(), items("a"))
    assert (result.ok, result.in_doubt) == (False, True)
    assert TOKEN not in repr(result)


def test_a_wrong_credential_is_nobodys_doubt_and_no_items_fault(place: Place) -> None:
    """401: the rest is not sent, and the secret is fetched anew for the next put."""
    told = iter(["old", TOKEN])
    backlog = place.provider(put={**INTAKE["put"], "at_a_time": 1},
                             secret=lambda reference: next(told)).backlog(place.lever)
    results = put(backlog, items("a", "b"))
    assert [(each.ok, each.in_doubt, each.permanent) for each in results] == [(False,) * 3] * 2
    assert place.truth()["requests"] == 0
    assert all(each.ok for each in put(backlog, items("a", "b")))


FORMS = {
    "base64": '{"id": {{ id | tojson }}, "base64": {{ base64 | tojson }}}',
    "text": '{"id": {{ id | tojson }}, "body": {{ body | tojson }}}',
    "document": '{"id": {{ id | tojson }}, "document": {{ document }}}',
    "jinja": '{"id": {{ id | tojson }}, "body": {{ (body ~ "") | tojson }}}',
}


@pytest.mark.parametrize("form", FORMS)
def test_the_body_goes_in_the_form_that_the_policy_says(place: Place, form: str) -> None:
    """Every form brings the same JSON; bytes that are no text go only as base64."""
    body = '{"uli": "ü", "amount": 1.10, "note": "</script>\'"}'.encode()
    backlog = place.putting(body=FORMS[form])
    [good, bad] = put(backlog, [*items("a", body=body), *items("b", body=b"\xff\x00")])
    assert good.ok
    [arrived] = [each for each in place.truth()["items"] if each["sent"]["id"] == "a"]
    assert json.loads(base64.b64decode(arrived["base64"])) == json.loads(body)
    assert (bad.ok, bad.permanent) == (form == "base64", form != "base64")


def test_a_body_cannot_break_out_of_its_place(place: Place) -> None:
    """`document` stands bare in the request: what is no JSON document is refused before."""
    [result] = put(place.putting(body=FORMS["document"]),
                   items("a", body=b'{"uli": "a"}, "id": "other"'))
    assert (result.ok, result.permanent) == (False, True)
    assert "no JSON document" in result.detail and place.there() == []


def test_what_travels_is_in_the_request_and_its_header(place: Place) -> None:
    """The default request has id, key, time, hops and attributes; the key is in the header, too."""
    item = replace(items("a")[0], submitted="2026-03-01", hops=2, attributes={"branch": "0417"})
    put(place.putting(), [item], hop=2)
    [arrived] = place.truth()["items"]
    assert arrived["sent"] == {"id": "a", "submitted": "2026-03-01", "hops": 2,
                               "attributes": {"branch": "0417"}}
    assert arrived["key"] == "a:r1:2"


def test_what_can_only_be_put_in_gives_nothing_back(place: Place) -> None:
    """Without `claim`: known beforehand, and said plainly to whoever tries it all the same."""
    block = {"put": INTAKE["put"], "measure": INTAKE["measure"]}
    able = HttpProvider.capabilities({"backlog": block}, {"ref": "x"})
    assert (able.backlogs, able.claims) == (True, False)
    provider = HttpProvider(ProviderSpec("acme", "http", {
        "url": f"http://127.0.0.1:{place.port}", "auth": {"bearer": "env:TOKEN"},
        "backlog": block}), resolve=lambda reference: TOKEN, runtime=SystemRuntime())
    backlog = provider.backlog(place.lever)
    for call in (lambda: backlog.claim(1), lambda: backlog.extend(["c"], 1),
                 lambda: backlog.settle(["c"])):
        with pytest.raises(Rejected, match="gives none back") as caught:
            call()
        assert caught.value.hint
    assert put(backlog, items("a"))[0].ok and backlog.measure().depth == 1
    provider.close()


def test_what_is_not_described_is_said(place: Place) -> None:
    """No backlog at all, an assignee without a way to assign, and a lever that cannot be put to."""
    bare = {"url": "http://127.0.0.1:1"}
    for params, lever in ((bare, {}), ({**bare, "backlog": INTAKE}, {"assignee": "hq"})):
        able = HttpProvider.capabilities(params, {"ref": "x", **lever})
        assert not able.backlogs
        with pytest.raises(UsageError):
            HttpProvider(ProviderSpec("acme", "http", params), runtime=SystemRuntime(),
                         resolve=str).backlog(LeverSpec("acme", "x", lever))
    only = {name: block for name, block in INTAKE.items() if name != "put"}
    provider = HttpProvider(ProviderSpec("acme", "http", {
        "url": f"http://127.0.0.1:{place.port}", "auth": {"bearer": "env:TOKEN"},
        "backlog": only}), resolve=lambda reference: TOKEN, runtime=SystemRuntime())
    [result] = put(provider.backlog(place.lever), items("a"))
    assert not result.ok and "no `put`" in result.detail
    with pytest.raises(Rejected, match="no `put`"):
        provider.backlog(place.lever).check_writable()
    provider.close()


@pytest.mark.parametrize("lists", [["claim"], ["extend"], ["settle"], ["release"]])
def test_half_a_way_back_is_no_way_back(lists: list[str]) -> None:
    """`claim` needs `extend`, and what is about claims needs `claim`."""
    block = {"measure": INTAKE["measure"], **{name: INTAKE.get(name, {"path": "/x"})
                                              for name in lists}}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"url": "http://x", "backlog": block}, HttpProvider.PARAMS)


def test_the_age_of_the_oldest_is_a_number_or_a_time(place: Place) -> None:
    """Seconds as told; an instant is counted from now; neither is unknown."""
    place.add(b"{}")
    told = place.backlog().measure().oldest_s
    assert told is not None and 0 <= told < 60
    measure = {**INTAKE["measure"], "oldest": "/waiting/nowhere"}
    assert place.backlog(measure=measure).measure().oldest_s is None


@pytest.mark.parametrize("pointer", ["/nowhere", "/oldest", ""])
def test_a_count_that_is_none_is_rejected(place: Place, pointer: str) -> None:
    """Missing, a fraction, an object: never 0."""
    place.add(b"{}")
    with pytest.raises(Rejected, match="no count"):
        place.backlog(measure={**INTAKE["measure"], "visible": pointer}).measure()


@pytest.mark.parametrize(("change", "words"), [
    ({"list": "/nowhere"}, "no list"), ({"handle": "/nowhere"}, "lacks its id or the handle"),
    ({"message": "/sent"}, "lacks its id or the handle")])
def test_a_claim_that_makes_no_sense_is_rejected(
        place: Place, change: dict[str, str], words: str) -> None:
    """An item that could never be settled is not taken for one."""
    place.add(b'{"uli": "a"}')
    with pytest.raises(Rejected, match=words):
        place.backlog(claim={**INTAKE["claim"], **change}).claim(1)


@pytest.mark.parametrize(("form", "body"), [("text", b"eyJ1bGkiOiAiYSJ9"), ("json", None)])
def test_a_body_may_come_as_text_or_as_json(place: Place, form: str, body: bytes | None) -> None:
    """What is not in the form that the policy says is the item's problem, and no more."""
    place.add(b'{"uli": "a"}')
    claim = {**INTAKE["claim"], "encoding": form}
    [item] = place.backlog(claim=claim).claim(1)
    assert item.body == (body or b'"eyJ1bGkiOiAiYSJ9"') and item.problem
    place.add(b'{"uli": "b"}')
    [item] = place.backlog(claim={**INTAKE["claim"], "body_at": "/sent"}).claim(1)
    assert item.problem is not None and "not base64" in item.problem and not item.item_id


def test_claims_may_be_extended_many_at_a_time_and_released_by_a_call_of_its_own(
        place: Place) -> None:
    """`done` names those for which it worked; `release` is used for giving back at once."""
    for name in "abc":
        place.add(f'{{"uli": "{name}"}}'.encode())
    backlog = place.backlog(
        extend={"path": "/claims/extended", "done": "/done",
                "body": '{"claims": {{ handles | tojson }}, "seconds": {{ seconds | tojson }}}'},
        release={"path": "/claims/{handle}/release"})
    handles = [item.handle for item in backlog.claim(3)]
    before = len(place.weather.requests)
    assert backlog.extend([*handles, "nonesuch"], 60) == {
        **dict.fromkeys(handles, True), "nonesuch": False}
    assert len(place.weather.requests) == before + 1
    assert backlog.extend([*handles, "nonesuch"], 0) == {
        **dict.fromkeys(handles, True), "nonesuch": False}
    assert len(backlog.claim(3)) == 3


def test_an_extension_that_nobody_answers_is_no_no(place: Place) -> None:
    """The claim may well last: Unavailable, and the caller tries again."""
    place.add(b'{"uli": "a"}')
    [item] = place.backlog().claim(1)
    place.weather.next("hang")
    with pytest.raises(Unavailable):
        place.backlog(timeout=HASTY).extend([item.handle], 60)


def test_the_time_of_one_call_is_enough_for_all(place: Place) -> None:
    """A peer that hangs on the first request costs one time-out; the rest were not sent."""
    place.weather.next("hang")
    results = put(place.putting(at_a_time=1, timeout=HASTY), items(*"abc"))
    assert [(each.ok, each.in_doubt) for each in results] == [
        (False, True), (False, False), (False, False)]
    assert "the time was over" in results[1].detail and place.there() == []


def test_what_is_left_of_the_time_is_too_little_to_begin_with(place: Place) -> None:
    """A time-out may come milliseconds before the time of all is over: nothing is sent then."""
    before = len(place.weather.requests)

    class AlmostOver(SystemRuntime):
        def monotonic(self) -> float:
            return HASTY - 0.005 if len(place.weather.requests) > before else 0.0

    backlog = place.backlog(put={**INTAKE["put"], "at_a_time": 1}, runtime=AlmostOver(),
                            timeout=HASTY)
    results = put(backlog, items(*"ab"))
    assert [(each.ok, each.in_doubt) for each in results] == [(True, False), (False, False)]
    assert len(place.weather.requests) == before + 1 and len(place.there()) == 1
