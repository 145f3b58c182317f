"""Least squares on hour, weekend and temperature, in plain Python."""
import csv
import json
import math
import os
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def terms(row, comfort):
    """What the demand is a sum of: daily rhythm, weekend, heating and cooling."""
    angle = 2 * math.pi * float(row["hour"]) / 24
    temperature = float(row["temperature"])
    low, high = comfort
    return [
        1.0,
        math.sin(angle),
        math.cos(angle),
        float(row["weekend"]),
        max(0.0, low - temperature),
        max(0.0, temperature - high),
    ]


def solve(a, b):
    """x with a·x = b, by Gaussian elimination with pivoting."""
    n = len(b)
    m = [row[:] + [v] for row, v in zip(a, b)]
    for i in range(n):
        pivot = max(range(i, n), key=lambda r: abs(m[r][i]))
        m[i], m[pivot] = m[pivot], m[i]
        for r in range(i + 1, n):
            f = m[r][i] / m[i][i]
            m[r] = [v - f * w for v, w in zip(m[r], m[i])]
    x = [0.0] * n
    for i in reversed(range(n)):
        x[i] = (m[i][n] - sum(m[i][j] * x[j] for j in range(i + 1, n))) / m[i][i]
    return x


def rows(path):
    with open(path, newline="") as f:
        return list(csv.DictReader(f))


def model_file():
    return os.path.join(os.environ["ML_MODEL_DIR"], "model.json")


def load():
    with open(model_file()) as f:
        return json.load(f)


def predict(model, row):
    return sum(w * t for w, t in zip(model["weights"], terms(row, model["comfort"])))


def train():
    with open(os.environ["ML_PARAMS"]) as f:
        comfort = json.load(f)["comfort"]
    data = rows(os.environ["ML_INPUT_TRAIN"])
    x = [terms(r, comfort) for r in data]
    y = [float(r["demand"]) for r in data]
    n = range(len(x[0]))
    normal = [[sum(r[i] * r[j] for r in x) for j in n] for i in n]
    weights = solve(normal, [sum(r[i] * v for r, v in zip(x, y)) for i in n])
    with open(model_file(), "w") as f:
        json.dump({"weights": weights, "comfort": comfort}, f)


def validate():
    model, data = load(), rows(os.environ["ML_INPUT_TEST"])
    errors = [abs(predict(model, r) - float(r["demand"])) for r in data]
    with open(os.environ["ML_METRICS"], "w") as f:
        json.dump({"mae": sum(errors) / len(errors)}, f)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # Head and body leave together: TCP would hold the second part back.

    def do_GET(self):
        self.answer(200, {"status": "ready"})

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        try:
            predictions = [predict(self.server.model, i) for i in json.loads(body)["instances"]]
        except (KeyError, TypeError, ValueError) as e:
            return self.answer(400, {"error": f"bad instances: {e!r}"})
        self.answer(200, {"predictions": predictions})

    def answer(self, status, value):
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


def serve():
    server = ThreadingHTTPServer((os.environ["HOST"], int(os.environ["PORT"])), Handler)
    server.model = load()
    server.serve_forever()


if __name__ == "__main__":
    {"train": train, "validate": validate, "serve": serve}[sys.argv[1]]()
