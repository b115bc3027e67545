"""Everything that a config can name; the registries import this module when they build."""

from mmkd.augment import dsa
from mmkd.cobra.students import dataset as frame_dataset
from mmkd.cobra.texts import templates as frame_templates
from mmkd.cobra.world import data as frame_world
from mmkd.cobra.world import teacher as frame_world_teacher
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
from mmkd.evaluation.frames import frame_metric
from mmkd.evaluation.language import judge_metric, multiple_choice
from mmkd.intervention import diagnostics, hook, teacher_intervention
from mmkd.language import (
    causal_student,
    collate,
    curriculum,
    length_groups,
    packed_dataset,
    query_data,
    seq2seq_batches,
    seq2seq_student,
)
from mmkd.language import hooks as language_hooks
from mmkd.language import metric as language_metric
from mmkd.loops import accumulating, answers, experts, frames, from_scratch, meta, staged, two_step
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
from mmkd.reasoning import data as world_data
from mmkd.reasoning import teacher as world_teacher
from mmkd.teachers import hf_local, openai_compat, replay
from mmkd.traces.filters import answers as answer_filters
from mmkd.traces.filters import contamination, repetitions, target

__all__ = [
    'accumulating',
    'ada',
    'annealing',
    'answer_filters',
    'answers',
    'attention_transfer',
    'bert_adam',
    'causal_student',
    'cifar_dataset',
    'cifar_nets',
    'classifier',
    'collate',
    'condensation_nets',
    'connectors',
    'constant',
    'contamination',
    'curriculum',
    'diagnostics',
    'digits',
    'distillation_hooks',
    'distiller',
    'dkd',
    'drawn_table',
    'dsa',
    'experts',
    'fitnet',
    'frame_dataset',
    'frame_metric',
    'frame_templates',
    'frame_world',
    'frame_world_teacher',
    'frames',
    'free_ratio',
    'from_scratch',
    'hf_local',
    'hook',
    'hugging_face',
    'image_dataset',
    'image_folder',
    'indexed',
    'judge_metric',
    'language_hooks',
    'language_metric',
    'length_groups',
    'matching_hooks',
    'meta',
    'metric',
    'mistaken',
    'multiple_choice',
    'openai_compat',
    'packed_dataset',
    'prepared',
    'quantizers',
    'query_data',
    'repetitions',
    'replay',
    'rkd',
    'segments',
    'seq2seq_batches',
    'seq2seq_student',
    'staged',
    'student_fusion',
    'subsets',
    'synthetic',
    'tabular',
    'tabular_dataset',
    'target',
    'teacher_cache',
    'teacher_intervention',
    'text_dataset',
    'tgeo_kd',
    'timm_classifier',
    'torchao_backend',
    'two_step',
    'world_data',
    'world_teacher',
    'wsld',
]
