# Ternary weights, 8-bit activations, interventions at first. First: teacher_bert-small_sst2.py.
_base_ = ['../_base_/two_step.py', '../_base_/sst2.py', '../_base_/bert_small.py']
model = dict(
    teacher=dict(_base_.network, checkpoint='work_dirs/teacher_bert-small_sst2/iter_1000.pth')
)
