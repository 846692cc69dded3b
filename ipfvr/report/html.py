"""Parts of HTML pages that hold all they show, so that they open anywhere without a network."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

import cv2
import numpy as np

_STATIC = Path(__file__).parent / "page_parts"  # style.css and compare.js, put into every page
_QUALITY = 88  # of JPEG pictures


def document(title: str, parts: Sequence[str]) -> str:
    """A whole page: its head, its parts, and the script of the comparisons."""
    style, script = style_and_script()
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{style}</style></head><body>\n" + "\n".join(parts) + f"\n<script>{script}</script></body></html>\n"
    )


def style_and_script() -> tuple[str, str]:
    """What every page's style and script are; another page's figures need them, too."""
    return (_STATIC / "style.css").read_text(), (_STATIC / "compare.js").read_text()


def comparison(number: int, caption: str, versions: Mapping[str, Path]) -> str:
    """Two videos over one another with a slider between them, and a choice of which.

    Args:
        number: tells the comparisons of a page apart.
        caption: above it.
        versions: name to mp4 file; of three and more the first and the last but one are chosen at first.
    """
    names = list(versions)
    chosen = (0, min(1, len(names) - 1)) if len(names) < 3 else (0, len(names) - 2)
    videos = "".join(
        f'<video class=version title="{escape(name)}" muted loop playsinline preload=auto '
        f'src="{uri(path.read_bytes(), "video/mp4")}"></video>'
        for name, path in versions.items()
    )
    choices = []
    for side, default in zip(("left", "right"), chosen, strict=True):
        options = "".join(
            f"<option value={i}{' selected' if i == default else ''}>{escape(name)}</option>"
            for i, name in enumerate(names)
        )
        choices.append(f"<label>{side} <select class={side}>{options}</select></label>")
    above = f"<div class=choice>{''.join(choices)}<button type=button class=play>play or pause</button></div>"
    return _slid(f"compare{number}", caption, f"{above}<div class=stage>{videos}<div class=bar></div></div>")


def before_and_after(number: int, caption: str, before: np.ndarray, after: np.ndarray) -> str:
    """Two pictures over one another with a slider between them.

    Args:
        number: tells the sliders of a page apart.
        caption: above it.
        before, after: (H, W, 3) uint8 RGB, of one size.
    """
    height, width = before.shape[:2]
    pictures = photo(before, f"{caption}, before", "version shown") + photo(after, f"{caption}, after", "version")
    chips = "<span class=chip>before</span><span class='chip after'>after</span>"
    # A picture that is higher than wide is kept inside of the window.
    stage = f'<div class=stage style="aspect-ratio: {width} / {height}">{pictures}<div class=bar></div>{chips}</div>'
    return _slid(f"frame{number}", caption, stage, f"--ratio: {width / height:.4f}")


def _slid(name: str, caption: str, content: str, style: str = "") -> str:
    """A figure whose versions meet at a slider; ``compare.js`` moves them."""
    said = escape(f"{caption}: where the two versions meet")
    return (
        f'<figure class="compare" id="{name}" style="{style}"><figcaption>{escape(caption)}</figcaption>{content}'
        f'<input class=slider type=range min=0 max=100 value=50 aria-label="{said}"></figure>'
    )


def picture(image: np.ndarray, title: str) -> str:
    """An (H, W, 3) uint8 RGB picture, as PNG."""
    done, content = cv2.imencode(".png", image[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 9])
    assert done, "OpenCV writes PNG"
    return f'<img alt="{escape(title)}" src="{uri(content.tobytes(), "image/png")}">'


def photo(image: np.ndarray, title: str, kind: str = "") -> str:
    """An (H, W, 3) uint8 RGB picture as JPEG, of the CSS class ``kind``."""
    done, content = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    assert done, "OpenCV writes JPEG"
    return f'<img class="{kind}" alt="{escape(title)}" src="{uri(content.tobytes(), "image/jpeg")}">'


def definitions(terms: Mapping[str, str]) -> str:
    """A list of terms and what they mean."""
    return "<dl>" + "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in terms.items()) + "</dl>"


def bullets(lines: Sequence[str]) -> str:
    """A list."""
    return "<ul>" + "".join(f"<li>{escape(line)}</li>" for line in lines) + "</ul>"


def uri(content: bytes, kind: str) -> str:
    """A file's content as an address."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
