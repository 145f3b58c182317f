"""Prints the type and the body of every event that it is sent."""
import http.server


class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        told = self.headers["Ce-Type"] + " " + self.rfile.read(int(self.headers["Content-Length"])).decode().strip()
        print(told + "\n", end="", flush=True)  # in one piece
        self.send_response(200)
        self.end_headers()

    def log_message(self, *args):
        pass


http.server.ThreadingHTTPServer(("", 8080), Handler).serve_forever()
