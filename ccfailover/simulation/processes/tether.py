"""Runs a program that knows nothing of us, and ends it when standard input closes.

`python -m ccfailover.simulation.processes.tether PROGRAM ARGUMENT…`. SIGTERM kills the program
with SIGKILL, at once and without its own shut-down: a queue server that dies is the point.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading

PR_SET_PDEATHSIG = 1


def _die_with_parent() -> None:
    """Linux: SIGKILL when the tether itself is killed. Elsewhere only standard input ends us."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def main(argv: list[str]) -> int:
    if not argv:
        sys.stderr.write("tether: no program given\n")
        return 2
    # No thread has been started yet, which is what makes preexec_fn safe.
    child = subprocess.Popen(argv, stdin=subprocess.DEVNULL,
                             preexec_fn=_die_with_parent)  # noqa: PLW1509
    signal.signal(signal.SIGTERM, lambda *_: child.kill())

    def watch() -> None:
        while os.read(0, 4096):
            continue
        child.kill()

    threading.Thread(target=watch, daemon=True).start()
    code = child.wait()
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
