"""Every option of the project, typed; :mod:`ipfvr.core.config` composes them from presets, files and arguments."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ipfvr.core.choices import (
    Autoencoders,
    Batching,
    Blending,
    Chroma,
    Composers,
    Detectors,
    Guiders,
    Interlaced,
    Levels,
    Projections,
    PromptSources,
    SeveralReferences,
    Solvers,
    Statistics,
    Types,
    WithoutReference,
)
from ipfvr.core.readers import CLIP, LORA, without
from ipfvr.core.training_options import (
    DataConfig,
    LearnConfig,
    LossConfig,
    OptimizerConfig,
    PolishConfig,
    TrainConfig,
)


@dataclass
class VideoConfig:
    """Sizes of the network's input and of the output."""

    size: int = 128  # side of the restored square face crop, pixels
    scale: int = 2  # r of Eq. 13: the low-quality crop is size / scale on a side
    clip_frames: int = 24  # F, frames in a clip
    overlap: int = 8  # O, frames a clip shares with the one before it
    # What restore makes of interlaced film: frame (one frame of two fields) | field (one of each, twice as many) |
    # keep (the film stays interlaced) | ignore (do not look for it).
    interlaced: Interlaced = without(CLIP, LORA, default=Interlaced.frame)
    # Colours of the H.264 written: 420 (one for two by two pixels) | 444 (one for each) | auto (444 where the source
    # has one for each, or a side is odd).
    chroma: Chroma = without(CLIP, LORA, default=Chroma("auto"))
    crf: int = without(CLIP, LORA, default=17)  # constant rate factor of the H.264 written
    # quality of a JPEG or a lossy WebP that is written: 1 to 100
    quality: int = without(CLIP, LORA, default=95)
    # of x264, for restored films: a third of medium's time, 1 dB less at the same crf
    preset: str = without(CLIP, LORA, default="veryfast")


@dataclass
class FacesConfig:
    """Detection, landmarks and the aligned crop."""

    # auto (YuNet if its file is there, else CenterFace) | yunet | centerface | insightface
    detector: Detectors = Detectors.auto
    refine: bool = True  # the detector's landmarks are made more precise by the network that is shipped with mini
    min_confidence: float = 0.6
    max_side: int = 640  # frames are shrunk to this side for detection only
    smoothing: float = 2.0  # standard deviation, in frames, of the landmarks' Gaussian smoothing; 0: off
    max_gap: int = 12  # frames without a detection over which landmarks are interpolated
    align_references: bool = True  # a method's references are cropped about the face; False: squared as they are
    every: int = 3  # restore looks for faces in every n-th frame of a shot and interpolates between; 1: in all
    # The detector searches every n-th of the frames that are examined; in the others the landmark network looks where
    # the faces were. 1: it searches all of them.
    search_every: int = 2
    recognise_every: int = 4  # the recogniser sees every n-th detection of a track


@dataclass
class PeopleConfig:
    """Matching the tracks of a video with reference pictures."""

    recogniser: str = (
        "mini/dlib"  # tells people apart; shipped, so that who is found does not depend on what was fetched
    )

    # Mean cosine of a track's faces and a person's references from which the track is the person. 0: what was measured
    # for the recogniser on degraded faces, ipfvr.weights.catalogue.LIKENESS.
    same: float = 0.0
    # The same bound where the video shows one face and one person is named. 0: ``same`` if that is given, else what was
    # measured for the recogniser.
    alone: float = 0.0
    # Two people whose references are more alike than this cosine are refused as one person. 0: as for ``same``.
    distinct: float = 0.0


@dataclass
class PrepareConfig:
    """The choices of ``python -m ipfvr.prepare`` among raw videos and pictures."""

    size: int = 720  # side of the square crops, pixels
    min_frames: int = 24  # of a scene
    max_frames: int = 0  # of a scene, from its beginning; 0: all
    min_width: float = 128.0  # pixels of the source that the crop's side spans
    min_detail: float = 128.0  # side below which the crop, shrunk and enlarged again, is no longer itself
    train_scenes: int = 4  # scenes to train on, the others are for tests; 0: all but those of one video
    crf: int = 12  # of the crops


@dataclass
class DegradationConfig:
    """Eq. 13."""

    level: Levels = without(CLIP, LORA, default=Levels.heavy)  # light | heavy | severe
    scale_sigma: bool = True  # sigma is given for 720 pixels; scale it by size / 720


