"""FST learns: on drawn domains the future teacher's labels help where source labels do not."""

import pytest
import torch
from fst_cases import CLASSES, SIZE, fst, wrapper_of
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

STEPS = 200
SOURCE = torch.tensor([[200, 60, 60], [60, 190, 70], [70, 80, 200], [160, 160, 150]])


def picture(numbers: torch.Generator, target: bool) -> tuple[torch.Tensor, SegDataSample]:
    """Blocks of four noisy colours; in the target domain it is dusk."""
    labels = torch.randint(0, CLASSES, (1, 4, 6), generator=numbers)
    labels = labels.repeat_interleave(4, 1).repeat_interleave(4, 2)
    colors = SOURCE.float()
    if target:
        colors = 0.45 * colors + torch.tensor([10.0, 30.0, 60.0])
    noise = torch.randn(3, *SIZE, generator=numbers) * 20
    image = (colors[labels[0]].movedim(-1, 0) + noise).clamp(0, 255).to(torch.uint8)
    sample = SegDataSample(metainfo=dict(img_shape=SIZE, ori_shape=SIZE))
    sample.gt_sem_seg = PixelData(data=labels)
    return image, sample


def domains(seed: int) -> dict:
    """Two labelled source images, two target images without labels."""
    numbers = torch.Generator().manual_seed(seed)
    rows = [picture(numbers, target) for target in (False, False, True, True)]
    for _, sample in rows[2:]:
        del sample.gt_sem_seg
    images, samples = zip(*rows, strict=True)
    names = dict(sup=slice(0, 2), unsup_teacher=slice(2, 4))
    return dict(
        inputs={name: list(images[part]) for name, part in names.items()},
        data_samples={name: list(samples[part]) for name, part in names.items()},
        branch_index=dict(sup=[0, 1], unsup_teacher=[2, 3]),
    )


def mean_iou(model) -> float:
    """Of the student on target images that it has not seen."""
    numbers = torch.Generator().manual_seed(10**6)
    images, samples = zip(*(picture(numbers, True) for _ in range(20)), strict=True)
    truth = torch.stack([each.gt_sem_seg.data[0] for each in samples])
    found = model.eval().test_step(dict(inputs=list(images), data_samples=list(samples)))
    found = torch.stack([each.pred_sem_seg.data[0] for each in found])
    table = torch.bincount((truth * CLASSES + found).flatten(), minlength=CLASSES**2)
    table = table.view(CLASSES, CLASSES).double()
    return float((table.diag() / (table.sum(0) + table.sum(1) - table.diag())).mean())


def trained(unlabeled: bool, **options) -> tuple[list[float], float]:
    """Losses of labelled images, and the result on the target."""
    model = fst(pseudo=dict(rule='share', threshold=0.8), keep=0.95, **options)
    model.unsup_active = unlabeled
    optim = wrapper_of(model, lambda groups: torch.optim.AdamW(groups, lr=0.005))
    losses = []
    for index in range(STEPS):
        model.cur_iter = index
        found = model.train_step(domains(index), optim)
        losses.append(float(found['sup_decode.loss_ce']))
    return losses, mean_iou(model)


@pytest.fixture(scope='module')
def source_only() -> tuple[list[float], float]:
    """Without target images."""
    return trained(False)


@pytest.mark.parametrize(
    'options',
    [
        dict(depth=1),
        dict(policy='ephemeral', depth=1, virtual_keep=0.5, reuse=True, draws='share',
             optimizer_state='isolated', buffers='isolated'),
    ],
    ids=['published', 'clean'],
)  # fmt: skip
def test_the_loss_falls_and_the_target_gains(options, source_only):
    losses, result = trained(True, **options)
    assert sum(losses[-20:]) < 0.5 * sum(losses[:20])
    assert result > source_only[1] + 0.1
