"""Replay buffers: bitwise there and back, the odd tail, killed imports, files that do not fit."""

import importlib.util
import itertools
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from mmdistill.core.errors import UserError, run_tool
from mmdistill.core.launch import read_config
from mmkd.experts import replay_buffer as module
from mmkd.experts.flat_network import FlatNetwork
from mmkd.experts.replay_buffer import export_buffers, import_buffers
from mmkd.experts.store import TrajectoryStore
from mmkd.registry import DATASETS, MODELS

ABOUT = dict(data='abc')
TOOL = Path(__file__).parents[2] / 'tools/convert_trajectories.py'


class Net(nn.Module):
    """Two layers with a normalisation between them, and a constant."""

    def __init__(self, norm=None):
        super().__init__()
        self.first = nn.Linear(3, 4)
        self.norm = nn.GroupNorm(2, 4) if norm is None else norm
        self.last = nn.Linear(4, 2, bias=False)
        self.register_buffer('scale', torch.tensor([2.0, 3.0]))

    def forward(self, pixel_values):
        hidden = self.norm(self.first(pixel_values)).relu()
        return SimpleNamespace(logits=self.last(hidden) * self.scale)


def buffers(counts=(2, 2, 1), epochs=2):
    """Contents of replay buffers, as a training writes them; every expert is another one."""
    torch.manual_seed(0)
    return [
        [
            [[torch.randn_like(each) for each in Net().parameters()] for _ in range(epochs + 1)]
            for _ in range(count)
        ]
        for count in counts
    ]


def save(folder, contents, **options):
    """Files with these contents."""
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f'replay_buffer_{n}.pt' for n in range(len(contents))]
    for path, content in zip(files, contents, strict=True):
        torch.save(content, path, **options)
    return files


def bits(content):
    """All numbers of a file as integers."""
    return [
        [[each.view(torch.int32).tolist() for each in snapshot] for snapshot in expert]
        for expert in content
    ]


def read(path):
    """Content of a file."""
    return torch.load(path, weights_only=True)


@pytest.mark.parametrize('zipped', [True, False])
def test_files_come_back_bitwise(tmp_path, zipped):
    contents = buffers()
    contents[0][1][2][0][0, 0] = float('nan')
    contents[1][0][0][1][0] = -0.0
    files = save(tmp_path / 'old', contents, _use_new_zipfile_serialization=zipped)
    store = import_buffers(files, tmp_path / 'store', Net(), ABOUT)
    assert store.finished() == [0, 1, 2, 3, 4] and store.epochs == 2 and store.about == ABOUT
    assert store.names[0] == 'first.weight' and store.shapes[-1] == (2, 4)
    assert store.snapshot(3, 1)[1].tolist() == [2.0, 3.0]
    written = export_buffers(store, tmp_path / 'new', per_file=2)
    assert [each.name for each in written] == [f'replay_buffer_{n}.pt' for n in range(3)]
    for path, content in zip(written, contents, strict=True):
        assert bits(read(path)) == bits(content)


def test_a_store_comes_back_bitwise(tmp_path):
    flat = FlatNetwork(Net())
    sizes = (3, 1, flat.size, flat.buffer_size, flat.names, flat.shapes)
    store = TrajectoryStore.create_or_open(tmp_path / 'a', ABOUT, *sizes)
    for expert, epoch in itertools.product(range(3), range(2)):
        store.write(expert, epoch, torch.randn(flat.size), flat.buffers())
        if epoch:
            store.finish(expert)
    files = export_buffers(store, tmp_path / 'files')
    assert len(files) == 1
    import_buffers(files, tmp_path / 'b', Net(), ABOUT)
    names = ('theta.npy', 'buffers.npy', 'progress.npy', 'done.npy', 'meta.json')
    for name in names:
        assert (tmp_path / 'a' / name).read_bytes() == (tmp_path / 'b' / name).read_bytes()


def test_a_snapshot_is_what_the_network_computes_with(tmp_path):
    contents = buffers([1])
    store = import_buffers(save(tmp_path / 'old', contents), tmp_path / 'store', Net(), ABOUT)
    network, images = Net(), torch.randn(5, 3)
    for mine, theirs in zip(network.parameters(), contents[0][0][1], strict=True):
        mine.data.copy_(theirs)
    found = FlatNetwork(Net()).logits(*store.snapshot(0, 1)[:1], images)
    assert torch.equal(found, network(images).logits)


@pytest.mark.parametrize(('per_file', 'counts'), [(10, [5]), (5, [5]), (4, [4, 1]), (1, [1] * 5)])
def test_the_odd_tail_is_kept(tmp_path, per_file, counts):
    store = import_buffers(save(tmp_path / 'old', buffers()), tmp_path / 'store', Net(), ABOUT)
    written = export_buffers(store, tmp_path / 'new', per_file)
    assert [len(read(path)) for path in written] == counts


