#!/usr/bin/env bash
# Runs golangci-lint at the pinned version; builds it once, outside the tree.
set -euo pipefail
cd "$(dirname "$0")/.."
version=v2.15.0
tools="${XDG_CACHE_HOME:-$HOME/.cache}/continuo-tools/golangci-lint-$version"
if [ ! -x "$tools/golangci-lint" ]; then
  mkdir -p "$tools"
  GOFLAGS=-mod=mod GOBIN="$tools" go install "github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$version"
fi
exec "$tools/golangci-lint" run "$@"
