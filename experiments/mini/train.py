"""All weights of mini, from data to the shipped files, in order; a stopped one goes on.

    python experiments/mini/train.py --source DATA                     # the folder that prepare.py makes the data of
    python experiments/mini/train.py --source DATA --length 0.1        # every stage a tenth as long
    python experiments/mini/train.py --source DATA optimizer.steps=2   # see that all of it runs
    python experiments/mini/train.py --only joint --ship               # one stage, into ipfvr/presets/mini

Every stage is a configuration beside this file, trained by ``python -m ipfvr.fit`` on top of what the stages before it
have made. Its curves are drawn to ``<output>/<stage>/curves.png``. The last stage wants a GPU: without one it takes
smaller batches, and so many more of them that it sees as many pictures. dlib's recogniser is not trained:
``experiments/mini/dlib.py`` makes it from dlib's own file.
"""

from __future__ import annotations

import argparse
import csv
import math
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ipfvr.core.config import load_config
from ipfvr.core.errors import UserError, run_verb
from ipfvr.report.plots import line_plot
from ipfvr.training.clip import make_tokenizer
from ipfvr.video.writer import write_picture
from ipfvr.weights.registry import SHIPPED

HERE = Path(__file__).parent
SHOWN = 12  # curves of a plot, at most
# Validated values that have a plot of their own: the beginning of their names, and what they are.
PLOTS = {"identity_": "cosine to the truth", "psnr_": "PSNR, dB", "niqe_": "NIQE"}
CAPTIONED = ("celeba160", "celeba256")  # the picture sets that have CelebA's attributes


@dataclass(frozen=True)
class Stage:
    """One training.

    Attributes:
        name: of its folder.
        config: its file, beside this one.
        makes: the weights' files, each with the option that later stages name it by.
        source: whether it reads the folder that the data are made of instead of the data.
        ships: whether its files are mini's, or only a start for another stage.
        needs: options of ``weights`` that are taken from the stages before, where these have run.
        on_processor: options on top of the file where there is no GPU.
    """

    name: str
    config: str
    makes: tuple[tuple[str, str], ...]
    needs: tuple[str, ...] = ()
    on_processor: tuple[str, ...] = ()
    source: bool = False
    ships: bool = True


