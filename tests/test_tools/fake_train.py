"""Stands in for ``tools/train.py``: same command line, same traces, no training.

``FAKE_TRAIN`` names a folder: each call leaves a line in ``calls``; a file ``fail`` there holds
a word, calls whose work dir contains it fail; a file ``slow`` makes trainings last until SIGTERM.
"""

import argparse
import json
import os
import signal
import sys
import time
from pathlib import Path


def pose_scores(config, seed, options):
    """Invented numbers of student and teacher (and reviewer) of a pose config."""
    value = {'supervised': 0.3, 'posecons': 0.35, 'dualpose': 0.37, 'trs': 0.4}[
        config.split('_')[0]
    ]
    value += 0.01 * seed - 0.02 * ('model.mix.0.mix_weight' in options)
    metrics = {'coco/AP': value, 'coco/AP .5': value + 0.2, 'coco/AR': -1.0, 'coco/AP (M)': 0.1}
    if 'openfield' in config:
        metrics = {'PCK': value, 'EPE': 20 * value}
    branches = ['student', 'teacher']
    if 'trs' in config and 'model.reviewer' not in options:
        branches.append('reviewer')
    return {f'{branch}/{key}': each for branch in branches for key, each in metrics.items()}


def seg_scores(config, seed):
    """Invented numbers of student and teacher of a segmentation config."""
    bases = {'source-only': 20.0, 'supervised': 25.0, 'mt': 30.0, 'mt-fast': 32.0}
    bases.update({'fst': 35.0, 'fst-d': 40.0, 'fst-w': 38.0})
    name = config.split('_')[0]
    branches = {'student': 0, 'teacher': 1} if name in list(bases)[2:] else {'student': 0}
    value = bases[name] + seed + 10 * ('1of4' in config)
    return {
        f'{branch}/{metric}': value + more + 50 * (metric == 'aAcc')
        for branch, more in branches.items()
        for metric in ('aAcc', 'mIoU', 'mAcc')
    }


def class_scores(config, seed, options):
    """Invented accuracy of a classifier; shorter trainings are worse."""
    value = {'teacher': 80.0, 'qat-kd': 60.0, 'ti-g': 70.0}[config.split('_')[0]] + seed
    value -= 5.0 * (options.get('model.schedule') == 'output')
    return {'accuracy': value - 10.0 / int(options.get('train_cfg.max_iters', 1000))}


def scores(config, seed, options):
    """Invented APs that tell configs, seeds and overrides apart."""
    if 'bert' in config or 'vit' in config:
        return class_scores(config, seed, options)
    if 'resnet-tiny' in config:
        return seg_scores(config, seed)
    if 'hrnet' in config:
        return pose_scores(config, seed, options)
    base = {'burn-in': 20.0, 'supervised': 30.0, 'mean-teacher': 33.0, 'hssda': 40.0}
    base['iou-match'] = 34.0
    value = base[config.split('_')[0]] + seed - 2.0 * ('model.low' in options)
    value += 5.0 * ('_second_' in config)
    keys = [f'Kitti/{name}_3D_AP40_moderate_strict' for name in ('Car', 'Pedestrian', 'Cyclist')]
    found = {**dict.fromkeys(keys, value), 'Kitti/mAP40_3D_moderate': value}
    if config.split('_')[0] in ('burn-in', 'supervised'):
        return found
    teacher = {f'teacher/{key}': each + 1 for key, each in found.items()}
    return {**{f'student/{key}': each for key, each in found.items()}, **teacher}


def main():
    """One pretended training."""
    parser = argparse.ArgumentParser()
    parser.add_argument('config', type=Path)
    parser.add_argument('--work-dir', type=Path)
    parser.add_argument('--resume', action='store_true')
    parser.add_argument('--cfg-options', nargs='+')
    args = parser.parse_args()
    options = dict(each.removeprefix('+').split('=', 1) for each in args.cfg_options)
    home = Path(os.environ['FAKE_TRAIN'])
    with open(home / 'calls', 'a') as calls:
        calls.write(f'{args.work_dir} threads={os.environ["OMP_NUM_THREADS"]}\n')
    word = (home / 'fail').read_text().strip() if (home / 'fail').exists() else None
    if word and word in str(args.work_dir):
        print('something is wrong with the weather')
        sys.exit(3)
    logs = args.work_dir / f'run_{time.time_ns()}' / 'vis_data'
    logs.mkdir(parents=True)
    last = int(options.get('train_cfg.max_iters', 450))
    train = {'iter': last // 2, 'step': last // 2, 'loss': 1.5, 'pseudo/kept_ratio': 0.25}
    train['pseudo/threshold_cls_Car'] = 0.4
    if args.config.name.startswith('fst-d'):
        train['future/changed_labels'] = 0.002
    (logs / 'scalars.json').write_text(json.dumps(train) + '\n')
    (args.work_dir / 'preempted').unlink(missing_ok=True)
    if (home / 'slow').exists():
        stopped = []
        signal.signal(signal.SIGTERM, lambda *_: stopped.append(1))
        while not stopped:
            time.sleep(0.02)
        (args.work_dir / 'preempted').write_text('{}')
        sys.exit(0)
    (args.work_dir / args.config.name).write_text('')
    (args.work_dir / f'iter_{last}.pth').write_text('')
    found = scores(args.config.name, int(options['randomness.seed']), options)
    times = {'data_time': 0.1, 'time': 0.2}
    half = {key: value / 2 for key, value in found.items()}
    with open(logs / 'scalars.json', 'a') as log:
        for step, values in ((last // 2, half), (last, found)):
            log.write(json.dumps({**values, **times, 'step': step}) + '\n')
        log.write('{"cut o')


main()
