"""Keypoint-Mix: patches around joints are mixed with patches around other joints.

TRS (arXiv:2501.09565) names the augmentation and says that it mixes different keypoints; its
formula is not known. This is our completion, after DualPose's Joint-Cutout (arXiv:2011.12498)
and SSPCM's Cut-Occlude (arXiv:2303.04346). For every patch, with centre ``d`` near a joint, centre
``s`` near another joint, half sizes ``a`` and mixing weight ``w``:

    X'(p) = (1 - w) X(p) + w X_donor(s + p - d)    where |p - d| <= a, per axis

(:mod:`mmdistill.pose.patches` says how overlaps and borders are treated). The peers are corners
of the same transform:

===============  ===============================================================================
Joint-Cutout     ``scope='cutout', patches=5, mix_weight=(1, 1), fill=0``: no source, all fill
Cut-Occlude      ``scope='inter', patches=2, mix_weight=(1, 1), fill=0``: pasting from another
                 image (SSPCM fills the whole patch when the two are clipped differently, here only
                 the missing pixels; it may draw the image itself, here only in a batch of one)
===============  ===============================================================================

Both published codes confuse rows and columns, so lower joints are missed; here x is x.
"""

import torch
from torch import Tensor

from mmdistill.core.errors import UserError
from mmdistill.pose.patches import Patches, mix_patches
from mmdistill.pose.views import normal
from mmdistill.registry import TASK_UTILS

SCOPES = ('intra', 'inter', 'cutout')


def pick(valid: Tensor, uniform: Tensor) -> Tensor:
    """One of the allowed entries, all equally likely; 0 where there is none.

    Args:
        valid: (..., K) bool.
        uniform: (...) numbers in [0, 1).
    """
    rank = valid.cumsum(-1)
    count = rank[..., -1]
    wanted = torch.minimum((uniform * count).long(), (count - 1).clamp(min=0)) + 1
    return ((rank == wanted[..., None]) & valid).int().argmax(-1)


def cyclic_partners(uniform: Tensor) -> Tensor:
    """Partners within the batch: a random cycle through all samples.

    Nobody is his own partner unless the batch has one sample, and whoever reorders the samples
    together with their numbers reorders the partners.

    Args:
        uniform: (B, M) numbers, one cycle for each of the M columns.

    Returns:
        (B, M) indices into the batch.
    """
    order = uniform.argsort(dim=0, stable=True)
    return torch.empty_like(order).scatter_(0, order, order.roll(-1, 0))


