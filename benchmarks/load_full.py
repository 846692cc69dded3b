"""Memory for loading the full-size denoiser: ``python benchmarks/load_full.py [--size small]``.

Makes a half-precision file of random numbers in the official format, loads it in a fresh process onto a denoiser
built on the meta device, and reads every weight once, so that every page of the file counts. Printed is the highest
resident size of that process (Linux's VmHWM, which counts pages mapped from the file as well as the process's own),
libraries included, over the file's size; exit status 1 above 1.2. Of the small network the libraries are many times
larger than the file, so there only what loading adds to the process is compared.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from safetensors.torch import save_file

from ipfvr.core.errors import UserError, run_verb
from ipfvr.core.options import DenoiserConfig
from ipfvr.models.checkpoints import load_denoiser, official_names
from ipfvr.models.unet import VideoDenoiser, build_denoiser

LIMIT = 1.2
SIZES = {"full": DenoiserConfig(), "small": DenoiserConfig(width=32, head_dim=16)}


def main(argv: list[str] | None = None) -> None:
    """Measure, or (``--load``) be the process that is measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="full")
    parser.add_argument("--format", choices=["pt", "safetensors"], default="pt")
    parser.add_argument("--folder", help="where the file is made for the time being (default: the system's)")
    parser.add_argument("--load", help="load this file and print what it took, as JSON")
    args = parser.parse_args(argv)
    if not Path("/proc/self/status").is_file():
        raise UserError("memory is read from /proc/self/status, which this system does not have: run it on Linux")
    if args.load:
        print(json.dumps(load(args.size, Path(args.load))))
        return
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        path = Path(folder) / f"random.{args.format}"
        write_random(args.size, path)
        size = path.stat().st_size
        command = [sys.executable, __file__, "--size", args.size, "--load", str(path)]
        result = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    peak = result["peak"] if args.size == "full" else result["peak"] - result["before"]
    print(f"file                {size / 1e6:10.1f} MB, {result['parameters'] / 1e6:.1f} M parameters, {args.format}")
    print(f"before loading      {result['before'] / 1e6:10.1f} MB (libraries and an empty denoiser)")
    print(f"peak                {result['peak'] / 1e6:10.1f} MB, of the file's pages {result['file'] / 1e6:.1f} MB")
    print(f"seconds             {result['seconds']:10.1f}")
    print(f"{'peak' if args.size == 'full' else 'added'} / file size    {peak / size:10.3f} (limit {LIMIT})")
    if peak > LIMIT * size:
        raise SystemExit(1)


def write_random(size: str, path: Path) -> None:
    """Write an official-format file of half-precision random numbers."""
    generator = torch.Generator().manual_seed(0)
    weights = {
        name: torch.rand(shape, generator=generator, dtype=torch.float16)
        for name, shape in official_names(_on_meta(size)).values()
    }
    if path.suffix == ".pt":
        torch.save({"state_dict": weights}, path)
    else:
        save_file(weights, path)


def load(size: str, path: Path) -> dict[str, float]:
    """Load ``path``, read every weight, and say what it took: bytes, seconds, number of parameters."""
    denoiser = _on_meta(size)
    before, start = _status("VmRSS"), time.monotonic()
    load_denoiser(denoiser, path)
    for weight in denoiser.parameters():
        weight.detach().view(torch.int16).max()  # reads every page without a copy in another type
    return {
        "before": before,
        "peak": _status("VmHWM"),
        "file": _status("RssFile") + _status("RssShmem"),
        "seconds": time.monotonic() - start,
        "parameters": sum(weight.numel() for weight in denoiser.parameters()),
    }


def _on_meta(size: str) -> VideoDenoiser:
    with torch.device("meta"):
        return build_denoiser(SIZES[size])


def _status(field: str) -> int:
    """Bytes of a field of /proc/self/status."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(field + ":")).split()[1])


if __name__ == "__main__":
    raise SystemExit(run_verb(main))
