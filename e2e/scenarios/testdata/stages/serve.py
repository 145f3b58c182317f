import json
import os
import signal
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

with open(os.path.join(os.environ["ML_MODEL_DIR"], "model.json")) as f:
    model = json.load(f)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, status, body):
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_POST(self):
        rows = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["instances"]
        if model["fails"] == "outside" and self.headers["Host"].endswith(".example.test"):
            return self.answer(500, {"error": "out of order"})
        self.answer(200, {"predictions": [sum(r) * model["factor"] for r in rows]})

    def log_message(self, *args):
        pass


server = ThreadingHTTPServer(("", int(os.environ["PORT"])), Handler)
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
server.serve_forever()
