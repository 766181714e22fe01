#!/usr/bin/env bash
# Makes a virtual environment ready from a lock file, or does nothing when it is ready already.
#   tools/setup_env.sh demo    .venv: the program and the demo's queue server
#   tools/setup_env.sh dev     .venv: and what tests and checks need; also the PostgreSQL server
#                              and the `ip` program that some tests use, where root and apt-get
#                              make that possible
#   tools/setup_env.sh bench   .venv-bench: the peers that `make bench` measures
# A stamp inside the environment says what it was made from; it is written last, so that an
# interrupted set-up is taken up again.
set -euo pipefail
cd "$(dirname "$0")/.."
profile=${1:?usage: tools/setup_env.sh demo|dev|bench}
case $profile in
  demo | dev) venv=.venv ;;
  bench) venv=.venv-bench ;;
  *) echo "tools/setup_env.sh: no profile '$profile' (demo, dev, bench)" >&2; exit 2 ;;
esac
lock=requirements/$profile.txt

find_python() {
  local name
  for name in ${PYTHON:-python3 python3.13 python3.12 python3.11}; do
    if "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      command -v "$name"
      return
    fi
  done
  echo "No Python 3.11 or newer was found (looked for: ${PYTHON:-python3 python3.13 python3.12 python3.11})." >&2
  echo "Install one, or name it: make PYTHON=/path/to/python3.12" >&2
  exit 1
}

# What an environment stands for. Its own place is part of it: scripts in a copied environment
# still start the original's Python. So is the installed metadata's source, setup.py.
stamp_of() { # stamp_of PROFILE
  local files=("requirements/$1.txt")
  [ "$1" = bench ] || files+=(setup.py pyproject.toml ccfailover/__init__.py)
  printf '%s\n' "$PWD/$venv"
  cksum "${files[@]}"
}

ready() { # ready PROFILE
  [ -x "$venv/bin/python" ] && [ -f "$venv/stamp-$1" ] &&
    [ "$(cat "$venv/stamp-$1")" = "$(stamp_of "$1")" ] && "$venv/bin/python" -c '' 2>/dev/null
}

if ready "$profile" || { [ "$profile" = demo ] && ready dev; }; then
  exit 0
fi

# Two makes at once: the second one waits for the first, and finds everything ready.
if command -v flock >/dev/null; then
  exec 9<tools/setup_env.sh
  flock 9
  if ready "$profile"; then
    exit 0
  fi
fi

python=$(find_python)
moved() { # true when the environment was made at another place
  local stamp
  for stamp in "$venv"/stamp-*; do
    [ -f "$stamp" ] && [ "$(head -n 1 "$stamp")" != "$PWD/$venv" ] && return 0
  done
  return 1
}
if moved || ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
  if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    echo "$python cannot make virtual environments: its venv and ensurepip modules are missing." >&2
    echo "On Debian and Ubuntu: sudo apt-get install python3-venv   (or python$version-venv)" >&2
    exit 1
  fi
  echo "Making $venv with $("$python" --version) …" >&2
  rm -rf "$venv"
  "$python" -m venv "$venv"
fi

echo "Installing $lock into $venv …" >&2
pip() { "$venv/bin/python" -m pip --disable-pip-version-check --no-input "$@"; }
log=$(mktemp)
trap 'rm -f "$log"' EXIT
run_pip() {
  if ! pip "$@" >"$log" 2>&1; then
    tail -n 30 "$log" >&2
    echo "Set-up failed: pip $1 (above). $venv is unfinished; the same command takes it up again." >&2
    exit 1
  fi
}
run_pip install --require-hashes --requirement "$lock"
if [ "$profile" != bench ]; then
  # Hashes cover every dependency; the project itself is this folder.
  run_pip install --no-deps --no-build-isolation --editable .
fi

has_postgres() {
  local program
  for program in /usr/lib/postgresql/*/bin/postgres "$(command -v postgres || true)"; do
    [ -x "$program" ] && return 0
  done
  return 1
}
has_ip() { [ -x /usr/sbin/ip ] || [ -x /sbin/ip ] || command -v ip >/dev/null; }
may_install() { [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; }
apt() { DEBIAN_FRONTEND=noninteractive timeout 180 apt-get -qq -y "$@" >"$log" 2>&1; }
# Tests that need a server are skipped without it (in CI they fail), so nothing ends here.
if [ "$profile" = dev ] && ! has_postgres; then
  if may_install; then
    echo "Installing the PostgreSQL server for the tests …" >&2
    # The release's own version; Debian 12 has 15. No cluster of its own is made nor started.
    mkdir -p /etc/postgresql-common
    [ -e /etc/postgresql-common/createcluster.conf ] ||
      echo 'create_main_cluster = false' >/etc/postgresql-common/createcluster.conf
    apt install --no-install-recommends postgresql-15 ||
      { apt update && { apt install --no-install-recommends postgresql-15 ||
        apt install --no-install-recommends postgresql; }; } || tail -n 5 "$log" >&2
  fi
  has_postgres || echo "No PostgreSQL server: its tests are skipped (Debian: postgresql-15)." >&2
fi
if [ "$profile" = dev ] && ! has_ip; then
  if may_install; then
    echo "Installing iproute2 for the tests of two hosts …" >&2
    apt install --no-install-recommends iproute2 ||
      { apt update && apt install --no-install-recommends iproute2; } || tail -n 5 "$log" >&2
  fi
  has_ip || echo "No ip program: the tests of two hosts are skipped (Debian: iproute2)." >&2
fi

rm -f "$venv/stamp-$profile"
stamp_of "$profile" >"$venv/stamp-$profile.new"
mv "$venv/stamp-$profile.new" "$venv/stamp-$profile"
