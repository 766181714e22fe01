"""HAProxy against a real one: several servers a site, drain and maintenance, static algorithms,
what a reload keeps, and what is counted."""

from __future__ import annotations

import http.server
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ccfailover.errors import Rejected, Unavailable, UsageError
from ccfailover.model.policy import LeverSpec, ProviderSpec
from ccfailover.model.shares import Shares
from ccfailover.providers import Route
from ccfailover.providers.haproxy import HaproxyProvider, tables
from ccfailover.runtime import SystemRuntime
from tests.conftest import server_or_skip
from tests.servers.haproxy import Haproxy
from tests.servers.lineweather import LineWeather

WIDE = {"hq": ["hq1", "hq2"], "acme": ["acme1", "acme2", "acme3"]}
NOTHING_HERE: dict[str, str] = {}


def route(server: Haproxy, ref: str, *, address: str | None = None, **params: Any) -> Route:
    block = {"address": address or server.socket, "timeout": 5, **params}
    return HaproxyProvider(ProviderSpec("web", "haproxy", block), resolve=NOTHING_HERE.__getitem__,
                           runtime=SystemRuntime()).route(LeverSpec("web", ref))


@pytest.fixture
def wide(haproxy: Haproxy) -> Haproxy:
    """Two servers at hq take everything; `other` is of somebody else, `spare` a backup."""
    for name in ("hq1", "hq2", "acme1", "acme2", "acme3", "other"):
        weight = 100 if name.startswith("hq") else 0
        haproxy.ask(f"set server wide/{name} state ready; set weight wide/{name} {weight}")
    return haproxy


def shift(lever: Route, **to: int) -> None:
    lever.shift(Shares(to), expected=lever.read(), key="r/s")


def test_the_servers_of_a_site_share_alike(wide: Haproxy) -> None:
    """The sums stand exactly as the shares; a backup server keeps what it has."""
    lever = route(wide, "wide", destinations=WIDE)
    shift(lever, hq=50, acme=50)
    assert wide.weights("wide") == {"hq1": 150, "hq2": 150, "acme1": 100, "acme2": 100,
                                    "acme3": 100, "other": 0, "spare": 50}
    shift(lever, hq=99, acme=1)
    assert wide.weights("wide") == {"hq1": 248, "hq2": 247, "acme1": 2, "acme2": 2, "acme3": 1,
                                    "other": 0, "spare": 50}
    assert lever.read().shares == Shares({"hq": 99, "acme": 1})


def test_a_server_in_maintenance_by_hand_stays_there(wide: Haproxy) -> None:
    """It counts as nothing, and the site's share goes to its others; with none left the shift is
    refused and nothing is set."""
    lever = route(wide, "wide", destinations=WIDE)
    wide.ask("set server wide/acme2 state maint; set server wide/hq2 state drain")
    assert lever.read().shares == Shares({"hq": 100})
    shift(lever, hq=50, acme=50)
    assert wide.weights("wide") | {"spare": 0} == {
        "hq1": 100, "hq2": 0, "acme1": 50, "acme2": 0, "acme3": 50, "other": 0, "spare": 0}
    wide.ask("set server wide/acme1 state maint; set server wide/acme3 state maint")
    before = wide.weights("wide")
    with pytest.raises(Rejected, match="every server of acme is in drain or maint"):
        lever.shift(Shares({"acme": 100}), expected=None, key="k")
    assert wide.weights("wide") == before


@pytest.mark.parametrize(("zero", "status"), [("drain", "DRAIN"), ("maint", "MAINT")])
def test_a_site_can_be_taken_out_by_state(wide: Haproxy, zero: str, status: str) -> None:
    """0 % is the state, and the way back makes the servers ready again; the other state is
    somebody else's and stays."""
    lever = route(wide, "wide", destinations=WIDE, zero=zero)
    other = "maint" if zero == "drain" else "drain"
    wide.ask(f"set server wide/acme3 state {other}")
    shift(lever, acme=100)
    told = wide.ask("show stat wide 4 -1")
    assert [line.split(",")[17] for line in told.splitlines()[1:3]] == [status, status]
    assert lever.read().shares == Shares({"acme": 100})
    shift(lever, hq=70, acme=30)
    assert wide.weights("wide") == {"hq1": 70, "hq2": 70, "acme1": 30, "acme2": 30, "acme3": 0,
                                    "other": 0, "spare": 50}
    assert lever.read().shares == Shares({"hq": 70, "acme": 30})


