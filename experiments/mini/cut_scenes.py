"""Cut clips of people whom mini was trained on into scenes, on which the settings of a LoRA are chosen.

    python experiments/mini/cut_scenes.py --source ../shared/data --root runs/settings_people

Each person of ``PEOPLE`` has one long clip: its first 300 frames become two training scenes, and its last 120 frames
the test scene; the reference is the picture that belongs to the clip. ``search_lora.yaml`` runs on the result. The
scenes are of one recording, which flatters likeness: only the order of the settings counts.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from tqdm import tqdm

from ipfvr.core.errors import UserError, run_verb
from ipfvr.video.reader import VideoReader, read_image
from ipfvr.video.writer import write_picture, write_video

PEOPLE = ("id02", "id03", "id09")
TRAIN, TEST = 150, 120  # frames of a scene
CRF = 8


def main(argv: list[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--source", type=Path, required=True)
    parser.add_argument("--root", type=Path, default=Path("runs/settings_people"))
    args = parser.parse_args(argv)
    for name in tqdm(PEOPLE, desc="people"):
        clip = args.source / "clips" / name / f"{name}_c01.mp4"
        pictures = sorted((args.source / "references" / name).glob("*.png"))
        if not clip.is_file() or not pictures:
            raise UserError(f"{clip} or its reference is missing: --source must hold clips/ and references/")
        cut(clip, pictures[0], args.root / name)


def cut(clip: Path, picture: Path, folder: Path) -> None:
    """Write the scenes of one clip and its reference into ``{train,test,reference}/`` of a folder."""
    reader = VideoReader(clip)
    for part, scene, start, length in (
        ("train", "a", 0, TRAIN),
        ("train", "b", TRAIN, TRAIN),
        ("test", "c", len(reader) - TEST, TEST),
    ):
        frames = [frame.image for frame in reader.frames(start, start + length)]
        write_video(folder / part / f"{folder.name}_{scene}.mp4", frames, reader.info.rate, CRF)
    write_picture(folder / "reference" / picture.name, read_image(picture))


if __name__ == "__main__":
    raise SystemExit(run_verb(main))
