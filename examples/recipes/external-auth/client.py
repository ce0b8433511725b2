import os
import sys

from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect  # pip install websockets

headers = {"Authorization": f"Bearer {os.environ['TOKEN']}"}
try:
    with connect(f"wss://chat.example.com/rooms/{sys.argv[1]}", additional_headers=headers) as socket:
        socket.send("hello")
        print(socket.recv())
except InvalidStatus as refused:
    print(refused.response.status_code, refused.response.body.decode())
