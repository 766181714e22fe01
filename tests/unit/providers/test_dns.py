"""Routes in the DNS against a real BIND: who may change what, races at the server, several records
a site, and what the records of others do to it."""

from __future__ import annotations

import base64
import contextlib
import itertools
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import dns.flags
import dns.message
import dns.query
import dns.rcode
import dns.rdatatype
import dns.rrset
import dns.tsig
import pytest

from ccfailover.errors import Rejected, Unavailable, UsageError
from ccfailover.model.policy import LeverSpec, ProviderSpec
from ccfailover.model.shares import Shares
from ccfailover.providers import Route, RouteState
from ccfailover.providers.dns import DnsProvider
from ccfailover.providers.dns.link import Change, Key, Link, Seen
from ccfailover.providers.dns.records import AddressSet, SrvSet
from ccfailover.runtime import SystemRuntime
from tests.servers.bind import SECRET, ZONE, Bind
from tests.servers.dnsweather import DnsWeather

HOSTS = {"hq": "hq.cc.test:5060", "acme": "acme.cc.test:5060"}
ADDRESSES = {"hq": "192.0.2.1", "acme": "192.0.2.2", "message": "192.0.2.3"}
WRONG = base64.b64encode(b"not the secret that is meant....").decode()
SECRETS = {"env:TSIG": SECRET, "env:WRONG": WRONG, "env:TEXT": "this is no base64!"}
HQ, ACME = "10 100 5060 hq.cc.test.", "10 100 5060 acme.cc.test."
_numbers = itertools.count(1)


def provider(server: Bind, **params: Any) -> DnsProvider:
    block = {"server": "127.0.0.1", "port": server.port, "zone": ZONE, "timeout": 5, "ttl": 7,
             "key": {"name": "ccf", "secret": "env:TSIG"}, "destinations": HOSTS, **params}
    return DnsProvider(ProviderSpec("names", "dns", block), resolve=SECRETS.__getitem__,
                       runtime=SystemRuntime())


def route(server: Bind, ref: str, **params: Any) -> Route:
    return provider(server, **params).route(LeverSpec("names", ref))


@pytest.fixture
def ref(bind: Bind) -> str:
    """SRV records of a test's own, all at hq, with a TTL of a minute."""
    name = f"_sip._udp.u{next(_numbers)}"
    bind.put(name, "SRV", [HQ], ttl=60)
    return name


@pytest.mark.parametrize(("key", "words"), [
    ({"name": "ccf", "secret": "env:WRONG"}, r"TSIG: the signature is wrong \(BADSIG\)"),
    ({"name": "nobody", "secret": "env:TSIG"}, r"TSIG: the server does not know the key \(BADKEY"),
    ({"name": "ccf", "secret": "env:TSIG", "algorithm": "hmac-sha512"}, r"TSIG: .*BADKEY"),
    ({"name": "ccf", "secret": "env:TEXT"}, "the TSIG secret is no base64"),
])
def test_a_wrong_key_is_refused(bind: Bind, ref: str, key: dict[str, str], words: str) -> None:
    """For good, on reads as on writes, and with what to compare."""
    lever = route(bind, ref, key=key)
    for call in (lever.read, lambda: lever.shift(Shares({"acme": 100}), expected=None, key="k")):
        with pytest.raises(Rejected, match=words) as caught:
            call()
        assert caught.value.not_done
        assert not [s for s in SECRETS.values() if s in " ".join(caught.value.lines())]
    assert bind.records(ref, "SRV") == (60, [HQ])


def test_a_key_that_may_only_look_is_refused_the_write(bind: Bind, ref: str) -> None:
    """REFUSED, with the right that it lacks."""
    lever = route(bind, ref, key={"name": "onlooker", "secret": "env:TSIG"})
    before = lever.read()
    with pytest.raises(Rejected, match=r"refuses this key \(REFUSED\)") as caught:
        lever.shift(Shares({"acme": 100}), expected=before, key="k")
    assert "update-policy" in str(caught.value.hint)
    assert bind.records(ref, "SRV") == (60, [HQ])


