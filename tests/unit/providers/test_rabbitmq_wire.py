"""RabbitMQ without a broker: addresses, what travels in a message, and peers that misbehave, each
a socket whose other end the test holds."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ccfailover.errors import ProviderError, Rejected, Unavailable
from ccfailover.model.items import WorkItem
from ccfailover.providers.rabbitmq import messages, wire
from ccfailover.providers.rabbitmq.address import understood
from ccfailover.providers.rabbitmq.link import Link, Message
from ccfailover.providers.rabbitmq.puts import Puts
from ccfailover.runtime import SystemRuntime


class Jumping(SystemRuntime):
    """A clock that goes on by `ahead` seconds at will."""

    ahead = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.ahead


class Peer:
    """The other end of a link."""

    def __init__(self) -> None:
        ours, self.socket = socket.socketpair()
        self.runtime = Jumping()
        self.link = Link(ours, "mq", "q put", self.runtime)

    def say(self, data: bytes) -> None:
        self.socket.sendall(data)

    def soon(self, seconds: float = 5.0) -> float:
        return self.runtime.monotonic() + seconds

    def close(self) -> None:
        self.link.drop()
        self.socket.close()


@pytest.fixture
def peer() -> Iterator[Peer]:
    made = Peer()
    yield made
    made.close()


# --- addresses -------------------------------------------------------------------------------


@pytest.mark.parametrize(("url", "found"), [
    ("amqp://u:p@h", ("h", 5672, False, "/", "u", "p")),
    ("amqps://u:p@h/", ("h", 5671, True, "/", "u", "p")),
    ("amqps://u:p%40%2F%3A@h:1234/loans", ("h", 1234, True, "loans", "u", "p@/:")),
    ("amqp://h/%2F", ("h", 5672, False, "/", "guest", "guest")),
    ("amqp://u:@[::1]:5673/a%2Fb", ("::1", 5673, False, "a/b", "u", "")),
])
def test_an_address_in_its_parts(url: str, found: tuple[object, ...]) -> None:
    """RabbitMQ's own form of an address, with its defaults."""
    made = understood(url, "mq")
    assert (made.host, made.port, made.tls, made.vhost, made.user, made.password) == found
    assert "p%40" not in repr(made) and "p@/:" not in repr(made)


@pytest.mark.parametrize("url", [
    "", "http://u:s3cret@h", "amqp://u:s3cret@h:x/v", "amqp://u:s3cret@@/v", "amqp:s3cret",
    "amqp://u:s3/cret@h/v", "amqp://u:s3cret@h/v?heartbeat=1", "amqp://u:s3cret@h/a/b",
    "amqp://u:s3cret@[::1/v",
])
def test_an_address_that_makes_no_sense_is_not_quoted(url: str) -> None:
    """Whatever it is, part of it may be the password."""
    with pytest.raises(Rejected) as caught:
        understood(url, "mq")
    assert "s3" not in f"{caught.value} {caught.value.to_json()}"
    assert caught.value.hint


# --- what travels ----------------------------------------------------------------------------


def decoded(raw: bytes, frame_max: int = wire.FRAME_MAX) -> Message:
    """The content of a publish, as a delivery of it would come."""
    parts, at = list[tuple[int, bytes]](), 0
    while (found := wire.frame_at(raw, at, frame_max))[0]:
        kind, stop = found
        parts.append((kind, raw[at + 7:stop]))
        at = stop + 1
    assert parts[0][0] == wire.CONTENT and at == len(raw)
    body = b"".join(part for _, part in parts[1:])
    assert all(kind == wire.BODY for kind, _ in parts[1:])
    assert int.from_bytes(parts[0][1][4:12], "big") == len(body)
    return Message(1, False, parts[0][1][12:], body, len(body), False)


def again(item: WorkItem) -> WorkItem:
    return messages.decode(decoded(messages.content(item, "key", 4096), 4096), "e", {"id": "id"},
                           1_000_000)


NUMBERS = {"int8": (-128, 127), "uint8": (0, 255), "int16": (-32768, 32767), "uint16": (0, 65535),
           "int32": (-(1 << 31), (1 << 31) - 1), "uint32": (0, (1 << 32) - 1),
           "int64": (-(1 << 63), (1 << 63) - 1), "time": (0, (1 << 64) - 1)}
NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20).filter(
    lambda name: name not in messages._OWN | messages._BROKERS and not name.startswith("x-"))
