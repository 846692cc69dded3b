"""The plan of an experiment: its cells. No heavy package is imported, so that a finished run ends at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ipfvr.core.choices import Guiders
from ipfvr.core.config import load_config
from ipfvr.core.hashes import sha256
from ipfvr.core.options import Config
from ipfvr.core.readers import LORA, read_by
from ipfvr.data.layout import Folder, piece_name, piece_seed
from ipfvr.methods.settings import IMPERSONAL, OURS, digests, method_settings, not_installed
from ipfvr.metrics.info import WEIGHTS
from ipfvr.study.cells import Cell, Store
from ipfvr.study.judge import choose_judge
from ipfvr.study.schema import Row, Study
from ipfvr.weights.catalogue import ENTRIES
from ipfvr.weights.needs import WORDS, absent, detector_digests, digest_of, needed_parts
from ipfvr.weights.registry import find


@dataclass(frozen=True)
class Clip:
    """A piece of a test scene.

    Attributes:
        name: a name such as ``id13_c04_0``.
        person: the person in the clip.
        cell: the cell of the scene, of kind ``clips``.
        index: the number of the piece in the scene.
        start: the first frame of the piece in the scene.
        fps: the frame rate of the scene.
    """

    name: str
    person: Folder
    cell: Cell
    index: int
    start: int
    fps: float


@dataclass(frozen=True)
class Task:
    """One clip of an arm with one seed: the cell that restores it and the cell that scores it."""

    clip: Clip
    seed: int
    restored: Cell
    scores: Cell


@dataclass
class Arm:
    """A row at one level of degradation.

    Attributes:
        row: the name of the row.
        level: the level of the degradation.
        spec: the row as the experiment file describes it.
        title: the name of the row, with the level if the experiment has several.
        tasks: one task for each clip and seed.
        reason: why there are no tasks; empty: there are some.
        loras: the cells of the LoRAs that the arm uses.
        notes: notes for the reader.
    """

    row: str
    level: str
    spec: Row
    title: str
    tasks: list[Task] = field(default_factory=list)
    reason: str = ""
    loras: list[Cell] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def plan_clips(study: Study, people: Sequence[Folder]) -> list[tuple[Folder, Cell]]:
    """Plan one cell for each test scene, which holds the scene's sharp aligned pieces."""
    config, limits = study.config(), study.limits
    faces = {k: v for k, v in asdict(config.faces).items() if k not in ("every", "recognise_every", "align_references")}
    found = []
    for person in people:
        for video in person.test:
            key = {
                "video": sha256(video),
                "clips": limits.clips,
                "frames": limits.frames,
                "size": config.video.size,
                "scene_frames": config.data.scene_frames,
                "faces": faces,
                "detector": detector_digests(config.faces),
            }
            given = {"video": str(video), "pairs": list(study.pairs)}
            found.append((person, Cell("clips", f"scene {video.stem}", key, given)))
    return found


def find_clips(scenes: Sequence[tuple[Folder, Cell]], store: Store) -> list[Clip]:
    """Return the pieces of all scenes whose cells are finished."""
    clips = []
    for person, cell in scenes:
        if store.finished(cell):
            record, video = store.record(cell), Path(cell.given["video"])
            for index, start in enumerate(record["starts"]):
                clips.append(Clip(piece_name(video, index), person, cell, index, start, record["fps"]))
    return clips


def plan_arms(study: Study, clips: Sequence[Clip], people: Sequence[Folder], store: Store, root: Path) -> list[Arm]:
    """Plan every row at every level with the cells of its clips; a row that cannot run has a reason instead.

    Args:
        study: the experiment.
        clips: see :func:`find_clips`.
        people: all people of the experiment; rows can use a stranger's references.
        store: the store of the cells.
        root: the data root, which trainings read.
    """
    experiment, arms = study.experiment, []
    several = len(experiment.levels) > 1
    loras: dict[tuple[str, str], Cell] = {}
    for name, row in experiment.rows.items():
        config = study.config(row)
        reason = not_installed(row.method, config) or "; ".join(missing_weights(config, row.method))
        settings = {} if reason else method_settings(row.method, config)
        for level in experiment.levels:
            arm = Arm(name, level, row, f"{name}, {level}" if several else name, reason=reason)
            for clip in clips if not reason else ():
                arm.tasks += _tasks(study, arm, config, settings, clip, people, store, root, loras)
            if not arm.tasks and not arm.reason:
                arm.reason = "; ".join(dict.fromkeys(arm.notes)) or "no clip could be prepared"
            arms.append(arm)
    return arms


