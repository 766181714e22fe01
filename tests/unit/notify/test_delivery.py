"""Delivery to a real HTTP server, through Apprise's json:// form."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from ccfailover.errors import PolicyError, Rejected, Unavailable
from ccfailover.model.policy import NotifySpec
from ccfailover.notify.delivery import MOST_ATTEMPTS, apprise_send, deliver
from ccfailover.runtime import SECOND, SystemRuntime
from ccfailover.store import open_store

SECRET = "hunter2-of-ops"


class Receiver(ThreadingHTTPServer):
    """Answers each POST with the next of `answers` (200 when there are none left)."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.got: list[dict[str, object]] = []
        self.logins: list[str | None] = []
        self.answers: list[int | str] = []
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05})
        self.thread.start()

    @property
    def url(self) -> str:
        return f"json://ops:{SECRET}@127.0.0.1:{self.server_address[1]}/hook/{SECRET}"

    def stop(self) -> None:
        self.ended.set()
        self.shutdown()
        self.server_close()
        self.thread.join(10)


class Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.got.append(json.loads(body))
        self.server.logins.append(self.headers.get("Authorization"))
        answer = self.server.answers.pop(0) if self.server.answers else 200
        if answer == "hang":
            self.server.ended.wait(30)
            return
        self.send_response(200 if answer == "drip" else int(answer))
        self.end_headers()
        while answer == "drip" and not self.server.ended.wait(0.1):
            try:
                self.wfile.write(b".")
                self.wfile.flush()
            except OSError:
                return

    def log_message(self, *args: object) -> None:
        """Silent."""


class Clock(SystemRuntime):
    """Real, but for a wall clock that a test may set forward."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def now(self) -> int:
        return super().now() + int(self.ahead * SECOND)


class Scene:
    def __init__(self, store, clock, receiver) -> None:
        self.store, self.clock, self.receiver = store, clock, receiver
        self.specs = [NotifySpec("ops", "env:OPS", ())]
        self.urls = {"env:OPS": receiver.url}

    def deliver(self, **more):
        return deliver(self.store, self.specs, self.resolve, self.clock, **more)

    def resolve(self, reference: str) -> str:
        if reference not in self.urls:
            raise PolicyError([], not_done=f"nothing behind {reference}")
        return self.urls[reference]

    def everything_kept(self) -> str:
        """All that the store's file and its WAL hold."""
        return "".join(path.read_bytes().decode("latin-1")
                       for path in self.store_dir.iterdir() if path.is_file())


@pytest.fixture()
def scene(tmp_path):
    clock, receiver = Clock(), Receiver()
    store = open_store(str(tmp_path / "s.db"), clock)
    made = Scene(store, clock, receiver)
    made.store_dir = tmp_path
    yield made
    store.close()
    receiver.stop()


def test_delivered_once(scene):
    """One message, one POST with title and body; the next pass sends nothing."""
    scene.store.enqueue("r1/started/1", "run.started", "Title", "Body <b> & more")
    assert scene.deliver().sent == 1
    assert scene.deliver().sent == 0
    assert len(scene.receiver.got) == 1
    got = scene.receiver.got[0]
    assert (got["title"], got["message"]) == ("Title", "Body <b> & more")
    assert scene.receiver.logins[0].startswith("Basic ")


def test_retried_after_a_500_with_back_off(scene):
    """Not at once, but when the pause is over; attempts and reason are in the store."""
    scene.receiver.answers = [500, 500]
    scene.store.enqueue("r1/paused/2", "run.paused", "T", "B")
    first = scene.deliver()
    assert (first.sent, first.failed, first.ok) == (0, 1, False)
    assert first.problems == ("run.paused to ops: answered 500",)
    assert scene.deliver().failed == 0
    assert len(scene.receiver.got) == 1
    scene.clock.ahead += 13
    (kept,) = scene.store.pending()
    assert (kept.attempts, kept.last_error) == (1, "answered 500")
    assert scene.deliver().failed == 1
    scene.clock.ahead += 13
    assert not scene.store.pending()  # the second pause is longer than the first
    scene.clock.ahead += 13
    assert scene.deliver().sent == 1
    assert len(scene.receiver.got) == 3


@pytest.mark.parametrize("answer", ["hang", "drip"])
def test_a_receiver_that_never_ends_is_bounded(scene, answer):
    """Silence, and an answer that never ends, both end at the time-out; the pass goes on."""
    scene.receiver.answers = [answer]
    scene.store.enqueue("r1/paused/2", "run.paused", "T", "B")
    report = scene.deliver(timeout=3.0)
    assert report.problems == ("run.paused to ops: no answer within 3 s",)
    scene.receiver.answers.clear()
    scene.clock.ahead += 60
    assert scene.deliver().sent == 1


