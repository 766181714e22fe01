"""How much more two workers carry than one, where the target and not this machine is the limit.

A run moves a table's applications to a table whose server takes its time for each: it waits, as a
provider's intake does, and needs no processor for it. The same run is done with one worker, with
two, and by itself. Counted at the target's door: from the first application to the last.

    python benchmarks/workers.py [--write] [--items 4000] [--milliseconds 5]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from benchmarks.results import machine, rows, write
from tests.conftest import find_server
from tests.servers.postgres import Postgres
from tests.workers.room import Room, room

BAR = 1.7


def slow(lender: Room, milliseconds: float) -> None:
    """Each application that arrives is waited for."""
    lender.sql(lender.bpo, f"""
        CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS
        $$BEGIN PERFORM pg_sleep({milliseconds / 1000}); NEW.at := clock_timestamp();
        RETURN NEW; END$$""",
        "CREATE TRIGGER wait BEFORE INSERT ON keys FOR EACH ROW EXECUTE FUNCTION wait()")


def carried(lender: Room, items: int) -> float:
    """Applications a second, from the first to the last; the tables say whether all arrived."""
    lender.sql(lender.los, "TRUNCATE waiting")
    lender.sql(lender.bpo, "TRUNCATE arrived, keys")
    lender.fill(items)
    if lender.carry(lender.plan()).wait(600):
        raise SystemExit(lender.logs())
    found = lender.counts()
    if (found["arrived"], found["different"], found["waiting"]) != (items, items, 0):
        raise SystemExit(f"not all arrived once: {found}")
    ((seconds,),) = lender.sql(lender.bpo, "SELECT extract(epoch FROM max(at) - min(at)) FROM keys")
    return items / float(seconds)


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure one worker and two.")
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--items", type=int, default=4000)
    parser.add_argument("--milliseconds", type=float, default=5.0)
    options = parser.parse_args()
    where, program = machine(), find_server("postgres")
    if program is None:
        raise SystemExit("no PostgreSQL server is installed")
    server = Postgres(Path(program).resolve().parent)
    try:
        server.start()
        with tempfile.TemporaryDirectory() as place, room(server, Path(place)) as lender:
            if (made := lender.say("db", "upgrade")).returncode:
                raise SystemExit(made.stderr)
            slow(lender, options.milliseconds)
            alone = carried(lender, options.items)
            lender.workers(1)
            one = carried(lender, options.items)
            lender.workers(1)
            two = carried(lender, options.items)
    finally:
        server.discard()
    met = two >= BAR * one
    text = (f"`benchmarks/workers.py` · {options.items:,} applications, PostgreSQL to PostgreSQL, "
            f"each {options.milliseconds:g} ms at the target · {where}\n\n" + rows(
                ("", "applications a second", "times one worker", "bar"),
                [("the run by itself", f"{alone:,.0f}", f"{alone / one:.2f}", ""),
                 ("one worker", f"{one:,.0f}", "1.00", ""),
                 ("**two workers**", f"{two:,.0f}", f"{two / one:.2f}", f"{BAR}")])
            + ("\n\nThe bar is met." if met else "\n\nThe bar is missed."))
    print(text)
    if options.write:
        write("workers", text)
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
