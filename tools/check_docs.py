"""What can be wrong with the documents without anybody noticing.

- every relative link in a *.md leads to a file, every `#anchor` to a heading;
- no tracked text file holds a phrase that `[tool.ccfailover.docs]` of pyproject.toml forbids, nor
  the path of this very checkout;
- every decision record is listed in docs/adr/README.md, and is numbered without a gap;
- CHANGELOG.md keeps to Keep a Changelog.

    python tools/check_docs.py [--root DIR]
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

FENCE = re.compile(r"^(```|~~~).*?^\1[ \t]*$", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"(`+)(?!`).+?(?<!`)\1(?!`)", re.DOTALL)
LINK = re.compile(r"!?\[(?:[^\]\[]|\[[^\]]*\])*\]\(\s*<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\s*\)")
REFERENCE = re.compile(r"^ {0,3}\[[^\]]+\]:\s+<?(\S+?)>?\s*$", re.MULTILINE)
HEADING = re.compile(r"^#{1,6}\s+(.+?)\s*#*$", re.MULTILINE)
SCHEME = re.compile(r"^[a-z][a-z0-9+.-]*:", re.IGNORECASE)
CHANGES = ["Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"]
TEXT_LIMIT = 5_000_000


def tracked(root: Path) -> list[Path]:
    """Files that git knows or would take; everything when there is no git (an unpacked sdist)."""
    command = ["git", "-C", str(root), "ls-files", "-z", "-co", "--exclude-standard"]
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode == 0:
        names = [name for name in done.stdout.decode().split("\0") if name]
        return sorted(path for name in names if (path := root / name).is_file())
    return sorted(path for path in root.rglob("*") if path.is_file())


def blank(found: re.Match[str]) -> str:
    """Code taken out, with its lines kept, so that places stay right."""
    return "\n" * found.group(0).count("\n")


def anchors(text: str) -> set[str]:
    """The anchors that forges make of headings, the numbered ones of repeated headings too."""
    seen: dict[str, int] = {}
    for heading in HEADING.findall(FENCE.sub(blank, text)):
        plain = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        slug = re.sub(r"[^\w\- ]", "", plain.lower()).replace(" ", "-")
        seen[slug] = seen.get(slug, -1) + 1
        if seen[slug]:
            seen[f"{slug}-{seen[slug]}"] = 0
    return set(seen)


def links(root: Path, path: Path) -> Iterator[str]:
    text = path.read_text(encoding="utf-8")
    prose = CODE.sub(blank, FENCE.sub(blank, text))
    for found in [*LINK.finditer(prose), *REFERENCE.finditer(prose)]:
        target = unquote(found.group(1))
        if SCHEME.match(target) or target.startswith("//"):
            continue
        where = f"{path.relative_to(root)}:{prose.count(chr(10), 0, found.start()) + 1}"
        name, _, anchor = target.partition("#")
        aim = (path.parent / name).resolve() if name else path
        if not aim.is_relative_to(root) or not aim.exists():
            yield f"{where}: the link to {target} leads nowhere"
        elif anchor and aim.suffix == ".md" and anchor not in anchors(aim.read_text("utf-8")):
            yield f"{where}: {name or path.name} has no heading #{anchor}"


def forbidden(root: Path, files: list[Path]) -> Iterator[str]:
    config = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    rules: dict[str, str] = config["tool"]["ccfailover"]["docs"]["forbidden"]
    rules = {**rules, re.escape(f"{root}/"): "a path that exists on this machine only"}
    exempt = {root / "pyproject.toml", root / "LICENSE"}
    for path in files:
        if path in exempt or path.stat().st_size > TEXT_LIMIT:
            continue
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        for pattern, why in rules.items():
            for found in re.finditer(pattern, text):
                line = text.count("\n", 0, found.start()) + 1
                yield f"{path.relative_to(root)}:{line}: {found.group(0)!r}: {why}"


def decisions(root: Path) -> Iterator[str]:
    index = root / "docs" / "adr" / "README.md"
    if not index.is_file():
        yield "docs/adr/README.md: missing"
        return
    text = index.read_text(encoding="utf-8")
    records = sorted(index.parent.glob("[0-9]*.md"))
    for number, record in enumerate(records, start=1):
        if not record.name.startswith(f"{number:04}-"):
            yield f"docs/adr/{record.name}: expected number {number:04}"
        if f"({record.name})" not in text:
            yield f"docs/adr/README.md: does not list {record.name}"


def changelog(root: Path) -> Iterator[str]:
    path = root / "CHANGELOG.md"
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    if not text.startswith("# Changelog\n"):
        yield "CHANGELOG.md:1: must begin with '# Changelog'"
    versions = re.findall(r"^## (.*)$", text, re.MULTILINE)
    if not versions or versions[0] != "[Unreleased]":
        yield "CHANGELOG.md: the first section must be '## [Unreleased]'"
    dated: list[tuple[int, ...]] = []
    for version in versions[1:]:
        release = r"\[(\d+)\.(\d+)\.(\d+)\] - \d{4}-\d{2}-\d{2}(?: \[YANKED\])?"
        found = re.fullmatch(release, version)
        if found is None:
            yield f"CHANGELOG.md: '## {version}' is not '## [1.2.3] - YYYY-MM-DD'"
        else:
            dated.append(tuple(int(part) for part in found.groups()))
    if dated != sorted(dated, reverse=True):
        yield "CHANGELOG.md: versions must go from newest to oldest"
    for kind in re.findall(r"^### (.*)$", text, re.MULTILINE):
        if kind not in CHANGES:
            yield f"CHANGELOG.md: '### {kind}' is none of {', '.join(CHANGES)}"


def main() -> int:
    parser = argparse.ArgumentParser(description="Check links, phrases, ADRs and the changelog.")
    parser.add_argument("--root", type=Path, default=Path(__file__).parent.parent)
    root: Path = parser.parse_args().root.resolve()
    files = tracked(root)
    found = [problem for path in files if path.suffix == ".md" for problem in links(root, path)]
    found += [*forbidden(root, files), *decisions(root), *changelog(root)]
    print(*found, sep="\n", end="\n" if found else "")
    print(f"Documents: {len(found)} problem{'s' if len(found) != 1 else ''}", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
