"""What the server holds for all windows: its folder, the queue, everybody's projects, the networks."""

from __future__ import annotations

import logging
import secrets
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ipfvr.app.components import notes_html
from ipfvr.app.jobs import Jobs
from ipfvr.app.names import without_folder
from ipfvr.core.errors import UserError

if TYPE_CHECKING:
    from ipfvr.app.preview import Previewer
    from ipfvr.app.project import FaceModels, Project

log = logging.getLogger(__name__)

_TICK = 0.5  # seconds between two looks at the queue
_OLD = 86_400  # seconds after which a project that no job needs is removed


@dataclass(frozen=True)
class Settings:
    """The options with which the app was started.

    Attributes:
        folder: where everything lies.
        loras: folders of LoRAs that were trained elsewhere, ``<person>/weights`` in each.
        limit: MB of a file that is dropped.
        base: ``key=value`` pairs of the configuration.
    """

    folder: Path
    loras: tuple[Path, ...] = ()
    limit: int = 4000
    base: tuple[str, ...] = ()


class ServerState:
    """The state that all windows share: folder, queue, projects and networks."""

    def __init__(self, settings: Settings) -> None:
        self.settings, self.folder = settings, settings.folder.resolve()
        self.jobs = Jobs(self.folder / "jobs")
        self.projects: dict[str, Project] = {}
        self._loading = threading.Lock()
        self._face_models: FaceModels | None = None
        self._previewer: Previewer | None = None
        self._ended = threading.Event()

    def start_queue(self) -> None:
        """Start waiting jobs, those of an earlier server too, one after the other from now on."""
        threading.Thread(target=self._work, daemon=True).start()

    def close(self) -> None:
        """Start no more jobs; the running one goes on."""
        self._ended.set()

    def new_project(self) -> tuple[str, Path]:
        """Return a name that nobody guesses, and the folder for it."""
        name = secrets.token_urlsafe(12)
        return name, self.folder / "projects" / name

    def project(self, name: str) -> Project:
        """Return the project of a window.

        Raises:
            UserError: it is none of this server's.
        """
        if name not in self.projects:
            raise UserError("drop a film or photo first")
        return self.projects[name]

    def face_models(self) -> FaceModels:
        """Return the networks that find faces, loaded once."""
        with self._loading:
            if self._face_models is None:
                from ipfvr.app.project import FaceModels
                from ipfvr.core.config import load_config

                self._face_models = FaceModels(load_config(None, list(self.settings.base)))
            return self._face_models

    def previewer(self) -> Previewer:
        """Return the object that restores single frames, made once."""
        with self._loading:
            if self._previewer is None:
                from ipfvr.core.startup import importing

                with importing():
                    from ipfvr.app.preview import Previewer
                self._previewer = Previewer()
            return self._previewer

    def warm_up(self) -> None:
        """Load what the first film and the first preview will need, in the background."""

        def read() -> None:
            try:
                self.face_models()
                self.previewer()
            except UserError:
                pass  # whoever drops a film is told

        threading.Thread(target=read, daemon=True).start()

    def tidy(self) -> None:
        """Remove projects of earlier days that no job needs."""
        needed = "".join((folder / "job.json").read_text() for folder in self.jobs.all())
        for path in (self.folder / "projects").glob("*"):
            if path.name not in needed and time.time() - path.stat().st_mtime > _OLD:
                shutil.rmtree(path, ignore_errors=True)
        shutil.rmtree(self.uploads, ignore_errors=True)

    @property
    def uploads(self) -> Path:
        """The folder in which the server puts dropped files before they are taken."""
        return self.folder / "uploads"

    def _work(self) -> None:
        while not self._ended.wait(_TICK):
            try:
                self.jobs.start_next()
            except (OSError, ValueError) as error:  # a job's folder was removed by hand, or the disk is full
                log.warning("note: the queue could not go on: %s", error)
                self._ended.wait(10)


def showing_errors(app: ServerState, place: Any, act: Callable[..., dict[Any, Any]]) -> Callable[..., dict[Any, Any]]:
    """Wrap ``act``: the component ``place`` shows an error that the user can correct, as the command line words it."""

    @wraps(act)
    def told(*values: Any) -> dict[Any, Any]:
        try:
            return {place: "", **act(*values)}
        except UserError as error:
            return {place: notes_html([without_folder(error, app.folder)], error=True)}

    return told


def paths_of(files: Sequence[str] | str | None) -> list[Path]:
    """Return the files of a file component."""
    return [Path(file) for file in ([files] if isinstance(files, str) else files or [])]
