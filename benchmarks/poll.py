"""10,000 HTTP probes, of which some hang and some answer without end: our poller beside a pool.

The servers are a process of their own on loopback. 5 % of the targets take the connection and
never answer, 1 % drip an answer that never ends; the others answer at once. Every target has a
time-out of one second, and the verdicts are counted: 94 % good, 6 % bad. The pool is what one
would write without the library: 512 threads, one `http.client` connection each, the same time-out
as a deadline for the whole exchange.

    python benchmarks/poll.py [--write] [--probes 10000] [--rounds 3]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import http.client
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

from benchmarks.results import machine, ratio, rows, write
from ccfailover.health import ProbeJob, poller
from ccfailover.health.probes.http import HttpProbe
from ccfailover.model.health import Outcome, Target
from ccfailover.model.policy import ProbeSpec
from ccfailover.runtime import SystemRuntime

TIMEOUT = 1.0
THREADS = 512
HANGING, ENDLESS = 20, 100
"""Every twentieth target hangs, every hundredth never ends."""

Measured = tuple[float, float, int]
"""Wall seconds, CPU seconds, how many were good."""


async def serve() -> None:
    """The targets; prints the port, then serves until it is ended."""
    reply = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            asked = await reader.readuntil(b"\r\n\r\n")
            if b"/hang" in asked[:20]:
                await reader.read()  # until the caller gives up
            elif b"/endless" in asked[:20]:
                writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
                while not reader.at_eof():
                    writer.write(b"x")
                    await writer.drain()
                    await asyncio.sleep(0.05)
            else:
                writer.write(reply)
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    async with server:
        await server.serve_forever()


@contextlib.contextmanager
def targets() -> Iterator[int]:
    process = subprocess.Popen([sys.executable, __file__, "--serve"], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        yield int(process.stdout.readline())
    finally:
        process.kill()
        process.wait()


def path(number: int) -> str:
    if number % ENDLESS == 1:
        return "/endless"
    return "/hang" if number % HANGING == 0 else "/ok"


def expected(probes: int) -> int:
    return sum(1 for number in range(probes) if path(number) == "/ok")


def ours(port: int, probes: int) -> int:
    runtime = SystemRuntime()
    probe = HttpProbe(runtime, resolve=lambda reference: reference)
    jobs = [
        ProbeJob(Target("site", f"s{number}", key), ProbeSpec(
            key, "http", 60.0, TIMEOUT, 3, 2, "controller",
            {"url": f"http://127.0.0.1:{port}{path(number)}"}))
        for number in range(probes) for key in (f"site.s{number}.0.http",)
    ]
    found = poller.poll(jobs, lambda kind: probe, runtime, 120.0)
    return sum(1 for one in found if one.outcome is Outcome.GOOD)


def pool(port: int, probes: int) -> int:
    def fetch(number: int) -> bool:
        until = time.monotonic() + TIMEOUT
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT)
        try:
            connection.request("GET", path(number))
            response = connection.getresponse()
            while response.read1(65_536):
                if time.monotonic() > until:
                    return False
            return response.status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    with ThreadPoolExecutor(THREADS) as threads:
        return sum(threads.map(fetch, range(probes)))


def measure(poll: Callable[[int, int], int], port: int, probes: int) -> Measured:
    before, began = time.process_time(), time.perf_counter()
    good = poll(port, probes)
    return time.perf_counter() - began, time.process_time() - before, good


def main() -> int:
    parser = argparse.ArgumentParser(description="Our poller beside a pool of threads.")
    parser.add_argument("--probes", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--write", action="store_true", help="update benchmarks/RESULTS.md")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if options.serve:
        asyncio.run(serve())
        return 0
    where = machine()
    done: dict[str, list[Measured]] = {"ours": [], "pool": []}
    with targets() as port:
        ours(port, 200)  # imports
        for turn in range(options.rounds):
            pair = [("ours", ours), ("pool", pool)]
            for name, poll in pair if turn % 2 == 0 else reversed(pair):
                done[name].append(measure(poll, port, options.probes))
    wanted = expected(options.probes)
    wrong = {name: max(abs(good - wanted) for _, _, good in all_of)
             for name, all_of in done.items()}
    labels = {"pool": f"{THREADS} threads, `http.client`", "ours": "**our poller, pycurl multi**"}
    text = f"`benchmarks/poll.py` · {options.probes:,} probes, {options.rounds} interleaved " \
           f"rounds · {where}\n\n" + rows(
        ("", "s", "CPU s", "times the pool", "CPU, times the pool"),
        [(labels[name], f"{statistics.median(m[0] for m in done[name]):.1f}",
          f"{statistics.median(m[1] for m in done[name]):.1f}",
          f"{ratio([m[0] for m in done[name]], [m[0] for m in done['pool']]):.2f}",
          f"{ratio([m[1] for m in done[name]], [m[1] for m in done['pool']]):.2f}")
         for name in ("pool", "ours")])
    text += f"\n\nOf {wanted:,} targets that answer at once, ours found all." if not wrong["ours"] \
        else f"\n\nOurs was wrong about {wrong['ours']:,} targets: nothing to compare."
    if wrong["pool"]:
        text += f" The pool called up to {wrong['pool']:,} of them dead: it had no time for them."
    print(text)
    if options.write:
        write("poll", text)
    return 1 if wrong["ours"] else 0


if __name__ == "__main__":
    sys.exit(main())
