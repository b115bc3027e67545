"""Tiny models, data and runners with all the parts of real ones: BatchNorm, branches, metrics."""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.evaluator import BaseMetric
from mmengine.model import BaseModel
from mmengine.runner import Runner
from mmengine.structures import BaseDataElement
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import Dataset

from mmdistill.core.pseudo import PseudoStats
from mmdistill.core.semi_model import SemiModel

_names = itertools.count()


class ToyModel(BaseModel):
    """A classifier with a hidden layer, BatchNorm and a buffer of every kind.

    Args:
        in_channels: size of an input vector.
        channels: size of the hidden layer.
        classes: number of classes.
        data_preprocessor: as in mmengine.
        init_cfg: as in mmengine.
    """

    def __init__(
        self,
        in_channels: int = 4,
        channels: int = 8,
        classes: int = 3,
        data_preprocessor: dict | nn.Module | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(data_preprocessor=data_preprocessor, init_cfg=init_cfg)
        self.backbone = nn.Sequential(nn.Linear(in_channels, channels), nn.BatchNorm1d(channels))
        self.head = nn.Linear(channels, classes)
        self.register_buffer('seen', torch.zeros((), dtype=torch.long))

    def stack(self, inputs: Any) -> Tensor:
        """(B, in_channels) from a tensor or a list of vectors."""
        return inputs if isinstance(inputs, Tensor) else torch.stack(list(inputs))

    def forward(
        self,
        inputs: Any,
        data_samples: Sequence[BaseDataElement] | None = None,
        mode: str = 'tensor',
    ) -> Any:
        """Logits, losses (``loss_cls``, ``acc``) or data samples with ``pred_scores``."""
        logits = self.head(self.backbone(self.stack(inputs)).relu())
        if mode == 'tensor':
            return logits
        if mode == 'predict':
            scores = logits.softmax(1)
            found = data_samples or [BaseDataElement() for _ in scores]
            for sample, each in zip(found, scores, strict=True):
                sample.pred_scores = each
            return found
        if mode != 'loss':
            raise ValueError(f'mode must be loss, predict or tensor, got {mode!r}')
        if self.training:
            self.seen += len(logits)
        target = torch.stack([sample.gt_label for sample in data_samples])
        weight = torch.stack([sample.get('weight', target.new_ones(())) for sample in data_samples])
        loss = F.cross_entropy(logits, target, reduction='none') * weight
        return dict(loss_cls=loss.mean(), acc=(logits.argmax(1) == target).float().mean())


class ToyCloudModel(ToyModel):
    """The same for inputs ``{'points': list of (P, in_channels)}``, as 3D hosts have them."""

    def stack(self, inputs: dict) -> Tensor:
        """(B, in_channels) means of the clouds."""
        return torch.stack([cloud.mean(0) for cloud in inputs['points']])


class ToySemiModel(SemiModel):
    """Mean teacher for :class:`ToyModel` on branch batches.

    Args:
        model: config or instance of the host.
        score_thr: least teacher score of a pseudo label.
        **kwargs: as for :class:`SemiModel`.
    """

    def __init__(
        self, model: dict | nn.Module | None = None, score_thr: float = 0.0, **kwargs: Any
    ) -> None:
        super().__init__(model or dict(type=ToyModel), **kwargs)
        self.score_thr = score_thr

    def pseudo_samples(self, inputs: Any, data_samples: dict) -> list[BaseDataElement]:
        """The teacher's classes, with weight 0 below the threshold."""
        scores, labels = self.teacher(inputs, mode='tensor').softmax(1).max(1)
        kept = scores > self.score_thr
        classes = self.student.head.out_features
        self.pseudo_stats = PseudoStats(
            kept=labels[kept].bincount(minlength=classes),
            total=labels.bincount(minlength=classes),
            scores=scores,
        )
        samples = []
        for label, weight in zip(labels, kept.float(), strict=True):
            sample = BaseDataElement()
            sample.gt_label, sample.weight = label, weight
            samples.append(sample)
        return samples


class ToyDataset(Dataset):
    """Gaussian clusters, one per class; a sample is a function of its index and of torch's RNG.

    Args:
        size: number of samples.
        in_channels: size of a vector.
        classes: number of classes.
        seed: seed of centres and samples.
        jitter: standard deviation of noise drawn from torch's global generator, an
            augmentation.
        branches: None for plain samples; else the names of the branches that a sample has;
            each has its own noise.
        points: number of points of a cloud instead of one vector; 0 for a vector.
    """

    METAINFO = dict(classes=('a', 'b', 'c'))

    def __init__(
        self,
        size: int = 24,
        in_channels: int = 4,
        classes: int = 3,
        seed: int = 0,
        jitter: float = 0.0,
        branches: Sequence[str] | None = None,
        points: int = 0,
    ) -> None:
        generator = torch.Generator().manual_seed(seed)
        centers = 2 * torch.randn(classes, in_channels, generator=generator)
        self.labels = torch.arange(size) % classes
        noise = 0.5 * torch.randn(size, in_channels, generator=generator)
        self.vectors = centers[self.labels] + noise
        self.jitter, self.branches, self.points = jitter, branches, points
        self.metainfo = self.METAINFO

    def __len__(self) -> int:
        return len(self.labels)

    def view(self, index: int) -> dict:
        """One view: ``inputs`` and a data sample with ``gt_label`` and ``index``."""
        vector = self.vectors[index].clone()
        if self.points:
            vector = vector.expand(self.points + index % 3, -1).clone()
        if self.jitter:
            vector += self.jitter * torch.randn(vector.shape)
        sample = BaseDataElement(metainfo=dict(index=index))
        sample.gt_label = self.labels[index]
        return dict(inputs={'points': vector} if self.points else vector, data_samples=sample)

    def __getitem__(self, index: int) -> dict:
        if self.branches is None:
            return self.view(index)
        views = {name: self.view(index) for name in self.branches}
        return {
            key: {name: view[key] for name, view in views.items()}
            for key in ('inputs', 'data_samples')
        }


class ToyMetric(BaseMetric):
    """Accuracy in per cent."""

    default_prefix = 'toy'

    def process(self, data_batch: Any, data_samples: Sequence[BaseDataElement]) -> None:
        """Notes which samples are right."""
        for sample in data_samples:
            found = sample if isinstance(sample, dict) else sample.to_dict()
            self.results.append(bool(found['pred_scores'].argmax() == found['gt_label']))

    def compute_metrics(self, results: list[bool]) -> dict[str, float]:
        """``accuracy``."""
        return dict(accuracy=100 * sum(results) / max(len(results), 1))


def toy_runner(
    work_dir: str | Path,
    model: Any = None,
    max_iters: int = 6,
    dataset: Dataset | None = None,
    batch_size: int = 4,
    hooks: Sequence[Any] = (),
    **settings: Any,
) -> Runner:
    """A Runner that trains a toy on the CPU, quietly and without checkpoints.

    Args:
        work_dir: folder for its files.
        model: a built model or its config; default :class:`ToyModel`.
        max_iters: number of iterations.
        dataset: default :class:`ToyDataset`; one with branches gets ``branch_collate``.
        batch_size: batch size.
        hooks: custom hooks.
        **settings: further arguments of ``Runner``, or other values for those set here.
    """
    dataset = dataset if dataset is not None else ToyDataset()
    branches = getattr(dataset, 'branches', None)
    collate = 'pseudo_collate' if branches is None else 'mmdistill.branch_collate'
    defaults = dict(
        model=model if model is not None else ToyModel(),
        work_dir=str(work_dir),
        train_dataloader=dict(
            dataset=dataset,
            sampler=dict(type='mmdistill.NaturalSampler'),
            collate_fn=dict(type=collate),
            batch_size=batch_size,
            num_workers=0,
        ),
        train_cfg=dict(type='IterBasedTrainLoop', max_iters=max_iters),
        optim_wrapper=dict(
            constructor='mmdistill.StudentOptimWrapperConstructor',
            optimizer=dict(type='SGD', lr=0.1, momentum=0.9),
        ),
        default_hooks=dict(checkpoint=None, logger=None, timer=None),
        custom_hooks=list(hooks),
        log_level='WARNING',
        randomness=dict(seed=0),
        experiment_name=f'toy_{next(_names)}',
        default_scope='mmengine',
    )
    return Runner(**{**defaults, **settings})
