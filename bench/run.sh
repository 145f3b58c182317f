#!/usr/bin/env bash
# Measures ml, and OpenTofu beside it, and writes the tables of docs/benchmarks.md. `make bench` calls it.
#
#   ML_BENCH_ONLY=plans,files   only these of plans, files, drift, gateway
#   ML_BENCH_QUICK=1            leave out 10,000 blocks, whose first apply takes minutes
#   ML_BENCH_FULL=1             OpenTofu beside for_each over 1,000 too (minutes)
#   ML_BENCH_RUNS=5             samples of each median; 3 at 10,000 blocks
#   ML_BENCH_ML=path            measure this program instead of a fresh build
#
# Applied projects, large files and OpenTofu are kept in ${XDG_CACHE_HOME:-~/.cache}/continuo-tools between runs (3.5 GB).
set -euo pipefail
cd "$(dirname "$0")/.."

tools="${XDG_CACHE_HOME:-$HOME/.cache}/continuo-tools"
cache="$tools/bench"
mkdir -p "$cache"
export CGO_ENABLED=0

sha256() { if command -v sha256sum >/dev/null; then sha256sum; else shasum -a 256; fi; }

# tofu builds OpenTofu at the version of bench/tofu/go.mod, once, and sets $tofu, or $tofu_why when it cannot be had.
tofu() {
  local key dir log
  key=$(cat bench/tofu/go.mod bench/tofu/go.sum | sha256 | cut -c1-16)
  dir="$tools/tofu-$key" log="$cache/tofu-build.log"
  if [ ! -x "$dir/tofu" ]; then
    echo "build OpenTofu, once" >&2
    mkdir -p "$dir"
    if ! (cd bench/tofu && go build -trimpath -o "$dir/tofu.new" github.com/opentofu/opentofu/cmd/tofu) >"$log" 2>&1; then
      tofu_why="it could not be built, see $log"
      return
    fi
    mv "$dir/tofu.new" "$dir/tofu"
  fi
  tofu="$dir/tofu"
}

ml="${ML_BENCH_ML:-}"
if [ -z "$ml" ]; then
  ml="$cache/ml"
  go build -trimpath -o "$ml" ./cmd/ml
fi
go build -trimpath -o "$cache/gen" ./bench/gen
go build -trimpath -o "$cache/measure" ./bench/measure
tofu='' tofu_why='no OpenTofu'
case ",${ML_BENCH_ONLY:-plans}," in *,plans,*) tofu ;; esac

exec "$cache/measure" -ml "$ml" -gen "$cache/gen" -tofu "$tofu" -tofu-why "$tofu_why" -cache "$cache" \
  -page docs/benchmarks.md -runs "${ML_BENCH_RUNS:-5}" -only "${ML_BENCH_ONLY:-}" \
  ${ML_BENCH_QUICK:+-quick} ${ML_BENCH_FULL:+-full}