@pytest.mark.parametrize(("compare", "meanwhile", "lands"), [
    ("serial", lambda bind, ref: bind.put(ref, "SRV", [ACME, HQ]), False),
    ("records", lambda bind, ref: bind.put(ref, "SRV", [ACME, HQ]), False),
    ("serial", lambda bind, ref: (bind.put(ref, "SRV", [ACME]), bind.put(ref, "SRV", [HQ])), False),
    ("records", lambda bind, ref: (bind.put(ref, "SRV", [ACME]), bind.put(ref, "SRV", [HQ])), True),
    ("serial", lambda bind, ref: bind.put("unrelated", "TXT", [f"n{next(_numbers)}"]), False),
    ("records", lambda bind, ref: bind.put("unrelated", "TXT", [f"n{next(_numbers)}"]), True),
    ("records", lambda bind, ref: bind.put(ref, "SRV", []), False),
])
def test_the_server_refuses_a_stale_prerequisite(
        bind: Bind, ref: str, compare: str, meanwhile: Callable[[Bind, str], object],
        lands: bool) -> None:
    """A change between our last read and our update is seen by the server itself, whether or not
    we have seen it: compare-and-set, and not a read that is quick."""
    with DnsWeather(bind.port) as weather:
        lever = route(bind, ref, compare=compare, port=weather.port)
        before = lever.read()
        weather.before_update = lambda: meanwhile(bind, ref) and None
        if lands:
            lever.shift(Shares({"acme": 100}), expected=before, key="k")
        else:
            with pytest.raises(Rejected, match="changed since it was read") as caught:
                lever.shift(Shares({"acme": 100}), expected=before, key="k")
            assert caught.value.not_done == "the shares were not changed"
        assert weather.updates == 1
    assert (bind.records(ref, "SRV") == (7, [ACME])) == lands


def test_the_ttl_is_ours_and_counted(bind: Bind, ref: str) -> None:
    """Also on the records that stay; what resolvers may keep is part of the expected time."""
    lever = route(bind, ref)
    lever.shift(Shares({"hq": 60, "acme": 40}), expected=lever.read(), key="k")
    assert bind.records(ref, "SRV") == (
        7, ["10 40 5060 acme.cc.test.", "10 60 5060 hq.cc.test."])
    bind.put("both", "A", ["192.0.2.1", "192.0.2.2"], ttl=60)
    lever = route(bind, "both", type="A", destinations=ADDRESSES)
    lever.shift(Shares({"acme": 100}), expected=lever.read(), key="k")
    assert bind.records("both", "A") == (7, ["192.0.2.2"])
    able = DnsProvider.capabilities({"ttl": 20, "secondaries": "5s"}, {})
    assert able.propagation == 25.0
    assert DnsProvider.capabilities({"ttl": 20}, {"ttl": 3}).propagation == 3.0
    assert DnsProvider.capabilities({}, {}).propagation == 30.0


def test_a_shift_to_what_is_already_so_sends_nothing(bind: Bind, ref: str) -> None:
    """Names are the same in any case of letters."""
    bind.put(ref, "SRV", ["10 100 5060 HQ.cc.TEST."])
    lever, serial = route(bind, ref), bind.serial()
    lever.shift(Shares({"hq": 100}), expected=lever.read(), key="k")
    assert bind.serial() == serial
    lever.shift(Shares({"acme": 100}), expected=lever.read(), key="k")
    assert bind.records(ref, "SRV")[1] == [ACME]


def test_several_records_a_site(bind: Bind, ref: str) -> None:
    """The sums stand as the shares; a record that would get nothing is not there."""
    bind.put(ref, "SRV", ["10 5 5060 a.cc.test.", "10 5 5062 a.cc.test."])
    lever = route(bind, ref, destinations={"hq": ["a.cc.test:5060", "A.cc.test:5062"],
                                           "acme": "b.cc.test:5060"})
    assert lever.read().shares == Shares({"hq": 100})
    lever.shift(Shares({"hq": 25, "acme": 75}), expected=None, key="k")
    assert bind.records(ref, "SRV")[1] == [
        "10 150 5060 b.cc.test.", "10 25 5060 a.cc.test.", "10 25 5062 a.cc.test."]
    assert lever.read().shares == Shares({"hq": 25, "acme": 75})


