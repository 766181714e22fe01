"""A private PostgreSQL on loopback: initialised in a folder of its own, never as root."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

PASSWORD = "pw-only-for-tests"

_PLAIN = {"LC_ALL": "C", "PATH": "/usr/bin:/bin"}


class Postgres:
    """One server. `dsn(database)` is how a store reaches it; it can be stopped and started.

    `beside`: a further address to listen on, in a network of our own."""

    def __init__(self, programs: Path, *settings: str, beside: str | None = None) -> None:
        # Not below pytest's own folder: every pytest that starts closes that to other users.
        self.place = place = Path(tempfile.mkdtemp(prefix="ccfailover-pg-"))
        self.programs = programs
        self._data, self._sockets = place / "data", place / "run"
        self._settings = settings
        self._addresses = ",".join(["127.0.0.1", *([beside] if beside else [])])
        self._process: subprocess.Popen[bytes] | None = None
        self._user = _unprivileged()
        self.port = _free_port()
        self._databases = 0
        self._sockets.mkdir()
        if self._user is not None:
            os.chown(place, self._user.pw_uid, self._user.pw_gid)
            os.chown(self._sockets, self._user.pw_uid, self._user.pw_gid)
        place.chmod(0o711)
        secret = place / "password"
        secret.write_text(PASSWORD)
        secret.chmod(0o644)
        self._run([str(programs / "initdb"), "-D", str(self._data), "-U", "ccf", "-E", "UTF8",
                   "--locale=C", "--no-sync", "-A", "scram-sha-256", "--pwfile", str(secret)])
        if beside:
            with (self._data / "pg_hba.conf").open("a") as access:
                access.write("host all all samehost scram-sha-256\n"
                             "host all all samenet scram-sha-256\n")

    def start(self) -> Postgres:
        command = [str(self.programs / "postgres"), "-D", str(self._data), "-p", str(self.port),
                   "-h", self._addresses, "-k", str(self._sockets), "-F",
                   "-c", "shared_buffers=16MB"]
        for setting in self._settings:
            command += ["-c", setting]
        self._process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=(self.place / "log").open("ab"), cwd="/", env=_PLAIN, **self._as_user())
        self._wait()
        return self

    def stop(self, how: str = "fast") -> None:
        """`fast` ends connections in order, `immediate` is a crash. Idempotent."""
        if self._process is None:
            return
        self._process.send_signal({"fast": signal.SIGINT, "immediate": signal.SIGQUIT}[how])
        self._process.wait(30)
        self._process = None

    def freeze(self) -> None:
        """SIGSTOP to every process of it: connections stay, and nothing answers."""
        self._signal_all(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal_all(signal.SIGCONT)

    def _signal_all(self, number: signal.Signals) -> None:
        assert self._process is not None
        family = [self._process.pid]
        for pid in family:
            for task in Path(f"/proc/{pid}/task").glob("*/children"):
                family += [int(child) for child in task.read_text().split()]
        for pid in family:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def discard(self) -> None:
        """Stop it without ado, and remove all that it kept."""
        self.stop("immediate")
        shutil.rmtree(self.place, ignore_errors=True)

    def new_database(self, name: str | None = None) -> str:
        """An empty database; its DSN."""
        self._databases += 1
        name = name or f"test{self._databases}"
        self.sql(f"CREATE DATABASE {name} TEMPLATE template0 STRATEGY wal_log")
        return self.dsn(name)

    def dsn(self, database: str) -> str:
        return f"postgresql://ccf:{PASSWORD}@127.0.0.1:{self.port}/{database}"

    def sql(self, statement: str, database: str = "postgres") -> list[tuple[object, ...]]:
        import psycopg

        with psycopg.connect(self.dsn(database), autocommit=True) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description is not None else []

    def _wait(self) -> None:
        import psycopg

        assert self._process is not None
        for _ in range(400):
            if self._process.poll() is not None:
                break
            try:
                psycopg.connect(self.dsn("postgres"), connect_timeout=2).close()
            except psycopg.OperationalError:
                time.sleep(0.05)
            else:
                return
        log = (self.place / "log").read_text()[-2000:]
        raise RuntimeError(f"PostgreSQL did not come up: {log}")

    def _run(self, command: Sequence[str]) -> None:
        done = subprocess.run(command, capture_output=True, text=True, cwd="/", timeout=120,
                              env=_PLAIN, **self._as_user())
        if done.returncode:
            raise RuntimeError(f"{command[0]}: {done.stderr[-2000:]}")

    def _as_user(self) -> dict[str, object]:
        if self._user is None:
            return {}
        return {"user": self._user.pw_uid, "group": self._user.pw_gid, "extra_groups": []}


def _unprivileged() -> pwd.struct_passwd | None:
    """Whom the server runs as: it refuses to be root."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise RuntimeError("root, and no user `postgres` or `nobody` to run a server as")


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])
