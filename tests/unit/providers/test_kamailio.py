"""What the `kamailio` kind makes of replies that a sound edge does not give, and of list files."""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from ccfailover.errors import ProviderError, Rejected, Unavailable
from ccfailover.model.policy import LeverSpec, ProviderSpec
from ccfailover.model.shares import Shares
from ccfailover.providers import Route, RouteState
from ccfailover.providers.kamailio import KamailioProvider
from ccfailover.providers.kamailio.listfile import ListFile
from ccfailover.runtime import SystemRuntime
from tests.servers.jsonrpc import Fault, Raw, Said

SECRETS = {"env:TOKEN": "tok-5ecret-9f1d\n", "env:BAD": "a\r\nEvil: 1"}
SETS = {"hq": 10, "acme": 20, "message": 30}
UPTIME = {"now": "x", "up_since": "Mon Nov 30 06:37:12 2026", "uptime": 2}
URIS = {"hq": "sip:127.0.0.11:5060", "acme": "sip:127.0.0.12:5060"}


def value(text: object) -> dict[str, object]:
    return {"item": {"name": "loan_calls", "value": text, "flags": 2, "expire": "NEVER"}}


@pytest.fixture
def edge() -> Iterator[Said]:
    with Said({"core.uptime": UPTIME, "htable.get": value("10=100;20=0;30=0;v=start"),
               "htable.sets": "Ok. Key set to new value."}) as said:
        yield said


def provider(edge: Said, params: Mapping[str, object] | None = None) -> KamailioProvider:
    merged = {"url": edge.url, "timeout": 10, **({"destinations": SETS, "profile": "route",
                                                "counters": "cnt"} if params is None else params)}
    jsonschema.validate(merged, KamailioProvider.PARAMS)
    return KamailioProvider(ProviderSpec("edge", "kamailio", merged),
                            resolve=SECRETS.__getitem__, runtime=SystemRuntime())


def route(edge: Said, **params: object) -> Route:
    every = {"destinations": SETS, "profile": "route", "counters": "cnt", **params}
    return provider(edge, every).route(LeverSpec("edge", "loan_calls"))


# --- shares in a hash table ---------------------------------------------------------------------

@pytest.mark.parametrize(("text", "why"), [
    ("", "shares sum to 0"), ("10=50", "shares sum to 50"), ("10=50;10=50", "listed twice"),
    ("10=101", "is 101"), ("10=1000", "is no set"), ("hq=100", "'hq=100' is no set=percent"),
    ("10=100;40=5", "5 % goes to set 40, which destinations does not name"),
    ("10=1e2", "is no set"), ("10=100;\x1b[31m=0", r"\\x1b"), ("10=-5;20=105", "is no set"),
    ("10=\u0661\u0660\u0660", "is no set"), ("10=100;v=" + "x" * 65, "is no set"),
    ("9" * 1001, "no text of shares"), (100, "no text of shares"), (None, "no text of shares"),
    (["10=100"], "no text of shares"),
])
def test_a_value_that_makes_no_sense_is_rejected(edge: Said, text: object, why: str) -> None:
    """It is told as what it is, escaped, and never taken for shares."""
    edge.says["htable.get"] = value(text)
    with pytest.raises(Rejected, match=why) as caught:
        route(edge).read()
    assert str(caught.value).isprintable()


def test_sets_without_a_share_and_values_by_hand_are_read(edge: Said) -> None:
    """A person may leave out what is 0, the mark, and add a semicolon; foreign sets may have 0."""
    for text in ("20=100", "20=100;", "10=0;20=100;99=0;v="):
        edge.says["htable.get"] = value(text)
        assert route(edge).read().shares == Shares({"acme": 100})


def test_every_set_is_written_and_the_mark_is_the_steps(edge: Said) -> None:
    """A set that gets nothing is written as 0; one step writes one value, another one another."""
    for key in ("r1/s1", "r1/s1", "r1/s2"):
        route(edge).shift(Shares({"acme": 70, "message": 30}), expected=None, key=key)
    written = [params for method, params in edge.asked if method == "htable.sets"]
    assert {tuple(params[:2]) for params in written} == {("split", "loan_calls")}
    texts = [params[2] for params in written]
    assert [text.rpartition(";v=")[0] for text in texts] == ["10=0;20=70;30=30"] * 3
    assert texts[0] == texts[1] != texts[2]


