"""One call of the program: what its end means, in our words."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from ccfailover.errors import Rejected, Unavailable
from ccfailover.providers import programs
from ccfailover.providers.documents import parse
from ccfailover.providers.params import is_reference
from ccfailover.runtime import Runtime

COME_AGAIN: Final = 75
"""EX_TEMPFAIL of sysexits.h: a failure that passes, and nothing was done."""
_OUT_CAP: Final = 1_048_576
_ERR_CAP: Final = 4096
_MOST_SAID: Final = 200
_LONGEST_WAIT: Final = 3600.0
_SHORTEST_SECRET: Final = 4


class Program:
    """Secrets are resolved anew for every call, so that a rotated one is picked up."""

    def __init__(self, name: str, argv: Sequence[str], env: Mapping[str, str], *,
                 resolve: Callable[[str], str], runtime: Runtime, timeout: float) -> None:
        self.name = name
        self._argv, self._env = argv, env
        self._resolve, self._runtime, self._timeout = resolve, runtime, timeout

    def ask(self, verb: str, ref: str, more: Mapping[str, object] | None = None) -> object:
        """What it answers to a question. Raises Rejected or Unavailable, never in doubt."""
        ended = self._run(verb, ref, more or {}, writes=False)
        try:
            return parse(ended.out)
        except ValueError as error:
            raise Rejected(f"the answer to {verb} makes no sense: {error}", provider=self.name,
                           where=ref) from None

    def tell(self, verb: str, ref: str, more: Mapping[str, object], *, not_done: str) -> None:
        """Have it do something; its exit code alone says whether it did."""
        self._run(verb, ref, more, writes=True, not_done=not_done)

    def _run(self, verb: str, ref: str, more: Mapping[str, object], *, writes: bool,
             not_done: str | None = None) -> programs.Ended:
        given = {name: self._resolve(value).rstrip("\r\n") if is_reference(value) else value
                 for name, value in self._env.items()}
        said = json.dumps({"verb": verb, "ref": ref, **more}, sort_keys=True).encode()
        try:
            ended = programs.run(
                self._argv, given=given, said=said, runtime=self._runtime,
                until=self._runtime.monotonic() + self._timeout, out_cap=_OUT_CAP,
                err_cap=_ERR_CAP)
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else "its words cannot be passed on"
            if isinstance(error, OSError) and error.errno in programs.SHORT:
                raise Unavailable(f"cannot run the program now: {why}", in_doubt=False,
                                  provider=self.name, where=ref,
                                  not_done="nothing was started") from None
            raise Rejected(f"cannot run the program: {why}", provider=self.name, where=ref,
                           not_done="nothing was started",
                           hint="check argv of this provider in the policy") from None
        if ended.fault is None and ended.code == 0:
            return ended
        if ended.fault is not None or ended.code is None or ended.code < 0:
            how = ended.fault or f"was killed by signal {-(ended.code or 0)}"
            raise Unavailable(
                f"the program {how}", in_doubt=writes, provider=self.name, where=ref,
                hint="it may have taken effect: read it back before you try again"
                if writes else None)
        secrets = [given[name] for name, value in self._env.items() if is_reference(value)]
        why = _first_line(ended.err, secrets) or "it does not say why"
        if ended.code == COME_AGAIN:
            raise Unavailable(f"the program says to come again: {why}", in_doubt=False,
                              provider=self.name, where=ref, not_done=not_done,
                              retry_after=_retry_after(ended.out))
        raise Rejected(f"the program refuses (exit code {ended.code}): {why}", provider=self.name,
                       where=ref, not_done=not_done)


def _first_line(err: bytes, secrets: Sequence[str]) -> str:
    """For people: one line, no control characters, no secret that it was given."""
    text = err.decode("utf-8", "replace").strip().partition("\n")[0]
    parts = {part.strip() for secret in secrets for part in secret.splitlines()}
    for part in sorted(parts, key=len, reverse=True):  # a secret of several lines: each of them
        if len(part) >= _SHORTEST_SECRET:
            text = text.replace(part, "…")
    shown = "".join(c if c.isprintable() else " " for c in text).strip()
    return shown if len(shown) <= _MOST_SAID else shown[:_MOST_SAID] + "…"


def _retry_after(out: bytes) -> float | None:
    try:
        document = parse(out)
    except ValueError:
        return None
    value = document.get("retry_after") if isinstance(document, dict) else None
    if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
        return None
    return float(min(value, _LONGEST_WAIT))
