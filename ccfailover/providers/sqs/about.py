"""What the documents tell of the kind: an example, the least rights, and what surprises."""

from __future__ import annotations

from typing import Final

from ccfailover.providers.examples import of_backlogs

EXAMPLE: Final = of_backlogs("""\
  jobs: {kind: sqs, region: us-east-2}
""", """\
      hq:   {provider: jobs, ref: applications-hq}
      acme: {provider: jobs, ref: applications-acme.fifo}
""")

RIGHTS: Final = """\
{"Version": "2012-10-17", "Statement": [{"Effect": "Allow",
  "Action": ["sqs:GetQueueUrl", "sqs:GetQueueAttributes", "sqs:ReceiveMessage",
             "sqs:ChangeMessageVisibility", "sqs:DeleteMessage", "sqs:SendMessage"],
  "Resource": ["arn:aws:sqs:us-east-2:123456789012:applications-hq",
               "arn:aws:sqs:us-east-2:123456789012:applications-acme.fifo"]}]}
"""

TRAPS: Final = (
    "A FIFO target takes one item of each group a call, so that none overtakes another: many "
    "groups are fast, a single one goes item by item.",
    "Items that the site's own people hold are hidden and stay where they are until their "
    "visibility time is over; a dead home gives them back only then. The transfer waits for "
    "them until its deadline and lists what it could not see.",
    "A claim raises an item's receive count by one. A small `maxReceiveCount` sends items to "
    "the dead letter queue; the transfer refuses near it.",
    "The order of a standard queue is nobody's promise; \"nearest deadline first\" holds within "
    "what one receive shows.",
    "Set the source queue's `VisibilityTimeout` longer than the slowest decision, or two "
    "people work on one application.",
)