@dataclass
class VAEConfig:
    """The autoencoder: pixels in [-1, 1] to latents and back."""

    kind: Autoencoders = Autoencoders.kl  # kl (AutoencoderKL) | temporal (AutoencoderKLTemporalDecoder)
    patch_size: int = 1  # pixels are rearranged into channels by this factor before the network
    latent_channels: int = 4
    block_out_channels: list[int] = field(default_factory=lambda: [128, 256, 512, 512])
    layers_per_block: int = 2
    norm_groups: int = 32
    mid_attention: bool = True
    output_norm: bool = True  # False: the last norm and activation are left out, so that a linear map fits exactly
    scaling_factor: float = 0.18215  # of AutoencoderKL: latents are multiplied by it
    frames_per_chunk: int = 8  # frames encoded or decoded at once: bounds memory, changes nothing


@dataclass
class TextConfig:
    """A transformers CLIP text model, read at a hidden layer."""

    vocab_size: int = 49408
    width: int = 1024
    layers: int = 24
    heads: int = 16
    intermediate: int = 4096
    activation: str = "gelu"
    max_length: int = 77
    projection: int = 1024
    skip_last: int = 1  # 1: the penultimate layer (VEnhancer's), 0: the last


@dataclass
class ImageConfig:
    """A transformers CLIP vision model: the reference's encoder."""

    size: int = 224
    patch_size: int = 14
    width: int = 1280
    layers: int = 32
    heads: int = 16
    intermediate: int = 5120
    activation: str = "gelu"
    projection: int = 1024


@dataclass
class RecogniserConfig:
    """mini's own face recogniser, an IResNet, and its training; other recognisers know their size themselves."""

    blocks: list[int] = field(default_factory=lambda: [1, 2, 2, 1])
    widths: list[int] = field(default_factory=lambda: [32, 64, 128, 256])
    embedding: int = 128
    stem_stride: int = 2
    margin: float = 0.25  # m of CosFace
    scale: float = 24.0  # s of CosFace
    dropout: float = 0.4
    label_smoothing: float = 0.1


@dataclass
class ImagePromptConfig:
    """References as image tokens, and their weight lambda in the cross-attentions (Eq. 4).

    lambda of a block at a step is ``scale`` times the block's entry of ``block_scales`` times the step's of
    ``step_scales``.
    """

    # clip (weights.image) | recogniser (weights.face_encoder) | both | appearance (the reference's own latents, and
    # weights.face_encoder) | none: no image prompt
    source: PromptSources = PromptSources.none
    # linear (one vector to tokens) | resampler (plus-face: Perceiver over hidden states) | patches (one token a state)
    projection: Projections = Projections.resampler
    train_encoder: bool = False  # clip's encoder learns with the adapter and lies in its file
    tokens: int = 16  # tokens that the projection makes of one reference
    width: int = 768  # channels of a token
    depth: int = 4  # resampler: layers
    heads: int = 12  # resampler: heads of its attentions
    head_dim: int = 64  # resampler: channels of a head
    face_tokens: int = 4  # resampler, patches: tokens made of a recogniser's vector, beside those of the resampler
    # several references: concat (tokens side by side) | mean (of their tokens)
    references: SeveralReferences = SeveralReferences.concat
    # without a reference: none (the base by itself) | nobody (the prompt of no picture)
    without: WithoutReference = WithoutReference.none
    scale: float = 1.0
    block_scales: list[float] = field(default_factory=list)  # of the cross-attentions: down, up, middle; empty: all 1
    step_scales: list[float] = field(default_factory=list)  # from the sampler's first step to its last; empty: all 1


@dataclass
class DenoiserConfig:
    """VEnhancer's video U-Net and ControlNet, one family sized by these numbers."""

    in_channels: int = 4
    width: int = 320
    multipliers: list[int] = field(default_factory=lambda: [1, 2, 4, 4])
    res_blocks: int = 2
    attention_levels: list[int] = field(default_factory=lambda: [0, 1, 2])  # levels with transformers
    head_dim: int = 64
    input_heads: int = 8  # heads of the temporal transformer that follows the first convolution
    text_width: int = 1024
    norm_groups: int = 32
    odd_sizes: bool = True  # True: latents of 8k-6 rows (VEnhancer's padding); False: of 8k rows, padded alike
    temporal_on_pictures: bool = True  # False: temporal layers are skipped when a clip is one frame
    gradient_checkpointing: bool = False


@dataclass
class ScheduleConfig:
    """The log-SNR cosine-interpolated schedule with zero terminal SNR."""

    timesteps: int = 1000
    zero_terminal_snr: bool = True
    scale_min: float = 2.0  # resolution shift of the two cosine curves that are interpolated
    scale_max: float = 4.0


