"""Takes applications from a site's own queue, completes them, and records each on disk."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

from ccfailover.simulation.processes.sqs import QueueError, Sqs


class Consumer:
    """Completes `rate` applications a second while its gate is open.

    An id is on disk before its message is deleted: a kill between the two makes the work be
    done again, and the file shows the id twice. What was received but not begun when the gate
    closes is made visible to others at once.
    """

    def __init__(self, sqs: Sqs, queue_url: str, rate: float, record: Path,
                 *, is_open: bool) -> None:
        self._sqs = sqs
        self._queue_url = queue_url
        self._rate = rate
        # Half a second of work: well inside any visibility time-out.
        self._batch = max(1, min(10, int(rate / 2)))
        self._record = os.open(record, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self._completed = record.read_bytes().count(b"\n")
        self._gate = threading.Condition()
        self._open = is_open
        self._receiving = False
        self._in_hand = 0
        self._malformed = 0

    def start(self) -> None:
        threading.Thread(target=self._work, daemon=True).start()

    def set_open(self, is_open: bool) -> None:
        """Closing waits up to two seconds until nothing is in hand any more."""
        with self._gate:
            self._open = is_open
            self._gate.notify_all()
            if not is_open:
                self._gate.wait_for(lambda: not (self._receiving or self._in_hand), 2.0)

    def state(self) -> dict[str, Any]:
        with self._gate:
            return {"open": self._open, "in_hand": self._in_hand}

    def counts(self) -> dict[str, int]:
        with self._gate:
            return {"completed": self._completed, "malformed": self._malformed,
                    "in_hand": self._in_hand}

    def _work(self) -> None:
        while True:
            with self._gate:
                self._gate.wait_for(lambda: self._open and self._rate > 0)
                self._receiving = True
            messages: list[dict[str, Any]] = []
            try:
                # A short wait, so that a gate that closes is closed soon.
                messages = self._sqs.receive(self._queue_url, self._batch, wait=1)
            except QueueError as error:
                sys.stderr.write(f"consumer: {error}\n")
                self._pause(0.5)
            with self._gate:
                self._in_hand = len(messages)
                self._receiving = False
            for message in messages:
                self._one(message)
                with self._gate:
                    self._in_hand -= 1
            with self._gate:
                self._gate.notify_all()

    def _one(self, message: dict[str, Any]) -> None:
        handle = str(message["ReceiptHandle"])
        try:
            if not self._pause(1.0 / self._rate):
                self._sqs.release(self._queue_url, handle)
                return
            uli = _uli(str(message.get("Body", "")))
            if uli is None:
                # Nobody can work on it; it comes back after the queue's visibility time-out.
                with self._gate:
                    self._malformed += 1
                return
            line = json.dumps({"uli": uli, "at": time.time_ns() // 1000,
                               "message_id": message.get("MessageId", "")}) + "\n"
            os.write(self._record, line.encode())
            os.fsync(self._record)
            with self._gate:
                self._completed += 1
            self._sqs.delete(self._queue_url, handle)
        except QueueError as error:
            sys.stderr.write(f"consumer: {error}\n")

    def _pause(self, seconds: float) -> bool:
        """Work for `seconds`; False when the gate closed meanwhile."""
        with self._gate:
            self._gate.wait_for(lambda: not self._open, seconds)
            return self._open


def _uli(body: str) -> str | None:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return None
    uli = value.get("uli") if isinstance(value, dict) else None
    return uli if isinstance(uli, str) and 0 < len(uli) <= 64 else None