def test_a_drain_does_not_end_somebody_s_maintenance(wide: Haproxy) -> None:
    """`state drain` would put a server that is in maint under health checks again."""
    wide.ask("set server wide/hq2 state maint")
    shift(route(wide, "wide", destinations=WIDE, zero="drain"), acme=100)
    told = wide.ask("show stat wide 4 -1")
    assert [line.split(",")[17] for line in told.splitlines()[1:3]] == ["DRAIN", "MAINT"]


def test_a_share_that_goes_elsewhere_makes_it_unknown(wide: Haproxy) -> None:
    """A server that the policy does not name and that takes part; a backup server that it names;
    one that is not there; a backend that has no weights at all."""
    lever = route(wide, "wide", destinations=WIDE)
    wide.ask("set weight wide/other 10")
    with pytest.raises(Rejected, match="makes no sense: a share goes to other"):
        lever.read()
    with pytest.raises(Rejected, match="a share goes to other"):
        lever.shift(Shares({"acme": 100}), expected=None, key="k")
    wide.ask("set server wide/other state maint")
    assert lever.read().shares == Shares({"hq": 100})
    with pytest.raises(Rejected, match="spare is a backup server"):
        route(wide, "wide", destinations={**WIDE, "message": "spare"}).read()
    gone = route(wide, "wide", destinations={**WIDE, "message": "gone"})
    with pytest.raises(Rejected, match="no server gone"):
        gone.read()
    assert gone.live() == {"hq": 0, "acme": 0}, "not known is not 0"
    wide.ask("set weight wide/hq1 0; set weight wide/hq2 0")
    with pytest.raises(Rejected, match="no destination has a weight"):
        lever.read()


def test_who_gets_more_is_set_first(wide: Haproxy) -> None:
    """The givers in a line of their own, so that it is not begun when HAProxy refuses the first."""
    with LineWeather(wide.api) as lines:
        lever = route(wide, "wide", address=f"127.0.0.1:{lines.port}",
                      destinations={"hq": "hq1", "acme": "acme1", "message": "hq2"})
        shift(lever, acme=100)
        shift(lever, hq=60, acme=40)
        assert [[word for word in line.split() if "/" in word] for line in lines.writes] == [
            ["wide/acme1"], ["wide/hq1", "wide/hq2"], ["wide/hq1"], ["wide/acme1", "wide/hq2"]]


def test_a_call_is_over_in_time_with_all_it_asks(wide: Haproxy) -> None:
    """Read and write have one time-out together."""
    with LineWeather(wide.api) as lines:
        lever = route(wide, "wide", address=f"127.0.0.1:{lines.port}", destinations=WIDE,
                      timeout=0.8)
        lines.delay = 0.5
        begun = time.monotonic()
        with pytest.raises(Unavailable):
            lever.shift(Shares({"acme": 100}), expected=None, key="k")
        assert time.monotonic() - begun < 1.3


def test_a_shift_that_broke_off_half_way_is_in_doubt_and_taken_up_again(wide: Haproxy) -> None:
    """The receivers have theirs and the givers still had theirs: that is of our own making, and
    not of somebody else's."""
    with LineWeather(wide.api) as weather:
        lever = route(wide, "wide", address=f"127.0.0.1:{weather.port}", destinations=WIDE,
                      timeout=1)
        before = lever.read()
        weather.next_write("fair", "hang")
        with pytest.raises(Unavailable, match="after 3 of 5 commands") as caught:
            lever.shift(Shares({"acme": 100}), expected=before, key="r/s")
        assert caught.value.in_doubt
        assert lever.read().shares not in (before.shares, Shares({"acme": 100}))
        lever.shift(Shares({"acme": 100}), expected=before, key="r/s")
        assert lever.read().shares == Shares({"acme": 100})


PAIRS = {"hq": ["hq1", "hq2"], "acme": ["acme1", "acme2"]}


