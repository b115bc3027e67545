"""All configs are read by the training script, follow the published numbers, and build."""

import math
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import OptimWrapperDict, build_optim_wrapper

import mmkd.components  # noqa: F401
from mmdistill.core.launch import read_config
from mmkd.registry import DATASETS, MODELS

CONFIGS = sorted((Path(__file__).resolve().parents[1] / 'configs').rglob('*.py'))
WHOLE = [path for path in CONFIGS if path.parent.name != '_base_']
FOLDER = Path(__file__).resolve().parents[1] / 'configs' / 'teacher_intervention'
# what stands for the networks that are read from a folder
SHAPES = {
    'bert-base': dict(),
    'tinybert-4l': dict(num_hidden_layers=4, hidden_size=312, intermediate_size=1200),
    'tinybert-6l': dict(num_hidden_layers=6),
}
LLAMA = dict(
    model_type='llama',
    hidden_size=5120,
    intermediate_size=13824,
    num_hidden_layers=40,
    num_attention_heads=40,
    vocab_size=32001,
)
T5 = dict(
    model_type='t5',
    vocab_size=32128,
    d_model=2048,
    d_kv=64,
    d_ff=5120,
    num_layers=24,
    num_heads=32,
    feed_forward_proj='gated-gelu',
)
# training samples, batch, steps with interventions, ids, steps between validations, scores
PUBLISHED = dict(
    cola=(8551, 16, 120, 64, 50, ['mcc']),
    rte=(2490, 32, 60, 128, 20, ['accuracy']),
    mrpc=(3668, 32, 60, 128, 50, ['accuracy', 'f1']),
    stsb=(5749, 32, 60, 128, 100, ['pearson', 'spearman']),
    sst2=(67349, 32, 60, 64, 100, ['accuracy']),
    qnli=(104743, 32, 60, 128, 1000, ['accuracy']),
    qqp=(363846, 32, 60, 128, 1000, ['accuracy', 'f1']),
    mnli=(392702, 32, 60, 128, 8000, ['accuracy']),
)
GLUE = [path.stem for path in WHOLE if path.stem.startswith(('ti-g_bert-base_', 'ti-g_tinybert-'))]


def types(node):
    """All types of a config."""
    if isinstance(node, dict):
        if isinstance(node.get('type'), str):
            yield node['type']
        for each in node.values():
            yield from types(each)
    elif isinstance(node, (list, tuple)):
        for each in node:
            yield from types(each)


def buildable(cfg, stem):
    """The model's config without files that are not there, and whether it is large."""
    model = Config(cfg.model.to_dict())
    large = False
    for key in ('teacher', 'network', 'student'):
        if key in model:
            model[key].pop('checkpoint', None)  # of a training that has not been
            model[key].get('network', {}).pop('checkpoint', None)
            model[key].get('options', {}).pop('checkpoint_path', None)
            large = model[key].pop('pretrained', None) is not None
            if large:
                shape = SHAPES[stem.split('_')[1]]
                model[key].update(family='bert', config=dict(shape, num_attention_heads=12))
    if 'pretrained' in model.get('language_model', {}):
        shape = T5 if model.type.endswith('Seq2SeqStudent') else LLAMA
        large, model.language_model = True, dict(config=shape)
    return model, large


def trained(wrapper):
    """Number of entries that optimizers change."""
    several = wrapper.values() if isinstance(wrapper, OptimWrapperDict) else [wrapper]
    groups = [group for each in several for group in each.optimizer.param_groups]
    return sum(p.numel() for group in groups for p in group['params'])


@pytest.mark.parametrize('path', WHOLE, ids=lambda path: path.stem)
def test_whole_configs_are_read_and_their_models_build(path):
    cfg = read_config(path)
    model, large = buildable(cfg, path.stem)
    with torch.device('meta' if large else 'cpu'):
        built = MODELS.build(model)
    wrapper = build_optim_wrapper(built, cfg.optim_wrapper)
    assert sum(each.numel() for each in built.parameters()) == trained(wrapper)
    if 'paramwise_cfg' in cfg.optim_wrapper:
        optimizer = wrapper.optimizer
        spared = {
            id(p) for g in optimizer.param_groups if not g['weight_decay'] for p in g['params']
        }
        kept = {id(p) for name, p in built.named_parameters() if name.endswith('query.weight')}
        biases = {id(p) for name, p in built.named_parameters() if name.endswith('.bias')}
        assert biases <= spared and not kept & spared
    ours = {
        'Classifier',
        'TeacherIntervention',
        'TextDataset',
        'ClassificationMetric',
        'ImageDataset',
        'BertAdam',
        'Distiller',
        'TGeoKD',
        'CifarNet',
        'CondensationNet',
        'TrajectoryMatching',
        'PreparedImages',
    }
    assert not ours & set(types(cfg.to_dict()))
    scopes = {each.split('.')[0] for each in types(cfg.to_dict()) if '.' in each}
    assert scopes - {'torch'} == {'mmkd', 'mmdistill'}


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_configs_are_short(path):
    assert len(path.read_text().splitlines()) <= 60


