"""Each kind's part of docs/providers.md from the kind itself, so that it is never behind.

    python tools/gen_provider_docs.py [--check]

`--check` writes nothing and exits 1 when the document differs. Between a kind's two markers stands
what is written here; what stands around them is written by hand and kept. A kind that has no
markers yet gets them at the end of its section, or a section of its own at the end.
"""

from __future__ import annotations

import argparse
import re
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path

from ccfailover.wiring.kind_facts import Key, KindFacts, facts
from ccfailover.wiring.kinds import PROVIDERS

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "providers.md"
BEGIN = "<!-- {kind}: from here on written by tools/gen_provider_docs.py -->"
END = "<!-- {kind}: until here -->"


def part(found: KindFacts) -> str:
    """One kind, without its heading."""
    lines = [f"### All of `{found.kind}`", "", *wrapped(f"{found.summary}."), ""]
    if found.example:
        lines += ["A minimal policy (`version: 1` and a `name` go in front):", "",
                  "```yaml", found.example, "```", ""]
    if found.can:
        lines += ["| capability | |", "|---|---|",
                  *(f"| {cell(what)} | {cell(how)} |" for what, how in found.can), ""]
    for title, keys in (("Keys of the provider", found.provider),
                        ("Keys of a lever, beside `provider`", found.lever)):
        if keys:
            lines += [f"{title}:", "", *table(keys), ""]
    for title, sentences in (("Needs", found.needs), ("Least rights", found.rights)):
        lines += bullets(title, sentences)
    if found.rights_text:
        lines += [f"```{language(found.rights_text)}", found.rights_text, "```", ""]
    lines += bullets("Traps", found.traps)
    return "\n".join(lines)


def table(keys: Sequence[Key]) -> Iterator[str]:
    yield "| key | value | meaning |"
    yield "|---|---|---|"
    for key in keys:
        must = " **(required)**" if key.required else ""
        yield f"| `{key.path}`{must} | {cell(key.value)} | {cell(key.meaning)} |"


def bullets(title: str, sentences: Sequence[str]) -> list[str]:
    if not sentences:
        return []
    rows = [line for sentence in sentences for line in textwrap.wrap(
        sentence, 98, initial_indent="- ", subsequent_indent="  ", break_long_words=False,
        break_on_hyphens=False)]
    return [f"{title}:", *rows, ""]


def wrapped(text: str) -> list[str]:
    return textwrap.wrap(text[:1].upper() + text[1:], 98)


def language(text: str) -> str:
    return "json" if text.startswith(("{", "[")) else "text"


def cell(text: str) -> str:
    """A table's cell may not break its line, nor hold a bare bar."""
    return " ".join(text.split()).replace("|", "\\|")


def document(existing: str, kinds: Sequence[str]) -> str:
    """`existing` with every kind's part as it is now."""
    text = existing
    for kind in kinds:
        begin, end = BEGIN.format(kind=kind), END.format(kind=kind)
        wanted = f"{begin}\n\n{part(facts(kind))}\n{end}"
        if begin in text and end in text:
            before, _, rest = text.partition(begin)
            text = before + wanted + rest.partition(end)[2]
            continue
        heading = f"## `{kind}`\n"
        if heading not in text:
            text = f"{text.rstrip()}\n\n{heading}"
        at = text.index(heading) + len(heading)
        following = re.search(r"^## ", text[at:], re.MULTILINE)
        cut = at + following.start() if following else len(text)
        text = f"{text[:cut].rstrip()}\n\n{wanted}\n\n{text[cut:]}".rstrip() + "\n"
    return text


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    asked = parser.parse_args()
    existing = DOCUMENT.read_text(encoding="utf-8")
    wanted = document(existing, sorted(PROVIDERS))
    if not asked.check:
        DOCUMENT.write_text(wanted, encoding="utf-8")
    elif existing != wanted:
        print(f"{DOCUMENT} is behind the kinds: run python tools/gen_provider_docs.py")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
