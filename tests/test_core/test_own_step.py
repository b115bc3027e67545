"""Methods whose step is their own: our loops call it inside DDP, mmengine's cannot."""

import pytest
import torch
from mmengine.registry import MODEL_WRAPPERS

from mmdistill.core.errors import UserError
from mmdistill.core.hooks.teacher_update import bare_model, stepping_model
from mmdistill.testing import ToyDataset, ToySemiModel, cpu_ranks, run_gloo, toy_runner

BRANCHES = ('sup', 'unsup_teacher', 'unsup_student')
LOOPS = {
    'mmdistill.IterTrainLoop': dict(max_iters=3),
    'mmdistill.EpochTrainLoop': dict(max_epochs=1),
    'IterBasedTrainLoop': dict(max_iters=3),
}


class OwnStep(ToySemiModel):
    """Counts its steps, and the places it was told."""

    own_step = True

    def __init__(self) -> None:
        super().__init__()
        self.places = []

    def train_step(self, data, optim_wrapper) -> dict:
        """A plain step that is noted."""
        self.places.append(self.cur_iter)
        return super().train_step(data, optim_wrapper)


class MovesTeacher(ToySemiModel):
    """Leaves no teacher to the hook."""

    moves_teacher = True


def runner_of(folder, model, loop, batch_size=2, **settings):
    """Three iterations, or one epoch of three."""
    loader = dict(
        dataset=ToyDataset(size=12, branches=BRANCHES), batch_size=batch_size, num_workers=0,
        sampler=dict(type='DefaultSampler', shuffle=False),
        collate_fn=dict(type='mmdistill.branch_collate'),
    )  # fmt: skip
    train_cfg = dict(type=loop, **LOOPS[loop])
    return toy_runner(folder, model, train_dataloader=loader, train_cfg=train_cfg, **settings)


def steps_of_a_rank(rank: int, folder: str) -> dict:
    """Calls of the model's own step by loop."""
    found = {}
    for loop in LOOPS:
        runner = runner_of(f'{folder}/{rank}', OwnStep(), loop, **cpu_ranks())
        runner.train()
        found[loop] = bare_model(runner).places
    return found


def test_two_ranks_step_in_our_loops(tmp_path):
    for found in run_gloo(steps_of_a_rank, 2, str(tmp_path)):
        assert found.pop('IterBasedTrainLoop') == []
        assert found == {loop: [0, 1, 2] for loop in found} and len(found) == 2


@pytest.mark.parametrize('loop', list(LOOPS))
def test_one_rank_steps_in_all_loops(loop, tmp_path):
    model = OwnStep()
    runner_of(tmp_path, model, loop, batch_size=4).train()
    assert len(model.places) == 3
    if loop.startswith('mmdistill'):  # mmengine's tells no place
        assert model.places == [0, 1, 2]


def test_what_is_stepped_inside_a_wrapper():
    """Other models go through the wrapper, which averages their gradients."""

    class Runner:
        def __init__(self, model) -> None:
            self.model = model

    class Wrapper(torch.nn.Module):
        def __init__(self, module) -> None:
            super().__init__()
            self.module = module

    MODEL_WRAPPERS.register_module(module=Wrapper, name='OwnStepWrapper', force=True)
    try:
        for model, bare in ((OwnStep(), True), (ToySemiModel(), False)):
            runner = Runner(Wrapper(model))
            assert stepping_model(runner) is (model if bare else runner.model)
            assert stepping_model(Runner(model)) is model
    finally:
        MODEL_WRAPPERS.module_dict.pop('OwnStepWrapper')


def test_a_model_that_moves_its_teacher_refuses_the_hook(tmp_path):
    hook = dict(type='mmdistill.TeacherUpdateHook')
    data = ToyDataset(branches=BRANCHES)
    with pytest.raises(UserError, match='MovesTeacher moves its teacher itself: remove Teacher'):
        toy_runner(tmp_path, MovesTeacher(), dataset=data, hooks=[hook]).train()
    toy_runner(tmp_path, ToySemiModel(), dataset=data, hooks=[hook]).train()