@pytest.mark.parametrize(
    'task', [path.stem.removeprefix('qat-kd_') for path in WHOLE if path.stem.startswith('qat-kd_')]
)
def test_the_baseline_differs_in_the_interventions_alone(task):
    ti, qat = (read_config(FOLDER / f'{name}_{task}.py') for name in ('ti-g', 'qat-kd'))
    assert ti.train_cfg.max_iters == qat.train_cfg.max_iters
    assert ti.train_cfg.val_interval == qat.train_cfg.val_interval
    assert ti.optim_wrapper == qat.optim_wrapper and ti.train_dataloader == qat.train_dataloader
    differ = {key for key in ti.model if ti.model[key] != qat.model[key]}
    assert differ == {'schedule', 'intervention_steps'}


# teacher, student: rate of CRD's protocol (0.01 for MobileNet and ShuffleNet)
PAIRS = {
    ('resnet56', 'resnet20'): 0.05,
    ('resnet110', 'resnet32'): 0.05,
    ('resnet32x4', 'resnet8x4'): 0.05,
    ('wrn_40_2', 'wrn_16_2'): 0.05,
    ('wrn_40_2', 'wrn_40_1'): 0.05,
    ('vgg13', 'vgg8'): 0.05,
    ('resnet32x4', 'ShuffleNetV1'): 0.01,
    ('wrn_40_2', 'ShuffleNetV1'): 0.01,
    ('vgg13', 'MobileNetV2'): 0.01,
    ('ResNet50', 'MobileNetV2'): 0.01,
    ('resnet32x4', 'ShuffleNetV2'): 0.01,
}


@pytest.mark.parametrize(('pair', 'rate'), PAIRS.items(), ids=str)
def test_pairs_of_cifar100_follow_the_protocol(pair, rate):
    teacher, student = (name.lower().replace('_', '-') for name in pair)
    folder = FOLDER.parent / 'tgeo_kd'
    cfg = read_config(folder / f'tgeo-kd_{teacher}-{student}_cifar100.py')
    assert (cfg.model.teacher.name, cfg.model.student.name) == pair
    optimizer, epoch = cfg.optim_wrapper.student.optimizer, math.ceil(45000 / 64)
    assert (optimizer.lr, optimizer.momentum, optimizer.weight_decay) == (rate, 0.9, 5e-4)
    assert cfg.train_cfg.max_iters == 240 * epoch and cfg.train_dataloader.batch_size == 64
    assert cfg.param_scheduler.student[0].milestones == [e * epoch for e in (150, 180, 210)]
    assert cfg.model.temperature == 4.0 and cfg.train_cfg.meta_interval == 5
    assert cfg.model.teacher.checkpoint.startswith(f'work_dirs/teacher_{teacher}_cifar100/')
    taught = read_config(folder / f'teacher_{teacher}_cifar100.py')
    assert taught.model.network.name == pair[0]
    assert cfg.model.teacher.checkpoint.endswith(f'iter_{taught.train_cfg.max_iters}.pth')


def test_every_task_of_glue_is_there():
    assert {f'ti-g_bert-base_{task}' for task in PUBLISHED} <= set(GLUE)


def phase(schedulers):
    """Where the warm-up ends and where the rate is 0."""
    up, down = schedulers
    assert (up.type, down.type) == ('LinearLR', 'PolyLR') and down.power == 1.0
    assert up.begin == down.eta_min == 0 and up.end == down.begin
    assert not up.by_epoch and not down.by_epoch
    return up.end, down.end


