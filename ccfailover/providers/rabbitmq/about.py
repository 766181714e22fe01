"""What the documents tell of the kind: an example, the least rights, and what surprises."""

from __future__ import annotations

from typing import Final

from ccfailover.providers.examples import of_backlogs

EXAMPLE: Final = of_backlogs("""\
  mq: {kind: rabbitmq, url: "env:MQ_URL"}
""", """\
      hq:   {provider: mq, ref: applications.hq, max_receives: 21}
      acme: {provider: mq, ref: applications.acme}
""")

RIGHTS: Final = """\
rabbitmqctl set_permissions -p loans ccf '^$' '^amq\\.default$' '^applications\\.'
# Enough for check and providers test:
rabbitmqctl set_permissions -p loans ccf_look '^$' '^$' '^applications\\.'
"""

TRAPS: Final = (
    "AMQP tells nobody what another consumer holds. Items in the hands of the site's own "
    "people, or of a consumer that died with its host, are not counted until the broker gives "
    "them back.",
    "A put is `ok` when the broker has confirmed it. What was sent and not confirmed when the "
    "connection ended is in doubt, item by item; what had not been sent is not. A full queue "
    "(`overflow: reject-publish`) refuses and leaves no doubt; a queue that is not there "
    "fails each item for good.",
    "`claim_seconds` is the heartbeat of the connection that claims: a process that hangs "
    "loses its claims after twice that time, one that ends loses them at once.",
    "The broker ends a channel, and every claim on it, when one of them is not acknowledged "
    "within its `consumer_timeout` (30 minutes by default; RabbitMQ 3.8.15 and newer). Say "
    "here what the broker's is: items that stay are given back after four fifths of it, and "
    "looked at again.",
    "A quorum queue drops a message, or makes it a dead letter, that was given back more "
    "often than its `x-delivery-limit` (RabbitMQ 4: 20, unless set). AMQP does not tell the "
    "limit: write it into `max_receives`, one higher, so that the transfer refuses near it. A "
    "classic queue says no more than \"not the first time\".",
    "A queue with a single active consumer gives nothing to a second one: hold the home's "
    "consumers (`hold_consumers`) before the transfer. One held exclusively refuses us.",
    "Short of memory or disk the broker reads no more from connections that publish: puts "
    "fail with `connection.blocked`, nothing in doubt; claims and counts go on.",
    "An acknowledgement is taken when the broker's channel has answered behind it. A broker "
    "that crashes in the next moment may bring the item back; reconcile finds it as a "
    "left-over.",
)
