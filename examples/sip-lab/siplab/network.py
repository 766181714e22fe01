"""Network namespaces on one bridge, each a machine of its own, and what can go wrong with a line.

The bridge leads nowhere else and there is no default route, so that nothing gets out. Addresses
are the same in every lab; only the names of the namespaces are seen by the whole machine, and
those carry our pid.
"""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
from collections.abc import Mapping

HOSTS: Mapping[str, str] = {
    "carrier": "10.77.0.2",   # where callers come from
    "edge": "10.77.0.1",      # Kamailio, and ccfailover beside it
    "branch": "10.77.0.3",    # a second pair of eyes
    "hq": "10.77.0.11",
    "acme": "10.77.0.12",
    "message": "10.77.0.13",  # the announcement for whom nobody can take
}

_LABS = itertools.count()


class Network:
    """`with Network() as net`: everything is up; afterwards nothing of it is left."""

    def __init__(self) -> None:
        self.prefix = f"siplab{os.getpid()}x{next(_LABS)}"

    def __enter__(self) -> Network:
        try:
            self._up()
        except BaseException:
            self.down()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self.down()

    def name(self, host: str) -> str:
        return f"{self.prefix}-{host}"

    def inside(self, host: str, *command: str) -> list[str]:
        """The command line that runs `command` on `host`; its pid is the command's own."""
        return ["ip", "netns", "exec", self.name(host), *command]

    def _up(self) -> None:
        bridge = self.name("bridge")
        _run("ip", "netns", "add", bridge)
        _run("ip", "-n", bridge, "link", "add", "br0", "type", "bridge")
        _run("ip", "-n", bridge, "link", "set", "br0", "up")
        for host, address in HOSTS.items():
            name = self.name(host)
            _run("ip", "netns", "add", name)
            _run("ip", "-n", bridge, "link", "add", "name", _port(host),
                 "type", "veth", "peer", "name", "eth0", "netns", name)
            _run("ip", "-n", bridge, "link", "set", "dev", _port(host), "master", "br0", "up")
            _run("ip", "-n", name, "link", "set", "lo", "up")
            _run("ip", "-n", name, "address", "add", f"{address}/24", "dev", "eth0")
            _run("ip", "-n", name, "link", "set", "eth0", "up")

    def down(self) -> None:
        """Whatever is there of it; a namespace takes its end of every cable with it."""
        ours = [self.name(host) for host in (*HOSTS, "bridge")]
        there = set(os.listdir("/run/netns")) if os.path.isdir("/run/netns") else set()
        for name in ours:
            if name in there:
                _run("ip", "netns", "delete", name)

    def overflowed(self, host: str) -> int:
        """Datagrams that came to `host` and found the buffer of whom they were for full."""
        table = _run(*self.inside(host, "cat", "/proc/net/snmp"))
        names, values = (line.split() for line in table.splitlines() if line.startswith("Udp: "))
        return int(dict(zip(names, values, strict=True))["RcvbufErrors"])

    def cut(self, host: str) -> None:
        """The cable is pulled: nothing passes either way."""
        _run("ip", "-n", self.name("bridge"), "link", "set", "dev", _port(host), "down")

    def mend(self, host: str) -> None:
        _run("ip", "-n", self.name("bridge"), "link", "set", "dev", _port(host), "up")

    def mute(self, host: str) -> None:
        """One-way loss on the cable: `host` hears everything, and nothing that it says arrives.

        ARP passes, so that the others go on sending."""
        _run("ip", "netns", "exec", self.name("bridge"), "nft", "-f", "-", said=(
            "add table netdev siplab\n"
            f'add chain netdev siplab lost {{ type filter hook ingress device "{_port(host)}" '
            "priority 0; }\n"
            "add rule netdev siplab lost ip protocol { udp, tcp, icmp } drop\n"))

    def unmute(self, host: str) -> None:
        _run("ip", "netns", "exec", self.name("bridge"), "nft", "delete", "table", "netdev",
             "siplab")


def stop(process: subprocess.Popen[bytes], seconds: float = 5.0) -> None:
    """SIGTERM, and SIGKILL to what does not go by it: to all of its group, which is its own."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(60)  # it cannot refuse, only be late on a machine that has no time


def _port(host: str) -> str:
    """The bridge's end of the cable to `host`."""
    return f"to-{host}"


def _run(*command: str, said: str | None = None) -> str:
    done = subprocess.run(command, input=said, capture_output=True, text=True, timeout=20,
                          check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip() or done.returncode}")
    return done.stdout
