# What a value of a row does to its prediction: how much less it is without it. It asks the version that it stands beside.
import json
import sys
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

told = dict(zip(sys.argv[1::2], sys.argv[2::2]))


def predict(path, rows):
    url = "http://" + told["--predictor_host"] + path.replace(":explain", ":predict")
    request = urllib.request.Request(url, json.dumps({"instances": rows}).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)["predictions"]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        rows = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["instances"]
        out = []
        for row in rows:
            whole, *less = predict(self.path, [row] + [row[:i] + [0] + row[i + 1:] for i in range(len(row))])
            out.append([whole - v for v in less])
        data = json.dumps({"explanations": out}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args):
        pass


ThreadingHTTPServer(("", int(told["--http_port"])), Handler).serve_forever()
