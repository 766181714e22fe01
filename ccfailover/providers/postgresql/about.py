"""What the documents tell of the kind: an example, the least rights, and what surprises."""

from __future__ import annotations

from typing import Final

from ccfailover.providers.examples import of_backlogs

EXAMPLE: Final = of_backlogs("""\
  los: {kind: postgresql, dsn: "env:LOS_DSN"}
""", """\
      hq:   {provider: los, ref: intake.applications, keys: intake.delivered}
      acme: {provider: los, ref: acme.inbox, keys: acme.delivered}
""")

RIGHTS: Final = """\
GRANT USAGE ON SCHEMA intake TO ccfailover;
GRANT SELECT, INSERT, UPDATE, DELETE ON intake.applications TO ccfailover;
GRANT SELECT, INSERT ON intake.delivered TO ccfailover;
-- A system of record, whose rows are assigned anew, needs less:
GRANT SELECT, UPDATE ON los.applications TO ccfailover;
"""

TRAPS: Final = (
    "A claim that has ended deletes nothing, even where nobody else has the item meanwhile.",
    "`jsonb` keeps no white space and no order of keys: a body comes back equal in meaning, "
    "not byte by byte. `bytea` and `text` do.",
    "An index on `(submitted NULLS FIRST, created_at, id)` keeps claims fast on a long table; "
    "`delivered` may be pruned of keys older than the longest run.",
)
