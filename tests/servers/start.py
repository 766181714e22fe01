"""Starting real servers for tests, each on a free port of loopback, and stopping them by pid."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).resolve().parent


@contextmanager
def switch(token: str) -> Iterator[int]:
    """The tiny HTTP switch; gives its port."""
    with _process([sys.executable, str(HERE / "switch.py"), "--token", token],
                  stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        yield int(json.loads(process.stdout.readline())["port"])


@contextmanager
def intake(token: str) -> Iterator[int]:
    """A provider's intake; gives its port."""
    with _process([sys.executable, str(HERE / "intake.py"), "--token", token],
                  stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        yield int(json.loads(process.stdout.readline())["port"])


@contextmanager
def roto(program: str) -> Iterator[int]:
    """An SQS-compatible server; gives its port once it answers. It takes no port 0, so a port
    that somebody else grabbed in between costs another try."""
    for _ in range(5):
        port = free_port()
        with _process([program, "--port", str(port), "--ephemeral"],
                      stdout=subprocess.DEVNULL) as process:
            if answers(port, process):
                yield port
                return
    raise RuntimeError(f"{program} did not come up")


@contextmanager
def _process(command: list[str], stdout: int) -> Iterator[subprocess.Popen[bytes]]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "ROTO_"))}
    process = subprocess.Popen(command, stdout=stdout, stderr=subprocess.DEVNULL,
                               stdin=subprocess.DEVNULL, env=clean)
    try:
        yield process
    finally:
        process.kill()
        process.wait(10)
        if process.stdout is not None:
            process.stdout.close()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def answers(port: int, process: subprocess.Popen[bytes]) -> bool:
    for _ in range(200):
        if process.poll() is not None:
            return False
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=1).close()
        except urllib.error.HTTPError as error:
            error.close()
            return True
        except OSError:
            time.sleep(0.05)
        else:
            return True
    return False
