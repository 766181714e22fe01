#!/usr/bin/env python3
"""Real calls, a real SIP edge, and a site that fails.

    make sip-lab                                     hq is frozen, 50 calls a second
    make sip-lab ARGS="--fault all --cps 200"        four faults
    sudo .venv/bin/python examples/sip-lab/run.py    the same without make

Exit code: 0 when everything held, 1 when something did not, 2 when the lab cannot be built here.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from rich.console import Console
from siplab import show
from siplab.story import FAULTS, Settings, Story

PROGRAMS = {"kamailio": "kamailio", "sipp": "sip-tester", "ip": "iproute2", "nft": "nftables"}
"""Program → the Debian package that has it."""


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Calls through a real SIP edge; headquarters fails; ccfailover moves them.")
    parser.add_argument("--fault", choices=[*FAULTS, "all"],
                        default=os.environ.get("SIP_LAB_FAULT", "frozen"),
                        help="what happens to hq (%(default)s)")
    parser.add_argument("--cps", type=int, default=int(os.environ.get("SIP_LAB_CPS", "50")),
                        help="new loan calls a second (%(default)s)")
    parser.add_argument("--hold", type=float, default=6.0, metavar="S",
                        help="seconds that a call lasts (%(default)s)")
    parser.add_argument("--away", type=float, default=4.0, metavar="S",
                        help="seconds that hq stays broken after the shift (%(default)s)")
    parser.add_argument("--every", type=float, default=1.0, metavar="S",
                        help="seconds from one check to the next (%(default)s)")
    parser.add_argument("--patience", type=float, default=0.0, metavar="S",
                        help="seconds for which hq must be down before it is given up "
                             "(%(default)s)")
    parser.add_argument("--no-spill", action="store_true",
                        help="the edge tries no other site by itself: what the lever alone saves")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    parser.add_argument("--keep", type=Path, metavar="FOLDER",
                        help="keep configurations, logs and taps in this new folder")
    given = parser.parse_args()
    if not 1 <= given.cps <= 400 or not 2 <= given.hold <= 60:
        parser.error("--cps from 1 to 400, --hold from 2 to 60")
    if not 0 <= given.away <= 60 or not 0.5 <= given.every <= 10 or not 0 <= given.patience <= 20:
        parser.error("--away from 0 to 60, --every from 0.5 to 10, --patience from 0 to 20")
    return given


def missing() -> str | None:
    """Why the lab cannot be built on this machine."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "it makes network namespaces: Linux, and root (sudo)"
    os.environ["PATH"] = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"
    lacking = [package for name, package in PROGRAMS.items() if shutil.which(name) is None]
    if lacking:
        return f"not installed: sudo apt-get install --no-install-recommends {' '.join(lacking)}"
    return None


def main() -> int:
    given = options()
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=110)
    why = missing()
    if why is not None:
        Console(stderr=True).print(f"The lab cannot be built: {why}")
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that everything is taken down
    folder = given.keep or Path(tempfile.mkdtemp(prefix="sip-lab-"))
    folder.mkdir(parents=True, exist_ok=given.keep is None)
    results = []
    try:
        for fault in FAULTS if given.fault == "all" else [given.fault]:
            place = folder.resolve() / fault
            place.mkdir()
            settings = Settings(fault, given.cps, given.hold, not given.no_spill,
                                given.away, given.patience, given.every)
            show.heading(console, fault, spill=settings.spill)
            result = Story(settings, place, console.print).run()
            results.append(result)
            show.story(console, result)
    except (RuntimeError, OSError) as error:
        Console(stderr=True).print(f"The lab broke off: {error}", markup=False)
        return 2
    finally:
        if given.keep is None:
            shutil.rmtree(folder, ignore_errors=True)
    if len(results) > 1:
        show.summary(console, results)
    if given.json:
        given.json.write_text(json.dumps([one.facts() for one in results], indent=2) + "\n")
    return 0 if all(one.ok for one in results) else 1


if __name__ == "__main__":
    sys.exit(main())
