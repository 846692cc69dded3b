"""The server: the window at an address, and nothing that leaves the machine."""

from __future__ import annotations

import inspect
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

from ipfvr.app.server_state import ServerState, Settings
from ipfvr.core.errors import UserError
from ipfvr.core.startup import importing

PARTS = Path(__file__).parent / "parts"
# The browser refuses whatever the page would fetch from elsewhere.
POLICY = (
    "default-src 'self' data: blob:; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; "
    "style-src 'self' 'unsafe-inline'; base-uri 'self'; form-action 'self'; object-src 'none'"
)


class Policy:
    """Middleware that gives every answer the content security policy."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Pass a request on."""

        async def sending(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"content-security-policy", POLICY.encode())]
            await send(message)

        await self.app(scope, receive, sending if scope["type"] == "http" else send)


def serve(settings: Settings, host: str, port: int, share: bool, browse: bool) -> None:
    """Open the window and serve it until Ctrl-C.

    Args:
        settings: how the app was started.
        host, port: where it listens.
        share: make a public address, which goes through a server of Gradio's.
        browse: open a browser.

    Raises:
        UserError: Gradio is not there, the folder cannot be written, the port is taken, an option is unknown.
    """
    from ipfvr.core.config import load_config
    from ipfvr.core.files import check_writable

    config = load_config(None, list(settings.base))
    check_writable(settings.folder / "jobs" / "job.json")
    app = ServerState(settings)
    app.tidy()
    # Gradio reads these once, when it is imported.
    os.environ |= {
        "GRADIO_ANALYTICS_ENABLED": "False",
        "GRADIO_TEMP_DIR": str(app.uploads),
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }
    gr = import_gradio()
    from starlette.middleware import Middleware

    from ipfvr.app.window import build_window

    gr.set_static_paths([app.folder / "jobs", app.folder / "projects"])
    defaults = {"steps": config.sampler.steps, "crf": config.video.crf, "learn": config.learn.always}
    window = build_window(gr, app, defaults)
    try:
        window.launch(
            server_name=host,
            server_port=port,
            share=share,
            inbrowser=browse,
            quiet=True,
            prevent_thread_lock=True,
            show_error=True,
            max_file_size=f"{settings.limit}mb",
            footer_links=[],
            run_history=False,
            ssr_mode=False,
            pwa=False,
            mcp_server=False,
            enable_monitoring=False,
            theme=_theme(gr),
            css=(PARTS / "style.css").read_text(),
            head=_head(),
            app_kwargs={"middleware": [Middleware(Policy)], "docs_url": None, "redoc_url": None},
        )
    except OSError as error:
        raise UserError(f"{host}:{port} cannot be listened at ({error}); choose another --port") from None
    ended = heed_signals()
    app.start_queue()
    print(f"{window.local_url}  the window; its files lie in {settings.folder}; Ctrl-C ends it, a running job goes on")
    if share:
        print(f"{window.share_url}  for everybody who has this address, through a server of Gradio's")
    while not ended.is_set():
        time.sleep(0.2)
    app.close()
    window.close(verbose=False)


def import_gradio() -> Any:
    """Import gradio without the type stubs that it writes beside its own sources, which take half of its import.

    Raises:
        UserError: it is not there.
    """
    real = inspect.getfile

    def file_of(thing: Any) -> str:
        if sys._getframe(1).f_globals.get("__name__") == "gradio.component_meta":
            raise OSError("no stubs")  # which Gradio takes for a component without a file
        return real(thing)

    inspect.getfile = file_of
    try:
        with importing():
            import gradio
    except ModuleNotFoundError:
        raise UserError("the window needs gradio: pip install 'ipfvr[app]'") from None
    finally:
        inspect.getfile = real
    return gradio


def _theme(gr: Any) -> Any:
    """Return a theme with the system's own fonts, so that none is fetched."""
    return gr.themes.Default(
        primary_hue="blue",
        neutral_hue="slate",
        font=["system-ui", "sans-serif"],
        font_mono=["ui-monospace", "monospace"],
        radius_size="lg",
    )


def _head() -> str:
    """Return the scripts of the players and comparisons, and the style inside the comparisons' boxes."""
    from ipfvr.report.html import style_and_script  # it reads OpenCV

    style, script = style_and_script()
    watch = "new MutationObserver(attachSliders).observe(document, {childList: true, subtree: true});"
    alive = f"const attachSliders = () => {{ {script} }}; {watch}"
    own = "".join((PARTS / f"{name}.js").read_text() for name in ("synchronise", "timeline"))
    return f"<style>.ip-compare {{ {style} }}</style><script>{own}{alive}</script>"


def heed_signals() -> threading.Event:
    """Return an event that Ctrl-C and SIGTERM set from now on.

    A server in the background (``nohup ... &``) ignores Ctrl-C, and the jobs that it starts would do as it does: none
    could be stopped. A program that a process starts heeds every signal for which that process has a handler.
    """
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    return ended
