"""The options that are a choice among names, one enumeration each.

A member is the text that one writes: ``sampler.guider=multi_stream`` is ``Guiders.multi_stream``, which equals
``"multi_stream"``. :mod:`ipfvr.core.config` refuses any other text and names the nearest.
"""

from __future__ import annotations

from enum import StrEnum, auto


class Interlaced(StrEnum):
    """What becomes of interlaced film."""

    frame = auto()
    field = auto()
    keep = auto()
    ignore = auto()


Chroma = StrEnum("Chroma", {"auto": "auto", "420": "420", "444": "444"})
Chroma.__doc__ = "How many colours the H.264 has that is written."


class Detectors(StrEnum):
    """What finds faces."""

    auto = "auto"
    yunet = "yunet"
    centerface = "centerface"
    insightface = "insightface"


class Levels(StrEnum):
    """How strongly Eq. 13 degrades."""

    light = auto()
    heavy = auto()
    severe = auto()


class Autoencoders(StrEnum):
    """diffusers' autoencoders: of pictures, and with temporal layers in the decoder."""

    kl = auto()
    temporal = auto()


class PromptSources(StrEnum):
    """What a reference's image tokens are made of."""

    clip = auto()
    recogniser = auto()
    both = auto()
    appearance = auto()
    none = auto()


class Projections(StrEnum):
    """What makes tokens of an encoder's output."""

    linear = auto()
    resampler = auto()
    patches = auto()


class SeveralReferences(StrEnum):
    """How the tokens of several references go together."""

    concat = auto()
    mean = auto()


class WithoutReference(StrEnum):
    """What the network is shown where there is no reference."""

    none = auto()
    nobody = auto()


class Solvers(StrEnum):
    """What takes the sampler's steps."""

    dpmpp_2m_sde = auto()
    heun = auto()


class Guiders(StrEnum):
    """What combines the predictions of several branches."""

    multi_stream = auto()
    classifier_free = auto()
    none = auto()


class Batching(StrEnum):
    """Whether a guider's branches go through the network in one call."""

    auto = "auto"
    always = "always"
    never = "never"


class Blending(StrEnum):
    """How the clips of a long video go over into each other."""

    exponential = auto()
    aligned = auto()
    cross_fade = auto()
    none = auto()


class Composers(StrEnum):
    """What makes a sentence of the words on a person."""

    template = auto()
    transformers = auto()
    openai = auto()


class Statistics(StrEnum):
    """Whether the mean and the deviation of Eq. 6 are constants to its gradient."""

    detach = auto()
    literal = auto()


class Types(StrEnum):
    """The numbers that networks compute in."""

    auto = "auto"
    fp32 = "fp32"
    bf16 = "bf16"
    fp16 = "fp16"


class Trainings(StrEnum):
    """What ``python -m ipfvr.fit`` trains."""

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
    """The numbers that trainings compute in."""

    auto = "auto"
    bf16 = "bf16"
    fp32 = "fp32"


class Better(StrEnum):
    """Which values of a metric are better."""

    max = auto()
    min = auto()


class WandbModes(StrEnum):
    """Where Weights & Biases keeps its record."""

    offline = auto()
    online = auto()
    disabled = auto()
