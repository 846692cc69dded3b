"""The LoRA of one person, trained from clips: the folder laid out, the command, and what came out."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from pathlib import Path

from ipfvr.app.jobs import Jobs, Record
from ipfvr.app.names import person_name
from ipfvr.app.uploads import take
from ipfvr.core.errors import UserError
from ipfvr.core.folders import PACKAGE
from ipfvr.data.layout import CLIPS, PICTURES

EXPERIMENT = PACKAGE.parent / "experiments" / "lora.yaml"
CARD = "card.json"


def add_training(
    jobs: Jobs,
    name: str,
    pictures: Sequence[Path],
    clips: Sequence[Path],
    steps: int,
    limit: int,
    base: Sequence[str] = (),
) -> Path:
    """Put the training of a person's LoRA into the queue.

    Args:
        jobs: the queue.
        name: of the person.
        pictures, clips: that were dropped.
        steps: of the training.
        limit: MB of a file.
        base: ``key=value`` pairs that the app was started with.

    Returns:
        The job's folder.

    Raises:
        UserError: no name, pictures or clips; a file of another kind; no checkout.
    """
    if not EXPERIMENT.is_file():
        raise UserError(f"no {EXPERIMENT}: training a person needs a checkout of ipfvr, not the package alone")
    name = person_name(name)
    for given, what, endings in ((pictures, "picture", PICTURES), (clips, "clip", CLIPS)):
        if not given:
            raise UserError(f"no {what} of {name}: drop one or more")
        for path in given:
            if path.suffix.lower() not in endings:
                raise UserError(f"{path.name} is no {what} that a training reads: {', '.join(sorted(endings))}")
    folder = jobs.new_folder()
    identity = name.replace(" ", "_")
    for path in pictures:
        take(path, folder / "data" / identity / "reference", limit)
    for path in clips:
        take(path, folder / "data" / identity / "train", limit)
    output = folder / "lora"
    words = ["python", "-m", "ipfvr.fit", "--config", str(EXPERIMENT), f"data.root={folder / 'data'}"]
    words += [f"data.identity={identity}", f"train.output={output}", f"optimizer.steps={steps}", "train.wandb=disabled"]
    record = Record(name, "person", shlex.join([*words, *base]), "", str(output / "weights"))
    jobs.add(folder, record)
    return folder


def trained_loras(jobs: Jobs, folders: Sequence[Path] = ()) -> dict[str, str]:
    """Return the folder of each LoRA that exists, by its name.

    Args:
        jobs: those that were trained here.
        folders: others, such as ``runs/lora``: each holds ``<person>/weights``.
    """
    found = {}
    cards = [path for folder in folders for path in sorted(folder.glob(f"*/weights/{CARD}"))]
    cards += sorted(jobs.folder.glob(f"[!.]*/lora/weights/{CARD}"))
    for card in cards:
        try:
            name = str(json.loads(card.read_text())["identity"])
        except (ValueError, KeyError, OSError):
            continue
        number, label = 1, name
        while label in found:
            number += 1
            label = f"{name} ({number})"
        found[label] = str(card.parent)
    return found


def read_report(weights: Path) -> tuple[Path | None, str]:
    """Read the picture of a clip before and after a training, and a sentence with the measurements."""
    folder = weights.parent
    picture, report = folder / "strip.png", folder / "report.json"
    if not report.is_file():
        return None, ""
    content = json.loads(report.read_text())
    before, after = (content["clips"][key]["r_f"] for key in ("before", "after"))
    where = "a clip it was trained on" if content["trained_on_it"] else "a clip it was not trained on"
    return (
        picture if picture.is_file() else None,
        f"Likeness to the pictures, by {content['recogniser']}, in {where}: {before:.3f} before, {after:.3f} after.",
    )
