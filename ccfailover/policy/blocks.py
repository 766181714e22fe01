"""Where the blocks of a policy stand in plain data of any shape, and what kinds they name."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from ccfailover.errors import UsageError
from ccfailover.policy.kinds import KindSchemas
from ccfailover.policy.places import Path


def blocks(data: Mapping[str, Any], noun: str) -> Iterator[tuple[str, dict[str, Any]]]:
    found = data.get(noun)
    for name, block in (found.items() if isinstance(found, dict) else ()):
        if isinstance(block, dict):
            yield name, block


def levers(data: Mapping[str, Any]) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Every lever of every queue, and every procedure, with its path."""
    for name, queue in blocks(data, "queues"):
        for use in ("route", "intake"):
            lever = queue.get(use)
            if isinstance(lever, dict) and "levers" in lever:
                rows = lever["levers"]
                for index, row in enumerate(rows if isinstance(rows, list) else ()):
                    if isinstance(row, dict):
                        yield ("queues", name, use, "levers", index), row
            elif isinstance(lever, dict):
                yield ("queues", name, use), lever
        if isinstance(queue.get("announcement"), dict):
            yield ("queues", name, "announcement"), queue["announcement"]
        for use in ("backlog", "consumers"):
            entries = queue.get(use)
            for site, lever in (entries.items() if isinstance(entries, dict) else ()):
                if isinstance(lever, dict):
                    yield ("queues", name, use, site), lever
    for name, block in blocks(data, "procedures"):
        yield ("procedures", name), block


def probes(data: Mapping[str, Any]) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Every probe of a site, dependency or queue, with its path."""
    for noun in ("sites", "dependencies", "queues"):
        for name, block in blocks(data, noun):
            rows = block.get("probes")
            for index, probe in enumerate(rows if isinstance(rows, list) else ()):
                if isinstance(probe, dict):
                    yield (noun, name, "probes", index), probe


def steps(data: Mapping[str, Any]) -> Iterator[tuple[Path, str, object]]:
    """Every line of the policy's own runbooks: its path, kind and parameters."""
    for name, runbook in blocks(data, "runbooks"):
        for part in ("before", "branch", "after"):
            rows = runbook.get(part)
            for index, row in enumerate(rows if isinstance(rows, list) else ()):
                path: Path = ("runbooks", name, part, index)
                if isinstance(row, str):
                    yield path, row, None
                elif isinstance(row, dict) and len(row) == 1:
                    (kind, params), = row.items()
                    yield (*path, kind), kind, params


def schemas_text(data: Mapping[str, Any], kinds: KindSchemas) -> str | None:
    """The schemas that the blocks of `data` are held to, as one text that differs when they do.

    None when a block names a kind that there is not: then nothing can be said.
    """
    named: dict[str, set[object]] = {
        "provider": {block.get("kind") for _, block in blocks(data, "providers")},
        "probe": {probe.get("kind") for _, probe in probes(data)},
        "step": {kind for _, kind, _ in steps(data)},
    }
    found: dict[str, object] = {}
    try:
        for noun, names in named.items():
            for kind in names:
                if not isinstance(kind, str):
                    return None
                if noun == "provider":
                    found[f"provider {kind}"] = kinds.provider_schema(kind)
                    found[f"lever {kind}"] = kinds.lever_schema(kind)
                elif noun == "probe":
                    found[f"probe {kind}"] = kinds.probe_schema(kind)
                else:
                    found[f"step {kind}"] = kinds.step_schema(kind)
        return json.dumps(found, sort_keys=True)
    except (UsageError, TypeError, ValueError):
        return None
