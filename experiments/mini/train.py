"""All weights of mini, from data to the shipped files, in order; a stopped one goes on.

    python experiments/mini/train.py --source /path/with/clips/and/images    # as experiments/mini/prepare.py reads it
    python experiments/mini/train.py --only joint --ship                     # one stage, into ipfvr/presets/mini
    python experiments/mini/train.py optimizer.steps=2                       # see that all of it runs

Every stage is a configuration beside this file, trained by ``python -m ipfvr.fit`` on top of what the stages before it
have made. Its curves are drawn to ``<output>/<stage>/curves.png``. The last stage wants a GPU (``joint.yaml`` says how
it runs without); the others take two days on two cores. dlib's recogniser is not trained:
``experiments/mini/dlib.py`` makes it from dlib's own file.
"""

from __future__ import annotations

import argparse
import csv
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from ipfvr.core.config import load_config
from ipfvr.core.errors import UserError, run_verb
from ipfvr.report.plots import line_plot
from ipfvr.training.clip import make_tokenizer
from ipfvr.video.writer import write_picture
from ipfvr.weights.registry import SHIPPED

HERE = Path(__file__).parent
SHOWN = 12  # curves of a picture, at most


@dataclass(frozen=True)
class Stage:
    """One training.

    Attributes:
        name: of its folder.
        config: its file, beside this one.
        makes: the weights' files, each with the option that later stages name it by.
        ships: whether its files are mini's, or only a start for another stage.
        needs: options of ``weights`` that are taken from the stages before, where these have run.
        pairs: options on top of the file.
    """

    name: str
    config: str
    makes: tuple[tuple[str, str], ...]
    needs: tuple[str, ...] = ()
    pairs: tuple[str, ...] = ()
    ships: bool = True


VAE, DENOISER = "weights.vae", "weights.denoiser"
TEXT, TOKENIZER = "weights.text", "weights.tokenizer"
STAGES = (
    Stage("landmarks", "landmarks.yaml", (("landmarks.safetensors", ""),)),
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
    ),
)


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--source", type=Path, help="what prepare.py makes the data of; not needed once they are made")
    parser.add_argument("--root", type=Path, default=Path("data/mini"), help="the data, as prepare.py lays them out")
    parser.add_argument("--output", type=Path, default=Path("runs/train_mini"))
    parser.add_argument("--only", default="", help="stages, separated by commas")
    parser.add_argument("--ship", action="store_true", help="copy what was made into ipfvr/presets/mini")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="of every stage")
    args = parser.parse_intermixed_args(argv)
    if not args.root.is_dir():
        if not args.source:
            raise UserError(f"no data in {args.root}: give --source, the folder with clips/, references/ and images/")
        run([sys.executable, str(HERE / "prepare.py"), "--source", str(args.source), "--root", str(args.root)])
    only = [name for name in args.only.split(",") if name]
    if unknown := set(only) - {stage.name for stage in STAGES}:
        raise UserError(f"no stage {', '.join(sorted(unknown))}: there are {', '.join(s.name for s in STAGES)}")
    made: dict[str, Path] = {}
    for stage in STAGES:
        folder = args.output / stage.name
        if stage.name == "joint" and (not only or stage.name in only):
            made[DENOISER] = widen(args.output, folder)
        if not only or stage.name in only:
            train(stage, args.root, args.output, made, args.overrides)
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


def train(stage: Stage, root: Path, output: Path, made: dict[str, Path], overrides: list[str]) -> None:
    """Train a stage, unless its finished weights are there, and draw its curves.

    Args:
        stage: what to train.
        root: the data.
        output: of all stages.
        made: option to the file that a stage before has made for it.
        overrides: ``key=value`` of every stage.
    """
    folder = output / stage.name
    pairs = [f"data.root={root}", f"train.output={folder}", "train.wandb=disabled"]
    if stage.name in ("recogniser", "base_clips", "joint"):
        pairs.append(f"data.exclude={root / 'weak.yaml'}")
    pairs += [f"{option}={made[option]}" for option in stage.needs if option in made]
    pairs += [*stage.pairs, *overrides]
    said = "\n".join(pairs)
    finished = folder / "finished.txt"
    if finished.is_file() and finished.read_text() == said:
        print(f"{stage.name}: is finished")
        return
    if stage.name == "clip":
        make_tokenizer(load_config(HERE / stage.config, pairs), folder / "tokenizer")
        pairs.append(f"{TOKENIZER}={folder / 'tokenizer'}")
    run([sys.executable, "-m", "ipfvr.fit", "--config", str(HERE / stage.config), *pairs])
    if (curves := draw_curves(folder, stage.name)) is not None:
        print(f"{stage.name}: curves in {curves}")
    finished.write_text(said)


def draw_curves(folder: Path, name: str) -> Path | None:
    """``curves.png`` of a training's validation (its losses where it has none), each over its steps; None: no log."""
    values: dict[str, list[tuple[int, float]]] = {}
    for file in sorted(folder.glob("log/from_*/metrics.csv"), key=lambda p: int(p.parent.name.removeprefix("from_"))):
        with file.open() as lines:
            for row in csv.DictReader(lines):
                for key, value in row.items():
                    if key not in ("epoch", "step") and value:
                        values.setdefault(key, []).append((int(row["step"]), float(value)))
    shown = {k: v for k, v in values.items() if k.startswith("val/")} or values
    if not shown:
        return None
    longest = max(len(points) for points in shown.values())
    # Each as a share of its first value: what has no unit in common is comparable by how it falls.
    lines = {k: [v / points[0][1] for _, v in points] for k, points in sorted(shown.items()) if points[0][1]}
    last = max(step for points in shown.values() for step, _ in points)
    title = f"{name}: validation over {longest} looks, the last at step {last}; 1: its first value"
    write_picture(folder / "curves.png", line_plot(dict(list(lines.items())[:SHOWN]), title, "look", "share"), 9)
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
