"""`ccfailover policy schema|path`"""

from __future__ import annotations

import os
from importlib import resources

import click

from ccfailover.commands.common import policy_option


@click.group(epilog="Example: ccfailover policy schema > schema.json")
def command() -> None:
    """The policy's schema, and where the policy is found."""


@command.command(epilog="Example: ccfailover policy schema > schema.json")
def schema() -> None:
    """Print the JSON Schema (2020-12), for editors."""
    click.echo((resources.files("ccfailover.policy") / "schema.json").read_text())


@command.command(epilog="Example: ccfailover policy path")
@policy_option
def path(policy: str | None) -> None:
    """Print which policy is in use."""
    from ccfailover.policy.find import find_policy

    click.echo(str(find_policy(policy, os.environ)))
