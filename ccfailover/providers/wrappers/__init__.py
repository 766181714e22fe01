"""What may stand between a run and a platform: a lock on the levers, a rehearsal, patience.

    ViewsOnly(provider)             reads pass, no lever can be had: shadow drills
    DryRun(provider, say)           reads pass, writes are told to `say` and only pretended
    Retrying(provider, runtime)     what is transient is tried again, within bounds

Each is a LeverSource, as a provider is.
"""

from ccfailover.providers.patience import Patience
from ccfailover.providers.wrappers.dry import DryRun
from ccfailover.providers.wrappers.patient import Retrying
from ccfailover.providers.wrappers.views import ViewsOnly

__all__ = ["DryRun", "Patience", "Retrying", "ViewsOnly"]
