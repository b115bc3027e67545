"""Features of named submodules, picked up while a backbone runs once."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from mmdistill.core.errors import UserError, did_you_mean


def find_stage(backbone: nn.Module, stage: str) -> nn.Module:
    """The submodule of a name such as ``layer3``, ``stage3`` or ``layers.5``.

    Raises:
        UserError: there is none.
    """
    found: Any = backbone
    for part in stage.split('.'):  # every step asks: no walk through all modules
        found = getattr(found, '_modules', {}).get(part)
    if found is None:
        modules = dict(backbone.named_modules())
        children = [name for name, _ in backbone.named_children()]
        near = did_you_mean(stage, modules) if stage else ''
        raise UserError(
            f'{type(backbone).__name__} has no stage {stage!r}{near}; its parts are '
            f'{", ".join(children)}, and those within them such as {_example(modules)!r}'
        )
    return found


def _example(modules: dict[str, nn.Module]) -> str:
    """A name with a dot, the first one."""
    return next((name for name in modules if '.' in name), 'layers.0')


@contextmanager
def tapped(backbone: nn.Module, stages: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Collects what submodules return while the backbone runs inside the block.

    Nothing is left behind: no attribute, no copy, and the hooks are gone with the block, also
    after an error. Blocks may be nested and each has its own dict. A submodule that runs again
    overwrites what it returned before.

    Args:
        backbone: any module.
        stages: names of its submodules.

    Yields:
        A dict that fills up: name of the stage -> what it returned, not a copy (if the next
        layer works in place, as some activations do, it is what that layer left).

    Raises:
        UserError: a name that is none.
    """
    found: dict[str, Any] = {}

    def keep(stage: str) -> Any:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            found[stage] = output

        return hook

    handles = []
    modules = {stage: find_stage(backbone, stage) for stage in stages}
    try:
        for stage, module in modules.items():
            handles.append(module.register_forward_hook(keep(stage)))
        yield found
    finally:
        for handle in handles:
            handle.remove()


def as_map(
    output: Any, stage: str, size: tuple[int, int], index: int = 0, extra_tokens: int = 0
) -> Tensor:
    """What a submodule returned as a feature map.

    Args:
        output: (B, C, h, w), or (B, L, C) tokens in row order, or a list or tuple of those
            (HRNet's stages return their branches, the one of the highest resolution first).
        stage: its name, for the error.
        size: (W, H) of the backbone's input in pixels.
        index: which entry of a list is taken.
        extra_tokens: number of tokens in front that are no pixels (class and register tokens).

    Returns:
        (B, C, h, w).

    Raises:
        UserError: nothing that looks like a map.
    """
    if isinstance(output, (list, tuple)):
        if not -len(output) <= index < len(output):
            raise UserError(f'stage {stage!r} has {len(output)} outputs, none of index {index}')
        output = output[index]
    if isinstance(output, Tensor) and output.dim() == 4:
        return output
    if not isinstance(output, Tensor) or output.dim() != 3:
        shape = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        raise UserError(f'stage {stage!r} returns {shape}: neither (B, C, h, w) nor (B, L, C)')
    batch, length, channels = output.shape
    (width, height), pixels = size, length - extra_tokens
    # pixels = (W / s) (H / s)
    columns = round((pixels * width / height) ** 0.5) if pixels > 0 else 0
    rows = pixels // columns if columns else 0
    if rows * columns != pixels or not pixels or rows * width != columns * height:
        raise UserError(
            f'stage {stage!r} returns {length} tokens, {extra_tokens} of them extra: the other '
            f'{pixels} are no grid over an input of {width} x {height} pixels'
        )
    return output[:, extra_tokens:].transpose(1, 2).reshape(batch, channels, rows, columns)


def extra_tokens_of(backbone: nn.Module) -> int:
    """Number of tokens in front of the pixels in a vision transformer, 0 in other backbones.

    mmpretrain's backbones say ``num_extra_tokens``; older ones have a ``cls_token``, which is
    there also when it is not used, so what they say goes first.
    """
    said = getattr(backbone, 'num_extra_tokens', None)
    if isinstance(said, int):
        return said
    return int(isinstance(getattr(backbone, 'cls_token', None), Tensor))
