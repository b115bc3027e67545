"""What the configs of configs/hssda do, and what the tables of their README say of it."""

import copy
import functools
import inspect
import re
from pathlib import Path

import pytest
from mmengine.registry import DefaultScope

from mmdistill.core import launch
from mmdistill.registry import MODELS

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / 'configs' / 'hssda'
NAMES = sorted(path.stem for path in FOLDER.glob('*.py'))
SEMI = [name for name in NAMES if not name.startswith(('burn-in', 'supervised'))]
HSSDA_ONLY = ('rounds every', 'low', 'teacher view', 'least points, match', 'no soft')
ONE_CYCLE = dict(div_factor=25)
"""The host's default."""
LABELS = {
    'train_0.01_1.txt': '1 %',
    'train_0.02_1.txt': '2 %',
    'train_0.2_1.txt': '20 %',
    'train_3712_1.txt': 'all',
    'train_4_1.txt': '4 frames',
    'train_sequence_0.01_1.json': '1 %, by sequence',
    'train_sequence_0.05_1.json': '5 %, by sequence',
    'train_sequence_0.25_1.json': '25 %, by sequence',
}


@functools.cache
def config(name):
    """A config; never change it."""
    return launch.read_config(FOLDER / f'{name}.py')


@functools.cache
def built(text):
    """The model of a config with this text; configs that differ in their data share one."""
    name = next(each for each in NAMES if str(config(each).model) == text)
    with DefaultScope.overwrite_default_scope('mmdet3d'):
        return MODELS.build(copy.deepcopy(config(name).model))


def model_of(name):
    """The model of a config; never change it."""
    pytest.importorskip('spconv.pytorch')
    return built(str(config(name).model))


def num(*values):
    """``0.5, 1``."""
    return ', '.join(f'{each:g}' for each in values)


def expanded(text):
    """``a-{x,y}`` -> ``a-x``, ``a-y``."""
    found = re.fullmatch(r'(.*)\{(.*)\}(.*)', text)
    if not found:
        return [text]
    first, middle, last = found.groups()
    return [f'{first}{each.strip()}{last}' for each in middle.split(',')]


@functools.cache
def table(title):
    """Rows of the table below a heading of the README: cells by column, by config."""
    text = (FOLDER / 'README.md').read_text(encoding='utf-8').split(f'\n## {title}\n')[1]
    lines = [line for line in text.split('\n## ')[0].splitlines() if line.startswith('|')]
    rows = [[cell.strip() for cell in line.strip('|').split('|')] for line in lines]
    header, body = rows[0][1:], rows[2:]
    found = {}
    for first, *cells in body:
        assert len(cells) == len(header), first
        for place, name in enumerate(expanded(first.strip('`'))):
            assert name not in found, f'{name} stands twice'
            own = [cell.split(' / ') for cell in cells]
            found[name] = {
                key: each[place if len(each) > 1 else 0]
                for key, each in zip(header, own, strict=True)
            }
    return found


# ------------------------------------------------------------------ what a config does


def detector_of(cfg):
    """Config of the detector that is trained."""
    return cfg.model.get('detector', cfg.model)


def innermost(dataset):
    """The :class:`SemiDet3DDataset` inside a ``RepeatDataset``."""
    return dataset if 'split_file' in dataset else innermost(dataset.dataset)


def transforms(cfg):
    """Transforms of the training pipeline by type."""
    pipeline = innermost(cfg.train_dataloader.dataset).pipeline
    return {each.type.split('.')[-1]: each for each in pipeline}


def hook(cfg, kind):
    """The hook of a kind."""
    return next(each for each in cfg.custom_hooks if each.type.split('.')[-1] == kind)


def data_facts(name):
    """Detector, labels, range, voxels, and the objects pasted into a scene."""
    cfg = config(name)
    detector = detector_of(cfg)
    kind = detector.type.split('.')[-1]
    voxels = any(key.endswith('middle_encoder') and 'Sparse' in detector[key].type
                 for key in detector)  # fmt: skip
    kind = dict(
        VoxelNet='SECOND' if voxels else 'PointPillars',
        CenterPoint=f'CenterPoint, {"voxels" if voxels else "pillars"}',
        PVRCNN='PV-RCNN',
    )[kind]
    layer = detector.data_preprocessor.voxel_layer
    bank = cfg.model.get('object_bank') or transforms(cfg)['ObjectBankSample']
    dataset = cfg.train_dataloader.dataset
    return {
        'detector': kind,
        'labels': LABELS[Path(innermost(dataset).split_file).name],
        'range, m': num(*layer.point_cloud_range),
        'voxel, m': num(*layer.voxel_size),
        'pasted objects': ', '.join(f'{k} {v}' for k, v in bank.sample_groups.items()),
        'least points': num(bank.min_points),
        'repeated': num(dataset.get('times', 1)),
    }


