#!/usr/bin/env bash
# Clones the last commit into a folder of its own and runs make targets there, as somebody who
# has just cloned it would: nothing of this checkout's environment, caches or uncommitted files.
#   tools/fresh_clone.sh [TARGET...]     default: check test demo
# The clone is removed when all went well, and kept and named when not.
set -euo pipefail
cd "$(dirname "$0")/.."
[ $# -gt 0 ] || set -- check test demo
dirty=$(git status --porcelain)
[ -z "$dirty" ] || echo "Note: what is not committed is not in the clone." >&2
place=$(mktemp -d "${TMPDIR:-/tmp}/ccfailover-clone.XXXXXX")
git clone --quiet --no-hardlinks . "$place/ccfailover"
echo "Clone of $(git rev-parse --short HEAD) in $place/ccfailover" >&2
for target in "$@"; do
  echo "make $target" >&2
  # No environment of whoever runs this that Python or make would pick up. Where pip
  # gets packages from is the machine's business, so its variables stay.
  if ! env -u VIRTUAL_ENV -u PYTHONPATH -u MAKEFLAGS -u MAKELEVEL \
    make --no-print-directory -C "$place/ccfailover" "$target"; then
    echo "make $target failed; the clone is kept: $place/ccfailover" >&2
    exit 1
  fi
done
rm -rf "$place"
