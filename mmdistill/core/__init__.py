"""Ring 0: teacher-student learning for any tensor; importing it registers its modules."""

from mmdistill.core import (  # noqa: F401
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
