#!/usr/bin/env bash
# Makes the environment DIR hold what LOCK pins: scripts/environment.sh DIR LOCK. Called by the Makefile.
set -euo pipefail
cd "$(dirname "$0")/.."
directory=$1
lock=$2
python=${PYTHON:-python3}

if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    echo "Certes needs Python 3.11 or newer; $python is $("$python" --version 2>&1). Name another: make PYTHON=python3.12 …" >&2
    exit 1
fi

# An environment that was made elsewhere has scripts that begin with another folder's Python.
if ! "$directory/bin/python" -c 'import sys; sys.exit(sys.prefix != sys.argv[1])' "$PWD/$directory" 2>/dev/null ||
    ! "$directory/bin/pip" --version >/dev/null 2>&1; then
    rm -rf "$directory"
    if ! "$python" -m venv "$directory" >/dev/null; then
        rm -rf "$directory"
        echo "$python cannot make environments. On Debian and Ubuntu: apt-get install python3-venv" >&2
        exit 1
    fi
fi

echo "Installing $(grep -c == "$lock") packages of $lock into $directory …"
"$directory/bin/pip" install --quiet --require-hashes --requirement "$lock"