def test_a_key_that_the_edge_does_not_have_is_not_made(edge: Said) -> None:
    """A write would make it, and read back well, while no call goes by it."""
    edge.says["htable.get"] = Fault("Key name doesn't exist in htable.")
    with pytest.raises(Rejected, match="Key name doesn't exist") as caught:
        route(edge).shift(Shares({"acme": 100}), expected=None, key="k")
    assert caught.value.not_done == "the shares were not changed"
    assert "htable.sets" not in [method for method, _ in edge.asked]


def test_a_change_by_somebody_else_is_refused_and_the_wanted_shares_are_not(edge: Said) -> None:
    """Other shares, the same shares by another write, and another edge are changes; the shares
    that are wanted are no reason to refuse, whoever set them."""
    before = route(edge).read()
    for method, said in [("htable.get", value("10=90;20=10")),
                         ("htable.get", value("10=100;20=0;30=0;v=other")),
                         ("core.uptime", {**UPTIME, "up_since": "Mon Nov 30 06:37:13 2026"})]:
        usual, edge.says[method] = edge.says[method], said
        with pytest.raises(Rejected, match="changed since it was read"):
            route(edge).shift(Shares({"acme": 100}), expected=before, key="k")
        edge.says[method] = usual
    edge.says["htable.get"] = value("20=100;v=other")
    route(edge).shift(Shares({"acme": 100}), expected=before, key="k")
    assert "htable.sets" not in [method for method, _ in edge.asked]
    edge.says["htable.get"] = value("10=100;20=0;30=0;v=other")
    route(edge).shift(Shares({"acme": 100}), expected=RouteState(Shares({"hq": 100})), key="k")
    assert "htable.sets" in [method for method, _ in edge.asked]


# --- replies ------------------------------------------------------------------------------------

@pytest.mark.parametrize("reply", [
    Raw(b""), Raw(b"[]"), Raw(b"null"), Raw(b'"x"'), Raw(b"\xff"), Raw(b'{"result": NaN}'),
    Raw(b'{"jsonrpc":"2.0","result":{}}'), Raw(b'{"jsonrpc":"2.0","result":{},"id":"other"}'),
    Raw(b'{"jsonrpc":"2.0","id":1}'), Raw(b'{"error":{}}'), Raw(b'{"error":"no"}'),
    Raw(b'{"error":null,"result":{}}'), Raw(b"[" * 5000), Fault({"a": 1}), Fault(None),
])
def test_a_reply_that_says_nothing(edge: Said, reply: object) -> None:
    """A read is Rejected; a write is in doubt: it may have been done."""
    edge.says["htable.sets"] = reply
    with pytest.raises(Unavailable, match="makes no sense") as caught:
        route(edge).shift(Shares({"acme": 100}), expected=None, key="k")
    assert caught.value.in_doubt
    edge.says["htable.get"] = reply
    with pytest.raises(Rejected, match="makes no sense"):
        route(edge).read()


@pytest.mark.parametrize(("reply", "kind", "doubt"), [
    (Raw(b'{"error": {"message": "no upstream"}}', 503), Unavailable, True),
    (Raw(b"<html>", 500), Unavailable, True), (Raw(b"", 503), Unavailable, True),
    (Raw(b"{}", 404), Rejected, False), (Raw(b"", 401), Rejected, False),
    (Raw(b"", 302), Rejected, False), (Raw(b"", 429), Unavailable, False),
    (Fault("No such htable"), Rejected, False), (Fault("x", 404), Rejected, False),
])
def test_what_a_proxy_and_what_the_edge_says(edge: Said, reply: object,
                                             kind: type[ProviderError], doubt: bool) -> None:
    """A JSON-RPC error is the edge's own no; without one the status says what it says."""
    edge.says["htable.sets"] = reply
    with pytest.raises(kind) as caught:
        route(edge).shift(Shares({"acme": 100}), expected=None, key="k")
    assert getattr(caught.value, "in_doubt", False) == doubt


