"""`ccfailover failover SITE`"""

from __future__ import annotations

from ccfailover.commands.leaving import leaving

command = leaving("full_failover",
                  "The site is dead: move all its work to where it can be served.",
                  'ccfailover failover hq --reason "INC-42 power"')