VAE, DENOISER = "weights.vae", "weights.denoiser"
TEXT, TOKENIZER = "weights.text", "weights.tokenizer"
STAGES = (
    Stage("landmarks", "landmarks.yaml", (("landmarks.safetensors", ""),), source=True),
    Stage("recogniser", "recogniser.yaml", (("recogniser.safetensors", ""),)),
    Stage("attributes", "../attributes.yaml", (("attributes.safetensors", "weights.attributes"),)),
    Stage("clip", "clip.yaml", (("text.safetensors", TEXT),)),
    Stage("vae", "vae.yaml", (("vae.safetensors", VAE),), ships=False),
    Stage("base", "base.yaml", (("denoiser.safetensors", DENOISER),), (VAE, TEXT, TOKENIZER), ships=False),
    Stage(
        "base_clips",
        "base_clips.yaml",
        (("denoiser.safetensors", DENOISER),),
        (VAE, TEXT, TOKENIZER, DENOISER),
        ships=False,
    ),
    Stage("codec", "codec.yaml", (("vae.safetensors", VAE),)),
    Stage(
        "joint",
        "joint.yaml",
        (("denoiser.safetensors", DENOISER), ("adapter.safetensors", "weights.adapter")),
        (VAE, TEXT, TOKENIZER, DENOISER),
        on_processor=(
            "data.on_device=false",
            "data.references=1",
            "data.batch_size=16",
            "data.clip_batch_size=2",
            "data.workers=1",
            "polish.discriminated=16",
        ),
    ),
)


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--source", type=Path, help="the folder that prepare.py makes the data of")
    parser.add_argument("--root", type=Path, default=Path("data/mini"), help="the data, as prepare.py lays them out")
    parser.add_argument("--output", type=Path, default=Path("runs/train_mini"))
    parser.add_argument("--only", default="", help="stages, separated by commas")
    parser.add_argument("--length", type=float, default=1.0, metavar="SHARE", help="share of each training's length")
    parser.add_argument("--ship", action="store_true", help="copy what was made into ipfvr/presets/mini")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="of every stage")
    args = parser.parse_intermixed_args(argv)
    if args.length <= 0:
        raise UserError(f"--length {args.length}: give a share above 0, such as 0.1")
    only = [name for name in args.only.split(",") if name]
    if unknown := set(only) - {stage.name for stage in STAGES}:
        raise UserError(f"no stage {', '.join(sorted(unknown))}: there are {', '.join(s.name for s in STAGES)}")
    wanted = [stage for stage in STAGES if not only or stage.name in only]
    if not args.source and (reading := [stage.name for stage in wanted if stage.source]):
        raise UserError(f"{', '.join(reading)}: give --source, the folder with clips/, references/ and images/")
    if not args.root.is_dir():
        if not args.source:
            raise UserError(f"no data in {args.root}: give --source, the folder with clips/, references/ and images/")
        run([sys.executable, str(HERE / "prepare.py"), "--source", str(args.source), "--root", str(args.root)])
    made: dict[str, Path] = {}
    for stage in STAGES:
        folder = args.output / stage.name
        if stage in wanted:
            if stage.name == "joint":
                made[DENOISER] = widen(args.output, folder)
            data = where(stage, args.root, args.source)
            train(stage, args.output, made, [*data, *paced(stage, args.length), *args.overrides])
        files = {option: folder / "weights" / name for name, option in stage.makes}
        if not all(file.is_file() for file in files.values()):
            continue
        words = folder / "tokenizer"
        made |= files | ({TOKENIZER: words} if words.is_dir() else {})
        if args.ship and stage.ships:
            ship([*files.values()], words)


def widen(output: Path, folder: Path) -> Path:
    """The start of the joint training, from the stages before it."""
    start = folder / "start.safetensors"
    if not start.is_file():
        parts = {"--vae": ("codec", "vae"), "--start-vae": ("vae", "vae"), "--start": ("base_clips", "denoiser")}
        given = [w for o, (stage, name) in parts.items() for w in (o, f"{output / stage}/weights/{name}.safetensors")]
        run([sys.executable, str(HERE / "widen.py"), *given, "--output", str(start)])
    return start


def ship(files: list[Path], words: Path) -> None:
    """Copy weights, and a tokenizer where there is one, into the package."""
    for file in files:
        shutil.copyfile(file, SHIPPED / "mini" / file.name)
        print(f"shipped: {SHIPPED / 'mini' / file.name}")
    if words.is_dir():
        shutil.copytree(words, SHIPPED / "mini" / "tokenizer", dirs_exist_ok=True)


def paced(stage: Stage, length: float) -> list[str]:
    """Options that make a stage as long as wanted, on this machine.

    Args:
        stage: what is to be trained.
        length: share of the pictures that the stage's file says it sees.

    Returns:
        ``key=value``; none where the file is right as it is.
    """
    from ipfvr.core.devices import choose_device  # it imports torch

    on_processor = list(stage.on_processor) if choose_device("auto").type == "cpu" else []
    if length == 1 and not on_processor:
        return []
    whole, here = load_config(HERE / stage.config), load_config(HERE / stage.config, on_processor)
    share = length * whole.data.batch_size / here.data.batch_size
    steps = {
        "optimizer.steps": whole.optimizer.steps,
        "optimizer.warmup": whole.optimizer.warmup,
        "train.validate_every": whole.train.validate_every,
    }
    return [*on_processor, *(f"{key}={math.ceil(round(count * share, 6))}" for key, count in steps.items())]


