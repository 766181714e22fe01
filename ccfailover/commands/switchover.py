"""`ccfailover switchover SITE`"""

from __future__ import annotations

from ccfailover.commands.leaving import leaving

command = leaving("switchover", "Empty a healthy site, planned and in good order.",
                  'ccfailover switchover hq --reason "generator test"')
