"""Pictures that ComfyUI's page asks for by itself, beside those that a run puts on a block."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable

from ...models.plain_text import harmless


def offer_picture(path: str, draw: Callable[[str], bytes]) -> None:
    """Answer GET `path`?plan=... with the PNG that `draw` makes of the plan; status 400 where it refuses one."""
    from aiohttp import web

    # ComfyUI has loaded its server before the packs; a script that only borrows its classes has none, and may be
    # unable to load it, because `utils` then is another module.
    server = getattr(getattr(sys.modules.get("server"), "PromptServer", None), "instance", None)
    if server is None:
        return

    @server.routes.get(path)
    async def picture(request: web.Request) -> web.Response:
        try:
            drawn = await asyncio.get_running_loop().run_in_executor(None, draw, request.query.get("plan", ""))
        except (ValueError, TypeError, RecursionError) as error:
            return web.Response(status=400, text=harmless(str(error)))
        return web.Response(body=drawn, content_type="image/png", headers={"Cache-Control": "max-age=600"})
