"""The comparison of segmentation methods: equal terms for all rows, CamVid in its own tables."""

from pathlib import Path

import pytest

STREETS = ['source-only', 'mt', 'mt-fast', 'fst-d', 'fst-far', 'fst-w']
CAMVID = [f'camvid-1of{n}-{key}' for n in (8, 4) for key in ('supervised', 'mt', 'fst')]


@pytest.fixture
def fst(tools, monkeypatch):
    """The module of the comparison with few images."""
    from benchmark.methods import fst

    monkeypatch.setattr(fst, 'QUICK', fst.Sizes(train=3, val=1, shorter=50))
    return fst


@pytest.fixture
def camvid(fst, tmp_path, monkeypatch):
    """A folder that looks like CamVid; returns one of its files."""
    from benchmark.rows import RealData

    labels = tmp_path / 'camvid' / 'annotations' / 'train'
    labels.mkdir(parents=True)
    (labels / 'a.png').write_text('labels')
    monkeypatch.setattr(RealData, 'folder', tmp_path / 'camvid')
    return labels / 'a.png'


@pytest.fixture
def gain(gain_of, fst):
    """Runs the benchmark with the fake training; returns exit code, output and JSON."""
    return gain_of('fst')


def test_rows_summary_and_last_line(gain, camvid):
    code, said, found = gain('--seeds', '0', '4')
    assert code == 0
    assert said.splitlines()[-1] == 'gain fst: FST-D 42.0 vs source only 22.0 (+20.0 mIoU)'
    assert [row['key'] for row in found['rows'] if row['seed'] == 4] == STREETS + CAMVID
    means = {(s['label'], s['metric']): s['mean'] for s in found['summary']}
    assert means['FST-D', 'teacher/mIoU'] == 43.0 and means['FST-D', 'aAcc'] == 92.0
    assert means['mean teacher, as fast as FST-D', 'mIoU'] == 34.0
    assert means['FST, CamVid 1/8', 'mIoU'] == 37.0 and means['FST, CamVid 1/4', 'mIoU'] == 47.0
    assert ('source only', 'teacher/mIoU') not in means
    assert {metric for _, metric in means} == {
        'mIoU', 'aAcc', 'teacher/mIoU', 'teacher/aAcc', 'future/changed_labels',
    }  # fmt: skip
    assert means['FST-D', 'future/changed_labels'] == pytest.approx(0.2)  # percent
    assert ('mean teacher', 'future/changed_labels') not in means
    streets, eighth, quarter = said.split('fst, seeds 0 4')[1:]
    assert 'FST-W' in streets and 'CamVid' not in streets
    assert eighth.startswith(', CamVid 1/8') and 'mean teacher, CamVid 1/8' in eighth
    assert quarter.startswith(', CamVid 1/4') and '1/8' not in quarter


def test_the_picture_shows_the_streets_alone(gain, camvid, monkeypatch, tmp_path):
    from benchmark import report

    found, drawn = gain('--seeds', '0')[2], []
    monkeypatch.setattr(report, 'save_bars', lambda path, title, bars, *more: drawn.extend(bars))
    report.plot(found, tmp_path / 'x.png', '')
    assert [bar[0] for bar in drawn] == [
        'source only', 'mean teacher', 'mean teacher, as fast as FST-D', 'FST-D',
        'FST-D, far look (ours)', 'FST-W',
    ]  # fmt: skip


def test_without_camvid_its_rows_are_skipped(gain, tmp_path, monkeypatch):
    from benchmark.rows import RealData

    monkeypatch.setattr(RealData, 'folder', tmp_path / 'nowhere')
    code, said, found = gain('--seeds', '0', '--rows', 'fst-d', 'camvid-1of8-fst', 'camvid-1of4-mt')
    assert code == 0 and [row['key'] for row in found['rows']] == ['fst-d']
    skipped = [line for line in said.splitlines() if line.startswith('skipped')]
    assert len(skipped) == 2
    assert 'FST, CamVid 1/8: no frames of CamVid' in skipped[0] and 'MMDISTILL_DATA' in skipped[0]


