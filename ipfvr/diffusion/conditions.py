"""The conditions of a restoration: the inputs of the network beside the low-quality clip (Section 3.2, Eq. 12)."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from torch import Tensor

from ipfvr.diffusion.guidance import NEGATIVE_TEXT, NEGATIVE_VISUAL, POSITIVE


@dataclass(frozen=True)
class Branch:
    """The conditions of one branch of a guider.

    Attributes:
        text: (B, L, D) text embedding; branches that hold the same tensor object share the ControlNet's features.
        image_tokens: (B, N, D) image prompt, or None.
    """

    text: Tensor
    image_tokens: Tensor | None = None


@dataclass(frozen=True)
class Conditions:
    """The conditions of one person, the same in all clips.

    Attributes:
        text: (1, L, D) embedding of the positive prompt, c_t of Eq. 12.
        negative_text: (1, L, D) embedding of the negative prompt, c~_t; None if the guider has no such branch.
        image_tokens: (1, N, D) image prompt, c_i, or None.
        degraded_tokens: (1, N, D) image prompt from the degraded references, c~_i; None: the negative visual branch is
            not run.
        references: the number of the person's pictures in the image prompt.
    """

    text: Tensor
    negative_text: Tensor | None = None
    image_tokens: Tensor | None = None
    degraded_tokens: Tensor | None = None
    references: int = 0

    def branches(self, names: Collection[str]) -> dict[str, Branch]:
        """Return the conditions of each branch; without degraded references there is no negative visual branch.

        Args:
            names: the branches that the guider has.

        Raises:
            ValueError: the guider has a negative text branch, but there is no negative text.
        """
        found = {POSITIVE: Branch(self.text, self.image_tokens)}
        if NEGATIVE_TEXT in names:
            if self.negative_text is None:
                raise ValueError("the guider has a negative text branch: it needs negative_text")
            found[NEGATIVE_TEXT] = Branch(self.negative_text, self.image_tokens)
        if NEGATIVE_VISUAL in names and self.degraded_tokens is not None:
            found[NEGATIVE_VISUAL] = Branch(self.text, self.degraded_tokens)
        return found
