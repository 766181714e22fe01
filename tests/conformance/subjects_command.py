"""A route that a program of ours sets; see tests/servers/lever_program.py."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from ccfailover.model.policy import ProviderSpec
from ccfailover.providers import Provider
from ccfailover.providers.command import CommandProvider
from ccfailover.runtime import SystemRuntime
from tests.conformance.subjects import SECRETS, RouteSubject

PROGRAM = Path(__file__).resolve().parents[1] / "servers" / "lever_program.py"


class CommandSubject(RouteSubject):
    hostile = ("garbage", "huge", "endless", "hang", "echo")
    names: ClassVar = {"hq": "T1", "acme": "T2", "message": "ANNOUNCE"}
    whole = "one call of the program has all shares, and this one replaces its file whole"

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder
        self.elsewhere({"hq": 100})
        self.provider = self.make()

    def make(self, *, timeout: float = 10.0, port: int | None = None, step: int = 1,
             guarded: bool = True) -> Provider:
        where = [str(self.folder)] if port is None else []
        params = {
            "argv": [sys.executable, "-I", "-S", str(PROGRAM), *where], "step": step,
            "env": {"PASSWORD": "env:TOKEN", "REGION": "us"}, "destinations": self.names,
            "compare_and_set": guarded, "measure": True, "live": True, "timeout": timeout,
        }
        return CommandProvider(ProviderSpec("edge", "command", params),
                               resolve=SECRETS.__getitem__, runtime=SystemRuntime())

    def _routes(self) -> dict[str, dict[str, object]]:
        path = self.folder / "routes.json"
        return json.loads(path.read_text()) if path.exists() else {}

    def truth(self) -> dict[str, int]:
        back = {theirs: ours for ours, theirs in self.names.items()}
        shares = self._routes()[self.ref]["shares"]
        assert isinstance(shares, dict)
        return {back[name]: part for name, part in shares.items()}

    def elsewhere(self, shares: Mapping[str, int]) -> None:
        routes = self._routes()
        version = int(str(routes.get(self.ref, {}).get("version", 0))) + 1
        routes[self.ref] = {"shares": {self.names[name]: part for name, part in shares.items()},
                            "version": version}
        (self.folder / "routes.json").write_text(json.dumps(routes))

    def meet(self, *what: str) -> None:
        for fault in what:
            (self.folder / "fault").write_text(fault)

    def break_writes(self, number: int, how: str) -> None:
        path = self.folder / "fault"  # which a read before the write would meet: there is none
        path.write_text(how)

    def mend(self) -> None:
        (self.folder / "fault").unlink(missing_ok=True)

    def raw(self) -> object:
        """Not the version, which every write raises."""
        return self._routes()[self.ref]["shares"]

    def writes(self) -> int:
        path = self.folder / "writes"
        return len(path.read_text().splitlines()) if path.exists() else 0
