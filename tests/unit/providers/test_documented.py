"""The examples of docs/providers.md are what the kinds accept, and can what stands beside them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import yaml

from ccfailover.model.capabilities import Capabilities
from ccfailover.wiring import kinds

TEXT = (Path(__file__).resolve().parents[3] / "docs" / "providers.md").read_text().replace(
    "…", "")  # a key that is cut short for the reader
BLOCKS = [yaml.safe_load(block) for block in re.findall(r"^```yaml\n(.*?)^```", TEXT, re.M | re.S)]


def providers() -> dict[str, dict[str, Any]]:
    return {name: block for each in BLOCKS for name, block in each.get("providers", {}).items()}


def levers() -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Each documented backlog, with the provider that stands above it."""
    for each in BLOCKS:
        for queue in each.get("queues", {}).values():
            for lever in queue.get("backlog", {}).values():
                yield each.get("providers", providers())[lever["provider"]], lever


def able(provider: dict[str, Any], lever: dict[str, Any]) -> Capabilities:
    params = {key: value for key, value in provider.items() if key != "kind"}
    return kinds.provider_class(provider["kind"]).capabilities(params, lever)


def test_every_documented_block_fits_its_kind() -> None:
    """Providers and backlogs, against the schemas that `validate` uses."""
    assert len(providers()) >= 6
    for provider in providers().values():
        cls = kinds.provider_class(provider["kind"])
        jsonschema.validate({k: v for k, v in provider.items() if k != "kind"}, cls.PARAMS)
    found = list(levers())
    assert len(found) >= 9
    for provider, lever in found:
        cls = kinds.provider_class(provider["kind"])
        jsonschema.validate({k: v for k, v in lever.items() if k != "provider"}, cls.LEVER)
        assert able(provider, lever).backlogs, lever


def test_what_the_intakes_and_records_are_said_to_do_they_can() -> None:
    """The first intake gives back and keeps keys for a day; the batches are put-only and promise
    nothing; records are assigned once and for all."""
    named = providers()
    first = able(named["acme_intake"], {"ref": "loans"})
    assert (first.claims, first.idempotent_put, first.put_window) == (True, True, 86_400.0)
    batches = able(named["acme_batches"], {"ref": "loans"})
    assert (batches.backlogs, batches.claims, batches.idempotent_put) == (True, False, False)
    assigned = [able(provider, lever) for provider, lever in levers() if "assignee" in lever]
    assert [each.assignee for each in assigned] == ["hq", "acme"] * 2
    assert all(each.idempotent_put and each.put_window is None for each in assigned)
