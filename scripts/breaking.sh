#!/usr/bin/env bash
# Compares the protos with those of the last release (the newest v* tag before this commit) and names every breaking change.
set -euo pipefail
cd "$(dirname "$0")/.."

if ! git rev-parse --git-dir >/dev/null 2>&1; then
    echo "buf breaking: this is no git checkout, so the last release is not at hand to compare with"
    exit 0
fi
release=$(git describe --tags --abbrev=0 --match 'v[0-9]*' 2>/dev/null || true)
if [ -z "$release" ]; then
    echo "buf breaking: nothing is released yet, so nothing can break"
    exit 0
fi

# `git archive` instead of buf's own `--against .git#tag=…`, which cannot read a shallow clone or a linked work tree.
before=$(mktemp -d)
trap 'rm -rf "$before"' EXIT
git archive "$release" proto | tar -x -C "$before"
buf breaking proto --against "$before/proto"
echo "buf breaking: nothing that $release promised is broken"
