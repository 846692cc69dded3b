"""What the site needs beyond its plugins: the roles of reStructuredText in docstrings become plain code."""

from __future__ import annotations

import re
from typing import Any

# ":func:`~ipfvr.x.y`" is shown as ":func:<code>~ipfvr.x.y</code>"; a tilde shows the last name only.
_ROLE = re.compile(r":(?:func|class|mod|meth|attr|data|exc):<code>(~?)([\w.]+)</code>")


def on_page_content(html: str, **_: Any) -> str:
    """MkDocs calls this with the HTML of each page."""
    return _ROLE.sub(lambda m: f"<code>{m[2].rpartition('.')[2] if m[1] else m[2]}</code>", html)
