"""The enumerations of options that are a choice among names.

A member equals the text in a configuration: ``sampler.guider=multi_stream`` is ``Guiders.multi_stream``, which equals
``"multi_stream"``. :mod:`ipfvr.core.config` rejects any other text and names the nearest.
"""

from __future__ import annotations

from enum import StrEnum, auto

OTHERS = "others"  # stands where a person's name is expected, for the faces of people whom nobody named


class Interlaced(StrEnum):
    """The treatment of interlaced film."""

    frame = auto()
    field = auto()
    keep = auto()
    ignore = auto()


Chroma = StrEnum("Chroma", {"auto": "auto", "420": "420", "444": "444"})
Chroma.__doc__ = "The chroma subsampling of the H.264 output."


class Detectors(StrEnum):
    """The face detector."""

    auto = "auto"
    yunet = "yunet"
    centerface = "centerface"
    insightface = "insightface"


class Levels(StrEnum):
    """The strength of the degradation of Eq. 13."""

    light = auto()
    heavy = auto()
    severe = auto()


class Autoencoders(StrEnum):
    """The autoencoders of diffusers: for pictures, and with temporal layers in the decoder."""

    kl = auto()
    temporal = auto()


class PromptSources(StrEnum):
    """The source of a reference's image tokens."""

    clip = auto()
    recogniser = auto()
    both = auto()
    appearance = auto()
    none = auto()


class Projections(StrEnum):
    """The projection of an encoder's output to tokens."""

    linear = auto()
    resampler = auto()
    patches = auto()


class SeveralReferences(StrEnum):
    """The combination of the tokens of several references."""

    concat = auto()
    mean = auto()


class WithoutReference(StrEnum):
    """The image prompt if there is no reference."""

    none = auto()
    nobody = auto()


class Solvers(StrEnum):
    """The solver that takes the sampler's steps."""

    dpmpp_2m_sde = auto()
    heun = auto()


class Guiders(StrEnum):
    """The guidance that combines the predictions of several branches."""

    multi_stream = auto()
    classifier_free = auto()
    none = auto()


class Batching(StrEnum):
    """The choice whether a guider's branches go through the network in one call."""

    auto = "auto"
    always = "always"
    never = "never"


class Blending(StrEnum):
    """The blending between the clips of a long video."""

    exponential = auto()
    aligned = auto()
    cross_fade = auto()
    none = auto()


class Composers(StrEnum):
    """The composer that makes a sentence from a person's attributes."""

    template = auto()
    transformers = auto()
    openai = auto()


class Statistics(StrEnum):
    """The treatment of the mean and the deviation of Eq. 6 in its gradient: constants, or differentiated."""

    detach = auto()
    literal = auto()


class Types(StrEnum):
    """The number type in which networks compute."""

    auto = "auto"
    fp32 = "fp32"
    bf16 = "bf16"
    fp16 = "fp16"


class Trainings(StrEnum):
    """The trainings of ``python -m ipfvr.fit``."""

    vae = auto()
    clip = auto()
    base = auto()
    adapter = auto()
    joint = auto()
    lora = auto()
    landmarks = auto()
    attributes = auto()
    recogniser = auto()


class TrainingTypes(StrEnum):
    """The number type in which trainings compute."""

    auto = "auto"
    bf16 = "bf16"
    fp32 = "fp32"


class Better(StrEnum):
    """The direction in which a metric is better."""

    max = auto()
    min = auto()


class WandbModes(StrEnum):
    """The mode of Weights & Biases."""

    offline = auto()
    online = auto()
    disabled = auto()
