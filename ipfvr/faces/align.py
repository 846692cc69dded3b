"""Similarity transforms between frames and aligned face squares.

Coordinates are pixels with the centre of the top-left pixel at (0, 0), x to the right, y downwards. A
transform is a (2, 3) float64 matrix that maps points (x, y, 1) of the frame to points of the square.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
import torch
import torch.nn.functional as F

# Five points of the 512 x 512 FFHQ-style crop that face restorers are trained on, and of the 112 x 112
# crop that ArcFace-class recognisers are trained on. Order: image-left eye, image-right eye, nose tip,
# image-left mouth corner, image-right mouth corner.
_FFHQ_512 = (
    (192.98138, 239.94708),
    (318.90277, 240.1936),
    (256.63416, 314.01935),
    (201.26117, 371.41043),
    (313.08905, 371.15118),
)
_ARCFACE_112 = (
    (38.2946, 51.6963),
    (73.5318, 51.5014),
    (56.0252, 71.7366),
    (41.5493, 92.3655),
    (70.7299, 92.2041),
)
ARCFACE_SIZE = 112
_MAX_SUPERSAMPLING = 16  # a face 16 times larger than the crop is still free of aliasing
# From so fine a grid on bilinear sampling does for bicubic: over so many samples to a pixel the difference averages
# out (54 dB and more between the two on real faces), at a tenth of the time.
_BILINEAR_FROM = 3


def face_template(size: int) -> np.ndarray:
    """Return the five landmarks in an aligned crop of ``size`` x ``size`` pixels: (5, 2) float64, pixels.

    Examples:
        >>> face_template(256).round(1).tolist()[2]  # the tip of the nose
        [128.3, 157.0]
    """
    return np.array(_FFHQ_512, dtype=np.float64) * (size / 512)


def arcface_template() -> np.ndarray:
    """Return the five landmarks in the 112 x 112 crop of ArcFace-class recognisers: (5, 2) float64, pixels."""
    return np.array(_ARCFACE_112, dtype=np.float64)


def similarity_transform(src: np.ndarray, dst: np.ndarray) -> np.ndarray:
    """Least-squares similarity (scale, rotation, shift; never a reflection) that takes ``src`` to ``dst``.

    In the plane, Umeyama's problem (TPAMI 1991) with points as complex numbers is the linear
    regression ``dst = a src + b``: ``a = <src - mean, dst - mean> / |src - mean|^2``.

    Args:
        src: (N, 2) points, N >= 2, pixels.
        dst: (N, 2) points they should fall on, pixels.

    Returns:
        (2, 3) float64 matrix.

    Raises:
        ValueError: other shapes, values that are not finite, or points of ``src`` (or of ``dst``) that
            all coincide.

    Examples:
        >>> square = np.array([[0, 0], [1, 0], [1, 1], [0, 1]])
        >>> matrix = similarity_transform(square, 2 * square + 5)
        >>> bool(np.allclose(matrix, [[2, 0, 5], [0, 2, 5]]))
        True
        >>> apply(invert(matrix), apply(matrix, [[0.5, 0.25]])).round(6).tolist()
        [[0.5, 0.25]]
    """
    src, dst = np.asarray(src, dtype=np.float64), np.asarray(dst, dtype=np.float64)
    if src.shape != dst.shape or src.ndim != 2 or src.shape[1] != 2 or len(src) < 2:
        raise ValueError(f"two equal lists of at least two points are needed, not {src.shape} and {dst.shape}")
    return similarity_transforms(src[None], dst)[0]


def similarity_transforms(src: np.ndarray, dst: np.ndarray) -> np.ndarray:
    """:func:`similarity_transform` of many lists of points (B, N, 2), all to the same ``dst`` (N, 2): (B, 2, 3)."""
    if not (np.isfinite(src).all() and np.isfinite(dst).all()):
        raise ValueError("points must be finite")
    p, q = src @ (1, 1j), dst @ (1, 1j)
    p_mean, q_mean = p.mean(1, keepdims=True), q.mean()
    spread = np.sum(np.abs(p - p_mean) ** 2, 1)
    a = np.sum(np.conj(p - p_mean) * (q - q_mean), 1) / np.where(spread > 0, spread, np.inf)
    if (a == 0).any():
        raise ValueError("the points coincide, no similarity is determined by them")
    b = q_mean - a * p_mean[:, 0]
    return np.stack([np.stack([a.real, -a.imag, b.real], 1), np.stack([a.imag, a.real, b.imag], 1)], 1)


def invert(matrix: np.ndarray) -> np.ndarray:
    """Return the inverse transform: (2, 3) float64 such that ``apply(invert(m), apply(m, x)) == x``."""
    matrix = np.asarray(matrix, dtype=np.float64)
    linear = np.linalg.inv(matrix[:, :2])
    return np.hstack([linear, -linear @ matrix[:, 2:]])


def apply(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Map points (..., 2) by a (2, 3) matrix; the result is float64."""
    matrix = np.asarray(matrix, dtype=np.float64)
    return np.asarray(points, dtype=np.float64) @ matrix[:, :2].T + matrix[:, 2]


def scale_of(matrix: np.ndarray) -> float:
    """Return the scale of a similarity: pixels of the square for one pixel of the frame."""
    return float(math.sqrt(abs(np.linalg.det(np.asarray(matrix, dtype=np.float64)[:, :2]))))