def test_nothing_of_the_address_is_ever_kept(scene):
    """Not after a 500, not after a refused connection, not after a bad address, nor in a report."""
    scene.receiver.answers = [500]
    said = ""
    for number, url in enumerate([
        scene.receiver.url, f"json://ops:{SECRET}@127.0.0.1:1/{SECRET}", f"bad://{SECRET}",
    ]):
        scene.urls["env:OPS"] = url
        scene.store.enqueue(f"k{number}", "run.paused", "T", "B")
        report = scene.deliver()
        assert report.failed == 1
        said += repr(report)
    assert SECRET not in said
    assert SECRET not in scene.everything_kept()
    assert "answered 500" in scene.everything_kept()


def test_an_error_that_quotes_the_address_is_not_kept(scene):
    """A sender from elsewhere is not trusted with the secret either."""

    def leaky(url, title, body, timeout):
        raise Unavailable(f"cannot reach {url}", in_doubt=False)

    scene.store.enqueue("k", "run.paused", "T", "B")
    assert scene.deliver(send=leaky).problems == ("run.paused to ops: Unavailable",)
    assert SECRET not in scene.everything_kept()


def test_a_secret_that_leads_nowhere(scene):
    """Kept for later, and said which receiver."""
    scene.urls.clear()
    scene.store.enqueue("k", "run.paused", "T", "B")
    report = scene.deliver()
    assert report.failed == 1
    assert "to ops: its address cannot be resolved (PolicyError)" in report.problems[0]


def test_each_receiver_gets_its_own_and_fails_alone(scene):
    """One dead receiver neither stops the others nor makes them hear things twice."""
    scene.specs = [NotifySpec("ops", "env:OPS", ()), NotifySpec("boss", "env:BOSS", ("paused",)),
                   NotifySpec("audit", "env:AUDIT", ("decision",))]
    sent = []

    def send(url, title, body, timeout):
        if url == "boss" and boss_is_away:
            raise Unavailable("away", in_doubt=False)
        sent.append((url, title))

    scene.urls = {"env:OPS": "ops", "env:BOSS": "boss", "env:AUDIT": "audit"}
    boss_is_away = True
    scene.store.enqueue("a", "run.paused", "one", "B")
    scene.store.enqueue("b", "run.paused", "two", "B")
    scene.store.enqueue("c", "run.started", "three", "B")
    first = scene.deliver(send=send)
    assert (first.sent, first.failed, first.waiting) == (3, 1, 1)
    assert sorted(sent) == [("ops", "one"), ("ops", "three"), ("ops", "two")]
    boss_is_away = False
    scene.clock.ahead += 60
    assert scene.deliver(send=send).sent == 2
    assert sorted(sent)[:2] == [("boss", "one"), ("boss", "two")]
    assert len(sent) == 5


def test_a_message_that_nobody_wants_does_not_pile_up(scene):
    """It is counted, not kept for ever."""
    scene.specs = [NotifySpec("ops", "env:OPS", ("stuck",))]
    scene.store.enqueue("a", "run.paused", "one", "B")
    assert scene.deliver().unaddressed == 1
    assert not scene.store.pending()
    assert not scene.receiver.got


def test_retries_end(scene):
    """After the last attempt the message rests in the store, unsent."""
    tried = []

    def send(url, title, body, timeout):
        tried.append(scene.clock.now())
        raise Rejected("no")

    scene.store.enqueue("a", "run.paused", "one", "B")
    reports = []
    for _ in range(MOST_ATTEMPTS + 5):
        reports.append(scene.deliver(send=send))
        scene.clock.ahead += 2 * 3600
    assert len(tried) == MOST_ATTEMPTS
    assert sum(report.given_up for report in reports) == 1
    assert reports[MOST_ATTEMPTS - 1].problems[0].endswith("given up after 12 attempts")


def test_no_send_starts_after_the_budget(scene):
    """A pass ends in time however many messages wait; the rest waits for the next."""
    for number in range(5):
        scene.store.enqueue(f"k{number}", "run.paused", "T", "B")
    report = scene.deliver(send=lambda *given: None, budget=0.0)
    assert (report.sent, report.waiting) == (0, 5)


def test_the_address_is_in_no_process_list(scene):
    """It goes to the sender through stdin."""
    scene.receiver.answers = ["hang"]
    failures = []

    def send() -> None:
        try:
            apprise_send(scene.receiver.url, "T", "B", 30.0)
        except Unavailable as error:
            failures.append(error)

    thread = threading.Thread(target=send)
    thread.start()
    while not scene.receiver.got and thread.is_alive():
        time.sleep(0.02)
    listed = subprocess.run(["ps", "axww", "-o", "args"], capture_output=True, text=True,
                            check=True).stdout
    scene.receiver.ended.set()
    thread.join(40)
    assert failures
    assert "sender.py" in listed
    assert SECRET not in listed


def test_apprise_is_loaded_by_the_sender_alone():
    """Neither messages nor delivery pay for it."""
    code = ("import sys, ccfailover.notify.outbox, ccfailover.notify.delivery; "
            "sys.exit('apprise' in sys.modules)")
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
