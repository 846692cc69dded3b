"""Restore the faces of a video or a picture: ``python -m ipfvr.restore IN.mp4 --reference REF.jpg --output OUT.mp4``.

The command finds, tracks, aligns and restores every face, or with references only the faces of the people on them, and
pastes the faces back into the frame. Sound, subtitles, chapters and times are those of the source. A JSON beside the
output records how it was made, and an HTML page shows frames before and after (``--no-page`` leaves it out).
``--crop`` writes the restored crop of the main face instead; ``--aligned`` takes an input that already is such a crop.
A picture gives a picture with its orientation, colour profile and EXIF. A folder or a list of videos and pictures gives
a folder of restored ones.
"""

from __future__ import annotations

import argparse
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ipfvr.core.errors import UserError, run_verb
from ipfvr.core.options import Config
from ipfvr.core.startup import importing
from ipfvr.film.job import SCALES, TREATMENTS, Job, Person


def main(argv: list[str] | None = None) -> None:
    """Run the command line."""
    args = make_parser().parse_intermixed_args(argv)
    # Imported here and below, since this takes seconds that --help does not need.
    from ipfvr.core.config import load_config

    # A list option takes all words that follow it, so key=value pairs among them are sorted out here.
    pairs = [r for r in args.reference if _is_pair(r)]
    people = _people([r for r in args.reference if r not in pairs], args.lora, args.prompt)
    named = tuple(person for person in people if person.name)
    unnamed = next((person for person in people if not person.name), Person(""))
    if unnamed.lora:
        pairs.append(f"weights.lora={unnamed.lora}")
    if unnamed.prompt:
        pairs.append(f"prompt.file={unnamed.prompt}")
    config = load_config(args.config, args.overrides + pairs)
    if len(named) > 1 and (config.weights.lora or config.prompt.file):
        raise UserError(
            f"name the person of --lora or --prompt: write --lora {named[0].name}=FOLDER, --prompt {named[0].name}=FILE"
        )
    job = Job(
        source=args.input,
        output=args.output,
        references=unnamed.references,
        people=named,
        others=args.others,
        aligned=args.aligned,
        crop=args.crop,
        scale=args.scale,
        strength=args.strength,
        face=args.face,
        part=_parse_part(args.frames),
        learn=args.learn,
    )
    with importing():
        from ipfvr.film.batch import restore_many, sources_of

    with _ended_by_term():
        if sources_of(job.source) is not None:
            restore_many(job, config, args.devices, args.dry_run, not args.no_page)
        elif config.cluster:
            raise UserError(f"cluster={config.cluster} is for many videos: give a folder or a list of them")
        elif args.dry_run:
            from ipfvr.film.estimate import describe_plan

            print(describe_plan(job, config))
        else:
            _restore_one(job, config, not args.no_page)


def _restore_one(job: Job, config: Config, with_page: bool) -> None:
    from ipfvr.film.run import restore
    from ipfvr.video.photo import is_photo

    try:
        report = restore(job, config, page=job.page if with_page else None)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"stopped: the same command continues from here; finished parts are in {job.output.parent}"
        ) from None
    faces = len(report["tracks"])
    frames = f"{report['frames']} frames ({report['restored']} restored)"
    done = f"{faces} face{'s' * (faces != 1)} restored" if is_photo(job.source) else frames
    print(f"{job.output}: {done} in {report['seconds']:.1f} s, peak memory {report['peak_memory_mb']} MB")
    if with_page:
        print(f"{job.page}: before and after, to open in a browser")


def make_parser() -> argparse.ArgumentParser:
    """Make the parser of the command line."""
    parser = argparse.ArgumentParser(prog="python -m ipfvr.restore", description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("input", type=Path, help="the video or picture; or a folder of them; or a .txt with one path a line")
    add(
        "--reference",
        nargs="+",
        action="extend",
        default=[],
        metavar="[NAME=]PICTURE",
        help="pictures of the person; for several people with names, such as anna=a.jpg ben=b.jpg",
    )
    add("--face", type=int, default=0, help="which face of the reference, counted from 1 on the left")
    add(
        "--prompt",
        action="append",
        default=[],
        metavar="[NAME=]FILE",
        help="a prompt.yaml that you have edited; describe writes one",
    )
    add("--lora", action="append", default=[], metavar="[NAME=]FOLDER", help="the person's LoRA, as fit writes it")
    add(
        "--learn",
        action=argparse.BooleanOptionalAction,
        help="learn each face from its reference pictures first (a LoRA, a minute on two cores, kept for later "
        "runs); mini does so unless --no-learn is given",
    )
    add(
        "--others",
        choices=TREATMENTS,
        default="",
        help="what happens to the faces of other people; default: leave with references, restore without",
    )
    add(
        "--output",
        type=Path,
        required=True,
        help="OUT.mp4 (a picture: OUT.jpg), with OUT.json; a folder for many",
    )
    add("--scale", type=int, choices=SCALES, default=1, help="enlarge the frame")
    add("--strength", type=float, default=1.0, help="share of the change that is applied, 0 (the source) to 1")
    add("--crop", action="store_true", help="write the restored crop of the main face instead of whole frames")
    add("--aligned", action="store_true", help="the input is a square aligned face crop")
    add("--frames", help="A:B restores only frames A to B - 1; such parts of a video fit together")
    add("--dry-run", action="store_true", help="print the people found, the clips, time and memory; write nothing")
    add("--no-page", action="store_true", help="write no HTML page of frames before and after")
    add(
        "--devices",
        type=int,
        default=1,
        help="for many videos: processes on this machine that share them, one for each GPU; with cluster=slurm: jobs",
    )
    add("--config", type=Path, help="an experiment file")
    add("overrides", nargs="*", metavar="key=value", help="such as preset=full sampler.steps=8")
    return parser


def _is_pair(text: str) -> bool:
    """Return whether an argument is ``key=value`` of the configuration, and not a picture or ``name=picture``."""
    from ipfvr.core.config import all_keys

    key, equals, _ = text.partition("=")
    return bool(equals) and not Path(text).exists() and ("." in key or key in all_keys())


def _people(references: Sequence[str], loras: Sequence[str], prompts: Sequence[str]) -> list[Person]:
    """Return the people of the command line in its order; a person without a name has the empty name."""
    found: dict[str, dict[str, Any]] = {}
    for option, texts in (("references", references), ("lora", loras), ("prompt", prompts)):
        for text in texts:
            name, equals, path = text.partition("=")
            if not equals or Path(text).exists():
                name, path = "", text
            entry = found.setdefault(name, {})
            if option == "references":
                entry[option] = (*entry.get(option, ()), Path(path))
            elif entry.setdefault(option, path) != path:
                raise UserError(f"--{option} is given twice for {name or 'one person'}: give one")
    return [Person(name, **entry) for name, entry in found.items()]


def _parse_part(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    first, colon, last = text.partition(":")
    if not (colon and first.isdigit() and last.isdigit()):
        raise UserError(f"--frames {text} is not of the form A:B, such as 0:24")
    return int(first), int(last)


@contextmanager
def _ended_by_term() -> Iterator[None]:
    """Make SIGTERM end the work inside the block as Ctrl-C does."""

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


if __name__ == "__main__":
    raise SystemExit(run_verb(main))
