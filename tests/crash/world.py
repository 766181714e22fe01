"""A still contact centre on real servers, and a ccfailover that is killed -9 where we say."""

from __future__ import annotations

import importlib
import os
import signal
import traceback
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import boto3
import yaml

from ccfailover.model.plan import Mode
from ccfailover.operations import prepare, runs
from ccfailover.operations.desk import Desk
from ccfailover.runbooks.plan import Request
from ccfailover.simulation.local import CentreSettings, LocalCentre
from ccfailover.wiring import kinds
from ccfailover.wiring.assemble import assemble

WRITES = frozenset({"append", "create_run", "acquire", "end_run", "lapse", "record_items",
                    "enqueue", "set_fact", "check_fence", "renew", "note_canary"})
"""Every method of the store that commits something."""

EFFECTS = frozenset({"shift", "set_open", "claim", "extend", "settle", "put"})
"""Every method of a lever that changes something outside."""


class Bomb:
    """Counts durable writes and external effects, and kills this process -9 at the n-th.

    `before`: the n-th is not done. `after`: it is done, and nobody hears of it.
    """

    def __init__(self, at: int | None, when: str) -> None:
        self.at, self.when = at, when
        self.count = 0
        self.log: list[str] = []

    def around(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **kwargs: Any) -> Any:
            self.count += 1
            self.log.append(name)
            mine = self.count == self.at
            if mine and self.when == "before":
                os.kill(os.getpid(), signal.SIGKILL)
            result = call(*args, **kwargs)
            if mine:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return counted


class Wired:
    """Stands before an object and lets the bomb count the calls that matter."""

    def __init__(self, inner: Any, bomb: Bomb, names: frozenset[str]) -> None:
        self._inner, self._bomb, self._names = inner, bomb, names

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        return self._bomb.around(name, found) if name in self._names else found


class WiredLevers:
    def __init__(self, inner: Any, bomb: Bomb) -> None:
        self._inner, self._bomb = inner, bomb

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if name in ("route", "gate", "backlog"):
            return lambda lever: Wired(found(lever), self._bomb, EFFECTS)
        return found


@dataclass(frozen=True)
class Seen:
    """The world as the servers themselves tell it."""

    calls: Mapping[str, int]
    intake: Mapping[str, int]
    hq: Mapping[str, int]
    acme: Mapping[str, int]
    gate: bool


