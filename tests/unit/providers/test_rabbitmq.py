"""A queue of RabbitMQ: what is peculiar to it, on a real broker. What every backlog owes is in
tests/conformance; what needs no broker is in test_rabbitmq_wire.py."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from ccfailover.errors import ProviderError, Rejected, Unavailable
from ccfailover.model.items import PutResult, WorkItem
from ccfailover.model.policy import LeverSpec, ProviderSpec
from ccfailover.providers import Backlog
from ccfailover.providers.rabbitmq import RabbitmqProvider
from ccfailover.providers.rabbitmq.messages import MAX_ITEM_BYTES
from ccfailover.runtime import SystemRuntime
from tests.conformance.subjects import until
from tests.servers.mqweather import HALF, RabbitWeather
from tests.servers.rabbitmq import GUEST, PASSWORD, VHOST, Direct, Rabbit
from tests.unit.providers.test_tls import self_signed

pytestmark = pytest.mark.server("rabbitmq-server")

KINDS = ("classic", "quorum")


class Queues:
    """One broker, a client past the adapter, and queues that are gone after the test."""

    def __init__(self, broker: Rabbit) -> None:
        self.broker = broker
        self.direct = Direct(broker.url())
        self.provider = self.reach(broker.url())
        self._made: list[str] = []

    def reach(self, url: str, **params: object) -> RabbitmqProvider:
        return RabbitmqProvider(
            ProviderSpec("mq", "rabbitmq", {"url": "env:MQ", "timeout": 5, **params}),
            resolve=lambda reference: url, runtime=SystemRuntime())

    def queue(self, kind: str = "classic", params: dict[str, object] | None = None,
              **arguments: Any) -> LeverSpec:
        name = f"q.{len(self._made)}"
        self._made.append(name)
        self.direct.declare(name, x_queue_type=kind, **arguments)
        return LeverSpec("mq", name, {"item": {"id": "uli"}, **(params or {})})

    def fill(self, lever: LeverSpec, count: int) -> list[str]:
        names = [f"a{number:05d}" for number in range(count)]
        assert all(result.ok for result in put(lever, self.provider, *map(item, names)))
        return names

    def close(self) -> None:
        self.provider.close()
        self.direct.delete(*self._made)
        self.direct.close()


@pytest.fixture
def queues(rabbitmq: Rabbit) -> Iterator[Queues]:
    found = Queues(rabbitmq)
    yield found
    found.close()


def item(name: str, body: bytes | None = None, **more: Any) -> WorkItem:
    return WorkItem(name, "", json.dumps({"uli": name}).encode() if body is None else body, {},
                    "", **more)


def put(lever: LeverSpec, provider: RabbitmqProvider, *items: WorkItem) -> list[PutResult]:
    return list(provider.backlog(lever).put(items, keys={
        each.item_id: f"{each.item_id}:r1:1" for each in items}))


def fates(results: list[PutResult]) -> list[str]:
    return ["ok" if each.ok else "doubt" if each.in_doubt else
            "never" if each.permanent else "no" for each in results]


@pytest.mark.parametrize("kind", KINDS)
def test_a_claim_hides_what_it_gives_and_nothing_beside(queues: Queues, kind: str) -> None:
    """A thousand at most, in the queue's order; the next one in the queue is anybody's."""
    lever = queues.queue(kind)
    names = queues.fill(lever, 1203)
    backlog = queues.provider.backlog(lever)
    first = backlog.claim(2000)
    assert [each.item_id for each in first] == names[:1000]
    assert (backlog.measure().visible, backlog.measure().hidden) == (203, 1000)
    assert queues.direct.depth(lever.ref) == 203
    second = backlog.claim(1000)
    assert [each.item_id for each in second] == names[1000:]
    assert backlog.claim(1000) == []
    done = backlog.settle([each.handle for each in [*second, *first]])
    assert all(done.values()) and len(done) == 1203
    assert queues.broker.total(lever.ref) == 0


@pytest.mark.parametrize("kind", KINDS)
def test_what_stays_in_between_is_not_settled_with_the_others(queues: Queues, kind: str) -> None:
    """Acknowledging many at once never takes one along that is to stay."""
    lever = queues.queue(kind)
    names = queues.fill(lever, 10)
    backlog = queues.provider.backlog(lever)
    items = backlog.claim(10)
    stay = {names[3], names[7]}
    backlog.settle([each.handle for each in items if each.item_id not in stay])
    assert backlog.extend([items[3].handle, items[0].handle], 60) == {
        items[3].handle: True, items[0].handle: False}
    assert backlog.extend([items[3].handle], 0) == {items[3].handle: True}
    assert queues.broker.total(lever.ref) == 2
    queues.provider.close()
    assert {each.item_id for each in backlog.claim(10)} == stay


def test_claims_puts_and_endings_of_many_threads(queues: Queues) -> None:
    """Four threads move 4,000 items through one pair of backlogs: each of them once."""
    source, target = queues.queue(), queues.queue("quorum")
    names = queues.fill(source, 4000)
    hq, acme = queues.provider.backlog(source), queues.provider.backlog(target)

    def work() -> None:
        while items := hq.claim(150):
            results = acme.put(items, keys={each.item_id: each.item_id for each in items})
            assert all(result.ok for result in results)
            assert all(hq.settle([each.handle for each in items]).values())

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert queues.broker.total(source.ref) == 0
    found: list[WorkItem] = []
    while more := acme.claim(1000):
        found += more
    assert sorted(each.item_id for each in found) == names


def test_a_queue_that_is_not_there_is_the_items_end(queues: Queues) -> None:
    """Unroutable messages come back; each item fails for good, and none is in doubt."""
    nowhere = LeverSpec("mq", "no.such.queue", {})
    results = put(nowhere, queues.provider, item("a"), item("b", b"x" * 300_000), item("c"))
    assert fates(results) == ["never"] * 3
    assert "no such queue" in results[0].detail
    assert fates(put(queues.queue(), queues.provider, item("a"))) == ["ok"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_full_queue_refuses_and_leaves_no_doubt(queues: Queues, kind: str) -> None:
    """A nack: the broker says that it has not taken it; later it may. (A quorum queue lets in what
    was on its way before it noticed.)"""
    lever = queues.queue(kind, x_max_length=2, x_overflow="reject-publish")
    assert fates(put(lever, queues.provider, item("a"), item("b"))) == ["ok"] * 2
    until(lambda: queues.broker.total(lever.ref) == 2)
    if kind == "quorum":
        until(lambda: fates(put(lever, queues.provider, item("b"))) == ["no"])
    there = queues.broker.total(lever.ref)
    results = put(lever, queues.provider, *(item(f"c{number}") for number in range(5)))
    assert fates(results) == ["no"] * 5
    assert "nack" in results[0].detail
    assert queues.broker.total(lever.ref) == there


def test_a_message_that_the_broker_does_not_take_is_found(queues: Queues) -> None:
    """It ends the channel and does not say which one it was: the window is in doubt. The next time
    each goes alone, and the one that is to blame fails for good."""
    lever = queues.queue()
    queues.broker.evaluate("application:set_env(rabbit, max_message_size, 1000)")
    try:
        items = [item("a"), item("big", bytes(2000)), item("c")]
        first = fates(put(lever, queues.provider, *items))
        assert first[0] in ("ok", "doubt") and first[1:] == ["doubt", "doubt"]
        assert fates(put(lever, queues.provider, *items)) == ["ok", "never", "ok"]
    finally:
        queues.broker.evaluate("application:set_env(rabbit, max_message_size, 134217728)")
    queues.provider.close()  # a channel goes by what was in force when it was opened
    assert fates(put(lever, queues.provider, *items)) == ["ok"] * 3


def test_a_blocked_broker_takes_nothing_and_says_so(queues: Queues) -> None:
    """Out of memory: nothing is in doubt; claims and counts go on; puts too, once it is over."""
    lever = queues.queue()
    queues.fill(lever, 3)
    backlog = queues.provider.backlog(lever)
    queues.broker.alarm(True)
    try:
        until(lambda: blocked(backlog))  # its connections hear of it one after the other
        for _ in range(2):
            results = put(lever, queues.provider, item("b"), item("c"))
            assert fates(results) == ["no"] * 2
            assert "blocked" in results[0].detail and "alarms" in results[0].detail
        assert backlog.measure().visible == 3
        assert all(backlog.settle([each.handle for each in backlog.claim(10)]).values())
    finally:
        queues.broker.alarm(False)
    assert fates(put(lever, queues.provider, item("b"))) == ["ok"]
    assert queues.broker.total(lever.ref) == 1


def blocked(backlog: Backlog) -> bool:
    try:
        backlog.check_writable()
    except Unavailable as error:
        assert error.retry_after and not error.in_doubt
        return True
    return False


def test_exactly_the_unconfirmed_are_in_doubt(queues: Queues) -> None:
    """Three of seven are confirmed, then nothing is heard any more."""
    lever = queues.queue()
    with RabbitWeather(queues.broker.port) as weather:
        provider = queues.reach(queues.broker.url(port=weather.port), timeout=0.7)
        assert fates(put(lever, provider, item("warm"))) == ["ok"]
        weather.next("half")
        results = put(lever, provider, *(item(f"a{number}") for number in range(7)))
        assert fates(results) == ["ok"] * HALF + ["doubt"] * (7 - HALF)
        assert fates(put(lever, provider, item("after"))) == ["ok"]
        provider.close()
    assert queues.broker.total(lever.ref) == 1 + HALF + 1


def test_a_connection_that_ends_takes_its_claims_with_it(queues: Queues) -> None:
    """Whoever asks hears False; the next claim is another connection's, and counts."""
    lever = queues.queue("quorum")
    queues.fill(lever, 3)
    with RabbitWeather(queues.broker.port) as weather:
        provider = queues.reach(queues.broker.url(port=weather.port))
        backlog = provider.backlog(lever)
        old = [each.handle for each in backlog.claim(3)]
        weather.cut()
        assert backlog.extend(old[:1], 60) == {old[0]: False}
        assert backlog.settle(old) == dict.fromkeys(old, False)
        assert backlog.measure().hidden == 0
        again: list[WorkItem] = []
        until(lambda: again.extend(backlog.claim(3)) is None and len(again) == 3)
        assert [each.receives for each in again] == [2, 2, 2]
        assert backlog.settle(old) == dict.fromkeys(old, False)
        assert all(backlog.settle([each.handle for each in again]).values())
        provider.close()
    assert queues.broker.total(lever.ref) == 0


