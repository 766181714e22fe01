"""A private RabbitMQ on loopback: own folder, own node name, own cookie, own EPMD.

Debian's wrapper in /usr/sbin becomes the user `rabbitmq` and wants its folders; the programs
behind it run as whoever starts them, root too.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

PASSWORD = "pw:0nly/for@tests"
USER, GUEST = "ccf", "onlooker"
"""`onlooker` may read in the vhost `loans`, and neither write nor configure."""
VHOST = "loans"
PROGRAMS = Path("/usr/lib/rabbitmq/bin")


class Rabbit:
    """One broker; `url()` is how a provider reaches it. It can be killed and started again."""

    def __init__(self, *, plugins: Sequence[str] = ()) -> None:
        self.place = Path(tempfile.mkdtemp(prefix="ccfailover-rmq-"))
        self._node = f"ccf{os.getpid()}@localhost"
        self.port, self._epmd_port, self._dist_port, self.http_port = _free_ports(4)
        self._plugins = plugins
        self._epmd: subprocess.Popen[bytes] | None = None
        self._process: subprocess.Popen[bytes] | None = None
        cookie = self.place / ".erlang.cookie"
        cookie.write_text(hashlib.sha256(os.urandom(16)).hexdigest()[:20])
        cookie.chmod(0o400)
        (self.place / "plugins").write_text(f"[{','.join(plugins)}].\n")
        (self.place / "definitions.json").write_text(json.dumps(_definitions()))
        (self.place / "rabbitmq.conf").write_text("\n".join([
            f"listeners.tcp.1 = 127.0.0.1:{self.port}",
            "log.console = false", "log.file.level = warning",
            "disk_free_limit.absolute = 50MB",
            f"load_definitions = {self.place / 'definitions.json'}",
            *(["management.tcp.ip = 127.0.0.1", f"management.tcp.port = {self.http_port}"]
              if "rabbitmq_management" in plugins else [])]) + "\n")

    def start(self) -> Rabbit:
        """Returns when it takes connections and has read its definitions (about six seconds)."""
        env = self._environment()
        if self._epmd is None:
            self._epmd = self._spawn(["epmd", "-address", "127.0.0.1", "-port",
                                      str(self._epmd_port)], env)
            _until(lambda: _answers(self._epmd_port), self._epmd, 10, "EPMD")
        self._process = self._spawn([str(PROGRAMS / "rabbitmq-server")], env)
        _until(lambda: _speaks_amqp(self.port), self._process, 60, "RabbitMQ")
        return self

    def kill(self) -> None:
        """SIGKILL to the Erlang machine: connections break, what is on disk stays."""
        if self._process is None:
            return
        for pid in reversed(_family(self._process.pid)):
            os.kill(pid, signal.SIGKILL)
        self._process.wait(10)
        self._process = None

    def discard(self) -> None:
        self.kill()
        if self._epmd is not None:
            self._epmd.kill()
            self._epmd.wait(10)
        shutil.rmtree(self.place, ignore_errors=True)

    def url(self, *, port: int | None = None, user: str = USER, password: str = PASSWORD,
            vhost: str = VHOST) -> str:
        secret = password.replace(":", "%3A").replace("/", "%2F").replace("@", "%40")
        return f"amqp://{user}:{secret}@127.0.0.1:{port or self.port}/{vhost}"

    def evaluate(self, erlang: str) -> str:
        """An expression inside the broker (50 ms; rabbitmqctl needs seconds)."""
        done = subprocess.run(
            ["erl_call", "-sname", self._node, "-c",
             (self.place / ".erlang.cookie").read_text(), "-e"],
            input=f"{erlang}.\n", capture_output=True, text=True, timeout=30,
            env=self._environment())
        if done.returncode or "{error" in done.stdout[:20]:
            raise RuntimeError(f"erl_call: {done.stdout[-500:]}{done.stderr[-500:]}")
        return done.stdout

    def alarm(self, on: bool) -> None:
        """As if it ran out of memory: it stops reading from whoever publishes."""
        call = "set_alarm" if on else "clear_alarm"
        what = "{resource_limit, memory, node()}"
        self.evaluate(f"rabbit_alarm:{call}({'{' + what + ', []}' if on else what})")

    def total(self, queue: str, vhost: str = VHOST) -> int:
        """Messages of a queue, those that somebody holds too. A queue answers this before it does
        what it was told by then, so that only what it says twice is taken for true."""
        last, now = -1, self._total(queue, vhost)
        while now != last:
            time.sleep(0.03)
            last, now = now, self._total(queue, vhost)
        return now

    def _total(self, queue: str, vhost: str) -> int:
        shown = self.evaluate(f"""
            {{ok, Q}} = rabbit_amqqueue:lookup(rabbit_misc:r(<<"{vhost}">>, queue, <<"{queue}">>)),
            case amqqueue:get_type(Q) of
                rabbit_quorum_queue ->
                    {{ok, {{_, N}}, _}} = ra:local_query(
                        amqqueue:get_pid(Q), fun rabbit_fifo:query_messages_total/1), N;
                _ -> [{{messages, N}}] = rabbit_amqqueue:info(Q, [messages]), N
            end""")
        return int(shown.removeprefix("{ok, ").removesuffix("}"))

    def _environment(self) -> dict[str, str]:
        place = self.place
        return {
            "PATH": f"{PROGRAMS}:/usr/bin:/bin:/usr/sbin:/sbin", "HOME": str(place),
            "LANG": "C.UTF-8",
            "RABBITMQ_NODENAME": self._node, "RABBITMQ_MNESIA_BASE": str(place / "mnesia"),
            "RABBITMQ_LOG_BASE": str(place / "log"),
            "RABBITMQ_CONFIG_FILE": str(place / "rabbitmq.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(place / "plugins"),
            "RABBITMQ_CONF_ENV_FILE": os.devnull, "RABBITMQ_PID_FILE": str(place / "pid"),
            "RABBITMQ_DIST_PORT": str(self._dist_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1", "ERL_EPMD_PORT": str(self._epmd_port),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS":
                "-kernel inet_dist_use_interface {127,0,0,1}",
        }

    def _spawn(self, command: Sequence[str], env: dict[str, str]) -> subprocess.Popen[bytes]:
        with (self.place / "out").open("ab") as out:
            return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                                    cwd=self.place, env=env)


class Direct:
    """A client past the adapter, of another make: pika, one call at a time."""

    def __init__(self, url: str) -> None:
        import pika

        self._connection = pika.BlockingConnection(pika.URLParameters(url))
        self.channel: Any = self._connection.channel()
        self.channel.confirm_delivery()
        self._properties = pika.BasicProperties

    def __enter__(self) -> Direct:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._connection.close()

    def declare(self, queue: str, **arguments: str | int) -> None:
        """A durable queue; `x_max_length=1` is the argument `x-max-length`."""
        self.channel.queue_declare(queue, durable=True, arguments={
            name.replace("_", "-"): value for name, value in arguments.items()})

    def delete(self, *queues: str) -> None:
        for queue in queues:
            self.channel.queue_delete(queue)

    def send(self, queue: str, body: bytes, **properties: Any) -> None:
        self.channel.basic_publish("", queue, body,
                                   self._properties(delivery_mode=2, **properties))

    def depth(self, queue: str) -> int:
        """What waits; what somebody holds is not counted."""
        return int(self.channel.queue_declare(queue, passive=True).method.message_count)

    def take(self, queue: str) -> list[tuple[bytes, Any]]:
        """Everything that waits, with its properties; it is in the queue again after that."""
        found, last = [], 0
        while True:
            method, properties, body = self.channel.basic_get(queue)
            if method is None:
                break
            found.append((body, properties))
            last = method.delivery_tag
        if last:
            self.channel.basic_nack(last, multiple=True, requeue=True)
        return found


def _definitions() -> dict[str, object]:
    def user(name: str, tags: str) -> dict[str, str]:
        salt = b"salt"
        mixed = salt + hashlib.sha256(salt + PASSWORD.encode()).digest()
        return {"name": name, "tags": tags, "password_hash": base64.b64encode(mixed).decode(),
                "hashing_algorithm": "rabbit_password_hashing_sha256"}

    def may(name: str, vhost: str, write: str) -> dict[str, str]:
        return {"user": name, "vhost": vhost, "configure": write, "write": write, "read": ".*"}

    return {
        "users": [user(USER, "administrator"), user(GUEST, "")],
        "vhosts": [{"name": "/"}, {"name": VHOST}],
        "permissions": [may(USER, "/", ".*"), may(USER, VHOST, ".*"), may(GUEST, VHOST, "^$")],
    }


def _family(pid: int) -> list[int]:
    family = [pid]
    for each in family:
        for task in Path(f"/proc/{each}/task").glob("*/children"):
            family += [int(child) for child in task.read_text().split()]
    return family


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def _speaks_amqp(port: int) -> bool:
    """It answers the protocol header with connection.start: then it also takes logins."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2) as link:
            link.sendall(b"AMQP\0\0\x09\x01")
            return link.recv(1) == b"\x01"
    except OSError:
        return False


def _until(ready: object, process: subprocess.Popen[bytes], seconds: float, what: str) -> None:
    assert callable(ready)
    end = time.monotonic() + seconds
    while not ready():
        if process.poll() is not None or time.monotonic() > end:
            raise RuntimeError(f"{what} did not come up")
        time.sleep(0.05)


def _free_ports(count: int) -> list[int]:
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(each.getsockname()[1]) for each in held]
    for each in held:
        each.close()
    return ports
