#!/usr/bin/env python3
"""Stands in for the world around the quickstart: a hospital that asks, and a new scanner.

    traffic.py send URL CSV [-n 100] [--scale 1.3] [--share 0.4]   ask for predictions, tell how it went
    traffic.py label CSV OUT [-n 400] [--scale 1.3]                write measurements with diagnoses

The new scanner measures everything about `scale` times as large; `share` of the rows are its own. `send` without -n goes on until SIGTERM.
It exits with 1 when a request failed. Standard library only.
"""
import argparse
import collections
import csv
import json
import random
import signal
import sys
import time
import urllib.error
import urllib.request

TARGET = "diagnosis"


def rows(path, scale, share, seed):
    """Rows of the file in random order, for ever; the new scanner measured that share of them."""
    with open(path, newline="") as f:
        known = list(csv.DictReader(f))
    dice = random.Random(seed)
    while True:
        row = dict(dice.choice(known))
        truth = row.pop(TARGET)
        values = {name: float(v) for name, v in row.items()}
        if scale != 1 and dice.random() < share:
            values = {name: round(v * scale * dice.gauss(1, 0.05), 6) for name, v in values.items()}
        yield values, truth


def ask(url, instance):
    """The prediction for an instance and the version that made it."""
    body = json.dumps({"instances": [instance]}).encode()
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=10) as response:
        return json.load(response)["predictions"][0], response.headers["ML-Model-Version"]


def send(args):
    url = args.url.rstrip("/") + "/v1/models/tumors:predict"
    going = True

    def stop(*_):
        nonlocal going
        going = False

    signal.signal(signal.SIGTERM, stop)
    sent = failed = right = 0
    versions = collections.Counter()
    for instance, truth in rows(args.csv, args.scale, args.share, args.seed):
        if not going or sent == args.n:
            break
        sent += 1
        try:
            answer, version = ask(url, instance)
            versions[version] += 1
            right += answer == truth
        except (OSError, ValueError, KeyError, IndexError) as error:
            failed += 1
            print(f"request {sent}: {error!r}", file=sys.stderr)
        if args.n is None:
            time.sleep(0.02)  # A steady stream; nothing waits for it.
    by = ", ".join(f"{n} by version {v}" for v, n in sorted(versions.items()))
    print(f"{sent} requests, {failed} failed; {right} diagnoses right; answered: {by}")
    return 1 if failed or not sent else 0


def label(args):
    source = rows(args.csv, args.scale, args.share, args.seed)
    with open(args.out, "w", newline="") as f:
        for i in range(args.n or 400):
            values, truth = next(source)
            if i == 0:
                out = csv.DictWriter(f, [*values, TARGET], lineterminator="\n")
                out.writeheader()
            out.writerow({**values, TARGET: truth})
    print(f"{args.out}: {args.n or 400} rows")
    return 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, run, places in (("send", send, ("url", "csv")), ("label", label, ("csv", "out"))):
        command = commands.add_parser(name)
        for place in places:
            command.add_argument(place)
        command.add_argument("-n", type=int, help="how many")
        command.add_argument("--scale", type=float, default=1.0)
        command.add_argument("--share", type=float, default=1.0, help="share of the new scanner")
        command.add_argument("--seed", type=int, default=1)
        command.set_defaults(run=run)
    args = parser.parse_args()
    return args.run(args)


if __name__ == "__main__":
    sys.exit(main())