TYPED = st.one_of(
    *(st.tuples(st.just(f":Number.{kind}"), st.integers(*bounds).map(str))
      for kind, bounds in NUMBERS.items()),
    st.tuples(st.just(":Number.double"), st.floats(allow_nan=False).map(repr)),
    st.tuples(st.just(":String.bool"), st.sampled_from(["true", "false"])),
    st.tuples(st.just(":String.void"), st.just("")),
    st.tuples(st.just(":Binary.bytes"), st.sampled_from(["AP8=", ""])),
    st.tuples(st.just(":Binary.text"), st.just("AP8=")),
)


@settings(max_examples=150, deadline=None)
@given(plain=st.dictionaries(NAMES, st.text(st.characters(exclude_categories=["Cs"]),
                                            max_size=40), max_size=4),
       typed=st.dictionaries(NAMES, TYPED, max_size=4), body=st.binary(max_size=9000))
def test_attributes_survive_the_way_there(plain: dict[str, str],
                                          typed: dict[str, tuple[str, str]], body: bytes) -> None:
    """Text by its name, other types with theirs, whatever the names; bodies over many frames."""
    attributes = {name: value for name, value in plain.items()
                  if name.rpartition(":")[2] not in messages._KINDS and name not in typed
                  and name not in messages._MARKS}
    attributes |= {f"{name}{kind}": value for name, (kind, value) in typed.items()}
    item = WorkItem("a", "", body, {}, "", submitted="2026-03-01", hops=3, attributes=attributes)
    found = again(item)
    assert found.attributes == attributes
    assert (found.body, found.submitted, found.hops) == (body, "2026-03-01", 3)


@pytest.mark.parametrize("attributes", [
    {"x" * 256: "long name"}, {"n:Number.int8": "128"}, {"n:Number.int8": "one"},
    {"b:Binary.bytes": "not base64!"}, {"t:Binary.table": "AAAAAQ=="}, {"h": "x" * 5000},
    {":priority": "300"}, {":type": "x" * 256}, {"t:Binary.decimal": "AAAA"},
])
def test_what_does_not_fit_never_travels(attributes: dict[str, str]) -> None:
    """The reason holds nothing of it."""
    with pytest.raises(messages.CannotTravel) as caught:
        messages.content(WorkItem("a", "", b"{}", {}, "", attributes=attributes), "key", 4096)
    assert not [value for value in attributes.values() if value in str(caught.value)]


def test_what_a_broker_would_act_on_stays_behind() -> None:
    """Copies to other queues, and what it counts itself."""
    found = again(WorkItem("a", "", b"{}", {}, "", attributes={
        "CC": "q", "BCC": "q", "ccf-key": "x", "x-delivery-count": "7", ":expiration": "1",
        ":user-id": "u", ":reply-to": "amq.rabbitmq.reply-to", "kept": "yes"}))
    assert {name for name in found.attributes if not name.startswith(":exp")
            and not name.startswith(":user")} == {"kept"}
    assert found.receives == 1


@pytest.mark.parametrize(("redelivered", "count", "receives"), [
    (False, None, 1), (True, None, 2), (True, 4, 5), (False, 0, 1), (True, -3, 2),
])
def test_receives(redelivered: bool, count: int | None, receives: int) -> None:
    """A quorum queue counts deliveries; a classic one says no more than "not the first"."""
    field = b"" if count is None else wire.short("x-delivery-count") + b"l" + struct.pack(
        "!q", count)
    message = Message(9, redelivered, b"\x20\0" + wire.long(field), b'{"id": "a"}', 11, False)
    found = messages.decode(message, "epoch", {}, 100)
    assert (found.receives, found.handle, found.message_id) == (receives, "epoch-9", "")


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_properties_are_understood_or_refused(raw: bytes) -> None:
    """Nothing but Nonsense comes of what a peer sends as properties, and what is understood can
    be sent on or is said not to travel."""
    try:
        found = messages.decode(Message(1, False, raw, b'{"id": "a"}', 11, False), "e", {}, 100)
    except wire.Nonsense:
        return
    try:
        messages.content(found, "key", 4096)
    except messages.CannotTravel:
        return


def test_a_table_is_not_followed_for_ever() -> None:
    """Tables in tables: eight deep, and no deeper."""
    inner = b""
    for _ in range(50):
        inner = wire.short("a") + b"F" + wire.long(inner)
    with pytest.raises(wire.Nonsense, match="nested"):
        wire.Reader(wire.long(inner)).fields()