def test_a_broker_that_ends_the_connection_is_connected_to_again(queues: Queues) -> None:
    """connection.close, as an operator sends it, or a node that goes down."""
    lever = queues.queue()
    queues.fill(lever, 2)
    backlog = queues.provider.backlog(lever)
    [first, _] = backlog.claim(2)
    queues.broker.evaluate(
        'rabbit_networking:close_all_user_connections(<<"ccf">>, <<"for a test">>)')
    queues.direct = Direct(queues.broker.url())
    assert backlog.settle([first.handle]) == {first.handle: False}
    assert len(backlog.claim(2)) == 2
    assert fates(put(lever, queues.provider, item("b"))) == ["ok"]


def test_a_broker_killed_in_the_middle_of_a_put(queues: Queues) -> None:
    """What was confirmed is there when it is back; what is neither there nor confirmed may be in
    doubt; what was said not to have been sent is not there. Struck in the middle of the third
    window: between two of them there is nothing on its way that could be in doubt."""
    lever = queues.queue()
    names = [f"a{number:05d}" for number in range(12_000)]
    with RabbitWeather(queues.broker.port) as weather:
        provider = queues.reach(queues.broker.url(port=weather.port))
        weather.after(2500, queues.broker.kill)
        try:
            results = put(lever, provider, *map(item, names))
        finally:
            provider.close()
            queues.broker.start()
            queues.direct = Direct(queues.broker.url())
    said = {fate: {each.item_id for each, its in zip(results, fates(results), strict=True)
                   if its == fate} for fate in ("ok", "doubt", "no")}
    assert sum(map(len, said.values())) == len(names)
    assert 2000 <= len(said["ok"]) < 2500 and 500 < len(said["doubt"]) <= 1000
    assert said["no"] >= set(names[3000:])
    backlog, there = queues.provider.backlog(lever), set()
    while found := backlog.claim(1000):
        there |= {each.item_id for each in found}
    assert said["ok"] <= there <= said["ok"] | said["doubt"]


