"""Synthetic images and labels that are learned by matching trajectories."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from mmengine.dist import broadcast
from mmengine.model import BaseModel
from torch import Tensor, nn

from mmdistill.core.errors import UserError
from mmdistill.core.gradients import all_finite
from mmdistill.core.rng import key_generator, preserve_rng
from mmkd.datasets.prepared import PreparedImages
from mmkd.experts.flat_network import FlatNetwork
from mmkd.experts.store import TrajectoryStore
from mmkd.experts.training import plain
from mmkd.matching import initial
from mmkd.matching.trajectory_matching import Matcher, draw_plan
from mmkd.registry import DATASETS, MODELS, TASK_UTILS


@MODELS.register_module()
class TrajectoryMatching(BaseModel):
    """Distils a data set into a few images per class (MTT, FTD, TESLA and DATM by settings).

    Learned are ``images`` ``(S, C, H, W)``, class after class, in the space that networks see
    (whitened or normalised), ``label_logits`` ``(S, classes)`` and ``inner_lr``. Each has its own
    rate and momentum in the optimizer's ``paramwise_cfg``. Iteration i draws all its random numbers
    from (seed, i), so that nothing but these and the optimizer's state has to be kept.

    Args:
        network: config of experts and students, as the experts have it.
        experts: folder of the :class:`TrajectoryStore`.
        source: config of the :class:`PreparedImages` that the experts have learned.
        image_size: height and width.
        in_channels: of the images.
        num_classes: C.
        ipc: images per class.
        steps: N of the student.
        batch: images per step; None: all.
        inner_lr: alpha at first.
        engine: see :class:`Matcher`.
        micro_batch: see :class:`Matcher`.
        compiled: see :class:`Matcher`.
        augment: config of a :class:`mmkd.augment.dsa.DSA`, or None.
        threshold: segments with a larger loss teach nothing.
        learn_labels: False keeps the labels as they begin; hard ones then give MTT and FTD.
        learn_lr: False keeps alpha.
        init_images: ``'correct'``: real images that an expert classifies correctly; ``'real'``: any
            real ones; ``'noise'``: normal noise.
        init_labels: ``'mean_correct'``: mean logits of the experts that are right; ``'first'``:
            logits of the first expert, right or wrong; ``'hard'``: the class.
        init_epoch: snapshot of the experts that choose images; -1: the last.
        min_inner_lr: alpha is kept at least this large: a negative one cannot train a network.
        seed: of the images at first, batches and augmentation.
        data_preprocessor: see mmengine.

    Raises:
        UserError: an unknown choice, or sizes below 1.
    """

    own_step = True
    """Ranks share each batch and add up gradients themselves."""

    def __init__(
        self,
        network: Mapping[str, Any],
        experts: str,
        source: Mapping[str, Any],
        image_size: tuple[int, int],
        in_channels: int,
        num_classes: int,
        ipc: int,
        steps: int,
        batch: int | None = None,
        inner_lr: float = 0.01,
        engine: str = 'adjoint',
        micro_batch: int | None = None,
        compiled: bool = False,
        augment: Mapping[str, Any] | None = None,
        threshold: float | None = 1.0,
        learn_labels: bool = True,
        learn_lr: bool = True,
        init_images: str = 'correct',
        init_labels: str = 'mean_correct',
        init_epoch: int = -1,
        min_inner_lr: float = 1e-6,
        seed: int = 0,
        data_preprocessor: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(data_preprocessor)
        sizes = dict(ipc=ipc, steps=steps, batch=1 if batch is None else batch)
        for name, value in sizes.items():
            if value < 1:
                raise UserError(f'{name} must be at least 1, got {value}')
        for name, value, known in (
            ('init_images', init_images, initial.IMAGES),
            ('init_labels', init_labels, initial.LABELS),
        ):
            if value not in known:
                raise UserError(f'{name} {value!r} is none of {", ".join(known)}')
        if not 0 < min_inner_lr <= inner_lr:
            raise UserError(
                f'inner_lr must be at least min_inner_lr, which is above 0; got {inner_lr} and '
                f'{min_inner_lr}'
            )
        self.network_cfg = plain(network)
        self.experts, self.source_cfg = experts, source
        self.steps, self.batch, self.threshold = steps, batch, threshold
        self.init_images, self.init_labels = init_images, init_labels
        self.init_epoch, self.min_inner_lr, self.seed = init_epoch, min_inner_lr, seed
        self.num_classes, self.ipc, self.first_inner_lr = num_classes, ipc, inner_lr
        total = num_classes * ipc
        self.images = nn.Parameter(torch.zeros(total, in_channels, *image_size))
        self._register('label_logits', torch.zeros(total, num_classes), learn_labels)
        self._register('inner_lr', torch.tensor(float(inner_lr)), learn_lr)
        self.register_buffer('hard_labels', torch.arange(num_classes).repeat_interleave(ipc))
        self.augment = None if augment is None else TASK_UTILS.build(dict(augment))
        with preserve_rng():
            flat = FlatNetwork(MODELS.build(dict(network)))
        # not a submodule: its own values play no role and belong into no checkpoint
        self._flat = [flat]
        self.matcher = Matcher(flat, engine, self.augment, micro_batch, learn_labels, compiled)
        self._source: PreparedImages | None = None

    def _register(self, name: str, value: Tensor, learned: bool) -> None:
        """A tensor that is learned, or that stays as it begins."""
        if learned:
            self.register_parameter(name, nn.Parameter(value))
        else:
            self.register_buffer(name, value)

    @property
    def flat(self) -> FlatNetwork:
        """The network of experts and students as a function, on the device of the images."""
        self._flat[0].network.to(self.images.device)
        return self._flat[0]

    @property
    def source(self) -> PreparedImages:
        """The real images; read when they are first asked for."""
        if self._source is None:
            self._source = DATASETS.build(dict(self.source_cfg))
        return self._source

    def open_store(self) -> TrajectoryStore:
        """The experts, which must have learned these images with this network."""
        about = dict(network=self.network_cfg, data=self.source.digest)
        return TrajectoryStore.open(self.experts, about)

    @torch.no_grad()
    def init_weights(self) -> None:
        """Images and labels as they begin.

        Raises:
            UserError: experts of other images or another network, too few images that they are
                right about, or images of another size.
        """
        store, source, flat = self.open_store(), self.source, self.flat
        if source.images.shape[1:] != self.images.shape[1:]:
            raise UserError(
                f'images of the data set are {tuple(source.images.shape[1:])}, in_channels and '
                f'image_size of TrajectoryMatching say {tuple(self.images.shape[1:])}'
            )
        self._check_classes()
        draw = key_generator(self.seed)
        device, classes = self.images.device, self.num_classes
        if self.init_images == 'noise':
            self.images.copy_(torch.randn(self.images.shape, generator=draw))
        else:
            if self.init_images == 'real':
                rows = initial.random_rows(source.labels, self.ipc, classes, draw)
            else:
                rows = initial.correct_rows(
                    flat,
                    store,
                    source.images.to(device),
                    source.labels,
                    self.ipc,
                    classes,
                    draw,
                    self.init_epoch,
                    source.metainfo.get('classes', ()),
                )
            self.images.copy_(source.images[rows])
        if self.init_labels == 'mean_correct':
            found = initial.mean_correct_logits(flat, store, self.images, self.hard_labels)
        elif self.init_labels == 'first':
            found = initial.expert_logits(flat, store, 0, self.images)
        else:
            found = initial.hard_logits(self.hard_labels, classes)
        self.label_logits.copy_(found)
        for each in (self.images, self.label_logits):
            broadcast(each.data)

    def _check_classes(self) -> None:
        """Data and network must have as many classes as the labels."""
        source, flat = self.source, self.flat
        of_data = len(source.metainfo.get('classes', ())) or int(source.labels.max()) + 1
        one = source.images[:1].to(self.images.device)
        theta = flat.theta().to(one)
        of_network = flat.logits(theta, one, training=False).shape[-1]
        if not self.num_classes == of_data == of_network:
            raise UserError(
                f'num_classes of TrajectoryMatching is {self.num_classes}, the data set has '
                f'{of_data} classes and the network {of_network}'
            )

    def train_step(self, data: Mapping[str, Any], optim_wrapper: Any) -> dict[str, Any]:
        """Matches one segment.

        A segment with a loss above the threshold, or with a loss or gradient that is not finite,
        leaves parameters and the optimizer's state as they are.

        Args:
            data: an item of :class:`mmkd.matching.segments.SegmentDataset`.
            optim_wrapper: of the three parameters.

        Returns:
            ``loss``, ``inner_lr``, ``epoch`` (start of the segment), ``skipped`` (0 or 1).
        """
        device, position = self.images.device, int(data['position'])
        _ = self.flat
        plan = draw_plan(
            len(self.images),
            self.batch,
            self.steps,
            key_generator(self.seed, 1, position),
            self.augment,
            tuple(self.images.shape[-2:]),
            device,
        )
        found = self.matcher(
            self.images,
            self.label_logits,
            self.inner_lr,
            data['start'].to(device),
            data['target'].to(device),
            plan,
            self.threshold,
        )
        gradients = (found.images, found.labels, found.lr)
        learned = found.images is not None and bool(all_finite(gradients))
        if learned:
            for each, gradient in zip(
                (self.images, self.label_logits, self.inner_lr), gradients, strict=True
            ):
                each.grad = gradient if each.requires_grad else None
            optim_wrapper.step()
            optim_wrapper.zero_grad()
            with torch.no_grad():
                self.inner_lr.clamp_(min=self.min_inner_lr)
        return dict(
            loss=found.loss,
            inner_lr=self.inner_lr.detach().clone(),
            epoch=float(data['epoch']),
            skipped=float(not learned),
        )

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Synthetic images are no network.

        Raises:
            UserError: always.
        """
        raise UserError(
            'TrajectoryMatching predicts nothing: val_cfg and test_cfg need '
            "type='mmkd.FromScratchLoop', which trains networks on its images"
        )
