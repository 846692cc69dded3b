"""The full preset phase by phase on random weights: seconds, peak memory, operations, and what is left to gain.

    python benchmarks/full_size.py --size full --output runs/full_size
    python benchmarks/full_size.py --size small                    # the same code, narrow networks, for a processor
    python benchmarks/full_size.py --size wide --only unet guided  # full widths, little pictures: 13 GB of memory
    python benchmarks/full_size.py --size full --weights /folder   # the public weights, where they are
    python benchmarks/full_size.py --size full --only unet clip sampler.batch_streams=never

Files of random numbers in the official formats are made and loaded by the real loaders, so nothing has to be fetched to
find out whether a card is large enough. Each phase is run once for warmth and then ``--repeats`` times; seconds are the
median, by the device's own events on a GPU. Operations are counted as torch counts them, ``at the matrix rate`` is
the time that they would take if all of them ran as fast as one large matrix product on this device, and the ratio says
how much slower it is. Writes ``table.md`` and ``results.json``.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry
from tqdm import tqdm

from ipfvr.core.arguments import parse_lists
from ipfvr.core.config import config_to_dict, load_config
from ipfvr.core.devices import choose_device, choose_dtype
from ipfvr.core.errors import UserError, run_verb
from ipfvr.core.files import atomic, write_json
from ipfvr.core.options import Config
from ipfvr.core.provenance import versions
from ipfvr.data.sample import LANDMARKS, portrait, sample_clip
from ipfvr.diffusion.guidance import NEGATIVE_TEXT, NEGATIVE_VISUAL, POSITIVE
from ipfvr.diffusion.streams import Hint, Streams
from ipfvr.faces.align import crop, crop_matrix
from ipfvr.models.adapter import adapter_modules
from ipfvr.models.backbone import make_denoiser, make_image_prompt
from ipfvr.models.checkpoints import official_names
from ipfvr.models.image import ImageEncoder
from ipfvr.models.text import TextEncoder, byte_tokenizer
from ipfvr.models.vae import LatentCodec
from ipfvr.restoration.restorer import Restorer
from ipfvr.study.people import SAMPLE, write_sample
from ipfvr.training.lora import make_lora_training

MEMORY = Path("/dev/shm")  # where there is one, the random weights need not go to a disk
SECTIONS = ("video", "vae", "text", "image", "image_prompt", "denoiser", "weights")  # that say what is measured
PARTS = ("vae", "text", "image", "denoiser", "adapter")
ORIGINAL = 160  # columns of latents: the original pads a square of 720 pixels to 1280
NARROW = [
    *("video.size=80", "video.clip_frames=8", "video.overlap=4", "sampler.steps=3"),
    *("vae.block_out_channels=[16,32,32,32]", "vae.layers_per_block=1", "vae.norm_groups=8"),
    *("text.width=64", "text.layers=2", "text.heads=4", "text.intermediate=128", "text.projection=64"),
    *("image.size=56", "image.width=64", "image.layers=2", "image.heads=4", "image.intermediate=128"),
    *("image.projection=64", "image_prompt.depth=1", "image_prompt.heads=4", "image_prompt.head_dim=16"),
    *("image_prompt.width=64", "denoiser.width=32", "denoiser.head_dim=16", "denoiser.text_width=64"),
    *("denoiser.norm_groups=8", "denoiser.input_heads=2"),
]
# wide: the full widths on little pictures, to see on a processor that they run.
WIDE = ["video.size=112", "video.clip_frames=2", "video.overlap=1", "sampler.steps=2"]
SIZES = {"full": [], "wide": WIDE, "small": NARROW}


@dataclass
class Phase:
    """What one phase took.

    Attributes:
        name: of the phase.
        seconds: median.
        peak: bytes, the highest that the device held while it ran; 0 on a processor.
        operations: floating-point operations.
    """

    name: str
    seconds: float
    peak: int
    operations: float


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--output", type=Path, default=Path("runs/full_size"))
    parser.add_argument("--weights", type=Path, help="folder of real weights, laid out as docs/full.md says")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.0, help="begin no phase after so many; 0: all of them")
    parser.add_argument("--lora-steps", type=int, default=0, help="default: 100 at full size, else 2")
    parser.add_argument("--only", nargs="+", default=[], metavar="PHASE", help="phases whose name begins so")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    args = parse_lists(parser, argv, "only")
    began = time.monotonic()
    only, pairs = tuple(args.only), ["preset=full", *SIZES[args.size], *args.overrides]
    config = load_config(None, pairs)
    device = choose_device(config.device)
    if args.size == "full" and device.type != "cuda":
        raise UserError("--size full needs a GPU, and torch sees none here: --size small runs anywhere")
    steps = args.lora_steps or (100 if args.size == "full" else 2)
    rate = matrix_rate(device, choose_dtype(config.dtype, device))
    found: list[Phase] = []
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as room:
        weights = real_weights(args.weights) if args.weights else random_weights(config, Path(room), device)
        config = load_config(None, [*pairs, *weights])
        bar = tqdm(leave=False, unit="phase")
        learning = not only or any(word.startswith("lora") for word in only)
        phases = [restoring_phases(config, args.repeats)]
        phases += [learning_phases(config, Path(room), args.repeats, steps)] if learning else []
        for some in phases:
            for name, work, repeats in some:
                late = 0 < args.seconds < time.monotonic() - began
                if not late and (not only or name.startswith(only)):
                    bar.set_postfix_str(name)
                    found.append(measure(name, work, repeats, device))
                    _write_table(args.output, found, rate)  # as it goes: a cut loses nothing
                    bar.update()
        bar.close()
    print((args.output / "table.md").read_text() if found else "not run: no phase began in time")
    card = torch.cuda.get_device_name(device) if device.type == "cuda" else f"cpu, {torch.get_num_threads()} threads"
    facts = {"size": args.size, "device": card, "matrix_rate": rate, "versions": versions(), "lora_steps": steps}
    facts |= {"configuration": config_to_dict(config), "weights": "real" if args.weights else "random"}
    write_json(args.output / "results.json", {**facts, "phases": [asdict(phase) for phase in found]})


@torch.no_grad()
def restoring_phases(config: Config, repeats: int) -> Iterator[tuple[str, Callable[[], Any], int]]:
    """Name, work and repeats of every phase of restoring a clip."""
    restorer = Restorer(config)
    networks, size, frames = restorer.networks, config.video.size, config.video.clip_frames
    device, dtype, codec, denoiser = networks.device, networks.dtype, networks.codec, networks.denoiser
    sharp = sample_clip(frames, size)
    low = sharp[:, :: config.video.scale, :: config.video.scale]
    face = crop(portrait(), crop_matrix(LANDMARKS, size), size)
    pixels = torch.from_numpy(sharp).to(device).permute(0, 3, 1, 2) / 127.5 - 1
    z = torch.randn_like(codec.encode(pixels))
    rows, columns = z.shape[-2:]
    yield "vae encode", lambda: codec.encode(pixels), repeats
    yield "vae decode", lambda: codec.decode(z), repeats
    yield "text encoder", restorer.conditions, repeats
    yield "text and image encoder, two pictures", lambda: restorer.conditions([face]), repeats
    person = restorer.conditions([face])

    def inputs(width: int) -> tuple[Tensor, ...]:
        x = torch.randn(1, config.denoiser.in_channels, frames, rows, width, device=device, dtype=dtype)
        number = torch.ones(1, dtype=torch.long, device=device)
        mask = torch.zeros(1, frames, dtype=torch.long, device=device)
        return x, 899 * number, person.text, x.clone(), 199 * number, config.video.scale * number, mask

    given, tokens = inputs(columns), person.image_tokens
    control = denoiser.control(*given)
    yield "controlnet", lambda: denoiser.control(*given), repeats
    yield "unet, words alone", lambda: denoiser(*given, None, control), repeats
    yield "unet, words and picture", lambda: denoiser(*given, tokens, control), repeats
    wide = inputs(ORIGINAL if columns < ORIGINAL and rows > 64 else 2 * columns)
    yield f"network, {columns} columns", lambda: denoiser(*given, tokens), repeats
    yield f"network, {wide[0].shape[-1]} columns", lambda: denoiser(*wide, tokens), repeats
    names = (POSITIVE, NEGATIVE_VISUAL, NEGATIVE_TEXT)
    branches = person.branches(names)
    hint, streams = Hint(given[3], 199, config.video.scale, given[6]), Streams(config.sampler.batch_streams)
    for count in (1, 2, 3):
        some = {name: branches[name] for name in names[:count]}
        work = partial(streams.predict, denoiser, given[0], 899, some, hint)
        yield f"guided step, {count} streams", work, repeats
    name = f"clip, {frames} x {size} x {size}, {restorer.steps} steps, all streams"
    yield name, lambda: restorer.restore(low, person), max(1, repeats // 2)


def learning_phases(
    config: Config, room: Path, repeats: int, steps: int
) -> Iterator[tuple[str, Callable[[], Any], int]]:
    """Name, work and repeats of the steps of a LoRA, without and with the reward."""
    write_sample(room / "data", [SAMPLE])
    file = Path(__file__).parents[1] / "experiments" / "lora.yaml"
    pairs = ["preset=full", f"data.root={room / 'data'}", f"data.identity={SAMPLE}", "data.scene_frames=60"]
    lora = load_config(file, [*pairs, "loss.highest_noise=0", f"device={config.device}"])
    lora = replace(lora, **{name: getattr(config, name) for name in SECTIONS})
    lora = replace(lora, denoiser=replace(config.denoiser, gradient_checkpointing=True))
    module, data = make_lora_training(lora)
    device = choose_device(config.device)
    module.to(device).log_dict = lambda *_, **__: None  # there is no Trainer
    data.setup("fit")
    batch = {k: v.to(device) if isinstance(v, Tensor) else v for k, v in next(iter(data.train_dataloader())).items()}
    learnt = [p for p in module.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(learnt, lr=1e-4)
    kind = choose_dtype(config.dtype, device)

    def step(weight: float) -> None:
        module.config.loss.reward = weight
        # Below reward.max_step, so that the reward is given.
        module.draw_steps = lambda count: torch.full((count,), lora.reward.max_step // 2, device=device)
        with torch.autocast(device.type, kind, enabled=kind != torch.float32):
            loss = module.training_step(batch, 0)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    yield "lora step, no reward", lambda: step(0.0), repeats
    yield "lora step, with the reward", lambda: step(lora.loss.reward or 0.003), repeats
    yield f"lora, {steps} steps with the reward", lambda: [step(lora.loss.reward or 0.003) for _ in range(steps)], 0


def measure(name: str, work: Callable[[], Any], repeats: int, device: torch.device) -> Phase:
    """Time a phase; with ``repeats`` 0 it is run once, without warmth, and its operations are not counted."""
    if repeats:
        with Counter() as counter:
            work()
    seconds = []
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
    for _ in range(max(1, repeats)):
        if device.type == "cuda":
            begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            begin.record()
            work()
            end.record()
            torch.cuda.synchronize(device)
            seconds.append(begin.elapsed_time(end) / 1000)
        else:
            began = time.perf_counter()
            work()
            seconds.append(time.perf_counter() - began)
    peak = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else 0
    return Phase(name, float(np.median(seconds)), peak, counter.operations if repeats else 0)


class Counter(TorchDispatchMode):
    """Adds up the operations of matrix products, convolutions and attentions; unlike torch's own counter it says
    nothing of modules, whose hooks do not go with the reward's gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.operations = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Count a call and let it be done."""
        result = func(*args, **(kwargs or {}))
        if (count := flop_registry.get(func._overloadpacket)) is not None:
            self.operations += count(*args, **(kwargs or {}), out_val=result)
        return result


