"""What the tests of Amazon's kinds share: how a provider is made."""

from __future__ import annotations

from typing import TypeVar

from ccfailover.model.policy import ProviderSpec
from ccfailover.providers import Provider
from ccfailover.runtime import SystemRuntime

SECRETS = {"env:ID": "AKIA0KEY", "env:SECRET": "5ecret-aws-key"}
P = TypeVar("P", bound=Provider)


def made(kind: type[P], **params: object) -> P:
    block = {"credentials": {"key_id": "env:ID", "secret": "env:SECRET"}, **params}
    return kind(ProviderSpec("edge", kind.kind, block), resolve=SECRETS.__getitem__,
                runtime=SystemRuntime())