def test_messages_are_cut_escaped_and_free_of_secrets(edge: Said) -> None:
    """An edge may say anything: control characters, a novel, or the token that it was sent."""
    for message in ("\x1b]0;owned\x07", "x" * 100_000, "you sent Bearer tok-5ecret-9f1d"):
        edge.says["htable.get"] = Fault(message)
        with pytest.raises(Rejected) as caught:
            route(edge, token="env:TOKEN").read()
        shown = "\n".join([repr(caught.value), json.dumps(caught.value.to_json()),
                           *caught.value.lines()])
        assert len(shown) < 2000 and "5ecret" not in shown and "\x1b" not in shown
    assert set(edge.tokens) == {"Bearer tok-5ecret-9f1d"}


def test_a_token_that_was_refused_is_fetched_anew(edge: Said) -> None:
    """It may have been changed since; one that is not refused is fetched once."""
    fetched: list[str] = []

    def resolve(reference: str) -> str:
        fetched.append(reference)
        return f"tok-{len(fetched)}"

    params = {"url": edge.url, "token": "env:TOKEN", "destinations": SETS}
    asks = KamailioProvider(ProviderSpec("edge", "kamailio", params), resolve=resolve,
                            runtime=SystemRuntime()).route(LeverSpec("edge", "loan_calls"))
    asks.read()
    edge.says["core.uptime"] = Raw(b"", 401)
    with pytest.raises(Rejected, match="replied 401"):
        asks.read()
    edge.says["core.uptime"] = UPTIME
    asks.read()
    assert edge.tokens == ["Bearer tok-1"] * 3 + ["Bearer tok-2"] * 2


def test_an_address_that_is_a_secret_is_not_shown(edge: Said) -> None:
    """Neither its login nor its path; and what repeats the login, as it was sent, is not told."""
    address = edge.url.replace("http://", "http://us:pa55word@")
    params = {"url": "env:URL", "destinations": SETS}
    asks = KamailioProvider(ProviderSpec("edge", "kamailio", params), resolve={
        "env:URL": address}.__getitem__, runtime=SystemRuntime()).route(LeverSpec("edge", "r"))
    asks.read()
    sent = edge.tokens[-1]
    assert sent is not None and sent.startswith("Basic ")
    for message in ("pa55word?", sent, address):
        edge.says["htable.get"] = Fault(message)
        with pytest.raises(Rejected) as caught:
            asks.read()
        shown = "\n".join([repr(caught.value), *caught.value.lines()])
        assert "pa55word" not in shown and sent.split()[1] not in shown and "/RPC" not in shown


def test_a_token_that_would_add_a_header_is_not_sent(edge: Said) -> None:
    with pytest.raises(Rejected, match="control character"):
        route(edge, token="env:BAD").read()
    assert edge.asked == []


@pytest.mark.parametrize("said", [{}, {"up_since": 5}, [], "x", 1])
def test_an_edge_that_does_not_say_since_when_it_runs(edge: Said, said: object) -> None:
    edge.says["core.uptime"] = said
    with pytest.raises(Rejected, match="no up_since"):
        route(edge).read()


# --- counts -------------------------------------------------------------------------------------

def test_counts_of_this_route_only(edge: Said) -> None:
    """Other queues' counters, texts and nonsense are left out; what was never counted, too."""
    def slot(name: object, value: object) -> dict[str, object]:
        return {"name": name, "value": value, "type": "int"}

    edge.says["htable.dump"] = [{"entry": 1, "size": 2, "slot": [
        slot("loan_calls:hq", 41), slot("fraud:hq", 7), slot("loan_calls:acme", "12"),
        slot("loan_calls:message", -3), slot("loan_calls:lost", 0), slot(5, 5),
        slot("loan_calls:rerouted", True), "x"]}]
    assert route(edge).measure() == {"answered.hq": 41.0, "lost": 0.0}
    edge.says["htable.dump"] = []
    assert route(edge).measure() == {}
    for bad in ({}, "x", [1], [{"slot": 5}]):
        edge.says["htable.dump"] = bad
        with pytest.raises(Rejected, match="no list of counters"):
            route(edge).measure()


