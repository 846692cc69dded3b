"""The page of the jobs: how they stand, stop and resume, what came out."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ipfvr.app import components
from ipfvr.app.jobs import DONE, FAILED, RUNNING, STOPPED, STOPPING, WAITING, read, state_of
from ipfvr.app.names import without_folder
from ipfvr.app.person import read_report
from ipfvr.app.progress import read_notes
from ipfvr.app.server_state import ServerState, showing_errors
from ipfvr.core.errors import UserError

SLOTS = 8  # jobs that are shown: those at work, then the newest
_RANK = {RUNNING: 0, STOPPING: 0, WAITING: 1}
_TO_RESULT = "() => document.querySelector('#result')?.scrollIntoView({block: 'start'})"
_EVERY = 1.0  # seconds between two looks


@dataclass
class Slot:
    """The components of one job."""

    box: Any
    card: Any
    show: Any
    stop: Any
    resume: Any
    remove: Any
    name: Any

    @property
    def parts(self) -> list[Any]:
        """Return all components that an update changes."""
        return [self.box, self.card, self.show, self.stop, self.resume, self.remove, self.name]


def build_queue(gr: Any, app: ServerState) -> None:
    """Lay out the page and connect its events."""
    empty = gr.HTML(visible=False)
    slots = [_slot(gr, number) for number in range(SLOTS)]
    told = gr.HTML(elem_classes="ip-said", elem_id="jobs-said")
    with gr.Column(visible=False, elem_id="result") as result:
        title = gr.HTML()
        view = gr.HTML(elem_id="players")
        files = gr.File(label="Download", file_count="multiple", interactive=False, elem_id="files")
        with gr.Accordion("The command line that made it", open=False):
            command = gr.Textbox(lines=2, max_lines=8, interactive=False, show_label=False, buttons=["copy"])
    seen = gr.State("")

    def look(before: str) -> list[Any]:
        """Return the state of the jobs; nothing if nothing has changed since ``before``."""
        found = []
        for folder in reversed(app.jobs.all()):
            try:
                found.append((folder, read(folder), state_of(folder)))
            except (OSError, ValueError):  # it is being removed
                continue
        found.sort(key=lambda entry: _RANK.get(entry[2].name, 2))
        shown = [
            (
                folder.name,
                state.name,
                components.job_card(record, state, [without_folder(n, app.folder) for n in read_notes(folder / "log")]),
            )
            for folder, record, state in found[:SLOTS]
        ]
        now = json.dumps([shown, len(found)])
        if now == before:
            return [gr.skip()] * (2 + 7 * SLOTS)
        nothing = "<div class=ip-empty>No job yet. Drop a film under Restore, and start.</div>"
        updates: list[Any] = [now, gr.update(value=nothing, visible=not found)]
        for number in range(SLOTS):
            name, state, card = shown[number] if number < len(shown) else ("", "", "")
            updates += [
                gr.update(visible=bool(name)),
                card_without_folder(card, app),
                gr.update(visible=state == DONE),
                gr.update(visible=state in (RUNNING, STOPPING, WAITING), value="Kill" if state == STOPPING else "Stop"),
                gr.update(visible=state in (STOPPED, FAILED)),
                gr.update(visible=state in (DONE, STOPPED, FAILED)),
                name,
            ]
        return updates

    parts = [part for slot in slots for part in slot.parts]
    outputs = [seen, empty, *parts]
    tick = gr.Timer(_EVERY)
    quiet = {"show_progress": "hidden", "queue": False}
    tick.tick(look, [seen], outputs, **quiet)

    def show(name: str) -> dict[Any, Any]:
        folder = app.jobs.find(name)
        record = read(folder)
        output = Path(record.output)
        heading = f"<div class=ip-step><h2>{components.escape(record.title)}</h2></div>"
        if record.kind == "person":
            picture, sentence = read_report(output)
            shown = components.one_picture(picture, sentence) if picture else ""
            there = sorted(path for path in output.glob("*") if path.is_file())
        else:
            make = components.pictures if record.kind == "photo" else components.players
            shown = make(Path(record.source), output)
            there = [output, *(p for p in (output.with_suffix(".html"), output.with_suffix(".json")) if p.is_file())]
        return {
            result: gr.update(visible=True),
            title: heading,
            view: shown,
            files: [str(path) for path in there],
            command: record.command,
        }

    def remove(name: str) -> dict[Any, Any]:
        app.jobs.remove(name)
        return {result: gr.update(visible=False)}

    shows = [told, result, title, view, files, command]
    for slot in slots:
        slot.show.click(showing_errors(app, told, show), [slot.name], shows).then(None, js=_TO_RESULT)
        slot.remove.click(showing_errors(app, told, remove), [slot.name], [told, result])
        for button, act in ((slot.stop, app.jobs.stop), (slot.resume, app.jobs.resume)):
            button.click(showing_errors(app, told, _then_nothing(act)), [slot.name], [told]).then(
                look, [seen], outputs, **quiet
            )


def card_without_folder(card: str, app: ServerState) -> str:
    """Return a card without the app's own folders in its sentences."""
    return without_folder(card, app.folder) if str(app.folder) in card else card


def _then_nothing(act: Any) -> Any:
    def done(name: str) -> dict[Any, Any]:
        try:
            act(name)
        except ProcessLookupError:
            raise UserError("it has just ended") from None
        return {}

    return done


def _slot(gr: Any, number: int) -> Slot:
    with gr.Column(visible=False, elem_classes="ip-card", elem_id=f"job-{number + 1}") as box:
        card = gr.HTML()
        with gr.Row():
            show = gr.Button(
                "Show the result",
                size="sm",
                variant="primary",
                visible=False,
                elem_id=f"show-{number + 1}",
                min_width=100,
            )
            stop = gr.Button("Stop", size="sm", visible=False, elem_id=f"stop-{number + 1}", min_width=100)
            resume = gr.Button(
                "Resume", size="sm", variant="primary", visible=False, elem_id=f"resume-{number + 1}", min_width=100
            )
            remove = gr.Button(
                "Remove, with its files", size="sm", visible=False, elem_id=f"remove-{number + 1}", min_width=100
            )
        name = gr.State("")
    return Slot(box, card, show, stop, resume, remove, name)