def crop_matrix(landmarks: np.ndarray, size: int) -> np.ndarray:
    """Return the transform that puts (5, 2) landmarks of a frame on the template of a ``size`` pixel crop."""
    return similarity_transform(landmarks, face_template(size))


def enlarged(matrix: np.ndarray, factor: int) -> np.ndarray:
    """Return the transform to the square from a frame that was made ``factor`` times larger."""
    matrix = np.array(matrix, dtype=np.float64)
    # Pixel p of the frame becomes pixel factor p + (factor - 1) / 2.
    matrix[:, 2] -= matrix[:, :2] @ np.full(2, (factor - 1) / 2) / factor
    matrix[:, :2] /= factor
    return matrix


def crop(image: np.ndarray, matrix: np.ndarray, size: int) -> np.ndarray:
    """Crop the aligned square of an image.

    Sampling is that of :func:`warp`: nothing aliases. Outside the frame the picture goes on mirrored (the border pixel
    is not repeated), which leaves no black wedge for a restorer to sharpen; which pixels those are follows from the
    matrix.

    Args:
        image: (H, W, 3) or (H, W) uint8.
        matrix: (2, 3), from frame to square.
        size: side of the square, pixels.

    Returns:
        (size, size, 3) or (size, size) uint8.
    """
    return warp(image, matrix, (size, size), cv2.BORDER_REFLECT_101)


def warp(image: np.ndarray, matrix: np.ndarray, extent: tuple[int, int], border: int) -> np.ndarray:
    """Warp an image by a similarity without aliasing.

    Sampling is bicubic. What shrinks is sampled on a grid finer by a whole factor, so fine that no pixel of the image
    is skipped, and averaged down; from a factor of 3 on the samples are bilinear.

    Args:
        image: (H, W, 3) or (H, W), uint8 or float32.
        matrix: (2, 3), from ``image`` to the result.
        extent: (width, height) of the result, pixels.
        border: OpenCV's name of what lies outside ``image``; a constant one is 0.
    """
    factor = _supersampling(scale_of(matrix))
    fine = (extent[0] * factor, extent[1] * factor)
    flags = cv2.INTER_LINEAR if factor >= _BILINEAR_FROM else cv2.INTER_CUBIC
    result = cv2.warpAffine(image, _refine(matrix, factor), fine, flags=flags, borderMode=border)
    return cv2.resize(result, extent, interpolation=cv2.INTER_AREA) if factor > 1 else result


def warp_faces(frames: torch.Tensor, landmarks: torch.Tensor | np.ndarray, size: int = ARCFACE_SIZE) -> torch.Tensor:
    """Recognition crops of frames, differentiable with respect to the frames.

    Each frame is warped by the similarity that takes its five landmarks to the ArcFace template, by
    bilinear ``grid_sample``, on a finer grid averaged down where the face is larger than the crop.
    Outside the frame its border pixels repeat (independent of what value is black).

    Args:
        frames: (N, 3, H, W) float.
        landmarks: (N, 5, 2) pixels of the frames; no gradient flows to them.
        size: side of the crops; 112 is what recognisers take.

    Returns:
        (N, 3, size, size), of the frames' type and device.

    Raises:
        ValueError: shapes that do not fit, or landmarks that coincide or are not finite.
    """
    points = landmarks.detach().cpu().numpy() if isinstance(landmarks, torch.Tensor) else np.asarray(landmarks)
    if frames.ndim != 4 or points.shape != (len(frames), 5, 2):
        raise ValueError(f"frames (N, 3, H, W) and landmarks (N, 5, 2) are needed, not {frames.shape}, {points.shape}")
    template = arcface_template() * (size / ARCFACE_SIZE)
    matrices = similarity_transforms(points.astype(np.float64), template)
    scale = np.sqrt(np.abs(np.linalg.det(matrices[:, :, :2]))).min(initial=np.inf)
    factor = _supersampling(scale) if len(points) else 1
    height, width = frames.shape[-2:]
    # From pixels of the fine crop to grid_sample's [-1, 1] coordinates (align_corners=True).
    to_unit = np.array([[2 / max(width - 1, 1), 0, -1], [0, 2 / max(height - 1, 1), -1]])
    fine = _refine(matrices, factor)
    linear = np.linalg.inv(fine[:, :, :2])
    back = np.concatenate([linear, -linear @ fine[:, :, 2:]], 2)
    back = to_unit[:, :2] @ back + to_unit[:, 2:] * (0, 0, 1)
    device = frames.device
    transforms = torch.from_numpy(back).to(device)
    axis = torch.arange(size * factor, dtype=torch.float64, device=device)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    pixels = torch.stack([x, y, torch.ones_like(x)], dim=-1)
    grid = torch.einsum("hwj,nij->nhwi", pixels, transforms).to(frames.dtype)
    warped = F.grid_sample(frames, grid, mode="bilinear", padding_mode="border", align_corners=True)
    return F.avg_pool2d(warped, factor) if factor > 1 else warped


def _supersampling(scale: float) -> int:
    return min(_MAX_SUPERSAMPLING, max(1, math.ceil(1 / scale - 1e-6)))


def _refine(matrix: np.ndarray, factor: int) -> np.ndarray:
    """The transform to a square ``factor`` times finer: pixel i becomes pixels factor i ... factor i + factor - 1."""
    fine = np.asarray(matrix, dtype=np.float64) * factor
    fine[..., 2] += (factor - 1) / 2
    return fine
