"""docs/policy.md from schema.json, so that the reference is never behind the program.

    python tools/gen_policy_docs.py [--check]

`--check` writes nothing and exits 1 when the document differs. What stands above the marker in
docs/policy.md is written by hand and kept.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
SCHEMA = ROOT / "ccfailover" / "policy" / "schema.json"
DOCUMENT = ROOT / "docs" / "policy.md"
MARKER = "<!-- From here on: written by tools/gen_policy_docs.py -->"

Node = Mapping[str, Any]


def reference(schema: Node) -> str:
    """Every key: a table for the top, and one for each block that is a mapping with fixed keys."""
    definitions = schema["$defs"]
    lines = [MARKER, "", "## Every key", "", *table(schema, definitions)]
    for name, node in definitions.items():
        if node.get("properties"):
            title = node.get("title", name.replace("_", " ").capitalize())
            lines += ["", f"### {title} (`{name}`)", ""]
            if node.get("description"):
                lines += [node["description"], ""]
            lines += table(node, definitions)
    plain = [(name, node) for name, node in definitions.items() if not node.get("properties")]
    lines += ["", "### Values", "", "| value | what it is |", "|---|---|"]
    lines += [f"| {name.replace('_', ' ')} | {cell(node.get('description') or kind(node, {}))}"
              f"{example(node)} |" for name, node in plain]
    return "\n".join(lines) + "\n"


def table(node: Node, definitions: Node) -> Iterator[str]:
    required = set(node.get("required", ()))
    yield "| key | value | meaning |"
    yield "|---|---|---|"
    for key, value in node["properties"].items():
        must = " **(required)**" if key in required else ""
        yield f"| `{key}`{must} | {cell(kind(value, definitions))} | {cell(meaning(value))} |"
        for inner, deeper in value.get("properties", {}).items():
            yield (f"| `{key}.{inner}` | {cell(kind(deeper, definitions))} | "
                   f"{cell(meaning(deeper))} |")


def meaning(node: Node) -> str:
    return str(node.get("description") or node.get("title") or "") + example(node)


def example(node: Node) -> str:
    given = [json.dumps(one, ensure_ascii=False) for one in node.get("examples", ())]
    return f" Such as {', '.join(f'`{one}`' for one in given)}." if given else ""


def kind(node: Node, definitions: Node) -> str:
    """What may stand there, in words."""
    if "$ref" in node:
        name = node["$ref"].rpartition("/")[2]
        return name.replace("_", " ")
    if "enum" in node:
        return " \\| ".join(f"`{one}`" for one in node["enum"])
    if "const" in node:
        return f"`{node['const']}`"
    for choice in ("oneOf", "anyOf"):
        if choice in node:
            return " or ".join(dict.fromkeys(kind(one, definitions) for one in node[choice]))
    if node.get("type") == "array":
        return f"list of {kind(node.get('items', {}), definitions)}"
    if node.get("type") == "object":
        inner = node.get("additionalProperties")
        if isinstance(inner, Mapping):
            return f"name → {kind(inner, definitions)}"
        return "mapping"
    found = node.get("type", "any")
    return " or ".join(found) if isinstance(found, list) else str(found)


def cell(text: str) -> str:
    """A table's cell may not break its line, nor hold a bare bar."""
    return " ".join(text.split()).replace("\\|", "|").replace("|", "\\|")


def document(existing: str, schema: Node) -> str:
    """The hand-written part, then the reference. Raises ValueError when the marker is gone."""
    by_hand, found, _ = existing.partition(MARKER)
    if not found:
        raise ValueError(f"{DOCUMENT} has no line {MARKER!r}")
    return by_hand + reference(schema)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    asked = parser.parse_args()
    existing = DOCUMENT.read_text(encoding="utf-8")
    wanted = document(existing, json.loads(SCHEMA.read_text(encoding="utf-8")))
    if asked.check:
        if existing != wanted:
            print(f"{DOCUMENT} is behind the schema: run python tools/gen_policy_docs.py")
            return 1
        return 0
    DOCUMENT.write_text(wanted, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
