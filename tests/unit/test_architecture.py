"""The house plan is kept by contracts, and each contract is shown to break when it is violated."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CONFIG = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
CONTRACTS = {contract["id"]: contract for contract in CONFIG["tool"]["importlinter"]["contracts"]}
BANNED = sorted(CONFIG["tool"]["ruff"]["lint"]["flake8-tidy-imports"]["banned-api"])
BIN = Path(sys.executable).parent

LAYERS = [
    "__main__",
    "commands",
    "wiring",
    "operations",
    "simulation | reports",
    "runbooks",
    "transfer | health | notify",
    "providers | planning",
    "store | policy",
    "model",
    "errors | runtime",
]


def rooms(layer: str) -> list[str]:
    return layer.split(" | ")


def lint(tree: Path, *contracts: str) -> subprocess.CompletedProcess[str]:
    """import-linter on a tree, all contracts or the ones named."""
    chosen = [part for contract in contracts for part in ("--contract", contract)]
    return subprocess.run(
        [BIN / "lint-imports", "--no-logo", "--no-cache", *chosen],
        cwd=tree, capture_output=True, text=True, timeout=120, check=False,
    )


def ruff(source: str, filename: str) -> set[str]:
    """The codes that ruff gives `source` if it stood at `filename`, by our settings."""
    done = subprocess.run(
        [BIN / "ruff", "check", "--no-cache", "--output-format", "concise",
         "--stdin-filename", filename, "-"],
        cwd=ROOT, input=source, capture_output=True, text=True, timeout=60, check=False,
    )
    assert done.returncode in {0, 1}, done.stderr
    return set(re.findall(r":\d+:\d+: ([A-Z]+\d+)", done.stdout))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of the package and its contracts, to be spoilt."""
    shutil.copytree(
        ROOT / "ccfailover", tmp_path / "ccfailover", ignore=shutil.ignore_patterns("__pycache__")
    )
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def plant(tree: Path, module: str, code: str) -> None:
    """Append code to a module of the copy, or make the module."""
    path = tree / "ccfailover" / module
    with path.open("a", encoding="utf-8") as file:
        file.write(f"\n{code}\n")


def test_imports_run_as_the_house_plan_says() -> None:
    """The real tree keeps every contract."""
    done = lint(ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(CONTRACTS)} kept, 0 broken" in done.stdout


def test_the_layers_are_those_of_the_house_plan() -> None:
    """Nobody reorders the rooms by editing the contract, and every module is in one of them."""
    assert CONTRACTS["layers"]["layers"] == LAYERS
    assert CONTRACTS["layers"]["exhaustive"] is True
    present = {
        path.stem
        for path in (ROOT / "ccfailover").iterdir()
        if (path.is_dir() and (path / "__init__.py").exists()) or path.suffix == ".py"
    } - {"__init__"}
    assert present == {room for layer in LAYERS for room in rooms(layer)}


def upward_and_sideways() -> Iterator[tuple[str, str]]:
    """Every room with every neighbour it must not import: one layer up, and its siblings."""
    for higher, lower in pairwise(LAYERS):
        for low in rooms(lower):
            yield from ((low, high) for high in rooms(higher))
    for layer in LAYERS:
        for room in rooms(layer):
            yield from ((room, other) for other in rooms(layer) if other != room)


def test_every_import_against_the_arrows_is_caught(tree: Path) -> None:
    """One planted import for each pair of neighbouring rooms; each is named in the verdict."""
    pairs = list(upward_and_sideways())
    assert len(pairs) > 20
    for low, high in pairs:
        home = f"{low}.py" if (tree / "ccfailover" / f"{low}.py").exists() else f"{low}/__init__.py"
        plant(tree, home, f"import ccfailover.{high}")
    done = lint(tree, "layers")
    assert done.returncode == 1, done.stdout + done.stderr
    verdict = " ".join(done.stdout.split())
    missed = [
        (low, high) for low, high in pairs
        if f"ccfailover.{low} is not allowed to import ccfailover.{high}" not in verdict
    ]
    assert missed == []


def test_a_new_room_needs_a_place_in_the_plan(tree: Path) -> None:
    """The layers are exhaustive: a package that nobody placed breaks the contract."""
    (tree / "ccfailover" / "attic").mkdir()
    plant(tree, "attic/__init__.py", '"""Nobody placed this."""')
    done = lint(tree, "layers")
    assert done.returncode == 1
    assert "attic" in done.stdout


# For each contract: what is planted where. A contract without a violation here is not proven.
VIOLATIONS: dict[str, list[tuple[str, str]]] = {
    "layers": [("model/shares.py", "import ccfailover.store")],
    "pure": [
        ("model/shares.py", "import time"),
        ("planning/__init__.py", "from random import random"),
        ("policy/__init__.py", "import socket"),
        ("policy/conditions.py", "def ask():\n    import sqlite3"),
        ("errors.py", "import threading"),
    ],
    "pure-run": [
        ("runbooks/engine.py", "import time"),
        ("runbooks/run.py", "from threading import Thread"),
    ],
    "engine-performs-nothing": [
        ("runbooks/engine.py", "from ccfailover.runbooks import drive"),
        ("runbooks/engine.py", "from ccfailover.store import Store"),
        ("runbooks/run.py", "import ccfailover.providers"),
    ],
    "planner-without-store": [("planning/__init__.py", "import ccfailover.store.db")],
    "kinds-by-wiring": [
        ("operations/__init__.py", "import ccfailover.providers.sqs"),
        ("transfer/__init__.py", "import ccfailover.providers.http.levers"),
        ("health/__init__.py", "from ccfailover.health.probes import http"),
        ("runbooks/engine.py", "import ccfailover.runbooks.steps.verify"),
        ("providers/http/__init__.py", "from ccfailover.providers import sqs"),
    ],
    "one-cel": [("planning/__init__.py", "import cel_expr_python")],
    "one-postgres": [("wiring/__init__.py", "def connect():\n    import psycopg"),
                     ("store/leases.py", "import psycopg")],
    "one-dbos": [("runbooks/helped.py", "def ask():\n    import dbos"),
                 ("transfer/spread.py", "import sqlalchemy")],
    "dispatch-by-wiring": [("runbooks/helped.py", "from ccfailover.transfer import dispatch")],
    "one-log": [("operations/__init__.py", "def log():\n    import structlog")],
}


