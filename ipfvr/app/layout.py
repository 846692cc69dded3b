"""The components of the restoration's page: what stands where, and what it is called."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ipfvr.app.components import step
from ipfvr.app.form import CARDS, COLOURS, DEINTERLACING, LOOK, NO_LORA
from ipfvr.film.job import SCALES


@dataclass
class Card:
    """The components of one person."""

    box: Any
    facts: Any
    restore: Any
    name: Any
    add: Any
    clear: Any
    lora: Any
    words: Any
    describe: Any
    said: Any


@dataclass
class Page:
    """The components of the restoration's page."""

    project: Any
    films: Any = None
    films_note: Any = None
    pictures: Any = None
    pictures_note: Any = None
    people: Any = None
    people_about: Any = None
    line: Any = None
    cards: list[Card] = field(default_factory=list)
    work: Any = None
    film: Any = None
    frame: Any = None
    preview: Any = None
    compare: Any = None
    whole: Any = None
    face: Any = None
    whose: Any = None
    preview_note: Any = None
    effect: Any = None
    effect_note: Any = None
    look: dict[str, Any] = field(default_factory=dict)
    start_box: Any = None
    command: Any = None
    start: Any = None
    start_note: Any = None

    @property
    def controls(self) -> list[Any]:
        """The controls that :func:`ipfvr.app.form.read_form` reads, in its order."""
        by_kind = [[getattr(card, kind) for card in self.cards] for kind in ("restore", "name", "lora", "words")]
        parts = [part for kind in by_kind for part in kind]
        return [self.project, self.film, self.frame, *parts, *(self.look[key] for key in LOOK)]


SOURCE, WITHOUT = "the film as it is", "restored without pictures, LoRA and words"


def build_page(gr: Any, defaults: dict[str, Any], limit: int) -> Page:
    """Lay out the page.

    Args:
        gr: the package gradio.
        defaults: of the preset: ``steps``, ``crf``, ``learn``.
        limit: MB of a file, to be told.
    """
    page = Page(project=gr.BrowserState("", storage_key="ipfvr-project"))
    gr.HTML(
        step(1, "Drop the film, and pictures of the people", f"Up to {limit} MB a file. Nothing leaves this machine.")
    )
    with gr.Row(equal_height=True):
        with gr.Column(min_width=300):
            page.films = gr.File(label="Film or photos to restore", file_count="multiple", height=150, elem_id="films")
            page.films_note = gr.HTML(elem_classes="ip-said", elem_id="films-said")
        with gr.Column(min_width=300):
            page.pictures = gr.File(
                label="Sharp pictures of the people (optional)", file_count="multiple", height=150, elem_id="pictures"
            )
            page.pictures_note = gr.HTML(elem_classes="ip-said", elem_id="pictures-said")
    with gr.Accordion("An old tape? How interlaced film is read", open=False):
        page.look["interlaced"] = gr.Dropdown(
            list(DEINTERLACING), value=next(iter(DEINTERLACING)), label="Deinterlacing", elem_id="interlaced"
        )
    with gr.Column(visible=False, elem_id="people") as page.people:
        gr.HTML(step(2, "Choose whom to restore", "Give each a name; pictures are told apart by the face they show."))
        page.people_about = gr.HTML(elem_classes="ip-said", elem_id="people-about")
        page.line = gr.HTML(elem_id="timeline")
        with gr.Column(elem_classes="ip-people"):
            page.cards = [_card(gr, number) for number in range(CARDS)]
        page.look["others"] = gr.Checkbox(False, label="Restore the faces of everybody else, too", elem_id="others")
    with gr.Column(visible=False, elem_id="work") as page.work:
        gr.HTML(step(3, "Look at a frame", "Move to any frame; a preview takes seconds. Drag over it to compare."))
        with gr.Row(elem_classes="ip-look"):
            with gr.Column(scale=1, min_width=270):
                _controls(gr, page, defaults)
            with gr.Column(scale=2, min_width=300):
                _stage(gr, page)
    with gr.Column(visible=False, elem_id="start-box") as page.start_box:
        gr.HTML(step(4, "Restore", "It goes on by itself when you close this window, and can be stopped and resumed."))
        with gr.Accordion("The same as a command line", open=False):
            page.command = gr.Textbox(
                lines=2, max_lines=8, interactive=False, show_label=False, buttons=["copy"], elem_id="command"
            )
        page.start = gr.Button("Start", variant="primary", size="lg", elem_id="start")
        page.start_note = gr.HTML(elem_classes="ip-said", elem_id="start-said")
    return page