def test_what_sites_keep_to_fall_back_on_stays(bind: Bind, ref: str) -> None:
    """A record of a named site that gets no callers now is not of the shares: a shift leaves it,
    and the rollback of one brings back TTL and weights."""
    spare = "30 0 5060 acme.cc.test."
    bind.put(ref, "SRV", ["20 7 5060 hq.cc.test.", spare], ttl=77)
    lever = route(bind, ref)
    before = lever.read()
    lever.shift(Shares({"acme": 100}), expected=before, key="k")
    assert bind.records(ref, "SRV") == (7, [ACME, spare])
    lever.restore(before, expected=lever.read(), key="k~undo")
    assert bind.records(ref, "SRV") == (77, ["20 7 5060 hq.cc.test.", spare])


def test_records_of_others_stay_or_make_it_unknown(bind: Bind, ref: str) -> None:
    """A last resort at a larger priority number stays; at ours or below it callers go there."""
    last, first = "20 7 5060 last.example.", "5 1 5060 first.example."
    bind.put(ref, "SRV", [HQ, last])
    lever = route(bind, ref)
    assert lever.read().shares == Shares({"hq": 100})
    lever.shift(Shares({"acme": 100}), expected=lever.read(), key="k")
    assert bind.records(ref, "SRV")[1] == [ACME, last]
    with pytest.raises(Rejected, match="has priority 20"):
        route(bind, ref, priority=20).shift(Shares({"hq": 100}), expected=None, key="k")
    bind.put(ref, "SRV", [ACME, first])
    with pytest.raises(Rejected, match=r"makes no sense: callers go to first\.example\.:5060"):
        lever.read()
    with pytest.raises(Rejected, match="does not name"):
        lever.shift(Shares({"hq": 100}), expected=None, key="k")
    assert bind.records(ref, "SRV")[1] == [ACME, first]


def test_expected_without_a_version_goes_by_shares(bind: Bind, ref: str) -> None:
    """What was kept of an earlier read may be the shares alone."""
    lever = route(bind, ref)
    with pytest.raises(Rejected, match="changed since it was read"):
        lever.shift(Shares({"acme": 100}), expected=RouteState(Shares({"hq": 1, "acme": 99})),
                    key="k")
    lever.shift(Shares({"acme": 100}), expected=RouteState(Shares({"hq": 100})), key="k")
    assert lever.read().shares == Shares({"acme": 100})


@pytest.mark.parametrize(("records", "shares"), [
    ({"10 1 1 a.", "10 3 1 b."}, {"hq": 25, "acme": 75}),
    ({"10 0 1 a."}, {"hq": 100}),
    ({"10 0 1 a.", "10 0 1 b."}, {"hq": 50, "acme": 50}),
    ({"10 0 1 a.", "10 100 1 b."}, {"hq": 1, "acme": 99}),   # one draw in 101
    ({"10 0 1 a.", "10 65535 1 b."}, {"acme": 100}),         # one draw in 65,536
    ({"20 90 1 a.", "10 10 1 b."}, {"acme": 100}),
    ({"10 1 1 a.", "10 60000 1 b."}, {"hq": 1, "acme": 99}),
])
def test_srv_weights_mean_what_clients_make_of_them(records: set[str],
                                                    shares: dict[str, int]) -> None:
    """RFC 2782: the lowest priority number only; weight 0 is a very small chance, and not none."""
    found = SrvSet({"hq": ("a:1",), "acme": ("b:1",)}, 10)
    assert found.shares(frozenset(records)) == Shares(shares)


def test_addresses_share_alike(bind: Bind) -> None:
    """IPv6, two addresses at a site: the whole, or two thirds; nothing else, and why."""
    bind.put("six", "AAAA", ["2001:db8::1", "2001:db8::2"])
    lever = route(bind, "six", type="AAAA", destinations={
        "hq": ["2001:db8::1", "2001:DB8:0::2"], "acme": "2001:db8::9"})
    assert lever.read().shares == Shares({"hq": 100})
    with pytest.raises(Rejected, match="share alike, which gives hq 67 % · acme 33 %"):
        lever.shift(Shares({"hq": 50, "acme": 50}), expected=None, key="k")
    lever.shift(Shares({"hq": 67, "acme": 33}), expected=lever.read(), key="k")
    assert bind.records("six", "AAAA")[1] == ["2001:db8::1", "2001:db8::2", "2001:db8::9"]
    lever.shift(Shares({"acme": 100}), expected=lever.read(), key="k")
    assert bind.records("six", "AAAA")[1] == ["2001:db8::9"]
    bind.put("six", "AAAA", ["2001:db8::1"])
    assert lever.read().shares == Shares({"hq": 100}), "one of its two was taken out by hand"
    bind.put("six", "AAAA", ["2001:db8::1", "2001:db8::bad"])
    with pytest.raises(Rejected, match="2001:db8::bad, which destinations does not name"):
        lever.read()


