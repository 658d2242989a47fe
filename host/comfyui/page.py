"""What ComfyUI's page is sent beside results: pictures and text on the running node, and pictures that it requests."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from comfy_execution.utils import get_executing_context

from ...models.plain_text import harmless

if TYPE_CHECKING:
    from aiohttp import web


_playing: dict[tuple[str, str], dict[str, Any]] = {}  # the newest clip that plays on a node: run and node, output


def running_server() -> Any:
    """ComfyUI's server; None in a script that only borrows its classes.

    ComfyUI has loaded it before the packs. Such a script may be unable to: `utils` then is another module.
    """
    return getattr(getattr(sys.modules.get("server"), "PromptServer", None), "instance", None)


def show_on_node(output: dict[str, Any]) -> None:
    """Show the client that started the run what the running node has made so far."""
    context, server = get_executing_context(), running_server()
    if context is not None and server is not None and server.client_id is not None:
        message = {"node": context.node_id, "display_node": context.node_id, "prompt_id": context.prompt_id}
        server.send_sync("executed", {**message, "output": output}, server.client_id)


def play_on_node(output: dict[str, Any]) -> None:
    """Show a clip on the running node, and remember it for notes that come later: they would take its place."""
    show_on_node(output)
    if (context := get_executing_context()) is not None:
        _playing.clear()
        _playing[context.prompt_id, context.node_id] = output


def playing_clip() -> dict[str, Any]:
    """What plays on the running node."""
    context = get_executing_context()
    return {} if context is None else _playing.get((context.prompt_id, context.node_id), {})


def say(text: str) -> None:
    """Write a line on the running node, if there is one, in the page that started the run.

    Without a receiver the host would send it to every open page, and some put it into themselves as HTML.
    """
    context, server = get_executing_context(), running_server()
    if context is not None and server is not None and server.client_id is not None:
        server.send_progress_text(harmless(text), context.node_id, server.client_id)


def plays_clips() -> bool:
    """Whether this run was started from the host's page, which sends its workflow along and says what it can show."""
    try:
        from comfy_api.feature_flags import supports_feature
    except ImportError:  # an older host
        return False
    server, context = running_server(), get_executing_context()
    if server is None or context is None:
        return False
    running, _ = server.prompt_queue.get_current_queue_volatile()
    workflows = [extra.get("extra_pnginfo") for _, prompt, _, extra, *_ in running if prompt == context.prompt_id]
    return any(workflows) and supports_feature(server.sockets_metadata, server.client_id, "supports_preview_metadata")


def offer_picture(path: str, draw: Callable[[str], bytes]) -> None:
    """Serve GET `path`?plan=... with the PNG that `draw` makes of the plan; status 400 where it refuses one."""
    server = running_server()
    if server is None:
        return
    from aiohttp import web

    async def picture(request: web.Request) -> web.Response:
        try:
            drawn = await asyncio.get_running_loop().run_in_executor(None, draw, request.query.get("plan", ""))
        except (ValueError, TypeError, RecursionError) as error:
            return web.Response(status=400, text=harmless(str(error)))
        return web.Response(body=drawn, content_type="image/png", headers={"Cache-Control": "max-age=600"})

    server.routes.get(path)(picture)
