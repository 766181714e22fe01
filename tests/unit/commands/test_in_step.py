"""What `--help`, README and the documents say is what the program does."""

from __future__ import annotations

import re
import shlex
from importlib import import_module
from pathlib import Path

import click
import pytest

from ccfailover.commands import EPILOG, VERBS, cli
from ccfailover.errors import Exit
from ccfailover.runbooks import recipe
from ccfailover.wiring import kinds

ROOT = Path(__file__).parents[3]
README = (ROOT / "README.md").read_text()
OPERATIONS = (ROOT / "docs" / "operations.md").read_text()
POLICY = (ROOT / "docs" / "policy.md").read_text()
PROVIDERS = (ROOT / "docs" / "providers.md").read_text()
TABLE = re.compile(r"^\| (\d+) \| `?([A-Z_]+)`? \|", re.MULTILINE)


def leaves() -> list[tuple[str, click.Command]]:
    """Every command that does something, with its words."""
    found: list[tuple[str, click.Command]] = []
    for verb, (module, _) in VERBS.items():
        command: click.Command = import_module(f"ccfailover.commands.{module}").command
        if isinstance(command, click.Group):
            found += [(f"{verb} {name}", sub) for name, sub in command.commands.items()]
        found.append((verb, command))
    return found


@pytest.mark.parametrize("verb", VERBS)
def test_a_summary_is_the_verbs_own_first_line(verb: str) -> None:
    """`--help` lists verbs without importing them, and must not lie about them."""
    module, summary = VERBS[verb]
    command = import_module(f"ccfailover.commands.{module}").command
    assert (command.help or "").splitlines()[0] == summary


@pytest.mark.parametrize(("words", "command"), leaves(), ids=[name for name, _ in leaves()])
def test_every_verb_shows_an_example(words: str, command: click.Command) -> None:
    """An example in `--help` that begins like the command itself."""
    assert f"ccfailover {words.split()[0]}" in (command.epilog or ""), words


@pytest.mark.parametrize(("words", "command"), leaves(), ids=[name for name, _ in leaves()])
def test_every_example_is_understood(words: str, command: click.Command) -> None:
    """The words of each example are options and arguments that exist."""
    for line in (command.epilog or "").splitlines():
        said = re.search(r"ccfailover (.*)$", line.strip())
        if said is None:
            continue
        example = re.split(r"  +|;| > | \| ", said.group(1))[0]
        verb, *rest = [word for word in shlex.split(example) if word != "…"]
        target: click.Command = import_module(
            f"ccfailover.commands.{VERBS[verb][0]}").command
        while isinstance(target, click.Group):
            name, *rest = rest
            target = target.commands[name]
        with target.make_context(verb, rest, resilient_parsing=False):
            pass


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_is_documented(verb: str) -> None:
    """In README, the runbook for on-call or the policy's document, as a command."""
    assert f"ccfailover {verb}" in README + OPERATIONS + POLICY


@pytest.mark.parametrize("text", [README, OPERATIONS, POLICY, PROVIDERS],
                         ids=["README", "operations", "policy", "providers"])
def test_no_document_names_a_verb_or_option_that_does_not_exist(text: str) -> None:
    """What is shown as code can be typed."""
    fences = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    blocks = "\n".join(body for kind, body in fences if kind in ("sh", "cron", ""))
    inline = re.findall(r"`ccfailover ([a-z][^`]*)`", text)
    for line in inline + re.findall(r"ccfailover ([a-z][^#\n;]*)", blocks):
        verb, *rest = line.split()
        assert verb in VERBS, line
        command: click.Command = import_module(f"ccfailover.commands.{VERBS[verb][0]}").command
        while isinstance(command, click.Group):
            assert rest and rest[0] in command.commands, line
            command, rest = command.commands[rest[0]], rest[1:]
        known = {name for param in command.params for name in param.opts}
        for word in rest:
            if word in {"|", ";", ">", "&&", "||"}:
                break
            if word.startswith("--"):
                assert word.partition("=")[0] in known, line


def test_the_exit_code_table_is_the_codes() -> None:
    """README's table, code by code; `--help` names the same ones."""
    assert {name: int(code) for code, name in TABLE.findall(README)} == {
        code.name: int(code) for code in Exit}
    for code in Exit:
        if code not in (Exit.DONE, Exit.BUG):
            assert re.search(rf"\b{int(code)} [a-z]", EPILOG), code


def test_every_kind_is_documented() -> None:
    """Probes and steps in docs/policy.md, providers in docs/providers.md."""
    for kind in (*kinds.PROBES, *kinds.STEPS):
        assert f"`{kind}`" in POLICY, kind
    for kind in kinds.PROVIDERS:
        assert f"## `{kind}`" in PROVIDERS, kind
    for name in recipe.BUILTIN:
        assert f"`{name}`" in POLICY, name


def test_help_needs_no_verb() -> None:
    """The group itself answers."""
    assert set(VERBS) == set(cli.list_commands(click.Context(cli)))
