"""What a story showed, for people."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from siplab.calls import SITES, Phase
from siplab.story import FAULTS, Result

BARS = " ▁▂▃▄▅▆▇█"
COLOURS = {"hq": "blue", "acme": "green", "message": "yellow", "cut": "red", "lost": "bold red"}
WORDS = {
    "before": "before", "detect": "fault → decision", "decide": "decision → shift",
    "execute": "shift → read back", "away": "away", "return": "after failback",
}
UNTIL = ("detect", "decide", "execute")
"""From the fault to the shift."""
POINTS = {"fault": "▼ fault", "shift_done": "▼ shift", "mended": "▼ mended",
          "failback_begun": "▼ failback"}


def story(console: Console, result: Result) -> None:
    """One story: how the calls flowed, phase by phase, and what must be so."""
    console.print()
    for line in flow(result):
        console.print(line, soft_wrap=True)
    console.print()
    console.print(phases(result))
    console.print()
    console.print(checks(result))
    for host, count in result.unread.items():
        console.print(f"   {host}: {count} messages came and found its buffer full", style="dim")


def flow(result: Result) -> list[Text]:
    """A row for each who answered; a column is half a second of new calls."""
    lines = [_pointers(result, ("fault", "mended")),
             _pointers(result, ("shift_done", "failback_begun"))]
    most = max((max(row) for row in result.timeline.values()), default=0) or 1
    for name, row in result.timeline.items():
        bars = "".join(BARS[-(-count * (len(BARS) - 1) // most)] for count in row)
        if bars.strip() or name in SITES:
            lines.append(Text.assemble((f"{name:>8} ", COLOURS[name]), (bars, COLOURS[name])))
    return lines


def _pointers(result: Result, names: Sequence[str]) -> Text:
    line = ""
    for name in names:
        line = line.ljust(9 + int(result.marks[name] * 2)) + POINTS[name]
    return Text(line, style="dim")


def phases(result: Result) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("new loan calls", "seconds", "calls", "hq", "acme", "message", "2nd try", "lost",
                 "cut later", "slowest"):
        table.add_column(name, justify="left" if name == "new loan calls" else "right",
                         no_wrap=True)
    for one in result.phases:
        table.add_row(WORDS[one.name], f"{one.seconds:.2f}", str(one.new),
                      *(_number(one.answered[site], COLOURS[site]) for site in SITES),
                      _number(one.rerouted, "yellow"), _number(one.lost, "bold red"),
                      _number(one.dropped, "red"), _wait(one))
    return table


def checks(result: Result) -> Table:
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(width=1)
    table.add_column()
    table.add_column(style="bold", no_wrap=True)
    for check in result.checks:
        table.add_row(Text("✓", "green") if check.holds else Text("✗", "bold red"), check.name,
                      check.figure)
    return table


def summary(console: Console, results: Sequence[Result]) -> None:
    """All stories side by side, a column each."""
    table = Table(header_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column(f"{results[0].settings.cps} calls/s")
    for one in results:
        table.add_column(f"{'✓' if one.ok else '✗'} {one.settings.fault}", justify="right",
                         header_style="bold green" if one.ok else "bold red", no_wrap=True)
    by = [{phase.name: phase for phase in one.phases} for one in results]

    def row(name: str, *cells: Text | str) -> None:
        table.add_row(name, *cells)

    for name in UNTIL:
        row(WORDS[name], *(f"{one[name].seconds:.2f} s" for one in by))
    for what, count in (("lost", _lost), ("on the second try", _rerouted)):
        row(f"new calls {what}: detect + decide + execute",
            *(_split([count(one[name]) for name in UNTIL]) for one in by))
    row("slowest answer until the shift",
        *(f"{max(one[name].slowest for name in UNTIL) * 1000:.0f} ms" for one in by))
    row("new calls lost or cut after the shift",
        *(_zero(sum(one[name].lost + one[name].dropped for name in ("away", "return")))
          for one in by))
    row("calls in progress cut at healthy sites", *(_zero(one.healthy_dropped) for one in results))
    row("calls in progress lost with hq",
        *(str(one.held["fault"][0].dropped) for one in results))
    row("last new INVITE at hq after the decision",
        *(_time(one.last_invite_at_hq) for one in results))
    row("first call answered at acme after the shift",
        *(_time(one.first_answer_at_acme) for one in results))
    row("failed calls after failback", *(_zero(one.failback_failed) for one in results))
    console.print(table)


def _lost(phase: Phase) -> int:
    return phase.lost


def _rerouted(phase: Phase) -> int:
    return phase.rerouted


def heading(console: Console, fault: str, *, spill: bool) -> None:
    edge = "the edge tries another site by itself" if spill else "the edge tries no other site"
    console.print()
    console.print(Rule(f"[bold]{FAULTS[fault]}[/]  [dim]{edge}[/]", align="left"))


def _number(count: int, style: str) -> Text:
    return Text(str(count) if count else "·", style if count else "dim")


def _zero(count: int) -> Text:
    return Text(str(count), "bold red" if count else "green")


def _split(counts: Sequence[int]) -> Text:
    return Text(" + ".join(str(count) for count in counts),
                "bold" if sum(counts) else "green")


def _time(seconds: float | None) -> str:
    return "none" if seconds is None else f"{seconds * 1000:.0f} ms"


def _wait(one: Phase) -> str:
    return f"{one.slowest * 1000:.0f} ms" if one.slowest else "·"
