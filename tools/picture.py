"""A terminal's text, with its colours, from stdin to an SVG that needs nothing else.

    tmux capture-pane -p -e -S -300 |
        python tools/picture.py docs/img/demo.svg --from "What happened"
"""

from __future__ import annotations

import argparse
import io
import re
import sys
from pathlib import Path

FONTS = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)
"""rich names fonts on a public host; a picture in a repository fetches nothing."""


def svg(text: str, *, title: str, width: int) -> str:
    """The text as rich draws a terminal."""
    from rich.console import Console
    from rich.text import Text

    console = Console(record=True, width=width, file=io.StringIO(), force_terminal=True)
    console.print(Text.from_ansi(text))
    drawn = console.export_svg(title=title, unique_id="ccfailover")
    return FONTS.sub("", drawn).replace("Fira Code", "ui-monospace, Menlo, Consolas")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--from", dest="begin", default="", help="leave out what comes before")
    parser.add_argument("--to", dest="end", default="", help="leave out this line and the rest")
    parser.add_argument("--title", default="ccfailover demo")
    parser.add_argument("--width", type=int, default=104)
    asked = parser.parse_args()
    lines = sys.stdin.read().rstrip().splitlines()
    first = next((n for n, line in enumerate(lines) if asked.begin in line), 0)
    last = next((n for n, line in enumerate(lines) if asked.end and asked.end in line), len(lines))
    asked.file.parent.mkdir(parents=True, exist_ok=True)
    asked.file.write_text(svg("\n".join(lines[first:last]), title=asked.title, width=asked.width))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
