"""Parts of the page as HTML: the timeline, a person's card, a job's card, messages."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from ipfvr.app.jobs import DONE, FAILED, RUNNING, STOPPED, STOPPING, WAITING, Record, State

if TYPE_CHECKING:  # the page opens without the seconds that these take
    import numpy as np

    from ipfvr.app.project import Film, FoundPerson, Project

COLOURS = ("#2563eb", "#d97706", "#059669", "#c026d3", "#dc2626", "#0891b2")
_SIDE = 88  # of a reference on a card, pixels; shown at half of it
_SURE, _FAIRLY = 0.03, 0.01  # above the bound: how alike a person's faces must be


def step(number: int, title: str, about: str) -> str:
    """Return the heading of a step."""
    return f"<div class=ip-step><h2><b aria-hidden=true>{number}</b>{escape(title)}</h2><p>{escape(about)}</p></div>"


def notes_html(lines: Sequence[str], error: bool = False) -> str:
    """Return sentences beside their cause; errors are announced to screen readers."""
    role, kind = ("alert", "error") if error else ("status", "")
    return "".join(f'<p role={role} class="{kind}">{escape(line)}</p>' for line in lines)


def timeline(project: Project, number: int, names: Sequence[str], chosen: Sequence[bool], frame: int) -> str:
    """Draw where each person is seen in a film.

    Args:
        project: what was dropped.
        number: of the film.
        names: of the project's people.
        chosen: whether each is restored; others are pale.
        frame: where the needle stands.
    """
    film = project.films[number]
    total = film.reader.info.frames
    if film.is_photo:
        return ""

    def share(index: float) -> str:
        return f"{100 * index / total:.2f}%"

    cuts = "".join(f'<u style="left:{share(cut)}"></u>' for cut in film.scan.cuts)
    needle = f'<em style="left:{share(frame + 0.5)}"></em>'
    rows = []
    for n, (seen, name) in enumerate(zip(project.people, names, strict=False)):
        own = [track for film_number, track in seen.tracks if film_number == number]
        if not own:
            continue
        bars = "".join(
            f'<i class="{"" if chosen[n] else "off"}" style="left:{share(t.start)};width:{share(len(t.landmarks))};'
            f'background:{COLOURS[n % len(COLOURS)]}"></i>'
            for t in own
        )
        where = ", ".join(f"{_clock(film, t.start)} to {_clock(film, t.stop)}" for t in own[:8])
        label = f"{name} is seen from {where}{' and more' if len(own) > 8 else ''}"
        rows.append(
            f'<div class=row><span class=who title="{escape(name)}">{escape(name)}</span>'
            f'<div class=bar role=img aria-label="{escape(label)}" title="{escape(label)}">'
            f"{bars}{cuts}{needle}</div></div>"
        )
    foot = f"<div class=foot><span>0:00</span><span>{_cuts(film)}</span><span>{_clock(film, total)}</span></div>"
    return f"<div class=ip-line>{''.join(rows)}{foot}</div>"


def person_card(project: Project, seen: FoundPerson) -> str:
    """Show a person's face, how often and how surely the person is seen, and the pictures."""
    frames = sum(len(track.landmarks) for _, track in seen.tracks)
    photos = all(film.is_photo for film in project.films)
    stretches = f"in {len(seen.tracks)} stretch{'es' * (len(seen.tracks) != 1)}"
    often = f"Seen in {frames} {'photo' if photos else 'frame'}{'s' * (frames != 1)}" + (
        "" if photos else f", {stretches}"
    )
    above = seen.sure - project.bound
    sure = (
        "surely one person"
        if above >= _SURE
        else "probably one person"
        if above >= _FAIRLY
        else "perhaps several people"
    )
    if frames == 1 or (len(seen.tracks) == 1 and above >= 0):
        sure = "surely one person"
    words = f"{sure}: the faces' likeness is {seen.sure:.2f}, one person's is above {project.bound:g}"
    pictures = "".join(_thumb(path) for path in seen.pictures)
    count = len(seen.pictures)
    have = f"{count} picture{'s' * (count != 1)} of this person" if count else "No picture yet"
    return (
        f'<div class=ip-face><img alt="face" src="{_uri(seen.thumbnail)}"><div><p>{often}</p>'
        f"<p class=quiet>{escape(words[0].upper() + words[1:])}</p>"
        f"<p class=quiet>{have}</p><div class=ip-refs>{pictures}</div></div></div>"
    )


