"""The data of FST's configs: pipelines run on folders of the published layouts."""

import numpy as np
import pytest
import torch
from config_cases import CITY, FOLDER, UDA, VOC
from mmengine.config import Config
from PIL import Image

from mmdistill.core.collate import branch_collate
from mmdistill.core.samplers import RatioSampler
from mmdistill.registry import DATASETS, METRICS, MODELS, TRANSFORMS
from mmdistill.seg.class_stats import ClassStats, write_class_stats

pytestmark = pytest.mark.usefixtures('mmseg_scope')

GTA = 'fst-d_dlv2red-r101_1xb2-40k_gta2cityscapes-512x512'
SYNTHIA = GTA.replace('gta2', 'synthia2')
LARGE = 'fst-d_upernet-beit-b_1xb2-40k_gta2cityscapes-640x640'
WIDE = 'fst-w_daformer-mit-b5_1xb2-40k_gta2cityscapes-512x512'
SEMI = [name for name in VOC + CITY if name.startswith('fst_deeplabv3plus')]
SUPERVISED = next(name for name in VOC if name.startswith('supervised'))
RARE = 12


def picture(path, size):
    """Writes an image of noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(0).integers(0, 255, (*size[::-1], 3), np.uint8)
    Image.fromarray(pixels).save(path)


def label(path, size, first=7, second=RARE):
    """Writes a label, left half and right half."""
    path.parent.mkdir(parents=True, exist_ok=True)
    ids = np.full(size[::-1], first, np.uint8)
    ids[:, size[0] // 2 :] = second
    Image.fromarray(ids).save(path)


def no_label(path):
    """Writes what cannot be read."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b'nobody may read this')


def source(root, images, labels, size):
    """GTA5 or SYNTHIA with their statistics."""
    files = [f'0000{i}_labelTrainIds.png' for i in range(3)]
    for i, file in enumerate(files):
        picture(root / images / f'0000{i}.png', size)
        label(root / labels / file, size)
    pixels = np.zeros((3, 19), np.int64)
    pixels[:, [7, RARE]] = size[0] * size[1] // 2
    write_class_stats(root / 'class_stats.json', ClassStats(tuple(files), pixels))


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    """GTA5, SYNTHIA, Cityscapes and VOC; labels of unlabelled images are broken or missing."""
    root = tmp_path_factory.mktemp('data')
    source(root / 'gta', 'images', 'labels', (957, 526))
    source(root / 'synthia', 'RGB', 'GT/LABELS', (640, 380))
    city, voc = root / 'cityscapes', root / 'VOCdevkit' / 'VOC2012'
    ids = [f'aachen/aachen_00000{i}_000019' for i in range(4)]
    for place in ('train', 'val'):
        for name in ids:
            file = city / 'gtFine' / place / f'{name}_gtFine_labelTrainIds.png'
            picture(city / 'leftImg8bit' / place / f'{name}_leftImg8bit.png', (2048, 1024))
            label(file, (2048, 1024)) if place == 'val' or name in ids[:2] else no_label(file)
    photos = [f'2007_00000{i}' for i in range(4)]
    for name in photos:
        picture(voc / 'JPEGImages' / f'{name}.jpg', (500, 375))
        label(voc / 'SegmentationClass' / f'{name}.png', (500, 375), 0, 20)
        file = voc / 'SegmentationClassAug' / f'{name}.png'
        label(file, (500, 375), 0, 20) if name in photos[:2] else no_label(file)
    (voc / 'ImageSets' / 'Segmentation').mkdir(parents=True)
    (voc / 'ImageSets' / 'Segmentation' / 'val.txt').write_text('\n'.join(photos))
    for folder, names, splits in (
        (voc, photos, (662, 1323, 2646)),
        (city, ids, (186, 372, 744)),
    ):
        for split in splits:
            (folder / f'u2pl_{split}').mkdir()
            (folder / f'u2pl_{split}' / 'labeled.txt').write_text('\n'.join(names[:2]))
            (folder / f'u2pl_{split}' / 'unlabeled.txt').write_text('\n'.join(names[2:]))
    return root


@pytest.fixture
def read(root, monkeypatch):
    """Reads a config whose data lie there."""
    monkeypatch.setenv('MMDISTILL_DATA', str(root))
    return lambda name: Config.fromfile(FOLDER / f'{name}.py')


def batch_of(cfg):
    """The first batch, as the loader makes it, after the model's preprocessor."""
    options = dict(cfg.train_dataloader.sampler)
    assert options.pop('type') == 'mmdistill.RatioSampler'
    assert cfg.train_dataloader.collate_fn == dict(type='mmdistill.branch_collate')
    dataset = DATASETS.build(cfg.train_dataloader.dataset)
    order = iter(RatioSampler(dataset, **options))
    samples = [dataset[next(order)] for _ in range(options['batch_size'])]
    preprocessor = dict(
        type='mmdistill.BranchDataPreprocessor',
        data_preprocessor=cfg.model.segmentor.data_preprocessor.to_dict(),
    )
    return MODELS.build(preprocessor)(branch_collate(samples), training=True)


