"""A pace that machines share: until when the items are spoken for that go to one provider."""

from __future__ import annotations

_PACE = "CREATE TABLE pace (name TEXT NOT NULL PRIMARY KEY, next_at BIGINT NOT NULL)"

STATEMENTS = {
    "sqlite": (_PACE,),
    "postgres": (_PACE.replace(" TEXT", ' TEXT COLLATE "C"'),),
}