def by_hand(server: Haproxy, zero: str) -> None:
    """acme1 and acme2 are off as a shift leaves them, hq1 and hq2 take everything."""
    off = "state ready" if zero == "weight" else f"state {zero}"
    server.ask("; ".join(f"set server wide/{name} {off}; set weight wide/{name} "
                         f"{0 if zero == 'weight' else 77}" for name in PAIRS["acme"]))
    server.ask("; ".join(f"set server wide/{name} state ready; set weight wide/{name} 100"
                         for name in PAIRS["hq"]))


def commands_of(server: Haproxy, zero: str, to: dict[str, int]) -> list[str]:
    """Every command of a shift from `by_hand`, in the order that HAProxy sees them in."""
    by_hand(server, zero)
    with LineWeather(server.api) as lines:
        shift(route(server, "wide", address=f"127.0.0.1:{lines.port}", destinations=PAIRS,
                    zero=zero), **to)
        return [command for line in lines.writes for command in line.strip().split("; ")]


@pytest.mark.parametrize("to", [{"hq": 40, "acme": 60}, {"acme": 100}], ids=["part", "all"])
@pytest.mark.parametrize("zero", ["weight", "drain", "maint"])
def test_half_of_a_shift_leaves_no_server_out_of_the_next(
        wide: Haproxy, zero: str, to: dict[str, int]) -> None:
    """Broken off after each of its commands, and said again by the same process or by another one
    that reads anew and knows what stood before: each server of acme gets its part, as if nothing
    had happened. Without that knowledge the ones still off look like somebody else's work."""
    commands = commands_of(wide, zero, to)
    whole = wide.weights("wide")
    assert all(whole[name] for name in PAIRS["acme"])
    lever = route(wide, "wide", destinations=PAIRS, zero=zero)
    for number in range(1, len(commands)):
        for resumed in (False, True):
            by_hand(wide, zero)
            before = lever.read()
            wide.ask("; ".join(commands[:number]))
            expected = replace(lever.read(), was=before.raw) if resumed else before
            lever.shift(Shares(to), expected=expected, key="r/s")
            at = f"after {number} of {len(commands)}, resumed: {resumed}"
            assert wide.weights("wide") == whole, at


@pytest.mark.parametrize("state", ["drain", "maint"])
@pytest.mark.parametrize("zero", ["weight", "drain", "maint"])
def test_what_somebody_takes_out_between_two_attempts_stays_out(
        wide: Haproxy, zero: str, state: str) -> None:
    """acme1 was put in by the half, and is taken out for repair before the rest."""
    commands = commands_of(wide, zero, {"acme": 100})
    lever = route(wide, "wide", destinations=PAIRS, zero=zero)
    ready = 1 + max(number for number, command in enumerate(commands) if "acme1" in command)
    by_hand(wide, zero)
    before = lever.read()
    wide.ask("; ".join(commands[:ready]))
    wide.ask(f"set server wide/acme1 state {state}")
    lever.shift(Shares({"acme": 100}), expected=replace(lever.read(), was=before.raw), key="r/s")
    found = wide.weights("wide")
    if zero == state:
        # Nothing tells this from an attempt that has not come to acme1.
        assert found["acme1"] and found["acme2"]
    else:
        assert (found["acme1"], bool(found["acme2"])) == (0, True)
    assert lever.read().shares == Shares({"acme": 100})


@pytest.mark.parametrize("zero", ["weight", "drain", "maint"])
def test_a_server_that_is_mended_between_two_attempts_takes_part(wide: Haproxy, zero: str) -> None:
    """acme2 was under repair, and then acme1 is instead, or neither. (Where both are off in the
    route's own way, `maint`, the whole site looks taken out by it.)"""
    lever = route(wide, "wide", destinations=PAIRS, zero=zero)
    for instead in (False, True):
        by_hand(wide, zero)
        wide.ask("set weight wide/acme1 100; set server wide/acme1 state ready; "
                 "set server wide/acme2 state maint")
        before = lever.read()
        wide.ask("set server wide/acme2 state ready; set weight wide/acme2 100")
        if instead:
            wide.ask("set server wide/acme1 state maint")
        expected = replace(lever.read(), was=before.raw)
        lever.shift(Shares({"acme": 100}), expected=expected, key="r/s")
        found = wide.weights("wide")
        assert (bool(found["acme1"]), bool(found["acme2"])) == (not instead, True)
        assert lever.read().shares == Shares({"acme": 100})


