"""Networks for tables: layers on numbers, and Wide & Deep on numbers and categories."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mmdistill.core.errors import UserError, did_you_mean
from mmkd.models.hugging_face import trained_weights
from mmkd.models.timm_classifier import Classified
from mmkd.registry import MODELS

ACTIVATIONS = ('ELU', 'GELU', 'LeakyReLU', 'ReLU', 'SiLU', 'Tanh')


class _HiddenLayers(nn.Module):
    """Modules ``stage1`` ... ``stageN``, linear and activated each, and a linear ``head``."""

    def _add_layers(
        self, inputs: int, hidden: Sequence[int], outputs: int, act: str, dropout: float
    ) -> None:
        """Makes the modules; dropout follows every activation."""
        if act not in ACTIVATIONS:
            known = ', '.join(ACTIVATIONS)
            raise UserError(
                f'act {act!r} is none of the activations {known}{did_you_mean(act, ACTIVATIONS)}'
            )
        if not 0 <= dropout < 1:
            raise UserError(f'dropout must be in [0, 1), got {dropout}')
        self.stages = tuple(f'stage{number}' for number in range(1, len(hidden) + 1))
        for name, width in zip(self.stages, hidden, strict=True):
            stage = nn.Sequential(nn.Linear(inputs, width), getattr(nn, act)())
            if dropout:
                stage.append(nn.Dropout(dropout))
            self.add_module(name, stage)
            inputs = width
        self.head = nn.Linear(inputs, outputs)

    def _logits(self, features: Tensor) -> Tensor:
        """Runs the modules, ``(B, inputs)`` to ``(B, outputs)``."""
        for name in self.stages:
            features = getattr(self, name)(features)
        return self.head(features)


def _check(name: str, values: Tensor, columns: int) -> None:
    """Needs a table of so many columns."""
    if values.dim() != 2 or values.shape[1] != columns:
        raise UserError(f'{name} must be (B, {columns}), got {tuple(values.shape)}')


@MODELS.register_module()
class TabularMLP(_HiddenLayers):
    """Linear layers on the numbers of a row, modules ``stage1`` ... ``stageN`` and ``head``.

    The networks for power-system attacks of TGeo-KD (arXiv:2312.15112) have ``hidden`` 512, 256,
    128, 64, 32 (teacher) and 64, 32 (student) and three classes.

    Args:
        in_features: numbers in a row.
        hidden: widths.
        num_classes: outputs.
        act: activation, a name in ``torch.nn``.
        dropout: share of the hidden features that a training sets to zero.
        checkpoint: of a training here, whose network (or student) gives the weights; without it
            they are random.

    Raises:
        UserError: an unknown activation, a dropout out of range, or a checkpoint that does not
            fit.
    """

    def __init__(
        self,
        in_features: int,
        hidden: Sequence[int] = (64, 32),
        num_classes: int = 2,
        act: str = 'LeakyReLU',
        dropout: float = 0.0,
        checkpoint: str | None = None,
    ) -> None:
        super().__init__()
        self.in_features = in_features
        self._add_layers(in_features, hidden, num_classes, act, dropout)
        if checkpoint is not None:
            self.load_state_dict(trained_weights(checkpoint, self))

    def forward(self, numeric: Tensor) -> Classified:
        """Logits of rows ``(B, in_features)``.

        Raises:
            UserError: another number of columns.
        """
        _check('numeric', numeric, self.in_features)
        return Classified(self._logits(numeric))


@MODELS.register_module()
class WideAndDeep(_HiddenLayers):
    """A linear model of numbers and one-hot categories beside layers on embeddings.

    Logits are the sum of both parts (arXiv:1606.07792, without crossed categories). The deep part
    has modules ``stage1`` ... ``stageN``, activated by ReLU, and ``head``. Both parts keep the
    rows of all columns in one table, ``wide_categories`` ``(sum, num_classes)``, the linear
    model's weights, and ``embeddings`` ``(sum, embedding)``.

    Args:
        numeric: numbers in a row.
        cardinalities: of the columns with categories, whose ids start at 0.
        embedding: width of a category in the deep part.
        hidden: widths of the deep part.
        num_classes: outputs.
        dropout: share of the hidden features that a training sets to zero.
        checkpoint: of a training here, whose network (or student) gives the weights; without it
            they are random.

    Raises:
        UserError: no numbers or no categories, a dropout out of range, or a checkpoint that does
            not fit.
    """

    def __init__(
        self,
        numeric: int,
        cardinalities: Sequence[int],
        embedding: int = 16,
        hidden: Sequence[int] = (64, 64),
        num_classes: int = 2,
        dropout: float = 0.0,
        checkpoint: str | None = None,
    ) -> None:
        super().__init__()
        if numeric < 1:
            raise UserError(f'numeric must be a positive number of columns, got {numeric}')
        if not cardinalities or min(cardinalities) < 1:
            raise UserError(
                f'cardinalities must be positive, one for each column, got {list(cardinalities)}; '
                'TabularMLP is for rows without categories'
            )
        self.numeric = numeric
        sizes = torch.tensor(list(cardinalities))
        self.register_buffer('sizes', sizes, persistent=False)
        self.register_buffer('offsets', sizes.cumsum(0) - sizes, persistent=False)
        total = sum(cardinalities)
        self.wide_numeric = nn.Linear(numeric, num_classes, bias=False)
        self.wide_categories = nn.Embedding(total, num_classes)
        self.embeddings = nn.Embedding(total, embedding)
        for weight in (self.wide_numeric.weight, self.wide_categories.weight):
            nn.init.uniform_(weight, -((numeric + total) ** -0.5), (numeric + total) ** -0.5)
        inputs = numeric + len(cardinalities) * embedding
        self._add_layers(inputs, hidden, num_classes, 'ReLU', dropout)
        if checkpoint is not None:
            self.load_state_dict(trained_weights(checkpoint, self))

    def forward(self, numeric: Tensor, categories: Tensor) -> Classified:
        """Logits of rows.

        Args:
            numeric: ``(B, numeric)``.
            categories: ids ``(B, K)``, int64, in the order of the cardinalities. Those on a CPU
                are checked; elsewhere the check would wait for the device, and an id that is too
                large reads the row of another column.

        Raises:
            UserError: another number of columns, or an id out of range on a CPU.
        """
        _check('numeric', numeric, self.numeric)
        _check('categories', categories, len(self.sizes))
        if categories.device.type == 'cpu' and not torch.compiler.is_compiling():
            self._check_ids(categories)
        rows = categories + self.offsets
        wide = self.wide_numeric(numeric) + self.wide_categories(rows).sum(1)
        deep = torch.cat([numeric, self.embeddings(rows).flatten(1)], dim=1)
        return Classified(wide + self._logits(deep))

    def _check_ids(self, categories: Tensor) -> None:
        """Names the first id that is out of range."""
        wrong = (categories < 0) | (categories >= self.sizes)
        if bool(wrong.any()):
            row, column = wrong.nonzero()[0].tolist()
            raise UserError(
                f'categories: column {column} has id {int(categories[row, column])} in row {row} '
                f'of the batch; its cardinality is {int(self.sizes[column])}, so ids go from 0 to '
                f'{int(self.sizes[column]) - 1}'
            )