@pytest.mark.parametrize('name', [GTA, SYNTHIA, LARGE, WIDE, *SEMI, SUPERVISED])
def test_a_batch_of_the_published_layout(read, name):
    cfg = read(name)
    batch, size = batch_of(cfg), cfg.model.segmentor.data_preprocessor['size']
    counts = dict.fromkeys(('sup', 'unsup_teacher'), cfg.train_dataloader.batch_size // 2)
    if name == SUPERVISED:
        counts = dict(sup=4)
    assert {key: len(each) for key, each in batch['branch_index'].items()} == counts
    for branch, count in counts.items():
        assert batch['inputs'][branch].shape == (count, 3, *size)
        assert batch['inputs'][branch].abs().max() < 3  # normalised
        for sample in batch['data_samples'][branch]:
            assert ('gt_sem_seg' in sample) == (branch == 'sup')
            assert 'seg_map_path' not in sample.metainfo or branch == 'sup'
    for sample in batch['data_samples']['sup']:
        ids = set(sample.gt_sem_seg.data.unique().tolist())
        assert sample.gt_sem_seg.data.shape == (1, *size)
        assert ids <= {0, 20, 255} if name in VOC else ids <= {7, RARE, 255}


@pytest.mark.parametrize('name', [GTA, SYNTHIA, SEMI[0]])
def test_labels_of_labelled_images_are_read(read, root, name):
    """The folders would tell: a labelled list with an unlabelled image is refused."""
    cfg = read(name)
    first = cfg.train_dataloader.dataset.datasets[0]
    inner = first.get('dataset', first)
    dataset = DATASETS.build(inner)
    assert 'gt_sem_seg' in dataset[0]['data_samples']['sup']
    if name == SEMI[0]:
        inner.ann_file = inner.ann_file.replace('labeled', 'unlabeled')
        with pytest.raises(ValueError, match='cannot be decoded'):
            DATASETS.build(inner)[0]


SIZES = {
    GTA: ((1280, 704), (1024, 512), (512, 1024)),
    SYNTHIA: ((1280, 760), (1024, 512), (512, 1024)),
    LARGE: ((1280, 704), (1280, 640), (640, 1280)),
}
"""Source and target after resizing (width, height), validation image (height, width)."""


@pytest.mark.parametrize('name', SIZES)
def test_sizes_keep_the_ratio(read, name):
    cfg = read(name)
    parts = cfg.train_dataloader.dataset.datasets
    for part, (width, height) in zip(parts, SIZES[name], strict=False):
        steps = [step for step in part.dataset.pipeline if 'Branch' not in step.type]
        done = part.dataset.copy()
        done.pipeline = steps[: [step.type for step in steps].index('Resize') + 1]
        assert DATASETS.build(done)[0]['img'].shape[:2] == pytest.approx((height, width), abs=1)
    sample = DATASETS.build(cfg.val_dataloader.dataset)[0]
    assert sample['inputs'].shape == (3, *SIZES[name][2])
    assert sample['data_samples'].gt_sem_seg.data.shape == (1, 1024, 2048)


@pytest.mark.parametrize('name', [VOC[0], CITY[0]])
def test_validation_of_semi_supervised_training(read, name):
    cfg = read(name)
    sample = DATASETS.build(cfg.val_dataloader.dataset)[0]
    size = (375, 500) if name in VOC else (1024, 2048)
    assert sample['inputs'].shape == (3, *size)
    assert sample['data_samples'].gt_sem_seg.data.shape == (1, *size)
    assert cfg.test_dataloader == cfg.val_dataloader


@pytest.mark.parametrize('name', [VOC[0], CITY[0]])
def test_half_of_the_scales_lie_below_one(read, name):
    """Uniform numbers in [0.5, 2] would put a third of them there."""
    step = read(name).train_dataloader.dataset.datasets[0].pipeline[2]
    long = 500 if name in VOC else 2048
    resize = TRANSFORMS.build(step)
    ratios = []
    for seed in range(150):
        np.random.seed(seed)  # noqa: NPY002
        index = resize.random_pipeline_index()
        option = resize.transforms[index].transforms[0]
        scale = option._random_scale()
        ratios.append(max(scale) / long)
    assert 0.5 <= min(ratios) < 0.56 and 1.9 < max(ratios) <= 2
    assert np.mean(np.array(ratios) < 1) == pytest.approx(0.5, abs=0.12)


def test_crops_of_the_source_look_for_rare_classes(read):
    dataset = DATASETS.build(read(GTA).train_dataloader.dataset.datasets[0])
    assert dataset.min_pixels == 3000 and dataset.temperature == 0.01
    crop = dataset.dataset.pipeline.transforms[3]
    assert (crop.cat_max_ratio, crop.min_crop_ratio, crop.redraws) == (0.75, 0.5, 10)
    torch.testing.assert_close(
        torch.from_numpy(dataset.probabilities[[7, RARE]]), torch.tensor([0.5, 0.5]).double()
    )
    np.random.seed(0)  # noqa: NPY002
    found = [dataset[0]['data_samples']['sup'].gt_sem_seg.data for _ in range(6)]
    for ids in found:
        shares = [(ids == c).float().mean().item() for c in (7, RARE)]
        assert max(shares) < 0.75 or min(shares) > 1500 / 512**2


def test_subsets_of_synthia(read):
    metric = METRICS.build(read(SYNTHIA).val_evaluator)
    metric.dataset_meta = dict(classes=[str(c) for c in range(19)])
    assert set(metric.subsets) == {'mIoU16', 'mIoU13'}
    assert [len(ids) for ids in metric._ids.values()] == [16, 13]


@pytest.mark.parametrize('name', UDA + VOC + CITY)
def test_unlabelled_pipelines_have_no_labels(name):
    dataset = Config.fromfile(FOLDER / f'{name}.py').train_dataloader.dataset.datasets[1]
    assert dataset.type == 'mmdistill.UnlabeledSegDataset'
    assert 'seg_map_path' not in dataset.dataset.data_prefix
    assert not [s.type for s in dataset.dataset.pipeline if 'Annotations' in s.type]
    assert list(dataset.dataset.pipeline[-1].branches) == ['unsup_teacher']
