"""Ring 0: teacher-student learning for any tensor; importing it registers its modules."""

from mmdistill.core.light_optim import register_optimizers

register_optimizers()  # before anything imports mmengine.optim

from mmdistill.core import (  # noqa: E402, F401
    branches,
    collate,
    filters,
    hooks,
    loops,
    momentum,
    optim_constructor,
    samplers,
    semi_model,
)
