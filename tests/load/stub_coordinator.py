"""A coordinator that does nothing but answer: a turn is done after some seconds, and it stands still when it is told to.

    python stub_coordinator.py PORT SECONDS
"""

from __future__ import annotations

import asyncio
import sys
import time

from aiohttp import web

SECONDS = float(sys.argv[2])
due: dict[str, float] = {}
last: dict[str, str] = {}
counts = {"posts": 0, "forgotten": 0}
open_again = asyncio.Event()


async def turns(request: web.Request) -> web.Response:
    await open_again.wait()
    counts["posts"] += 1
    last.update(await request.json())
    due.setdefault(last["turn_id"], time.time() + SECONDS)
    return web.json_response({}, status=202)


async def turn(request: web.Request) -> web.Response:
    await open_again.wait()
    at = due.get(request.match_info["turn_id"])
    if at is None:
        counts["forgotten"] += 1
        return web.json_response({}, status=404)
    return web.json_response({"status": "done" if time.time() >= at else "running"})


async def stall(request: web.Request) -> web.Response:
    open_again.clear()
    asyncio.get_running_loop().call_later(float(request.query["seconds"]), open_again.set)
    return web.json_response({})


async def forget(request: web.Request) -> web.Response:
    due.clear()
    return web.json_response({})


async def count(request: web.Request) -> web.Response:
    return web.json_response(counts)


async def latest(request: web.Request) -> web.Response:
    return web.json_response(last)


async def healthz(request: web.Request) -> web.Response:
    open_again.set()
    return web.json_response({})


app = web.Application()
app.add_routes([
    web.post("/turns", turns), web.get("/turns/{turn_id}", turn), web.post("/stall", stall), web.post("/forget", forget),
    web.get("/count", count), web.get("/last", latest), web.get("/healthz", healthz),
])
web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), print=None)
