"""Answer {"instances": [...]} on PORT: the model tells how likely each is malignant, the hospital's policy from where on to say so."""
import json
import os
import threading
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import model

FEATURES, FOREST = model.load()


class Policy:
    """What the policy service says, asked again every few seconds. While it is away, what it said last goes on to hold."""

    def __init__(self, url, every=2.0):
        self.url, self.every, self.lock = url, every, threading.Lock()
        self.value, self.asked = self.ask(), time.monotonic()

    def ask(self):
        with urllib.request.urlopen(self.url, timeout=5) as response:
            return json.load(response)

    def now(self):
        with self.lock:
            if time.monotonic() - self.asked > self.every:
                self.asked = time.monotonic()
                try:
                    self.value = self.ask()
                except (OSError, ValueError) as e:
                    print(f"the policy cannot be asked, and stays as it was: {e}", flush=True)
            return self.value


POLICY = Policy(os.environ["POLICY"])


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # Head and body leave together: TCP would hold the second part back.

    def do_GET(self):
        self.answer(200, {"status": "ready"})

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        try:
            rows = [self.row(i) for i in json.loads(body)["instances"]]
        except (KeyError, TypeError, ValueError) as e:
            return self.answer(400, {"error": f"bad instances: {e!r}"})
        warn_from = POLICY.now()["warn_from"]
        likely = model.malignant(FOREST, rows) if rows else []
        self.answer(200, {"predictions": ["M" if p >= warn_from else "B" for p in likely], "warn_from": warn_from})

    @staticmethod
    def row(instance):
        if isinstance(instance, dict):
            return [float(instance[c]) for c in FEATURES]
        return [float(v) for v in instance]

    def answer(self, status, value):
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


if __name__ == "__main__":
    ThreadingHTTPServer((os.environ["HOST"], int(os.environ["PORT"])), Handler).serve_forever()
