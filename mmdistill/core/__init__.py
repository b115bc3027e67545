"""Ring 0: teacher-student learning for any tensor; importing it registers its modules."""

from mmdistill.core import (  # noqa: F401
    filters,
    hooks,
    loops,
    momentum,
    samplers,
    semi_model,
)