@dataclass
class SamplerConfig:
    """The sampler, which restores a low-quality latent."""

    solver: Solvers = without(LORA, default=Solvers.dpmpp_2m_sde)  # dpmpp_2m_sde | heun
    steps: int = without(LORA, default=15)
    eta: float = without(LORA, default=1.0)  # share of the SDE's noise; 0: deterministic
    start_step: int = 899  # the low-quality latent is noised to this step
    end_step: int = 0
    exact_start: bool = False  # True: x = z_t / alpha_t; False: VEnhancer's z_t sigma_t / alpha_t, smaller by sigma_t
    hint_step: int = 199  # the ControlNet's hint is noised to this step; -1: not at all
    # multi_stream (Eq. 11, the paper's) | classifier_free (VEnhancer's) | none
    guider: Guiders = without(LORA, default=Guiders.multi_stream)
    negative_text: float = without(LORA, default=0.5)  # multi_stream: w_nt; 0: the negative text is not run
    # multi_stream: w_nv; 0, or without an image prompt: the degraded reference is not run
    negative_visual: float = without(LORA, default=0.5)
    # classifier_free: its weight; 1: the positive branch alone, at the cost of one
    guidance: float = without(LORA, default=7.5)
    guidance_rescale: float = without(LORA, default=0.2)  # classifier_free
    # lowest and highest step that is guided; empty: all
    guidance_interval: list[int] = without(LORA, default_factory=list)
    # auto: on a GPU the streams go in one call, from the first that does not fit into its memory on one by one, as on a
    # CPU; always; never. Results differ by rounding alone, but where bytes must repeat on a GPU say which.
    batch_streams: Batching = without(LORA, default=Batching.auto)
    noise_correlation: float = 0.0  # share of the noise's variance that all frames have in common
    residual_scale: float = 0.0  # > 0: diffuse (z_hq - z_lq) / residual_scale instead of z_hq


@dataclass
class LongVideoConfig:
    """The connection between the clips of a video (Section 3.4)."""

    # exponential (Eq. 10 to the letter) | aligned (Eq. 10 one frame earlier: clip i-1's frames lie over themselves) |
    # cross_fade (linear, of the overlapping restored frames) | none (the paper's w/o EB). The first two act between
    # solver steps: with sampler.steps=1 there is nothing between, and they change nothing.
    blending: Blending = Blending.exponential
    noise_sharing: bool = True  # Eq. 9; False: every clip has noise of its own (the paper's w/o NS)


@dataclass
class PromptConfig:
    """Words for the two text streams. With references, or a file, they describe the person (Face2Text)."""

    positive: str = "a good video"  # where nothing is known of the person
    quality: str = "cinematic, high contrast, highly detailed"  # after the words on the person; dropped from the end
    negative: str = (
        "painting, oil painting, illustration, drawing, art, sketch, cartoon, 3D render, blurry, "
        "deformed, disfigured, low quality, noise, grain"
    )
    describe: bool = True  # False: positive and negative as they stand here
    file: str = ""  # a prompt.yaml; empty: the one in the person's folder, where there is one
    true_from: float = 0.9  # attributes at least this probable enter the positive prompt
    false_to: float = 0.1  # those at most this probable are denied in the negative prompt
    sex_from: float = 0.97  # "man" or "woman" from this probability on, else "person"; at least 0.9
    # template | transformers (a local language model) | openai (a compatible address)
    compose: Composers = Composers.template
    model: str = ""  # transformers: a folder or a name; openai: the model's name
    address: str = ""  # openai: such as http://127.0.0.1:8000/v1
    key_variable: str = "OPENAI_API_KEY"  # openai: the environment variable with the key; unset: none is sent
    timeout: float = 20.0  # openai: seconds


@dataclass
class WeightsConfig:
    """Names in the weights registry (``python -m ipfvr.weights``) or paths; empty: random weights."""

    vae: str = ""
    text: str = ""
    tokenizer: str = ""
    image: str = ""
    denoiser: str = ""
    adapter: str = ""  # of the image prompt; empty: restore does without
    face_encoder: str = ""  # recogniser that image_prompt.source recogniser or both reads
    recogniser: str = without(LORA, default="mobilefacenet")  # judges: IDS
    lora: str = ""  # a LoRA folder (restore --lora); empty: none
    attributes: str = "mini/attributes"
    emotion: str = "emotion"  # mini_XCEPTION; left out where its file is not there


@dataclass
class LoraConfig:
    """Low-rank adaptation of the U-Net's attentions to one person (Section 3.2)."""

    rank: int = 16
    alpha: float = 16.0  # the update is alpha / rank times B A
    dropout: float = 0.0
    layers: list[str] = field(default_factory=lambda: ["spatial", "temporal"])  # transformers that are adapted
    targets: list[str] = field(default_factory=lambda: ["to_q", "to_k", "to_v", "to_out.0"])  # their projections