@pytest.mark.parametrize('stem', [*GLUE, *(f'ti-g_bert-{size}_cola' for size in ('tiny', 'small'))])
def test_schedules_are_those_of_the_published_code(stem):
    cfg, (_, shape, task) = read_config(FOLDER / f'{stem}.py'), stem.split('_')[:3]
    size, batch, first, _, every, names = PUBLISHED[task]
    first = 120 if shape == 'tinybert-4l' else first
    total = math.ceil(size / batch) * 3
    train = cfg.train_cfg
    assert (train.max_iters, train.val_interval) == (total, every)
    assert train.first_iters == cfg.model.intervention_steps == cfg.first_iters == first
    assert cfg.train_dataloader.batch_size == batch
    assert cfg.val_evaluator.names == cfg.test_evaluator.names == names
    assert cfg.model.schedule == 'gradual' and 'recipe' not in cfg.model
    if stem.endswith('bert-adam'):
        assert cfg.param_scheduler == train.second_scheduler == []
        steps = [cfg.optim_wrapper.optimizer.total_steps, train.optimizer.total_steps]
        assert steps == [first, total - first] and cfg.optim_wrapper.optimizer.warmup == 0.1
    else:
        assert phase(cfg.param_scheduler) == (first // 10, first)
        assert phase(train.second_scheduler) == ((total - first) // 10, total - first)
    if stem in GLUE:
        assert cfg.optim_wrapper.optimizer.lr == 2e-5


# a line of each file with all its columns; the label is what the network must learn
LINES = dict(
    cola=('gj04\t{label}\t*\ta "one', ('0', '1'), False),
    sst2=('a "one\t{label}', ('0', '1'), True),
    mrpc=('{label}\t1\t2\ta "one\ta two', ('0', '1'), True),
    stsb=('0\tg\tf\ty\t0\ts\tt\ta "one\ta two\t{label}', ('0.5', '4.25'), True),
    qqp=('0\t1\t2\ta "one\ta two\t{label}', ('0', '1'), True),
    qnli=('0\ta "one\ta two\t{label}', ('entailment', 'not_entailment'), True),
    rte=('0\ta "one\ta two\t{label}', ('entailment', 'not_entailment'), True),
    mnli=('0\t1\t2\tg\tp\tq\tr\ts\ta "one\ta two\t-\t{label}',
          ('entailment', 'neutral', 'contradiction'), True),
)  # fmt: skip
NAMES = dict(
    cola=['unacceptable', 'acceptable'],
    sst2=['negative', 'positive'],
    mrpc=['not_equivalent', 'equivalent'],
    qqp=['not_duplicate', 'duplicate'],
)


@pytest.mark.parametrize('task', sorted(PUBLISHED))
def test_files_of_glue_are_read(task, tmp_path):
    cfg = read_config(FOLDER / f'ti-g_bert-base_{task}.py')
    line, labels, header = LINES[task]
    rows = [line.format(label=label) for label in labels]
    if header:
        rows.insert(0, '\t'.join(f'c{number}' for number in range(line.count('\t') + 1)))
    loaders = [cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader]
    files = ['dev_matched.tsv', 'dev_mismatched.tsv'] if task == 'mnli' else ['dev.tsv'] * 2
    assert [each.dataset.path for each in loaders] == ['train.tsv', *files]
    for loader in loaders:
        given = loader.dataset.to_dict()
        assert Path(given['data_root']).parent.name == 'glue'
        assert given['max_length'] == PUBLISHED[task][3]
        assert given['tokenizer'] == dict(pretrained='google-bert/bert-base-uncased')
        (tmp_path / given['path']).write_text('\n'.join(rows) + '\n')
        data = DATASETS.build(dict(given, data_root=str(tmp_path), tokenizer=dict(vocab_size=60)))
        numbers = [float(each) for each in labels] if task == 'stsb' else list(range(len(labels)))
        assert data.labels == numbers
        pair = task not in ('cola', 'sst2')
        text = '[CLS] a " one [SEP]' + (' a two [SEP]' if pair else '')
        assert data.tokenizer.decode(data[0]['inputs']['input_ids']) == text
    teacher = cfg.model.teacher
    if task == 'stsb':
        assert teacher.num_labels == 1 and 'data_labels' not in teacher
    else:
        assert teacher.data_labels == NAMES.get(task, list(labels))
        assert teacher.num_labels == len(labels)
