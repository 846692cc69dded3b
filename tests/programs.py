"""Stand-ins for the official programs: their command lines, their file names and their traps, but no networks.

Each gives back the negative of what it got: a frame whose grey level is v comes out as 255 - v, at the program's size.
"""

from __future__ import annotations

from pathlib import Path

_COMMON = """
import argparse, os, sys
from pathlib import Path
import cv2
import numpy as np

def negative(path, side):
    return 255 - cv2.resize(cv2.imread(str(path)), (side, side))
"""

_VIDEO = """
import av

def read(path):
    assert os.path.isfile(path), "name 'np' is not defined"  # what a folder ends in
    with av.open(path) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]

def write(path, frames, side):
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "5"})
        stream.width = stream.height = side
        for frame in frames:
            picture = 255 - cv2.resize(frame, (side, side))
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
"""

# No reference or two of them, or the line is skipped; collage; the folder's suffix; a frame without landmarks is left
# out without a word.
_DMDNET = """
p = argparse.ArgumentParser()
p.add_argument("-s"); p.add_argument("-d")
a = p.parse_args()
out = Path(a.d + "_11-24_20-06"); out.mkdir()
for line in Path(a.s).read_text().splitlines():
    columns = line.split("\\t")
    assert len(columns) in (1, 3)
    frame = Path(columns[0])
    if len(columns) == 3:
        pictures = os.listdir(columns[1])
        if len(pictures) < 2 or len(os.listdir(columns[2])) < 2:
            continue
        assert all(len((Path(columns[2]) / (p + ".txt")).read_text().splitlines()) == 68 for p in pictures)
    if frame.stem == "00000003":
        continue
    low = cv2.imread(str(frame))
    assert low.shape == (512, 512, 3)
    generic = low // 2
    parts = [low, generic, 255 - low] if len(columns) == 3 else [low, 255 - low]
    name = frame.stem + ("_GS.png" if len(columns) == 3 else "_G.png")
    cv2.imwrite(str(out / name), np.hstack(parts))
"""

# The input's own frame numbers are forgotten.
_KEEP = """
p = argparse.ArgumentParser()
p.add_argument("-i"); p.add_argument("-o"); p.add_argument("-s", type=int)
p.add_argument("--has_aligned", action="store_true"); p.add_argument("--save_video_fps", type=float)
a = p.parse_args()
assert a.has_aligned and a.save_video_fps == 25
out = Path(a.o) / os.path.basename(a.i) / "restored_faces"; out.mkdir(parents=True)
for i, path in enumerate(sorted(Path(a.i).iterdir())):
    cv2.imwrite(str(out / f"{i:08d}.png"), negative(path, 512))
"""

_CODEFORMER = """
p = argparse.ArgumentParser()
p.add_argument("-w", type=float); p.add_argument("--has_aligned", action="store_true")
p.add_argument("--input_path"); p.add_argument("-o")
a = p.parse_args()
assert a.has_aligned and a.w == 0.5
out = Path(a.o) / "restored_faces"; out.mkdir(parents=True)
for path in Path(a.input_path).iterdir():
    cv2.imwrite(str(out / path.name), negative(path, 512))
"""

_STABLESR = """
p = argparse.ArgumentParser()
for name in ("config", "ckpt", "vqgan_ckpt", "init-img", "outdir", "colorfix_type"):
    p.add_argument("--" + name)
for name in ("ddpm_steps", "seed"):
    p.add_argument("--" + name, type=int)
for name in ("dec_w", "upscale"):
    p.add_argument("--" + name, type=float)
a = p.parse_args()
assert os.path.isfile(a.ckpt)
os.makedirs(a.outdir)
for path in Path(a.init_img).iterdir():
    cv2.imwrite(str(Path(a.outdir) / path.name), negative(path, int(cv2.imread(str(path)).shape[0] * a.upscale)))
"""

# A folder with a dot in its name is a file to it; it enlarges by 4.
_REALBASICVSR = """
p = argparse.ArgumentParser()
for name in ("config", "checkpoint", "input_dir", "output_dir"):
    p.add_argument(name)
p.add_argument("--max_seq_len", type=int)
a = p.parse_args()
if os.path.splitext(a.input_dir)[1]:
    raise ValueError('"input_dir" can only be a video or a directory.')
os.makedirs(a.output_dir)
for path in Path(a.input_dir).iterdir():
    cv2.imwrite(os.path.join(a.output_dir, path.name), negative(path, 4 * cv2.imread(str(path)).shape[0]))
"""

_UPSCALE_A_VIDEO = """
p = argparse.ArgumentParser()
for name in ("-i", "-o", "-n", "-g", "-s", "-p", "--color_fix"):
    p.add_argument(name)
p.add_argument("--no_llava", action="store_true")
a = p.parse_args()
assert a.no_llava
frames = read(a.i)
name = f"{Path(a.i).stem}_n{a.n}_g{a.g}_s{a.s}_p{a.p.replace(',', '_')}.mp4"
write(Path(a.o) / "video" / name, frames, 4 * frames[0].shape[0])
"""

# The output is named after the prompt; frames after the last that it may read are dropped; one frame crashes it.
_VENHANCER = """
p = argparse.ArgumentParser()
for name in ("cfg", "total_noise_levels", "steps", "model_path", "noise_aug", "input_path", "prompt", "save_dir"):
    p.add_argument("--" + name)
for name in ("start_frame", "max_frame_num", "target_fps"):
    p.add_argument("--" + name, type=int)
p.add_argument("--up_scale", type=float)
a = p.parse_args()
assert a.target_fps == 0, "frames would be invented"
frames = read(a.input_path)[: a.max_frame_num]
1 // (len(frames) // 2)
write(Path(a.save_dir) / (a.prompt + ".mp4"), frames, int(a.up_scale * frames[0].shape[0]))
"""

STAND_INS = {
    "dmdnet": _COMMON + _DMDNET,
    "keep": _COMMON + _KEEP,
    "codeformer": _COMMON + _CODEFORMER,
    "stablesr": _COMMON + _STABLESR,
    "realbasicvsr": _COMMON + _REALBASICVSR,
    "upscale_a_video": _COMMON + _VIDEO + _UPSCALE_A_VIDEO,
    "venhancer_official": _COMMON + _VIDEO + _VENHANCER,
}


def install(folder: Path, name: str, files: list[str], weights: list[str]) -> Path:
    """A folder that looks like the program's checkout: its script is the stand-in, its weights are there."""
    for file in (*files, *(pattern.replace("*", "x") for pattern in weights)):
        path = folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("there")
    script = next(file for file in files if file.endswith(".py"))
    (folder / script).write_text(STAND_INS[name])
    return folder
