"""One mining round as a rank of a group would do it; importable by the ranks of the tests."""

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
