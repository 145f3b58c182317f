"""Answer {"instances": [...]} with {"predictions": [...]} on PORT."""
import json
import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from model import Model

MODEL = Model.load(os.environ["ML_MODEL_DIR"])


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
        self.answer(200, {"predictions": [MODEL.predict(r) for r in rows]})

    @staticmethod
    def row(instance):
        if isinstance(instance, dict):
            return [float(instance[c]) for c in MODEL.features]
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
