"""A server of Python's websockets: echoes, and does what a few texts ask for. Prints its port."""

import asyncio

from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed

last = 0


async def session(ws):
    global last
    try:
        async for message in ws:
            await answer(ws, message)
    except ConnectionClosed:
        pass
    if ws.protocol.close_rcvd:
        last = ws.protocol.close_rcvd.code


async def answer(ws, message):
    if message == "protocol?":
        await ws.send(str(ws.subprotocol))
    elif message == "extensions?":
        await ws.send(ws.response.headers.get("Sec-WebSocket-Extensions", "none"))
    elif message == "last?":
        await ws.send(str(last))
    elif message == "ping!":
        pong = await ws.ping(b"from the server")
        pong.add_done_callback(lambda _: asyncio.ensure_future(ws.send("ponged")))
    elif message == "fragments!":
        await ws.send(["one ", "two ", "three"])
    elif isinstance(message, str) and message.startswith("close! "):
        await ws.close(int(message.split()[1]), "as you wish")
    else:
        await ws.send(message)


def choose(ws, offered):
    return "superchat" if "superchat" in offered else None


async def main():
    async with serve(session, "127.0.0.1", 0, select_subprotocol=choose, max_size=2**24) as server:
        print(server.sockets[0].getsockname()[1], flush=True)
        await asyncio.get_running_loop().create_future()


asyncio.run(main())