def schedule_facts(name):
    """Batch per GPU, length and optimization."""
    cfg = config(name)
    optimizer, plan = cfg.optim_wrapper.optimizer, cfg.param_scheduler
    length, unit = cfg.train_cfg.get('max_epochs'), 'epochs'
    if length is None:
        length, unit = cfg.train_cfg.max_iters, 'iterations'
    assert 'AdamW' in optimizer.type and plan[-1].get('end', plan[-1].get('total_steps')) == length
    if plan[0].type == 'OneCycleLR':
        (only,) = plan
        rates = only.eta_max / ONE_CYCLE['div_factor'], only.eta_max
        up, momentum = only.pct_start, [optimizer.betas[0]]
    else:
        rise, fall, loosen, fasten = plan
        assert [each.type.removeprefix('CosineAnnealing') for each in plan] == [
            'LR', 'LR', 'Momentum', 'Momentum'
        ]  # fmt: skip
        assert all(each.by_epoch and each.convert_to_iter_based for each in plan)
        for first, second in ((rise, fall), (loosen, fasten)):
            assert first.begin == 0 and first.end == second.begin == first.T_max
            assert second.T_max == second.end - second.begin and fasten.end == length
        assert fasten.eta_min == optimizer.betas[0] and fall.eta_min < 1e-4 * optimizer.lr * 2
        rates, up = (optimizer.lr, rise.eta_min), rise.end / length
        momentum = [optimizer.betas[0], loosen.eta_min]
    return {
        'batch': num(cfg.train_dataloader.batch_size),
        'length': f'{length} {unit}',
        'lr, first and peak': num(*rates),
        'rising part': num(up),
        'beta 1': num(*momentum),
        'beta 2': num(optimizer.betas[1]),
        'weight decay': num(optimizer.weight_decay),
        'clip': num(cfg.optim_wrapper.clip_grad.max_norm),
    }


def method_facts(name):
    """Thresholds, average, rounds and views, as the model has them."""
    cfg, model = config(name), model_of(name)
    from mmdistill.core.momentum import LinearRampMomentum

    ema = inspect.signature(LinearRampMomentum).bind(
        **{k: v for k, v in hook(cfg, 'TeacherUpdateHook').momentum.items() if k != 'type'}
    )
    ema.apply_defaults()
    keep = ema.arguments
    view = model.student_view
    facts = {
        'student view': _view(view),
        'EMA keep': f'{num(keep["keep_init"])} to {num(keep["keep_final"])}',
        'EMA ramp': num(keep['ramp_iters']),
    }
    if cfg.model.type != 'mmdistill.HSSDA':
        fixed = cfg.model.pseudo_filter.score_thr
        fixed = fixed if isinstance(fixed, dict) else dict(cls=fixed)
        facts['first thresholds'] = ', '.join(f'{k} {_per_class(v)}' for k, v in fixed.items())
        return {**facts, **dict.fromkeys(HSSDA_ONLY, 'none')}
    rounds = hook(cfg, 'PseudoMiningHook')
    first = zip(model.score_names, model.filter.high[:, 0].tolist(), strict=True)
    assert model.filter.high.equal(model.filter.low)
    excluded = [model.class_names[each] for each in model.excluded]
    facts.update({
        'first thresholds': ', '.join(f'{score} {value:.3g}' for score, value in first),
        'rounds every': f'{rounds.interval} {"epochs" if rounds.get("by_epoch") else "iterations"}',
        'low': num(model.low['score_thr']),
        'teacher view': _view(model.teacher_view),
        'least points, match': num(model.high['min_points'], model.match_iou),
        'no soft': ', '.join(excluded) or 'none',
    })  # fmt: skip
    return facts


def _per_class(value):
    """``0.5``, or ``Pedestrian 0.25 Car 0.5``."""
    if not isinstance(value, dict):
        return num(value)
    return ' '.join(f'{name} {num(each)}' for name, each in value.items())


def _view(view):
    """``0.5; 0.785; 0.95, 1.05``: flips, largest turn, scales."""
    low, high = view.rotation
    assert low == -high
    flips = filter(None, (view.flip_prob, getattr(view, 'vertical_flip_prob', None)))
    return f'{num(*flips)}; {num(high)}; {num(*view.scale)}'
