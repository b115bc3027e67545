"""What a rank of a group does in the tests: a mining round, a short training."""

from types import SimpleNamespace

import torch


def spread_scores(number, label):
    """Two clusters of scores; the upper one is spread, so that half of it exceeds its mean."""
    return 0.5 if number % 4 == 0 else 0.8 + 0.02 * (number % 5)


def mine(rank, root, folder):
    """Thresholds, store, bank and files after one round on ``root``.

    Args:
        rank: number of this rank; its model differs from the others' in weights and store.
        root: a tree with markers for the perfect teacher.
        folder: work dir.

    Returns:
        Nested lists and numbers only: they travel between processes.
    """
    from det3d_scenes import PerfectTeacher, hssda_cfg, semi_cfg
    from mmdet3d.utils import register_all_modules
    from mmengine.logging import MessageHub
    from mmengine.registry import DATASETS

    register_all_modules(init_default_scope=True)
    from mmdistill.det3d import HSSDA
    from mmdistill.det3d.mining import PseudoMiningHook

    torch.manual_seed(rank)
    bank = dict(sample_groups=dict(Pedestrian=5, Cyclist=5, Car=5), min_points=3)
    cfg = hssda_cfg(object_bank=bank)
    model = HSSDA(**{key: value for key, value in cfg.items() if key != 'type'})
    model.teacher.predict = PerfectTeacher(spread_scores)
    model.filter.high.fill_(0.1 * rank)
    runner = SimpleNamespace(
        model=model,
        train_dataloader=SimpleNamespace(dataset=DATASETS.build(semi_cfg(root))),
        work_dir=folder,
        iter=20,
        epoch=2,
        message_hub=MessageHub.get_instance('mining'),
    )
    PseudoMiningHook(interval=5, batch_size=3).refresh(runner)
    store = {name: value.tolist() for name, value in model.store.contents().items()}
    return dict(
        high=model.filter.high.tolist(),
        low=model.filter.low.tolist(),
        bank=(model.bank.frames.tolist(), model.bank.boxes.tolist()),
        looked_at=model.teacher.predict.calls,
        **store,
    )


def training(root, folder, iterations, model=None, **changes):
    """A runner that trains HSSDA with a perfect teacher on a marked tree.

    Args:
        root: a tree with markers for the perfect teacher.
        folder: work dir.
        iterations: length; mining rounds come every half of it.
        model: config of the model; default: around the tiny PointPillars.
        **changes: further arguments of the ``Runner``.
    """
    from det3d_scenes import PerfectTeacher, hssda_cfg, semi_cfg
    from mmdet3d.utils import register_all_modules
    from mmengine.runner import Runner

    register_all_modules(init_default_scope=True)
    import mmdistill.det3d  # noqa: F401

    bank = dict(sample_groups=dict(Pedestrian=3, Cyclist=3, Car=3), min_points=3)
    runner = Runner(
        model=hssda_cfg(object_bank=bank) if model is None else model,
        work_dir=str(folder),
        default_scope='mmdet3d',
        train_dataloader=dict(
            batch_size=4,
            num_workers=0,
            sampler=dict(type='mmdistill.NaturalSampler', seed=0),
            collate_fn=dict(type='pseudo_collate'),
            dataset=semi_cfg(root),
        ),
        train_cfg=dict(type='mmdistill.IterTrainLoop', max_iters=iterations),
        optim_wrapper=dict(
            type='OptimWrapper',
            optimizer=dict(type='AdamW', lr=0.003),
            clip_grad=dict(max_norm=10),
            constructor='mmdistill.StudentOptimWrapperConstructor',
        ),
        default_hooks=dict(checkpoint=None, logger=dict(type='LoggerHook', interval=5)),
        custom_hooks=[
            dict(
                type='mmdistill.TeacherUpdateHook',
                momentum=dict(type='mmdistill.LinearRampMomentum', ramp_iters=10),
                buffers='ema',
            ),
            dict(type='mmdistill.ObjectBankHook'),
            dict(type='mmdistill.PseudoMiningHook', interval=iterations // 2),
        ],
        randomness=dict(seed=0),
        log_processor=dict(by_epoch=False),
        log_level='WARNING',
        **changes,
    )
    model = getattr(runner.model, 'module', runner.model)
    model.teacher.predict = PerfectTeacher(spread_scores)
    return runner


def train(rank, root, folder):
    """Four iterations on this rank: frames seen in each, and the state at the end, as lists."""
    from mmengine.hooks import Hook

    from mmdistill.testing.ranks import cpu_ranks

    seen = []

    class Frames(Hook):
        def before_train_iter(self, runner, batch_idx, data_batch=None):
            seen.append([int(each.sample_idx) for each in data_batch['data_samples']])

    runner = training(root, folder, 4, **cpu_ranks())
    runner.register_hook(Frames())
    runner.train()
    state = runner.model.module.state_dict()
    return dict(frames=seen, state={name: value.tolist() for name, value in state.items()})
