"""A small FST, its batches and its published schedule with real steps, for the tests."""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from mmcv.cnn import ConvModule
from mmengine.logging import MMLogger
from mmengine.model import BaseModule
from mmengine.optim import OptimWrapper
from mmengine.registry import DefaultScope
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from torch import Tensor, nn

from mmdistill.registry import MODELS
from mmdistill.seg.fst import FST
from mmdistill.seg.seg_batch import look, look_at_both
from mmdistill.seg.semi_seg import SemiSeg

SIZE = (16, 24)
CLASSES = 4


class NarrowNet(BaseModule):
    """Three convolutions; mode changes return nothing, as those of mmseg's backbones.

    Args:
        norm_cfg: of all layers.
    """

    def __init__(self, norm_cfg: dict) -> None:
        super().__init__(init_cfg=dict(type='Kaiming', layer='Conv2d'))
        layers = ((3, 8, 2), (8, 16, 1), (16, 16, 2))
        self.stem = nn.ModuleList(
            ConvModule(inner, outer, 3, stride=stride, padding=1, norm_cfg=norm_cfg)
            for inner, outer, stride in layers
        )

    def forward(self, images: Tensor) -> list[Tensor]:
        """Maps at half and at a quarter of the size."""
        maps = self.stem[1](self.stem[0](images))
        return [maps, self.stem[2](maps)]

    def train(self, mode: bool = True) -> None:
        """As in torch."""
        super().train(mode)


def segmentor_config(norm: str = 'BN', dropout: float = 0.0, auxiliary: bool = False) -> dict:
    """A small net."""
    norm_cfg = dict(type=norm, requires_grad=True)
    if norm == 'GN':
        norm_cfg['num_groups'] = 2
    head = dict(
        type='FCNHead',
        in_channels=8,
        channels=8,
        num_convs=1,
        dropout_ratio=dropout,
        num_classes=CLASSES,
        norm_cfg=norm_cfg,
        align_corners=False,
        loss_decode=dict(type='CrossEntropyLoss'),
    )
    config = dict(
        type='mmseg.EncoderDecoder',
        data_preprocessor=dict(
            type='SegDataPreProcessor',
            mean=[120.0] * 3,
            std=[60.0] * 3,
            size=SIZE,
            pad_val=0,
            seg_pad_val=255,
        ),
        backbone=dict(type=NarrowNet, norm_cfg=norm_cfg),
        decode_head=dict(head, in_index=1, in_channels=16),
        train_cfg=dict(),
        test_cfg=dict(mode='whole'),
    )
    if auxiliary:
        config['auxiliary_head'] = dict(head, in_index=0, in_channels=16, dropout_ratio=0.0)
    return config


def fst(seed: int = 0, segmentor: dict | None = None, **options: Any) -> FST:
    """A model with weights of its own, ready to train."""
    return built({'type': 'mmdistill.FST', 'keep': 0.9, **options}, seed, segmentor)


def semi_seg(seed: int = 0, segmentor: dict | None = None, **options: Any) -> SemiSeg:
    """The same without a look ahead."""
    return built(dict(type='mmdistill.SemiSeg', **options), seed, segmentor)


def built(config: dict, seed: int, segmentor: dict | None) -> SemiSeg:
    """A model with initialised weights in training mode."""
    torch.manual_seed(seed)
    given = dict(
        segmentor=segmentor or segmentor_config(),
        mix=dict(type='mmdistill.ClassMix'),
        pseudo=dict(rule='share', threshold=0.4),
    )
    with DefaultScope.overwrite_default_scope('mmseg'), quiet():
        model = MODELS.build({**given, **config})
        model.init_weights()
    with torch.no_grad():  # as initialised all classes are alike, and the teacher is sure of none
        for branch in (model.student, model.teacher):
            branch.decode_head.conv_seg.weight.mul_(40)
    return model.train()


@contextmanager
def quiet() -> Iterator[None]:
    """Keeps mmengine from printing a line per initialised tensor."""
    logger = MMLogger.get_current_instance()
    level = logger.level
    logger.setLevel('ERROR')
    try:
        yield
    finally:
        logger.setLevel(level)


def batch_of(seed: int, labeled: int = 2, unlabeled: int = 2) -> dict:
    """A batch of the loader: branches ``sup`` and ``unsup_teacher``."""
    numbers = torch.Generator().manual_seed(seed)

    def image() -> Tensor:
        return torch.randint(0, 256, (3, *SIZE), generator=numbers).to(torch.uint8)

    def sample(with_labels: bool) -> SegDataSample:
        found = SegDataSample(metainfo=dict(img_shape=SIZE, ori_shape=SIZE))
        if with_labels:
            coarse = torch.randint(0, CLASSES, (1, 1, 4, 6), generator=numbers)
            labels = coarse.repeat_interleave(4, 2).repeat_interleave(4, 3)[0]
            found.gt_sem_seg = PixelData(data=labels)
        return found

    return dict(
        inputs=dict(
            sup=[image() for _ in range(labeled)],
            unsup_teacher=[image() for _ in range(unlabeled)],
        ),
        data_samples=dict(
            sup=[sample(True) for _ in range(labeled)],
            unsup_teacher=[sample(False) for _ in range(unlabeled)],
        ),
        branch_index=dict(sup=list(range(labeled)), unsup_teacher=list(range(unlabeled))),
    )


