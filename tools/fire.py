"""A move under fire, as large as you like: what `tests/crash/test_fire.py` does with fewer.

    python tools/fire.py rabbitmq --items 1000000 --kills 50
    python tools/fire.py sqs --items 1000000 --kills 50

Exits 0 when every promise was kept: nothing lost, nothing in doubt, the ledger equal to what the
servers have, and every possible duplicate listed.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.crash.fire import Scene, burn
from tests.crash.fire_scenes import RabbitScene, SqsScene
from tests.servers.postgres import Postgres
from tests.servers.rabbitmq import Rabbit

DEEP = 20_000
"""Messages that the SQS server bears in one queue: more than these flow through it."""


@contextmanager
def scene(pair: str, place: Path, seed: int, items: int) -> Iterator[Scene]:
    if pair == "sqs":
        program = shutil.which("roto-server", path=str(Path(sys.executable).parent))
        if program is None:
            raise SystemExit("roto-server is not installed: make setup-dev")
        found = SqsScene(program, place, seed, flows=items > DEEP)
        try:
            yield found
        finally:
            found.close()
        return
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not programs:
        raise SystemExit("PostgreSQL is not installed")
    rabbit, postgres = Rabbit().start(), Postgres(programs[-1]).start()
    between = RabbitScene(rabbit, postgres, "fire")
    try:
        yield between
    finally:
        between.close()
        postgres.discard()
        rabbit.discard()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pair", choices=("rabbitmq", "sqs"))
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--patience", type=float, default=7200.0, help="seconds for it all")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ccfailover-fire-") as place, \
            scene(options.pair, Path(place), options.seed, options.items) as found:
        burnt = burn(found, Path(place), items=options.items, kills=options.kills,
                     seed=options.seed, patience=options.patience)
        print(burnt.line())
        broken = burnt.broken(found)
    for each in broken:
        print("BROKEN:", each)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
