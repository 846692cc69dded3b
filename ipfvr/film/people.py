"""The people of a job, and the networks and conditions that restore each of them."""

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
    """The restorers of all people, by name.

    Attributes:
        people: the restorer of each person.
        plain: the restorer without the LoRA, for each person whose LoRA was learned from the references.
        records: how each person is restored, for the report.
        notes: notes that a user can act upon, one line each.
        asides: notes that a user cannot act upon, one line each.
    """

    people: dict[str, PersonRestorer] = field(default_factory=dict)
    plain: dict[str, PersonRestorer] = field(default_factory=dict)
    records: dict[str, dict[str, Any]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    asides: list[str] = field(default_factory=list)

    @property
    def steps(self) -> int:
        """The number of solver steps for one clip; 0 if there are no people."""
        return max((person.restorer.steps for person in self.people.values()), default=0)

    @property
    def words(self) -> dict[str, Mapping[str, Any]]:
        """The prompts of each person and what they were made from, to be kept for a later run."""
        return {who: person.words for who, person in self.people.items()}

    @property
    def files(self) -> dict[str, Path]:
        """The weights that were loaded, by part; weights that differ between people carry the person's name."""
        found: dict[str, Path] = {}
        for who, person in self.people.items():
            for part, path in person.files.items():
                found[part if found.get(part, path) == path else f"{part} of {who}"] = path
        return found

    def without_references(self, who: str) -> PersonRestorer:
        """Return the restorer of a person as if no reference had been given."""
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
    """Load the restorer of each person of the plan.

    Networks are loaded once and shared; a person with their own LoRA gets their own denoiser.

    Args:
        job, plan, config: the job.
        reader: the source, whose frames show the expressions.
        references: aligned crops of each person's pictures, by name; see :func:`ipfvr.film.analysis.reference_crops`.
        words: the prompts of each person from an earlier run; None: they are composed now.
        networks: the networks of earlier jobs with the same configuration; those loaded now are added to the list.

    Raises:
        UserError: weights, a LoRA or a prompt file cannot be used.
    """
    loaded, networks = LoadedPeople(), [] if networks is None else networks
    known = {person.name: person for person in job.everybody}
    expressions = {} if words is not None else _expressions(plan, reader, config, known)
    for who in plan.people:
        # Without references nobody can be recognised, so a LoRA or words then apply to every face.
        person = known.get(who, Person(who))
        own = person.config(config) if who in known or not known else _for_others(config)
        by_hand = read_by_hand(person.references, own) if words is None else None
        restorer = Restorer(own, load_networks(own, networks))
        faces, earlier = list(references.get(who, ())), None if words is None else dict(words[who])
        ready = prepare_person(restorer, faces, by_hand, expressions.get(who, []), earlier)
        if person.learned:
            plain = replace(own, weights=replace(own.weights, lora=""))
            without_lora = Restorer(plain, load_networks(plain, networks))
            loaded.plain[who] = prepare_person(without_lora, (), words=ready.words)
        loaded.people[who] = ready
        loaded.records[who] = _record(ready, person, faces)
        loaded.notes += ready.notes
        loaded.asides += ready.asides
    if any(record.get("image_prompt", "").startswith("not used") for record in loaded.records.values()):
        loaded.notes.append("weights.adapter is empty, so the network does not see the reference")
    return loaded


def _for_others(config: Config) -> Config:
    """Return the configuration for the faces of other people: without any person's LoRA and words."""
    return replace(
        config, weights=replace(config.weights, lora=""), prompt=replace(config.prompt, file="", describe=False)
    )


def _record(ready: PersonRestorer, person: Person, faces: Sequence[np.ndarray]) -> dict[str, Any]:
    """Return how a person is restored, for the report."""
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
    """Return a few low-quality crops of each person from the whole video; they show the person's expression."""
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
