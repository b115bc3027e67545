"""A tiny training that draws random numbers everywhere, so that a resume which forgets one shows.

``noisy_config`` is a complete config; ``custom_imports`` of this module registers its parts.
"""

import random
from typing import Any

import numpy as np
import torch
from mmengine.evaluator import BaseMetric
from mmengine.model import BaseModel
from torch import nn
from torch.utils.data import Dataset

from mmdistill.registry import DATASETS, METRICS, MODELS
from mmdistill.testing.faults import FaultHook


@MODELS.register_module()
class NoisyModel(BaseModel):
    """Convolution, BatchNorm, dropout and noise of three generators; two classes.

    Args:
        width: Channels.
    """

    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, width, 3)
        self.norm = nn.BatchNorm2d(width)
        self.drop = nn.Dropout(0.3)
        self.head = nn.Linear(width, 2)
        self.register_buffer('seen', torch.zeros((), dtype=torch.long))

    def forward(self, inputs: list, data_samples: list, mode: str = 'tensor') -> Any:
        """Computes logits (B, 2), a loss dict, or a list of predicted classes.

        Args:
            inputs: B tensors (3, 8, 8).
            data_samples: B classes.
            mode: ``tensor``, ``loss`` or ``predict``.
        """
        weight = self.head.weight
        pixels = torch.stack(list(inputs)).to(weight)
        logits = self.head(self.drop(self.norm(self.conv(pixels)).relu().mean((2, 3))))
        if mode == 'loss':
            self.seen += len(data_samples)
            noise = 1 + 0.1 * random.random() + 0.1 * float(np.random.rand())  # noqa: NPY002
            target = torch.as_tensor(data_samples, device=weight.device)
            return dict(loss=noise * nn.functional.cross_entropy(logits, target))
        if mode == 'predict':
            return [
                dict(guess=int(g), label=y)
                for g, y in zip(logits.argmax(1), data_samples, strict=True)
            ]
        return logits


@DATASETS.register_module()
class NoisyDataset(Dataset):
    """Fixed images with noise of three generators on top, drawn anew at each access.

    Args:
        length: Number of samples.
    """

    METAINFO = dict(classes=('even', 'odd'))

    def __init__(self, length: int = 13) -> None:
        self.length = length
        self.metainfo = self.METAINFO

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, Any]:
        if not 0 <= index < self.length:
            raise IndexError(index)
        image = torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(index))
        shift = random.random() + float(np.random.rand())  # noqa: NPY002
        noisy = image + 0.1 * torch.randn(3, 8, 8) + shift
        return dict(inputs=noisy, data_samples=index % 2)


@METRICS.register_module()
class NoisyMetric(BaseMetric):
    """Accuracy plus noise, so that a validation which disturbs the training shows."""

    def process(self, data_batch: Any, data_samples: list[dict]) -> None:
        """Compares guesses with labels.

        Args:
            data_batch: Unused.
            data_samples: Predictions of ``NoisyModel``.
        """
        self.results += [float(sample['guess'] == sample['label']) for sample in data_samples]

    def compute_metrics(self, results: list[float]) -> dict[str, float]:
        """Averages.

        Args:
            results: 1.0 for each right guess.

        Returns:
            ``accuracy``, with noise.
        """
        return dict(accuracy=float(np.mean(results)) + 0.01 * float(torch.rand(())))


def noisy_config(work_dir: str, max_iters: int = 20, **changes: Any) -> dict[str, Any]:
    """Makes a config of a training by iterations.

    Args:
        work_dir: Folder for checkpoints and logs.
        max_iters: Iterations.
        **changes: Dotted keys with ``__`` for the dot, for instance
            ``train_dataloader__num_workers=2``.

    Returns:
        What ``Runner.from_cfg`` and ``Config`` take.

    Raises:
        KeyError: For a change of a key that is not there.
    """
    data = dict(
        batch_size=2,
        num_workers=0,
        dataset=dict(type='mmdistill.NoisyDataset', length=13),
        sampler=dict(type='InfiniteSampler', shuffle=True),
    )
    cfg = dict(
        default_scope='mmengine',
        custom_imports=dict(imports=['mmdistill.testing.noisy'], allow_failed_imports=False),
        work_dir=str(work_dir),
        model=dict(type='mmdistill.NoisyModel'),
        train_dataloader=data,
        val_dataloader=dict(data, sampler=dict(type='DefaultSampler', shuffle=False)),
        val_evaluator=dict(type='mmdistill.NoisyMetric'),
        train_cfg=dict(type='mmdistill.IterTrainLoop', max_iters=max_iters, val_interval=6),
        val_cfg=dict(),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1, momentum=0.9), accumulative_counts=1),
        param_scheduler=[
            dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=2),
            dict(type='CosineAnnealingLR', by_epoch=False, begin=2, T_max=max_iters),
            dict(type='CosineAnnealingMomentum', by_epoch=False, T_max=max_iters),
        ],
        default_hooks=dict(
            checkpoint=dict(
                type='mmdistill.SafeCheckpointHook',
                interval=3,
                by_epoch=False,
                max_keep_ckpts=2,
                save_best='accuracy',
            ),
            logger=dict(type='LoggerHook', interval=100),
        ),
        custom_hooks=[
            dict(type='mmdistill.PreemptHook'),
            dict(type=f'mmdistill.{FaultHook.__name__}'),
        ],
        randomness=dict(seed=3),
        visualizer=dict(type='Visualizer', vis_backends=[]),
        log_level='WARNING',
        load_from=None,
        resume=False,
    )
    for dotted, value in changes.items():
        *path, last = dotted.split('__')
        node = cfg
        for part in path:
            node = node[part]
        if last not in node:
            raise KeyError(dotted)
        node[last] = value
    return cfg