def where(stage: Stage, root: Path, source: Path | None) -> list[str]:
    """Options that say where a stage finds its data, ``key=value``."""
    pairs = [f"data.root={source if stage.source else root}"]
    if stage.name in ("recogniser", "base_clips", "joint"):
        pairs.append(f"data.exclude={root / 'weak.yaml'}")
    if source and load_config(HERE / stage.config).data.captions:
        files = [str(source / "images" / name / "attributes.csv") for name in CAPTIONED]
        pairs.append(f"data.captions=[{','.join(files)}]")
    return pairs


def train(stage: Stage, output: Path, made: dict[str, Path], overrides: list[str]) -> None:
    """Train a stage, unless its finished weights are there, and draw its curves.

    Args:
        stage: what to train.
        output: of all stages.
        made: option to the file that a stage before has made for it.
        overrides: ``key=value`` on top of these.
    """
    folder = output / stage.name
    pairs = [f"train.output={folder}", "train.wandb=disabled"]
    pairs += [f"{option}={made[option]}" for option in stage.needs if option in made]
    pairs += overrides
    said = "\n".join(pairs)
    finished = folder / "finished.txt"
    if finished.is_file() and finished.read_text() == said:
        print(f"{stage.name}: is finished")
        return
    if stage.name == "clip":
        make_tokenizer(load_config(HERE / stage.config, pairs), folder / "tokenizer")
        pairs.append(f"{TOKENIZER}={folder / 'tokenizer'}")
    run([sys.executable, "-m", "ipfvr.fit", "--config", str(HERE / stage.config), *pairs])
    batch = load_config(HERE / stage.config, pairs).data.batch_size
    if (curves := draw_curves(folder, stage.name, batch)) is not None:
        print(f"{stage.name}: curves in {curves}")
    finished.write_text(said)


def draw_curves(folder: Path, name: str, batch: int) -> Path | None:
    """``curves.png`` of a training's validation, over the pictures seen; None: it has validated nothing.

    Cosines, PSNR and NIQE have a plot each; whatever else was validated has one as a share of its first value, in
    which all are comparable by how they fall.

    Args:
        folder: of the stage.
        name: of the stage.
        batch: pictures of a step.
    """
    values: dict[str, list[tuple[int, float]]] = {}
    for file in sorted(folder.glob("log/from_*/metrics.csv"), key=lambda p: int(p.parent.name.removeprefix("from_"))):
        with file.open() as lines:
            for row in csv.DictReader(lines):
                for key, value in row.items():
                    if key.startswith("val/") and value:
                        values.setdefault(key.removeprefix("val/"), []).append((int(row["step"]) + 1, float(value)))
    if not values:
        return None
    plots = []
    for group, label in (*PLOTS.items(), ("", "share of the first value")):
        lines = {key: points for key, points in sorted(values.items()) if key.startswith(group)}
        values = {key: points for key, points in values.items() if key not in lines}
        first = {key: 1.0 if group else points[0][1] or 1.0 for key, points in lines.items()}
        # The first look comes after as many steps as lie between two, so the index 0 has no value.
        drawn = {k.removeprefix(group): [None, *(v / first[k] for _, v in points)] for k, points in lines.items()}
        if drawn:
            each = next(iter(lines.values()))[0][0] * batch
            title = f"{name}: {label}, people held out"
            shown = dict(list(drawn.items())[:SHOWN])
            plots.append(line_plot(shown, title, "pictures seen", label, size=(1000, 360), unit=each))
    write_picture(folder / "curves.png", np.concatenate(plots), 9)
    return folder / "curves.png"


def run(command: list[str]) -> None:
    """Run a command.

    Raises:
        UserError: it failed; what it said stands above.
    """
    if code := subprocess.run(command).returncode:
        raise UserError(f"exit code {code} of: {' '.join(command)}")


if __name__ == "__main__":
    raise SystemExit(run_verb(main))