def loss_of(model: SemiSeg, data: dict) -> dict[str, Tensor]:
    """Losses of a batch of the loader, without a step."""
    return model(**model.data_preprocessor(copy.deepcopy(data), True), mode='loss')


def wrapper_of(model: nn.Module, kind: Callable | None = None, **more: Any) -> OptimWrapper:
    """An optimizer of the student, two groups."""
    kind = kind or (lambda groups: torch.optim.AdamW(groups, lr=0.01, weight_decay=0.02))
    params = list(model.student.parameters())
    return OptimWrapper(kind([dict(params=params[:5]), dict(params=params[5:], lr=0.03)]), **more)


def run(model: FST, optim: OptimWrapper, steps: int, start: int = 0, batch: Callable = batch_of):
    """Training steps on batches of increasing seeds; returns the losses."""
    losses = []
    for index in range(start, start + steps):
        model.cur_iter = index
        losses.append(float(model.train_step(batch(index), optim)['loss']))
    return losses


class PublishedSchedule:
    """The published code's step: real optimizer steps, copies of parameters, one average formula.

    Written from its description, with nothing of FST's machinery: what is compared with it is
    the order of averages, passes and steps.

    Args:
        model: supplies networks, losses, draws and labels; its ``train_step`` is not used.
        optimizer: steps.
        depth: virtual steps.
        wide: the wide form.
        last: average theta_t+1 too, and count steps in the warm-up.
    """

    def __init__(self, model: FST, optimizer: Any, depth: int, wide=False, last=False) -> None:
        self.model, self.optimizer, self.depth = model, optimizer, depth
        self.wide, self.last = wide, last
        self.passes, self.steps, self.averages = 0, 0, []

    def params(self) -> list[nn.Parameter]:
        """Of the student."""
        return list(self.model.student.parameters())

    @torch.no_grad()
    def average(self, values: list[Tensor]) -> None:
        """Teacher <- keep teacher + (1 - keep) values."""
        count = self.steps if self.last else self.passes
        keep = min(1 - 1 / (count + 1), self.model.keep)
        self.averages.append(keep)
        for mine, theirs in zip(self.model.teacher.parameters(), values, strict=True):
            mine.copy_(torch.lerp(mine, theirs, 1 - keep))

    def forward_backward_step(self, batch: Any, number: int) -> None:
        """One loss, three backward calls' worth of gradient, one step."""
        model = self.model
        self.optimizer.zero_grad()
        view = model.student_view(batch, number)
        if model.joint_forward:
            targets = model.pseudo_targets(batch)
            first, second = look_at_both(model.student, batch.labeled, view.images)
            losses = model.sup_losses(first, batch)
            losses.update(model.unsup_losses(second, batch, view, *targets))
            model.parse_losses(losses)[0].backward()
        else:
            sup = model.sup_losses(look(model.student, batch.labeled), batch)
            model.parse_losses(sup)[0].backward()
            targets = model.pseudo_targets(batch)
            seen = look(model.student, view.images)
            mixed = model.unsup_losses(seen, batch, view, *targets)
            model.parse_losses(mixed)[0].backward()
        self.optimizer.step()
        self.passes += 1

    def train_step(self, data: dict, virtual: list | None = None) -> None:
        """One iteration."""
        model = self.model
        data = model.data_preprocessor(data, True)
        batch = model.read_batch(data['inputs'], data['data_samples'])
        others = virtual or [batch] * self.depth
        params = self.params()
        if self.steps == 0 and not self.last:
            self.average([each.detach() for each in params])
            self.forward_backward_step(batch, 0)
            self.steps += 1
            self.average([each.detach() for each in params])
            return
        before = [each.detach().clone() for each in params]
        soup = None
        for number, other in enumerate(others, start=1):
            if self.wide:
                with torch.no_grad():
                    for each, old in zip(params, before, strict=True):
                        each.copy_(old)
            else:
                self.average([each.detach() for each in params])
            self.forward_backward_step(other, number)
            if self.wide:
                now = [each.detach().clone() for each in params]
                soup = (
                    now
                    if soup is None
                    else [torch.lerp(a, b, 1 / number) for a, b in zip(soup, now, strict=True)]
                )
        self.average(soup if self.wide else [each.detach() for each in params])
        with torch.no_grad():
            for each, old in zip(params, before, strict=True):
                each.copy_(old)
        self.forward_backward_step(batch, 0)
        if self.last or self.wide:
            self.average([each.detach() for each in params])
        self.steps += 1


def state_of(model: FST, optimizer: Any) -> dict[str, Tensor]:
    """Everything that training changes, by name."""
    found = {name: value.clone() for name, value in model.state_dict().items()}
    for index, part in copy.deepcopy(optimizer.state_dict()['state']).items():
        for name, value in part.items():
            if isinstance(value, Tensor):
                found[f'optimizer.{index}.{name}'] = value
    return found
