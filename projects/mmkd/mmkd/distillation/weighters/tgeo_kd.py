"""TGeo-KD: a ratio per sample from the triangle of student, teacher and truth (arXiv:2312.15112).

For each sample the vertices are the probabilities of the student S and of the teacher T, the label
G as one-hot vector, and M, the teacher's mean probabilities of the training samples of the
label's class. A small network sees vertices and edges, entry by entry, and gives the ratio a of
``a t^2 KL(T, S) + (1 - a) CE(S, G)``. It is learned by the loss of held-out samples after a step of
the student (:mod:`mmkd.distillation.hypergradient`).

What is known, and what is ours. The features, the network and the training loss follow the
published code, the mean of a class the paper's Eq. 9. Paper and code leave open how the ratio is
learned: the released script computes it under ``no_grad``, so its network never changes, and
earlier releases minimised the training loss by it. One exact step through the student, every few
iterations, is our completion. Switches give the released behaviour:

=========================================== ==================================================
first release (May 2023)                    ``form='all'`` or ``'cifar'``, ``learned='training'``,
                                            ``detach=False``; CIFAR also ``batch_mean=True``
second release (September 2023)             ``form='all'``, ``Distiller(solver='direct')``
third release (the present one)             ``learned=None``
=========================================== ==================================================

Not taken over from the code: cross entropy of probabilities in place of logits, class means of the
test set, a mean over entries in the divergence. ``batch_mean`` computes what the CIFAR code's
product of ``(B, 1)`` and ``(B,)`` amounts to: every sample gets the mean ratio of the batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmdistill.core.errors import UserError, did_you_mean
from mmkd.distillation.knowledge import Knowledge
from mmkd.distillation.weighters.base import SampleWeighter, Weights
from mmkd.registry import MODELS


@dataclass(frozen=True)
class Form:
    """What the network sees of a sample.

    Attributes:
        vertices: of S, T, G and M, in this order.
        edges: pairs of vertices.
        angles: three vertices; the angle is at the middle one.
        edge: kind of edges, see :data:`EDGES`.
    """

    vertices: str = ''
    edges: Sequence[str] = ()
    angles: Sequence[str] = ()
    edge: str = 'square'

    @property
    def needs_class_mean(self) -> bool:
        """Whether M is among them."""
        return 'M' in self.vertices + ''.join((*self.edges, *self.angles))

    def width(self, num_classes: int) -> int:
        """Number of features."""
        edge = num_classes if self.edge in ('square', 'abs', 'diff') else 1
        whole = len(self.vertices) + len(self.angles)
        return whole * num_classes + len(self.edges) * edge


_SIDES = ('MS', 'GS', 'TS')
_AT_STUDENT = ('MSG', 'TSG')
FORMS: Mapping[str, Form] = {
    'final': Form('STGM', (*_SIDES, 'TG', 'MG')),
    'vertices': Form('STGM'),
    'edges': Form(edges=_SIDES),
    'early': Form('STGM', _SIDES),
    'vertices_angles': Form('STGM', angles=_AT_STUDENT),
    'edges_angles': Form('', _SIDES, _AT_STUDENT),
    'all': Form('STGM', _SIDES, _AT_STUDENT),
    'angles': Form(angles=_AT_STUDENT),
    'cifar': Form('STMG', ('SG', 'ST', 'SM'), ('MGS', 'TGS'), edge='abs'),
    'criteo_vertices': Form('STG'),
    'criteo_edges': Form(edges=('ST', 'SG', 'TG')),
    'criteo': Form('STG', ('ST', 'SG', 'TG')),
    'intra': Form('STG', ('GS', 'TS', 'TG')),
    'inter': Form('SGM', ('MS', 'GS', 'MG')),
}
"""The published forms (``'final'`` is the paper's), and the paper's triangles one by one."""

EDGES = ('square', 'abs', 'diff', 'l2', 'cosine')
"""Kinds of edges: three entry by entry ``(B, C)``, two as one number per sample ``(B, 1)``."""


def edge(first: Tensor, second: Tensor, kind: str) -> Tensor:
    """An edge between two vertices.

    Args:
        first: ``(B, C)``.
        second: ``(B, C)``.
        kind: see :data:`EDGES`.
    """
    if kind == 'cosine':
        return F.cosine_similarity(first, second, dim=-1).unsqueeze(-1)
    gap = first - second
    if kind == 'square':
        return gap.square()
    if kind == 'abs':
        return gap.abs()
    return gap if kind == 'diff' else torch.linalg.vector_norm(gap, dim=-1, keepdim=True)


def angle(first: Tensor, corner: Tensor, second: Tensor) -> Tensor:
    """Products of two edges at a corner, entry by entry; their sum is the inner product."""
    return (first - corner) * (second - corner)


def geometry(points: Mapping[str, Tensor], form: Form) -> Tensor:
    """Features of samples, ``(B, form.width(C))``: vertices, edges, angles.

    Args:
        points: probabilities ``(B, C)`` by the letter of the vertex.
        form: what is wanted.
    """
    parts = [points[each] for each in form.vertices]
    parts += [edge(points[a], points[b], form.edge) for a, b in form.edges]
    parts += [angle(points[a], points[b], points[c]) for a, b, c in form.angles]
    return torch.cat(parts, -1)


@MODELS.register_module(name='TGeoKD')
class TGeoKD(SampleWeighter):
    """The ratio network; see the module's docstring.

    Args:
        num_classes: C.
        form: name in :data:`FORMS`, or fields of a :class:`Form`.
        edge: kind of edges, see :data:`EDGES`; None: the form's.
        hidden: widths of the hidden layers; the published code has (32, 16), for CIFAR (128,).
        slope: of the leaky ReLU below 0.
        bounds: of the ratio.
        feature_temperature: of the probabilities that are vertices.
        learned: ``'meta'``: by held-out samples; ``'training'``: by the training loss; None: never.
        detach: the ratio counts as a number in the student's loss.
        batch_mean: every sample gets the mean ratio of its batch.

    Raises:
        UserError: an unknown form, kind of edges or way to learn, or bounds that are none.
    """

    def __init__(
        self,
        num_classes: int,
        form: str | Mapping[str, object] = 'final',
        edge: str | None = None,
        hidden: Sequence[int] = (32, 16),
        slope: float = 0.01,
        bounds: Sequence[float] = (0.0, 1.0),
        feature_temperature: float = 1.0,
        learned: Literal['meta', 'training'] | None = 'meta',
        detach: bool = True,
        batch_mean: bool = False,
    ) -> None:
        super().__init__()
        if isinstance(form, str) and form not in FORMS:
            raise UserError(
                f'TGeoKD: form {form!r} is not known{did_you_mean(form, FORMS)}; known: '
                f'{sorted(FORMS)}'
            )
        found = FORMS[form] if isinstance(form, str) else Form(**form)
        if edge is not None:
            found = Form(found.vertices, found.edges, found.angles, edge)
        if found.edge not in EDGES:
            raise UserError(f'TGeoKD: edge must be one of {EDGES}, got {found.edge!r}')
        letters = found.vertices + ''.join((*found.edges, *found.angles))
        if not letters or set(letters) - set('STGM'):
            raise UserError(f'TGeoKD: a form has vertices S, T, G and M, got {form!r}')
        if learned not in ('meta', 'training', None):
            raise UserError(f"TGeoKD: learned is 'meta', 'training' or None, got {learned!r}")
        if not 0 <= bounds[0] < bounds[1] <= 1:
            raise UserError(f'TGeoKD: bounds must rise within [0, 1], got {tuple(bounds)}')
        self.num_classes, self.form, self.learned = num_classes, found, learned
        self.bounds, self.feature_temperature = tuple(bounds), feature_temperature
        self.detach, self.batch_mean = detach, batch_mean
        widths = [found.width(num_classes), *hidden]
        layers: list[nn.Module] = []
        for before, after in zip(widths, widths[1:], strict=False):
            layers += [nn.Linear(before, after), nn.LeakyReLU(slope)]
        self.network = nn.Sequential(*layers, nn.Linear(widths[-1], 1))

    @property
    def needs_class_mean(self) -> bool:  # type: ignore[override]
        """Whether the form has M."""
        return self.form.needs_class_mean

    def features(self, k: Knowledge) -> Tensor:
        """What the network sees, ``(B, D)``.

        Raises:
            UserError: logits of another number of classes, or a form with M without class means.
        """
        if k.student.shape[-1] != self.num_classes or k.teacher.shape != k.student.shape:
            raise UserError(
                f'TGeoKD: num_classes={self.num_classes}, but the student has '
                f'{k.student.shape[-1]} and the teacher {k.teacher.shape[-1]} classes'
            )
        if self.needs_class_mean and k.class_mean is None:
            raise UserError(
                "this form of TGeoKD needs class means of the teacher: add dict(type='mmkd."
                "ClassMeanHook') to custom_hooks, or take a form without M ('intra')"
            )
        student = k.student.detach() if self.detach else k.student
        points = {
            'S': (student.float() / self.feature_temperature).softmax(-1),
            'T': (k.teacher.float() / self.feature_temperature).softmax(-1),
            'G': F.one_hot(k.labels, self.num_classes).to(student.device, torch.float32),
        }
        if self.needs_class_mean:
            points['M'] = k.class_mean.float()
        return geometry(points, self.form)

    def ratio(self, k: Knowledge) -> Tensor:
        """The share of distillation of each sample ``(B,)``."""
        low, high = self.bounds
        with torch.autocast(k.teacher.device.type, enabled=False):
            found = self.network(self.features(k)).squeeze(-1).sigmoid()
        ratio = low + (high - low) * found
        return ratio.mean() * torch.ones_like(ratio) if self.batch_mean else ratio

    def forward(self, k: Knowledge) -> Weights:
        """The weights of a batch."""
        ratio = self.ratio(k)
        return ratio, 1 - ratio
