"""Multi-level Feature Learning: heatmaps from several stages of the student's backbone.

TRS (arXiv:2501.09565) names the idea; which stages it uses and with which heads is not known.
This is our completion: an auxiliary head on a stage has as many deconvolutions as bring the stage
to the main head's resolution, like mmpose's ``HeatmapHead``, and every level is compared with the
same targets. The heads live beside the student, so the student's keys are those of the plain
model; teacher, reviewer and prediction do not know them and pay nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from mmengine.model import BaseModule, ModuleList
from mmpose.models.heads import HeatmapHead
from torch import Tensor, nn
from torch.nn import functional

from mmdistill.core.errors import UserError, did_you_mean
from mmdistill.core.modes import evaluating
from mmdistill.pose.feature_tap import as_map, extra_tokens_of, tapped
from mmdistill.pose.heatmaps import HeatmapGrid


@dataclass(frozen=True)
class AuxLevel:
    """One auxiliary level.

    Attributes:
        stage: name of a submodule of the backbone: ``layer3`` (ResNet), ``stage3`` (HRNet),
            ``layers.5`` (ViT).
        channels: channels of the deconvolutions.
        num_deconvs: deconvolutions, each of which doubles the resolution; None takes as many as
            fit. What they leave over is interpolated.
        weight: weight of the level's losses; the main head has 1.
        index: which output is taken from a stage that returns several.

    Raises:
        UserError: a value out of range, or an unknown key (:meth:`parse`).
    """

    stage: str
    channels: int = 128
    num_deconvs: int | None = None
    weight: float = 0.5
    index: int = 0

    def __post_init__(self) -> None:
        for name, least in (('channels', 1), ('num_deconvs', 0)):
            value = getattr(self, name)
            if value is not None and (type(value) is not int or value < least):
                raise UserError(f'{name} of aux must be a number from {least} on, got {value!r}')
        if not 0 <= self.weight < float('inf'):
            raise UserError(f'weight of aux must be at least 0, got {self.weight}')

    @classmethod
    def parse(cls, given: Mapping[str, Any]) -> 'AuxLevel':
        """From an entry of the config."""
        known = [field.name for field in fields(cls)]
        for key in given:
            if key not in known:
                raise UserError(f'aux: unknown key {key!r}{did_you_mean(key, known)}; {known}')
        if 'stage' not in given:
            raise UserError(f'aux: an entry names no stage: {dict(given)}')
        return cls(**given)


class MultiLevelHeads(BaseModule):
    """Auxiliary heads for a student, which is looked at but not kept.

    Built with one forward pass of the student on an empty picture, in evaluation mode: it tells
    channels and strides, and whether everything fits. No buffer of the student changes.

    Args:
        student: mmpose's ``TopdownPoseEstimator`` with a ``HeatmapHead``.
        aux: one mapping per level, see :class:`AuxLevel`; may be empty.
        grid: sizes of input and heatmaps.

    Attributes:
        aux_levels: the levels.
        weights: of all levels, 1 for the main head first.

    Raises:
        UserError: unknown stages or keys, a stage twice, sizes that do not fit, or a student
            without heatmaps.
    """

    def __init__(
        self, student: nn.Module, aux: Sequence[Mapping[str, Any]], grid: HeatmapGrid
    ) -> None:
        super().__init__()
        lacking = [name for name in ('backbone', 'head') if not hasattr(student, name)]
        if lacking:
            raise UserError(f'{type(student).__name__} has no {" and no ".join(lacking)}')
        self.aux_levels = tuple(AuxLevel.parse(each) for each in aux)
        self.weights = (1.0, *(level.weight for level in self.aux_levels))
        self.stages = [level.stage for level in self.aux_levels]
        if len(set(self.stages)) < len(self.stages):
            raise UserError(f'aux names a stage twice: {self.stages}')
        self.heatmap_size = grid.heatmap_size
        weight = next(student.parameters())
        picture = weight.new_zeros(1, 3, *grid.input_size[::-1])
        with evaluating(student), torch.no_grad():
            main, features = self._features(student, picture)
        if not isinstance(main, Tensor) or main.dim() != 4:
            raise UserError(f'{type(student.head).__name__} makes no heatmaps: use HeatmapHead')
        self._check('the main head', main, exact=True)
        joints = main.shape[1]
        heads = []
        for level, feature in zip(self.aux_levels, features, strict=True):
            count = self._deconvs(level, feature)
            heads.append(
                HeatmapHead(
                    in_channels=feature.shape[1],
                    out_channels=joints,
                    deconv_out_channels=(level.channels,) * count,
                    deconv_kernel_sizes=(4,) * count,
                    loss=dict(type='mmpose.KeypointMSELoss'),  # unused, in whatever scope
                )
            )
        self.aux_heads = ModuleList(heads)

    def _features(self, student: nn.Module, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Heatmaps of the main head and maps of the stages from one pass of the backbone."""
        backbone = student.backbone
        with tapped(backbone, self.stages) as found:
            main = student.head(student.extract_feat(images))
        lost = [stage for stage in self.stages if stage not in found]
        if lost:
            raise UserError(f'{type(backbone).__name__} does not run its stages {lost}')
        size, extra = (images.shape[-1], images.shape[-2]), extra_tokens_of(backbone)
        return main, [
            as_map(found[level.stage], level.stage, size, level.index, extra)
            for level in self.aux_levels
        ]

    def _check(self, what: str, maps: Tensor, exact: bool = False) -> None:
        """Refuses a map that is not the heatmap's size, or not in proportion to it."""
        width, height = self.heatmap_size
        rows, columns = maps.shape[-2:]
        if (rows, columns) == (height, width):
            return
        if exact or rows * width != columns * height:
            raise UserError(
                f'{what} gives {columns} x {rows} pixels for heatmaps of {width} x {height}: '
                'the sides of the input must be multiples of the largest stride, and the '
                'heatmap_size of the codec that of the head'
            )

    def _deconvs(self, level: AuxLevel, feature: Tensor) -> int:
        """Number of deconvolutions for a stage."""
        self._check(f'stage {level.stage!r}', feature)
        width, present = self.heatmap_size[0], feature.shape[-1]
        most = 0
        while present * 2 ** (most + 1) <= width:
            most += 1
        count = most if level.num_deconvs is None else level.num_deconvs
        if count > most:
            raise UserError(
                f'stage {level.stage!r} is {present} pixels wide and the heatmap {width}: at most '
                f'{most} deconvolutions, not {count}'
            )
        return count

    def forward(self, student: nn.Module, images: Tensor) -> list[Tensor]:
        """Heatmaps of all levels from one pass of the student's backbone.

        Args:
            student: the network that the heads were built for, or a copy of it.
            images: (B, 3, H, W) normalised.

        Returns:
            (B, K, h, w) per level, the main head's first.
        """
        main, features = self._features(student, images)
        levels = [main]
        for head, feature in zip(self.aux_heads, features, strict=True):
            maps = head((feature,))
            if maps.shape[-2:] != main.shape[-2:]:
                size = tuple(main.shape[-2:])
                maps = functional.interpolate(maps, size, mode='bilinear', align_corners=False)
            levels.append(maps)
        return levels
