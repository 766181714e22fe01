"""A whole contact centre as real processes on loopback: the demo's world, and the tests'.

Everything it starts ends with it: on `stop`, at exit, and when this process is killed, because
every server watches a pipe that only this process holds.
"""

from __future__ import annotations

import atexit
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any

from ccfailover.errors import StateUnknown, Unavailable, UsageError
from ccfailover.runtime import Runtime, SystemRuntime
from ccfailover.simulation.children import Child, Port, find_program, module
from ccfailover.simulation.local_policy import LICENCES, Places, policy_text
from ccfailover.simulation.processes.calling import Answer, call
from ccfailover.simulation.processes.sqs import KEY_ID, SECRET, QueueError, Sqs

VOICE = "loan_calls"
INTAKE = "applications"
SITES = ("hq", "acme")
READY_WITHIN = 20.0


@dataclass(frozen=True)
class CentreSettings:
    """`hq_rate` and `acme_rate`: applications completed a second. `applications_per_second`: what
    the policy expects to come in; the centre itself makes none. `visibility`: seconds that a
    received application stays hidden. `separate_queues`: acme's queue has a server of its own,
    so that the home queue's server can be killed alone. `consumers`: start state of the gates."""

    contacts_per_second: float = 20.0
    applications_per_second: float = 1.0
    handling: float = 0.02
    hq_rate: float = 4.0
    acme_rate: float = 20.0
    visibility: int = 8
    separate_queues: bool = False
    consumers: str = "open"


