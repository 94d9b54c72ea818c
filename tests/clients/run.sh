#!/usr/bin/env bash
# Runs the client tests: run.sh FACET SCRIPTED_SERVER VENV. Exit code 77: skipped, with the reason.
set -uo pipefail
here=$(dirname -- "${BASH_SOURCE[0]}")
export FACET=$1 SCRIPTED_SERVER=$2
venv=$3

# As GoogleTest says it, which is what ./facet test looks for.
skip() { printf 'Clients: Skipped\n%s\n\n' "$*"; exit 77; }

command -v python3 >/dev/null || skip "python3 is not installed"
command -v curl >/dev/null || skip "curl is not installed"
if ! cmp -s "$here/requirements.txt" "$venv/installed.txt"; then
  rm -rf "$venv"
  python3 -m venv "$venv" || skip "python3 makes no virtual environment (Debian: python3-venv)"
  "$venv/bin/pip" install --quiet --disable-pip-version-check -r "$here/requirements.txt" ||
    skip "PyPI cannot be reached, or lacks what requirements.txt names"
  cp "$here/requirements.txt" "$venv/installed.txt"
fi
cd "$here" && exec "$venv/bin/python" -B -m unittest -v
