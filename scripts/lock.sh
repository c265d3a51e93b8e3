#!/usr/bin/env bash
# Renews requirements/*.txt from pyproject.toml and requirements/proto.in. `scripts/lock.sh --upgrade` takes the newest
# of everything; without it only what the inputs no longer allow is changed.
set -euo pipefail
cd "$(dirname "$0")/.."

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check pip-tools==7.6.2 hatchling

# The broker depends on certes-protos, which is beside it and not on an index: the resolver is shown a wheel of it, and
# leaves it out of the lock ("unsafe"), because `make setup` installs it from its folder.
"$work/venv/bin/pip" wheel --quiet --no-deps --no-build-isolation --wheel-dir "$work/wheels" ./generated

# No addresses: a lock says what, not from where.
compile=("$work/venv/bin/pip-compile" --quiet --generate-hashes --reuse-hashes --strip-extras --no-header
    --no-emit-index-url --no-emit-find-links --no-emit-trusted-host --no-emit-options "$@")

"${compile[@]}" --unsafe-package certes-protos --find-links "$work/wheels" --extra dev \
    --output-file requirements/dev.txt pyproject.toml 2>&1 | { grep -v 'may be rejected by pip' || true; }
# That warning, in the file too, is about the package left out.
sed -i '/^# WARNING: The following packages were not pinned/,$d' requirements/dev.txt
"${compile[@]}" --allow-unsafe --output-file requirements/proto.txt requirements/proto.in
"${compile[@]}" --allow-unsafe --output-file requirements/toolchains.txt requirements/toolchains.in
