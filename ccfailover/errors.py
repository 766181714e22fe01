"""Every error that can reach a person, with its exit code and what to do next.

    CcfError (1: a bug)
    ├── UsageError (2)
    ├── PolicyError (3)           carries every Problem, not only the first
    ├── Refused (4)               a guard or an approver said no
    ├── LeaseHeld (5)             somebody else owns the levers
    │   └── Fenced                we owned them, and no longer do
    ├── PausedError (6)           a person has to decide
    ├── StateUnknown (8)          stuck, or the store cannot say what is true
    │   └── StoreError
    ├── ProviderError (9)
    │   ├── Rejected              permanent: the same call will fail again
    │   └── Unavailable           transient; `in_doubt` when the call may have landed
    └── DrillMissed (10)

An error says what happened, where, what was *not* done, and what to do next.
"""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """Exit codes of every command but `check`, which speaks Nagios (0 1 2 3)."""

    DONE = 0
    BUG = 1
    USAGE = 2
    POLICY = 3
    REFUSED = 4
    LEASE_HELD = 5
    PAUSED = 6
    ROLLED_BACK = 7
    UNKNOWN = 8
    PROVIDER = 9
    DRILL_MISSED = 10
    EXCEPTIONS = 11


class CcfError(Exception):
    """Root of the tree.

    `where` is a place (`file:line:col`, a run, a URL without its query), `not_done` what was
    left undone because of the error, `hint` the next thing to do.
    """

    exit_code: Exit = Exit.BUG

    def __init__(
        self,
        what: str,
        *,
        where: str | None = None,
        not_done: str | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.not_done = not_done
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.where}: {self.what}" if self.where else self.what

    def lines(self) -> list[str]:
        """The error as printed, one sentence a line; the hint comes last."""
        out = [f"Error: {self}"]
        if self.not_done:
            out.append(f"Not done: {self.not_done}")
        if self.hint:
            out.append(f"Try: {self.hint}")
        return out

    def to_json(self) -> dict[str, str | int | None]:
        return {
            "error": type(self).__name__,
            "what": self.what,
            "where": self.where,
            "not_done": self.not_done,
            "hint": self.hint,
            "exit_code": int(self.exit_code),
        }


class UsageError(CcfError):
    exit_code = Exit.USAGE


class Problem:
    """One thing wrong (or doubtful) with a policy, at a place in its file."""

    __slots__ = ("column", "file", "hint", "line", "message", "severity")

    def __init__(
        self,
        file: str,
        line: int,
        column: int,
        message: str,
        *,
        severity: str = "error",
        hint: str | None = None,
    ) -> None:
        self.file = file
        self.line = line
        self.column = column
        self.message = message
        self.severity = severity
        self.hint = hint

    @property
    def is_error(self) -> bool:
        return self.severity == "error"

    def __str__(self) -> str:
        kind = "" if self.is_error else f"{self.severity}: "
        return f"{self.place}: {kind}{self.told}"

    @property
    def told(self) -> str:
        """The message with its hint."""
        return f"{self.message} ({self.hint})" if self.hint else self.message

    @property
    def place(self) -> str:
        """`file:line:col`; a secret's reference, say, has no lines."""
        return f"{self.file}:{self.line}:{self.column}" if self.line else self.file

    def to_json(self) -> dict[str, str | int | None]:
        return {name: getattr(self, name) for name in self.__slots__}


class PolicyError(CcfError):
    """The policy cannot be used. `problems` holds everything found, in file order."""

    exit_code = Exit.POLICY

    def __init__(self, problems: list[Problem], *, not_done: str | None = None) -> None:
        errors = [p for p in problems if p.is_error]
        first = errors[0] if errors else None
        super().__init__(
            errors[0].told if len(errors) == 1 else f"{len(errors)} problems in the policy",
            where=first.place if first else None,
            not_done=not_done,
            hint="correct them, then run: ccfailover validate",
        )
        self.problems = problems

    def lines(self) -> list[str]:
        only = len([p for p in self.problems if p.is_error]) == 1
        return [*(str(p) for p in self.problems if not (only and p.is_error)), *super().lines()]

    def to_json(self) -> dict[str, str | int | None]:
        shown = super().to_json()
        shown["problems"] = [p.to_json() for p in self.problems]  # type: ignore[assignment]
        return shown


class Refused(CcfError):
    """A guard or an approver said no; `guard` names which."""

    exit_code = Exit.REFUSED

    def __init__(self, what: str, *, guard: str, where: str | None = None,
                 not_done: str | None = None, hint: str | None = None) -> None:
        super().__init__(what, where=where, not_done=not_done, hint=hint)
        self.guard = guard


class LeaseHeld(CcfError):
    """Another run holds a lever or a queue that this one needs."""

    exit_code = Exit.LEASE_HELD


class Fenced(LeaseHeld):
    """This process held the lease, lost it, and must not act any more."""


class PausedError(CcfError):
    exit_code = Exit.PAUSED


class StateUnknown(CcfError):
    exit_code = Exit.UNKNOWN


class StoreError(StateUnknown):
    """The store cannot be read or written; nothing that was acknowledged is lost."""


class ProviderError(CcfError):
    """A platform said no or did not answer. Never carries credentials or a request body."""

    exit_code = Exit.PROVIDER

    def __init__(self, what: str, *, provider: str | None = None, where: str | None = None,
                 not_done: str | None = None, hint: str | None = None) -> None:
        super().__init__(what, where=where, not_done=not_done, hint=hint)
        self.provider = provider


class Rejected(ProviderError):
    """Permanent: the same call will fail again."""


class Unavailable(ProviderError):
    """Transient. `in_doubt` says that the call may have taken effect all the same."""

    def __init__(self, what: str, *, in_doubt: bool, provider: str | None = None,
                 where: str | None = None, retry_after: float | None = None,
                 not_done: str | None = None, hint: str | None = None) -> None:
        super().__init__(what, provider=provider, where=where, not_done=not_done, hint=hint)
        self.in_doubt = in_doubt
        self.retry_after = retry_after


class DrillMissed(CcfError):
    exit_code = Exit.DRILL_MISSED
