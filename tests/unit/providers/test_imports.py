"""Adapters import without their SDK: `status` and `--help` must not pay for what they don't use."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = {"boto3", "botocore", "pycurl", "jinja2", "tenacity", "jsonschema", "ssl", "email.utils"}


@pytest.mark.parametrize("module", [
    "ccfailover.providers.sqs", "ccfailover.providers.http", "ccfailover.providers.wrappers",
    "ccfailover.simulation.providers",
])
def test_a_fresh_interpreter_loads_no_sdk(module: str) -> None:
    """Importing an adapter, and asking what it can do, loads neither SDK nor libcurl."""
    code = f"""
import sys, {module} as module
kinds = [c for c in vars(module).values()
         if isinstance(c, type) and c.__module__ == "{module}" and hasattr(c, "PARAMS")]
for kind in kinds:
    kind.capabilities({{}}, {{"ref": "x"}})
print(sorted(set(sys.modules) & {HEAVY!r}))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


def test_making_a_provider_and_its_levers_does_no_io() -> None:
    """`__init__` and the lever methods load nothing either; the first call does."""
    code = f"""
import sys
from ccfailover.model.policy import LeverSpec, ProviderSpec
from ccfailover.providers.http import HttpProvider
from ccfailover.providers.sqs import SqsProvider
from ccfailover.runtime import SystemRuntime
def resolve(ref): raise AssertionError("too early")
how = dict(resolve=resolve, runtime=SystemRuntime())
route = {{"read": {{"path": "/r", "shares": ""}}}}
params = {{"url": "env:U", "auth": {{"bearer": "env:T"}}, "route": route}}
HttpProvider(ProviderSpec("e", "http", params), **how).route(LeverSpec("e", "r"))
keys = {{"key_id": "env:A", "secret": "env:B"}}
provider = SqsProvider(ProviderSpec("j", "sqs", {{"credentials": keys}}), **how)
provider.backlog(LeverSpec("j", "q")); provider.close(); provider.close()
print(sorted(set(sys.modules) & {HEAVY!r}))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr
