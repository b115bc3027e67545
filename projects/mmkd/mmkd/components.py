"""Everything that a config can name; the registries import this module when they build."""

from mmkd.augment import dsa
from mmkd.datasets import cifar as cifar_dataset
from mmkd.datasets import (
    digits,
    drawn_table,
    image_dataset,
    image_folder,
    indexed,
    prepared,
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
from mmkd.language import curriculum
from mmkd.loops import experts, from_scratch, meta, staged, two_step
from mmkd.matching import hooks as matching_hooks
from mmkd.matching import segments, synthetic
from mmkd.models import (
    classifier,
    hugging_face,
    mistaken,
    tabular,
    teacher_cache,
    timm_classifier,
)
from mmkd.models.cifar import build as cifar_nets
from mmkd.models.condensation import build as condensation_nets
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
    'condensation_nets',
    'connectors',
    'constant',
    'curriculum',
    'diagnostics',
    'digits',
    'distillation_hooks',
    'distiller',
    'drawn_table',
    'dkd',
    'dsa',
    'experts',
    'fitnet',
    'free_ratio',
    'from_scratch',
    'hook',
    'hugging_face',
    'image_dataset',
    'image_folder',
    'indexed',
    'matching_hooks',
    'meta',
    'metric',
    'mistaken',
    'prepared',
    'quantizers',
    'rkd',
    'segments',
    'staged',
    'student_fusion',
    'subsets',
    'synthetic',
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
