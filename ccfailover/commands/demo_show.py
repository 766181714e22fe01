"""How the demo looks: a live panel under the story at a terminal, plain lines elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

from ccfailover.commands.common import shares_text
from ccfailover.operations.demo_events import (
    Act,
    Command,
    Ended,
    Event,
    Finished,
    Line,
    Scene,
    Tick,
)

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.live import Live

    from ccfailover.operations.demo_proof import Proof

PLAIN_EVERY = 3.0
"""Seconds between two lines of figures where there is no live panel."""

PLACES = (("hq", "in-house"), ("acme", "outsourced"), ("callback", "treatment"))
SCENES = 7


class Show:
    """Tells events as they come; a context manager, because a live panel must be taken down."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live: Live | None = None
        self._scene: Scene | None = None
        self._told = float("-inf")

    def __enter__(self) -> Show:
        if self._console.is_terminal:
            from rich.live import Live

            self._live = Live(console=self._console, auto_refresh=False, transient=True)
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        if self._live is not None:
            self._live.stop()

    def tell(self, event: Event) -> None:
        match event:
            case Scene():
                self._scene = event
                self._begin(event)
            case Act(text=text):
                self._say("⚡ " + text, "bold magenta")
            case Command(text=text):
                self._say("$ " + text, "bold")
            case Line(text=text, problem=problem):
                self._say("  " + text, "red" if problem else "")
            case Ended(code=code, seconds=seconds):
                self._say(f"  → exit {code}, {seconds:.1f} s", "dim")
            case Tick():
                self._look(event)
            case Finished():
                if self._live is not None:
                    self._live.stop()
                    self._live = None

    def _begin(self, scene: Scene) -> None:
        from rich.rule import Rule

        self._console.print()
        self._console.print(Rule(f"[bold]{scene.number} of {SCENES} · {scene.title}[/bold]",
                                 align="left", style="cyan"))
        self._say(scene.text, "italic cyan")

    def _say(self, text: str, style: str) -> None:
        from rich.text import Text

        self._console.print(Text(text, style=style), soft_wrap=not self._console.is_terminal)

    def _look(self, tick: Tick) -> None:
        if self._live is not None:
            self._live.update(panel(tick, self._scene), refresh=True)
        elif tick.seconds - self._told >= PLAIN_EVERY:
            self._told = tick.seconds
            self._say("  · " + plain(tick), "dim")


def plain(tick: Tick) -> str:
    """One line of figures."""
    calls = ", ".join(f"{name} {tick.per_second.get(name, 0):.1f}/s" for name, _ in PLACES)
    return (f"{tick.seconds:.0f} s: calls {calls}, {tick.lost} lost so far; applications waiting "
            + ", ".join(f"{site} {_count(n)}" for site, n in tick.waiting.items())
            + "; completed " + ", ".join(f"{site} {n}" for site, n in tick.completed.items()))


def panel(tick: Tick, scene: Scene | None) -> RenderableType:
    from rich import box
    from rich.console import Group
    from rich.panel import Panel
    from rich.table import Table
    from rich.text import Text

    shown = Table(box=box.SIMPLE_HEAD, pad_edge=False, expand=True)
    for name in ("", "server", "share of calls", "answered", "a second", "waiting", "completed"):
        shown.add_column(name, justify="right" if name not in ("", "server", "share of calls")
                         else "left")
    for name, what in PLACES:
        alive = tick.alive.get(name, False)
        share = (tick.shares or {}).get(name, 0)
        shown.add_row(
            Text.assemble((name, "bold"), (f"  {what}", "dim")),
            Text("✓ up", "green") if alive else Text("✗ DEAD", "bold red"),
            Text("█" * round(share / 5), "green" if alive else "red").append(f" {share} %"),
            f"{tick.answered.get(name, 0):,}", f"{tick.per_second.get(name, 0):.1f}",
            *(("–", "–") if name not in tick.waiting else
              (_count(tick.waiting[name]), f"{tick.completed[name]:,}")))
    lost = Text.assemble(
        ("calls lost ", ""), (f"{tick.lost:,}", "bold red" if tick.lost else "green"),
        (f"   now {tick.lost_per_second:.0f} a second", "red" if tick.lost_per_second else "dim"),
        (f"      new applications go to {shares_text(tick.intake)}", "dim"),
        (f", {tick.held} held at the switch" if tick.held else "", "yellow"))
    title = f"{scene.number} of {SCENES} · {scene.title}" if scene else "setting up"
    return Panel(Group(shown, lost), title=title, title_align="left", border_style="cyan",
                 subtitle=f"{tick.seconds:.0f} s", subtitle_align="right")