# --- peers that misbehave --------------------------------------------------------------------


@settings(max_examples=200, deadline=None)
@given(st.lists(st.one_of(
    st.binary(max_size=60),
    st.tuples(st.sampled_from([1, 2, 3, 8, 4]), st.sampled_from([
        wire.DELIVER, wire.ACK, wire.NACK, wire.RETURN, wire.CLOSE, wire.CHANNEL_CLOSE, wire.CANCEL,
        wire.BLOCKED, wire.DECLARE_OK, 0x3C0000]), st.binary(max_size=40)).map(
            lambda made: wire.frame(made[0], struct.pack("!I", made[1]) + made[2])),
), max_size=8))
def test_whatever_comes_is_an_error_of_ours(pieces: list[bytes]) -> None:
    """Frames of every kind in any order, whole and broken: a ProviderError, or nothing."""
    peer = Peer()
    peer.say(b"".join(pieces))
    peer.socket.shutdown(socket.SHUT_WR)
    with pytest.raises(ProviderError):
        peer.link.until(lambda: False, peer.soon())
    assert peer.link.closed
    peer.close()


@pytest.mark.parametrize("kind", [0, 4, 255])
def test_a_frame_of_no_kind_ends_the_connection(peer: Peer, kind: int) -> None:
    """Also one of kind 0, whole: what comes behind it is not heaped up."""
    peer.say(wire.frame(kind, b"") + wire.HEARTBEAT_FRAME)
    with pytest.raises(Unavailable, match="no such frame"):
        peer.link.until(lambda: False, peer.soon())


def delivery(tag: int, consumer: str, properties: bytes, body: bytes, cut: int) -> bytes:
    """As a broker sends it, its body in pieces of `cut` bytes."""
    pieces = [body[at:at + cut] for at in range(0, len(body), cut)]
    return (wire.method(wire.DELIVER, wire.short(consumer) + struct.pack("!QB", tag, tag & 1)
                        + wire.short("") + wire.short("q"))
            + wire.frame(wire.CONTENT, struct.pack("!HHQ", 60, 0, len(body)) + b"\0\0" + properties)
            + b"".join(wire.frame(wire.BODY, piece) for piece in pieces))


@settings(max_examples=200, deadline=None)
@given(
    sent=st.lists(st.builds(
        delivery, st.integers(0, (1 << 64) - 1), st.sampled_from(["c", "consumer" * 8]),
        st.binary(max_size=30), st.binary(max_size=90), st.sampled_from([7, 100])), max_size=6),
    between=st.sampled_from([b"", wire.HEARTBEAT_FRAME, wire.ack(3, False)]),
    room=st.sampled_from([60, 10_000]), cap=st.sampled_from([50, 1000]),
    broken=st.one_of(st.none(), st.tuples(st.integers(0, 400), st.integers(0, 255))))
def test_deliveries_at_once_and_bit_by_bit_are_the_same(
        sent: list[bytes], between: bytes, room: int, cap: int,
        broken: tuple[int, int] | None) -> None:
    """Those that have come whole are taken in one go: it finds what frame by frame is found, with
    any byte of it another one, too."""
    stream = bytearray(between.join(sent))
    if broken is not None and broken[0] < len(stream):
        stream[broken[0]] = broken[1]
    found = []
    for size in (len(stream) or 1, 40):
        peer = Peer()
        peer.link.room, peer.link.cap, peer.link.largest = room, cap, 4096
        kept, ended = peer.link.messages, False
        for at in range(0, len(stream), size):
            peer.say(bytes(stream[at:at + size]))
            try:
                peer.link.read(0, peer.soon())
            except ProviderError:
                ended = True
                break
        found.append((kept, ended, peer.link.confirms, peer.link.room))
        peer.close()
    assert found[0] == found[1]


def test_a_flood_is_cut_off(peer: Peer) -> None:
    """Confirms of what was never sent, without end: memory is bounded."""
    def flood() -> None:
        try:
            while True:
                peer.say(wire.ack(1, False) * 5000)
        except OSError:
            return  # cut off

    thread = threading.Thread(target=flood)
    thread.start()
    with pytest.raises(Unavailable, match="more than was asked"):
        peer.link.until(lambda: False, peer.soon())
    thread.join(10)
    assert len(peer.link.confirms) < 80_000