def unrestored(image: np.ndarray) -> str:
    """Show a frame (H, W, 3) uint8 RGB that is not restored yet."""
    shown = f'<img alt="the frame as it is" src="{_uri(image)}">'
    return f"<div class=ip-compare><figure><figcaption>As it is</figcaption>{shown}</figure></div>"


def compare(number: int, caption: str, before: np.ndarray, after: np.ndarray) -> str:
    """Show two pictures (H, W, 3) uint8 RGB over one another with a slider between them.

    Args:
        number: tells the sliders of the page apart.
        caption: above it.
        before, after: of one size.
    """
    from ipfvr.report.html import before_and_after

    return f'<div class="ip-compare frames">{before_and_after(number, caption, before, after)}</div>'


def job_card(record: Record, state: State, notes: Sequence[str] = ()) -> str:
    """Show a job: its film, its state, its progress and the time left."""
    meter, line = "", ""
    if state.progress and state.name in (RUNNING, STOPPING, STOPPED):
        percent = round(100 * state.progress.share)
        label = f"{state.progress.phase}, {percent} %"
        meter = (
            f"<div class=ip-meter role=progressbar aria-valuemin=0 aria-valuemax=100 aria-valuenow={percent} "
            f'aria-label="{escape(label)}"><i style="width:{percent}%"></i></div>'
        )
        left = f", {state.progress.left} left" if state.progress.left and state.name == RUNNING else ""
        line = f"<p>{escape(label)}{escape(left)}</p>"
    elif state.name == RUNNING:
        line = "<p>loading</p>"
    elif state.name == WAITING:
        line = "<p>starts when those before it are done</p>"
    if state.name == STOPPED:
        line += "<p>Resume goes on where it stopped.</p>"
    error = f"<div class=ip-said>{notes_html([state.error], error=True)}</div>" if state.name == FAILED else ""
    more = "".join(f"<p>Note: {escape(note)}</p>" for note in notes) if state.name in (DONE, FAILED) else ""
    kind = {"person": "Training of a person", "photo": "Photo"}.get(record.kind, "Film")
    return (
        f"<div class=ip-job><div class=head><span><b>{escape(record.title)}</b> <span class=quiet>{kind}</span></span>"
        f'<span class="ip-chip {state.name}">{state.name}</span></div>'
        f"{meter}{line}{error}{more}</div>"
    )


def players(source: Path, result: Path) -> str:
    """Show a film before and after, side by side; both play together, with the result's sound."""
    return (
        "<div class=ip-two>"
        "<figure><figcaption>Before</figcaption><video controls muted playsinline preload=auto "
        f'src="{address(source)}"></video></figure>'
        f"<figure><figcaption>Restored, with sound</figcaption><video controls playsinline preload=auto "
        f'src="{address(result)}"></video></figure></div>'
    )


def pictures(before: Path, after: Path) -> str:
    """Show a photo before and after, side by side."""
    return (
        f'<div class=ip-two><figure><figcaption>Before</figcaption><img alt="before" src="{address(before)}"></figure>'
        f'<figure><figcaption>Restored</figcaption><img alt="restored" src="{address(after)}"></figure></div>'
    )


def one_picture(path: Path, caption: str) -> str:
    """Show a picture with its description."""
    return f'<figure class=ip-one><figcaption>{escape(caption)}</figcaption><img alt="" src="{address(path)}"></figure>'


def address(path: Path) -> str:
    """Return the address at which the page finds a file of the app's folder."""
    return f"/gradio_api/file={quote(str(path))}?{int(path.stat().st_mtime)}"


def _clock(film: Film, frame: int) -> str:
    seconds = round(frame / float(film.reader.info.rate))
    return f"{seconds // 60}:{seconds % 60:02d}"


def _cuts(film: Film) -> str:
    count = len(film.scan.cuts)
    return f"{film.reader.info.frames} frames, {count} cut{'s' * (count != 1)}"


def _thumb(path: Path) -> str:
    import cv2

    image = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)
    side = min(image.shape[:2])
    top, left = (image.shape[0] - side) // 3, (image.shape[1] - side) // 2
    square = cv2.resize(image[top : top + side, left : left + side], (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
    return f'<img alt="{escape(path.name)}" title="{escape(path.name)}" src="{_uri(square)}">'


def _uri(image: np.ndarray) -> str:
    from ipfvr.report.html import jpeg  # the page opens without what this imports

    return jpeg(image)
