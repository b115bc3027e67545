"""Registries of mmkd, children of mmengine's with the scope ``mmkd``.

``type='mmkd.TeacherIntervention'`` makes mmengine import this module, and building something makes
it import the packages that the registries name.
"""

from mmengine.registry import DATA_SAMPLERS as MMENGINE_DATA_SAMPLERS
from mmengine.registry import DATASETS as MMENGINE_DATASETS
from mmengine.registry import FUNCTIONS as MMENGINE_FUNCTIONS
from mmengine.registry import HOOKS as MMENGINE_HOOKS
from mmengine.registry import LOOPS as MMENGINE_LOOPS
from mmengine.registry import METRICS as MMENGINE_METRICS
from mmengine.registry import MODELS as MMENGINE_MODELS
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS as MMENGINE_OPTIM_WRAPPER_CONSTRUCTORS
from mmengine.registry import OPTIMIZERS as MMENGINE_OPTIMIZERS
from mmengine.registry import TASK_UTILS as MMENGINE_TASK_UTILS
from mmengine.registry import TRANSFORMS as MMENGINE_TRANSFORMS
from mmengine.registry import Registry


def _child(name: str, parent: Registry) -> Registry:
    """Makes the child of an mmengine registry that lives in the scope ``mmkd``."""
    return Registry(name, parent=parent, scope='mmkd', locations=['mmkd.components'])


MODELS = _child('model', MMENGINE_MODELS)
TASK_UTILS = _child('task util', MMENGINE_TASK_UTILS)
DATA_SAMPLERS = _child('data sampler', MMENGINE_DATA_SAMPLERS)
DATASETS = _child('dataset', MMENGINE_DATASETS)
TRANSFORMS = _child('transform', MMENGINE_TRANSFORMS)
FUNCTIONS = _child('function', MMENGINE_FUNCTIONS)
HOOKS = _child('hook', MMENGINE_HOOKS)
LOOPS = _child('loop', MMENGINE_LOOPS)
METRICS = _child('metric', MMENGINE_METRICS)
OPTIMIZERS = _child('optimizer', MMENGINE_OPTIMIZERS)
OPTIM_WRAPPER_CONSTRUCTORS = _child(
    'optimizer wrapper constructor', MMENGINE_OPTIM_WRAPPER_CONSTRUCTORS
)
TEACHERS = Registry('teacher', scope='mmkd', locations=['mmkd.components'])
"""Teachers that answer messages, see :mod:`mmkd.teachers.base`."""
TRACE_FILTERS = Registry('trace filter', scope='mmkd', locations=['mmkd.components'])
"""Filters of traces, see :mod:`mmkd.traces.filters`."""
