"""Server processes on loopback ports of their own, tied to the life of this process."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

from ccfailover.errors import UsageError

_ROOT = Path(__file__).resolve().parents[2]
_PASSED = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH", "SYSTEMROOT")
"""All that a server learns of our environment: it has no business with the user's secrets."""


class Port:
    """A free port of 127.0.0.1, kept for us while nobody listens on it.

    A socket that is bound, with SO_REUSEADDR, and never listens: a caller is refused, our server
    may bind beside it, and the system gives the number to nobody else, neither to a program that
    asks for any free port nor as the source of an outgoing connection (which, aimed at a dead
    server, could otherwise meet itself).
    """

    def __init__(self) -> None:
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind(("127.0.0.1", 0))
        self.number: int = self._socket.getsockname()[1]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.number}"

    def close(self) -> None:
        self._socket.close()


class Child:
    """One server. Its standard input is a pipe that we hold; when we are gone, so is it."""

    def __init__(self, name: str, argv: list[str], port: Port, directory: Path) -> None:
        self.name = name
        self.argv = argv
        self.log = directory / f"{name}.log"
        self._port = port
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = os.getpid()

    @property
    def url(self) -> str:
        return self._port.url

    @property
    def pid(self) -> int:
        return self._process.pid if self._process else 0

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        environment = {key: os.environ[key] for key in _PASSED if key in os.environ}
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self.argv, stdin=subprocess.PIPE, stdout=log, stderr=log, cwd=self._directory,
                env={**environment, "PYTHONPATH": str(_ROOT), "PYTHONSAFEPATH": "1"},
                start_new_session=True,  # Ctrl-C is for us; we then end the servers in order
            )

    def kill(self) -> None:
        """SIGKILL, and wait. A tether is asked instead to SIGKILL what it holds."""
        if self._process is None or not self._ours():
            return
        if _is_tether(self.argv):
            self._process.terminate()
        else:
            self._process.kill()
        self._reap(5.0)

    def end(self) -> None:
        """Asks it to end; `close` waits."""
        if self._process is not None and self._ours() and self.alive:
            self._process.terminate()

    def close(self) -> None:
        """Waits for the end, by force after five seconds, and gives the port back."""
        if self._ours():
            self._reap(5.0)
        self._port.close()

    def _ours(self) -> bool:
        """False in a fork of the process that started the server: not its to kill."""
        return os.getpid() == self._owner

    def _reap(self, patience: float) -> None:
        if self._process is None:
            return
        try:
            self._process.wait(patience)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdin is not None:
            self._process.stdin.close()


def module(name: str, *arguments: str) -> list[str]:
    """The command that runs one of our server programs."""
    return [sys.executable, "-m", f"ccfailover.simulation.processes.{name}", *arguments]


def _is_tether(argv: list[str]) -> bool:
    return argv[2].endswith(".tether")


def find_program(name: str, *, extra: str) -> str:
    """Beside this Python, then on PATH. Raises UsageError naming the extra that installs it."""
    beside = str(Path(sys.executable).parent)
    found = shutil.which(name, path=beside) or shutil.which(name)
    if found is None:
        raise UsageError(f"the program {name} is not installed",
                         not_done="nothing was started",
                         hint=f"pip install 'ccfailover[{extra}]'")
    return found
