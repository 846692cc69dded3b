"""The options of trainings, typed: what they read, how they learn; sections of :class:`ipfvr.core.options.Config`."""

from __future__ import annotations

from dataclasses import dataclass, field

from ipfvr.core.choices import WandbModes
from ipfvr.core.readers import LORA, without


@dataclass
class DataConfig:
    """What a training reads: ROOT/<identity>/{reference,train,test} (design notes, section 5)."""

    root: str = without(LORA, default="")
    heldout: str = without(LORA, default="")  # a YAML file that lists the identities kept out of every training
    # A YAML file that lists the identities whose pictures may be of somebody else.
    exclude: str = without(LORA, default="")
    batch_size: int = 16
    clip_batch_size: int = 1
    clip_frames: int = 8
    clip_every: int = 0  # every n-th batch is of clips, the others of pictures; 0: pictures only
    moving_pictures: float = 0.0  # share of the clips' batches that are pictures seen by a moving camera
    workers: int = 0
    flip: bool = True
    zoom: float = 0.05  # random zoom, shift and turn of a crop, as shares of its side
    # Of Eq. 13, and the film faults of ipfvr.degradation.faults; a level that stands twice is drawn twice as often.
    levels: list[str] = field(default_factory=lambda: ["heavy", "light"])
    min_side: int = 0  # smaller pictures are references only: their detail is no truth at a larger size; 0: none is
    face_only: list[str] = field(default_factory=list)  # beginnings of names of people around whose faces is no truth
    validation: str = ""  # a YAML file that lists who of the people held out validates; empty: all of them
    references: int = 0  # adapter: other pictures of the same person that an item carries
    own_reference: float = 0.0  # adapter: share of pictures whose reference is themselves, as IP-Adapter has it
    reference_variation: float = 0.0  # warp of a reference, as a share of its side, with other colours; 0: as it is
    face_motion: float = 0.0  # moving pictures: warp of the face to and fro, as a share of the side
    reference_zoom: float = 0.02  # as zoom, of a reference: as precisely as landmarks align it
    on_device: bool = False  # joint: all pictures in the device's memory, batches of hundreds of frames made there
    captions: list[str] = field(default_factory=list)  # CSVs of CelebA attributes; pictures in none: the default prompt
    identity: str = without(LORA, default="")  # lora: the person, a folder of root
    variation: float = 0.0  # lora: warp of each frame, as a share of its side, with other colours; for pictures
    scene_frames: int = 0  # lora: frames read of a scene, from its beginning; 0: all
    same_person: float = 0.3  # lora: a lower mean cosine (weights.recogniser) of scene and references: another person
    force: bool = False  # lora: take scenes of another person all the same


@dataclass
class OptimizerConfig:
    """AdamW with linear warm-up and cosine decay."""

    lr: float = 2e-4
    weight_decay: float = 0.01
    warmup: int = 500
    steps: int = 100_000
    final_lr: float = 0.05  # share of lr that is left at the end
    ema: float = 0.999
    clip_norm: float = 1.0


@dataclass
class LossConfig:
    """Weights of the losses; what a training does not use, it ignores."""

    highest_noise: float = 0.5  # share of training steps drawn at start_step itself
    drop_text: float = 0.1
    drop_image: float = 0.1  # adapter: share of samples whose image prompt is that of no picture
    identity: float = 0.0  # adapter: weight of 1 - cosine between the decoded estimate and the truth
    strangers: float = 0.0  # adapter: share of samples with another's references, whom the identity loss then wants
    identity_jitter: float = 0.0  # adapter: standard deviation of the landmarks of its crops, as a share of the side
    identity_from: int = 600  # adapter: lowest step whose estimate the identity loss looks at
    # adapter, joint: whose cosines the identity loss takes, the mean of them; never the one that judges afterwards
    recognisers: list[str] = field(default_factory=lambda: ["mini/dlib"])
    high_frequency: float = 0.0  # vae: L1 on the differences between neighbouring pixels
    adversarial: float = 0.0  # vae: hinge loss against a discriminator of patches
    adversarial_from: int = 0  # vae: steps before the discriminator is listened to
    latent_noise: float = 0.0  # vae: standard deviation of noise on the latents that the decoder learns from
    restored: float = 0.0  # vae: share of batches whose latents are the denoiser's restorations, not the truth's
    train_encoder: bool = True  # vae: False keeps the latent space as it is
    reward: float = 0.0  # lora: weight of Eq. 8 beside Eq. 3; 0: without the reward
    balance: float = 0.5  # attributes: 0 weighs them as they come, 1 as if each were as often present as not


@dataclass
class PolishConfig:
    """What the one-step estimate learns in pixels beside Eq. 3 (train.module=joint).

    Each weight is the length of a loss's gradient at the pixels as a share of that of Eq. 3, see
    :class:`ipfvr.training.balance.Balance`; 0: without the loss.
    """

    identity: float = 0.0  # 1 - cosine of each of loss.recognisers
    features: float = 0.0  # L1 between the maps of the last of loss.recognisers, one of this project's
    adversarial: float = 0.0  # hinge loss against a discriminator of patches
    matching: float = 0.0  # L1 between what the discriminator's layers see
    begin: float = 0.0  # share of the training before the discriminator is listened to
    discriminated: int = 64  # frames of a batch that the discriminator sees


@dataclass
class LearnConfig:
    """``restore --learn``: a person's LoRA from reference pictures alone (:mod:`ipfvr.training.pictures`)."""

    steps: int = 100
    batch: int = 8  # degraded copies of the pictures that a step sees
    lr: float = 4e-3
    identity: float = 1.0  # gradient of each recogniser's cosine at the pixels, as a share of Eq. 3's
    features: float = 0.4  # of the distance in a recogniser's maps, alike
    variation: float = 0.02  # warp of a copy, as a share of its side, with other colours
    levels: list[str] = field(default_factory=lambda: ["heavy"])  # how the copies are degraded, see data.levels
    recognisers: list[str] = field(default_factory=lambda: ["mini/dlib", "mini/recogniser"])  # who is looked for by


@dataclass
class TrainConfig:
    """``python -m ipfvr.fit``."""

    module: str = "base"  # vae | clip | base | adapter | joint | lora | landmarks | attributes | recogniser
    # adapter, joint: whose cosines validation reports; it has no part in the losses. Empty: the identity loss's own.
    judge: str = ""
    output: str = "runs/fit"
    minutes: float = 0.0  # stop after so many minutes of training, those before a resume included; 0: optimizer.steps
    precision: str = "auto"  # auto (bf16 where the device has it) | bf16 | fp32
    accelerator: str = "auto"
    devices: int = 1
    checkpoint_minutes: float = 5.0  # time between two checkpoints; one is written at the end and on Ctrl-C as well
    ckpt_path: str = ""  # a checkpoint to go on from; empty: <output>/checkpoints/last.ckpt where it is there
    # A metric of validation, such as val/psnr_restored: the weights of its best value go to <output>/best. Empty: none.
    monitor: str = ""
    monitor_mode: str = "max"  # max | min, which values of train.monitor are better
    log_every: int = 20
    validate_every: int = 1000
    validation_batches: int = 4
    wandb: WandbModes = WandbModes.offline  # offline | online | disabled