def test_a_server_that_is_mended_while_its_site_rests_takes_part(wide: Haproxy) -> None:
    """acme stands at weight 0; acme2 is mended, and left at 0 as acme1 is."""
    lever = route(wide, "wide", destinations=PAIRS)
    by_hand(wide, "weight")
    wide.ask("set server wide/acme2 state maint")
    before = lever.read()
    wide.ask("set server wide/acme2 state ready")
    lever.shift(Shares({"acme": 100}), expected=replace(lever.read(), was=before.raw), key="r/s")
    assert wide.weights("wide")["acme1"] == wide.weights("wide")["acme2"] == 100


@pytest.mark.parametrize("zero", ["weight", "drain", "maint"])
def test_shares_that_half_of_a_shift_has_already_are_not_complete(wide: Haproxy, zero: str) -> None:
    """Of 1 % one server can have it all; a server that others took out is not waited for."""
    to = {"hq": 99, "acme": 1}
    commands = commands_of(wide, zero, to)
    lever = route(wide, "wide", destinations=PAIRS, zero=zero)
    done = lever.read()
    by_hand(wide, zero)
    before = lever.read()
    halves = []
    for number in range(1, len(commands)):
        by_hand(wide, zero)
        wide.ask("; ".join(commands[:number]))
        if (state := lever.read()).stands_at(Shares(to)):
            weights = wide.weights("wide")
            halves.append(bool(weights["acme1"] and weights["acme2"]))
            assert lever.complete(state, Shares(to), before.raw) == halves[-1]
    assert False in halves
    assert lever.complete(done, Shares(to), before.raw)
    other = "maint" if zero == "drain" else "drain"
    wide.ask("; ".join([*commands, f"set server wide/acme2 state {other}"]))
    assert lever.complete(lever.read(), Shares(to), before.raw)
    assert lever.complete(lever.read(), Shares(to), None), "runs of earlier releases noted nothing"


@pytest.mark.parametrize("zero", ["drain", "maint"])
def test_after_other_changes_a_site_is_judged_by_what_stands_now(
        wide: Haproxy, zero: str) -> None:
    """Since then acme was put in with other shares, and acme2 taken out beside it."""
    by_hand(wide, zero)
    lever = route(wide, "wide", destinations=PAIRS, zero=zero)
    before = lever.read()
    shift(lever, hq=90, acme=10)
    wide.ask(f"set server wide/acme2 state {zero}")
    lever.shift(Shares({"hq": 50, "acme": 50}), expected=replace(lever.read(), was=before.raw),
                key="r/s")
    found = wide.weights("wide")
    assert found["acme1"] and not found["acme2"]
    assert lever.read().shares == Shares({"hq": 50, "acme": 50})


@pytest.mark.parametrize("zero", ["drain", "maint"])
def test_a_server_under_repair_is_not_put_back_while_its_site_works(
        wide: Haproxy, zero: str) -> None:
    """Sites are taken out whole: one server that is off beside one that is on is not our doing."""
    wide.ask(f"set server wide/hq2 state {zero}")
    for name in ("acme1", "acme2", "acme3"):
        wide.ask(f"set server wide/{name} state {zero}")
    lever = route(wide, "wide", destinations=WIDE, zero=zero)
    shift(lever, hq=50, acme=50)
    found = wide.weights("wide")
    assert found["hq1"] and not found["hq2"]
    assert all(found[name] for name in ("acme1", "acme2", "acme3"))
    assert lever.read().shares == Shares({"hq": 50, "acme": 50})
    shift(lever, acme=100)
    shift(lever, hq=100)
    assert wide.weights("wide")["hq1"]


def test_a_change_since_the_read_is_refused(wide: Haproxy) -> None:
    """Though HAProxy itself compares nothing, which the capabilities say."""
    lever = route(wide, "wide", destinations=WIDE)
    before = lever.read()
    wide.ask("set weight wide/acme1 7")
    with pytest.raises(Rejected, match="changed since it was read"):
        lever.shift(Shares({"acme": 100}), expected=before, key="r/s")
    assert wide.weights("wide")["acme1"] == 7
    assert not HaproxyProvider.capabilities({}).compare_and_set


