#!/usr/bin/env bash
# Runs the client tests: run.sh FACET SCRIPTED_SERVER VENV. Exit code 77: skipped, with the reason.
set -uo pipefail
name=Clients here=$(dirname -- "${BASH_SOURCE[0]}") venv=$3
export FACET=$1 SCRIPTED_SERVER=$2
# shellcheck source=tests/in_venv.sh
. "$here/../in_venv.sh"

command -v curl >/dev/null || skip "curl is not installed"
run_in_venv
