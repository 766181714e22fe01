"""A program as a `command` provider calls it: `lever_program.py FOLDER`.

FOLDER holds `routes.json` (ref → shares and version) and `fault`, which the next call meets and
takes away: `after` (does it and hangs), `lost` (hangs), `throttled` (come again), `garbage`,
`huge`, `endless`, `echo` (refuses, and shows its environment), `child` (hangs, with a child that
holds the pipes), `killed`, `half` (killed in the middle of its write). `writes` grows by a line for
each shift that was carried out. Without FOLDER it cannot do a thing and says to come again.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from typing import Any


def main() -> int:
    asked = json.load(sys.stdin)
    if len(sys.argv) < 2 or not os.path.isdir(sys.argv[1]):
        print("no line to the switch", file=sys.stderr)
        return 75
    folder = sys.argv[1]
    fault = meet(folder)
    if fault == "throttled":
        print(json.dumps({"retry_after": 7}))
        print("too many at a time\nmore", file=sys.stderr)
        return 75
    if fault == "echo":
        print(f"no\x1b[2J {os.environ}", file=sys.stderr)
        return 1
    if fault == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if fault == "child" and os.fork() == 0:
        with open(os.path.join(folder, "child"), "w") as file:
            file.write(str(os.getpid()))
        time.sleep(600)
    if fault in ("lost", "hang", "child"):
        time.sleep(600)
    if fault == "garbage":
        print("<html>" + os.environ.get("PASSWORD", ""))
        return 0
    while fault in ("huge", "endless"):
        print(" " * (64_000 if fault == "huge" else 1), flush=True)
        time.sleep(0 if fault == "huge" else 0.02)
    code = answer(folder, asked, fault)
    if fault == "after":
        sys.stdout.flush()
        time.sleep(600)
    return code


def meet(folder: str) -> str:
    try:
        with open(os.path.join(folder, "fault")) as file:
            found = file.read()
        os.unlink(os.path.join(folder, "fault"))
    except FileNotFoundError:
        return ""
    return found


def answer(folder: str, asked: dict[str, Any], fault: str) -> int:
    path = os.path.join(folder, "routes.json")
    with open(path) as file:
        routes = json.load(file)
    route = routes.get(asked["ref"])
    if route is None:
        print("no such route", file=sys.stderr)
        return 66
    if asked["verb"] == "read":
        print(json.dumps(route))
    elif asked["verb"] == "measure":
        print(json.dumps({"values": {"answered.hq": 41, "answered.acme": 7.5, "lost": 0,
                                     "age": None, "note": "text", "none": True}}))
    elif asked["verb"] == "live":
        print(json.dumps({"live": {"T1": 3, "T2": 0, "T9": 8, "ANNOUNCE": None}}))
    elif asked["verb"] == "shift":
        expected = asked["expected"]
        wanted = {name: part for name, part in asked["shares"].items() if part}
        if expected is not None and str(expected["version"]) != str(route["version"]):
            print("changed since it was read", file=sys.stderr)
            return 65
        routes[asked["ref"]] = {"shares": wanted, "version": route["version"] + 1}
        with open(path + "~", "w") as file:
            if fault == "half":
                file.write(json.dumps(routes)[:20])
                file.flush()
                os.kill(os.getpid(), signal.SIGKILL)
            json.dump(routes, file)
        os.replace(path + "~", path)
        with open(os.path.join(folder, "writes"), "a") as file:
            file.write(json.dumps(asked) + "\n")
    else:
        print("no such verb", file=sys.stderr)
        return 64
    return 0


if __name__ == "__main__":
    sys.exit(main())