def _count(n: int | None) -> str:
    return "no answer" if n is None else f"{n:,}"


# --- the end -----------------------------------------------------------------------------------


def summary(console: Console, finished: Finished, *, kept: bool) -> None:
    """What was shown, from the servers' own counts; then what it rests on, check by check."""
    from rich.rule import Rule
    from rich.text import Text

    proof = finished.proof
    console.print()
    console.print(Rule("[bold]What happened, by the servers' own counts[/bold]", align="left",
                       style="cyan"))
    _calls(console, proof)
    _applications(console, proof)
    _recovery(console, proof.recovery)
    for check in proof.checks:
        console.print(Text.assemble(
            ("✓ " if check.holds else "✗ ", "green" if check.holds else "bold red"),
            (f"{check.name}: ", "bold"), check.text))
    console.print()
    console.print(Text(f"report     {proof.report}"), soft_wrap=True)
    if kept:
        console.print(Text(f"all files  {finished.files['directory']}"), soft_wrap=True)
    failed = [check.name for check in proof.checks if not check.holds]
    console.print(
        Text(f"FAILED: {', '.join(failed)}", "bold red") if failed else
        Text(f"Everything held: no application lost, none processed twice, no call lost once "
             f"the shift was done. {finished.seconds:.0f} s.", "bold green"))


def _table(console: Console, title: str, columns: Sequence[str],
           rows: Sequence[Sequence[str]]) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    shown = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD,
                  pad_edge=False)
    for number, column in enumerate(columns):
        shown.add_column(column, justify="right" if number else "left")
    for row in rows:
        shown.add_row(*(Text(cell) for cell in row))
    console.print(shown)


def _calls(console: Console, proof: Proof) -> None:
    _table(console, "Calls", ("", "seconds", "offered", *(name for name, _ in PLACES), "LOST"), [
        (each.name, f"{each.seconds:.1f}", f"{each.offered}",
         *(f"{each.answered.get(name, 0)}" for name, _ in PLACES), f"{each.lost}")
        for each in proof.contacts])


def _applications(console: Console, proof: Proof) -> None:
    from rich.text import Text

    ids = proof.ids
    _table(console, "Applications, by id", ("", "completed", "waiting"), [
        (site, f"{ids.completed[site]:,}", f"{ids.waiting[site]:,}") for site in ids.completed])
    console.print(Text(
        f"{ids.seeded:,} at the start + {ids.submitted:,} came in = "
        f"{sum(ids.completed.values()):,} completed + {sum(ids.waiting.values()):,} waiting "
        f"+ {len(ids.lost)} lost; {len(ids.twice)} processed twice"
        + "".join(f": {uli}" for uli in ids.twice[:20])))
    for name, found in proof.equations:
        console.print(Text(f"Of {name}, counted while acme had them:"))
        console.print(Text(f"  {found.text}"))
    console.print()


def _recovery(console: Console, rows: Sequence[Mapping[str, Any]]) -> None:
    names = ("detect", "decide", "approve", "execute", "verify")
    _table(console, "Recovery time of each queue, in seconds", (
        "", "objective", "actual", *names, "met"), [
        (row["queue"], _s(row["rto"]), f"{_s(row['actual_lower'])} to {_s(row['actual_upper'])}",
         *(_s(row["phases"][name]) for name in names),
         {True: "yes", False: "NO"}.get(row["rto_met"], "?")) for row in rows])


def _s(value: float | None) -> str:
    return "?" if value is None else f"{value:.1f}"