def matrix_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Operations a second of one large matrix product, the best of five."""
    side = 8192 if device.type == "cuda" else 1024
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    taken = [measure("", lambda: a @ b, 1, device).seconds for _ in range(5)]
    return 2 * side**3 / min(taken)


def _write_table(output: Path, found: list[Phase], rate: float) -> None:
    with atomic(output / "table.md") as temporary:
        temporary.write_text(table(found, rate))


def table(phases: list[Phase], rate: float) -> str:
    """Markdown: a line a phase."""
    lines = [f"Matrix rate {rate / 1e12:.3f} x 10^12 operations a second.", ""]
    lines += [
        "| phase | seconds | peak GB | 10^12 operations | at the matrix rate, s | ratio |",
        "|---|---|---|---|---|---|",
    ]
    for phase in phases:
        ideal = phase.operations / rate
        peak = f"{phase.peak / 1e9:.1f}" if phase.peak else "n/a"
        counted = ["", "", ""]
        if ideal:
            counted = [f"{phase.operations / 1e12:.4g}", f"{ideal:.4g}", f"{phase.seconds / ideal:.2f}"]
        lines.append("| " + " | ".join([phase.name, f"{phase.seconds:.4g}", peak, *counted]) + " |")
    widths = {phase.name: phase.seconds for phase in phases if phase.name.startswith("network, ")}
    if len(widths) == 2:
        (narrow, short), (wide, long) = widths.items()
        lines += ["", f"{narrow} over {wide.removeprefix('network, ')}: {short / long:.3f}"]
    return "\n".join(lines) + "\n"


def random_weights(config: Config, room: Path, device: torch.device) -> list[str]:
    """Write random files in the official formats, the numbers drawn on the device; the options that name them."""
    with torch.device("meta"):
        bare = replace(config, weights=replace(config.weights, **dict.fromkeys(PARTS, "")))
        denoiser = make_denoiser(bare)
        prompt = make_image_prompt(bare, denoiser)
        modules: dict[str, nn.Module] = {
            "vae": LatentCodec(config.vae).vae,
            "text": TextEncoder(config.text, byte_tokenizer()).clip,
            "image": ImageEncoder(config.image).clip,
            "adapter": adapter_modules(prompt, denoiser),
        }
    shapes = {part: {k: tuple(v.shape) for k, v in module.state_dict().items()} for part, module in modules.items()}
    shapes["denoiser"] = dict(official_names(denoiser).values())
    generator = torch.Generator(device).manual_seed(0)
    for part, named in shapes.items():
        weights = {name: _random(name, shape, generator) for name, shape in named.items()}
        if part == "denoiser":
            torch.save({"state_dict": weights}, room / "denoiser.pt")
        else:
            save_file(weights, room / f"{part}.safetensors")
    named = [f"weights.{part}={room / part}{'.pt' if part == 'denoiser' else '.safetensors'}" for part in PARTS]
    return [*named, "weights.tokenizer="]


def real_weights(folder: Path) -> list[str]:
    """The options that take the public weights of a folder; what is missing is named when it is loaded."""
    os.environ["IPFVR_WEIGHTS"] = f"{folder}{os.pathsep}{os.environ.get('IPFVR_WEIGHTS', '')}"
    return []


def _random(name: str, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Numbers with which activations stay finite: norms one, biases zero, the rest small."""
    if not shape or name.endswith("position_ids"):
        return torch.zeros(shape, dtype=torch.float16)
    if len(shape) == 1:
        return torch.full(shape, 0.0 if name.endswith("bias") else 1.0, dtype=torch.float16)
    drawn = torch.randn(shape, generator=generator, device=generator.device)
    return (0.02 * drawn).half().cpu()


if __name__ == "__main__":
    raise SystemExit(run_verb(main))
