import os

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect  # pip install websockets

headers = {"X-Api-Key": os.environ["API_KEY"]}
with connect("wss://feed.example.com/events", additional_headers=headers) as socket:
    socket.send("subscribe")
    try:
        while True:
            print(socket.recv(), flush=True)
    except ConnectionClosed as end:
        print("closed:", end.rcvd and end.rcvd.code, end.rcvd and end.rcvd.reason)
