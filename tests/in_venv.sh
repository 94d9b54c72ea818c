# shellcheck shell=bash
# What the tests in Python share; sourced by their run.sh, which sets `name` (as ctest has it), `here` and `venv`.

# As GoogleTest says it, which is what ./facet test looks for.
skip() { printf '%s: Skipped\n%s\n\n' "$name" "$*"; exit 77; }

# Runs test_*.py in a virtual environment with what requirements.txt names, made where it is not there yet.
run_in_venv() {
  command -v python3 >/dev/null || skip "python3 is not installed"
  if ! cmp -s "$here/requirements.txt" "$venv/installed.txt"; then
    rm -rf "$venv"
    python3 -m venv "$venv" || skip "python3 makes no virtual environment (Debian: python3-venv)"
    "$venv/bin/pip" install --quiet --disable-pip-version-check -r "$here/requirements.txt" ||
      skip "PyPI cannot be reached, or lacks what requirements.txt names"
    cp "$here/requirements.txt" "$venv/installed.txt"
  fi
  cd "$here" && exec "$venv/bin/python" -B -m unittest -v
}
