"""`ccfailover outbox`"""

from __future__ import annotations

import click

from ccfailover.commands.common import (
    clock,
    desk_for,
    head,
    json_option,
    local_look_option,
    policy_option,
    print_json,
    table,
)


@click.command(epilog="Example: ccfailover outbox")
@click.option("--list", "only_list", is_flag=True, help="Show what waits; send nothing.")
@local_look_option
@policy_option
@json_option
def command(only_list: bool, policy: str | None, as_json: bool) -> None:
    """Deliver the messages that wait to be sent.

    Runs and checks only put messages into the store, so that no mail server can hold them up;
    `execute-due` delivers them too.
    """
    from ccfailover.operations.outbox import deliver_waiting

    desk = desk_for(policy)
    sent = {"sent": 0, "failed": 0, "errors": []} if only_list else deliver_waiting(desk)
    waiting = desk.store.pending(50)
    if as_json:
        print_json({**sent, "waiting": [message.__dict__ for message in waiting]})
        return
    head(desk)
    click.echo(f"{sent['sent']} sent, {sent['failed']} failed, {len(waiting)} waiting")
    if waiting:
        table("", ("since", "what", "attempts", "last error"), [
            (clock(w.at), w.title, str(w.attempts), w.last_error or "")
            for w in waiting])