@TASK_UTILS.register_module()
class KeypointMix:
    """Draws and applies Keypoint-Mix to a batch; targets stay as they are.

    Args:
        scope: ``intra`` (another joint of the same image), ``inter`` (a joint of another image of
            the batch; in a batch of one another joint of the same image) or ``cutout`` (no
            source: ``fill`` alone).
        patches: number of patches per image; two may lie on the same joint.
        mix_weight: lowest and highest share of the source, drawn per patch.
        half_size: lowest and highest half size of a patch as a share of the input's width, drawn
            per axis; 0.052 and 0.1 are the peers' 10 and 19 pixels at a width of 192.
        jitter: standard deviation of the centres around the joints as a share of the input's
            width, per axis; 0.052 are the peers' 10 pixels.
        confidence: joints count where their confidence is above this value. Images with fewer
            than two such joints are left alone (``cutout`` needs one).
        fill: value that stands in for source pixels outside the donor image; None leaves the
            pixels that would need them alone.

    Raises:
        UserError: a value out of range.
    """

    NUMBERS = 10

    def __init__(
        self,
        scope: str = 'intra',
        patches: int = 2,
        mix_weight: tuple[float, float] = (0.1, 0.5),
        half_size: tuple[float, float] = (0.052, 0.1),
        jitter: float = 0.052,
        confidence: float = 0.1,
        fill: float | None = None,
    ) -> None:
        if scope not in SCOPES:
            raise UserError(f'scope of KeypointMix must be one of {SCOPES}, got {scope!r}')
        if not isinstance(patches, int) or isinstance(patches, bool) or patches < 1:
            raise UserError(f'patches of KeypointMix must be a number from 1 on, got {patches!r}')
        for name, pair in (('mix_weight', mix_weight), ('half_size', half_size)):
            if not (
                isinstance(pair, (list, tuple)) and len(pair) == 2 and 0 <= pair[0] <= pair[1] <= 1
            ):
                raise UserError(
                    f'{name} of KeypointMix must be an increasing pair in [0, 1], got {pair}'
                )
        if not 0 <= jitter <= 1:
            raise UserError(f'jitter of KeypointMix must lie in [0, 1], got {jitter}')
        if confidence != confidence:
            raise UserError('confidence of KeypointMix must be a number, got nan')
        if scope == 'cutout' and fill is None:
            raise UserError("KeypointMix with scope='cutout' has no source: give it a fill")
        self.scope = scope
        self.patches = patches
        self.mix_weight = tuple(mix_weight)
        self.half_size = tuple(half_size)
        self.jitter = jitter
        self.confidence = confidence
        self.fill = fill

    def numbers(
        self,
        batch: int,
        device: torch.device | str = 'cpu',
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """(B, M, 10) uniform numbers in [0, 1) for :meth:`draw`."""
        shape = (batch, self.patches, self.NUMBERS)
        return torch.rand(shape, device=device, generator=generator)

    def draw(
        self, places: Tensor, confidences: Tensor, uniform: Tensor, size: tuple[int, int]
    ) -> Patches:
        """Chooses joints, jitters them and draws sizes and weights.

        Args:
            places: (B, K, 2) joints in input pixels.
            confidences: (B, K).
            uniform: (B, M, 10) numbers in [0, 1): partner, target joint, source joint, jitter of
                the target x, y and of the source x, y, half size x, y, mixing weight.
            size: (W, H) of the input in pixels.
        """
        partner, target, source = uniform[..., :3].unbind(-1)
        width, height = size
        rows = torch.arange(len(places), device=places.device)[:, None]
        donor = cyclic_partners(partner) if self.scope == 'inter' else rows.expand_as(partner)
        valid = confidences > self.confidence
        allowed = valid[:, None].expand(-1, self.patches, -1)
        joint = pick(allowed, target)
        others = torch.arange(valid.shape[1], device=places.device) != joint[..., None]
        others = valid[donor] & (others | (donor != rows)[..., None])
        other = pick(others, source)
        enough = valid.sum(1, keepdim=True) >= (1 if self.scope == 'cutout' else 2)
        active = enough.expand_as(joint)
        jitter = normal(uniform[..., 3:7]) * (self.jitter * width)
        center = (places[rows, joint] + jitter[..., :2]).round().long()
        origin = (places[donor, other] + jitter[..., 2:]).round().long()
        if self.scope == 'cutout':
            # left of and above the image by more than a patch: no pixel has a source
            origin = torch.full_like(center, -2 * (width + height))
        else:
            active = active & others.any(-1)
        low, high = (round(share * width) for share in self.half_size)
        half = low + (uniform[..., 7:9] * (high - low + 1)).long().clamp(max=high - low)
        least, most = self.mix_weight
        weight = least + (most - least) * uniform[..., 9]
        return Patches(center, origin, donor, half, weight, active, high)

    @torch.no_grad()
    def __call__(
        self,
        images: Tensor,
        places: Tensor,
        confidences: Tensor,
        uniform: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Mixes a batch.

        Args:
            images: (B, 3, H, W) normalised floats; not changed.
            places: (B, K, 2) joints in input pixels.
            confidences: (B, K).
            uniform: (B, M, 10) numbers, see :meth:`draw`; drawn when left out.
            generator: where they are drawn from, on the device of the images.

        Returns:
            (B, 3, H, W) without gradient.
        """
        if uniform is None:
            uniform = self.numbers(len(images), images.device, generator)
        height, width = images.shape[-2:]
        patches = self.draw(places, confidences, uniform, (width, height))
        return mix_patches(images, patches, self.fill)
