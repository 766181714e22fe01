"""What `check` remembers from one time to the next: probe histories, readings, triggers."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ccfailover.runtime import SECOND
from ccfailover.store.db import Database, one_write

if TYPE_CHECKING:
    from ccfailover.model.health import ProbeHistory, Reading, TriggerState


_OBSERVED = "observations"


class Observations:
    """Part of `Store`: see there for how the parts fit."""

    _db: Database

    def histories(self) -> dict[str, ProbeHistory]:
        """What every probe remembers, by key."""
        rows = self._db.query("SELECT key, text FROM history ORDER BY key")
        with self._db.readable():
            return {key: _history(json.loads(text)) for key, text in rows}

    def save_histories(
        self, histories: Iterable[ProbeHistory], *, keep_readings: float = 35 * 86400
    ) -> None:
        """Store histories, and log their last readings; readings older than `keep_readings`
        seconds are dropped.

        Two checks may overlap: a history whose last reading is older than the stored one's is
        not written (its reading is logged all the same).
        """
        from ccfailover.model.plan import canonical

        rows = [
            {"key": item.key, "at": item.last.at, "text": canonical(_history_json(item)),
             "reading": canonical(_reading_json(item.last))}
            for item in histories
        ]
        self._save_rows(rows, keep_readings)

    @one_write
    def _save_rows(self, rows: Sequence[Mapping[str, Any]], keep_readings: float) -> None:
        with self._db.transaction("store what the probes saw", on=_OBSERVED) as tx:
            tx.many(
                "INSERT INTO history (key, at, text) VALUES (:key, :at, :text) "
                "ON CONFLICT (key) DO UPDATE SET at = excluded.at, text = excluded.text "
                "WHERE excluded.at >= history.at", rows)
            tx.many(
                "INSERT INTO reading (key, at, text) VALUES (:key, :at, :reading) "
                "ON CONFLICT (key, at) DO NOTHING", rows)
            tx.execute("DELETE FROM reading WHERE at < :before",
                       {"before": tx.now - int(keep_readings * SECOND)})

    def readings(self, key: str, since: int, until: int | None = None) -> list[Reading]:
        """One probe's readings with `since <= at` (and `at <= until`), oldest first."""
        rows = self._db.query(
            "SELECT text FROM reading WHERE key = :key AND at >= :since "
            "AND at <= coalesce(CAST(:until AS BIGINT), at) ORDER BY at",
            {"key": key, "since": since, "until": until})
        with self._db.readable():
            return [_reading(json.loads(row[0])) for row in rows]

    def trigger_states(self) -> dict[str, TriggerState]:
        """What every trigger remembers, by name."""
        from ccfailover.model.health import TriggerState

        rows = self._db.query("SELECT name, text FROM trigger_state ORDER BY name")
        with self._db.readable():
            return {name: TriggerState(**json.loads(text)) for name, text in rows}

    @one_write
    def save_trigger_state(self, state: TriggerState, *, expected: TriggerState | None) -> bool:
        """Store `state` if the stored one is still `expected` (None: there is none yet).

        False: another check was faster, and nothing was written.
        """
        from ccfailover.model.plan import canonical

        params = {"name": state.name, "text": canonical(state.__dict__),
                  "expected": canonical(expected.__dict__) if expected else None}
        with self._db.transaction(
            f"store the state of trigger {state.name}", on=_OBSERVED
        ) as tx:
            if expected is None:
                sql = ("INSERT INTO trigger_state (name, text) VALUES (:name, :text) "
                       "ON CONFLICT (name) DO NOTHING")
            else:
                sql = ("UPDATE trigger_state SET text = :text "
                       "WHERE name = :name AND text = :expected")
            return tx.change(sql, params) == 1


def _reading_json(reading: Reading) -> dict[str, Any]:
    # A number that is none (NaN, infinity) is a value that was not seen.
    values = {name: value for name, value in reading.values.items() if math.isfinite(value)}
    return {
        "key": reading.key, "at": reading.at, "outcome": reading.outcome.value,
        "detail": reading.detail, "seconds": reading.seconds, "values": values,
        "shares": reading.shares.to_json() if reading.shares is not None else None,
    }


def _reading(data: dict[str, Any]) -> Reading:
    from ccfailover.model.health import Outcome, Reading
    from ccfailover.model.shares import Shares

    shares = Shares(data["shares"]) if data["shares"] is not None else None
    return Reading(**{**data, "outcome": Outcome(data["outcome"]), "shares": shares})


def _history_json(history: ProbeHistory) -> dict[str, Any]:
    # Every field, by name: one that is added to the model is kept without a change here.
    return {
        **history.__dict__, "settled": history.settled.value,
        "streak_outcome": history.streak_outcome.value, "last": _reading_json(history.last),
    }


def _history(data: dict[str, Any]) -> ProbeHistory:
    from ccfailover.model.health import Outcome, ProbeHistory

    return ProbeHistory(**{
        **data, "settled": Outcome(data["settled"]),
        "streak_outcome": Outcome(data["streak_outcome"]), "last": _reading(data["last"]),
    })
