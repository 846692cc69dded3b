"""The restorer's window, a page in your browser: ``python -m ipfvr.app [--port 7860] [key=value ...]``.

Drop a film and a picture; see who is in it, a frame before and after, and start. It listens to this machine alone,
fetches nothing, and runs ``python -m ipfvr.restore`` for you, whose command lines it shows.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from ipfvr.core.errors import run_verb


def make_parser() -> argparse.ArgumentParser:
    """Make the parser of the command line."""
    parser = argparse.ArgumentParser(prog="python -m ipfvr.app", description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--port", type=int, default=7860, help="where it listens (default: 7860)")
    add("--host", default="127.0.0.1", help="whom it listens to (default: this machine alone; 0.0.0.0: everybody)")
    add("--share", action="store_true", help="make a public address, through a server of Gradio's: never by itself")
    add("--folder", type=Path, default=Path("runs/app"), help="where films, jobs and results lie (default: runs/app)")
    add("--loras", type=Path, action="append", help="a folder of trained LoRAs to choose from (default: runs/lora)")
    add("--limit", type=int, default=4000, help="MB above which a file is refused (default: 4000)")
    add("--browser", action="store_true", help="open the browser")
    add("overrides", nargs="*", metavar="key=value", help="options of every job, such as preset=full")
    return parser


def main(argv: list[str] | None = None) -> None:
    """Run the command line."""
    args = make_parser().parse_intermixed_args(argv)
    # Imported here: --help needs none of the seconds that this takes.
    from ipfvr.app.server import serve
    from ipfvr.app.server_state import Settings

    loras = tuple(args.loras or [Path("runs/lora")])
    serve(
        Settings(args.folder, loras, args.limit, tuple(args.overrides)), args.host, args.port, args.share, args.browser
    )


if __name__ == "__main__":
    raise SystemExit(run_verb(main))