def test_a_claim_is_given_back_before_the_broker_would_end_the_channel(
        queues: Queues) -> None:
    """Four fifths of consumer_timeout: to be hidden beyond that is more than can be promised."""
    lever = queues.queue(params={"consumer_timeout": 100})
    queues.fill(lever, 2)
    backlog = queues.provider.backlog(lever)
    one, two = (each.handle for each in backlog.claim(2))
    assert backlog.extend([one], 75) == {one: True}
    assert backlog.extend([one, two], 81) == {one: False, two: False}
    assert backlog.measure().visible == 2


def test_whoever_else_consumes_is_let_be(queues: Queues) -> None:
    """An exclusive consumer: refused, with a hint. A single active one: nothing comes, and the
    queue does not look empty."""
    held = queues.queue()
    queues.direct.channel.basic_consume(held.ref, lambda *_: None, exclusive=True)
    with pytest.raises(Rejected) as caught:
        queues.provider.backlog(held).claim(1)
    assert "403" in str(caught.value) and "exclusively" in str(caught.value.hint)
    single = queues.queue(x_single_active_consumer=True)
    queues.direct.channel.basic_qos(prefetch_count=1)
    queues.direct.channel.basic_consume(single.ref, lambda *_: None)
    queues.fill(single, 3)
    backlog = queues.provider.backlog(single)
    assert backlog.claim(10) == []
    assert backlog.measure().visible == 2


