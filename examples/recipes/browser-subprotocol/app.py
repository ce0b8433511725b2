"""Serves the page, and a ticket to whoever is signed in."""
import os
import pathlib
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import jwt  # pip install PyJWT

KEY = os.environ["TICKET_KEY"]
PAGE = pathlib.Path(__file__).with_name("page.html").read_bytes()


class App(BaseHTTPRequestHandler):
    def do_GET(self):
        user = "ann"  # whoever the session of your application says it is
        ticket = jwt.encode({"sub": user, "aud": "chat", "exp": int(time.time()) + 60}, KEY, algorithm="HS256")
        is_ticket = self.path == "/ticket"
        self.send_response(200)
        self.send_header("Content-Type", "text/plain" if is_ticket else "text/html")
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(ticket.encode() if is_ticket else PAGE)


ThreadingHTTPServer(("0.0.0.0", 8080), App).serve_forever()
