"""Self-contained HTML pages, which open without a network, from the jinja2 templates in ``page_parts``."""

from __future__ import annotations

import base64
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined

_FOLDER = Path(__file__).parent / "page_parts"
_QUALITY = 88  # quality of JPEG pictures


def render(template: str, **values: Any) -> str:
    """Render a page as text.

    Args:
        template: a file in ``page_parts``, whose head lists the values that it needs.
        values: texts, which are escaped; pictures (H, W, 3) uint8 RGB for the filters ``png`` and ``jpeg``, and paths
            of videos for ``mp4``.

    Raises:
        jinja2.UndefinedError: a value is missing.
    """
    return _environment().get_template(template).render(**values)


@lru_cache(maxsize=1)
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"png": _png, "jpeg": jpeg, "mp4": _mp4}
    environment.globals["static"] = lambda name: (_FOLDER / name).read_text()
    return environment


def before_and_after(number: int, caption: str, before: np.ndarray, after: np.ndarray) -> str:
    """Return the HTML of two overlaid pictures with a slider, for a page that has :func:`style_and_script`.

    Args:
        number: the number of the slider, unique in the page.
        caption: the text above the pictures.
        before, after: (H, W, 3) uint8 RGB, of the same size.
    """
    return str(_environment().get_template("parts.html").module.before_and_after(number, caption, before, after))


def style_and_script() -> tuple[str, str]:
    """Return the style and the script that all pages share."""
    return (_FOLDER / "style.css").read_text(), (_FOLDER / "compare.js").read_text()


def _png(image: np.ndarray) -> str:
    """Return a picture as a PNG data URI, without loss."""
    done, content = cv2.imencode(".png", image[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 9])
    assert done, "OpenCV writes PNG"
    return _uri(content.tobytes(), "image/png")


def jpeg(image: np.ndarray) -> str:
    """Return a picture as a JPEG data URI."""
    done, content = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    assert done, "OpenCV writes JPEG"
    return _uri(content.tobytes(), "image/jpeg")


def _mp4(path: Path) -> str:
    """Return a video file as a data URI."""
    return _uri(path.read_bytes(), "video/mp4")


def _uri(content: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
