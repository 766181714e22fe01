"""The statements for one table, whatever it calls its columns."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

NAME: Final = "[A-Za-z_][A-Za-z0-9_]{0,62}"
ROLES: Final[Mapping[str, str]] = {
    "message": "id", "body": "body", "claim": "claim", "claimed_until": "claimed_until",
    "receives": "receives", "created": "created_at", "item": "item_id", "submitted": "submitted",
    "hops": "hops", "attributes": "attributes", "key": "delivery_key",
}
"""What a column is for → what it is called unless the policy says otherwise.

message: the primary key, with a default; body: bytea, text, json or jsonb; claim: text, null
while nobody has the item; claimed_until: timestamptz; receives, hops: integer, default 0;
created: timestamptz, default now(); item, submitted, key: text; attributes: jsonb.
"""


def quoted(name: str) -> str:
    """A name out of the policy as SQL takes it. Raises ValueError for what the schema should not
    have let through: nothing else stands between the policy and the statement."""
    if not re.fullmatch(rf"{NAME}(\.{NAME})?", name):
        raise ValueError(f"not a name of a table or column: {name[:60]!r}")
    return ".".join(f'"{part}"' for part in name.split("."))


@dataclass(frozen=True)
class Table:
    """`ref` and `keys` as in the policy; `columns` by role."""

    ref: str
    keys: str | None
    columns: Mapping[str, str]
    body_type: str

    def _(self, role: str) -> str:
        return quoted(self.columns[role])

    @property
    def _body_out(self) -> str:
        body = self._("body")
        return f"q.{body}" if self.body_type == "bytea" else f"convert_to(q.{body}::text, 'UTF8')"

    @property
    def _body_in(self) -> str:
        if self.body_type == "bytea":
            return "i.body"
        return f"convert_from(i.body, 'UTF8')::{self.body_type}"

    def measure(self) -> str:
        until = self._("claimed_until")
        return (f"SELECT count(*) FILTER (WHERE {until} IS NULL OR {until} <= now()), "
                f"count(*) FILTER (WHERE {until} > now()), "
                f"extract(epoch FROM now() - min({self._('created')}))::float8 "
                f"FROM {quoted(self.ref)}")

    def claim(self, most: int | None) -> str:
        """The nearest deadline first: every application's clock runs from its submission."""
        message, until = self._("message"), self._("claimed_until")
        spent = f"AND coalesce({self._('receives')}, 0) < {most} " if most is not None else ""
        return (
            f"WITH picked AS (SELECT {message} AS m FROM {quoted(self.ref)} "
            f"WHERE ({until} IS NULL OR {until} <= now()) {spent}"
            f"ORDER BY {self._('submitted')} NULLS LAST, {self._('created')}, {message} "
            "LIMIT %(limit)s FOR UPDATE SKIP LOCKED) "
            f"UPDATE {quoted(self.ref)} AS q SET "
            f"{until} = now() + make_interval(secs => %(seconds)s), "
            f"{self._('claim')} = gen_random_uuid()::text, "
            f"{self._('receives')} = coalesce(q.{self._('receives')}, 0) + 1 "
            f"FROM picked WHERE q.{message} = picked.m RETURNING q.{message}::text, "
            f"q.{self._('claim')}, {self._body_out}, q.{self._('submitted')}::text, "
            f"q.{self._('hops')}, q.{self._('receives')}, q.{self._('attributes')}, "
            f"q.{self._('created')}")

    def extend(self) -> str:
        until, claim = self._("claimed_until"), self._("claim")
        return (f"UPDATE {quoted(self.ref)} SET {until} = "
                "now() + make_interval(secs => %(seconds)s) "
                f"WHERE {claim} = ANY(%(handles)s) AND {until} > now() RETURNING {claim}")

    def settle(self) -> str:
        """Only while the claim lasts: afterwards the item may be in other hands."""
        claim = self._("claim")
        return (f"DELETE FROM {quoted(self.ref)} WHERE {claim} = ANY(%(handles)s) "
                f"AND {self._('claimed_until')} > now() RETURNING {claim}")

    def put(self) -> str:
        """One statement, so that it is written whole or not at all. With a table of keys a
        delivery that was made before is left out, for ever."""
        columns = ", ".join(self._(role) for role in
                            ("body", "item", "submitted", "hops", "attributes", "key"))
        incoming = ("SELECT DISTINCT ON (key) * FROM unnest(%(keys)s::text[], %(bodies)s::bytea[], "
                    "%(items)s::text[], %(submitted)s::text[], %(hops)s::int[], "
                    "%(attributes)s::text[]) "
                    "AS i(key, body, item, submitted, hops, attributes)")
        fresh, join = "", ""
        if self.keys is not None:
            fresh = (f"fresh AS (INSERT INTO {quoted(self.keys)} (key) SELECT key FROM incoming "
                     "ON CONFLICT DO NOTHING RETURNING key), ")
            join = "JOIN fresh USING (key) "
        return (f"WITH incoming AS ({incoming}), {fresh}"
                f"made AS (INSERT INTO {quoted(self.ref)} ({columns}) SELECT {self._body_in}, "
                f"i.item, i.submitted, i.hops, i.attributes::jsonb, key "
                f"FROM incoming AS i {join}RETURNING {self._('key')}, {self._('message')}::text) "
                "SELECT * FROM made")