def test_exported_tensors_share_no_memory(tmp_path):
    store = import_buffers(save(tmp_path / 'old', buffers([1])), tmp_path / 'store', Net(), ABOUT)
    (path,) = export_buffers(store, tmp_path / 'new')
    places = {each.untyped_storage().data_ptr() for snap in read(path)[0] for each in snap}
    assert len(places) == 3 * len(list(Net().parameters()))


def test_files_are_mapped_where_they_can_be(tmp_path, monkeypatch):
    asked, load = [], torch.load

    def noted(*args, **options):
        asked.append((options['mmap'], options['weights_only']))
        return load(*args, **options)

    monkeypatch.setattr(torch, 'load', noted)
    for zipped in (True, False):
        name = f'{zipped}'
        files = save(tmp_path / name, buffers([1]), _use_new_zipfile_serialization=zipped)
        import_buffers(files, tmp_path / f'store{name}', Net(), ABOUT)
    assert asked == [(True, True)] * 2 + [(False, True)] * 2


def test_a_killed_import_goes_on(tmp_path, monkeypatch):
    contents = buffers()
    files, copy = save(tmp_path / 'old', contents), module._copy

    def some(store, number, *rest):
        if number == 3:
            raise KeyboardInterrupt
        copy(store, number, *rest)

    monkeypatch.setattr(module, '_copy', some)
    with pytest.raises(KeyboardInterrupt):
        import_buffers(files, tmp_path / 'store', Net(), ABOUT)
    monkeypatch.setattr(module, '_copy', copy)
    assert TrajectoryStore.open(tmp_path / 'store').finished() == [0, 1, 2]
    store = import_buffers(files, tmp_path / 'store', Net(), ABOUT)
    written = export_buffers(store, tmp_path / 'new', 2)
    assert [bits(read(path)) for path in written] == [bits(each) for each in contents]


def test_other_experts_are_not_mixed_into_a_store(tmp_path):
    files = save(tmp_path / 'old', buffers())
    import_buffers(files, tmp_path / 'store', Net(), ABOUT)
    with pytest.raises(UserError, match='expert 0 is another one than that of .*buffer_1.pt'):
        import_buffers([files[1], files[0], files[2]], tmp_path / 'store', Net(), ABOUT)
    with pytest.raises(UserError, match="data = 'abc', asked for is 'x'"):
        import_buffers(files, tmp_path / 'store', Net(), dict(data='x'))


def test_an_expert_that_another_process_imports_is_left_to_it(tmp_path):
    files, flat = save(tmp_path / 'old', buffers()), FlatNetwork(Net())
    sizes = (5, 2, flat.size, flat.buffer_size, flat.names, flat.shapes)
    store = TrajectoryStore.create_or_open(tmp_path / 'store', ABOUT, *sizes)
    with store.claim(1), pytest.raises(UserError, match='another process writes expert 1; import'):
        import_buffers(files, tmp_path / 'store', Net(), ABOUT)
    assert store.finished() == [0] and store.written(1) == 0
    import_buffers(files, tmp_path / 'store', Net(), ABOUT)
    assert store.unfinished() == []


def spoil(contents, file=1, expert=1, snapshot=None, parameter=None, value=None):
    """Replaces an expert, a snapshot or a parameter."""
    path = [contents[file], expert, snapshot, parameter]
    target, *places = [each for each in path if each is not None]
    for place in places[:-1]:
        target = target[place]
    target[places[-1]] = value


@pytest.mark.parametrize(
    ('place', 'value', 'said'),
    [
        (
            dict(snapshot=2, parameter=0),
            torch.zeros(3, 4),
            r'buffer_1.pt: expert 1, snapshot 2, parameter 0 \(first.weight\): torch.float32 '
            r'\(3, 4\), the network has torch.float32 \(4, 3\)',
        ),
        (
            dict(snapshot=0, parameter=4),
            torch.zeros(2, 4, dtype=torch.float64),
            r'expert 1, snapshot 0, parameter 4 \(last.weight\): torch.float64',
        ),
        (dict(snapshot=1, parameter=3), 7, r"parameter 3 \(norm.bias\): <class 'int'> \(\)"),
        (dict(snapshot=1), [torch.zeros(4, 3)], 'snapshot 1: 1 parameters, the network has 5'),
        (dict(snapshot=1), 'x', 'snapshot 1: no list of parameters, the network has 5'),
        (dict(), [], 'buffer_1.pt: expert 1 is no list of at least two snapshots'),
        (dict(), 3, 'buffer_1.pt: expert 1 is no list of at least two snapshots'),
        (dict(), buffers([1], 3)[0][0], 'expert 1 has 4 snapshots, the first expert 3'),
        (dict(), 3 * buffers([1])[0][0][:1], 'the first and the last snapshot are the same'),
    ],
)
def test_files_that_do_not_fit_leave_nothing(tmp_path, place, value, said):
    contents = buffers()
    spoil(contents, **place, value=value)
    with pytest.raises(UserError, match=said):
        import_buffers(save(tmp_path / 'old', contents), tmp_path / 'store', Net(), ABOUT)
    assert not (tmp_path / 'store').exists()


