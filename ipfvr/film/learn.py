"""The LoRAs of ``--learn``: one for each person who is in the video, has references and has no LoRA yet."""

from __future__ import annotations

from dataclasses import replace

from ipfvr.core.options import Config
from ipfvr.film.job import Job, Person
from ipfvr.film.plan import Plan
from ipfvr.training.pictures import is_learned, learned_folder, learned_lora


def with_learned(job: Job, plan: Plan, config: Config) -> Job:
    """Return the job with a LoRA for each person of the plan who had none.

    A LoRA that an earlier job trained from the same references is used again; otherwise it is trained now.

    Args:
        job, plan, config: the job.

    Raises:
        UserError: as :func:`ipfvr.training.pictures.learned_lora`.
    """
    missing = _without_lora(job, plan, config)
    people = tuple(
        replace(p, lora=str(learned_lora(p.config(config), p.name, p.references, job.face)), learned=True)
        if p in missing
        else p
        for p in job.everybody
    )
    return replace(job, references=(), people=people)


def to_learn(job: Job, plan: Plan, config: Config) -> list[str]:
    """Return the names of the people whose LoRA no earlier job has trained."""
    missing = _without_lora(job, plan, config)
    return [p.name for p in missing if not is_learned(learned_folder(p.config(config), p.references, job.face))]


def _without_lora(job: Job, plan: Plan, config: Config) -> list[Person]:
    """Return the people who are restored and have references but no LoRA, without ``learn.skip``."""
    named = [p for p in job.everybody if p.name in plan.people and p.name not in config.learn.skip]
    return [p for p in named if not (p.lora or config.weights.lora)]
