"""What is shipped is whole: a wheel holds every file of the package and what it needs to start."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built without network, from a copy that git would hand to somebody else."""
    place = tmp_path_factory.mktemp("wheel")
    names = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "-z", "-co", "--exclude-standard"],
        capture_output=True, check=True,
    ).stdout.decode().split("\0")
    for name in filter(None, names):
        source = ROOT / name
        if source.is_file() and not name.startswith(("tests/", "requirements/")):
            target = place / "source" / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(source.read_bytes())
    done = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-index", "--no-build-isolation",
         "--disable-pip-version-check", "--wheel-dir", str(place / "out"), str(place / "source")],
        capture_output=True, text=True, timeout=120, check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = (place / "out").glob("*.whl")
    return built


def shipped(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if ".dist-info/" not in name}


def test_every_file_of_the_package_is_in_the_wheel(wheel: Path) -> None:
    """A data file that setup.py forgot would be missing on every machine but ours."""
    listed = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "-co", "--exclude-standard", "ccfailover"],
        capture_output=True, text=True, check=True,
    ).stdout.split("\n")
    wanted = {name for name in listed if name and (ROOT / name).is_file()}
    assert wanted - shipped(wheel) == set()
    assert {"ccfailover/py.typed", "ccfailover/policy/schema.json"} <= shipped(wheel)


def test_nothing_else_is_in_the_wheel(wheel: Path) -> None:
    """Tests, tools and policies do not land in somebody's site-packages."""
    assert {name.split("/")[0] for name in shipped(wheel)} == {"ccfailover"}


def test_metadata_says_what_it_needs_and_under_which_licence(wheel: Path) -> None:
    """Python's version, the licence and its text, the extras, and where the program starts."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        meta = next(name for name in names if name.endswith(".dist-info/METADATA"))
        fields = Parser().parsestr(archive.read(meta).decode())
        scripts = archive.read(meta.replace("METADATA", "entry_points.txt")).decode()
    assert fields["Requires-Python"] == ">=3.11"
    assert "Apache-2.0" in (fields.get("License-Expression") or fields.get("License") or "")
    assert any(name.endswith("/LICENSE") for name in names)
    assert {"demo", "dev", "bench"} <= set(fields.get_all("Provides-Extra") or [])
    assert "ccfailover = ccfailover.commands:main" in scripts


def test_an_installed_wheel_finds_its_own_files(wheel: Path, tmp_path: Path) -> None:
    """Installed into an empty folder without index or dependencies, package data can be read from
    there, and not from this checkout."""
    site = tmp_path / "site"
    done = subprocess.run(
        [sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--no-compile",
         "--disable-pip-version-check", "--target", str(site), str(wheel)],
        capture_output=True, text=True, timeout=120, check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    probe = (
        "import importlib.resources as r, ccfailover, json, sys; "
        "print(ccfailover.__file__); "
        "json.loads(r.files('ccfailover.policy').joinpath('schema.json').read_text()); "
        "recipes = r.files('ccfailover.runbooks').joinpath('builtin'); "
        "print(*sorted(path.name for path in recipes.iterdir()))"
    )
    found = subprocess.run(
        [sys.executable, "-c", probe], cwd=tmp_path, env={"PYTHONPATH": str(site)},
        capture_output=True, text=True, timeout=60, check=False,
    )
    assert found.returncode == 0, found.stderr
    where, recipes = found.stdout.splitlines()
    assert Path(where).is_relative_to(site)
    expected = ["failback.yaml", "full_failover.yaml", "overflow.yaml", "reassert.yaml",
                "switchover.yaml"]
    assert [name for name in recipes.split() if name.endswith(".yaml")] == expected


@pytest.mark.parametrize("name", ["demo.txt", "dev.txt", "bench.txt"])
def test_a_lock_file_pins_hashes_and_names_no_address(name: str) -> None:
    """Every requirement has one version and hashes; where from is the machine's affair."""
    text = (ROOT / "requirements" / name).read_text(encoding="utf-8")
    body = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    blocks = re.split(r"\n(?=[A-Za-z0-9])", body.strip())
    assert len(blocks) > 20
    for block in blocks:
        assert re.match(r"[A-Za-z0-9._-]+==[A-Za-z0-9.+!]+ \\\n", block), block[:80]
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", block), block[:80]
    assert not re.search(r"://|--(extra-)?index-url|--find-links|--trusted-host", text)


def test_the_demo_installs_what_the_tests_were_run_with() -> None:
    """The smaller lock is a part of the larger one: same names, same versions."""
    def pins(name: str) -> set[str]:
        text = (ROOT / "requirements" / name).read_text(encoding="utf-8")
        return set(re.findall(r"^([A-Za-z0-9._-]+==\S+)", text, re.MULTILINE))

    assert pins("demo.txt") <= pins("dev.txt")


def test_the_locks_hold_what_setup_asks_for() -> None:
    """A dependency added to setup.py without `make lock` fails here, not on a bare machine."""
    def names(text: str) -> set[str]:
        return {re.sub(r"[-_.]+", "-", name).lower() for name in text.split()}

    tree = ast.parse((ROOT / "setup.py").read_text(encoding="utf-8"))
    lists = {
        node.targets[0].id: [
            part.value for part in node.value.elts if isinstance(part, ast.Constant)
        ]
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.List)
        and isinstance(node.targets[0], ast.Name)
    }

    def asked(*groups: str) -> set[str]:
        found = [re.match(r"[A-Za-z0-9._-]+", line) for group in groups for line in lists[group]]
        return names(" ".join(match.group(0) for match in found if match))

    def locked(name: str) -> set[str]:
        text = (ROOT / "requirements" / name).read_text(encoding="utf-8")
        return names(" ".join(re.findall(r"^([A-Za-z0-9._-]+)==", text, re.MULTILINE)))

    assert len(asked("RUNTIME")) >= 12
    assert asked("RUNTIME", "DEMO") <= locked("demo.txt")
    assert asked("RUNTIME", "DEMO", "TEST", "DEV") <= locked("dev.txt")
    assert asked("BENCH") <= locked("bench.txt")


def test_the_build_backend_is_locked() -> None:
    """The editable install builds without isolation, so its backend must be in the lock."""
    config = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert config["build-system"]["requires"] == ["setuptools>=77"]
    assert "\nsetuptools==" in (ROOT / "requirements" / "demo.txt").read_text(encoding="utf-8")
