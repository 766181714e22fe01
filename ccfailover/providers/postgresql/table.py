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
OPTIONAL: Final = ("assignee", "locked", "begun")
"""Roles that a table has only where the policy names their columns (`assignee` also where the
lever has one). locked, begun: boolean, or anything that is null until then."""
MESSAGE_TYPES: Final = frozenset({"bigint", "integer", "smallint", "uuid", "text",
                                  "character varying", "numeric"})


def quoted(name: str) -> str:
    """A name out of the policy as SQL takes it. Raises ValueError for what the schema should not
    have let through: nothing else stands between the policy and the statement."""
    if not re.fullmatch(rf"{NAME}(\.{NAME})?", name):
        raise ValueError(f"not a name of a table or column: {name[:60]!r}")
    return ".".join(f'"{part}"' for part in name.split("."))


@dataclass(frozen=True)
class Table:
    """`ref` and `keys` as in the policy; `columns` by role, `types` by column.

    `assignee`: only rows that are assigned so are seen; None: all of them."""

    ref: str
    keys: str | None
    columns: Mapping[str, str]
    types: Mapping[str, str]
    assignee: str | None = None

    def _(self, role: str) -> str:
        return quoted(self.columns[role])

    @property
    def body_type(self) -> str:
        kind = self.types[self.columns["body"]]
        return "text" if kind == "character varying" else kind

    def _free(self, alias: str) -> str:
        """Nobody has the row in work: what is locked or begun never moves."""
        said = ""
        for role in ("locked", "begun"):
            if role in self.columns:
                column = f"{alias}.{self._(role)}"
                boolean = self.types[self.columns[role]] == "boolean"
                said += f" AND {column} IS NOT TRUE" if boolean else f" AND {column} IS NULL"
        return said

    def _seen(self, alias: str) -> str:
        """Which rows this backlog is made of."""
        mine = "" if self.assignee is None else \
            f" AND {alias}.{self._('assignee')} = %(assignee)s"
        return mine + self._free(alias)

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
                f"FROM {quoted(self.ref)} AS q WHERE true{self._seen('q')}")

    def claim(self, most: int | None) -> str:
        """The nearest deadline first: every application's clock runs from its submission. One
        without a date may be the oldest of all."""
        message, until = self._("message"), self._("claimed_until")
        spent = f"AND coalesce({self._('receives')}, 0) < {most} " if most is not None else ""
        return (
            f"WITH picked AS (SELECT {message} AS m FROM {quoted(self.ref)} AS q "
            f"WHERE ({until} IS NULL OR {until} <= now()){self._seen('q')} {spent}"
            f"ORDER BY {self._('submitted')} NULLS FIRST, {self._('created')}, {message} "
            "LIMIT %(limit)s FOR UPDATE SKIP LOCKED) "
            f"UPDATE {quoted(self.ref)} AS q SET "
            f"{until} = now() + make_interval(secs => %(seconds)s), "
            f"{self._('claim')} = gen_random_uuid()::text, "
            f"{self._('receives')} = coalesce(q.{self._('receives')}, 0) + 1 "
            f"FROM picked WHERE q.{message} = picked.m RETURNING q.{message}::text, "
            f"q.{self._('claim')}, {self._body_out}, q.{self._('submitted')}::text, "
            f"q.{self._('hops')}, q.{self._('receives')}, q.{self._('attributes')}, "
            f"q.{self._('created')}")

    # In a system of record nothing is inserted and nothing deleted: a row is assigned anew.

    @property
    def _asked(self) -> str:
        kind = self.types[self.columns["message"]]
        return ("SELECT a.n, a.key, a.claim, a.source, a.hops, a.message::" + kind + " AS message "
                "FROM unnest(%(numbers)s::int[], %(messages)s::text[], %(claims)s::text[], "
                "%(sources)s::text[], %(keys)s::text[], %(hops)s::int[]) "
                "AS a(n, message, claim, source, key, hops)")

    def assign(self) -> str:
        """Compare and set: only the very row that was claimed, while its claim lasts and nobody
        has begun it, and only from whom it was claimed."""
        until, claim, assignee = self._("claimed_until"), self._("claim"), self._("assignee")
        return (f"WITH asked AS ({self._asked}) UPDATE {quoted(self.ref)} AS q SET "
                f"{assignee} = %(assignee)s, {self._('key')} = a.key, {self._('hops')} = a.hops, "
                f"{claim} = NULL, {until} = NULL, {self._('receives')} = 0 FROM asked AS a "
                f"WHERE q.{self._('message')} = a.message AND q.{assignee} = a.source "
                f"AND q.{claim} = a.claim AND q.{until} > clock_timestamp(){self._free('q')} "
                "RETURNING a.n")

    def assigned(self) -> str:
        """Why a row was not assigned: asked afterwards, so that it sees what others did."""
        assignee = self._("assignee")
        return (f"WITH asked AS ({self._asked}) SELECT a.n, q.{self._('message')} IS NOT NULL, "
                f"q.{self._('key')} = a.key AND q.{assignee} IS DISTINCT FROM a.source, "
                f"q.{assignee} = a.source, true{self._free('q')} "
                f"FROM asked AS a LEFT JOIN {quoted(self.ref)} AS q "
                f"ON q.{self._('message')} = a.message")

    def handed_over(self) -> str:
        """Of rows that were claimed here: which are not assigned here any more."""
        kind = self.types[self.columns["message"]]
        return (f"SELECT a.n FROM (SELECT n, message::{kind} AS message FROM "
                "unnest(%(numbers)s::int[], %(messages)s::text[]) AS b(n, message)) AS a "
                f"LEFT JOIN {quoted(self.ref)} AS q ON q.{self._('message')} = a.message "
                f"WHERE q.{self._('assignee')} IS DISTINCT FROM %(assignee)s")

    def extend(self) -> str:
        until, claim = self._("claimed_until"), self._("claim")
        return (f"UPDATE {quoted(self.ref)} AS q SET {until} = "
                f"now() + make_interval(secs => %(seconds)s) WHERE {self._held} "
                f"AND q.{until} > now() RETURNING q.{claim}")

    def settle(self) -> str:
        """Only while the claim lasts: afterwards the item may be in other hands."""
        claim = self._("claim")
        return (f"DELETE FROM {quoted(self.ref)} AS q WHERE {self._held} "
                f"AND q.{self._('claimed_until')} > now() RETURNING q.{claim}")

    @property
    def _held(self) -> str:
        """By arrays and not by a join: so the planner takes the key however long the table is."""
        kind = self.types[self.columns["message"]]
        return (f"q.{self._('message')} = ANY(%(messages)b::text[]::{kind}[]) "
                f"AND q.{self._('claim')} = ANY(%(claims)b::text[])")

    def put(self) -> str:
        """One statement, so that it is written whole or not at all. With a table of keys a
        delivery that was made before is left out, for ever."""
        columns = ", ".join(self._(role) for role in
                            ("body", "item", "submitted", "hops", "attributes", "key"))
        incoming = ("SELECT DISTINCT ON (key) * FROM unnest(%(keys)b::text[], %(bodies)b::bytea[], "
                    "%(items)b::text[], %(submitted)b::text[], %(hops)s::int[], "
                    "%(attributes)b::text[]) "
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
