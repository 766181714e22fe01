"""The five endpoints of a cluster, in random order until one answers."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from ccfailover.errors import Rejected, Unavailable
from ccfailover.providers.aws.account import Account, Document, Place
from ccfailover.providers.aws.faults import Explained
from ccfailover.providers.documents import parse
from ccfailover.providers.params import mapping, text

_SERVICE: Final = "route53-recovery-cluster"
_CAP: Final = 65_536
_RULE: Final = re.compile(
    r"arn:aws[a-z-]{0,20}:route53-recovery-control::[0-9]{12}:controlpanel/[0-9a-f]{32}"
    r"/safetyrule/[0-9a-f]{16}")


class Cluster:
    """`rules`: name → ARN of the safety rules that a refusal may name."""

    def __init__(self, account: Account, endpoints: Mapping[str, str], file: str,
                 rules: Mapping[str, str]) -> None:
        self.provider = account.provider
        self._account, self._endpoints, self._file = account, dict(endpoints), file
        self._rules = {arn: name for name, arn in rules.items()}
        self.at_once = account.at_once

    def call(self, operation: str, params: Document, *, where: str, writes: bool) -> Document:
        """The first answer. Raises Unavailable when none came: `in_doubt` when one of the
        endpoints may have taken a write, which is absolute, so that another one may be asked.

        Each has its part of a call's time. A limit, or a refusal, is the cluster's, not the
        endpoint's: it ends the round."""
        places = self._shuffled()
        failed: list[Unavailable] = []
        with self._account.at_once():
            for place in places:
                try:
                    return self._account.call(
                        place, operation, params, where=f"{where} at {place.region}",
                        writes=writes, explain=self._explain,
                        timeout=self._account.timeout / len(places))
                except Unavailable as error:
                    failed.append(error)
                    if error.what.startswith("throttled"):
                        break
        doubt = any(error.in_doubt for error in failed)
        if len(failed) == 1:
            only = failed[0]
            only.in_doubt = doubt
            raise only
        raise Unavailable(
            f"{len(failed)} of {len(places)} endpoints tried, and none did it: "
            + "; ".join(f"{error.where}: {error.what}" for error in failed),
            in_doubt=doubt, provider=self.provider, where=where,
            retry_after=failed[-1].retry_after)

    def _shuffled(self) -> list[Place]:
        found = [Place(_SERVICE, region, endpoint)
                 for region, endpoint in sorted((self._endpoints or self._kept()).items())]
        for last in range(len(found) - 1, 0, -1):
            other = int(self._account.runtime.random() * (last + 1))
            found[last], found[other] = found[other], found[last]
        return found

    def _kept(self) -> dict[str, str]:
        """Out of DescribeCluster's answer, kept in a file."""
        try:
            with Path(self._file).open("rb") as file:
                told = parse(file.read(_CAP))
        except (OSError, ValueError) as error:
            raise self._unusable(f"cannot be read ({type(error).__name__})") from None
        cluster = mapping(mapping(told).get("Cluster")) or mapping(told)
        rows = cluster.get("ClusterEndpoints")
        found = {text(mapping(row).get("Region")): text(mapping(row).get("Endpoint"))
                 for row in (rows if isinstance(rows, list) else ())[:5]}
        if not found or not all(region and url.startswith(("https://", "http://"))
                                for region, url in found.items()):
            raise self._unusable("holds no cluster endpoints")
        return found

    def _unusable(self, why: str) -> Rejected:
        return Rejected(
            f"the file of endpoints {why}", provider=self.provider, where=self._file,
            not_done="nothing was sent",
            hint="keep the answer of: aws route53-recovery-control-config describe-cluster")

    def _explain(self, code: str, message: str) -> Explained | None:
        """Which safety rules said no. Of the message only their ARNs are shown."""
        if code not in ("ConflictException", "ValidationException"):
            return None
        arns = list(dict.fromkeys(_RULE.findall(message)))[:10]
        if not arns:
            return None
        shown = [f"{self._rules[arn]} ({arn})" if arn in self._rules else arn for arn in arns]
        return Explained(
            f"safety rule {', '.join(shown)} does not allow it",
            "move in steps that the rule allows; to break glass, name the rule in "
            f"override_safety_rules of this lever: {json.dumps(arns)}")
