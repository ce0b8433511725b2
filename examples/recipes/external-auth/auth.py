"""Says who may connect: 2xx for yes; 401 or 403, with a body for the client, for no."""
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

ROOMS = {"Bearer ann-of-the-example": ("ann", {"/rooms/1", "/rooms/7"})}  # here goes your database


class Auth(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # so that connections are used again

    def do_GET(self):
        user, rooms = ROOMS.get(self.headers["Authorization"], (None, set()))
        if user is None:
            self.answer(401, "sign in first\n")
        elif urlsplit(self.headers["X-Forwarded-Uri"]).path not in rooms:
            self.answer(403, "you are not in this room\n")
        else:
            self.answer(200, "", {"X-User": user})

    def answer(self, status, text, headers={}):
        self.send_response(status)
        for name, value in {"Content-Length": str(len(text)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(text.encode())


ThreadingHTTPServer(("0.0.0.0", 8080), Auth).serve_forever()
