"""The backend: speaks the subprotocol "chat", and is told who is there."""
import asyncio

from websockets.asyncio.server import serve  # pip install websockets


async def session(socket):
    user = socket.request.headers["X-User"]
    async for message in socket:
        await socket.send(f"{user}: {message}")


async def main():
    async with serve(session, "0.0.0.0", 8080, subprotocols=["chat"]) as server:
        await server.serve_forever()


asyncio.run(main())