def test_live_calls_are_numbers_or_an_error(edge: Said) -> None:
    """Never 0 for what is not known."""
    edge.says["dlg.profile_get_size"] = 3
    assert route(edge).live() == {"hq": 3, "acme": 3, "message": 3}
    assert edge.asked[-1][1] == ["route", "loan_calls:message"]
    assert route(edge, labels={"message": "ivr"}).live() is not None
    assert edge.asked[-1][1] == ["route", "loan_calls:ivr"]
    for bad in (-1, "3", None, True, 2.5, 10**15, {}):
        edge.says["dlg.profile_get_size"] = bad
        with pytest.raises(Rejected, match="no number of calls"):
            route(edge).live()
    edge.says["dlg.profile_get_size"] = Fault("Profile not found: route", 404)
    with pytest.raises(Rejected, match="Profile not found"):
        route(edge).live()


def test_what_is_not_configured_is_not_asked(edge: Said) -> None:
    plain = provider(edge, {"destinations": SETS}).route(LeverSpec("edge", "loan_calls"))
    assert plain.live() is None and plain.measure() == {}
    assert edge.asked == []
    assert not KamailioProvider.capabilities({"destinations": SETS}).live
    assert KamailioProvider.capabilities({"destinations": SETS, "profile": "route"}).live


# --- weights in the list file -------------------------------------------------------------------

LIST = """\
# sites, by hand\t
1 sip:127.0.0.11:5060 0 0 site=hq;rweight=100
1\tsip:127.0.0.12:5060 4 7 rweight=100;site=acme;weight=5
\n2 sip:127.0.0.12:5060 8
3 sip:127.0.0.13:5060;transport=tcp 0 0 duid=a b
"""


def destination(uri: str, flags: str, weight: int | None) -> dict[str, Any]:
    attrs = {} if weight is None else {"ATTRS": {"BODY": "x", "RWEIGHT": weight}}
    return {"DEST": {"URI": uri, "FLAGS": flags, "PRIORITY": 0, **attrs}}


def records(*ours: dict[str, Any], hq: str = "AP", other: str = "DX") -> dict[str, Any]:
    mine = ours or (destination(URIS["hq"], hq, 100), destination(URIS["acme"], "DX", 100))
    return {"NRSETS": 3, "RECORDS": [
        {"SET": {"ID": 1, "TARGETS": list(mine)}},
        {"SET": {"ID": 3, "TARGETS": [
            destination("sip:127.0.0.13:5060;transport=tcp", "IP", None)]}},
        {"SET": {"ID": 2, "TARGETS": [destination(URIS["acme"], other, None)]}}]}


class Weights:
    """A route over a list file, before an edge that says what it is told to."""

    def __init__(self, edge: Said, file: Path) -> None:
        file.write_text(LIST)
        self.edge, self.file = edge, file
        edge.says |= {"dispatcher.list": records(),
                      "dispatcher.reload": "Ok. Dispatcher successfully reloaded."}
        self.params = {"way": "weights", "list": str(file), "destinations": URIS}

    def route(self, ref: str = "1") -> Route:
        return provider(self.edge, self.params).route(LeverSpec("edge", ref))

    def reloads(self) -> int:
        return [method for method, _ in self.edge.asked].count("dispatcher.reload")


@pytest.fixture
def weights(edge: Said, tmp_path: Path) -> Weights:
    return Weights(edge, tmp_path / "dispatcher.list")


def test_only_ours_is_written(weights: Weights) -> None:
    """Weights and flags of the named destinations change; every other line, attribute, priority
    and blank stays as it was, and so do owner, mode and a link to the file."""
    weights.file.chmod(0o640)
    link = weights.file.with_name("link")
    link.symlink_to(weights.file)
    weights.params["list"] = str(link)
    weights.route().shift(Shares({"hq": 70, "acme": 30}), expected=None, key="k")
    lines = LIST.splitlines(keepends=True)
    lines[1] = "1 sip:127.0.0.11:5060 0 0 site=hq;rweight=70\n"
    lines[2] = "1 sip:127.0.0.12:5060 0 7 rweight=30;site=acme;weight=5\n"
    assert weights.file.read_text() == "".join(lines)
    assert stat.S_IMODE(weights.file.stat().st_mode) == 0o640
    assert link.is_symlink()
    assert sorted(path.name for path in weights.file.parent.iterdir()) == [
        "dispatcher.list", "link"]
    weights.route().shift(Shares({"acme": 100}), expected=None, key="k")
    assert "1 sip:127.0.0.11:5060 4 0 site=hq;rweight=70\n" in weights.file.read_text()


