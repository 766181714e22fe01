"""A BIND of our own on loopback: the primary of one zone that takes dynamic updates by TSIG.

Looked at past the adapter by UDP and without a key; changed by others with a key of their own.
"""

from __future__ import annotations

import base64
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import dns.exception
import dns.message
import dns.query
import dns.rcode
import dns.rdatatype
import dns.tsig
import dns.update

from tests.servers.start import free_port

ZONE = "cc.test"
SECRET = base64.b64encode(b"5ecret of the key that tests use").decode()
OTHERS = base64.b64encode(b"and the key of somebody else....").decode()
CONFIGURATION = """\
options {{ directory "{place}"; listen-on port {port} {{ 127.0.0.1; }};
  listen-on-v6 {{ none; }}; recursion no; dnssec-validation no; notify no; minimal-responses yes;
  pid-file "named.pid"; session-keyfile "session.key"; tcp-clients 100; }};
controls {{ }};
key ccf {{ algorithm hmac-sha256; secret "{secret}"; }};
key console {{ algorithm hmac-sha256; secret "{others}"; }};
key onlooker {{ algorithm hmac-sha256; secret "{secret}"; }};
zone "{zone}" {{ type primary; file "zone";
  update-policy {{ grant ccf zonesub ANY; grant console zonesub ANY; }}; }};
zone "elsewhere.test" {{ type primary; file "elsewhere"; allow-query {{ none; }}; }};
zone "fixed.test" {{ type primary; file "elsewhere"; }};
zone "broken.test" {{ type primary; file "broken";
  update-policy {{ grant ccf zonesub ANY; }}; }};
"""
ZONE_FILE = """\
$ORIGIN {zone}.
$TTL 5
@ SOA ns hostmaster 1 60 10 3600 5
@ NS ns
ns A 127.0.0.1
hq A 127.0.0.11
acme A 127.0.0.12
"""


class Bind:
    def __init__(self, program: str) -> None:
        self.place = Path(tempfile.mkdtemp(prefix="ccfailover-bind-"))
        self._program = program
        self._process: subprocess.Popen[bytes] | None = None
        (self.place / "zone").write_text(ZONE_FILE.format(zone=ZONE))
        for name in ("elsewhere", "broken"):
            (self.place / name).write_text(
                "$TTL 5\n@ SOA ns.cc.test. hostmaster.cc.test. 1 60 10 3600 5\n"
                "@ NS ns.cc.test.\nwww A 127.0.0.1\n")

    def start(self) -> Bind:
        """A port that somebody else took in between costs another try."""
        for _ in range(5):
            self.port = free_port()
            (self.place / "named.conf").write_text(CONFIGURATION.format(
                place=self.place, port=self.port, secret=SECRET, others=OTHERS, zone=ZONE))
            with (self.place / "out").open("ab") as out:
                self._process = subprocess.Popen(
                    [self._program, "-c", str(self.place / "named.conf"), "-f", "-n", "1"],
                    stdin=subprocess.DEVNULL, stdout=out, stderr=out)
            if self._up(self._process):
                return self
        raise RuntimeError(f"BIND did not come up: {(self.place / 'out').read_text()[-2000:]}")

    def records(self, name: str, kind: str) -> tuple[int, list[str]]:
        """(TTL, the records in order); no records: (0, [])."""
        reply = self._ask(name, kind)
        for rrset in reply.answer:
            if rrset.rdtype == dns.rdatatype.from_text(kind):
                return rrset.ttl, sorted(each.to_text() for each in rrset)
        return 0, []

    def serial(self) -> int:
        return int(self.records("@", "SOA")[1][0].split()[2])

    def put(self, name: str, kind: str, records: Sequence[str], ttl: int = 5) -> None:
        """Somebody else's hand: replace the whole set."""
        update = dns.update.UpdateMessage(f"{ZONE}.")
        update.use_tsig(dns.tsig.Key("console", OTHERS, "hmac-sha256"))
        update.delete(name, kind)
        for record in records:
            update.add(name, ttl, kind, record)
        reply = dns.query.tcp(update, "127.0.0.1", port=self.port, timeout=5)
        assert reply.rcode() == dns.rcode.NOERROR, reply.rcode()

    def discard(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)
        shutil.rmtree(self.place, ignore_errors=True)

    def _ask(self, name: str, kind: str, timeout: float = 2.0) -> dns.message.Message:
        whole = f"{ZONE}." if name == "@" else f"{name}.{ZONE}."
        return dns.query.udp(dns.message.make_query(whole, kind), "127.0.0.1", port=self.port,
                             timeout=timeout)

    def _up(self, process: subprocess.Popen[bytes]) -> bool:
        end = time.monotonic() + 10
        while time.monotonic() < end and process.poll() is None:
            try:
                if self._ask("@", "SOA", timeout=0.1).answer:
                    return True
            except (dns.exception.Timeout, OSError):
                pass
            time.sleep(0.02)
        process.kill()
        process.wait(10)
        return False
