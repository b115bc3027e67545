"""Everything that a config can name; the registries import this module when they build."""

from mmkd.data import text_dataset
from mmkd.evaluation import metric
from mmkd.intervention import hook, teacher_intervention
from mmkd.models import hugging_face
from mmkd.quant import quantizers

__all__ = [
    'hook',
    'hugging_face',
    'metric',
    'quantizers',
    'teacher_intervention',
    'text_dataset',
]