def test_what_is_loaded_says_who_is_down_and_what_stays_does_not(weights: Weights) -> None:
    """During the reload the file holds every destination's state as the edge has it: down, tried
    or disabled by hand, in every set; afterwards none of that."""
    seen: list[str] = []

    class Reads(dict[str, Any]):
        def __getitem__(self, method: str) -> Any:
            if method == "dispatcher.reload":
                seen.append(weights.file.read_text())
            return super().__getitem__(method)

    weights.edge.says = Reads(weights.edge.says | {"dispatcher.list": records(hq="IP")})
    weights.route().shift(Shares({"hq": 50, "acme": 50}), expected=None, key="k")
    assert [line.split()[:3] for line in seen[0].splitlines() if line[:1].isdigit()] == [
        ["1", "sip:127.0.0.11:5060", "9"], ["1", "sip:127.0.0.12:5060", "0"],
        ["2", "sip:127.0.0.12:5060", "4"],
        ["3", "sip:127.0.0.13:5060;transport=tcp", "9"]]
    assert [line.split()[2] for line in weights.file.read_text().splitlines()
            if line[:1].isdigit()] == ["0", "0", "8", "0"]


@pytest.mark.parametrize(("reply", "wait"), [
    (Fault("Reload Failed"), None), (Fault("Ongoing reload"), 5.0), (Raw(b"", 429), None)])
def test_a_reload_that_is_refused_leaves_the_file_as_it_was(
        weights: Weights, reply: object, wait: float | None) -> None:
    """Else the edge would go by it after its next start. Too soon after the last one: transient."""
    weights.edge.says["dispatcher.reload"] = reply
    with pytest.raises(ProviderError) as caught:
        weights.route().shift(Shares({"acme": 100}), expected=None, key="k")
    assert not getattr(caught.value, "in_doubt", False)
    assert getattr(caught.value, "retry_after", None) == wait
    assert caught.value.not_done
    assert weights.file.read_text() == LIST


def test_a_reload_in_doubt_leaves_the_new_file(weights: Weights) -> None:
    """It may have been done: the same shift again is, if it was not, and else nothing. The marks
    of who is down do not stay."""
    weights.edge.says["dispatcher.list"] = records(hq="IP")
    before = weights.route().read()
    weights.edge.says["dispatcher.reload"] = Raw(b"?")
    with pytest.raises(Unavailable) as caught:
        weights.route().shift(Shares({"hq": 50, "acme": 50}), expected=before, key="k")
    assert caught.value.in_doubt
    new = weights.file.read_text()
    assert "1 sip:127.0.0.11:5060 0 0 site=hq;rweight=50\n" in new
    assert "2 sip:127.0.0.12:5060 8\n" in new
    weights.edge.says["dispatcher.reload"] = "Ok."
    weights.route().shift(Shares({"hq": 50, "acme": 50}), expected=before, key="k")
    assert (weights.reloads(), weights.file.read_text()) == (2, new)
    weights.edge.says["dispatcher.list"] = records(
        destination(URIS["hq"], "IP", 50), destination(URIS["acme"], "AX", 50))
    weights.route().shift(Shares({"hq": 50, "acme": 50}), expected=before, key="k")
    assert (weights.reloads(), weights.file.read_text()) == (2, new)


