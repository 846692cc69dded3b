"""The events of the restoration's page: which control does what, and what changes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from ipfvr.app.actions import Actions
from ipfvr.app.layout import Page
from ipfvr.app.server_state import ServerState, showing_errors

_NETWORKS = 2  # scans and previews at one time; a preview waits for the one before it


def connect(gr: Any, page: Page, app: ServerState, tabs: Any, after: Callable[[], str]) -> None:
    """Connect the page's events.

    Args:
        gr: the package gradio.
        page: its components.
        app: the server's.
        tabs: of the window.
        after: gives the tab to go to when a job was added.
    """
    do = Actions(gr, page, app, tabs, after)
    people = [
        part for card in page.cards for part in (card.box, card.facts, card.restore, card.name, card.words, card.said)
    ]
    shown = [page.project, page.people, page.people_about, page.line, *people, page.work, page.film, page.frame]
    shown += [page.whole, page.face, page.whose, page.start_box, page.look["likeness"], page.look["last"]]
    shown += [page.look["first"], page.look["others"]]
    shown += [card.lora for card in page.cards]
    found = [
        page.films_note,
        page.pictures_note,
        page.preview_note,
        page.effect_note,
        page.start_note,
        *shown,
    ]

    def look(films: Any, pictures: Any, interlaced: str, progress: Any = gr.Progress()) -> dict[Any, Any]:
        return do.find(films, pictures, interlaced, progress)

    find = partial(
        gr.on,
        fn=look,
        inputs=[page.films, page.pictures, page.look["interlaced"]],
        outputs=found,
        concurrency_limit=_NETWORKS,
        show_progress_on=[page.films],
        trigger_mode="always_last",
    )
    tell = {"fn": do.command, "inputs": page.controls, "outputs": [page.command], "show_progress": "hidden"}
    find(triggers=[page.films.upload, page.films.delete]).then(**tell)
    find(triggers=[page.look["interlaced"].input]).then(**tell)
    page.films.clear(do.forget, None, found)
    facts = [card.facts for card in page.cards]
    gr.on(
        [page.pictures.upload, page.pictures.delete, page.pictures.clear],
        showing_errors(app, page.pictures_note, do.give),
        [page.project, page.pictures],
        [page.pictures_note, *facts],
        show_progress_on=[page.pictures],
        trigger_mode="always_last",
    ).then(**tell)
    for number, card in enumerate(page.cards):
        card.add.upload(
            showing_errors(app, card.said, partial(do.add, number)),
            [page.project, card.add],
            [card.said, card.facts],
        ).then(**tell)
        card.clear.click(
            showing_errors(app, card.said, partial(do.clear, number)), [page.project], [card.said, card.facts]
        ).then(**tell)
        card.describe.click(
            showing_errors(app, card.said, partial(do.describe, number)), [page.project], [card.said, card.words]
        )
        gr.on(
            [card.name.blur, card.words.blur],
            showing_errors(app, card.said, partial(do.check, number)),
            [page.project, card.name, card.words],
            [card.said],
            show_progress="hidden",
            trigger_mode="always_last",
        )
        card.lora.focus(do.loras, None, [card.lora], show_progress="hidden")
    moved = [
        page.frame.release,
        page.film.input,
        *(c.restore.input for c in page.cards),
        *(c.name.change for c in page.cards),
    ]
    gr.on(moved, do.line, page.controls, [page.line], show_progress="hidden", trigger_mode="always_last")
    page.film.input(
        do.other_film,
        [page.project, page.film],
        [page.frame, page.whole, page.face, page.whose, page.preview_note, page.look["last"]],
    )
    preview = [page.preview_note, page.whole, page.face, page.whose, page.line]
    gr.on(
        [page.preview.click, page.frame.release, page.compare.input, page.whose.input],
        showing_errors(app, page.preview_note, do.preview),
        [page.compare, page.whose, *page.controls],
        preview,
        concurrency_limit=_NETWORKS,
        show_progress_on=[page.whole],
        trigger_mode="always_last",
    )
    page.effect.click(
        showing_errors(app, page.effect_note, do.effect),
        page.controls,
        [page.effect_note],
        concurrency_limit=_NETWORKS,
    )
    changes = [control.change for control in page.controls[2:] if control is not page.frame]
    gr.on(changes, **tell, trigger_mode="always_last")
    page.start.click(showing_errors(app, page.start_note, do.start), page.controls, [page.start_note, tabs])
    return do.again, [page.project], found  # for the window's load
