"""Set-up says what is missing, does nothing twice, and tests run in a world of their own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The set-up script over an empty lock: quick, and without network."""
    place = tmp_path / "checkout"
    (place / "tools").mkdir(parents=True)
    (place / "requirements").mkdir()
    (place / "requirements" / "bench.txt").write_text("# nothing\n", encoding="utf-8")
    shutil.copy(ROOT / "tools" / "setup_env.sh", place / "tools")
    return place


def set_up(checkout: Path, profile: str = "bench", **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [checkout / "tools" / "setup_env.sh", profile],
        env={**os.environ, "PYTHON": sys.executable, **env},
        capture_output=True, text=True, timeout=120, check=False,
    )


def program(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    path.chmod(0o755)
    return path


def test_a_python_without_venv_is_told_what_to_install(checkout: Path) -> None:
    """Debian ships venv apart; the message names the package, and no half environment is left."""
    bare = program(
        checkout / "python-bare",
        f'#!/bin/sh\ncase "$*" in *ensurepip*) exit 1;; esac\nexec {sys.executable} "$@"\n',
    )
    done = set_up(checkout, PYTHON=str(bare))
    assert done.returncode == 1
    assert "apt-get install python3-venv" in done.stderr
    assert not (checkout / ".venv-bench").exists()


def test_a_python_that_is_too_old_is_told_so(checkout: Path) -> None:
    """No traceback about syntax: the version that is needed, and how to name another."""
    old = program(checkout / "python-old", "#!/bin/sh\nexit 1\n")
    done = set_up(checkout, PYTHON=str(old))
    assert done.returncode == 1
    assert "No Python 3.11 or newer was found" in done.stderr
    assert "make PYTHON=" in done.stderr


def test_an_unknown_profile_is_a_usage_error(checkout: Path) -> None:
    """A typo does not set up something else."""
    done = set_up(checkout, "demonstration")
    assert (done.returncode, "no profile" in done.stderr) == (2, True)


@pytest.mark.slow
@pytest.mark.long
def test_set_up_happens_once_and_again_when_it_must(checkout: Path) -> None:
    """Nothing to do the second time; a changed lock installs; a copied environment is remade,
    because its programs would start the Python of the original."""
    first = set_up(checkout)
    assert first.returncode == 0, first.stderr
    assert "Making .venv-bench" in first.stderr

    again = set_up(checkout)
    assert (again.returncode, again.stderr) == (0, "")

    (checkout / "requirements" / "bench.txt").write_text("# something else\n", encoding="utf-8")
    changed = set_up(checkout)
    assert "Installing requirements/bench.txt" in changed.stderr
    assert "Making" not in changed.stderr

    copy = checkout.parent / "copy"
    shutil.copytree(checkout, copy, symlinks=True)
    copied = set_up(copy)
    assert "Making .venv-bench" in copied.stderr
    pip = (copy / ".venv-bench" / "bin" / "pip").read_text(encoding="utf-8")
    assert str(copy) in pip.splitlines()[0]


def run_pytest(place: Path, test: str, **env: str) -> subprocess.CompletedProcess[str]:
    """A test file of its own, under our conftest and settings."""
    (place / "tests").mkdir()
    shutil.copy(ROOT / "tests" / "conftest.py", place / "tests")
    shutil.copy(ROOT / "pyproject.toml", place)
    (place / "tests" / "test_it.py").write_text(test, encoding="utf-8")
    clean = {name: value for name, value in os.environ.items()
             if not name.startswith("PYTEST_") and name != "CI"}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"], cwd=place,
        env={**clean, **env}, capture_output=True, text=True, timeout=60, check=False,
    )


NEEDS = """
import pytest

def test_by_fixture(require_server):
    require_server("no-such-server")

@pytest.mark.server("no-such-server")
def test_by_mark():
    pass

@pytest.mark.server("sh")
def test_present(require_server):
    assert require_server("sh").endswith("/sh")
"""


def test_a_missing_server_skips_for_a_developer(tmp_path: Path) -> None:
    """Who has not installed a server still gets the other tests, and is told."""
    done = run_pytest(tmp_path, NEEDS)
    assert done.returncode == 0, done.stdout
    assert "1 passed, 2 skipped" in done.stdout
    assert "no-such-server is not installed" in done.stdout


def test_a_missing_server_fails_in_ci(tmp_path: Path) -> None:
    """In CI nothing is skipped in silence."""
    done = run_pytest(tmp_path, NEEDS, CI="true")
    assert done.returncode == 1
    assert "in CI every server must be there" in done.stdout
    assert "skipped" not in done.stdout


def test_tests_stay_on_loopback_and_clean(tmp_path: Path) -> None:
    """A connection or look-up elsewhere raises; the developer's settings are not seen."""
    done = run_pytest(
        tmp_path,
        """
import os, socket
import pytest

def test_elsewhere():
    with socket.socket() as sock, pytest.raises(RuntimeError, match="stay on loopback"):
        sock.connect(("192.0.2.1", 9))
    with pytest.raises(RuntimeError, match="stay on loopback"):
        socket.getaddrinfo("example.com", 80)

def test_here():
    with socket.create_server(("127.0.0.1", 0)) as server:
        socket.create_connection(server.getsockname()[:2]).close()
        socket.create_connection(("localhost", server.getsockname()[1])).close()

def test_clean():
    assert "CCFAILOVER_POLICY" not in os.environ
    assert "AWS_PROFILE" not in os.environ
""",
        CCFAILOVER_POLICY="/etc/passwd", AWS_PROFILE="prod",
    )
    assert done.returncode == 0, done.stdout
    assert "3 passed" in done.stdout
