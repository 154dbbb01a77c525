#!/usr/bin/env bash
# The one door. ./reproduce.sh cifar_mlp runs an experiment, ./reproduce.sh test the tests, ./reproduce.sh --help says more.
# Uses the active virtual environment if this package is installed in it, else makes .venv here on first use.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}" # for experiments/ and data_scripts/
[ $# -gt 0 ] || set -- --help

fail() {
  echo "error: $*" >&2
  exit 2
}

is_ours() { # whether the active python has this very package
  [ -n "${VIRTUAL_ENV:-}${CONDA_PREFIX:-}" ] &&
    python -c 'import sys, mutransfer; sys.exit(not mutransfer.__file__.startswith(sys.argv[1]))' "$root/" 2>/dev/null
}

make_venv() {
  local found
  for found in python3.11 python3.12 python3.13 python3 ""; do
    "${found:-false}" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && break
  done
  [ -n "$found" ] || fail "Python 3.11 or newer is needed; install it and run the same command again."
  "$found" -m venv "$root/.venv" || fail "cannot make a virtual environment in $root/.venv."
}

# need EXTRA FILE: install the package with EXTRA, once for each state of pyproject.toml (FILE remembers it)
need() {
  cmp -s "$root/pyproject.toml" "$2" && return
  echo "installing mutransfer$1 (once; torch is large) ..." >&2
  "$python" -m pip install --quiet --disable-pip-version-check -e "$root$1" >&2 ||
    fail "pip could not install the packages; read its message above, mend it and run the same command again."
  cp "$root/pyproject.toml" "$2"
}

case $1 in
  test | bench) extras="[dev,fairseq,hf,labs]" ;;
  lab) extras="[labs]" ;;
  *) extras="" ;;
esac
if is_ours; then
  python=python
  [ -z "$extras" ] || "$python" -m pip install --quiet --disable-pip-version-check -e "$root$extras" >&2
else
  python="$root/.venv/bin/python"
  "$python" -m pip --version >/dev/null 2>&1 || make_venv
  need "" "$root/.venv/installed"
  [ -z "$extras" ] || need "$extras" "$root/.venv/installed${extras//[^a-z]/-}"
fi

if [[ $1 = test || $1 = bench ]] && # its own list of packages has ones that no longer exist; the extra has those needed
  ! "$python" -c 'import importlib.util, sys; sys.exit(importlib.util.find_spec("fairseq") is None)'; then
  "$python" -m pip install --quiet --disable-pip-version-check --no-deps "ve-fairseq==0.12.3" >&2 ||
    echo "fairseq cannot be installed here: what needs it is skipped." >&2
fi

if [ "$1" = test ]; then
  shift
  cd "$root"
  "$python" -m ruff check .
  "$python" -m ruff format --check .
  "$python" -m mypy
  exec "$python" -m pytest -n auto --maxprocesses 4 "$@"
fi
case $1 in
  bench) shift && exec "$python" -m benchmarks "$@" ;;
  lab) shift && exec "$python" -m labs "$@" ;;
esac
exec "$python" -m mutransfer.cli "$@"
