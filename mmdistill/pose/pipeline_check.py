"""Refuses pipelines that would train on wrong or hidden things, when they are built."""

import ast
import functools
import inspect
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mmpose.datasets.transforms import RandomFlip, TopdownAffine

from mmdistill.core.errors import UserError
from mmdistill.pose.crops import PackSemiPose, SecondCrop
from mmdistill.registry import TRANSFORMS

JOINT_KEYS = frozenset(
    ('keypoints', 'keypoints_visible', 'keypoints_visible_weights', 'keypoints_3d',
     'keypoints_cam', 'transformed_keypoints', 'hidden_keypoints', 'hidden_visible')
)  # fmt: skip
DATASET_KEYS = frozenset(('dataset', 'mixed_data_list'))
HARMLESS = (RandomFlip, TopdownAffine, PackSemiPose, SecondCrop)
"""Transforms that carry joints along but choose nothing by them."""


@dataclass(frozen=True)
class Step:
    """A transform of a config.

    Attributes:
        where: its place in the config, as ``pipeline[2].transforms[0]``.
        kind: its class.
        config: its arguments.
    """

    where: str
    kind: type
    config: Mapping

    @property
    def name(self) -> str:
        """Name of the class."""
        return self.kind.__name__


def check_pipeline(pipeline: Sequence[dict], key: str, labeled: bool) -> None:
    """Checks a pipeline of ``SemiPoseDataset``.

    A transform depends on joints when its config or the source of its class names a key of
    mmpose's joints; ``RandomFlip`` and ``TopdownAffine`` only carry them along.

    Args:
        pipeline: configs of its transforms.
        key: of the pipeline in the config, for the error.
        labeled: whether its people have joints.

    Raises:
        UserError: names the transform and its place: one that needs joints nobody has, or the
            dataset; a flip after the crop; no crop or two; a different ``use_udp``; an end that
            is not ``PackSemiPose``.
    """
    for step in walk(pipeline, key):
        used = keys_of(step.kind)
        if used & DATASET_KEYS:
            raise UserError(f'{step.where}: {step.name} mixes samples of a dataset: remove it')
        if labeled:
            continue
        options = [(name, value) for name, value in step.config.items() if name != 'transforms']
        named = joint_keys_in(options) | (used & JOINT_KEYS)
        if named:
            raise UserError(
                f'{step.where}: {step.name} depends on joints ({", ".join(sorted(named))}), which '
                'unlabelled people do not have: remove it from this pipeline'
            )
    last = list(walk(pipeline[-1:], key))
    if not last or not issubclass(last[0].kind, PackSemiPose):
        raise UserError(f'{key} must end with mmdistill.PackSemiPose')
    udp = bool(last[0].config.get('use_udp', False))
    _check_crop(pipeline, key, udp)
    for step in walk(pipeline, key):
        if issubclass(step.kind, SecondCrop):
            _check_crop(step.config['transforms'], f'{step.where}.transforms', udp)


def _check_crop(pipeline: Sequence[dict], key: str, udp: bool) -> None:
    """One ``TopdownAffine``, flips before it, and the same ``use_udp`` as ``PackSemiPose``."""
    steps = list(walk(pipeline, key, into=False))
    cuts = [i for i, step in enumerate(steps) if issubclass(step.kind, TopdownAffine)]
    if len(cuts) != 1:
        raise UserError(f'{key} must hold one TopdownAffine, not {len(cuts)}')
    cut = steps[cuts[0]]
    if bool(cut.config.get('use_udp', False)) != udp:
        raise UserError(f'{cut.where}: give TopdownAffine and PackSemiPose the same use_udp')
    for step in steps[cuts[0] + 1 :]:
        if issubclass(step.kind, RandomFlip):
            raise UserError(
                f'{step.where}: {step.name} after TopdownAffine mirrors joints about a wrong axis: '
                'put it before'
            )


def walk(config: Any, where: str, into: bool = True) -> Iterator[Step]:
    """All transforms of a config in their order, those inside of others too.

    Args:
        config: a list of transforms, or anything that may hold some.
        where: its place in the config.
        into: whether to go into the second crops.
    """
    if isinstance(config, Mapping):
        kind = _class_of(config.get('type'))
        if kind is not None:
            yield Step(where, kind, config)
            if not into and issubclass(kind, SecondCrop):
                return
        for name, value in config.items():
            yield from walk(value, f'{where}.{name}', into)
    elif isinstance(config, (list, tuple)):
        for number, value in enumerate(config):
            yield from walk(value, f'{where}[{number}]', into)


def _class_of(kind: Any) -> type | None:
    """The class that a config's ``type`` names; None when it is no transform."""
    if isinstance(kind, str):
        with TRANSFORMS.switch_scope_and_registry(None) as registry:
            kind = registry.get(kind)
    return kind if isinstance(kind, type) else None


def joint_keys_in(value: Any) -> frozenset[str]:
    """Keys of joints among the words of a config value."""
    if isinstance(value, Mapping):
        return joint_keys_in([*value, *value.values()])
    if isinstance(value, (list, tuple)):
        return frozenset().union(*map(joint_keys_in, value))
    return frozenset([value]) & JOINT_KEYS if isinstance(value, str) else frozenset()


@functools.cache
def keys_of(kind: type) -> frozenset[str]:
    """Words of ``JOINT_KEYS`` and ``DATASET_KEYS`` in the source of a class and its bases."""
    found: set[str] = set()
    for each in kind.__mro__:
        if each in HARMLESS or each is object:
            continue
        try:
            tree = ast.parse(textwrap.dedent(inspect.getsource(each)))
        except (OSError, TypeError, SyntaxError):
            continue
        found |= {
            node.value
            for node in ast.walk(tree)
            if isinstance(node, ast.Constant) and isinstance(node.value, str)
        }
        found |= {
            node.arg for node in ast.walk(tree) if isinstance(node, ast.keyword) and node.arg
        } & JOINT_KEYS
    return frozenset(found) & (JOINT_KEYS | DATASET_KEYS)
