"""A server that sends the page of a real one, and answers chats as a test says: faults, and answers of any size."""

import json
import threading
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def event(**delta):
    choice = {"index": 0, "delta": delta, "finish_reason": None}
    return ("data: " + json.dumps({"choices": [choice]}) + "\n\n").encode()


class Stub:
    """`answer(handler)` writes the answer to each chat; bodies that came are in `bodies`."""

    def __init__(self, real_url, answer, name="stub"):
        self.bodies = []
        stub = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_):
                pass

            def send(self, status, content_type, body=b"", fields=()):
                self.send_response(status)
                self.send_header("Content-Type", content_type)
                for name, value in fields:
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def refuse(self, status, code, message):
                error = {"message": message, "type": "x", "param": None, "code": code}
                self.send(status, "application/json", json.dumps({"error": error}).encode())

            def stream(self, pieces, pause=0.0):
                self.send(200, "text/event-stream; charset=utf-8")
                for piece in pieces:
                    self.wfile.write(piece)
                    time.sleep(pause)

            def do_GET(self):
                if self.path == "/":
                    with urllib.request.urlopen(real_url + "/") as page:
                        policy = page.headers["Content-Security-Policy"]
                        self.send(200, page.headers["Content-Type"], page.read(),
                                  [("Content-Security-Policy", policy)])
                else:
                    models = {"data": [{"id": name, "max_model_len": 131072}]}
                    self.send(200, "application/json", json.dumps(models).encode())

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                stub.bodies.append(json.loads(body))
                try:
                    answer(self)
                except ConnectionError:
                    pass  # stopped

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def stop(self):
        self.http.shutdown()
        self.http.server_close()