def test_large_bodies_travel_and_those_beyond_bounds_do_not_fill_memory(queues: Queues) -> None:
    """Many frames make one body; of one larger than any target takes, only so much is kept."""
    lever = queues.queue(params={"max_item_bytes": 2_000_000})
    big = b'{"uli": "big", "note": "' + b"x" * 1_500_000 + b'"}'
    assert fates(put(lever, queues.provider, item("big", big),
                     item("huge", b"x" * (MAX_ITEM_BYTES + 1)))) == ["ok", "never"]
    queues.direct.send(lever.ref, b"y" * (MAX_ITEM_BYTES + 5000))
    backlog = queues.provider.backlog(lever)
    one, two = backlog.claim(10)
    assert (one.item_id, one.body, one.problem) == ("big", big, None)
    assert two.problem == f"the body has {MAX_ITEM_BYTES + 5000} bytes, more than 2000000"
    assert len(two.body) == MAX_ITEM_BYTES + 1


def test_a_claim_holds_so_many_bytes_and_leaves_the_others(queues: Queues) -> None:
    """Six times 15 MiB are more than a claim takes; what had no room is given back."""
    lever = queues.queue()
    for number in range(6):
        queues.direct.send(lever.ref, bytes([65 + number]) * (15 * 1024 * 1024))
    backlog = queues.provider.backlog(lever)
    seen: list[bytes] = []
    while found := backlog.claim(10):
        assert sum(len(each.body) for each in found) <= 64 * 1024 * 1024
        seen += [each.body[:1] for each in found]
        backlog.settle([each.handle for each in found])
    assert sorted(seen) == [b"A", b"B", b"C", b"D", b"E", b"F"]


def test_the_senders_headers_and_properties_are_kept(queues: Queues) -> None:
    """As another client reads them at the target; what a broker would act on is left behind."""
    source, target = queues.queue(), queues.queue()
    headers = {"branch": "0417", "count": 3, "big": 1 << 40, "rate": Decimal("6.25"),
               "mark": b"\x00\xff", "yes": True, "none": None,
               "nested": {"a": [1, "b", {"c": False}]},
               "odd:name": "x", "ends:String.bool": "true", ":type": "no property",
               "umlaut ä": "ß", "x-death": [{"count": 1}], "CC": ["q.elsewhere"]}
    kept = dict(content_type="application/json", content_encoding="utf-8", priority=5,
                correlation_id="c1", reply_to="answers", timestamp=1_772_357_400,
                type="application", app_id="los")
    queues.direct.send(source.ref, b'{"uli": "a"}', headers=headers, message_id="m1",
                       expiration="600000", user_id="ccf", **kept)
    backlog = queues.provider.backlog(source)
    [found] = backlog.claim(1)
    assert (found.submitted, found.attributes[":message-id"]) == ("2026-03-01T09:30:00Z", "m1")
    assert fates(put(target, queues.provider, found)) == ["ok"]
    [(_, properties)] = queues.direct.take(target.ref)
    own = {name: properties.headers.pop(name) for name in list(properties.headers)
           if name.startswith("ccf-")}
    assert own == {"ccf-item-id": "a", "ccf-hops": "0", "ccf-key": "a:r1:1",
                   "ccf-submitted": "2026-03-01T09:30:00Z", "ccf-message-id": "m1"}
    for name in ("x-death", "CC"):
        del headers[name]
    assert properties.headers == headers
    assert {name: getattr(properties, name) for name in kept} == kept
    assert (properties.message_id, properties.delivery_mode) == ("a:r1:1", 2)
    assert properties.expiration is properties.user_id is None
    [again] = queues.provider.backlog(target).claim(1)
    assert again.attributes == found.attributes


