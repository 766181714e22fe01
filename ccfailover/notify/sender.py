"""A program of its own: sends one notification through Apprise and says how that went.

Started by `delivery.apprise_send` as a file, so it imports nothing of ccfailover. Being a process
is what bounds it: a receiver that drips its answer for ever is ended with it, and the address
(which holds passwords) comes through stdin, where no process list shows it.

stdin: {"url", "title", "body"}; stdout: {"result": "sent" | "address" | "failed", "status": int}.
"""

from __future__ import annotations

import json
import logging
import re
import sys

MOST_MEMORY = 1 << 30


class _Status(logging.Handler):
    """Keeps the HTTP status out of Apprise's own log line, and nothing else of it."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.status = 0

    def emit(self, record: logging.LogRecord) -> None:
        found = re.search(r"\berror=(\d{3})\b", record.getMessage())
        if found:
            self.status = int(found.group(1))


def _limit_memory() -> None:
    try:
        import resource
    except ImportError:  # not a Unix: the parent's time-out is the only bound
        return
    resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))


def main() -> None:
    answer, sys.stdout = sys.stdout, sys.stderr  # a plugin's chatter must not become the answer
    _limit_memory()
    job = json.load(sys.stdin)
    import apprise

    heard = _Status()
    log = logging.getLogger("apprise")
    log.addHandler(heard)
    log.propagate = False
    app = apprise.Apprise()
    result = "address"
    if app.add(job["url"]):
        sent = app.notify(title=job["title"], body=job["body"],
                          body_format=apprise.NotifyFormat.TEXT)
        result = "sent" if sent else "failed"
    json.dump({"result": result, "status": heard.status}, answer)
    answer.flush()


if __name__ == "__main__":
    main()
