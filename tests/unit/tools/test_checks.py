"""The checks of `make check` find what they are there for, and are content with what is right."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]

HOME = "/".join(["", "home", "alice", ""])  # in pieces: this file is checked, too

CONFIG = """
[tool.ccfailover.docs.forbidden]
'/home/[a-z]+/' = "somebody's home folder"
"""

CHANGES = """# Changelog

## [Unreleased]

### Added

- A thing.

## [0.2.0] - 2026-02-01

### Fixed

- Another.

## [0.1.0] - 2026-01-01
"""


def check(script: str, root: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / "tools" / script), "--root", str(root)],
        capture_output=True, text=True, timeout=60, check=False,
    )


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A small project whose documents are right."""
    files = {
        "pyproject.toml": CONFIG,
        "CHANGELOG.md": CHANGES,
        "README.md": "# Hello\n\n[adr](docs/adr/README.md#records) and [web](https://x.example/)\n",
        "docs/adr/README.md": "# Records\n\n[one](0001-one.md) [up](../../README.md#hello)\n",
        "docs/adr/0001-one.md": "# One\n\n```\n[not a link](nowhere.md)\n```\n`[nor](this.md)`\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


def test_documents_that_are_right_pass(tree: Path) -> None:
    """Links, anchors, web addresses and code blocks give no false alarm."""
    done = check("check_docs.py", tree)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        ("a.md", "see [this](missing.md)", "a.md:1: the link to missing.md leads nowhere"),
        ("a.md", "\n[x](README.md#nope)", "a.md:2: README.md has no heading #nope"),
        ("a.md", "[x](../../etc/passwd)", "leads nowhere"),
        ("a.md", "[x][y]\n\n[y]: gone.md\n", "a.md:3: the link to gone.md leads nowhere"),
        ("run.sh", f"cd {HOME}src", f"run.sh:1: '{HOME}': somebody's home folder"),
        ("docs/adr/0003-three.md", "# Three", "expected number 0002"),
        ("docs/adr/0002-two.md", "# Two", "does not list 0002-two.md"),
        ("CHANGELOG.md", "# Changelog\n\n## [1.0.0] - 2026-01-01\n", "'## [Unreleased]'"),
        ("CHANGELOG.md", CHANGES.replace("2026-01-01", "yesterday"), "is not '## [1.2.3]"),
        ("CHANGELOG.md", CHANGES.replace("0.2.0", "0.0.9"), "from newest to oldest"),
        ("CHANGELOG.md", CHANGES.replace("### Fixed", "### Bugs"), "'### Bugs' is none of"),
    ],
)
def test_what_is_wrong_with_documents_is_found(
    tree: Path, name: str, text: str, complaint: str
) -> None:
    """Each kind of mistake is reported with its place, and fails the check."""
    (tree / name).write_text(text, encoding="utf-8")
    done = check("check_docs.py", tree)
    assert done.returncode == 1
    assert complaint in done.stdout


def test_the_path_of_the_checkout_itself_is_refused(tree: Path) -> None:
    """A path that only this machine has is found without being named in any list."""
    (tree / "notes.txt").write_text(f"see {tree}/README.md", encoding="utf-8")
    done = check("check_docs.py", tree)
    assert done.returncode == 1
    assert "exists on this machine only" in done.stdout


@pytest.mark.parametrize(
    ("name", "source", "complaint"),
    [
        ("long.py", "X = 1\n" * 401, "long.py: 401 lines"),
        ("tall.py", "def f():\n" + "    x = 1\n" * 70, "tall.py:1: f has 71 lines"),
        ("utils.py", "X = 1\n", "named for what it is responsible for"),
    ],
)
def test_sizes_over_the_limit_are_found(
    tmp_path: Path, name: str, source: str, complaint: str
) -> None:
    """A long module, a long function and a drawer for everything each fail the check."""
    (tmp_path / "ccfailover").mkdir()
    (tmp_path / "ccfailover" / name).write_text(source, encoding="utf-8")
    done = check("check_size.py", tmp_path)
    assert done.returncode == 1
    assert complaint in done.stdout


@pytest.mark.parametrize(
    "source",
    [
        "X = 1\n" * 400,
        "def f():\n" + "    x = 1\n" * 69,
        '"""Tables.\n\nOver 400 lines because it is one table.\n"""\n' + "X = 1\n" * 401,
    ],
)
def test_sizes_within_the_limit_pass(tmp_path: Path, source: str) -> None:
    """Exactly at the limit, or longer with a reason, is fine."""
    (tmp_path / "ccfailover").mkdir()
    (tmp_path / "ccfailover" / "fine.py").write_text(source, encoding="utf-8")
    done = check("check_size.py", tmp_path)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_documents_of_this_project_are_right() -> None:
    """What `make check` says of the real tree's documents."""
    done = check("check_docs.py", ROOT)
    assert done.returncode == 0, done.stdout
