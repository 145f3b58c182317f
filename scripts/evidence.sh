#!/usr/bin/env bash
# Runs a long check and keeps what it said, with the commit and the machine, as docs/evidence/NAME.log:
#
#   scripts/evidence.sh NAME COMMAND [ARGUMENT …]
#
# The log takes its place only when the command has ended, well or badly; the exit code is the command's.
set -euo pipefail
cd "$(dirname "$0")/.."
name=$1
shift
new=$(mktemp)
trap 'rm -f "$new"' EXIT
{
  printf 'commit   %s%s\n' "$(git rev-parse HEAD)" "$(git diff --quiet HEAD -- . ':!docs' || printf ', with changes that are not committed')"
  printf 'began    %s\n' "$(date -u +%FT%TZ)"
  printf 'machine  %s, %s cores, %s\n' "$(uname -sm)" "$(getconf _NPROCESSORS_ONLN)" "$(go version)"
  printf 'command  %s\n\n' "$*"
} >"$new"
code=0
"$@" 2>&1 | tee -a "$new" || code=$?
printf '\nended    %s with exit code %s\n' "$(date -u +%FT%TZ)" "$code" >>"$new"
mkdir -p docs/evidence
cp "$new" "docs/evidence/$name.log"
exit "$code"