class LocalCentre:
    """Servers `switch`, `hq`, `acme`, `callback`, `inbox` (where notifications land), `queues`
    (and `queues_acme`), by these names.

    Usable as a context manager. Each centre has free ports and random queue names of its own:
    several run side by side. Asking is safe from any thread; start, kill, restart and stop are
    for one at a time.
    """

    def __init__(self, directory: Path, settings: CentreSettings | None = None, *,
                 runtime: Runtime | None = None) -> None:
        self.directory = directory
        self.settings = settings or CentreSettings()
        self._runtime = runtime or SystemRuntime()
        self._children: dict[str, Child] = {}
        self._queues: dict[str, str] = {}
        self._token = ""

    # --- life

    def start(self) -> None:
        """Returns when everything answers. Raises UsageError when the queue server is not
        installed or the directory is in use, StateUnknown when a server does not come up; then
        nothing is left running."""
        program = find_program("roto-server", extra="demo")
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        if (self.directory / "switch.json").exists():
            raise UsageError("a local centre has been started here before",
                             where=str(self.directory), not_done="nothing was started",
                             hint="give it a new or empty directory")
        atexit.register(self.stop)
        try:
            ports = {name: Port() for name in self._names()}
            for name in ports:
                if name.startswith("queues"):
                    argv = [program, "--port", str(ports[name].number), "--data-dir",
                            str(self.directory / name)]
                    self._add(name, module("tether", *argv), ports[name])
            self._ready(self._children)
            self._create_queues()
            self._configure(ports)
            self._ready(["switch", "hq", "acme", "callback", "inbox"])
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Ends every server that this process started; safe to call twice."""
        for child in self._children.values():
            child.end()
        for child in self._children.values():
            child.close()
        self._children.clear()
        atexit.unregister(self.stop)

    def __enter__(self) -> LocalCentre:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.stop()

    def kill(self, name: str) -> None:
        """kill -9; returns when it is dead. Its port stays reserved for `restart`."""
        self._child(name).kill()

    def restart(self, name: str, *, consumers: str | None = None) -> None:
        """Starts a dead server again on its port, with what it had on disk.

        `consumers` (`open` or `closed`) is for sites. Without it acme's come up as they were
        started first, and hq's closed: a home that comes back must not begin work that has been
        delivered elsewhere before somebody lets it.
        """
        child = self._child(name)
        if child.alive:
            raise UsageError(f"{name} is running", not_done="it was not started again")
        if name in SITES:
            state = consumers or ("closed" if name == "hq" else self.settings.consumers)
            child.argv = [*child.argv[:-1], state]
        child.start()
        self._ready([name])

    def alive(self, name: str) -> bool:
        return self._child(name).alive

    def pid(self, name: str) -> int:
        """Of the server, or of the tether that holds a queue server."""
        return self._child(name).pid

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._children)

    # --- where things are

    def url(self, name: str) -> str:
        return self._child(name).url

    def queue_url(self, site: str) -> str:
        return self._queues[site]

    def queue_server(self, site: str) -> str:
        """The name of the server that holds a site's queue."""
        return "queues_acme" if site == "acme" and self.settings.separate_queues else "queues"

    @property
    def token_file(self) -> Path:
        return self.directory / "switch.token"

    def policy_text(self, *, licences: Sequence[str] | None = None,
                    store: Path | None = None) -> str:
        """A complete ccfailover policy for this centre; `store` defaults to a file in here."""
        return policy_text(
            Places(
                urls={name: self.url(name) for name in self._children},
                queue_urls=dict(self._queues),
                queue_endpoints={site: self.url(self.queue_server(site)) for site in SITES},
                token_file=self.token_file,
                inbox_file=self.directory / "inbox.url",
                key_file=self.directory / "sqs.key_id",
                secret_file=self.directory / "sqs.secret",
                store=store or self.directory / "ccfailover.db",
            ),
            contacts_per_second=self.settings.contacts_per_second,
            applications_per_second=self.settings.applications_per_second,
            rates={"hq": self.settings.hq_rate, "acme": self.settings.acme_rate},
            licences=LICENCES if licences is None else licences,
        )

    def environment(self, base: Mapping[str, str] | None = None) -> dict[str, str]:
        """What a `ccfailover` process needs to reach this centre and nothing else: `base`
        (default: ours) without a user's AWS settings and proxies, with the local key."""
        given = os.environ if base is None else base
        kept = {key: value for key, value in given.items()
                if not key.startswith("AWS_") and not key.lower().endswith("_proxy")}
        return {**kept, "AWS_ACCESS_KEY_ID": KEY_ID, "AWS_SECRET_ACCESS_KEY": SECRET,
                "AWS_DEFAULT_REGION": "us-east-1", "AWS_EC2_METADATA_DISABLED": "true",
                "AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
                "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}

    # --- asking and telling

    def get(self, name: str, path: str) -> dict[str, Any]:
        """GET from a server, as a JSON object. Raises Unavailable when it does not answer."""
        return self._asked(name, path, self.ask("GET", name, path))

    def put(self, name: str, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """PUT to a server; Unavailable says whether it may have landed."""
        return self._asked(name, path, self.ask("PUT", name, path, body))

    def ask(self, method: str, name: str, path: str, body: Mapping[str, Any] | None = None, *,
            headers: Mapping[str, str] | None = None, timeout: float = 5.0) -> Answer:
        """One call with the switch's token; the answer as it is."""
        given = {"Authorization": f"Bearer {self._token}", **(headers or {})}
        data = None if body is None else json.dumps(body).encode()
        return call(method, self.url(name) + path, data, timeout=timeout, headers=given)

    def counts(self) -> dict[str, dict[str, Any] | None]:
        """The servers' own counts: `voice` and `intake` as the switch has them, then `hq`,
        `acme` and `callback`; None for one that does not answer."""
        paths = {"voice": ("switch", f"/routes/{VOICE}/counts"),
                 "intake": ("switch", f"/routes/{INTAKE}/counts"),
                 **{name: (name, "/counts") for name in (*SITES, "callback")}}
        found: dict[str, dict[str, Any] | None] = {}
        for label, (name, path) in paths.items():
            try:
                found[label] = self.get(name, path)
            except Unavailable:
                found[label] = None
        return found

    def submit(self, application: Mapping[str, str]) -> None:
        """A new application comes in at the switch. Raises Unavailable when it was not taken;
        submitting it again is safe, because its id is its idempotency key."""
        answer = self.ask("POST", "switch", f"/intake/{INTAKE}", application,
                          headers={"Idempotency-Key": application["uli"]})
        self._asked("switch", f"/intake/{INTAKE}", answer)

    # --- queues

    def seed(self, applications: Iterable[Mapping[str, str]], site: str = "hq") -> int:
        """Puts applications into a site's queue; returns how many."""
        count = 0
        rows = iter(applications)
        while batch := list(islice(rows, 10)):
            entries = [(f"seed:{row['uli']}", json.dumps(row)) for row in batch]
            with _queue_errors(site):
                self._sqs(site).send_batch(self._queues[site], entries)
            count += len(batch)
        return count

    def put_raw(self, site: str, bodies: Iterable[str]) -> int:
        """Puts any text into a site's queue: malformed, oversized, twice the same."""
        count = 0
        for count, body in enumerate(bodies, 1):
            with _queue_errors(site):
                self._sqs(site).send(self._queues[site], body, key=f"raw:{count}")
        return count

    def depth(self, site: str) -> tuple[int, int]:
        """(visible, hidden) as the queue's server has it. Raises Unavailable."""
        with _queue_errors(site):
            return self._sqs(site).depth(self._queues[site])

    def waiting(self, site: str) -> list[str]:
        """The bodies that wait in a site's queue, each received once and released.

        Only for a queue that nobody works on: what others hold is not seen.
        """
        sqs, url = self._sqs(site), self._queues[site]
        found: dict[str, str] = {}
        handles: list[str] = []
        with _queue_errors(site):
            while messages := sqs.receive(url, 10, wait=0, hide=30):
                for message in messages:
                    found[message["MessageId"]] = message["Body"]
                    handles.append(message["ReceiptHandle"])
            for handle in handles:
                sqs.release(url, handle)
        return list(found.values())

    def completed(self, site: str) -> list[str]:
        """Ids that a site has completed, in order, as often as it did; readable when it is dead."""
        path = self._completed(site)
        if not path.exists():
            return []
        lines = path.read_text(encoding="utf-8").splitlines()
        return [json.loads(line)["uli"] for line in lines]

    # --- inside

    def _names(self) -> list[str]:
        queues = ["queues", "queues_acme"] if self.settings.separate_queues else ["queues"]
        return [*queues, "switch", *SITES, "callback", "inbox"]

    def _child(self, name: str) -> Child:
        child = self._children.get(name)
        if child is None:
            raise UsageError(f"no server is called {name}",
                             hint=f"one of {', '.join(self._children) or 'none: start first'}")
        return child

    def _add(self, name: str, argv: list[str], port: Port) -> None:
        child = Child(name, argv, port, self.directory)
        self._children[name] = child
        child.start()

    def _ready(self, names: Iterable[str]) -> None:
        deadline = self._runtime.monotonic() + READY_WITHIN
        for name in names:
            child = self._child(name)
            while call("GET", f"{child.url}/health", timeout=1.0).status is None:
                if not child.alive or self._runtime.monotonic() > deadline:
                    raise StateUnknown(f"server {name} did not come up", where=str(child.log),
                                       hint="read the end of that file")
                self._runtime.sleep(0.02)

    def _create_queues(self) -> None:
        hidden = str(self.settings.visibility)
        name = f"applications-{self._runtime.new_id()}{self._runtime.new_id()}"
        self._queues = {
            "hq": self._sqs("hq").create_queue(name, VisibilityTimeout=hidden),
            "acme": self._sqs("acme").create_queue(f"{name}-acme.fifo", FifoQueue="true",
                                                   VisibilityTimeout=hidden),
        }

    def _configure(self, ports: Mapping[str, Port]) -> None:
        settings = self.settings
        self._token = "".join(self._runtime.new_id() for _ in range(8))
        self._private(self.token_file, self._token)
        self._private(self.directory / "sqs.key_id", KEY_ID)
        self._private(self.directory / "sqs.secret", SECRET)
        inbox = ports["inbox"]
        self._private(self.directory / "inbox.url", f"json://127.0.0.1:{inbox.number}/messages")
        self._add("inbox", module("inbox", *_port(inbox)), inbox)
        to = {name: ports[name].url for name in (*SITES, "callback")}
        routes = {
            VOICE: {"kind": "voice", "shares": {"hq": 100}, "destinations": to,
                    "rate": settings.contacts_per_second},
            INTAKE: {"kind": "intake", "shares": {"hq": 100},
                     "destinations": {site: to[site] for site in SITES}},
        }
        config = self.directory / "switch.json"
        self._private(config, json.dumps({"routes": routes}))
        self._add("callback", module("callback", *_port(ports["callback"])), ports["callback"])
        for site, rate in (("hq", settings.hq_rate), ("acme", settings.acme_rate)):
            self._add(site, module(
                "site", *_port(ports[site]), "--name", site, "--rate", str(rate),
                "--sqs-endpoint", self.url(self.queue_server(site)),
                "--queue-url", self._queues[site], "--handling", str(settings.handling),
                "--completed", str(self._completed(site)),
                "--consumers", settings.consumers,  # last: `restart` replaces it
            ), ports[site])
        self._ready([*SITES, "callback"])  # else the first contacts would find nobody
        self._add("switch", module(
            "switch", *_port(ports["switch"]), "--config", str(config), "--state",
            str(self.directory / "switch.db"), "--token-file", str(self.token_file),
        ), ports["switch"])

    def _completed(self, site: str) -> Path:
        return self.directory / f"completed-{site}.jsonl"

    def _sqs(self, site: str) -> Sqs:
        return Sqs(self.url(self.queue_server(site)))

    def _asked(self, name: str, path: str, answer: Answer) -> dict[str, Any]:
        if not answer.ok:
            shown = answer.reason or f"HTTP {answer.status}"
            raise Unavailable(f"{name} answered {shown}", in_doubt=answer.sent,
                              where=f"{self.url(name)}{path}")
        body = answer.json()
        return body if isinstance(body, dict) else {}

    @staticmethod
    def _private(path: Path, text: str) -> None:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)


@contextmanager
def _queue_errors(site: str) -> Iterator[None]:
    try:
        yield
    except QueueError as error:
        raise Unavailable(str(error), in_doubt=error.sent, where=f"queue of {site}") from None


def _port(port: Port) -> list[str]:
    return ["--tethered", "--port", str(port.number)]
