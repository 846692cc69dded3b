"""The recogniser that is shipped with mini, from dlib's own file (CC0): ``ipfvr/presets/mini/dlib.safetensors``.

pip install face-recognition-models    # or put the file where python -m ipfvr.weights says
python experiments/mini/dlib.py
"""

from __future__ import annotations

import argparse

from ipfvr.core.errors import run_verb
from ipfvr.core.hashes import sha256
from ipfvr.faces.dlib_resnet import load_dlib, save_dlib
from ipfvr.weights import registry


def main(argv: list[str] | None = None) -> None:
    """Convert; the same file comes out each time."""
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args(argv)
    path = registry.locate("dlib")
    output = registry.SHIPPED / "mini" / "dlib.safetensors"
    save_dlib(load_dlib(path), output, f"{path.name} (CC0-1.0), sha256 {sha256(path)}")
    print(f"{output}: {output.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    raise SystemExit(run_verb(main))