def test_a_flood_of_large_headers_is_cut_off_too(peer: Peer) -> None:
    """What is given back counts as what is delivered does; of what has no room nothing is kept."""
    head = struct.pack("!HHQ", 60, 0, 0) + bytes(100_000)
    given_back = wire.method(wire.RETURN, bytes(6)) + wire.frame(wire.CONTENT, head)
    delivery = (wire.method(wire.DELIVER, wire.short("c") + struct.pack("!QB", 1, 0) + bytes(2))
                + wire.frame(wire.CONTENT, head))
    peer.link.room = 350_000
    for piece in [delivery] * 5:
        peer.say(piece)
        count = len(peer.link.messages)
        peer.link.until(lambda: len(peer.link.messages) > count, peer.soon())  # noqa: B023
    assert [each.spilled for each in peer.link.messages] == [False] * 3 + [True] * 2
    assert sum(len(each.properties) for each in peer.link.messages) == 300_000
    peer.say(given_back)
    with pytest.raises(Unavailable, match="more than it was sent"):
        peer.link.until(lambda: False, peer.soon())


def test_silence_ends_at_the_deadline_and_a_drip_too(peer: Peer) -> None:
    """Heartbeats keep a connection, and no call."""
    peer.say(wire.HEARTBEAT_FRAME * 3)
    with pytest.raises(Unavailable, match="in time"):
        peer.link.call(wire.qos(1), wire.QOS_OK, peer.soon(0.05))


def test_missing_heartbeats_end_a_link(peer: Peer) -> None:
    """A peer that was not heard for two beats is gone, whatever the socket says."""
    peer.link.heartbeat = 60
    assert peer.link.alive()
    peer.runtime.ahead = 100
    peer.say(wire.HEARTBEAT_FRAME)
    assert peer.link.alive()
    peer.runtime.ahead = 230
    assert not peer.link.alive()


def test_a_long_wait_sends_heartbeats(peer: Peer) -> None:
    """The other side must not think us dead while we wait for it."""
    peer.link.heartbeat = 60
    peer.runtime.ahead = 40
    peer.say(wire.method(wire.QOS_OK))
    peer.link.wait(wire.QOS_OK, peer.soon())
    peer.socket.settimeout(5)
    assert peer.socket.recv(100) == wire.HEARTBEAT_FRAME


def test_what_never_left_us_is_not_in_doubt(peer: Peer) -> None:
    """A peer that takes in so much and then nothing: an item whose last byte was not sent cannot
    have arrived; the others may have."""
    items = [WorkItem(f"a{number}", "", bytes(30_000), {}, "") for number in range(60)]
    probe = wire.method(wire.SELECT_OK) + wire.ack(1, False) + wire.method(wire.QOS_OK)
    peer.say(probe)
    seen = 0
    went = threading.Event()

    def take() -> None:
        nonlocal seen
        while seen < 400_000:
            seen += len(peer.socket.recv(65_536))
        went.set()

    thread = threading.Thread(target=take)
    thread.start()
    puts = Puts("q", lambda: peer.link, peer.runtime, provider="mq", timeout=0.6)
    # The answers are here before the questions, which a link forgets: say them when asked.
    results = puts.put(items, {item.item_id: item.item_id for item in items})
    thread.join(10)
    doubt = [result.in_doubt for result in results]
    count = doubt.count(True)
    assert went.is_set() and 13 <= count < 60
    assert doubt == [True] * count + [False] * (60 - count)
    assert not any(result.ok or result.permanent for result in results)


@pytest.mark.parametrize(("code", "kind"), [
    (320, Unavailable), (541, Unavailable), (506, Unavailable), (406, Unavailable),
    (403, Rejected), (404, Rejected), (530, Rejected), (504, Rejected),
])
def test_codes_are_told_and_texts_are_not(peer: Peer, code: int, kind: type[Exception]) -> None:
    """What passes by itself is tried again, the rest is not; the text may be anything."""
    text = wire.short("s3cret of somebody")
    peer.say(wire.method(wire.CHANNEL_CLOSE, struct.pack("!H", code) + text + bytes(4)))
    with pytest.raises(kind) as caught:
        peer.link.until(lambda: False, peer.soon())
    assert str(code) in str(caught.value) and "s3cret" not in str(caught.value)
    assert isinstance(caught.value, Rejected) or (caught.value.retry_after  # type: ignore[attr-defined]
                                                  and not caught.value.in_doubt)  # type: ignore[attr-defined]
