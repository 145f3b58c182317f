"""Nearest neighbours in plain Python: replace it with your own model."""
import csv
import json
import os
import sys
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TARGET = "kind"


def rows(path):
    with open(path, newline="") as f:
        return list(csv.DictReader(f))


def predict(model, instance):
    def distance(row):
        return sum((float(row[c]) - float(instance[c])) ** 2 for c in model["features"])

    nearest = sorted(model["rows"], key=distance)[: model["neighbours"]]
    return Counter(r[TARGET] for r in nearest).most_common(1)[0][0]


def load():
    with open(os.path.join(os.environ["ML_MODEL_DIR"], "model.json")) as f:
        return json.load(f)


def train():
    params = json.load(open(os.environ["ML_PARAMS"]))
    data = rows(os.environ["ML_INPUT_TRAIN"])
    model = {"rows": data, "features": [c for c in data[0] if c != TARGET], "neighbours": params["neighbours"]}
    with open(os.path.join(os.environ["ML_MODEL_DIR"], "model.json"), "w") as f:
        json.dump(model, f)


def validate():
    model, test = load(), rows(os.environ["ML_INPUT_TEST"])
    right = sum(predict(model, r) == r[TARGET] for r in test)
    json.dump({"accuracy": right / len(test)}, open(os.environ["ML_METRICS"], "w"))


def serve():
    model = load()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # Head and body leave together: TCP would hold the second part back.

        def do_GET(self):
            self.answer({"status": "ready"})

        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))))
            self.answer({"predictions": [predict(model, i) for i in body["instances"]]})

        def answer(self, value):
            body = json.dumps(value).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            pass

    ThreadingHTTPServer((os.environ["HOST"], int(os.environ["PORT"])), Handler).serve_forever()


if __name__ == "__main__":
    {"train": train, "validate": validate, "serve": serve}[sys.argv[1]]()
