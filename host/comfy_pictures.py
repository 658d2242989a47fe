"""Pictures that ComfyUI's page asks for by itself, beside those that a run puts on a block."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from ..models.plain_text import harmless


def offer_picture(path: str, draw: Callable[[str], bytes]) -> None:
    """Answer GET `path`?plan=... with the PNG that `draw` makes of the plan; status 400 where it refuses one."""
    from aiohttp import web
    from server import PromptServer

    server = getattr(PromptServer, "instance", None)
    if server is None:  # a script that borrows the host's classes
        return

    @server.routes.get(path)
    async def picture(request: web.Request) -> web.Response:
        try:
            drawn = await asyncio.get_running_loop().run_in_executor(None, draw, request.query.get("plan", ""))
        except (ValueError, TypeError, RecursionError) as error:
            return web.Response(status=400, text=harmless(str(error)))
        return web.Response(body=drawn, content_type="image/png", headers={"Cache-Control": "max-age=600"})