def test_every_contract_has_a_planted_violation() -> None:
    """A contract that was never seen to break proves nothing."""
    assert set(VIOLATIONS) == set(CONTRACTS)


@pytest.mark.parametrize(
    ("contract", "module", "code"),
    [(contract, *planted) for contract, all_ in VIOLATIONS.items() for planted in all_],
    ids=lambda part: re.sub(r"\W+", "-", part)[:40],
)
def test_a_violated_contract_breaks(tree: Path, contract: str, module: str, code: str) -> None:
    """The contract that holds on the real tree breaks once the import is there."""
    assert (tree / "ccfailover" / module).exists(), "plant it in a module that is there"
    plant(tree, module, code)
    done = lint(tree, contract)
    assert done.returncode == 1, done.stdout + done.stderr
    assert f"{CONTRACTS[contract]['name']} BROKEN" in " ".join(done.stdout.split())


def use_of(name: str) -> str:
    """Source that uses one banned name as somebody would."""
    module, _, leaf = name.rpartition(".")
    if name.startswith("datetime."):
        _, cls, method = name.split(".")
        return f"from datetime import {cls}\n\nX = {cls}.{method}()\n"
    if module and name != "concurrent.futures":
        return f"from {module} import {leaf}\n\nX = {leaf}\n"
    return f"import {name}\n\nX = {name}\n"


@pytest.mark.parametrize("name", BANNED)
def test_ruff_refuses_clocks_chance_and_threads(name: str) -> None:
    """Each banned name is refused in a module of the package."""
    assert "TID251" in ruff(use_of(name), "ccfailover/model/planted.py")


@pytest.mark.parametrize(
    "source",
    [
        "import time\n\ntime.sleep(1)\n",
        "from time import monotonic\n\nX = monotonic()\n",
        "import datetime\n\nX = datetime.datetime.now(tz=datetime.timezone.utc)\n",
        "import random\n\nX = random.choice([1])\n",
        "import uuid\n\nX = uuid.uuid4()\n",
        "import threading\n\nthreading.Thread(target=print).start()\n",
        "def late() -> None:\n    import time\n\n    time.sleep(1)\n",
        "from ccfailover.runtime import SECOND\nimport asyncio\n\nX = (SECOND, asyncio)\n",
    ],
)
def test_ruff_refuses_every_way_of_writing_it(source: str) -> None:
    """Aliased, qualified or hidden in a function: the ban fires."""
    assert "TID251" in ruff(source, "ccfailover/operations/planted.py")


@pytest.mark.parametrize(
    ("filename", "source"),
    [
        ("ccfailover/runtime.py", "import time\n\nX = time.monotonic()\n"),
        ("ccfailover/runbooks/drive.py", "import threading\n\nX = threading.Thread()\n"),
        ("ccfailover/simulation/processes/site.py", "import time\n\nX = time.time()\n"),
        ("ccfailover/model/fine.py", "import threading\n\nX = threading.Lock()\n"),
        ("ccfailover/model/fine.py", "from datetime import time\n\nX = time(8, 30)\n"),
    ],
)
def test_the_ban_leaves_its_exceptions_alone(filename: str, source: str) -> None:
    """Where the real clock and threads live, and what only sounds like them, is not refused."""
    assert "TID251" not in ruff(source, filename)


def test_shared_adapter_parts_are_no_adapters() -> None:
    """What the contract lets everybody import holds no provider that a policy could name."""
    ignored = CONTRACTS["kinds-by-wiring"]["ignore_imports"]
    shared = [line.rpartition("-> ")[2] for line in ignored]
    for name in shared:
        place = ROOT / name.replace(".", "/")
        files = sorted(place.glob("*.py")) or [place.with_suffix(".py")]
        assert all(file.exists() for file in files), f"{name} is gone: take it out of the contract"
        classes = [found for file in files for found in re.findall(
            r"^class (\w+)\(.*\bProvider\b.*\):\n(?:.*\n)*?\s+kind = ",
            file.read_text(encoding="utf-8"), re.MULTILINE)]
        assert classes == [], f"{name} defines a kind"


def test_no_exception_to_the_ban_by_comment() -> None:
    """Nobody switches a ban off in a line of the package."""
    offenders = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in sorted((ROOT / "ccfailover").rglob("*.py"))
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if re.search(r"#\s*(noqa|ruff:\s*noqa)(?!\s*:)|#\s*(ruff:\s*)?noqa:.*TID251", line)
    ]
    assert offenders == []
