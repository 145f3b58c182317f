#!/usr/bin/env bash
# The quickstart from its first plan to a retraining and back, in about a minute, in a temporary copy.
# KEEP=1 leaves the copy with its deployment running. Needs bin/ml (make build) and python3.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
bin=$(cd "$here/.." && pwd)/bin/ml
work=
stream=

if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then
  bold=$'\e[1m' faint=$'\e[2m' green=$'\e[32m' red=$'\e[31m' plain=$'\e[0m'
else
  bold='' faint='' green='' red='' plain=''
fi

say() { printf '\n%s── %s%s\n' "$bold" "$*" "$plain"; }
note() { printf '%s   %s%s\n' "$faint" "$*" "$plain"; }
ok() { printf '%s✓%s %s\n' "$green" "$plain" "$*"; }
die() {
  printf '%s✗ %s%s\n' "$red" "$*" "$plain" >&2
  exit 1
}

# show prints a command as it would be typed and runs it.
show() {
  local line=$1 word
  for word in "${@:2}"; do
    case $word in *' '*) word="\"$word\"" ;; esac
    line+=" $word"
  done
  printf '%s$%s %s\n' "$faint" "$plain" "$line"
  "$@"
}

ml() { "$bin" "$@"; }
traffic.py() { python3 "$here/traffic.py" "$@"; }

# expect WHAT WANT GOT is a claim of this story: a false one ends it.
expect() { [ "$2" = "$3" ] || die "$1: expected $2, got $3"; }

# of EXPRESSION reads JSON from standard input as `d` and prints the expression's value.
of() { python3 -c 'import json, sys; d = json.load(sys.stdin); print(eval(sys.argv[1]))' "$1"; }

version() { ml status -json | of '[s["version"] for s in d if s["address"] == "deployment.tumors"][0]'; }

# left lists processes of the copy: by their working folder where the system tells it, and by their command line.
left() {
  if [ -d /proc/self ]; then
    find /proc -maxdepth 2 -name cwd -lname "$work*" 2>/dev/null || true
    grep -lsF -f <(printf '%s' "$work") /proc/[0-9]*/cmdline || true # from a file, or grep would find itself
  else
    ps -A -o pid=,args= | grep -F -- "$work" | grep -vF 'grep ' || true
  fi
}

finish() {
  code=$?
  trap - EXIT INT TERM
  cd "$here"
  [ -z "$stream" ] || kill "$stream" 2>/dev/null || true
  if [ -n "$work" ] && { [ "${KEEP:-}" != 1 ] || [ "$code" != 0 ]; }; then
    [ ! -e "$work/.ml/state.db" ] || ml -chdir "$work" destroy -auto-approve >"$work/destroy.log" 2>&1 || cat "$work/destroy.log" >&2
    rm -rf "$work"
  fi
  exit "$code"
}
trap finish EXIT
trap 'exit 130' INT TERM

[ -x "$bin" ] || die "there is no $bin; run make build first"
work=$(mktemp -d "${TMPDIR:-/tmp}/continuo-demo.XXXXXX")
work=$(cd "$work" && pwd -P)
cp -R "$here/quickstart/." "$work"
cd "$work"

say "A hospital wants tumours diagnosed. This is all that it wrote:"
note "$(echo *.ml.hcl *.py data/wdbc.csv)"
show ml plan -out first.plan

say "ml apply does exactly that: checks, trains, judges, serves."
show ml apply first.plan
expect "version that serves" 1 "$(version)"
code=0
ml plan -detailed-exitcode >/dev/null || code=$?
expect "exit code of a plan with nothing to do" 0 "$code"
ok "version 1 serves, and another plan has nothing to do"

endpoint=$(ml output -json | of 'd["endpoint"]')
say "Doctors ask."
show traffic.py send "$endpoint" data/wdbc.csv -n 100
show ml monitor monitor.tumors
expect "drift signal" good "$(ml status -json | of '[s["signal"]["drift"] for s in d if s["address"] == "monitor.tumors"][0]')"
ok "the traffic looks like the training data"

