"""The typed options of trainings; they are sections of :class:`ipfvr.core.options.Config`."""

from __future__ import annotations

from dataclasses import dataclass, field

from ipfvr.core.choices import Better, Trainings, TrainingTypes, WandbModes
from ipfvr.core.readers import LORA, without


@dataclass
class DataConfig:
    """The data of a training: ROOT/<identity>/{reference,train,test}."""

    root: str = without(LORA, default="")
    heldout: str = without(LORA, default="")  # a YAML file with the identities that are never trained on
    # A YAML file with the identities whose pictures may show somebody else.
    exclude: str = without(LORA, default="")
    batch_size: int = 16
    clip_batch_size: int = 1
    clip_frames: int = 8
    clip_every: int = 0  # every n-th batch has clips, the others have pictures; 0: pictures only
    moving_pictures: float = 0.0  # share of the batches of clips that show a picture by a moving camera
    workers: int = 0
    flip: bool = True
    zoom: float = 0.05  # random zoom, shift and turn of a crop, as shares of its side
    # Levels of Eq. 13 and film faults (ipfvr.degradation.faults); one that is listed twice is drawn twice as often.
    levels: list[str] = field(default_factory=lambda: ["heavy", "light"])
    min_side: int = 0  # smaller pictures serve as references only, since enlarging adds no detail; 0: no limit
    face_only: list[str] = field(default_factory=list)  # prefixes of identities of whom the face alone counts
    validation: str = ""  # a YAML file with the held-out identities to validate on; empty: all of them
    references: int = 0  # adapter: number of other pictures of the same person in an item
    own_reference: float = 0.0  # adapter: share of pictures that are their own reference, as in IP-Adapter
    reference_variation: float = 0.0  # random warp of a reference, as a share of its side, and other colours; 0: none
    face_motion: float = 0.0  # moving pictures: warp of the face over time, as a share of the side
    reference_zoom: float = 0.02  # as zoom, for references: about the error of their alignment
    on_device: bool = False  # joint: keep all pictures in the device's memory and make the batches there
    captions: list[str] = field(default_factory=list)  # CSVs of CelebA attributes; else the default prompt
    identity: str = without(LORA, default="")  # lora: the person, a folder of root
    variation: float = 0.0  # lora: random warp of a frame, as a share of its side, and other colours
    scene_frames: int = 0  # lora: number of frames to read of a scene, from its beginning; 0: all
    same_person: float = 0.3  # lora: a scene with a lower mean cosine to the references shows another person
    force: bool = False  # lora: accept scenes of another person


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
    """Weights and settings of the losses; a training ignores those that it does not use."""

    highest_noise: float = 0.5  # share of the samples at sampler.start_step
    drop_text: float = 0.1  # share of the captions that are replaced by the default prompt
    drop_image: float = 0.1  # adapter: share of samples without a reference
    identity: float = 0.0  # adapter: weight of 1 - cosine between the decoded estimate and the truth
    # adapter: share of samples with another person's references, who is then the target of the identity loss
    strangers: float = 0.0
    identity_jitter: float = 0.0  # standard deviation by which the landmarks of its crops move, as a share of the side
    identity_from: int = 600  # adapter: lowest diffusion step that has an identity loss
    # adapter, joint: the recognisers of the identity loss; never the one that judges the results afterwards.
    recognisers: list[str] = field(default_factory=lambda: ["mini/dlib"])
    high_frequency: float = 0.0  # vae: L1 on the differences between neighbouring pixels
    adversarial: float = 0.0  # vae: hinge loss against a discriminator of patches
    adversarial_from: int = 0  # vae: step from which the adversarial loss counts
    latent_noise: float = 0.0  # vae: standard deviation of noise on the decoder's latents
    restored: float = 0.0  # vae: share of batches with the denoiser's restored latents instead of true ones
    train_encoder: bool = True  # vae: False keeps the latent space unchanged
    reward: float = 0.0  # lora: weight of Eq. 8; 0: without the reward
    balance: float = 0.5  # attributes: 0: natural frequencies, 1: as if each were as often present as absent


@dataclass
class PolishConfig:
    """Losses on the pixels of the one-step estimate, beside Eq. 3 (train.module=joint).

    Each weight is the length of the loss's gradient at the pixels, as a share of the length of Eq. 3's, see
    :class:`ipfvr.training.balance.Balance`; 0 turns the loss off.
    """

    identity: float = 0.0  # 1 - cosine of each of loss.recognisers
    features: float = 0.0  # L1 between the feature maps of the last of loss.recognisers, which must be an IResNet
    adversarial: float = 0.0  # hinge loss against a discriminator of patches
    matching: float = 0.0  # L1 between the activations of the discriminator's layers
    begin: float = 0.0  # share of the training before the adversarial losses count
    discriminated: int = 64  # frames of a batch that go to the discriminator


@dataclass
class LearnConfig:
    """``restore --learn``: a person's LoRA from reference pictures alone (:mod:`ipfvr.training.pictures`)."""

    always: bool = False  # restore learns from references unless --no-learn is given
    # People of whom nothing is learned: their pictures only say who is meant.
    skip: list[str] = field(default_factory=list)
    steps: int = 100
    copies: int = 96  # degraded copies of the pictures, drawn once
    batch: int = 4  # copies in a step
    lr: float = 1.5e-2
    identity: float = 1.0  # length of the gradient of each recogniser's cosine, as a share of Eq. 3's
    features: float = 0.4  # length of the gradient of the distance of a recogniser's maps, likewise
    variation: float = 0.02  # random warp of a copy, as a share of its side, and other colours
    levels: list[str] = field(default_factory=lambda: ["heavy"])  # levels of degradation of the copies, see data.levels
    recognisers: list[str] = field(default_factory=lambda: ["mini/dlib", "mini/recogniser"])  # of these losses


@dataclass
class TrainConfig:
    """``python -m ipfvr.fit``."""

    # vae | clip | base | adapter | joint | lora | landmarks | attributes | recogniser
    module: Trainings = Trainings.base
    # adapter, joint: the recogniser whose cosines validation reports, none of the losses'. Empty: the first of these.
    judge: str = ""
    output: str = "runs/fit"
    minutes: float = 0.0  # stop after so many minutes of training, those before a resume included; 0: optimizer.steps
    precision: TrainingTypes = TrainingTypes.auto  # auto (bf16 if the device multiplies in it) | bf16 | fp32
    accelerator: str = "auto"
    devices: int = 1
    checkpoint_minutes: float = 5.0  # time between two checkpoints; the end and Ctrl-C write one too
    ckpt_path: str = ""  # the checkpoint to resume from; empty: <output>/checkpoints/last.ckpt if it exists
    # A metric of validation, such as val/psnr_restored: the weights of its best value go to <output>/best. Empty: none.
    monitor: str = ""
    monitor_mode: Better = Better.max  # max | min, which values of train.monitor are better
    log_every: int = 20
    validate_every: int = 1000
    validation_batches: int = 4
    wandb: WandbModes = WandbModes.offline  # offline | online | disabled
    wandb_project: str = "ipfvr"
    wandb_entity: str = ""  # a user or team; empty: the one that is logged in
