"""The people of a job: who they are to the recogniser, and the networks that restore each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from ipfvr.conditioning.prompt_file import read_by_hand
from ipfvr.core.options import Config
from ipfvr.film.job import Job, Person
from ipfvr.film.plan import Plan
from ipfvr.models.networks import Networks, load_networks
from ipfvr.restoration.person import PersonRestorer, expression_frames, prepare_person
from ipfvr.restoration.restorer import Restorer
from ipfvr.video.reader import VideoReader


@dataclass
class LoadedPeople:
    """Everybody who is restored, ready to be restored, by name.

    Attributes:
        people: each with what restores them.
        plain: of those whose LoRA is learned from the references: the same without that LoRA.
        records: how each is restored, for the report.
        notes: what a user can act upon, a line each.
        asides: what a user can do nothing about, a line each.
    """

    people: dict[str, PersonRestorer] = field(default_factory=dict)
    plain: dict[str, PersonRestorer] = field(default_factory=dict)
    records: dict[str, dict[str, Any]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    asides: list[str] = field(default_factory=list)

    @property
    def steps(self) -> int:
        """Solver steps that a clip takes; 0 where there is nobody."""
        return max((person.restorer.steps for person in self.people.values()), default=0)

    @property
    def words(self) -> dict[str, Mapping[str, Any]]:
        """Everybody's prompts and what they were made of, to be kept for a later run."""
        return {who: person.words for who, person in self.people.items()}

    @property
    def files(self) -> dict[str, Path]:
        """The weights that were loaded; a person's own, such as the LoRA, under the person's name where they differ."""
        found: dict[str, Path] = {}
        for who, person in self.people.items():
            for part, path in person.files.items():
                found[part if found.get(part, path) == path else f"{part} of {who}"] = path
        return found

    def without_references(self, who: str) -> PersonRestorer:
        """What restores a person whose references are not known."""
        return self.plain.get(who, self.people[who]).alone()


def load_people(
    job: Job,
    plan: Plan,
    config: Config,
    reader: VideoReader,
    references: Mapping[str, Sequence[np.ndarray]],
    words: Mapping[str, Any] | None,
    networks: list[Networks] | None = None,
) -> LoadedPeople:
    """Load what restores each person of the plan.

    Networks are loaded once; people with a LoRA of their own have a denoiser of their own.

    Args:
        job, plan, config: the job.
        reader: the source, in which expressions are read.
        references: aligned crops of each person's pictures, by name; see :func:`ipfvr.film.analysis.reference_crops`.
        words: of each person, from an earlier run; None: they are composed now.
        networks: those of earlier jobs with the same configuration; what is loaded now is added to them.

    Raises:
        UserError: weights, LoRA or prompt file that cannot be used.
    """
    loaded, networks = LoadedPeople(), [] if networks is None else networks
    known = {person.name: person for person in job.everybody}
    expressions = {} if words is not None else _expressions(plan, reader, config, known)
    for who in plan.people:
        # A LoRA or words without a reference are for everybody: nobody knows who is who.
        person = known.get(who, Person(who))
        own = person.config(config) if who in known or not known else _for_strangers(config)
        by_hand = read_by_hand(person.references, own) if words is None else None
        restorer = Restorer(own, load_networks(own, networks))
        faces, earlier = list(references.get(who, ())), None if words is None else dict(words[who])
        ready = prepare_person(restorer, faces, by_hand, expressions.get(who, []), earlier)
        if person.learned:
            plain = replace(own, weights=replace(own.weights, lora=""))
            bare = Restorer(plain, load_networks(plain, networks))
            loaded.plain[who] = prepare_person(bare, (), words=ready.words)
        loaded.people[who] = ready
        loaded.records[who] = _record(ready, person, faces)
        loaded.notes += ready.notes
        loaded.asides += ready.asides
    if any(record.get("image_prompt", "").startswith("not used") for record in loaded.records.values()):
        loaded.notes.append("without weights.adapter the network does not see the reference")
    return loaded


def _for_strangers(config: Config) -> Config:
    """How faces of nobody that was named are restored: without anybody's LoRA and words."""
    return replace(
        config, weights=replace(config.weights, lora=""), prompt=replace(config.prompt, file="", describe=False)
    )


def _record(ready: PersonRestorer, person: Person, faces: Sequence[np.ndarray]) -> dict[str, Any]:
    """How a person is restored, for the report."""
    words = {key: value for key, value in ready.words.items() if key != "files"}
    record: dict[str, Any] = {"references": [str(path) for path in person.references], "words": words}
    if faces:
        tokens = ready.conditions.image_tokens if ready.conditions.references else None
        record["reference_tokens"] = None if tokens is None else list(tokens.shape)
        adapter = ready.config.weights.adapter
        record["image_prompt"] = "not used: weights.adapter is empty" if tokens is None else adapter
    card = ready.restorer.networks.lora
    record["lora"] = card and {"person": card["identity"], "sha256": card["adapter_sha256"]}
    return record


def _expressions(
    plan: Plan, reader: VideoReader, config: Config, known: Mapping[str, Person]
) -> dict[str, list[np.ndarray]]:
    """A few low-quality squares of each person from all over the video, in which the expression is read."""
    chosen: dict[int, list] = {}
    for who in plan.people:
        presences = [presence for presence in plan.presences if presence.who == who]
        if config.prompt.describe and who in known and presences:
            seen = np.concatenate([np.arange(presence.start, presence.stop) for presence in presences])
            for index in expression_frames(seen):
                chosen.setdefault(index, []).append(next(p for p in presences if p.start <= index < p.stop))
    found: dict[str, list[np.ndarray]] = {}
    for frame in reader.frames_at(chosen):
        for presence in chosen[frame.index]:
            found.setdefault(presence.who, []).append(presence.low(frame.index, frame.image, config.video.size))
    return found