@pytest.mark.parametrize("reply", ["Ok.", Fault("Reload Failed"), Raw(b"?")])
def test_a_file_that_cannot_be_put_right_is_told(weights: Weights, reply: object) -> None:
    """Its folder is gone since the reload: what the edge has now, and that the file has not, is
    in doubt, for only reading back tells."""
    class Vanishes(dict[str, Any]):
        def __getitem__(self, method: str) -> Any:
            if method == "dispatcher.reload":
                weights.file.unlink()
            return super().__getitem__(method)

    weights.edge.says = Vanishes(weights.edge.says | {"dispatcher.reload": reply})
    with pytest.raises(Unavailable, match="could not be put right: it cannot be written") as caught:
        weights.route().shift(Shares({"acme": 100}), expected=None, key="k")
    assert caught.value.in_doubt


def test_a_change_to_the_file_or_to_the_edge_is_refused(weights: Weights) -> None:
    """A replaced file is a change, even with the same content; so are other weights."""
    before = weights.route().read()
    weights.file.write_text(LIST)
    with pytest.raises(Rejected, match="changed since it was read"):
        weights.route().shift(Shares({"acme": 100}), expected=before, key="k")
    before = weights.route().read()
    weights.edge.says["dispatcher.list"] = records(
        destination(URIS["hq"], "AP", 50), destination(URIS["acme"], "AP", 50))
    with pytest.raises(Rejected, match="changed since it was read"):
        weights.route().shift(Shares({"acme": 100}), expected=before, key="k")
    assert weights.reloads() == 0


@pytest.mark.parametrize(("text", "why"), [
    (LIST + "4 sip:127.0.0.14:5060\n", "other destinations"),
    (LIST.replace("2 sip", "5 sip"), "other destinations"),
    ("", "other destinations"),
    (LIST + "1 sip:127.0.0.11:5060\n", "twice"),
    (LIST + "one sip:127.0.0.14:5060\n", "line 7 makes no sense"),
    (LIST + "1 sip:\x1b 0\n2\n", "makes no sense"),
])
def test_a_file_that_the_edge_has_not_loaded_is_not_loaded_by_us(
        weights: Weights, text: str, why: str) -> None:
    """A reload takes the whole file: what somebody else prepares in it is not ours to switch on."""
    weights.file.write_text(text)
    with pytest.raises(Rejected, match=why) as caught:
        weights.route().shift(Shares({"acme": 100}), expected=None, key="k")
    assert "\x1b" not in str(caught.value)
    assert weights.reloads() == 0 and weights.file.read_text() == text


@pytest.mark.parametrize(("ours", "why"), [
    ([destination(URIS["hq"], "AP", 33), destination(URIS["acme"], "AP", 33),
      destination("sip:x", "AP", 34)], "takes calls, and destinations does not name it"),
    ([destination(URIS["hq"], "AP", 33), destination(URIS["acme"], "AP", 34)], "hq 33"),
    ([destination(URIS["hq"], "AP", 0), destination(URIS["acme"], "DP", 34)], "no whole"),
    ([destination(URIS["hq"], "AP", 50), destination(URIS["hq"], "AP", 50)], "twice"),
    ([destination(URIS["hq"], "ZZ", 50)], "without URI, state or weight"),
    ([destination(URIS["hq"], "A", 50)], "without URI, state or weight"),
    ([{"DEST": {"URI": URIS["hq"], "FLAGS": "AP", "ATTRS": {"RWEIGHT": "50"}}}], "without URI"),
    ([{"DEST": {"URI": 5, "FLAGS": "AP"}}], "without URI"), ([{}], "without URI"),
])
def test_a_list_that_makes_no_sense_is_rejected(
        weights: Weights, ours: list[dict[str, Any]], why: str) -> None:
    weights.edge.says["dispatcher.list"] = records(*ours)
    with pytest.raises(Rejected, match=why):
        weights.route().read()


def test_weights_are_shares_of_their_sum(weights: Weights) -> None:
    """Whoever is disabled has none; one who is down keeps his: that is what he comes back to."""
    weights.edge.says["dispatcher.list"] = records(
        destination(URIS["hq"], "IP", 60), destination(URIS["acme"], "TP", 20),
        destination("sip:x", "DX", 50), destination("sip:y", "AX", None))
    state = weights.route().read()
    assert state.shares == Shares({"hq": 75, "acme": 25})
    assert state.boot is None  # a restart forgets none of it


