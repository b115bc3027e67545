"""Imports ``mmengine.optim`` without the trainer of Hugging Face, which it wants for Adafactor.

mmengine 0.10.7 imports ``transformers.Adafactor`` to register it, and with it transformers'
trainer, peft and more: as long again as everything else takes, at every start of every tool.
"""

import importlib
import importlib.util
import sys
from typing import Any

_OPTIM, _SLOW, _NAME = 'mmengine.optim', 'transformers', 'Adafactor'


def register_optimizers() -> bool:
    """Imports ``mmengine.optim`` and registers Adafactor under its name, to be found when built.

    Nothing happens when either library has been imported already.

    Returns:
        Whether the import was made here.
    """
    if _OPTIM in sys.modules or _SLOW in sys.modules:
        return False
    sys.modules[_SLOW] = None  # type: ignore[assignment]  # an import of it raises ImportError
    try:
        importlib.import_module(_OPTIM)
    finally:
        del sys.modules[_SLOW]
    if importlib.util.find_spec(_SLOW) is not None:
        from mmengine.registry import OPTIMIZERS

        OPTIMIZERS.register_module(name=_NAME, module=_adafactor)
    return True


def _adafactor(params: Any, **kwargs: Any) -> Any:
    """Makes ``transformers.Adafactor`` from its own arguments."""
    return importlib.import_module(_SLOW).Adafactor(params, **kwargs)
