"""`ccfailover db`"""

from __future__ import annotations

import click

from ccfailover.commands.common import json_option, policy_option, print_json


@click.group(epilog="Example: ccfailover db upgrade")
def command() -> None:
    """Bring the store's tables up to this version."""


@command.command(epilog="""\b
Example: ccfailover db upgrade
\b
Exit codes: 0 the store fits this version · 3 policy · 8 the store cannot be reached or changed, or
was made by a newer version.""")
@policy_option
@json_option
def upgrade(policy: str | None, as_json: bool) -> None:
    """Migrate the store that the policy names; say from which schema to which.

    A file is migrated by whatever opens it first. A database that several machines share waits
    for this verb: run it once all of them have the new version, because the old one then refuses
    to work with it. Nothing is lost; it happens whole or not at all.
    """
    from ccfailover.wiring.assemble import upgrade_store

    loaded, store = upgrade_store(policy)
    before, after = store.schema
    where = store.path
    store.close()
    if as_json:
        print_json({"policy": loaded.heading, "store": where, "from": before, "to": after})
        return
    click.echo(loaded.heading)
    if before == after:
        click.echo(f"{where}: schema {after}, as this version needs it; nothing to do")
    else:
        was = f"schema {before}" if before else "empty"
        click.echo(f"{where}: was {was}, is schema {after}")
