"""Answers with the model's second line, which names its round."""
import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TEXT = open(os.path.join(os.environ["ML_MODEL_DIR"], "model.csv")).read().split("\n")[1].encode()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", str(len(TEXT)))
        self.end_headers()
        self.wfile.write(TEXT)

    def log_message(self, *args):
        pass


ThreadingHTTPServer((os.environ["HOST"], int(os.environ["PORT"])), Handler).serve_forever()
