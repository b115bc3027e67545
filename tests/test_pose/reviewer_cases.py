"""A toy model with a reviewer, its runner, and what happens to it after every iteration."""

import copy

import torch
from mmengine.hooks import Hook

from mmdistill.core.hooks.teacher_update import bare_model
from mmdistill.testing import ToyDataset, ToyMetric, ToySemiModel, toy_runner

ALL = ('sup', 'unsup_teacher', 'unsup_student')
RAMP = dict(type='mmdistill.LinearRampMomentum', keep_init=0.2, keep_final=0.9, ramp_iters=4)


class ReviewedModel(ToySemiModel):
    """Student, teacher and a reviewer that starts as something else."""

    def __init__(self, reviewer=True, **kwargs):
        super().__init__(**kwargs)
        self.reviewer = copy.deepcopy(self.teacher).requires_grad_(False) if reviewer else None
        self.register_buffer('reviewer_steps', torch.full((), -1, dtype=torch.long))
        if reviewer:
            with torch.no_grad():
                for value in self.reviewer.parameters():
                    value.fill_(7.0)

    def train(self, mode=True):
        """The reviewer stays in evaluation mode."""
        super().train(mode)
        if self.reviewer is not None:
            self.reviewer.eval()
        return self


class Recorder(Hook):
    """Notes the state after every iteration."""

    priority = 'LOWEST'

    def __init__(self):
        self.states = []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.states.append(copy.deepcopy(bare_model(runner).state_dict()))


class Poison(Hook):
    """Writes NaN into the student after an iteration, before the reviewer looks."""

    priority = 'HIGH'

    def __init__(self, at, rank=0, name='head.weight'):
        self.at, self.rank, self.name, self.kept = at, rank, name, None

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.rank == self.rank and runner.iter == self.at:
            value = bare_model(runner).student.state_dict()[self.name].view(-1)
            self.kept = value, value[0].clone()
            value[0] = float('nan')


class Cure(Hook):
    """Takes the NaN out again, after everybody has looked."""

    priority = 'LOWEST'

    def __init__(self, poison):
        self.poison = poison

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if self.poison.kept is not None:
            value, number = self.poison.kept
            value[0], self.poison.kept = number, None


def part(state, name):
    """The tensors of one network of a model's state."""
    return {k.removeprefix(f'{name}.'): v for k, v in state.items() if k.startswith(f'{name}.')}


def reviewed(folder, *hooks, max_iters=7, model=None, seed=0, **settings):
    """A runner; the options of the reviewer's hook go by their names."""
    names = ('policy', 'source', 'interval', 'check_interval')
    hook = dict(type='mmdistill.ReviewerUpdateHook')
    hook.update({name: settings.pop(name) for name in names if name in settings})
    torch.manual_seed(seed)
    update = dict(type='mmdistill.TeacherUpdateHook', momentum=RAMP)
    return toy_runner(
        folder,
        model or ReviewedModel(),
        max_iters,
        ToyDataset(branches=ALL),
        hooks=[hook, update, *hooks],
        **settings,
    )


def accumulating(counts):
    """An optimizer that steps every ``counts`` iterations."""
    return dict(
        constructor='mmdistill.StudentOptimWrapperConstructor',
        optimizer=dict(type='SGD', lr=0.1),
        accumulative_counts=counts,
    )


def validating(every=1):
    """Arguments of a runner that validates both branches."""
    return dict(
        train_cfg=dict(type='mmdistill.IterTrainLoop', max_iters=7, val_interval=every),
        val_cfg=dict(type='mmdistill.TeacherStudentValLoop'),
        val_evaluator=[ToyMetric()],
        val_dataloader=dict(
            dataset=ToyDataset(size=60, seed=3),
            sampler=dict(type='DefaultSampler', shuffle=False),
            collate_fn=dict(type='pseudo_collate'),
            batch_size=30,
        ),
    )
