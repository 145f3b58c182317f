#!/usr/bin/env bash
# Runs every fuzz target for the given time each (default 60s).
set -euo pipefail
cd "$(dirname "$0")/.."
time="${1:-60s}"
grep -rlE '^func Fuzz' --include='*_test.go' . | sort | while read -r file; do
  dir=$(dirname "$file")
  sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\).*/\1/p' "$file" | while read -r target; do
    echo "== $dir $target"
    go test -run '^$' -fuzz "^$target\$" -fuzztime "$time" "$dir"
  done
done