def test_rights_are_told_apart(queues: Queues) -> None:
    """Who may only read: counts and claims, and puts nothing, with no doubt about it."""
    lever = queues.queue()
    queues.fill(lever, 1)
    reader = queues.reach(queues.broker.url(user=GUEST))
    backlog = reader.backlog(lever)
    assert backlog.measure().visible == 1
    results = put(lever, reader, item("b"))
    assert fates(results) == ["no"] and "rights" in results[0].detail
    with pytest.raises(Rejected, match="403"):
        backlog.check_writable()
    assert len(backlog.claim(2)) == 1
    reader.close()


@pytest.mark.parametrize(("how", "words"), [
    ({"password": "wrong-password-9x"}, "refused (403)"),
    ({"user": "nobody"}, "refused (403)"),
    ({"vhost": "nonesuch"}, "refused (530)"),
])
def test_no_message_holds_a_password(queues: Queues, how: dict[str, str], words: str) -> None:
    """A refused login is permanent, told by its code, with what to compare."""
    provider = queues.reach(queues.broker.url(**how))
    with pytest.raises(Rejected) as caught:
        provider.backlog(LeverSpec("mq", "q", {})).measure()
    assert words in str(caught.value) and caught.value.hint
    shown = f"{caught.value} {caught.value.to_json()} {provider!r} {vars(provider)!r}"
    assert not [word for word in (PASSWORD, "wrong-password") if word in shown]


class Tls:
    """TLS in front of the broker: what comes in is passed on, what comes out is passed back."""

    def __init__(self, port: int, certificate: Path) -> None:
        import socket

        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificate)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._make = lambda: socket.create_connection(("127.0.0.1", port))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                peer = self._listener.accept()[0]
            except OSError:
                return
            threading.Thread(target=self._pass_on, args=(peer,), daemon=True).start()

    def _pass_on(self, plain: Any) -> None:
        import select

        try:
            peer = self._context.wrap_socket(plain, server_side=True)
        except OSError:
            return  # the client did not like the certificate
        broker = self._make()
        while True:
            ready = [peer] if peer.pending() else select.select([peer, broker], [], [], 10)[0]
            for end in ready:
                data = end.recv(65_536)
                if not data:
                    peer.close()
                    broker.close()
                    return
                (broker if end is peer else peer).sendall(data)


def test_amqps_trusts_whom_it_is_told_to(queues: Queues, tmp_path: Path) -> None:
    """With the authority named it works, in both directions and in large pieces; without it, no
    login is sent."""
    certificate = self_signed(tmp_path)
    front = Tls(queues.broker.port, certificate)
    lever = queues.queue()
    url = queues.broker.url(port=front.port).replace("amqp:", "amqps:")
    provider = queues.reach(url, ca=str(certificate))
    names = [f"a{number}" for number in range(1500)]
    assert fates(put(lever, provider, *(item(name, json.dumps({"uli": name, "note": "x" * 2000})
                                             .encode()) for name in names))) == ["ok"] * 1500
    backlog = provider.backlog(lever)
    found = [*backlog.claim(1000), *backlog.claim(1000)]
    assert [each.item_id for each in found] == names
    assert all(backlog.settle([each.handle for each in found]).values())
    provider.close()
    with pytest.raises(Rejected, match="not to be trusted") as caught:
        queues.reach(url).backlog(lever).measure()
    assert caught.value.hint and caught.value.not_done == "no login was sent"
    with pytest.raises(ProviderError):
        queues.reach(queues.broker.url().replace("amqp:", "amqps:")).backlog(lever).measure()
    front.close()


def test_a_vhost_of_another_name(queues: Queues) -> None:
    """The vhost is part of the address: the same queue elsewhere is another one."""
    lever = queues.queue()
    elsewhere = queues.reach(queues.broker.url(vhost="%2F"))
    with pytest.raises(Rejected, match="404"):
        elsewhere.backlog(lever).measure()
    assert queues.provider.backlog(lever).measure().depth == 0 and VHOST != "/"
