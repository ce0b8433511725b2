import ssl
import sys

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect  # pip install websockets

name = sys.argv[1]
context = ssl.create_default_context()
context.load_cert_chain(f"{name}.crt", f"{name}.key")
with connect("wss://devices.example.com/telemetry", ssl=context) as socket:
    socket.send("21.5")
    try:
        while True:
            print(socket.recv(), flush=True)
    except ConnectionClosed as end:
        print("closed:", end.rcvd and end.rcvd.code, end.rcvd and end.rcvd.reason)
