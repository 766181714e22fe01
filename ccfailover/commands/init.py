"""`ccfailover init [FILE]`"""

from __future__ import annotations

from pathlib import Path

import click

from ccfailover.errors import UsageError


@click.command(epilog="Example: ccfailover init policy.yaml --name consumer_loans")
@click.argument("file", default="policy.yaml")
@click.option("--name", default="my_lender", show_default=True, help="The policy's name.")
@click.option("--home", default="hq", show_default=True, help="Your own site's name.")
@click.option("--backup", default="acme", show_default=True, help="The outsourcer's name.")
@click.option("--force", is_flag=True, help="Write over an existing file.")
def command(file: str, name: str, home: str, backup: str, force: bool) -> None:
    """Write a commented starter policy."""
    from ccfailover.policy.starter import starter

    path = Path(file)
    if path.exists() and not force:
        raise UsageError(f"{file} exists", not_done="nothing was written",
                         hint="another name, or --force")
    text = starter(name=name, home=home, backup=backup)
    try:
        path.write_text(text)
    except OSError as error:
        raise UsageError(f"{file} cannot be written: {error.strerror}",
                         not_done="nothing was written",
                         hint="a file in a folder that exists and is yours") from None
    click.echo(f"{file} written\nNEXT: edit it, then: ccfailover validate {file}")
