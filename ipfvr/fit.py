"""Train a network: ``python -m ipfvr.fit --config experiments/mini/joint.yaml key=value ...``.

The same command resumes an interrupted training; ``--restart`` begins again. Every checkpoint also writes the latest
averaged weights to ``<train.output>/weights``.
"""

from __future__ import annotations

import argparse

from ipfvr.core.errors import run_verb
from ipfvr.core.option_list import option_list


def make_parser() -> argparse.ArgumentParser:
    """Make the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m ipfvr.fit",
        description=__doc__.splitlines()[0],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config", required=True, help="an experiment file, such as experiments/mini/joint.yaml")
    parser.add_argument(
        "--restart", action="store_true", help="begin again, and ignore the checkpoint of an earlier run"
    )
    parser.add_argument("--dry-run", action="store_true", help="print the whole configuration and train nothing")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="options, see below")
    parser.epilog = (
        "trainer.<argument> passes an argument to Lightning's Trainer, such as trainer.strategy=ddp;\n"
        "trainer.callbacks and trainer.logger take names of Lightning's callbacks and loggers.\n\n"
        f"options of trainings, with their defaults (a preset or the file may differ):\n\n{_options()}"
    )
    return parser


def main(argv: list[str] | None = None) -> None:
    """Run the command line."""
    args = make_parser().parse_args(argv)
    # Imported here and below, since this takes seconds that --help does not need.
    from ipfvr.core.config import config_to_dict, load_config

    config = load_config(args.config, args.overrides)
    if args.dry_run:
        from omegaconf import OmegaConf

        print(OmegaConf.to_yaml(OmegaConf.create(config_to_dict(config))), end="")
        return
    from ipfvr.training.run import fit

    fit(config, restart=args.restart)


def _options() -> str:
    return option_list(("data", "optimizer", "loss", "polish", "lora", "reward", "recogniser", "train"))


if __name__ == "__main__":
    raise SystemExit(run_verb(main))
