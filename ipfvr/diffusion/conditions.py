"""What the network is shown beside the low-quality clip: the values that guide a restoration (Section 3.2, Eq. 12)."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from torch import Tensor

from ipfvr.diffusion.guidance import NEGATIVE_TEXT, NEGATIVE_VISUAL, POSITIVE


@dataclass(frozen=True)
class Branch:
    """What one branch of a guider shows the network.

    Attributes:
        text: (B, L, D) text embedding; branches that hold the very same tensor share the ControlNet's features.
        image_tokens: (B, N, D) image prompt, or None.
    """

    text: Tensor
    image_tokens: Tensor | None = None


@dataclass(frozen=True)
class Conditions:
    """What the network is shown of one person, in all clips.

    Attributes:
        text: (1, L, D) embedding of the positive prompt, c_t of Eq. 12.
        negative_text: (1, L, D) of the negative one, c~_t; may be None where the guider has no such branch.
        image_tokens: (1, N, D) image prompt, c_i, or None.
        degraded_tokens: (1, N, D) of the degraded references, c~_i; None: the negative visual branch is not run.
        references: how many pictures of the person the image prompt was made of.
    """

    text: Tensor
    negative_text: Tensor | None = None
    image_tokens: Tensor | None = None
    degraded_tokens: Tensor | None = None
    references: int = 0

    def branches(self, names: Collection[str]) -> dict[str, Branch]:
        """What each branch of a guider is shown; the negative visual one is left out where nothing is degraded.

        Args:
            names: the branches that the guider has.

        Raises:
            ValueError: the guider has a negative text branch, and there is no negative text.
        """
        found = {POSITIVE: Branch(self.text, self.image_tokens)}
        if NEGATIVE_TEXT in names:
            if self.negative_text is None:
                raise ValueError("the guider has a negative text branch: it needs negative_text")
            found[NEGATIVE_TEXT] = Branch(self.negative_text, self.image_tokens)
        if NEGATIVE_VISUAL in names and self.degraded_tokens is not None:
            found[NEGATIVE_VISUAL] = Branch(self.text, self.degraded_tokens)
        return found
