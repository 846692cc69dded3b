"""Command lines that mix list options with ``key=value`` pairs."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path


def parse_lists(parser: argparse.ArgumentParser, argv: Sequence[str] | None, *lists: str) -> argparse.Namespace:
    """Parse a command line and move the pairs that a list option has taken to ``overrides``.

    An option with ``nargs="+"`` takes every word that follows it, the configuration's ``key=value`` pairs too. A word
    with an equals sign is a pair unless a file has that name.

    Args:
        parser: has a positional argument ``overrides`` with ``nargs="*"``.
        argv: the words; None: those of the process.
        lists: destinations of the list options. Each becomes a list of strings.

    Examples:
        >>> parser = argparse.ArgumentParser()
        >>> _ = parser.add_argument("--metrics", nargs="+")
        >>> _ = parser.add_argument("overrides", nargs="*")
        >>> args = parse_lists(parser, ["--metrics", "psnr", "ssim", "device=cpu"], "metrics")
        >>> args.metrics, args.overrides
        (['psnr', 'ssim'], ['device=cpu'])
    """
    args = parser.parse_intermixed_args(argv)
    for name in lists:
        words = [str(word) for word in getattr(args, name) or []]
        pairs = [word for word in words if "=" in word and not Path(word).exists()]
        args.overrides += pairs
        setattr(args, name, [word for word in words if word not in pairs])
    return args
