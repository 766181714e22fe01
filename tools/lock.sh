#!/usr/bin/env bash
# Makes the lock files anew from setup.py: names, versions and hashes of every wheel and sdist, so
# that other platforms can use them too; no addresses. Run it when a range in setup.py changes, or
# to take newer versions (pass --upgrade), and read the diff.
set -euo pipefail
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -q pip-tools

# A private index or a folder of local wheels would leave hashes that nobody else can match.
export PIP_CONFIG_FILE=/dev/null PIP_FIND_LINKS= PIP_EXTRA_INDEX_URL=

compile() { # compile OUTPUT SOURCE... -- the output keeps its pins unless --upgrade is given
  local out=requirements/$1
  shift
  CUSTOM_COMPILE_COMMAND=tools/lock.sh "$work/venv/bin/pip-compile" -q --generate-hashes \
    --allow-unsafe --strip-extras --no-annotate --no-header --no-emit-index-url \
    --no-emit-find-links --no-emit-trusted-host --no-emit-options --output-file "$out" "$@" \
    2>"$work/log" || { cat "$work/log" >&2; exit 1; }
  printf '%s\n%s\n' '# Made by tools/lock.sh; edit setup.py or requirements/build.in instead.' \
    "$(cat "$out")" >"$out.new"
  mv "$out.new" "$out"
  if grep -nE '(https?|file)://|--(index|extra-index|find-links)' "$out"; then
    echo "tools/lock.sh: $out names an address" >&2
    exit 1
  fi
}

compile dev.txt "$@" --extra dev setup.py requirements/build.in
# The smaller set is bound by the larger one: `make demo` and `make test` never disagree.
sed -E '/^ +--hash/d; s/ \\$//' requirements/dev.txt >"$work/pins.txt"
compile demo.txt "$@" --extra demo --constraint "$work/pins.txt" setup.py requirements/build.in
compile bench.txt "$@" requirements/bench.in requirements/build.in

# Without what these packages need: they are read, not run.
compile models.txt "$@" requirements/models.in
awk 'BEGIN { print "# Made by tools/lock.sh; edit requirements/models.in instead." }
     /^#/ { next }
     NR == FNR { wanted[$1]; next }
     /^[^ ]/ { split($1, pin, "=="); keep = pin[1] in wanted }
     keep' requirements/models.in requirements/models.txt >"$work/models.txt"
cp "$work/models.txt" requirements/models.txt
