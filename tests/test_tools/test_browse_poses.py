"""The pictured views of people are those of training."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / 'configs' / 'trs' / 'trs_hrnet-tiny_people.py'


@pytest.fixture(scope='module')
def drawn(tmp_path_factory):
    """Ten drawn images."""
    out = tmp_path_factory.mktemp('data') / 'people'
    tool = ROOT / 'tools' / 'dataset_converters' / 'make_synthetic.py'
    command = [sys.executable, tool, 'people', f'--out={out}', '--train=10', '--val=1']
    subprocess.run(command, check=True, capture_output=True)
    return out


@pytest.fixture
def options(tools, drawn):
    """Overrides that point the config at the drawn images."""
    from benchmark.methods.trs import data_options

    found = {key: str(value) for key, value in data_options(CONFIG, drawn).items()}
    return {**found, 'train_dataloader.dataset.labeled.indices': 3}


@pytest.fixture
def parts(options):
    """Model and data set; a head that finds something."""
    from semi_poses import build

    model, dataset = build(CONFIG, None, options)
    for branch in ('student', 'teacher', 'reviewer'):
        torch.nn.init.normal_(getattr(model, branch).head.final_layer.weight, std=0.05)
    return model, dataset


def test_the_views_are_those_of_the_loss(parts, monkeypatch):
    from mmengine.dataset import pseudo_collate
    from semi_poses import choose, pictures, take_step

    model, dataset = parts
    rows, seen = choose(dataset, [], 3), []
    student_levels = model.student_levels

    def remember(labeled, hard):
        seen.append(hard)
        return student_levels(labeled, hard)

    monkeypatch.setattr(model, 'student_levels', remember)
    np.random.seed(0)  # noqa: NPY002
    batch = pseudo_collate([dataset[row] for row in rows])
    data = model.data_preprocessor(batch, True)
    model.cur_iter = 3
    model.loss(data['inputs'], data['data_samples'])
    np.random.seed(0)  # noqa: NPY002
    step = take_step(model, dataset, rows, iteration=3)
    assert np.array_equal(step.hard, pictures(model, seen[0]))
    read = torch.stack(batch['inputs']).flip(1).permute(0, 2, 3, 1)  # BGR as bytes
    assert np.array_equal(step.easy, read.numpy())
    assert step.mixed.shape == step.easy.shape and not np.array_equal(step.mixed, step.easy)
    assert 'student_levels' in vars(model) and 'terms' not in vars(model)
    assert model.hard_view is not None


def test_hidden_truth_lies_on_the_easy_view(parts):
    from semi_poses import choose, take_step

    model, dataset = parts
    step = take_step(model, dataset, choose(dataset, [], 4))
    places, known = step.truth
    assert places.shape == (4, 17, 2) and known.any(1).all()
    assert np.abs(places[known] - (48, 64)).max() < 200
    assert set(step.peaks) == {'teacher', 'reviewer', 'student'}
    assert [len(step.panels(row)) for row in range(4)] == [6] * 4
    places, confidences = step.peaks['teacher']
    assert np.allclose(step.heatmaps.max((1, 2)) > 0, confidences.max(1) > 0)


def test_choice_of_people(parts):
    from semi_poses import choose

    from mmdistill.core.errors import UserError

    _, dataset = parts
    ids = dataset.unlabeled.ids.tolist()
    assert choose(dataset, [ids[2], ids[0]], 0) == [5, 3]
    assert choose(dataset, [], 10**6) == list(range(3, 3 + len(ids)))
    with pytest.raises(UserError, match='id -7'):
        choose(dataset, [-7], 1)


def test_pictures(parts, options, tmp_path, capsys):
    import browse_branches
    import visualize_pseudo

    model, _ = parts
    checkpoint = tmp_path / 'some.pth'
    torch.save(dict(state_dict=model.state_dict(), meta={}), checkpoint)
    given = [f'{key}={value}' for key, value in options.items()]
    fixed = [str(CONFIG), f'--checkpoint={checkpoint}', f'--out={tmp_path}/new', '--count=1']
    browse_branches.main([*fixed, '--cfg-options', *given])
    visualize_pseudo.main([*fixed, '--cfg-options', *given])
    names = sorted(path.name.partition('_')[0] for path in (tmp_path / 'new').iterdir())
    assert names == ['branches', 'pseudo']
    assert capsys.readouterr().out.count('.png') == 2


def test_a_model_without_pseudo_heatmaps_is_refused(options):
    from semi_poses import build

    from mmdistill.core.errors import UserError

    config = CONFIG.with_name('supervised_hrnet-tiny_people.py')
    with pytest.raises(UserError, match='SemiPose makes no pseudo heatmaps'):
        build(config, None, options)


def test_other_hosts_are_refused(tools, tmp_path):
    import browse_branches
    import visualize_pseudo

    from mmdistill.core.errors import UserError

    config = tmp_path / 'other.py'
    config.write_text("default_scope = 'mmocr'\n")
    with pytest.raises(UserError, match="'mmocr'"):
        browse_branches.main([str(config), '--out', str(tmp_path)])
    with pytest.raises(UserError, match="'mmocr'"):
        visualize_pseudo.main([str(config), '--checkpoint', 'x', '--out', str(tmp_path)])