def test_an_edge_without_sets_is_an_error(weights: Weights) -> None:
    """So it says after it has loaded an empty file, which it calls a success."""
    weights.edge.says["dispatcher.list"] = Fault("No Destination Sets")
    with pytest.raises(Rejected, match="No Destination Sets"):
        weights.route().read()
    for bad in ({}, {"RECORDS": 5}, {"RECORDS": [{}]}, {"RECORDS": [{"SET": {"ID": "1"}}]}, 5):
        weights.edge.says["dispatcher.list"] = bad
        with pytest.raises(Rejected, match="makes no sense"):
            weights.route().read()


def test_a_set_that_is_none(weights: Weights) -> None:
    for ref in ("loan_calls", "٣", "1;2", "9" * 10):
        with pytest.raises(Rejected, match="the number of its set"):
            weights.route(ref).read()
    with pytest.raises(Rejected, match="no such set"):
        weights.route("7").read()
    with pytest.raises(Rejected, match="set 3 has no address of acme, hq"):
        weights.route("3").shift(Shares({"hq": 100}), expected=None, key="k")


def test_a_file_that_is_not_there(weights: Weights) -> None:
    weights.file.unlink()
    with pytest.raises(Rejected, match="No such file"):
        weights.route().read()
    weights.params["list"] = str(weights.file.parent / "away" / "dispatcher.list")
    with pytest.raises(Rejected, match="cannot be locked: No such file"):
        weights.route().shift(Shares({"acme": 100}), expected=None, key="k")


def test_one_writer_at_a_time(weights: Weights) -> None:
    """Two sets of one list are two levers; whoever comes second waits, and no longer than told."""
    other = ListFile(str(weights.file), "edge", SystemRuntime())
    weights.params["timeout"] = 0.2
    with other.locked(1):
        with pytest.raises(Unavailable, match="another shift is writing") as caught:
            weights.route().shift(Shares({"acme": 100}), expected=None, key="k")
        assert not caught.value.in_doubt
    del weights.params["timeout"]  # a busy machine may need more for an honest call
    weights.route().shift(Shares({"acme": 100}), expected=None, key="k")
    assert weights.reloads() == 1


# --- the policy's block -------------------------------------------------------------------------

@pytest.mark.parametrize("params", [
    {"destinations": SETS},
    {"url": "http://x/RPC", "socket": "/x", "destinations": SETS},
    {"url": "http://us:pa55@x/RPC", "destinations": SETS},
    {"url": "ftp://x", "destinations": SETS},
    {"socket": "/x", "token": "env:T", "destinations": SETS},
    {"socket": "/x", "destinations": URIS},
    {"socket": "/x", "destinations": {"hq": 1.5}},
    {"socket": "/x", "destinations": {"hq": -1}},
    {"socket": "/x", "destinations": {}},
    {"socket": "/x", "destinations": SETS, "list": "/l"},
    {"socket": "/x", "way": "weights", "destinations": URIS},
    {"socket": "/x", "way": "weights", "destinations": SETS, "list": "/l"},
    {"socket": "/x", "way": "weights", "destinations": {"hq": "sip:x 4 0"}, "list": "/l"},
    {"socket": "/x", "way": "weights", "destinations": URIS, "list": "/l", "table": "t"},
    {"socket": "/" + "x" * 200, "destinations": SETS},
])
def test_blocks_that_cannot_be_meant_are_refused(params: dict[str, object]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(params, KamailioProvider.PARAMS)


@pytest.mark.parametrize("what", ["shift", "read", "live"])
def test_the_time_out_is_of_all_calls_together(edge: Said, what: str) -> None:
    """Who repeats a write asks first whether the lease lasts for one time-out: a write after
    several slow reads would come when somebody else has the levers."""
    edge.says["dlg.profile_get_size"] = 0
    edge.delay = 0.5
    lever = route(edge, timeout=0.8)
    with pytest.raises(Unavailable) as caught:
        if what == "shift":
            lever.shift(Shares({"acme": 100}), expected=RouteState(Shares({"hq": 100})), key="k")
        else:
            lever.read() if what == "read" else lever.live()
    assert not caught.value.in_doubt
    assert "htable.sets" not in [method for method, _ in edge.asked]
    assert len(edge.asked) <= 2
