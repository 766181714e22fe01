"""Adapters import without their SDK: `status` and `--help` must not pay for what they don't use."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ccfailover.providers.kamailio import KamailioProvider
from tests.servers.jsonrpc import Said

HEAVY = {"boto3", "botocore", "pycurl", "jinja2", "tenacity", "jsonschema", "ssl", "email.utils",
         "dns.message"}


@pytest.mark.parametrize("module", [
    "ccfailover.providers.sqs", "ccfailover.providers.http", "ccfailover.providers.wrappers",
    "ccfailover.providers.command",
    "ccfailover.providers.twilio", "ccfailover.providers.genesys", "ccfailover.providers.manual",
    "ccfailover.providers.rabbitmq", "ccfailover.providers.kamailio",
    "ccfailover.providers.haproxy", "ccfailover.providers.dns",
    "ccfailover.providers.aws.arc", "ccfailover.providers.aws.connect",
    "ccfailover.providers.aws.region_switch", "ccfailover.providers.aws.route53",
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


def test_kamailio_needs_no_libcurl_over_a_socket() -> None:
    """Over a datagram socket it never loads libcurl; over HTTP, with the first call."""
    code = f"""
import sys
from ccfailover.errors import Unavailable
from ccfailover.model.policy import LeverSpec, ProviderSpec
from ccfailover.providers.kamailio import KamailioProvider
from ccfailover.runtime import SystemRuntime
params = {{"socket": "/nowhere/rpc.sock", "destinations": {{"hq": 10}}}}
spec = ProviderSpec("e", "kamailio", params)
provider = KamailioProvider(spec, resolve=str, runtime=SystemRuntime())
try:
    provider.route(LeverSpec("e", "r")).read()
except Unavailable as error:
    print(error.in_doubt, sorted(set(sys.modules) & {HEAVY!r}))
provider.close(); provider.close()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "False []", done.stdout + done.stderr


def test_a_policy_of_kamailio_alone_loads_nothing_of_other_platforms(tmp_path: Path) -> None:
    """Its example is a valid policy, and `check` with it reads the shares and imports no other
    adapter, no AWS, no AMQP, no PostgreSQL."""
    place = tmp_path / "policy.yaml"
    with Said({"core.uptime": {"up_since": "now"}, "dlg.profile_get_size": 0, "htable.dump": [],
               "htable.get": {"item": {"value": "10=100;20=0;30=0;v=start"}}}) as edge:
        place.write_text(f"version: 1\nname: x\nstore: {{path: {tmp_path / 'store.db'}}}\n"
                         + KamailioProvider.EXAMPLE.replace("http://127.0.0.1:8060/RPC", edge.url))
        code = f"""
import runpy, sys
sys.argv = ["ccfailover", "check", "--policy", {str(place)!r}]
try:
    runpy.run_module("ccfailover", run_name="__main__")
except SystemExit:
    print(sorted(name.partition("ccfailover.providers.")[2] for name in sys.modules
                 if name.startswith("ccfailover.providers.")),
          sorted(set(sys.modules) & {{"boto3", "botocore", "pika", "psycopg", "dns", "jinja2"}}))
"""
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True,
                              timeout=60)
        asked = {method for method, _ in edge.asked}
    said, loaded = done.stdout.strip().rsplit("\n", 1)
    assert "share hq'=100%" in said, done.stdout + done.stderr
    assert "htable.get" in asked
    kinds = {"directory", "http", "postgresql", "rabbitmq", "sqs"}
    assert not [name for name in kinds if f"'{name}" in loaded], loaded
    assert "'kamailio.split'" in loaded and "'kamailio.weights'" not in loaded
    assert loaded.endswith("[]"), loaded
