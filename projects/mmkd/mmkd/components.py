"""Everything that a config can name; the registries import this module when they build."""

from mmkd.datasets import cifar as cifar_dataset
from mmkd.datasets import (
    digits,
    drawn_table,
    image_dataset,
    image_folder,
    indexed,
    subsets,
    text_dataset,
)
from mmkd.datasets import tabular as tabular_dataset
from mmkd.distillation import connectors, distiller
from mmkd.distillation import hooks as distillation_hooks
from mmkd.distillation.losses import attention_transfer, dkd, fitnet, rkd
from mmkd.distillation.weighters import ada, annealing, constant, free_ratio, tgeo_kd, wsld
from mmkd.evaluation import metric
from mmkd.intervention import diagnostics, hook, teacher_intervention
from mmkd.loops import meta, two_step
from mmkd.models import (
    classifier,
    hugging_face,
    mistaken,
    tabular,
    teacher_cache,
    timm_classifier,
)
from mmkd.models.cifar import build as cifar_nets
from mmkd.optim import bert_adam, student_fusion
from mmkd.quant import quantizers, torchao_backend

__all__ = [
    'ada',
    'annealing',
    'attention_transfer',
    'bert_adam',
    'cifar_dataset',
    'cifar_nets',
    'classifier',
    'connectors',
    'constant',
    'diagnostics',
    'digits',
    'distillation_hooks',
    'distiller',
    'drawn_table',
    'dkd',
    'fitnet',
    'free_ratio',
    'hook',
    'hugging_face',
    'image_dataset',
    'image_folder',
    'indexed',
    'meta',
    'metric',
    'mistaken',
    'quantizers',
    'rkd',
    'student_fusion',
    'subsets',
    'tabular',
    'tabular_dataset',
    'teacher_cache',
    'teacher_intervention',
    'text_dataset',
    'tgeo_kd',
    'timm_classifier',
    'torchao_backend',
    'two_step',
    'wsld',
]
