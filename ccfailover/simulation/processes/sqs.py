"""The few SQS calls that a site makes, in the service's JSON protocol, signed (SigV4).

Not boto3, on purpose: the demo's servers check what ccfailover did through boto3, and a check
should not share its eyes. It also keeps a user's own AWS settings out of the demo.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from ccfailover.simulation.processes.calling import call

KEY_ID = "LOCALDEMO"
SECRET = "local-demo-only"
"""Any pair does: the local server accepts every signature. Never used outside loopback."""


class QueueError(Exception):
    """The queue's server refused or did not answer. `sent`: the call may have taken effect."""

    def __init__(self, message: str, *, sent: bool) -> None:
        super().__init__(message)
        self.sent = sent


class Sqs:
    def __init__(self, endpoint: str, *, region: str = "us-east-1", timeout: float = 5.0) -> None:
        self._endpoint = endpoint
        self._region = region
        self._timeout = timeout

    def ask(self, action: str, **parameters: Any) -> dict[str, Any]:
        """One API call. Raises QueueError; the text never holds a message body."""
        wait = float(parameters.get("WaitTimeSeconds", 0))
        body = json.dumps(parameters).encode()
        target = f"AmazonSQS.{action}"
        answer = call("POST", self._endpoint + "/", body, timeout=self._timeout + wait,
                      headers=self._signed(target, body))
        if not answer.ok:
            shown = answer.reason or f"HTTP {answer.status}"
            raise QueueError(f"{action} at {self._endpoint}: {shown}", sent=answer.sent)
        try:
            value = answer.json()
        except ValueError:
            raise QueueError(f"{action} at {self._endpoint}: no JSON", sent=True) from None
        return value if isinstance(value, dict) else {}

    def create_queue(self, name: str, **attributes: str) -> str:
        """The new queue's URL."""
        return str(self.ask("CreateQueue", QueueName=name, Attributes=attributes)["QueueUrl"])

    def send(self, queue_url: str, body: str, *, key: str, group: str = "",
             attributes: Mapping[str, str] | None = None) -> str:
        """The message's id. `key` is the FIFO deduplication id."""
        entry = _entry(queue_url, body, key=key, group=group, attributes=attributes)
        return str(self.ask("SendMessage", QueueUrl=queue_url, **entry)["MessageId"])

    def send_batch(self, queue_url: str, entries: Sequence[tuple[str, str]]) -> None:
        """Up to ten (key, body). Raises QueueError when any was not taken."""
        result = self.ask("SendMessageBatch", QueueUrl=queue_url, Entries=[
            {"Id": str(index), **_entry(queue_url, body, key=key)}
            for index, (key, body) in enumerate(entries)
        ])
        if result.get("Failed"):
            raise QueueError(f"{len(result['Failed'])} messages not taken", sent=True)

    def receive(self, queue_url: str, limit: int, *, wait: int,
                hide: int | None = None) -> list[dict[str, Any]]:
        """Up to ten messages, hidden for `hide` seconds (None: as the queue says)."""
        hidden = {} if hide is None else {"VisibilityTimeout": hide}
        reply = self.ask("ReceiveMessage", QueueUrl=queue_url, MaxNumberOfMessages=limit,
                         WaitTimeSeconds=wait, **hidden)
        return list(reply.get("Messages") or [])

    def delete(self, queue_url: str, handle: str) -> None:
        self.ask("DeleteMessage", QueueUrl=queue_url, ReceiptHandle=handle)

    def release(self, queue_url: str, handle: str) -> None:
        """Visible to others at once."""
        self.ask("ChangeMessageVisibility", QueueUrl=queue_url, ReceiptHandle=handle,
                 VisibilityTimeout=0)

    def depth(self, queue_url: str) -> tuple[int, int]:
        """(visible, hidden), hidden being claimed or delayed."""
        reply = self.ask("GetQueueAttributes", QueueUrl=queue_url, AttributeNames=["All"])
        counts = reply["Attributes"]
        number = "ApproximateNumberOfMessages"
        hidden = int(counts[f"{number}NotVisible"]) + int(counts[f"{number}Delayed"])
        return int(counts[number]), hidden

    def _signed(self, target: str, body: bytes) -> dict[str, str]:
        """AWS Signature Version 4 of a POST to `/`."""
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
        host = urlsplit(self._endpoint).netloc
        headers = {"content-type": "application/x-amz-json-1.0", "host": host,
                   "x-amz-date": stamp, "x-amz-target": target}
        names = ";".join(headers)
        canonical = "\n".join([
            "POST", "/", "", *(f"{name}:{value}" for name, value in headers.items()), "",
            names, hashlib.sha256(body).hexdigest(),
        ])
        scope = f"{stamp[:8]}/{self._region}/sqs/aws4_request"
        text = "\n".join(["AWS4-HMAC-SHA256", stamp, scope,
                          hashlib.sha256(canonical.encode()).hexdigest()])
        key = f"AWS4{SECRET}".encode()
        for part in scope.split("/"):
            key = hmac.digest(key, part.encode(), "sha256")
        signature = hmac.digest(key, text.encode(), "sha256").hex()
        return {
            "Content-Type": headers["content-type"],
            "X-Amz-Date": stamp,
            "X-Amz-Target": target,
            "Authorization": f"AWS4-HMAC-SHA256 Credential={KEY_ID}/{scope}, "
                             f"SignedHeaders={names}, Signature={signature}",
        }


def _entry(queue_url: str, body: str, *, key: str, group: str = "",
           attributes: Mapping[str, str] | None = None) -> dict[str, Any]:
    entry: dict[str, Any] = {"MessageBody": body}
    if attributes:
        entry["MessageAttributes"] = {
            name: {"DataType": "String", "StringValue": value}
            for name, value in attributes.items()
        }
    if queue_url.endswith(".fifo"):
        entry["MessageDeduplicationId"] = key[:128]
        # One group for each application: nothing needs the order of two borrowers, and one
        # group for all would let a single claimed message block the whole queue.
        entry["MessageGroupId"] = (group or key)[:128]
    return entry
