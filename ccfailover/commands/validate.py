"""`ccfailover validate [FILE]`"""

from __future__ import annotations

import os

import click

from ccfailover.commands.acting import finish
from ccfailover.commands.common import json_option, policy_option, print_json
from ccfailover.errors import Exit


@click.command(epilog="Example: ccfailover validate policies/consumer_loans.yaml")
@click.argument("file", required=False)
@click.option("--strict", is_flag=True, help="Warnings count as errors.")
@policy_option
@json_option
def command(file: str | None, strict: bool, policy: str | None, as_json: bool) -> None:
    """Find everything that is wrong with a policy.

    Every problem at once, as file:line:col: message; exit 3 if there is an error.
    """
    from ccfailover.policy import load
    from ccfailover.policy.find import find_policy
    from ccfailover.runtime import SystemRuntime
    from ccfailover.wiring.kinds import Schemas

    path = find_policy(file or policy, os.environ)
    found, problems = load.check(path, Schemas(), now=SystemRuntime().now())
    errors = [problem for problem in problems if problem.is_error or strict]
    if as_json:
        print_json({"policy": str(path), "valid": not errors,
                    "problems": [problem.to_json() for problem in problems]})
    else:
        for problem in problems:
            click.echo(str(problem), err=problem.is_error)
        name = found.heading if found else path
        told = (f"{_count(len(errors), 'error')}, "
                f"{_count(len(problems) - len(errors), 'warning')}")
        click.echo(f"{name}: {'not valid' if errors else 'valid'}"
                   + (f": {told}" if problems else ""))
    finish(int(Exit.POLICY if errors else Exit.DONE))


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")