def _card(gr: Any, number: int) -> Card:
    def name(part: str) -> str:
        return f"{part}-{number + 1}"

    with gr.Column(visible=False, elem_classes="ip-person", elem_id=name("person")) as box:
        facts = gr.HTML()
        restore = gr.Checkbox(True, label="Restore this person", elem_id=name("restore"))
        called = gr.Textbox(f"person {number + 1}", label="Name", max_lines=1, elem_id=name("name"))
        with gr.Row():
            add = gr.UploadButton("Add a picture", size="sm", elem_id=name("add"), min_width=110)
            clear = gr.Button("Remove pictures", size="sm", elem_id=name("clear"), min_width=110)
        with gr.Accordion("Words and LoRA", open=False):
            lora = gr.Dropdown([NO_LORA], value=NO_LORA, label="Trained LoRA", elem_id=name("lora"))
            words = gr.Textbox(
                "",
                label="Words of the person",
                lines=4,
                max_lines=14,
                elem_id=name("words"),
                placeholder="Empty: read off the pictures by itself. Read them here to edit them.",
            )
            describe = gr.Button("Read the words off the pictures", size="sm", elem_id=name("describe"))
        said = gr.HTML(elem_classes="ip-said", elem_id=name("person-said"))
    return Card(box, facts, restore, called, add, clear, lora, words, describe, said)


def _controls(gr: Any, page: Page, defaults: dict[str, Any]) -> None:
    look = page.look
    look["strength"] = gr.Slider(
        0,
        1,
        1,
        step=0.05,
        label="Strength",
        info="How much of the change is put on; 0: as it is",
        elem_id="strength",
    )
    look["scale"] = gr.Radio([(f"{s}x", s) for s in SCALES], value=1, label="Enlarge the frame", elem_id="scale")
    look["learn"] = gr.Checkbox(
        defaults["learn"],
        label="Learn each face from its pictures first",
        info="--learn: a minute a person; much more like them",
        elem_id="learn",
    )
    look["face_only"] = gr.Checkbox(False, label="Write the main face alone, as a square", elem_id="face-only")
    with gr.Accordion("More", open=False):
        look["steps"] = gr.Slider(
            1,
            30,
            defaults["steps"],
            step=1,
            label="Steps",
            info="More take longer; the preset is made for its own",
            elem_id="steps",
        )
        look["chroma"] = gr.Dropdown(list(COLOURS), value=next(iter(COLOURS)), label="Colour", elem_id="chroma")
        look["crf"] = gr.Slider(
            10,
            30,
            defaults["crf"],
            step=1,
            label="Compression",
            info="Lower: a larger file, closer to what was restored",
            elem_id="crf",
        )
        look["likeness"] = gr.Slider(
            0,
            1,
            0.9,
            step=0.005,
            label="Likeness from which a face is the person's",
            info="people.same; lower it where somebody is missed",
            elem_id="likeness",
        )
        look["seed"] = gr.Number(0, precision=0, label="Seed", elem_id="seed")
        with gr.Row():
            look["first"] = gr.Number(0, precision=0, minimum=0, label="From frame", min_width=90, elem_id="first")
            look["last"] = gr.Number(0, precision=0, minimum=0, label="To frame", min_width=90, elem_id="last")


def _stage(gr: Any, page: Page) -> None:
    page.film = gr.Dropdown([("film", 0)], value=0, label="Film", visible=False, elem_id="film")
    page.frame = gr.Slider(0, 1, 0, step=1, label="Frame", elem_id="frame")
    page.compare = gr.Radio([SOURCE, WITHOUT], value=SOURCE, label="Compare with", elem_id="compare")
    page.preview = gr.Button("Preview this frame", variant="secondary", elem_id="preview")
    page.whole = gr.HTML(elem_id="whole")
    page.whose = gr.Radio([], label="Face of", visible=False, elem_id="whose")
    page.face = gr.HTML(visible=False, elem_id="face")
    page.preview_note = gr.HTML(elem_classes="ip-said", elem_id="preview-said")
    page.effect = gr.Button("What do the pictures change?", size="sm", elem_id="effect")
    page.effect_note = gr.HTML(elem_classes="ip-said", elem_id="effect-said")
