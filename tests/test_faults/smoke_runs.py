"""The smoke configs of all methods on small data, for suites that train them and disturb them."""

import importlib
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config

ROOT = Path(__file__).resolve().parents[2]
LAST = 'iter_8.pth'


def hssda_data(folder: Path) -> None:
    """Draws scenes."""
    from mmdistill.det3d.kitti_writer import Recipe, write_dataset

    write_dataset(folder, Recipe(train=8, val=2, seed=5))


def hssda_paths(cfg: Config, data: Path) -> None:
    """Lets the config read them."""
    cfg.train_dataloader.dataset.dataset.data_root = f'{data}/'
    cfg.train_dataloader.dataset.split_file = f'{data}/ImageSets_semi/train_4_1.txt'
    cfg.val_dataloader.dataset.data_root = f'{data}/'
    cfg.val_evaluator.ann_file = f'{data}/kitti_infos_val.pkl'


def trs_data(folder: Path) -> None:
    """Draws people."""
    from mmdistill.pose.figure_sim import PictureSettings
    from mmdistill.pose.people_writer import Recipe, write_dataset

    write_dataset(folder, Recipe(12, 3, 5, PictureSettings(size=96)))


def trs_paths(cfg: Config, data: Path) -> None:
    """Lets the config read them."""
    train = cfg.train_dataloader.dataset
    for source in (train.labeled.dataset, train.unlabeled, cfg.val_dataloader.dataset):
        source.data_root = f'{data}/'
    cfg.val_evaluator.ann_file = f'{data}/{cfg.val_file}'


def fst_data(folder: Path) -> None:
    """Draws streets."""
    from mmdistill.seg.street_sim import StreetSettings
    from mmdistill.seg.streets_writer import Recipe, write_dataset

    write_dataset(folder, Recipe(8, 2, 5, StreetSettings(size=(128, 64))))


def fst_paths(cfg: Config, data: Path) -> None:
    """Lets the config read them."""
    source, target = cfg.train_dataloader.dataset.datasets
    source.class_stats = f'{data}/source/class_stats.json'
    source.dataset.data_root = f'{data}/source'
    for each in (target.dataset, cfg.val_dataloader.dataset):
        each.data_root = f'{data}/target'


def ti_data(folder: Path) -> None:
    """Makes up sentences: good ones have the label 1."""
    draw, words = (
        random.Random(5),
        ['the', 'a', 'film', 'story', 'actor', 'is', 'was', 'very', 'not', 'quite', 'dull'],
    )
    for name, count in (('train', 24), ('dev', 6)):
        lines = []
        for _ in range(count):
            label = draw.randint(0, 1)
            text = draw.choices(words, k=draw.randint(2, 9)) + [('bad', 'good')[label]]
            lines.append(f'{" ".join(text)}\t{label}\n')
        (folder / f'{name}.tsv').write_text(''.join(lines))


def ti_paths(cfg: Config, data: Path) -> None:
    """Lets the config read them."""
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        loader.dataset.data_root = str(data)


def datm_data(folder: Path) -> None:
    """Trains the experts of the smoke config."""
    from mmdistill.core import launch
    from mmkd.experts.running import run_experts
    from mmkd.experts.training import ExpertRecipe
    from mmkd.registry import DATASETS

    importlib.import_module('mmkd.components')
    cfg = launch.read_config(ROOT / 'projects/mmkd/configs/datm/experts_tiny_digits.py')
    known = cfg.train_cfg
    recipe = ExpertRecipe(cfg.model.network, known.epochs, cfg.train_dataloader.batch_size, lr=0.05)
    data = DATASETS.build(cfg.train_dataloader.dataset)
    run_experts(recipe, data, None, folder / 'trajectories', known.experts)


def datm_paths(cfg: Config, data: Path) -> None:
    """Lets the config find them."""
    cfg.model.experts = cfg.train_dataloader.dataset.experts = f'{data}/trajectories'


@dataclass(frozen=True)
class Method:
    """A method as the suites need it.

    Attributes:
        config: its smoke config: eight iterations, checkpoints after every second.
        host: the package that its config imports.
        write: writes small data into a folder.
        read: lets a config read them.
        remembered: what has to be in the last checkpoint, or the suites test too little.
    """

    config: str
    host: str
    write: Callable[[Path], None]
    read: Callable[[Config, Path], None]
    remembered: Callable[[dict[str, Any]], bool]


METHODS = dict(
    hssda=Method(
        'configs/hssda/hssda_pointpillars_synthetic-kitti_smoke.py',
        'mmdistill.det3d',
        hssda_data,
        hssda_paths,
        lambda saved: len(saved['state_dict']['store.frames']) > 0,
    ),
    trs=Method(
        'configs/trs/trs_people_smoke.py',
        'mmdistill.pose',
        trs_data,
        trs_paths,
        lambda saved: len(saved['reviewer']['state']['ring']) == 2,
    ),
    fst=Method(
        'configs/fst/fst_streets_smoke.py',
        'mmdistill.seg',
        fst_data,
        fst_paths,
        lambda saved: int(saved['state_dict']['passes_done']) > 8,
    ),
    ti=Method(
        'projects/mmkd/configs/teacher_intervention/ti_smoke.py',
        'mmkd.components',
        ti_data,
        ti_paths,
        # moments of the second phase alone
        lambda saved: {int(each['step']) for each in saved['optimizer']['state'].values()} == {4},
    ),
    tgeo=Method(
        'projects/mmkd/configs/tgeo_kd/tgeo_smoke.py',
        'mmkd.components',
        lambda folder: None,  # its digits come with scikit-learn
        lambda cfg, data: None,
        lambda saved: (
            int(saved['state_dict']['class_count'].sum()) > 0
            and {int(e['step']) for e in saved['optimizer']['fusion']['state'].values()} == {3}
        ),
    ),
    datm=Method(
        'projects/mmkd/configs/datm/datm_smoke.py',
        'mmkd.components',
        datm_data,
        datm_paths,
        lambda saved: all(
            each['momentum_buffer'].abs().max() > 0 for each in saved['optimizer']['state'].values()
        ),
    ),
    orca=Method(
        'projects/mmkd/configs/orca/orca_smoke.py',
        'mmkd.components',
        lambda folder: None,  # its teachers solve what is drawn
        lambda cfg, data: None,
        # moments of the second stage alone
        lambda saved: {int(each['step']) for each in saved['optimizer']['state'].values()} == {4},
    ),
    cobra=Method(
        'projects/mmkd/configs/cobra/cobra_smoke.py',
        'mmkd.components',
        lambda folder: None,  # its frames follow from rules
        lambda cfg, data: None,
        lambda saved: {int(each['step']) for each in saved['optimizer']['state'].values()} == {8},
    ),
)


def config(name: str, data: Path, work_dir: Path, resume: bool = False) -> Config:
    """A method's smoke config on small data, without a test."""
    from mmdistill.core import launch

    cfg = launch.read_config(ROOT / METHODS[name].config)
    cfg.work_dir, cfg.resume = str(work_dir), resume
    cfg.test_dataloader = cfg.test_cfg = cfg.test_evaluator = None
    METHODS[name].read(cfg, data)
    return cfg


def data_of(name: str, folder: Path) -> Path:
    """Writes a method's small data below a folder."""
    data = folder / 'data'
    data.mkdir()
    METHODS[name].write(data)
    return data


def load_host(name: str) -> None:
    """Imports a method's package."""
    importlib.import_module(METHODS[name].host)