def test_the_step_of_addresses_is_known_beforehand() -> None:
    """Halves where all sites have as many addresses; else only the whole is sure."""
    def step(kind: str, **places: object) -> int:
        return DnsProvider.capabilities({"type": kind, "destinations": places}).share_step

    assert step("A", hq="192.0.2.1", acme="192.0.2.2") == 50
    assert step("A", hq=["192.0.2.1", "192.0.2.3"], acme="192.0.2.2") == 100
    assert step("A", hq="192.0.2.1") == 100
    assert step("SRV", hq="a:1", acme="b:1") == 1
    able = DnsProvider.capabilities({"type": "SRV"}, {"type": "A", "destinations": ADDRESSES})
    assert (able.share_step, able.treatments, able.destinations) == (50, True, set(ADDRESSES))
    assert AddressSet({"hq": ("192.0.2.1",)}, 4).step == 100


@pytest.mark.parametrize(("zone", "name", "words"), [
    ("elsewhere.test", "www", "REFUSED"),
    ("nowhere.test", "www", "REFUSED"),
    (ZONE, "nonesuch", "there are no such records"),
    (ZONE, "hq", "there are no such records"),
])
def test_what_is_not_there_is_refused(bind: Bind, zone: str, name: str, words: str) -> None:
    """A zone that is not shown or not there, a name that is not, and one of another type."""
    with pytest.raises(Rejected, match=words):
        route(bind, name, zone=zone).read()


def link(bind: Bind, zone: str) -> Link:
    return Link("names", "127.0.0.1", bind.port, zone, Key("ccf.", "env:TSIG", "hmac-sha256"),
                SECRETS.__getitem__, SystemRuntime(), timeout=5)


def test_updates_that_the_server_cannot_take(bind: Bind) -> None:
    """A zone that is not there: NOTAUTH; a name outside of it: NOTZONE; a zone that takes no
    updates: REFUSED. A zone whose journal cannot be written: SERVFAIL, in doubt."""
    def send(to: Link, change: Change) -> None:
        to.update(change, Seen(frozenset({"127.0.0.1"}), 5, 1, "ns. h. 1 1 1 1 1"), to.until())

    def to(name: str) -> Change:
        return Change(name, "A", frozenset({"127.0.0.2"}), 5, False)

    with pytest.raises(Rejected, match="NOTAUTH"):
        send(link(bind, "nowhere.test."), to("www.nowhere.test."))
    with pytest.raises(Rejected, match="NOTZONE"):
        send(link(bind, "cc.test."), to("www.elsewhere."))
    with pytest.raises(Rejected, match="REFUSED"):
        send(link(bind, "fixed.test."), to("www.fixed.test."))
    (bind.place / "broken.jnl").mkdir(exist_ok=True)
    broken = link(bind, "broken.test.")
    with pytest.raises(Unavailable, match="SERVFAIL") as caught:
        send(broken, to("www.broken.test."))
    assert caught.value.in_doubt
    seen = broken.look("www.broken.test.", "A", broken.until())
    assert seen.records == {"127.0.0.1"}


class Signed:
    """A name server that knows the key, and says whatever a test wants it to say."""

    def __init__(self, say: Callable[[dns.message.Message], dns.message.Message]) -> None:
        self._say = say
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Signed:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()
        self._thread.join(5)

    def _serve(self) -> None:
        peer, _ = self._listener.accept()
        key = dns.tsig.Key("ccf", SECRET, "hmac-sha256")
        with peer, contextlib.suppress(EOFError):
            while True:
                asked, _ = dns.query.receive_tcp(peer, time.time() + 5, keyring={key.name: key})
                dns.query.send_tcp(peer, self._say(asked).to_wire())


