"""A client of Python's websockets that tries everything against the server behind the URL. Prints `all is well`."""

import asyncio
import os
import sys

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

url = sys.argv[1]


def same(what, got, wanted):
    if got != wanted:
        sys.exit(f"{what}: got {got!r:.200}, wanted {wanted!r:.200}")


async def ask(ws, text):
    await ws.send(text)
    return await ws.recv()


async def main():
    async with connect(url, subprotocols=["chat", "superchat"], max_size=2**24) as ws:
        same("subprotocol", ws.subprotocol, "superchat")
        same("subprotocol at the server", await ask(ws, "protocol?"), "superchat")
        same("permessage-deflate", "permessage-deflate" in ws.response.headers["Sec-WebSocket-Extensions"], True)
        same("permessage-deflate at the server", "permessage-deflate" in await ask(ws, "extensions?"), True)
        same("text", await ask(ws, "grüß dich"), "grüß dich")
        same("empty text", await ask(ws, ""), "")
        same("compressible text", await ask(ws, "ab" * 50_000), "ab" * 50_000)
        noise = os.urandom(1 << 20)
        same("1 MiB", await ask(ws, noise), noise)
        await ws.send(["three ", "fragments ", "here"])
        same("fragmented message", await ws.recv(), "three fragments here")
        same("fragments of the server", await ask(ws, "fragments!"), "one two three")
        await (await ws.ping(b"from the client"))
        same("ping of the server", await ask(ws, "ping!"), "ponged")
        await ws.close(4001, "enough")
        same("answer to our Close", ws.protocol.close_rcvd.code, 4001)
    async with connect(url, compression=None) as ws:
        same("no subprotocol", ws.subprotocol, None)
        same("no extensions", ws.response.headers.get("Sec-WebSocket-Extensions"), None)
        while (last := await ask(ws, "last?")) == "0":
            pass  # the server has not got to it yet
        same("our code at the server", last, "4001")
        same("uncompressed text", await ask(ws, "plain"), "plain")
        try:
            await ask(ws, "close! 4002")
            sys.exit("the server did not close")
        except ConnectionClosed as closed:
            same("code of the server", (closed.rcvd.code, closed.rcvd.reason), (4002, "as you wish"))
    print("all is well")


asyncio.run(asyncio.wait_for(main(), 30))