def _tasks(
    study: Study,
    arm: Arm,
    config: Config,
    settings: dict[str, Any],
    clip: Clip,
    people: Sequence[Folder],
    store: Store,
    root: Path,
    loras: dict[tuple[str, str], Cell],
) -> list[Task]:
    """Plan the tasks of one clip, one for each seed; none, with a note, if the person lacks what the row needs."""
    row, person = arm.spec, clip.person
    count = study.experiment.references if row.references < 0 else row.references
    count = 0 if row.method in IMPERSONAL else count
    shown = person if row.whose == "own" else people[(people.index(person) + 1) % len(people)]
    if row.whose == "stranger" and shown == person:
        arm.notes.append("there is only one person, so there is no stranger")
        return []
    pictures = shown.references[:count]
    if len(pictures) < count and row.references > 0:
        arm.notes.append(f"{person.name} has {len(pictures)} of {count} references and is left out")
        return []
    after: tuple[Cell, ...] = ()
    if row.lora:
        if not person.train:
            arm.notes.append(f"{person.name} has no scenes in train/ and is left out")
            return []
        key = (row.lora, person.name)
        loras[key] = loras.get(key) or plan_lora(study, row.lora, person, root)
        after = (loras[key],)
        arm.loras += [loras[key]] if loras[key] not in arm.loras else []
    low = plan_low(config, clip, arm.level, store, study)
    prompt = root / person.name / "prompt.yaml"
    has_prompt = prompt.is_file() and row.method not in IMPERSONAL
    tasks = []
    for seed in study.limits.seeds:
        key = {
            "method": settings,
            "low": low.hash,
            "references": [sha256(p) for p in pictures],
            "detector": detector_digests(config.faces) if pictures else {},  # it finds the face that is cropped
            "lora": after[0].hash if after else "",
            "prompt": _prompt_digest(root, person) if has_prompt else "",
            "seed": seed,
            "frames": study.limits.frames,
            "size": config.video.size,
        }
        given = {
            "method": row.method,
            "pairs": [*study.pairs, *row.set],
            "identity": person.name,
            "low": str(store.folder(low) / "frames"),
            "references": [str(p) for p in pictures],
            "lora": str(store.folder(after[0]) / "weights") if after else "",
            "prompt": str(prompt) if has_prompt else "",
            "fps": clip.fps,
            "seed": seed,
            "frames": study.limits.frames,
        }
        name = f"{arm.title}, {clip.name}, seed {seed}"
        restored = Cell("restored", name, key, given, (low, *after))
        tasks.append(Task(clip, seed, restored, plan_scores(study, config, clip, arm.level, restored, store)))
    return tasks


def plan_low(config: Config, clip: Clip, level: str, store: Store, study: Study) -> Cell:
    """Plan the low-quality version of a clip by Eq. 13; its seed depends only on the name of the clip."""
    key = {
        "clips": clip.cell.hash,
        "index": clip.index,
        "level": level,
        "scale": config.video.scale,
        "scale_sigma": config.degradation.scale_sigma,
        "seed": piece_seed(clip.name),
    }
    given = {"sharp": str(sharp_folder(clip, store))}
    return Cell("low", f"{clip.name}, {level}", key, given, (clip.cell,))


def plan_lora(study: Study, name: str, person: Folder, root: Path) -> Cell:
    """Plan the training of one person's LoRA."""
    file, pairs = training_options(study, name)
    config = load_config(file, pairs)
    key = {
        "training": read_by(LORA, config),
        # The recogniser that checks that all scenes show one person is left out: it does not change the training.
        "weights": digests(config, (*needed_parts(config), *WORDS)),
        "reward": digest_of(config.reward.recogniser),
        "detector": detector_digests(config.faces),
        "train": [sha256(p) for p in person.train],
        "references": [sha256(p) for p in person.references],
        "prompt": _prompt_digest(root, person),
    }
    given = {"file": str(file), "pairs": [*pairs, f"data.root={root}", f"data.identity={person.name}"]}
    return Cell("lora", f"LoRA '{name}' of {person.name}", key, given)


