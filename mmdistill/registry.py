"""Registries of mmdistill, children of mmengine's with the scope ``mmdistill``.

``type='mmdistill.HSSDA'`` makes mmengine import this module. The locations name
the core only; a host folder comes in through ``custom_imports``.
"""

from mmengine.registry import DATA_SAMPLERS as MMENGINE_DATA_SAMPLERS
from mmengine.registry import DATASETS as MMENGINE_DATASETS
from mmengine.registry import FUNCTIONS as MMENGINE_FUNCTIONS
from mmengine.registry import HOOKS as MMENGINE_HOOKS
from mmengine.registry import LOOPS as MMENGINE_LOOPS
from mmengine.registry import METRICS as MMENGINE_METRICS
from mmengine.registry import MODELS as MMENGINE_MODELS
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS as MMENGINE_OPTIM_WRAPPER_CONSTRUCTORS
from mmengine.registry import TASK_UTILS as MMENGINE_TASK_UTILS
from mmengine.registry import TRANSFORMS as MMENGINE_TRANSFORMS
from mmengine.registry import Registry


def _child(name: str, parent: Registry, *locations: str) -> Registry:
    """Makes the child of an mmengine registry that lives in the scope ``mmdistill``."""
    return Registry(name, parent=parent, scope='mmdistill', locations=list(locations))


MODELS = _child('model', MMENGINE_MODELS, 'mmdistill.core')
TASK_UTILS = _child('task util', MMENGINE_TASK_UTILS, 'mmdistill.core')
DATASETS = _child('dataset', MMENGINE_DATASETS, 'mmdistill.core')
DATA_SAMPLERS = _child('data sampler', MMENGINE_DATA_SAMPLERS, 'mmdistill.core')
TRANSFORMS = _child('transform', MMENGINE_TRANSFORMS, 'mmdistill.core')
FUNCTIONS = _child('function', MMENGINE_FUNCTIONS, 'mmdistill.core')
HOOKS = _child('hook', MMENGINE_HOOKS, 'mmdistill.core')
LOOPS = _child('loop', MMENGINE_LOOPS, 'mmdistill.core')
METRICS = _child('metric', MMENGINE_METRICS, 'mmdistill.core')
OPTIM_WRAPPER_CONSTRUCTORS = _child(
    'optimizer wrapper constructor', MMENGINE_OPTIM_WRAPPER_CONSTRUCTORS, 'mmdistill.core'
)
