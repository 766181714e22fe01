"""A private OpenSSH server on loopback, with keys of its own, for SFTP only.

Each session's sftp-server runs behind `sftpweather.py`, so that a test can lose an answer."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
_SFTP_SERVERS = ("/usr/lib/openssh/sftp-server", "/usr/libexec/openssh/sftp-server",
                 "/usr/lib/ssh/sftp-server", "/usr/libexec/sftp-server")


class Sshd:
    """One server. `drop` is the folder that logins see as `/…/drop`; `user` logs in by `key`."""

    def __init__(self, program: str) -> None:
        self.place = Path(tempfile.mkdtemp(prefix="ccfailover-sshd-"))
        self.drop = self.place / "drop"
        self.drop.mkdir()
        self.weather = self.place / "weather"
        self.weather.mkdir()
        self.user = getpass.getuser()
        self.key = self._make_key("login")
        self.other_key = self._make_key("other")
        self._host = self._make_key("host")
        self._program = program
        self._process: subprocess.Popen[bytes] | None = None
        self.port = _free_port()
        authorized = self.place / "authorized"
        authorized.write_text((self.place / "login.pub").read_text())
        authorized.chmod(0o600)
        real = next(path for path in _SFTP_SERVERS if Path(path).exists())
        (self.place / "config").write_text("\n".join([
            f"Port {self.port}", "ListenAddress 127.0.0.1", f"HostKey {self._host}",
            "PidFile none", f"AuthorizedKeysFile {authorized}", "StrictModes no", "UsePAM no",
            "PasswordAuthentication no", "KbdInteractiveAuthentication no",
            "PermitRootLogin prohibit-password", "MaxStartups 100", "UseDNS no",
            f"Subsystem sftp {sys.executable} -S -E {HERE / 'sftpweather.py'} "
            f"{self.weather} {real}", ""]))

    @property
    def host_key(self) -> str:
        return " ".join((self.place / "host.pub").read_text().split()[:2])

    @property
    def other_host_key(self) -> str:
        return " ".join((self.place / "other.pub").read_text().split()[:2])

    def start(self) -> Sshd:
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)  # where it locks itself in before a login
        self._process = subprocess.Popen(
            [self._program, "-D", "-e", "-f", str(self.place / "config")],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=(self.place / "log").open("ab"), cwd="/")
        for _ in range(400):
            if self._process.poll() is not None:
                break
            try:
                with socket.create_connection(("127.0.0.1", self.port), timeout=2) as probe:
                    if probe.recv(4) == b"SSH-":
                        return self
            except OSError:
                time.sleep(0.02)
        raise RuntimeError(f"sshd did not come up: {(self.place / 'log').read_text()[-2000:]}")

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(10)
            self._process = None

    def discard(self) -> None:
        self.stop()
        shutil.rmtree(self.place, ignore_errors=True)

    def _make_key(self, name: str) -> Path:
        path = self.place / name
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f",
                        str(path)], check=True, stdin=subprocess.DEVNULL, timeout=30)
        return path


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])