def says(*records: str, flags: int = dns.flags.AA, code: int = 0,
         tsig_error: int = 0) -> Callable[[dns.message.Message], dns.message.Message]:
    """The zone's SOA as it should be; and these records for whatever else is asked."""
    def say(asked: dns.message.Message) -> dns.message.Message:
        reply = dns.message.make_response(asked, tsig_error=tsig_error)
        reply.flags |= flags
        reply.set_rcode(dns.rcode.Rcode(code))
        name = asked.question[0].name
        soa = asked.question[0].rdtype == dns.rdatatype.SOA
        for record in ["SOA ns. h. 1 1 1 1 1"] if soa else records:
            kind, _, text = record.partition(" ")
            reply.answer.append(dns.rrset.from_text(name, 5, "IN", kind, text))
        return reply

    return say


@pytest.mark.parametrize(("say", "error", "words"), [
    (says("A 192.0.2.1"), None, ""),
    (says("A 192.0.2.1", flags=0), Rejected, "127.0.0.1 does not speak for the zone"),
    (says("CNAME www.example."), Rejected, "there are no such records"),
    (says(code=9), Rejected, "does not speak for the zone .NOTAUTH"),
    (says(code=2), Unavailable, "the server failed .SERVFAIL"),
    (says(tsig_error=18), Rejected, "TSIG: the clocks differ too much .BADTIME"),
    (says(tsig_error=22), Rejected, "TSIG: the server refuses the signature"),
    (says(*[f"A 10.0.{n >> 8}.{n & 255}" for n in range(1001)]), Rejected, "too many records"),
])
def test_what_a_server_may_say_that_is_trusted(
        say: Callable[[dns.message.Message], dns.message.Message],
        error: type[Rejected | Unavailable] | None, words: str) -> None:
    """Replies with a signature that holds: no primary, another type, a clock that is wrong."""
    with Signed(say) as server:
        lever = DnsProvider(ProviderSpec("names", "dns", {
            "server": "127.0.0.1", "port": server.port, "zone": ZONE, "type": "A",
            "key": {"name": "ccf", "secret": "env:TSIG"}, "destinations": ADDRESSES}),
            resolve=SECRETS.__getitem__, runtime=SystemRuntime()).route(LeverSpec("names", "www"))
        if error is None:
            assert lever.read() == RouteState(
                    Shares({"hq": 100}), "1", raw='{"ttl": 5, "records": ["192.0.2.1"]}')
            return
        with pytest.raises(error, match=words) as caught:
            lever.read()
        assert not getattr(caught.value, "in_doubt", False)


@pytest.mark.parametrize(("ref", "params", "words"), [
    ("www.example.com.", {}, "not in the zone"),
    ("www", {"type": "A"}, "no IPv4 address"),
    ("www", {"type": "AAAA", "destinations": ADDRESSES}, "no IPv6 address"),
    ("www", {"destinations": ADDRESSES}, "an SRV record needs host:port"),
    ("www", {"destinations": {"hq": "a:70000"}}, "an SRV record needs host:port"),
    ("www", {"destinations": {"hq": "a:1", "acme": ["b:1", "A:1"]}}, "twice"),
    ("www", {"destinations": {}}, "which records"),
])
def test_levers_that_cannot_be_meant_are_refused(bind: Bind, ref: str, params: dict[str, Any],
                                                 words: str) -> None:
    """Before anything is asked of the server."""
    with pytest.raises(UsageError, match=words):
        route(bind, ref, **params)


def test_a_name_is_understood_whole_and_within_the_zone(bind: Bind) -> None:
    """`@` is the zone itself, a dot at the end makes a name whole."""
    bind.put("@", "A", ["192.0.2.1"])
    for ref in ("@", "cc.test."):
        assert route(bind, ref, type="A", destinations=ADDRESSES).read().shares == Shares(
            {"hq": 100})


@pytest.mark.parametrize(("ref", "destinations"), [
    ("x." * 124 + "y", HOSTS), ("a" * 64 + ".b", HOSTS),
    ("_sip._udp", {"hq": ".".join(["a" * 50] * 5) + ":5060"}),
])
def test_a_name_that_is_too_long_is_found_before_it_is_needed(
        ref: str, destinations: dict[str, str]) -> None:
    """RFC 1035, 2.3.4: in the policy, and not in the middle of a shift."""
    block = {"server": "127.0.0.1", "zone": ZONE, "destinations": destinations,
             "key": {"name": "ccf", "secret": "env:TSIG"}}
    made = DnsProvider(ProviderSpec("names", "dns", block), resolve=SECRETS.__getitem__,
                       runtime=SystemRuntime())
    with pytest.raises(UsageError, match="too long"):
        made.route(LeverSpec("names", ref))
