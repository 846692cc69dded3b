"""Clips to score: a video file, a folder of frames, or a folder with several of either."""

from __future__ import annotations

from pathlib import Path

from ipfvr.core.errors import UserError
from ipfvr.video.footage import VIDEOS, Clip, natural_key, pictures_in


def find_clips(path: str | Path) -> list[Clip]:
    """Return the clips of a file, of a folder of frames, or of a folder of videos and folders of frames.

    Raises:
        UserError: nothing is there to read, frames and videos are mixed, or two clips have one name.
    """
    path = Path(path)
    if path.is_file():
        return [Clip(path.stem, path)]
    if not path.is_dir():
        raise UserError(f"no file or folder {path}")
    entries = sorted((p for p in path.iterdir() if not p.name.startswith(".")), key=natural_key)
    videos = [p for p in entries if p.is_file() and p.suffix.lower() in VIDEOS]
    folders = [p for p in entries if p.is_dir() and pictures_in(p)]
    if pictures_in(path):
        if videos or folders:
            other = (videos + folders)[0].name
            raise UserError(f"{path} holds single frames beside {other}; give the frames a folder of their own")
        return [Clip(path.name, path)]
    clips = [Clip(p.stem if p.is_file() else p.name, p) for p in videos + folders]
    if not clips:
        raise UserError(f"{path} holds neither frames (png, jpg) nor videos nor folders of frames")
    names = [clip.name for clip in clips]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UserError(f"{path} holds two clips named {twice[0]}; clips are paired by name, rename one")
    return sorted(clips, key=lambda clip: natural_key(Path(clip.name)))


def pair_clips(predictions: list[Clip], targets: list[Clip]) -> list[tuple[Clip, Clip]]:
    """Predictions with their ground truths: one with one whatever the names, several by name.

    Raises:
        UserError: a clip without a partner.
    """
    if len(predictions) == len(targets) == 1:
        return [(predictions[0], targets[0])]
    by_name = {clip.name: clip for clip in targets}
    lonely = [clip.name for clip in predictions if clip.name not in by_name]
    left = sorted(set(by_name) - {clip.name for clip in predictions})
    if lonely or left:
        without = [f"no ground truth for {', '.join(lonely)}"] if lonely else []
        without += [f"no prediction for {', '.join(left)}"] if left else []
        raise UserError(
            f"{len(predictions)} predicted and {len(targets)} ground-truth clips do not pair by name: "
            f"{'; '.join(without)}; rename, add or remove clips"
        )
    return [(clip, by_name[clip.name]) for clip in predictions]


def check_pair(prediction: Clip, target: Clip, resize: bool) -> None:
    """Refuse a pair of unequal length, or of unequal size unless ``resize``.

    Raises:
        UserError: the line names both.
    """
    if prediction.frames != target.frames:
        raise UserError(
            f"{prediction.path} has {prediction.frames} frames, {target.path} has {target.frames}; "
            "cut both to the same frames before scoring"
        )
    if prediction.size != target.size and not resize:
        (w, h), (tw, th) = prediction.size, target.size
        raise UserError(
            f"{prediction.path} is {w} x {h}, {target.path} is {tw} x {th}; add --resize to resize the prediction to "
            "the ground truth's size"
        )


def reference_pictures(paths: list[str], names: list[str]) -> dict[str, list[Path]]:
    """Assign reference pictures to clips.

    A picture, several pictures, or a folder of pictures are one person, for all clips. A folder whose pictures or
    sub-folders have the names of several clips gives each clip its own.

    Args:
        paths: what ``--reference`` was given.
        names: names of the clips.

    Raises:
        UserError: nothing is there to read, or some clips have a reference of their own and others have none.
    """
    roots = [Path(path) for path in paths]
    gone = [root for root in roots if not root.exists()]
    if gone:
        raise UserError(f"no reference picture or folder {gone[0]}")
    if len(roots) == 1 and roots[0].is_dir() and len(names) > 1:
        own = {p.stem: [p] for p in pictures_in(roots[0])}
        own |= {p.name: pictures_in(p) for p in roots[0].iterdir() if p.is_dir() and pictures_in(p)}
        matched = [name for name in names if name in own]
        if matched:
            missing = [name for name in names if name not in own]
            if missing:
                raise UserError(f"{roots[0]} has a reference for {matched[0]} but none for {', '.join(missing)}")
            return {name: own[name] for name in names}
    pictures = [p for root in roots for p in (pictures_in(root) if root.is_dir() else [root])]
    if not pictures:
        raise UserError(f"{', '.join(paths)} holds no reference pictures (png, jpg)")
    return dict.fromkeys(names, pictures)