def test_a_static_algorithm_takes_all_or_nothing(haproxy: Haproxy) -> None:
    """HAProxy itself refuses weights there; with `static` the step is 100, and the configured
    weights come back."""
    names = {"hq": "hq1", "acme": "acme1"}
    haproxy.ask("set weight fixed/hq1 100%; set weight fixed/acme1 100%")
    blind = route(haproxy, "fixed", destinations=names)
    assert blind.read().shares == Shares({"hq": 60, "acme": 40})
    with pytest.raises(Rejected, match="static") as caught:
        blind.shift(Shares({"hq": 50, "acme": 50}), expected=None, key="k")
    assert caught.value.hint == "say `static: true` in the policy"
    haproxy.ask("set weight fixed/acme1 0")
    with pytest.raises(Rejected, match="static"):
        shift(blind, acme=100)
    assert haproxy.weights("fixed") == {"hq1": 60, "acme1": 0}, "somebody still takes the work"
    lever = route(haproxy, "fixed", destinations=names, static=True)
    with pytest.raises(Rejected, match="multiple of the step 100"):
        lever.shift(Shares({"hq": 50, "acme": 50}), expected=None, key="k")
    shift(lever, acme=100)
    assert haproxy.weights("fixed") == {"hq1": 0, "acme1": 40}
    shift(lever, hq=100)
    assert haproxy.weights("fixed") == {"hq1": 60, "acme1": 0}
    assert HaproxyProvider.capabilities({"static": True}).share_step == 100


def test_a_socket_of_level_user_is_enough_to_look(wide: Haproxy) -> None:
    """A write is refused with what to do about it."""
    lever = route(wide, "wide", address=wide.looking, destinations=WIDE)
    assert lever.read().shares == Shares({"hq": 100})
    assert lever.live() == {"hq": 0, "acme": 0}
    with pytest.raises(Rejected, match="level does not allow it") as caught:
        lever.shift(Shares({"acme": 100}), expected=None, key="k")
    assert caught.value.hint == "give the stats socket `level admin`"


def test_destinations_that_cannot_be_meant_are_refused(haproxy: Haproxy) -> None:
    """None at all, or one server for two sites."""
    with pytest.raises(UsageError, match="which server"):
        route(haproxy, "wide")
    with pytest.raises(UsageError, match="one server to two sites"):
        route(haproxy, "wide", destinations={"hq": ["hq1", "hq2"], "acme": "hq2"})


@pytest.mark.parametrize("table", [
    "", "2\n# be_id", "1\nbe_id srv_name\n", "1\n# srv_name srv_uweight srv_admin_state\na x 0",
    "1\n# srv_name srv_uweight srv_admin_state\na 1", "1\n# srv_name\na",
    "1\n# srv_name srv_uweight srv_admin_state\na 300 0",
    "1\n# srv_name srv_uweight srv_admin_state\na 1 0\na 1 0",
])
def test_a_table_of_servers_that_is_none(table: str) -> None:
    """Another format, missing columns, no numbers, impossible weights, a name twice."""
    with pytest.raises(ValueError, match=r"table|weight"):
        tables.servers(table)


def test_counters_that_are_no_numbers_are_left_out() -> None:
    """Never 0: what HAProxy does not count in a mode is empty."""
    with pytest.raises(ValueError, match="no table of counters"):
        tables.stat("Unknown command")
    line = tables.stat("# pxname,svname,scur,stot,econ,mode,\nb,hq1,,-4,7,tcp,\n")["hq1"]
    assert (line.counters, line.http) == ({"econ": 7}, False)
    assert (line.sum("econ"), line.sum("econ", "stot")) == (7, None)


