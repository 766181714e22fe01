"""Secrets in probe parameters: named in the policy, fetched when a reading is made, never shown."""

from __future__ import annotations

from collections.abc import Callable, Mapping

Resolve = Callable[[str], str]
"""Turns `env:NAME`, `file:/path` … into the secret. Raises CcfError when it cannot."""

SCHEMES = ("env:", "file:", "aws-secretsmanager:")


def is_reference(text: str) -> bool:
    return text.startswith(SCHEMES)


def resolve_value(text: str, resolve: Resolve) -> str:
    """`text` with its reference replaced.

    The whole text or its last word may be one: `env:TOKEN`, `Bearer env:TOKEN`. Anything else
    is taken as it stands. Raises ValueError for a secret with a line break or NUL in it, which
    could smuggle a second header, naming no part of it; and what `resolve` raises.
    """
    lead, _, last = text.rpartition(" ")
    if not is_reference(last):
        return text
    secret = resolve(last)
    if any(mark in secret for mark in "\r\n\0"):
        raise ValueError(f"the secret behind {last} holds a line break")
    return f"{lead} {secret}" if lead else secret


def resolve_all(values: Mapping[str, str], resolve: Resolve) -> dict[str, str]:
    """Every value of `values` resolved; raises as `resolve_value` does."""
    return {name: resolve_value(text, resolve) for name, text in values.items()}