say "A new scanner arrives. It measures everything 1.3 times as large."
show traffic.py send "$endpoint" data/wdbc.csv -n 150 --scale 1.3 --seed 2
show ml monitor monitor.tumors
expect "drift signal" bad "$(ml status -json | of '[s["signal"]["drift"] for s in d if s["address"] == "monitor.tumors"][0]')"
[ -s .ml/alerts.log ] || die "no alert was written"
note ".ml/alerts.log: $(tail -1 .ml/alerts.log | of 'd["message"]')"
ok "the drift signal turned"

say "Later come its first diagnosed cases: a second data file."
show traffic.py label data/wdbc.csv data/wdbc-2.csv -n 400 --scale 1.3 --seed 3

say "The plan says what follows, and why."
code=0
show ml plan -out next.plan -detailed-exitcode || code=$?
expect "exit code of a plan with changes" 2 "$code"
expect "reasons to train" "data_changed signal" \
  "$(ml plan -json | of '" ".join(sorted({r["code"] for s in d["steps"] if s["address"] == "training.tumors" for r in s["reasons"]}))')"

say "Apply retrains. The gate judges, a canary takes over step by step, while doctors go on asking."
python3 "$here/traffic.py" send "$endpoint" data/wdbc.csv --scale 1.3 --share 0.4 --seed 4 >stream.log 2>&1 &
stream=$!
show ml apply next.plan
kill -TERM "$stream"
code=0
wait "$stream" || code=$?
stream=
cat stream.log
expect "exit code of the traffic (1 = a request failed)" 0 "$code"
grep -q 'by version 1' stream.log || die "no request reached version 1"
grep -q 'by version 2' stream.log || die "no request reached version 2"
expect "version that serves" 2 "$(version)"
ok "version 2 serves; both versions answered on the way, and no request failed"
show ml versions training.tumors
show traffic.py send "$endpoint" data/wdbc.csv -n 150 --scale 1.3 --share 0.4 --seed 5
show ml monitor monitor.tumors
expect "drift signal" good "$(ml status -json | of '[s["signal"]["drift"] for s in d if s["address"] == "monitor.tumors"][0]')"
ok "the new reference knows both scanners"

say "Second thoughts? Back at once, and it stays there."
show ml rollback deployment.tumors -why "the doctors want to compare"
expect "version that serves" 1 "$(version)"
show ml plan
expect "reason to hold back" pinned "$(ml plan -json | of '[r["code"] for s in d["steps"] if s["address"] == "deployment.tumors" for r in s["reasons"]][0]')"
show ml unpin deployment.tumors
expect "what the next plan would do" update "$(ml plan -json | of '[s["action"] for s in d["steps"] if s["address"] == "deployment.tumors"][0]')"
ok "version 1 serves until someone applies; the next plan moves on to version 2"

if [ "${KEEP:-}" = 1 ]; then
  say "Left running, as asked: $work"
  note "endpoint  $endpoint"
  note "go on     cd $work && $bin plan"
  note "end       $bin -chdir $work destroy -auto-approve && rm -rf $work"
  exit 0
fi

say "And away with it."
show ml destroy -auto-approve | tail -n 1
cd "$here"
[ -z "$(left)" ] || die "processes were left: $(left)"
code=0
traffic.py send "$endpoint" quickstart/data/wdbc.csv -n 1 >/dev/null 2>&1 || code=$?
expect "exit code of a request to what is gone" 1 "$code"
ok "no process is left, and nothing answers"

say "Your turn"
cat <<EOF
  export PATH=${bin%/*}:\$PATH
  cp -R examples/quickstart ~/tumors && cd ~/tumors
  ml plan                     # then: apply, status, versions training.tumors, graph
  edit train.py; ml plan      # code changed: and what follows from it
  ml init                     # in an empty folder: a starter of your own
  More in examples/sklearn, examples/modules and docs/reference.
EOF