def test_other_labels_make_camvids_rows_anew(gain, camvid):
    rows = ('--seeds', '0', '--rows', 'camvid-1of8-fst')
    code, said, _ = gain(*rows)
    assert code == 0 and len(gain.calls()) == 1 and 'seed 0 data' not in said
    gain(*rows)
    assert gain.calls() == []
    camvid.write_text('other labels')
    gain(*rows)
    assert len(gain.calls()) == 1


@pytest.mark.parametrize('quick', [False, True])
def test_overrides_exist_and_all_rows_have_equal_terms(fst, config_of_job, camvid, tmp_path, quick):
    data, *rows = fst.gain_jobs(tmp_path, 3, list(fst.ROWS), quick)
    assert (data.kind, data.seed, data.flags) == ('streets', 3, ())
    assert quick or (data.train, data.val) == (400, 100)
    terms: dict[str, list] = {}
    for job in rows:
        cfg, name = config_of_job(job), fst.ROWS[job.key].data
        loader, model = cfg.train_dataloader, cfg.model.to_dict()
        assert loader.sampler.seed == cfg.randomness.seed == model['seed'] == 3
        assert cfg.train_cfg.max_iters == cfg.train_cfg.val_interval == job.iterations
        ratios, size = loader.sampler.ratios, loader.sampler.batch_size
        # FST-W splits its batch among the real step and two virtual ones
        steps = 1 + model['width'] if model.get('virtual_data') == 'fresh' else 1
        labeled = size * ratios[0] // sum(ratios) // steps
        same = (model['segmentor'], labeled, cfg.train_cfg, cfg.param_scheduler, cfg.optim_wrapper)
        terms.setdefault(name, []).append(same)
        assert loader.batch_size == size and labeled == 4
        assert job.needs == ((data.name,) if name == fst.STREETS else ())
    assert {name: len(found) for name, found in terms.items()} == {
        'streets': 6, 'camvid-1of8': 3, 'camvid-1of4': 3,
    }  # fmt: skip
    for found in terms.values():
        assert all(each == found[0] for each in found)


def test_every_dataset_of_streets_is_the_drawn_one(fst, config_of_job, tmp_path):
    data, *rows = fst.gain_jobs(tmp_path, 0, STREETS, quick=False)
    for job in rows:
        cfg = config_of_job(job)
        source, target = cfg.train_dataloader.dataset.datasets
        assert Path(source.class_stats) == data.out / 'source' / 'class_stats.json'
        assert Path(source.dataset.data_root) == data.out / 'source'
        others = (target, cfg.val_dataloader, cfg.test_dataloader)
        assert {Path(each.dataset.data_root) for each in others} == {data.out / 'target'}


def test_the_fast_mean_teacher_keeps_what_fst_d_keeps(fst, config_of_job, tmp_path):
    jobs = {job.key: job for job in fst.gain_jobs(tmp_path, 0, STREETS, quick=False)[1:]}
    models = {key: config_of_job(jobs[key]).model.to_dict() for key in ('mt', 'mt-fast', 'fst-d')}
    keeps = {key: model.pop('keep') for key, model in models.items()}
    averages = {key: 1 + model['depth'] for key, model in models.items()}
    assert averages == {'mt': 1, 'mt-fast': 1, 'fst-d': 2}
    assert keeps['mt'] == keeps['fst-d'] and keeps['mt-fast'] == keeps['fst-d'] ** averages['fst-d']
    assert models['mt'] == models['mt-fast']
    for key in ('policy', 'depth'):
        models['fst-d'].pop(key)
        models['mt'].pop(key)
    assert models['mt'] == models['fst-d']


def test_the_labelled_frames_of_camvid_do_not_vary(fst, config_of_job, camvid, tmp_path):
    chosen = set()
    for seed in (0, 1):
        for job in fst.gain_jobs(tmp_path, seed, CAMVID[:3], quick=False):
            labeled, unlabeled = config_of_job(job).train_dataloader.dataset.datasets
            assert not {*labeled.indices} & {*unlabeled.dataset.indices}
            chosen.add(tuple(labeled.indices))
    assert len(chosen) == 1
