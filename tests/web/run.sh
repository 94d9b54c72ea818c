#!/usr/bin/env bash
# Runs the tests of the web page: run.sh FACET SCRIPTED_SERVER VENV. Exit code 77: skipped, with the reason.
set -uo pipefail
name=WebPage here=$(dirname -- "${BASH_SOURCE[0]}") venv=$3
export FACET=$1 SCRIPTED_SERVER=$2
export PYTHONPATH=../clients  # run_in_venv goes to this folder
# shellcheck source=tests/in_venv.sh
. "$here/../in_venv.sh"

CHROMIUM=$(command -v chromium || command -v chromium-browser) ||
  skip "no chromium on PATH (Debian: chromium; ./facet test --all installs it)"
export CHROMIUM
run_in_venv
