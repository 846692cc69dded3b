"""The LoRAs that a job asks for by ``--learn``: of everybody who is in the video, has references and has none yet."""

from __future__ import annotations

from dataclasses import replace

from ipfvr.core.options import Config
from ipfvr.film.job import Job, Person
from ipfvr.film.plan import Plan
from ipfvr.training.pictures import is_learned, learned_folder, learned_lora


def with_learned(job: Job, plan: Plan, config: Config) -> Job:
    """The job with a LoRA for everybody of the plan who had none, learnt from their references where it is not kept.

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
    """The names of those whose LoRA is not kept from an earlier job."""
    missing = _without_lora(job, plan, config)
    return [p.name for p in missing if not is_learned(learned_folder(p.config(config), p.references, job.face))]


def _without_lora(job: Job, plan: Plan, config: Config) -> list[Person]:
    """Those who are restored, have references and no LoRA."""
    return [p for p in job.everybody if p.name in plan.people and not (p.lora or config.weights.lora)]
