"""Train a network: ``python -m ipfvr.fit --config experiments/mini/joint.yaml key=value ...``.

A stopped training goes on where it was when the same command is given again; ``--restart`` begins anew.
The latest averaged weights are written to ``<train.output>/weights`` at every checkpoint.
"""

from __future__ import annotations

import argparse

from ipfvr.core.errors import run_verb
from ipfvr.core.option_list import option_list


def make_parser() -> argparse.ArgumentParser:
    """The verb's arguments."""
    parser = argparse.ArgumentParser(
        prog="python -m ipfvr.fit",
        description=__doc__.splitlines()[0],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config", required=True, help="an experiment file, such as experiments/mini/joint.yaml")
    parser.add_argument("--restart", action="store_true", help="begin anew though a checkpoint is there")
    parser.add_argument("--dry-run", action="store_true", help="print the whole configuration and train nothing")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="options; those of trainings are below")
    parser.epilog = f"options of trainings, with their defaults (a preset or the file may differ):\n\n{_options()}"
    return parser


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    args = make_parser().parse_args(argv)
    # Imported here and below: --help needs none of the seconds that this takes.
    from ipfvr.core.config import config_to_dict, load_config

    config = load_config(args.config, args.overrides)
    if args.dry_run:
        from omegaconf import OmegaConf

        print(OmegaConf.to_yaml(OmegaConf.create(config_to_dict(config))), end="")
        return
    from ipfvr.training.run import fit

    fit(config, restart=args.restart)


def _options() -> str:
    return option_list(("data", "optimizer", "loss", "polish", "lora", "reward", "train"))


if __name__ == "__main__":
    raise SystemExit(run_verb(main))
