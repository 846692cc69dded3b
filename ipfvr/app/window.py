"""The window: its three pages."""

from __future__ import annotations

from typing import Any

from ipfvr.app.layout import build_page
from ipfvr.app.queue_page import build_queue
from ipfvr.app.restoring import connect
from ipfvr.app.server_state import ServerState
from ipfvr.app.training_page import build_training

TITLE = "ipfvr"
_TOP = (
    "<header class=ip-top><h1>ipfvr</h1><p>An old film and a sharp picture of the same person go in; a restored film "
    "that still looks like them comes out.</p></header>"
)
_FOOT = (
    "<p class=ip-foot>Restoring a face invents detail. Do not use a result as evidence of what somebody looked like, "
    "and ask the people shown.</p>"
)


def build_window(gr: Any, app: ServerState, defaults: dict[str, Any]) -> Any:
    """Build the app's Blocks.

    Args:
        gr: the package gradio.
        app: the server's.
        defaults: of the preset: ``steps``, ``crf``, ``learn``.
    """
    with gr.Blocks(title=TITLE, analytics_enabled=False) as window:
        gr.HTML(_TOP)
        with gr.Tabs(selected="restore", overflow_behavior="wrap") as tabs:
            with gr.Tab("Restore", id="restore"):
                page = build_page(gr, defaults, app.settings.limit)
            with gr.Tab("Jobs", id="jobs"):
                build_queue(gr, app)
            with gr.Tab("Train", id="train"):
                build_training(gr, app, tabs, lambda: "jobs")
        gr.HTML(_FOOT)
        again = connect(gr, page, app, tabs, lambda: "jobs")
        window.load(*again, show_progress="hidden").then(app.warm_up, None, None, show_progress="hidden")
    return window
