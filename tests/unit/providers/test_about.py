"""What each kind tells of itself: an example that `validate` takes, rights, traps, its document."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from ccfailover.commands.providers import command
from ccfailover.policy.load import check
from ccfailover.wiring.kind_facts import facts
from ccfailover.wiring.kinds import PROVIDERS, Schemas, provider_class

ROOT = Path(__file__).resolve().parents[3]
NOW = 1_790_000_000_000_000
FRONT = "version: 1\nname: example\n"


@pytest.mark.parametrize("kind", PROVIDERS)
def test_the_example_is_a_policy(kind: str, tmp_path: Path) -> None:
    """With a version and a name in front `validate` takes it, and it uses the kind."""
    path = tmp_path / "policy.yaml"
    path.write_text(FRONT + provider_class(kind).EXAMPLE)
    policy, problems = check(str(path), Schemas(), now=NOW)
    assert policy is not None, [str(one) for one in problems]
    assert kind in {provider.kind for provider in policy.providers.values()}
    unused = [one.message for one in problems if "is used by nothing" in one.message]
    assert not unused


@pytest.mark.parametrize("kind", PROVIDERS)
def test_rights_and_traps_are_told(kind: str) -> None:
    found = facts(kind)
    assert found.rights and found.rights_text and found.traps and found.drives
    assert found.can or not {"routes", "backlogs"} & set(found.drives)


@pytest.mark.parametrize("kind", PROVIDERS)
def test_every_top_key_says_what_it_means(kind: str) -> None:
    """A key in a table without a word beside it helps nobody."""
    found = facts(kind)
    assert [key.path for key in (*found.provider, *found.lever) if key.value == ""] == []


def test_the_document_is_what_the_kinds_say() -> None:
    """docs/providers.md as the generator would write it now, and again the same."""
    spec = importlib.util.spec_from_file_location("gen_provider_docs",
                                                  ROOT / "tools" / "gen_provider_docs.py")
    assert spec is not None and spec.loader is not None
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    text = (ROOT / "docs" / "providers.md").read_text(encoding="utf-8")
    assert tool.document(text, sorted(PROVIDERS)) == text
    # One that is new gets a section of its own, and what is written by hand stays.
    without = text[:text.index("<!-- sqs: from here")] + text[text.index("<!-- sqs: until here"):]
    without = without.replace("<!-- sqs: until here -->\n", "").replace("## `sqs`", "## `sq`")
    again = tool.document(without, sorted(PROVIDERS))
    assert again.count("## `sqs`") == 1 and "## `sq`" in again
    assert tool.document(again, sorted(PROVIDERS)) == again


def test_the_list_tells_each_kind_and_all_of_one() -> None:
    """Kinds with what they can, need and ask for; one with keys, example and traps; as JSON."""
    listed = CliRunner().invoke(command, ["list"])
    assert listed.exit_code == 0
    for kind in PROVIDERS:
        assert f"\n{kind}  " in f"\n{listed.output}"
    assert "sqs:ReceiveMessage" in listed.output
    one = CliRunner().invoke(command, ["list", "http"])
    assert one.exit_code == 0
    for words in ("destinations", "route.shift", "Traps:", "kind: http", "smallest step"):
        assert words in one.output, words
    as_json = json.loads(CliRunner().invoke(command, ["list", "--json"]).output)
    assert {row["kind"] for row in as_json} >= set(PROVIDERS)
    assert all(row["example"] and row["rights_text"] for row in as_json)