class Site(http.server.BaseHTTPRequestHandler):
    """Answers at once; `/slow` when it is let go, `/bad` with 503."""

    go = threading.Event()
    begun = threading.Semaphore(0)

    def do_GET(self) -> None:
        if self.path == "/slow":
            self.begun.release()
            self.go.wait(10)
        self.send_response(503 if self.path == "/bad" else 200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"hq")

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Quiet."""


@pytest.fixture(scope="module")
def served() -> Iterator[Haproxy]:
    """hq answers, nobody listens at acme's port; and a backend of 300 servers."""
    site = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Site)
    thread = threading.Thread(target=site.serve_forever, daemon=True)
    thread.start()
    many = "".join(f"    server {side}-{'x' * 20}-{number} 127.0.0.1:9 weight 1\n"
                   for side in ("hq", "acme") for number in range(150))
    server = Haproxy(server_or_skip("haproxy"), f"""\
backend sites
    option httpclose
    server hq1 127.0.0.1:{site.server_address[1]} weight 100
    server acme1 127.0.0.1:9 weight 0
backend many
{many}""")
    try:
        yield server.start()
    finally:
        server.discard()
        site.shutdown()
        site.server_close()
        thread.join()


PAIR = {"hq": "hq1", "acme": "acme1"}


def test_what_is_under_way_and_what_was_answered_is_counted(served: Haproxy) -> None:
    """A drained site keeps what it has, `live` counts it down; answers count, errors do not."""
    lever = route(served, "sites", destinations=PAIR, zero="drain")
    before = lever.measure()
    threads = [threading.Thread(target=served.get, args=("/slow", 15.0)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in threads:
        assert Site.begun.acquire(timeout=10)
    assert lever.live() == {"hq": 3, "acme": 0}
    shift(lever, acme=100)
    assert lever.live() == {"hq": 3, "acme": 0}, "drain leaves alone what is under way"
    with pytest.raises(OSError, match="503"):
        served.get()
    Site.go.set()
    for thread in threads:
        thread.join(10)
    assert lever.live() == {"hq": 0, "acme": 0}
    shift(lever, hq=100)
    assert served.get() == b"hq"
    with pytest.raises(OSError, match="503"):
        served.get("/bad")
    after = lever.measure()
    grown = {name: after[name] - before[name] for name in after}
    assert grown == {"offered": 6, "lost": 1, "waiting": 0, "answered.hq": 4, "failed.hq": 0,
                     "answered.acme": 0, "failed.acme": 1}


def test_shares_survive_a_reload_with_a_state_file(served: Haproxy, tmp_path: Path) -> None:
    """Without one HAProxy goes back to its configuration; with one, weights and drains stay."""
    served.ask("set server sites/hq1 state ready; set server sites/acme1 state ready")
    plain = route(served, "sites", destinations=PAIR)
    shift(plain, acme=100)
    served.reload()
    assert plain.read().shares == Shares({"hq": 100}), "what the configuration says"
    kept = route(served, "sites", destinations=PAIR, state_file=str(served.state))
    shift(kept, hq=40, acme=60)
    served.reload()
    assert kept.read().shares == Shares({"hq": 40, "acme": 60})
    drained = route(served, "sites", destinations=PAIR, zero="drain",
                    state_file=str(served.state))
    shift(drained, acme=100)
    served.reload()
    assert "DRAIN" in served.ask("show stat sites 4 -1")
    shift(drained, hq=100)
    assert served.weights("sites") == {"hq1": 100, "acme1": 0}
    assert [file.name for file in served.place.glob(".state*")] == [], "nothing is left over"
    nowhere = route(served, "sites", destinations=PAIR, zero="drain",
                    state_file=str(tmp_path / "no" / "state"))
    with pytest.raises(Unavailable, match="the shares are set, but") as caught:
        shift(nowhere, hq=30, acme=70)
    assert caught.value.in_doubt
    assert nowhere.read().shares == Shares({"hq": 30, "acme": 70})


def test_many_servers_take_several_lines(served: Haproxy) -> None:
    """More commands than HAProxy takes in one line."""
    names = {side: [f"{side}-{'x' * 20}-{number}" for number in range(150)]
             for side in ("hq", "acme")}
    lever = route(served, "many", destinations=names)
    shift(lever, acme=100)
    assert lever.read().shares == Shares({"acme": 100})
    shift(lever, hq=25, acme=75)
    weights = served.weights("many")
    assert {weights[name] for name in names["hq"]} == {25}
    assert {weights[name] for name in names["acme"]} == {75}
