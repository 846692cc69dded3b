"""The people of a job: who they are to the recogniser, and the networks that restore each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from ipfvr.core.options import Config
from ipfvr.film.job import Job, Person
from ipfvr.film.plan import Plan
from ipfvr.identity.face2text import with_words
from ipfvr.identity.prompt_file import read_by_hand
from ipfvr.models.networks import load_networks
from ipfvr.restoration import Restorer
from ipfvr.video.reader import VideoReader

_EXPRESSIONS = 5  # frames in which a person's expression is read


@dataclass
class LoadedPeople:
    """Everybody's restorer, and how they were made.

    Attributes:
        restorers: by who is restored.
        without: by who is restored, of those whose LoRA is learned from the references: what restores without either.
        words: by who is restored: the prompts and what they were made of.
        records: by who is restored, for the report.
        notes: what a restorer can act upon, a line each.
        asides: what a restorer can do nothing about, a line each.
        readers: the weights that read the persons' words, by their part.
    """

    restorers: dict[str, Restorer] = field(default_factory=dict)
    without: dict[str, Restorer] = field(default_factory=dict)
    words: dict[str, dict[str, Any]] = field(default_factory=dict)
    records: dict[str, dict[str, Any]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    asides: list[str] = field(default_factory=list)
    readers: dict[str, Path] = field(default_factory=dict)

    @property
    def files(self) -> dict[str, Path]:
        """The weights that were loaded; a person's own, such as the LoRA, under the person's name where they differ."""
        found = dict(self.readers)
        for who, restorer in self.restorers.items():
            for part, path in restorer.files.items():
                found[part if found.get(part, path) == path else f"{part} of {who}"] = path
        return found


def load_people(
    job: Job,
    plan: Plan,
    config: Config,
    reader: VideoReader,
    references: Mapping[str, Sequence[np.ndarray]],
    words: Mapping[str, Any] | None,
) -> LoadedPeople:
    """Load what restores each person of the plan.

    Networks are loaded once; people with a LoRA of their own have a denoiser of their own.

    Args:
        job, plan, config: the job.
        reader: the source, in which expressions are read.
        references: aligned crops of each person's pictures, by name; see :func:`ipfvr.film.analysis.reference_crops`.
        words: of each person, from an earlier run; None: they are composed now.

    Raises:
        UserError: weights, LoRA or prompt file that cannot be used.
    """
    loaded, networks = LoadedPeople(), []
    people = {person.name: person for person in job.everybody}
    expressions = {} if words is not None else _expressions(plan, reader, config, people)
    for who in plan.people:
        # A LoRA or words without a reference are for everybody: nobody knows who is who.
        person = people.get(who, Person(who))
        own = person.config(config) if who in people or not people else _for_nobody(config)
        faces = list(references.get(who, ()))
        if words is None:
            by_hand = read_by_hand(person.references, own)
            own, record = with_words(own, faces, by_hand, expressions.get(who, []))
        else:
            record = dict(words[who])
            spoken = {key: record[key] for key in ("positive", "negative") if key in record}
            own = replace(own, prompt=replace(own.prompt, **spoken))
        loaded.words[who] = record
        loaded.notes += record.get("notes", [])
        loaded.asides += record.get("asides", [])
        restorer = Restorer(own, load_networks(own, networks))
        loaded.readers |= {name: Path(path) for name, path in record.get("files", {}).items()}
        loaded.records[who] = _show(restorer, person, faces, record)
        loaded.restorers[who] = restorer
        if person.learned:
            plain = replace(own, weights=replace(own.weights, lora=""))
            loaded.without[who] = Restorer(plain, load_networks(plain, networks))
    if any(record.get("image_prompt", "").startswith("not used") for record in loaded.records.values()):
        loaded.notes.append("without weights.adapter the network does not see the reference")
    return loaded


def _for_nobody(config: Config) -> Config:
    """How faces of nobody that was named are restored: without anybody's LoRA and words."""
    return replace(
        config, weights=replace(config.weights, lora=""), prompt=replace(config.prompt, file="", describe=False)
    )


def _show(restorer: Restorer, person: Person, faces: Sequence[np.ndarray], words: Mapping[str, Any]) -> dict[str, Any]:
    said = {key: value for key, value in words.items() if key != "files"}
    record: dict[str, Any] = {"references": [str(path) for path in person.references], "words": said}
    if faces:
        tokens = restorer.show_references(faces)
        adapter = restorer.config.weights.adapter
        record["reference_tokens"] = None if tokens is None else list(tokens.shape)
        record["image_prompt"] = "not used: weights.adapter is empty" if tokens is None else adapter
    card = restorer.lora
    record["lora"] = card and {"person": card["identity"], "sha256": card["adapter_sha256"]}
    return record


def _expressions(
    plan: Plan, reader: VideoReader, config: Config, people: Mapping[str, Person]
) -> dict[str, list[np.ndarray]]:
    """A few low-quality squares of each person from all over the video, in which the expression is read."""
    chosen: dict[int, list] = {}
    for who in plan.people:
        roles = [role for role in plan.roles if role.who == who]
        if config.prompt.describe and who in people and roles:
            seen = np.concatenate([np.arange(role.start, role.stop) for role in roles])
            picks = seen[np.linspace(0, len(seen) - 1, _EXPRESSIONS).round().astype(int)]
            for index in sorted({int(i) for i in picks}):
                chosen.setdefault(index, []).append(next(r for r in roles if r.start <= index < r.stop))
    found: dict[str, list[np.ndarray]] = {}
    for frame in reader.frames_at(chosen):
        for role in chosen[frame.index]:
            found.setdefault(role.who, []).append(role.low(frame.index, frame.image, config.video.size))
    return found
