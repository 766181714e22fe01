"""Log lines are a view of the journal: rendered here with structlog, and nowhere else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import structlog

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from ccfailover.model.journal import Record


def renderer(*, as_json: bool, colours: bool) -> Callable[[Record], str]:
    """A function from a journal record to its log line: logfmt for people, or JSON."""
    tell = teller(as_json=as_json, colours=colours)

    def line(record: Record) -> str:
        return tell(record.at, record.kind, {
            "stream": record.stream, "seq": record.seq, "fence": record.fence,
            "actor": record.actor,
            **{key: value for key, value in record.data.items()
               if isinstance(value, str | int | float | bool)}})

    return line


def teller(*, as_json: bool, colours: bool) -> Callable[[int, str, Mapping[str, Any]], str]:
    """A function from an instant (µs), what happened, and its particulars to a log line."""
    render: Any = (structlog.processors.JSONRenderer(ensure_ascii=False) if as_json
                   else structlog.dev.ConsoleRenderer(colors=colours, pad_event_to=24))

    def line(at: int, event: str, data: Mapping[str, Any]) -> str:
        from datetime import UTC, datetime

        when = datetime.fromtimestamp(at / 1_000_000, UTC).isoformat(timespec="milliseconds")
        return str(render(None, "info", {"timestamp": when, "event": event, **data}))

    return line


def lines(records: Iterable[Record], *, as_json: bool, colours: bool) -> list[str]:
    """Every record as a log line, in order."""
    show = renderer(as_json=as_json, colours=colours)
    return [show(record) for record in records]
