"""Everything that a config can name; the registries import this module when they build."""

from mmkd.datasets import image_dataset, indexed, text_dataset
from mmkd.evaluation import metric
from mmkd.intervention import diagnostics, hook, teacher_intervention
from mmkd.loops import two_step
from mmkd.models import classifier, hugging_face, teacher_cache, timm_classifier
from mmkd.optim import bert_adam
from mmkd.quant import quantizers, torchao_backend

__all__ = [
    'bert_adam',
    'classifier',
    'diagnostics',
    'hook',
    'hugging_face',
    'image_dataset',
    'indexed',
    'metric',
    'quantizers',
    'teacher_cache',
    'teacher_intervention',
    'text_dataset',
    'timm_classifier',
    'torchao_backend',
    'two_step',
]
