"""Serves the page and signs people in; whatever is below /rooms goes to Sheave instead."""
import os
import pathlib
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import jwt  # pip install PyJWT

KEY = os.environ["SESSION_KEY"]
PAGE = pathlib.Path(__file__).with_name("page.html").read_bytes()


class App(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(PAGE)

    def do_POST(self):
        user = "ann"  # whoever your password form or identity provider says it is
        claims = {"iss": "https://chat.example.com", "sub": user, "exp": int(time.time()) + 8 * 3600}
        token = jwt.encode(claims, KEY, algorithm="HS256")
        self.send_response(204)
        self.send_header("Set-Cookie", f"session={token}; Path=/; HttpOnly; Secure; SameSite=Lax")
        self.end_headers()


ThreadingHTTPServer(("0.0.0.0", 8080), App).serve_forever()
