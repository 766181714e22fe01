"""A backend as a route: each site is one or more of its servers."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Final

from ccfailover.errors import ProviderError, Rejected, Unavailable
from ccfailover.model.shares import Shares
from ccfailover.providers import Route, RouteState
from ccfailover.providers.haproxy import tables
from ccfailover.providers.haproxy.link import Link
from ccfailover.providers.haproxy.tables import BACKEND, Line, Server
from ccfailover.providers.weights import shares_of, weights_of

HEAVIEST: Final = 256
"""HAProxy's largest weight."""
_SERVERS, _BOTH = 4, 6
_UNCHANGED: Final = "the shares were not changed"


class Zero(Enum):
    """How a server is set that gets nothing."""

    WEIGHT = "weight"
    DRAIN = "drain"
    MAINT = "maint"


@dataclass(frozen=True)
class Settings:
    """`servers`: of each destination. `state_file`: where HAProxy looks when it is reloaded."""

    servers: Mapping[str, tuple[str, ...]]
    step: int
    static: bool
    zero: Zero
    state_file: str | None


class HaproxyRoute(Route):
    def __init__(self, link: Link, backend: str, settings: Settings) -> None:
        self._link = link
        self._backend = backend
        self._settings = settings

    def read(self) -> RouteState:
        """Weights and states as they are set, rounded to whole percent; health does not count."""
        servers = self._servers(self._link.until())
        return RouteState(self._shares(servers), self._version(servers), raw=self._raw(servers))

    def between(self, state: RouteState, aims: Sequence[RouteState]) -> bool:
        """Each server is set by itself: one may stand at one aim, and the next at another."""
        now = Server.listed(state.raw)
        if set(now) != set(self._named()):
            return super().between(state, aims)
        known = []
        # Which servers are ours to put in shows only while the whole site is as it was found.
        listed = [Server.listed(aim.raw) for aim in aims]
        whole = next((each for each in listed if set(each) == set(now)), now)
        for aim, each in zip(aims, listed, strict=True):
            weights = {name: server.carries for name, server in each.items()}
            with contextlib.suppress(Rejected):  # an aim that these servers cannot be set to
                known.append(weights or self._weights(aim.shares, self._mine(whole)))
        return all(self._stands(server.carries, *(weights.get(name, 0) for weights in known))
                   for name, server in now.items())

    def complete(self, state: RouteState, to: Shares, was: str | None) -> bool:
        """Whether each server of ours has its part: of a small share one can have it all."""
        now = Server.listed(state.raw)
        if set(now) != set(self._named()):
            return super().complete(state, to, was)
        try:
            weights = self._weights(to, self._ours(to, now, RouteState(to, was=was)))
        except Rejected:
            return super().complete(state, to, was)
        return all(now[name].carries for name, weight in weights.items() if weight)

    def live(self) -> Mapping[str, int] | None:
        """Sessions in progress (`scur`) at each destination."""
        lines = self._stat(_SERVERS)
        found = {}
        for site, names in self._settings.servers.items():
            counts = [lines[name].sum("scur") if name in lines else None for name in names]
            if None not in counts:
                found[site] = sum(count for count in counts if count is not None)
        return found

    def measure(self) -> Mapping[str, float]:
        """Counts since HAProxy began: `offered` to the backend, `answered.SITE` (in HTTP: replies
        other than 5xx), `failed.SITE` (no connection, or a broken answer), `lost` (the same, of
        the whole backend); `waiting` in its queue now."""
        lines = self._stat(_BOTH)
        found: dict[str, float | None] = {}
        whole = lines.get(BACKEND)
        if whole is not None:
            found |= {"offered": whole.sum("stot"), "lost": whole.sum("econ", "eresp"),
                      "waiting": whole.sum("qcur")}
        for site, names in self._settings.servers.items():
            mine = [lines[name] for name in names if name in lines]
            if len(mine) == len(names):
                found[f"answered.{site}"] = _total([_answered(line) for line in mine])
                found[f"failed.{site}"] = _total([line.sum("econ", "eresp") for line in mine])
        return {name: float(count) for name, count in found.items() if count is not None}

    def shift(self, to: Shares, *, expected: RouteState | None, key: str) -> None:
        self._refuse_unexpressed(to)
        until = self._link.until()
        servers = self._servers(until)
        weights = self._weights(to, self._ours(to, servers, expected))
        self._set(to, servers, weights, self._commands(servers, weights), expected, until)

    def restore(self, before: RouteState, *, expected: RouteState | None, key: str) -> None:
        was = Server.listed(before.raw)
        if set(was) != set(self._named()):  # the policy names others by now
            self.shift(before.shares, expected=expected, key=key)
            return
        until = self._link.until()
        servers = self._servers(until)
        self._set(before.shares, servers, {name: each.carries for name, each in was.items()},
                  self._restoring(servers, was), expected, until)

    def _set(self, to: Shares, servers: Mapping[str, Server], weights: Mapping[str, int],
             commands: Sequence[Sequence[str]], expected: RouteState | None,
             until: float) -> None:
        if expected is not None and self._shares(servers) not in (expected.shares, to) \
                and not self._halfway(servers, weights, expected):
            # HAProxy compares nothing: this read narrows the gap, it cannot close it.
            raise self._refused("changed since it was read")
        self._link.write(commands, self._backend, until)
        if self._settings.state_file is not None:
            self._keep(Path(self._settings.state_file), until)

    def _refuse_unexpressed(self, to: Shares) -> None:
        unknown = sorted(set(to) - set(self._settings.servers))
        if unknown:
            raise self._refused(f"destinations does not name {', '.join(unknown)}")
        for name, percent in to.items():
            if percent % self._settings.step:
                raise self._refused(
                    f"{name} {percent} % is no multiple of the step {self._settings.step} %")

    def _version(self, servers: Mapping[str, Server]) -> str:
        return ",".join(f"{name}={servers[name].carries}" for name in self._named())

    def _raw(self, servers: Mapping[str, Server]) -> str:
        return ",".join(str(servers[name]) for name in self._named())

    def _named(self) -> list[str]:
        return [name for names in self._settings.servers.values() for name in names]

    def _halfway(self, servers: Mapping[str, Server], weights: Mapping[str, int],
                 expected: RouteState) -> bool:
        """Each server is as it was read, or as an earlier attempt of ours left it."""
        before = dict(part.split("=", 1) for part in (expected.version or "").split(",")
                      if "=" in part)
        return all(before.get(name) == str(servers[name].carries)
                   or self._stands(servers[name].carries, weights.get(name, 0))
                   for name in self._named())

    def _ours(self, to: Shares, servers: Mapping[str, Server],
              expected: RouteState | None) -> dict[str, list[str]]:
        """The servers of each site that are ours to set. Half of a shift makes a site look as if
        others had been at it: so what stood before the first attempt tells, and what somebody else
        has done since; what stands now, if more than an attempt of ours has happened."""
        was = Server.listed((expected.was or expected.raw) if expected else None)
        if set(was) != set(self._named()):
            return self._mine(servers)
        first = self._mine(was)
        mine: dict[str, list[str]] = {site: [] for site in first}
        others = set()
        for site, names in self._settings.servers.items():
            for name in names:
                if name in first[site] and _taken_since(was[name], servers[name]):
                    others.add(name)
                elif name in first[site]:
                    mine[site].append(name)
                elif not servers[name].off:  # somebody has put it in since
                    others.add(name)
                    mine[site].append(name)
        aims = []
        for each in (first, mine):
            with contextlib.suppress(Rejected):
                aims.append(self._weights(to, each))
        same = all(name in others or self._stands(servers[name].carries, before.carries,
                                                  *(aim.get(name, 0) for aim in aims))
                   for name, before in was.items())
        return mine if same else self._mine(servers)

    def _stands(self, carries: int, *ways: int) -> bool:
        """At one of these weights. With `static` they are those of the configuration."""
        return carries in ways or (
            self._settings.static and carries > 0 and any(ways))

    def _mine(self, servers: Mapping[str, Server]) -> dict[str, list[str]]:
        return {site: [each.name for each in self._usable([servers[name] for name in names])]
                for site, names in self._settings.servers.items()}

    def _weights(self, to: Shares, mine: Mapping[str, Sequence[str]]) -> dict[str, int]:
        """Of each server that we may set, of the sites that get something."""
        for site in to:
            if not mine[site]:
                raise self._refused(
                    f"every server of {site} is in drain or maint, by somebody else's hand",
                    hint="set one of them ready, or say in `zero` how this route takes them out")
        weights = weights_of(to, {site: len(found) for site, found in mine.items()}, HEAVIEST)
        return {name: weight for site in to
                for name, weight in zip(mine[site], weights[site], strict=True)}

    def _commands(self, servers: Mapping[str, Server],
                  weights: Mapping[str, int]) -> tuple[list[str], list[str]]:
        """Who gives comes last, once the others have it: nobody is left without a server."""
        more: list[str] = []
        less: list[str] = []
        for names in self._settings.servers.values():
            receives = any(name in weights for name in names)
            for name in names:
                server = servers[name]
                if name in weights:
                    rises = weights[name] > server.carries
                    (more if rises else less).extend(self._on(server, weights[name]))
                elif not receives and (command := self._off(server)):
                    less.append(command)
        return more, less

    def _restoring(self, servers: Mapping[str, Server],
                   was: Mapping[str, Server]) -> tuple[list[str], list[str]]:
        """Weights and states as they were found. Only a state that a shift sets itself is set
        back: another one is of somebody else's hand."""
        more: list[str] = []
        less: list[str] = []
        for name, before in was.items():
            server, commands = servers[name], []
            if server.weight != before.weight:
                amount = str(before.weight)
                if self._settings.static:
                    amount = "100%" if before.weight else "0%"
                commands.append(f"set weight {self._backend}/{name} {amount}")
            now, then = self._taken_out(server), self._taken_out(before)
            if now != then and not server.inherited:
                state = self._settings.zero.value if then else "ready"
                # Between the two it stands as it did, or as it is to: nobody has seen it else.
                commands.insert(0 if then else len(commands),
                                f"set server {self._backend}/{name} state {state}")
            (more if before.carries > server.carries else less).extend(commands)
        return more, less

    def _taken_out(self, server: Server) -> bool:
        return {Zero.MAINT: server.maint, Zero.DRAIN: server.drain,
                Zero.WEIGHT: False}[self._settings.zero]

    def _usable(self, site: Sequence[Server]) -> list[Server]:
        """What we ourselves took out we may put in again; what somebody else did stays. We take
        a site out whole: beside a server that carries, one that is off is not our doing."""
        works = any(server.carries for server in site)
        return [server for server in site if not (
            server.inherited
            or server.maint and (works or self._settings.zero is not Zero.MAINT)
            or server.drain and (works or self._settings.zero is not Zero.DRAIN))]

    def _on(self, server: Server, weight: int) -> list[str]:
        amount = "100%" if self._settings.static else str(weight)
        commands = [f"set weight {self._backend}/{server.name} {amount}"]
        if server.maint or server.drain:
            commands.append(f"set server {self._backend}/{server.name} state ready")
        return commands

    def _off(self, server: Server) -> str | None:
        if self._settings.zero is Zero.WEIGHT:
            none = "0%" if self._settings.static else "0"
            return f"set weight {self._backend}/{server.name} {none}"
        if server.maint:
            return None  # `state drain` would end somebody's maintenance
        return f"set server {self._backend}/{server.name} state {self._settings.zero.value}"

    def _servers(self, until: float) -> dict[str, Server]:
        """The backend's servers. Raises Rejected where they do not fit the policy."""
        states, counters = self._link.read(
            f"show servers state {self._backend}", f"show stat {self._backend} {_SERVERS} -1",
            where=self._backend, until=until)
        try:
            servers, lines = tables.servers(states), tables.stat(counters)
        except ValueError as error:
            raise self._nonsense(str(error)) from None
        named = set(self._named())
        absent = sorted(named - set(servers))
        if absent:
            raise self._nonsense(f"the backend has no server {absent[0]}, which destinations "
                                 "names")
        spare = {name for name in servers if name in lines and lines[name].backup}
        if named & spare:
            raise self._nonsense(f"{min(named & spare)} is a backup server: it gets something "
                                 "only when all others are down")
        foreign = sorted(name for name, server in servers.items()
                         if name not in named | spare and server.carries)
        if foreign:
            raise self._nonsense(f"a share goes to {foreign[0][:80]}, which destinations does "
                                 "not name")
        return servers

    def _shares(self, servers: Mapping[str, Server]) -> Shares:
        try:
            return shares_of({site: sum(servers[name].carries for name in names)
                              for site, names in self._settings.servers.items()})
        except ValueError as error:
            raise self._nonsense(str(error)) from None

    def _stat(self, kinds: int) -> dict[str, Line]:
        told = self._link.read(f"show stat {self._backend} {kinds} -1", where=self._backend,
                               until=self._link.until())
        try:
            return tables.stat(told[0])
        except ValueError as error:
            raise self._nonsense(str(error)) from None

    def _keep(self, file: Path, until: float) -> None:
        """Raises Unavailable in doubt, though the shares are set: who reads them back sees that,
        and the reason is told all the same."""
        import tempfile  # which brings hashes and chance with it

        try:
            state = self._link.read("show servers state", where=self._backend, until=until)[0]
            number, name = tempfile.mkstemp(prefix=f".{file.name}.", dir=file.parent)
            try:
                with os.fdopen(number, "w", encoding="latin-1") as out:
                    out.write(state + "\n")
                    out.flush()
                    os.fsync(number)
                Path(name).chmod(0o644)  # HAProxy reads it as its own user
                Path(name).replace(file)
            except BaseException:
                with contextlib.suppress(FileNotFoundError):
                    Path(name).unlink()
                raise
        except (OSError, ProviderError) as error:
            raise Unavailable(
                f"the shares are set, but {file} cannot be written ({type(error).__name__}): the "
                "next reload forgets them", in_doubt=True, provider=self._link.provider,
                where=self._backend) from None

    def _nonsense(self, what: str) -> Rejected:
        return Rejected(f"the reply makes no sense: {what}", provider=self._link.provider,
                        where=self._backend)

    def _refused(self, what: str, *, hint: str | None = None) -> Rejected:
        return Rejected(what, provider=self._link.provider, where=self._backend,
                        not_done=_UNCHANGED, hint=hint)


def _taken_since(before: Server, now: Server) -> bool:
    """By somebody else: a shift takes out no server of a site that it gives something to."""
    return now.inherited or (now.maint and not before.maint) or (now.drain and not before.drain)


def _answered(line: Line) -> int | None:
    if line.http:
        return line.sum("hrsp_2xx", "hrsp_3xx", "hrsp_4xx")
    begun, failed = line.sum("stot"), line.sum("econ", "eresp")
    return None if begun is None or failed is None else max(0, begun - failed)


def _total(counts: list[int | None]) -> int | None:
    found = [count for count in counts if count is not None]
    return sum(found) if len(found) == len(counts) else None
