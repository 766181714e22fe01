"""Log lines are a view of the journal: rendered here with structlog, and nowhere else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import structlog

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ccfailover.model.journal import Record


def renderer(*, as_json: bool, colours: bool) -> Callable[[Record], str]:
    """A function from a journal record to its log line: logfmt for people, or JSON."""
    render: Any = (structlog.processors.JSONRenderer(ensure_ascii=False) if as_json
                   else structlog.dev.ConsoleRenderer(colors=colours, pad_event_to=24))

    def line(record: Record) -> str:
        from datetime import UTC, datetime

        at = datetime.fromtimestamp(record.at / 1_000_000, UTC).isoformat(timespec="milliseconds")
        told = {"timestamp": at, "event": record.kind, "stream": record.stream,
                "seq": record.seq, "fence": record.fence, "actor": record.actor,
                **{key: value for key, value in record.data.items()
                   if isinstance(value, str | int | float | bool)}}
        return str(render(None, "info", told))

    return line


def lines(records: Iterable[Record], *, as_json: bool, colours: bool) -> list[str]:
    """Every record as a log line, in order."""
    show = renderer(as_json=as_json, colours=colours)
    return [show(record) for record in records]