@dataclass
class RewardConfig:
    """The feedback reward (Section 3.3, Eq. 5 to 8)."""

    recogniser: str = "mini/dlib"  # phi of Eq. 5; never the one that scores afterwards
    gamma: float = 0.9  # Eq. 7
    # Eq. 6: detach (Mean and Std are constants) | literal (the paper's letter)
    statistics: Statistics = Statistics.detach
    epsilon: float = 0.01  # Eq. 6: Std is sqrt(variance + epsilon^2)
    bound: float = 2.0  # Eq. 8: the exponent is at most this
    max_step: int = 600  # steps above get no reward: their one-step estimate shows no face
    chunk: int = 2  # frames whose graph is held at a time: bounds memory, changes nothing


@dataclass
class ProgramConfig:
    """``methods.<name>``: where another program lies on this machine (:mod:`ipfvr.methods.external`)."""

    folder: str = ""  # its checkout; empty: <name> in the folder that IPFVR_PROGRAMS names, if it is there
    python: str = ""  # its own interpreter; empty: .venv/bin/python or venv/bin/python in its folder
    timeout: float = 7200.0  # seconds that one run may take
    landmarks: str = ""  # dmdnet: <identity>/<picture>.txt, 68 lines 'x y' for the 512-pixel crop
    values: dict[str, str] = field(default_factory=dict)  # its own options, such as fidelity
    description: str = ""  # a YAML file, for a program that this project does not describe


@dataclass
class Config:
    """The whole configuration."""

    preset: str = without(CLIP, default="mini")
    seed: int = without(CLIP, default=0)
    device: str = without(CLIP, LORA, default="auto")  # auto | cpu | cuda | cuda:1 ...
    dtype: Types = Types.auto  # auto (bf16 where the device multiplies in it, else fp32) | fp32 | bf16 | fp16
    video: VideoConfig = field(default_factory=VideoConfig)
    faces: FacesConfig = field(default_factory=FacesConfig)
    people: PeopleConfig = without(CLIP, LORA, default_factory=PeopleConfig)
    degradation: DegradationConfig = field(default_factory=DegradationConfig)
    vae: VAEConfig = field(default_factory=VAEConfig)
    text: TextConfig = field(default_factory=TextConfig)
    image: ImageConfig = field(default_factory=ImageConfig)
    image_prompt: ImagePromptConfig = field(default_factory=ImagePromptConfig)
    recogniser: RecogniserConfig = without(CLIP, default_factory=RecogniserConfig)
    denoiser: DenoiserConfig = field(default_factory=DenoiserConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    sampler: SamplerConfig = field(default_factory=SamplerConfig)
    long_video: LongVideoConfig = without(LORA, default_factory=LongVideoConfig)
    prompt: PromptConfig = field(default_factory=PromptConfig)
    weights: WeightsConfig = without(CLIP, default_factory=WeightsConfig)
    data: DataConfig = without(CLIP, default_factory=DataConfig)
    prepare: PrepareConfig = without(CLIP, LORA, default_factory=PrepareConfig)
    optimizer: OptimizerConfig = without(CLIP, default_factory=OptimizerConfig)
    loss: LossConfig = without(CLIP, default_factory=LossConfig)
    polish: PolishConfig = without(CLIP, LORA, default_factory=PolishConfig)
    lora: LoraConfig = without(CLIP, default_factory=LoraConfig)
    reward: RewardConfig = without(CLIP, default_factory=RewardConfig)
    learn: LearnConfig = without(CLIP, LORA, default_factory=LearnConfig)
    train: TrainConfig = without(CLIP, LORA, default_factory=TrainConfig)
    # Options of Lightning's Trainer, such as trainer.strategy=ddp or trainer.accumulate_grad_batches=4;
    # trainer.callbacks and trainer.logger are added to the project's own (ipfvr/training/extensions.py).
    trainer: dict[str, Any] = without(CLIP, default_factory=dict)
    # Who makes the cells of reproduce, or restores the files of a folder. Empty: processes of this machine (jobs=,
    # --devices) | tcp://host:8786 (workers of a Dask scheduler that runs there) | slurm (its jobs, by dask-jobqueue).
    cluster: str = without(CLIP, LORA, default="")
    # Options of dask-jobqueue's SLURMCluster, such as slurm.queue=gpu or slurm.walltime=04:00:00.
    slurm: dict[str, Any] = without(CLIP, LORA, default_factory=dict)
    methods: dict[str, ProgramConfig] = without(CLIP, LORA, default_factory=dict)  # by the name of a table's row