def test_files_that_cannot_be_read(tmp_path):
    (path,) = save(tmp_path / 'old', buffers([1]))
    whole = path.read_bytes()
    for content, said in (
        (whole[:-100], 'damaged, or no replay buffer'),
        (b'', 'damaged, or no replay buffer'),
        (b'no pickle', 'damaged, or no replay buffer'),
    ):
        path.write_bytes(content)
        with pytest.raises(UserError, match=f'{path.name}: {said}'):
            import_buffers([path], tmp_path / 'store', Net(), ABOUT)
    torch.save([Path('x')], path)
    with pytest.raises(UserError, match='damaged, or no replay buffer: Weights only load failed'):
        import_buffers([path], tmp_path / 'store', Net(), ABOUT)
    torch.save(dict(a=1), path)
    with pytest.raises(UserError, match='a list of experts is expected, got dict'):
        import_buffers([path], tmp_path / 'store', Net(), ABOUT)
    torch.save([], path)
    with pytest.raises(UserError, match='there are no experts to import'):
        import_buffers([path], tmp_path / 'store', Net(), ABOUT)
    with pytest.raises(UserError, match='nowhere.pt: there is no such file'):
        import_buffers([tmp_path / 'nowhere.pt'], tmp_path / 'store', Net(), ABOUT)


def test_networks_with_running_statistics_are_refused(tmp_path):
    files = save(tmp_path / 'old', buffers([1]))
    with pytest.raises(UserError, match='Net has running statistics, which replay buffers lack'):
        import_buffers(files, tmp_path / 'store', Net(nn.BatchNorm1d(4)), ABOUT)


def test_what_cannot_be_exported(tmp_path, monkeypatch):
    store = import_buffers(save(tmp_path / 'old', buffers([2])), tmp_path / 'store', Net(), ABOUT)
    with pytest.raises(UserError, match='per_file must be at least 1, got 0'):
        export_buffers(store, tmp_path / 'new', 0)
    with pytest.raises(UserError, match='old has replay buffers: name another folder'):
        export_buffers(store, tmp_path / 'old')
    empty = TrajectoryStore.create_or_open(tmp_path / 'empty', ABOUT, 2, 1, 1)
    with pytest.raises(UserError, match=r'experts \[0, 1\] are not finished'):
        export_buffers(empty, tmp_path / 'new')
    for expert, epoch in itertools.product(range(2), range(2)):
        empty.write(expert, epoch, torch.ones(1))
        if epoch:
            empty.finish(expert)
    with pytest.raises(UserError, match='empty has no shapes of parameters'):
        export_buffers(empty, tmp_path / 'new')
    save_file = torch.save

    def full(content, file):
        save_file(content[:1], file)
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(torch, 'save', full)
    with pytest.raises(UserError, match='buffer_0.pt cannot be written: .*No space left'):
        export_buffers(store, tmp_path / 'new')
    assert not list((tmp_path / 'new').iterdir())


def call(monkeypatch, *args):
    """Runs the tool in this process; its exit status."""
    spec = importlib.util.spec_from_file_location('tool_convert_trajectories', TOOL)
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    monkeypatch.setattr(sys, 'argv', ['convert_trajectories.py', *map(str, args)])
    try:
        run_tool(tool.main)
    except SystemExit as end:
        return end.code
    return 0


def test_the_tool_converts_there_and_back(monkeypatch, tmp_path, capsys):
    config = TOOL.parents[1] / 'configs/datm/experts_convnet_digits.py'
    torch.manual_seed(0)
    cfg = read_config(config)
    made = [MODELS.build(dict(cfg.model.network)) for _ in range(6)]
    experts = [[[each.detach() for each in net.parameters()] for net in made[n::2]] for n in (0, 1)]
    files, store = save(tmp_path / 'old', [experts[:1], experts[1:]]), tmp_path / 'store'
    assert call(monkeypatch, 'import', config, *files, '--out', store) == 0
    assert '2 experts of 2 epochs are in' in capsys.readouterr().out
    about = json.loads((store / 'meta.json').read_text())['about']
    assert about['data'] == DATASETS.build(cfg.train_dataloader.dataset).digest
    assert about['network']['type'] == 'mmkd.CondensationNet'
    assert call(monkeypatch, 'export', store, '--out', tmp_path / 'new', '--per-file', 1) == 0
    for number, path in enumerate(files):
        assert bits(read(tmp_path / 'new' / path.name)) == bits(experts[number : number + 1])
    assert call(monkeypatch, 'export', tmp_path / 'nowhere', '--out', tmp_path / 'x') == 2
    assert 'error: ' in capsys.readouterr().err
    plain = TOOL.parents[1] / 'configs/_base_/runtime.py'
    assert call(monkeypatch, 'import', plain, *files, '--out', store) == 2
    assert 'model.network and train_dataloader.dataset are needed' in capsys.readouterr().err
