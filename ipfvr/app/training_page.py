"""The page that trains a person's LoRA from clips."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ipfvr.app import components
from ipfvr.app.person import add_training
from ipfvr.app.server_state import ServerState, paths_of, showing_errors


def build_training(gr: Any, app: ServerState, tabs: Any, after: Callable[[], str]) -> None:
    """Lay out the page and connect its events.

    Args:
        gr: the package gradio.
        app: the server's.
        tabs: of the window.
        after: gives the tab to go to when a job was added.
    """
    about = (
        "One to four sharp scenes of ten seconds and more, in different light, the face at least 128 pixels wide, and "
        "pictures of the person. It takes minutes; then choose the LoRA on the person's card. With pictures alone, "
        "tick 'Learn each face from its pictures first' under Restore instead."
    )
    gr.HTML(f"<div class=ip-step><h2>Train a person</h2><p class=flat>{about}</p></div>")
    name = gr.Textbox(label="Name", max_lines=1, elem_id="train-name")
    with gr.Row():
        pictures = gr.File(label="Pictures of the person", file_count="multiple", height=150, elem_id="train-pictures")
        clips = gr.File(label="Sharp clips of the person", file_count="multiple", height=150, elem_id="train-clips")
    steps = gr.Slider(10, 400, 100, step=10, label="Steps", info="The paper's number is 100", elem_id="train-steps")
    train = gr.Button("Train", variant="primary", size="lg", elem_id="train")
    said = gr.HTML(elem_classes="ip-said", elem_id="train-said")

    def start(called: str, shown: Any, scenes: Any, count: float) -> dict[Any, Any]:
        settings = app.settings
        add_training(app.jobs, called, paths_of(shown), paths_of(scenes), int(count), settings.limit, settings.base)
        return {said: components.notes_html(["It is in the queue."]), tabs: gr.update(selected=after())}

    train.click(showing_errors(app, said, start), [name, pictures, clips, steps], [said, tabs])
