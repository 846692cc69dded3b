"""What the restoration's page does: from the controls' values to what is shown."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ipfvr.app import components
from ipfvr.app.form import CARDS, DEINTERLACING, NO_LORA, Form, read_cards, read_form, words_file
from ipfvr.app.jobs import Record
from ipfvr.app.layout import WITHOUT, Page
from ipfvr.app.names import person_name, without_folder
from ipfvr.app.person import trained_loras
from ipfvr.app.server_state import ServerState, paths_of
from ipfvr.core.errors import UserError

if TYPE_CHECKING:
    from ipfvr.app.project import Project


class Actions:
    """The functions that the page's events call; each returns the components that change."""

    def __init__(self, gr: Any, page: Page, app: ServerState, tabs: Any, after: Callable[[], str]) -> None:
        self.gr, self.page, self.app, self.tabs, self.after = gr, page, app, tabs, after

    def find(self, films: Any, pictures: Any, interlaced: str, progress: Any) -> dict[Any, Any]:
        """Take the files that were dropped, and find the people in them."""
        if not films:
            return self.forget()
        progress(0, desc="getting ready")
        # Imported here, as below: the page opens without the seconds that this takes.
        from ipfvr.app.project import open_project
        from ipfvr.core.config import load_config

        page, app = self.page, self.app
        name, folder = app.new_project()
        try:
            config = load_config(None, [*app.settings.base, f"video.interlaced={DEINTERLACING[interlaced]}"])
            project = open_project(
                folder,
                paths_of(films),
                config,
                app.face_models(),
                app.settings.limit,
                lambda share, what: progress(share, desc=what),
            )
        except UserError as error:
            return {
                **self.forget(),
                page.films_note: components.notes_html([without_folder(error, app.folder)], error=True),
            }
        app.projects[name] = project
        updates = self.show(name, project)
        notes = [without_folder(note, app.folder) for film in project.films for note in film.reader.notes]
        updates[page.films_note] = components.notes_html([self._summary(project), *notes])
        return updates | (self._given(project, pictures) if pictures else {page.pictures_note: ""})

    def forget(self) -> dict[Any, Any]:
        """Empty the page."""
        page, hidden = self.page, self.gr.update(visible=False)
        quiet = [
            page.films_note,
            page.pictures_note,
            page.preview_note,
            page.effect_note,
            page.start_note,
        ]
        return {
            page.project: "",
            **dict.fromkeys(quiet, ""),
            **dict.fromkeys([page.people, page.work, page.start_box], hidden),
        }

    def again(self, name: str) -> dict[Any, Any]:
        """Show the project of a window that was opened again."""
        if name not in self.app.projects:
            return {self.page.project: ""}
        project = self.app.projects[name]
        return {
            **self.show(name, project),
            self.page.films_note: components.notes_html([self._summary(project)]),
        }

    def show(self, name: str, project: Project) -> dict[Any, Any]:
        """Show a project in the page."""
        from ipfvr.app.project import CardValues

        gr, page = self.gr, self.page
        frames = project.films[0].reader.info.frames
        photo = all(film.is_photo for film in project.films)
        frame = project.busiest(0)
        fresh = [CardValues(True, f"person {n + 1}", NO_LORA, "") for n in range(CARDS)]
        cards, loras = project.cards or fresh, self._loras()
        several = len(project.films) > 1
        updates = {
            page.project: name,
            page.people: gr.update(visible=True),
            page.people_about: self._about(project),
            page.line: components.timeline(project, 0, [c.name for c in cards], [c.restore for c in cards], frame),
            page.work: gr.update(visible=True),
            page.start_box: gr.update(visible=True),
            page.film: gr.update(
                choices=[(film.path.name, n) for n, film in enumerate(project.films)],
                value=0,
                visible=several,
            ),
            page.frame: gr.update(maximum=max(1, frames - 1), value=frame, visible=not photo),
            **self._unrestored(project, 0, frame),
            page.effect_note: "",
            page.start_note: "",
            page.look["likeness"]: project.bound,
            page.look["others"]: gr.update(value=False),
            page.look["first"]: gr.update(value=0, visible=not (photo or several)),
            page.look["last"]: gr.update(value=frames - 1, visible=not (photo or several)),
        }
        for n, card in enumerate(page.cards):
            there = n < len(project.people)
            updates |= {
                card.box: gr.update(visible=there),
                card.facts: components.person_card(project, project.people[n]) if there else "",
                card.restore: cards[n].restore,
                card.name: cards[n].name,
                card.words: cards[n].words,
                card.said: "",
                card.lora: gr.update(choices=loras, value=cards[n].lora if cards[n].lora in loras else NO_LORA),
            }
        return updates

    def give(self, name: str, pictures: Any) -> dict[Any, Any]:
        """Give each dropped picture to the people whom it shows."""
        if name not in self.app.projects:
            kept = ["kept until the film is there"] if pictures else []
            return {self.page.pictures_note: components.notes_html(kept)}
        return self._given(self.app.project(name), pictures)

    def add(self, number: int, name: str, picture: Any) -> dict[Any, Any]:
        """Add a picture to one person."""
        from ipfvr.app.project import add_picture_of

        project = self.app.project(name)
        for path in paths_of(picture):
            add_picture_of(project, number, path, self.app.face_models(), self.app.settings.limit)
        return {self.page.cards[number].facts: components.person_card(project, project.people[number])}

    def clear(self, number: int, name: str) -> dict[Any, Any]:
        """Remove one person's pictures."""
        project = self.app.project(name)
        project.people[number].pictures.clear()
        return {self.page.cards[number].facts: components.person_card(project, project.people[number])}

    def describe(self, number: int, name: str) -> dict[Any, Any]:
        """Describe one person from the pictures, as a text that the user can edit."""
        from ipfvr.conditioning.pictures import describe_pictures
        from ipfvr.core.config import load_config

        project = self.app.project(name)
        seen = project.people[number]
        output = project.folder / f"words_{number + 1}.yaml"
        output.unlink(missing_ok=True)
        describe_pictures(seen.pictures or [seen.still], load_config(None, list(self.app.settings.base)), 0, output)
        return {self.page.cards[number].words: output.read_text()}

    def check(self, number: int, name: str, called: str, words: str) -> dict[Any, Any]:
        """Check that one person's name and words can be used."""
        if name in self.app.projects:
            person_name(called)
            words_file(self.app.project(name).folder, number, words)
        return {}

    def loras(self) -> Any:
        """Return the LoRAs that exist now."""
        return self.gr.update(choices=self._loras())

    def line(self, *values: Any) -> str:
        """Draw the timeline."""
        self._remember(values)
        try:
            return self._line(read_form(self.app, values))
        except UserError:
            return ""

    def other_film(self, name: str, number: int) -> dict[Any, Any]:
        """Show another film of the project."""
        gr, page = self.gr, self.page
        if name not in self.app.projects:
            return {page.frame: gr.skip()}
        project = self.app.projects[name]
        film, frame = project.films[int(number)], project.busiest(int(number))
        frames = film.reader.info.frames
        return {
            page.frame: gr.update(maximum=max(1, frames - 1), value=frame, visible=not film.is_photo),
            page.look["last"]: frames - 1,
            **self._unrestored(project, int(number), frame),
        }

    def preview(self, compare: str, whose: str | None, *values: Any) -> dict[Any, Any]:
        """Restore the shown frame."""
        gr, page = self.gr, self.page
        form, job, config = self._job(values)
        result = self.app.previewer().frame(form.film, job, config, form.frame, compare == WITHOUT)
        names = {
            id(t): c.name for seen, c in zip(form.project.people, form.chosen, strict=True) for _, t in seen.tracks
        }
        faces = {names.get(id(track), f"face {n}"): pair for n, (track, *pair) in enumerate(result.faces, 1)}
        chosen = whose if whose in faces else next(iter(faces), "")
        kind = "restored without them" if compare == WITHOUT else "before"
        said = f"{chosen[:1].upper()}{chosen[1:]}: {kind}, restored"
        close = components.compare(1, said, *faces[chosen]) if chosen else ""
        notes = list(dict.fromkeys(without_folder(note, self.app.folder) for note in result.notes))
        return {
            page.preview_note: components.notes_html(notes),
            page.whole: components.compare(0, f"The frame: {kind}, restored", result.before, result.after),
            page.face: gr.update(value=close, visible=bool(chosen)),
            page.whose: gr.update(choices=list(faces), value=chosen or None, visible=len(faces) > 1),
            page.line: self._line(form),
        }

    def effect(self, *values: Any) -> dict[Any, Any]:
        """Measure what the pictures change."""
        form, job, config = self._job(values)
        lines = self.app.previewer().reference_changes(form.film, job, config)
        return {self.page.effect_note: components.notes_html(lines)}

    def command(self, *values: Any) -> str:
        """Return the command line of the choices, or the sentence that says why there is none."""
        from ipfvr.film.command import command_of

        self._remember(values)
        try:
            _, job, config = self._job(values)
            return command_of(job, config)
        except UserError as error:
            return f"# {without_folder(error, self.app.folder)}"

    def start(self, *values: Any) -> dict[Any, Any]:
        """Put one job for each film into the queue."""
        from ipfvr.film.check import check_job
        from ipfvr.film.command import command_of

        form = read_form(self.app, values)
        made, refused = [], []
        for number, film in enumerate(form.project.films):
            try:
                job, config = self._job_of(form, number)
                check_job(job, film.reader)
                made.append((film, job, config))
            except UserError as error:
                refused.append(error)
        if not made:
            raise refused[-1]
        for film, job, config in made:
            folder = self.app.jobs.new_folder()
            job = replace(job, output=folder / job.output.name)
            kind = "photo" if film.is_photo else "film"
            self.app.jobs.add(
                folder, Record(film.path.name, kind, command_of(job, config), str(film.path), str(job.output))
            )
        return {self.tabs: self.gr.update(selected=self.after())}

    def _remember(self, values: Any) -> None:
        """Keep the cards of a change for a window that is opened again."""
        if values[0] in self.app.projects:
            self.app.projects[values[0]].cards = read_cards(values)

    def _job(self, values: Any) -> tuple[Form, Any, Any]:
        """Return the form, and the job and configuration of the shown film."""
        form = read_form(self.app, values)
        return form, *self._job_of(form, form.number)

    def _job_of(self, form: Form, number: int) -> tuple[Any, Any]:
        from ipfvr.app.choices import make_job, output_name

        output = Path(output_name(form.project.films[number]))
        return make_job(form.project, number, form.chosen, form.look, output, self.app.settings.base)

    def _line(self, form: Form) -> str:
        names, chosen = [c.name for c in form.chosen], [c.restore for c in form.chosen]
        return components.timeline(form.project, form.number, names, chosen, form.frame)

    def _given(self, project: Project, pictures: Any) -> dict[Any, Any]:
        """Give the dropped pictures, and no earlier ones, to the people whom they show."""
        from ipfvr.app.project import OWN, add_pictures

        for seen in project.people:
            seen.pictures = [path for path in seen.pictures if path.parent.name == OWN]
        given, refused = add_pictures(project, paths_of(pictures), self.app.face_models(), self.app.settings.limit)
        told = components.notes_html(given) + components.notes_html(
            [without_folder(line, self.app.folder) for line in refused], error=True
        )
        return {self.page.pictures_note: told, **self._facts(project)}

    def _unrestored(self, project: Project, number: int, frame: int) -> dict[Any, Any]:
        """Show a frame as it is in the film, on both sides of the slider."""
        image = project.films[number].image(frame)
        return {
            self.page.whole: components.unrestored(image),
            self.page.face: self.gr.update(value="", visible=False),
            self.page.whose: self.gr.update(visible=False),
            self.page.preview_note: "",
        }

    def _facts(self, project: Project) -> dict[Any, Any]:
        return {
            card.facts: components.person_card(project, seen)
            for card, seen in zip(self.page.cards, project.people, strict=False)
        }

    def _loras(self) -> list[str]:
        return [NO_LORA, *trained_loras(self.app.jobs, self.app.settings.loras)]

    def _summary(self, project: Project) -> str:
        films = []
        for film in project.films:
            info = film.reader.info
            long = "" if film.is_photo else f", {info.frames} frames, {info.frames / float(info.rate):.1f} s"
            sound = ", with sound" if info.has_audio else ""
            films.append(f"{film.path.name}: {info.width} x {info.height}{long}{sound}")
        return "; ".join(films)

    def _about(self, project: Project) -> str:
        if not project.people:
            return components.notes_html(["No face was found: there is nothing to restore."], error=True)
        if project.more:
            return components.notes_html(
                [f"{project.more} more people are seen more seldom; the {CARDS} most frequent can be named."]
            )
        return ""