class CrashWorld:
    """One set of servers for many trials; every trial has its own queues, policy and store."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.centre = LocalCentre(folder / "centre", CentreSettings(
            contacts_per_second=0.0, consumers="closed"))
        self.centre.start()
        self.environ = self.centre.environment({})
        # Once, before every fork: what a child would else import each time.
        importlib.import_module("jsonschema")
        for name in (*kinds.PROVIDERS.values(), *kinds.PROBES.values(),
                     *kinds.STEPS.values(),
                     *kinds.IMPLICIT_PROBES.values()):
            importlib.import_module(name.partition(":")[0])
        for name in ("pycurl", "jinja2", "jinja2.sandbox", "tenacity", "botocore.config"):
            importlib.import_module(name)
        self._sqs = boto3.client(
            "sqs", region_name="us-east-1",
            endpoint_url=self.centre.url(self.centre.queue_server("hq")),
            aws_access_key_id=self._secret("sqs.key_id"),
            aws_secret_access_key=self._secret("sqs.secret"))

    def _secret(self, name: str) -> str:
        return (self.folder / "centre" / name).read_text().strip()

    def stop(self) -> None:
        self.centre.stop()

    def trial(self, *, fifo: bool = True) -> Trial:
        name = uuid4().hex[:10]
        folder = self.folder / name
        folder.mkdir()
        hq = self._sqs.create_queue(QueueName=f"hq-{name}")["QueueUrl"]
        acme = self._sqs.create_queue(
            QueueName=f"acme-{name}" + (".fifo" if fifo else ""),
            Attributes={"FifoQueue": "true"} if fifo else {})["QueueUrl"]
        policy = yaml.safe_load(self.centre.policy_text(store=folder / "store.db"))
        queue = policy["queues"]["applications"]
        queue["backlog"]["hq"] |= {"ref": hq, "claim_seconds": 4, "poll_seconds": 0}
        queue["backlog"]["acme"] |= {"ref": acme, "claim_seconds": 4, "poll_seconds": 0}
        policy["probe_defaults"] |= {"fall": 1, "rise": 1, "timeout": "5s"}
        policy["queues"]["loan_calls"]["shift"] = {"increments": [50, 100], "soak": "0s"}
        policy["runbooks"] = {
            "full_failover": {"before": ["confirm"], "branch": [
                "redirect_intake", "shift_route", "transfer", {"verify": {"interval": 0.02}}]},
            "failback": {"before": ["confirm"], "branch": [
                {"hold_consumers": {"open": False}}, {"transfer": {"clear": True}},
                "redirect_intake", "shift_route", "transfer",
                {"hold_consumers": {"open": True}}, {"verify": {"interval": 0.02}}]},
        }
        path = folder / "policy.yaml"
        path.write_text(yaml.safe_dump(policy))
        trial = Trial(self, path, hq, acme)
        trial.reset()
        return trial

    def fill(self, url: str, items: Sequence[Mapping[str, str]]) -> None:
        import json

        for start in range(0, len(items), 10):
            self._sqs.send_message_batch(QueueUrl=url, Entries=[
                {"Id": str(index), "MessageBody": json.dumps(item)}
                for index, item in enumerate(items[start:start + 10])])

    def drain(self, url: str) -> Counter[str]:
        """Every id in the queue, counted; hidden ones are waited for. Deletes what it reads."""
        import json

        ids: Counter[str] = Counter()
        while True:
            found = self._sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10,
                                              WaitTimeSeconds=0).get("Messages", [])
            for message in found:
                ids[json.loads(message["Body"])["uli"]] += 1
                self._sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
            if not found:
                counts = self._sqs.get_queue_attributes(QueueUrl=url, AttributeNames=[
                    "ApproximateNumberOfMessages",
                    "ApproximateNumberOfMessagesNotVisible"])["Attributes"]
                if not any(int(value) for value in counts.values()):
                    return ids


@dataclass
class Trial:
    world: CrashWorld
    policy: Path
    hq: str
    acme: str

    ELIGIBLE = tuple(f"OK{n:02}" for n in range(12))
    INELIGIBLE = ("NO01", "NO02")

    def reset(self) -> None:
        centre = self.world.centre
        centre.put("switch", "/routes/loan_calls", {"shares": {"hq": 100}})
        centre.put("switch", "/routes/applications", {"shares": {"hq": 100}})
        centre.put("hq", "/consumers", {"open": False})
        self.world.fill(self.hq, [
            {"uli": uli, "application_date": "20180601", "state": state}
            for ids, state in ((self.ELIGIBLE, "TX"), (self.INELIGIBLE, "AK")) for uli in ids])

    def seen(self) -> Seen:
        """Reads the queues empty: the last thing to ask of a trial."""
        centre = self.world.centre
        return Seen(
            calls=centre.get("switch", "/routes/loan_calls")["shares"],
            intake=centre.get("switch", "/routes/applications")["shares"],
            hq=self.world.drain(self.hq), acme=self.world.drain(self.acme),
            gate=bool(centre.get("hq", "/consumers")["open"]))

    def desk(self, bomb: Bomb | None = None) -> Desk:
        environ = self.world.environ
        if bomb is None:
            return assemble(str(self.policy), environ=environ)
        return assemble(str(self.policy), environ=environ,
                        store=lambda store: Wired(store, bomb, WRITES),  # type: ignore[arg-type,return-value]
                        levers=lambda levers: WiredLevers(levers, bomb))  # type: ignore[arg-type,return-value]

    def start(self, runbook: str, bomb: Bomb | None = None, **request: Any) -> int:
        """In a process of its own; its exit code, or -9."""
        def job() -> int:
            desk = self.desk(bomb)
            prepared = prepare.prepare(desk, Request(
                runbook=runbook, subject="hq", reason="crash test", mode=Mode.REAL, **request))
            return int(runs.start(desk, prepared, confirmed="test").exit)

        return self.in_child(job, bomb)

    def resume(self, bomb: Bomb | None = None) -> int:
        return self.in_child(lambda: int(
            runs.resume(self.desk(bomb), None, confirmed="test").exit), bomb)

    def rollback(self, bomb: Bomb | None = None) -> int:
        return self.in_child(lambda: int(
            runs.rollback(self.desk(bomb), None, reason="test").exit), bomb)

    def in_child(self, job: Callable[[], int], bomb: Bomb | None = None) -> int:
        """Fork, do it, and tell how it ended. With a bomb that only counts, its log is kept."""
        log = self.policy.parent / "count.log"
        pid = os.fork()
        if pid == 0:
            code = 99
            try:
                code = job()
                if bomb is not None:
                    log.write_text("\n".join(bomb.log))
            except BaseException as error:
                with (self.policy.parent / "error.log").open("a") as file:
                    traceback.print_exception(error, file=file)
                code = int(getattr(error, "exit_code", 98))
            finally:
                os._exit(code)
        _, status = os.waitpid(pid, 0)
        return os.waitstatus_to_exitcode(status)

    def points(self) -> list[str]:
        """What a counting run wrote and did, in order."""
        return (self.policy.parent / "count.log").read_text().splitlines()

    def errors(self) -> str:
        file = self.policy.parent / "error.log"
        return file.read_text() if file.exists() else ""
