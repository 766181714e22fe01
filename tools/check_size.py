"""No module over 400 lines, no function over 70, no drawer named utils.

A longer module may stay one when its docstring says why: "Over 400 lines because …".
    python tools/check_size.py [--root DIR]
"""

from __future__ import annotations

import argparse
import ast
import sys
from collections.abc import Iterator
from pathlib import Path

MODULE_LINES = 400
FUNCTION_LINES = 70
EXCUSE = "over 400 lines because"
DRAWERS = {"utils.py", "util.py", "helpers.py", "misc.py"}


def problems(path: Path, shown: str) -> Iterator[str]:
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text, filename=shown)
    if path.name in DRAWERS:
        yield f"{shown}: a module is named for what it is responsible for, not {path.name}"
    lines = text.count("\n")
    if lines > MODULE_LINES and EXCUSE not in (ast.get_docstring(tree) or "").lower():
        yield f"{shown}: {lines} lines; split it by responsibility (limit {MODULE_LINES})"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > FUNCTION_LINES:
                yield f"{shown}:{node.lineno}: {node.name} has {length} lines ({FUNCTION_LINES})"


def main() -> int:
    parser = argparse.ArgumentParser(description="Check the size of modules and functions.")
    parser.add_argument("--root", type=Path, default=Path(__file__).resolve().parent.parent)
    root: Path = parser.parse_args().root
    found = [
        problem
        for path in sorted((root / "ccfailover").rglob("*.py"))
        for problem in problems(path, str(path.relative_to(root)))
    ]
    print(*found, sep="\n", end="\n" if found else "")
    print(f"Sizes: {len(found)} problem{'s' if len(found) != 1 else ''}", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