def training_options(study: Study, name: str) -> tuple[Path, list[str]]:
    """Return the configuration file of a LoRA's training and the ``key=value`` options on top of it."""
    # The rows' own options are left out, because all tables share their LoRAs.
    pairs = [f"preset={study.preset}", *study.limits.set, *study.given, *study.experiment.loras[name]]
    return study.file.parent / study.experiment.training, pairs


def settings_note(study: Study) -> str:
    """Return a sentence with the settings that the paper's equations leave open, for the reader of a table."""
    config = study.config()
    sampler, steps = config.sampler, f"{config.sampler.steps} step{'s' * (config.sampler.steps != 1)}"
    parts = [
        f"ipfvr restores in {steps}, with lambda = {config.image_prompt.scale:g} in Eq. 4 and guider {sampler.guider}"
    ]
    if sampler.guider == Guiders.multi_stream:
        parts.append(f"w_nt {sampler.negative_text:g}, w_nv {sampler.negative_visual:g}")
    for name in study.experiment.loras:
        training = load_config(*training_options(study, name))
        parts.append(
            f"LoRA '{name}': {training.optimizer.steps} steps, lr {training.optimizer.lr:g}, reward weight "
            f"{training.loss.reward:g}, gamma {training.reward.gamma:g}, {training.reward.statistics}"
        )
    return "; ".join(parts) + "; options of a row, where it has some, stand below the table"


def plan_scores(study: Study, config: Config, clip: Clip, level: str, restored: Cell, store: Store) -> Cell:
    """Plan the scores of a restored clip; IDS to the reference uses the pictures that the rows see."""
    references = clip.person.references[: max(1, study.experiment.references)]
    borders = clip_borders(study.limits.frames, config.video.clip_frames, config.video.overlap)
    judge = choose_judge(study.config()).name
    key = {
        "restored": restored.hash,
        "truth": level != "real",
        "references": [sha256(p) for p in references],
        "borders": borders,
        "recogniser": digest_of(judge),
        "weights": {name: found for name in WEIGHTS if (found := _digest(name))},
    }
    given = {
        "restored": str(store.folder(restored) / "frames"),
        "truth": str(sharp_folder(clip, store)) if level != "real" else "",
        "references": [str(p) for p in references],
        "pairs": [*study.pairs, f"weights.recogniser={judge}"],
        "clip": clip.name,
    }
    return Cell("scores", restored.name, key, given, (restored,))


def clip_borders(frames: int, length: int, overlap: int) -> list[int]:
    """Return the first kept frame of each window but the first: see :func:`ipfvr.video.clips.clip_windows`."""
    from ipfvr.video.clips import clip_windows

    return [window.keep_start for window in clip_windows(frames, length, overlap)[1:]]


def sharp_folder(clip: Clip, store: Store) -> Path:
    """Return the folder of a clip's sharp frames."""
    return store.folder(clip.cell) / f"{clip.index:02d}"


def missing_weights(config: Config, method: str) -> list[str]:
    """Return a line for each missing file of weights that a row of ours needs: its source, size and licence."""
    if method not in OURS:
        return []
    lines = []
    for part, reason in sorted(absent(config, needed_parts(config, references=method == "ipfvr")).items()):
        entry = ENTRIES.get(getattr(config.weights, part))
        source = f"{entry.size}, from {entry.hub or entry.page}" if entry else "your own path"
        lines.append(f"weights.{part}: {reason} ({source})")
    return lines


def _prompt_digest(root: Path, person: Folder) -> str:
    """Return the SHA-256 of a person's ``prompt.yaml``; empty: there is none."""
    prompt = root / person.name / "prompt.yaml"
    return sha256(prompt) if prompt.is_file() else ""


def _digest(name: str) -> str:
    """Return the SHA-256 of a registered file of weights; empty: it is missing."""
    path = find(ENTRIES[name])
    return sha256(path) if path is not None else ""
