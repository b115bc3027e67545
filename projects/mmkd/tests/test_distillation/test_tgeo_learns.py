"""What TGeo-KD is for: it sees through a teacher that is sometimes wrong. And what it keeps."""

import weakref
from functools import partial

import pytest
import torch
from mmengine.optim import OptimWrapper, OptimWrapperDict

from mmkd.datasets.drawn_table import DrawnTable
from mmkd.distillation.distiller import Distiller
from mmkd.distillation.weighters.constant import ConstantWeighter
from mmkd.distillation.weighters.tgeo_kd import TGeoKD
from mmkd.models.cifar.build import cifar_net
from mmkd.models.mistaken import MistakenNetwork
from mmkd.models.tabular import TabularMLP
from mmkd.models.timm_classifier import Classified

CLASSES, SPREAD = 4, 1.3


class Bayes(torch.nn.Module):
    """The best teacher of a drawn table."""

    def __init__(self, centres):
        super().__init__()
        self.centres = torch.nn.Parameter(centres)

    def forward(self, numeric):
        """Logits."""
        gaps = torch.cdist(numeric, self.centres).square()
        return Classified(-gaps / (2 * SPREAD**2))


def _all(wrapper):
    """Optimizer wrappers, of one or two."""
    return list(wrapper.values()) if isinstance(wrapper, OptimWrapperDict) else [wrapper]


def trained(seed, make, held_out=True, iterations=600):
    """Accuracy on the test rows, and mean ratios where the teacher is wrong and right."""
    torch.manual_seed(seed)
    weighter = make()
    train, test = DrawnTable('train', 600, seed=seed), DrawnTable('test', 4000, seed=seed)
    teacher = MistakenNetwork(Bayes(train.centres), share=0.2, seed=seed)
    model = Distiller(TabularMLP(8, (16,), num_classes=CLASSES), teacher, weighter, temperature=2.0)
    model.train()
    model.progress = 0.0
    rows, labels = train.rows[:400], train.labels[:400]
    if weighter.needs_class_mean:
        said = teacher(numeric=rows).logits.detach().softmax(-1)
        model.class_mean.copy_(torch.stack([said[labels == c].mean(0) for c in range(CLASSES)]))
    wrapper = OptimWrapper(torch.optim.SGD(model.student.parameters(), lr=0.05, momentum=0.9))
    if model.own_step:
        fusion = OptimWrapper(torch.optim.Adam(weighter.parameters(), lr=0.01))
        wrapper = OptimWrapperDict(student=wrapper, fusion=fusion)

    def batch(low, high):
        chosen = torch.randint(low, high, (64,))
        return dict(inputs=dict(numeric=train.rows[chosen]), labels=train.labels[chosen])

    groups = [each.optimizer.param_groups[0] for each in _all(wrapper)]
    rates = [group['lr'] for group in groups]
    for number in range(iterations):
        for group, rate in zip(groups, rates, strict=True):
            group['lr'] = rate * (1 - number / iterations)
        meta = batch(400, 600) if held_out else None
        data = dict(train=batch(0, 400), meta=meta)
        model.train_step(data if model.own_step else data['train'], wrapper)
    model.eval()
    with torch.no_grad():
        right = (model.student(numeric=test.rows).logits.argmax(-1) == test.labels).float().mean()
        k = model.knowledge(dict(numeric=rows), labels)
        ratio = model.weights(k)[0]
        wrong = k.teacher.argmax(-1) != teacher.network(numeric=rows).logits.argmax(-1)
    return 100 * float(right), float(ratio[wrong].mean()), float(ratio[~wrong].mean())


def test_a_wrong_teacher_gets_smaller_ratios_and_the_student_gains():
    """Fact: at least 0.1 between the ratios, and at most 0.5 below the best fixed ratio."""
    seeds, learned, constant = range(3), [], []
    for seed in seeds:
        found, wrong, right = trained(seed, lambda: TGeoKD(CLASSES))
        assert right - wrong > 0.1
        learned.append(found)
        constant.append(trained(seed, lambda: TGeoKD(CLASSES, learned=None))[0])
    fixed = [
        sum(trained(seed, partial(ConstantWeighter, ratio))[0] for seed in seeds) / len(seeds)
        for ratio in (0.1, 0.3, 0.5, 0.7, 0.9)
    ]
    mean = sum(learned) / len(seeds)
    assert mean > max(fixed) - 0.5 and mean > sum(constant) / len(seeds)


def test_the_training_loss_lets_ratios_collapse():
    found, wrong, right = trained(0, lambda: TGeoKD(CLASSES, learned='training'))
    assert max(wrong, right) < 0.05


@pytest.mark.parametrize(('solver', 'most'), [('exact', 1.1), ('unroll', None)])
def test_a_held_out_step_keeps_no_more_activations_than_a_plain_one(solver, most):
    """Fact: at most 1.1 times as many; the step that is differentiated itself keeps far more."""

    class Kept:
        def __init__(self, tensor):
            self.tensor = tensor

    def peak(model, wrapper, data):
        live = dict(now=0, most=0)
        params = {each.untyped_storage().data_ptr() for each in model.parameters()}

        def gone(size):
            live['now'] -= size

        def pack(tensor):
            kept = Kept(tensor)
            size = tensor.numel() * tensor.element_size()
            if tensor.untyped_storage().data_ptr() not in params:
                live['now'] += size
                live['most'] = max(live['most'], live['now'])
                weakref.finalize(kept, gone, size)
            return kept

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda kept: kept.tensor):
            model.train_step(data, wrapper)
        return live['most']

    torch.manual_seed(0)
    model = Distiller(cifar_net('resnet8', 5), cifar_net('resnet8', 5), TGeoKD(5), solver=solver)
    model.train()
    model.progress = 0.0
    model.class_count.fill_(1)
    student = OptimWrapper(torch.optim.SGD(model.student.parameters(), lr=0.01, momentum=0.9))
    fusion = OptimWrapper(torch.optim.Adam(model.weighter.parameters()))
    wrapper = OptimWrapperDict(student=student, fusion=fusion)
    images = dict(inputs=dict(pixel_values=torch.randn(32, 3, 32, 32)), labels=torch.arange(32) % 5)
    plain = peak(model, wrapper, dict(train=images, meta=None))
    held_out = peak(model, wrapper, dict(train=images, meta=images))
    assert held_out > 2 * plain if most is None else held_out <= most * plain
