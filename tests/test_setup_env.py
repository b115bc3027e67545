"""`make setup`: stages resume, half-made things are never mistaken for whole ones."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / 'tools'))

from setup_steps import (  # noqa: E402
    engine,
    integrity,
    mmcv_build,
    mmcv_stage,
    pip_config,
    plan,
    preflight,
    pythons,
    state,
    wheel_cache,
)
from setup_steps.installer import Installer  # noqa: E402
from setup_steps.shell import CommandError, SetupError, Shell  # noqa: E402

PY = sys.version_info[:2]


@pytest.fixture
def shell(tmp_path):
    """A shell with its logs in a temporary folder."""
    shell = Shell(tmp_path / 'logs', dict(os.environ), heartbeat=0.2)
    yield shell
    shell.stop()


def copy_of_checkout(target: Path) -> Path:
    """Copies the files that the plan reads."""
    shutil.copytree(ROOT / 'requirements', target / 'requirements')
    for name in ('setup.py', 'pyproject.toml'):
        shutil.copy(ROOT / name, target / name)
    (target / 'mmdistill' / '.mim').mkdir(parents=True)
    return target


def pretend_installed(site: Path, root: Path) -> None:
    """Makes the metadata folders of everything that is named, and mmcv's operators."""
    pins = dict(mmdistill='0.1.0')
    for file in (root / 'requirements').glob('*.txt'):
        for line in file.read_text().splitlines() if file.name != 'lock.txt' else []:
            name, _, version = line.split('#')[0].split(';')[0].partition('==')
            if name.strip():
                pins.setdefault(re.match(r'[\w.-]+', name)[0], version.strip() or '1.0')
    for name, version in pins.items():
        info = site / f'{integrity.normal(name)}-{version}.dist-info'
        info.mkdir(parents=True, exist_ok=True)
        (info / 'METADATA').touch()
        (info / 'RECORD').write_text(f'{info.name}/RECORD,,\n')
    put(site / 'mmcv', '_ext.cpython-311-x86_64-linux-gnu.so', '')


def make_dist(site: Path, name: str = 'thing') -> Path:
    """Writes a small installed distribution with a RECORD."""
    info = site / f'{name}-1.0.dist-info'
    info.mkdir(parents=True)
    (site / name).mkdir()
    (site / name / '__init__.py').write_text('x = 1\n')
    (info / 'METADATA').write_text('Name: thing\n')
    record = f'{name}/__init__.py,sha256=x,6\n{info.name}/METADATA,sha256=x,12\n'
    (info / 'RECORD').write_text(record + f'{info.name}/RECORD,,\n')
    return info


# state -------------------------------------------------------------------------------------


def test_a_stamp_counts_for_its_own_key_only(tmp_path):
    stamps = state.Stamps(tmp_path / 'stamps')
    assert not stamps.is_done('torch', 'a')
    stamps.done('torch', 'a', seconds=1)
    assert stamps.is_done('torch', 'a') and not stamps.is_done('torch', 'b')
    stamps.forget('torch')
    assert not stamps.is_done('torch', 'a')


@pytest.mark.parametrize('damage', ['', '{"key"', '[]', '\x00'])
def test_a_damaged_stamp_counts_as_none(tmp_path, damage):
    stamps = state.Stamps(tmp_path)
    (tmp_path / 'torch.json').write_text(damage)
    assert stamps.read('torch') == {}


def test_an_atomic_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    state.write_atomic(tmp_path / 'a', 'old')
    monkeypatch.setattr(os, 'replace', lambda *_: (_ for _ in ()).throw(OSError('full')))
    with pytest.raises(OSError, match='full'):
        state.write_atomic(tmp_path / 'a', 'new')
    assert (tmp_path / 'a').read_text() == 'old'


@given(st.lists(st.text(max_size=5), max_size=4), st.lists(st.text(max_size=5), max_size=4))
def test_keys_tell_different_parts_apart(first, second):
    assert (state.digest(*first) == state.digest(*second)) == (first == second)


def test_the_lock_outlives_a_killed_set_up_until_its_commands_end(tmp_path):
    code = (
        f'import sys; sys.path.insert(0, {str(ROOT / "tools")!r})\n'
        'import os, signal, subprocess\nfrom pathlib import Path\n'
        'from setup_steps.state import folder_lock\n'
        f'with folder_lock(Path({str(tmp_path)!r})):\n'
        '    subprocess.Popen(["sleep", "1"], close_fds=False, start_new_session=True)\n'
        '    os.kill(os.getpid(), signal.SIGKILL)\n'
    )
    subprocess.run([sys.executable, '-c', code])
    waited = []
    with state.folder_lock(tmp_path, lambda: waited.append(time.monotonic())):
        assert waited and time.monotonic() - waited[0] > 0.2
    with state.folder_lock(tmp_path, lambda: waited.append(None)):
        assert len(waited) == 1


# the plan ----------------------------------------------------------------------------------


def test_every_stage_is_pending_first_and_none_when_all_are_stamped(tmp_path):
    root = copy_of_checkout(tmp_path)
    todo, site = plan.Plan(root, PY, plan.Route()), tmp_path / 'site'
    stamps = state.Stamps(tmp_path / 'stamps')
    assert todo.pending(stamps, site) == list(plan.STAGES)
    for name, key in todo.keys.items():
        stamps.done(name, key)
    pretend_installed(site, root)
    assert todo.pending(stamps, site) == []


@pytest.mark.parametrize(
    ('file', 'stages'),
    [
        ('requirements/dev.txt', ['dev', 'check']),
        ('requirements/pose.txt', ['pose', 'check']),
        ('requirements/mmkd.txt', ['mmkd', 'check']),
        ('requirements/overrides.txt', ['hosts', 'check']),
        ('pyproject.toml', ['project', 'check']),
        ('requirements/torch.txt', ['torch', 'check']),
    ],
)
def test_a_changed_file_redoes_its_stage_and_the_check(tmp_path, file, stages):
    root = copy_of_checkout(tmp_path)
    stamps, site = state.Stamps(tmp_path / 'stamps'), tmp_path / 'site'
    pretend_installed(site, root)
    for name, key in plan.Plan(root, PY, plan.Route()).keys.items():
        stamps.done(name, key)
    with open(root / file, 'a') as stream:
        stream.write('\n# changed\n')
    assert plan.Plan(root, PY, plan.Route()).pending(stamps, site) == stages


def test_a_package_removed_by_hand_is_noticed(tmp_path):
    root = copy_of_checkout(tmp_path)
    stamps, site = state.Stamps(tmp_path / 'stamps'), tmp_path / 'site'
    pretend_installed(site, root)
    todo = plan.Plan(root, PY, plan.Route())
    for name, key in todo.keys.items():
        stamps.done(name, key)
    next(site.glob('mmcv/_ext*.so')).unlink()
    assert todo.pending(stamps, site) == ['mmcv', 'check']
    pretend_installed(site, root)
    for name in ('numba', 'matplotlib', 'opencv_python_headless', 'mmdet3d'):
        shutil.rmtree(next(site.glob(f'{name}-*')))
        assert todo.pending(stamps, site) == ['hosts', 'check']
        pretend_installed(site, root)
    shutil.rmtree(next(site.glob('mmdet3d-*')))
    shutil.rmtree(root / 'mmdistill' / '.mim')
    assert todo.pending(stamps, site) == ['hosts', 'project', 'check']


def test_the_gpu_route_is_remembered_and_changes_what_depends_on_it(tmp_path):
    root = copy_of_checkout(tmp_path)
    gpu = plan.Route('cu130-9.0', '9.0')
    assert plan.choose_route(None, vars(gpu), {}) == gpu
    assert plan.choose_route('1', vars(gpu), {'TORCH_CUDA_ARCH_LIST': '9.0'}) == gpu
    assert plan.choose_route('0', vars(gpu), {}) == plan.Route()
    assert plan.choose_route(None, {}, {}) == plan.Route()
    named = plan.choose_route('1', vars(gpu), {'TORCH_CUDA_ARCH_LIST': '8.0 8.6'})
    assert named.architectures == '8.0;8.6'
    first, second = (plan.Plan(root, PY, route) for route in (plan.Route(), gpu))
    assert all(first.keys[name] != second.keys[name] for name in plan.STAGES)
    assert first.wheel_folder != second.wheel_folder
    assert second.device_file.name == 'cuda.txt'


def test_a_second_package_joins_the_project_stage(tmp_path):
    root = copy_of_checkout(tmp_path)
    before = plan.Plan(root, PY, plan.Route())
    (root / 'projects' / 'mmkd').mkdir(parents=True)
    (root / 'projects' / 'mmkd' / 'setup.py').write_text('')
    after = plan.Plan(root, PY, plan.Route())
    assert len(after.projects()) == 2 and before.keys['project'] != after.keys['project']


# integrity ---------------------------------------------------------------------------------


@pytest.mark.parametrize('harm', ['record', 'metadata', 'file', 'cut file', 'cut record', 'none'])
def test_half_installed_distributions_are_dropped(tmp_path, harm):
    info, other = make_dist(tmp_path, 'thing'), make_dist(tmp_path, 'whole')
    record = (info / 'RECORD').read_text()
    {
        'record': lambda: (info / 'RECORD').unlink(),
        'metadata': lambda: (info / 'METADATA').unlink(),
        'file': lambda: (tmp_path / 'thing' / '__init__.py').unlink(),
        'cut file': lambda: (tmp_path / 'thing' / '__init__.py').write_text('x'),
        'cut record': lambda: (info / 'RECORD').write_text(record[: len(record) // 2]),
        'none': lambda: None,
    }[harm]()
    dropped = integrity.drop_broken(tmp_path)
    assert dropped == ([] if harm == 'none' else ['thing-1.0'])
    assert other.is_dir() and info.is_dir() == (harm == 'none')


def test_names_of_distributions_are_compared_in_one_form(tmp_path):
    (tmp_path / 'json_tricks-3.17.3.dist-info').mkdir()
    assert integrity.installed(tmp_path) == {integrity.normal('JSON-tricks'): '3.17.3'}


# shell -------------------------------------------------------------------------------------


def test_a_failing_command_shows_the_end_of_its_log(shell):
    with pytest.raises(CommandError) as caught:
        shell.run('x', ['sh', '-c', 'echo first; echo why >&2; exit 3'])
    assert 'code 3' in str(caught.value) and caught.value.log_tail.endswith('first\nwhy')


def test_progress_is_shown_while_a_command_runs(shell, capsys):
    shell.run('mmcv', ['sh', '-c', 'echo "[3/31] c++ -c x"; sleep 0.7'])
    assert 'working, 3 of 31 compiled' in capsys.readouterr().out


def test_stop_ends_grandchildren_too(shell, tmp_path):
    import threading

    command = ['sh', '-c', f'sleep 60 & echo $! > {tmp_path}/pid; wait']
    errors = []

    def work():
        try:
            shell.run('x', command)
        except SetupError as error:
            errors.append(str(error))

    worker = threading.Thread(target=work)
    worker.start()
    while not (tmp_path / 'pid').exists() or not (tmp_path / 'pid').read_text().strip():
        time.sleep(0.02)
    shell.stop()
    worker.join(10)
    assert errors == ['stopped']
    pid = int((tmp_path / 'pid').read_text())
    for _ in range(100):
        stat = Path(f'/proc/{pid}/stat')
        if not stat.exists() or stat.read_text().rsplit(')')[1].split()[0] == 'Z':
            break
        time.sleep(0.05)
    else:
        pytest.fail('the grandchild lives')
    with pytest.raises(SetupError):
        shell.run('x', ['true'])


# pip and uv --------------------------------------------------------------------------------


def test_pip_configuration_files_and_variables_are_read_weakest_first(tmp_path):
    (tmp_path / 'pip').mkdir()
    text = '[global]\nindex-url = https://a\nproxy = http://p:1\n[install]\nfind_links = /x\n'
    (tmp_path / 'pip' / 'pip.conf').write_text(text)
    environ = dict(
        HOME=str(tmp_path / 'h'), XDG_CONFIG_DIRS=str(tmp_path), PIP_INDEX_URL='https://b'
    )
    found = pip_config.pip_settings(environ)
    found.pop('cert', None)  # may come from this machine's /etc/pip.conf
    assert found == {'index-url': 'https://b', 'proxy': 'http://p:1', 'find-links': '/x'}
    told = pip_config.uv_environment(found, {'UV_FIND_LINKS': '/mine'})
    assert told['UV_DEFAULT_INDEX'] == 'https://b' and told['HTTPS_PROXY'] == 'http://p:1'
    assert 'UV_FIND_LINKS' not in told


class Recorder(Shell):
    """A shell that runs nothing and fails for commands that hold given words."""

    def __init__(self, tmp_path, failures):
        super().__init__(tmp_path / 'logs', {})
        self.failures, self.seen = failures, []

    def run(self, stage, command, cwd=None, env=None):
        line = ' '.join(map(str, command))
        self.seen.append(line)
        for words, tail in self.failures.items():
            if all(word in line for word in words):
                raise CommandError('failed', tail)
        return ''


@pytest.mark.parametrize(
    ('failures', 'calls'),
    [
        ({}, ['uv lock']),
        ({('uv', 'lock'): 'No solution found'}, ['uv lock', 'uv constraints']),
        ({('bin/uv',): 'crash'}, ['uv lock'] * 2 + ['pip lock']),
        (
            {('bin/uv',): 'No solution found', ('pip', 'lock'): 'No matching distribution'},
            ['uv lock', 'uv constraints', 'pip lock', 'pip constraints'],
        ),
    ],
)
def test_the_ladder_from_uv_to_pip_and_from_lock_to_bounds(tmp_path, failures, calls):
    python = tmp_path / 'bin' / 'python'
    python.parent.mkdir()
    python.with_name('uv').touch()
    shell = Recorder(tmp_path, failures)
    Installer(tmp_path, python, shell, pause=0).install('x', '-r', 'a.txt')
    short = [
        ('uv ' if '/bin/uv' in line else 'pip ') + ('lock' if 'lock.txt' in line else 'constraints')
        for line in shell.seen
    ]
    assert short == calls


def test_without_uv_pip_does_it_and_a_hopeless_case_is_an_error(tmp_path):
    shell = Recorder(tmp_path, {('install', 'uv'): 'x', ('a.txt',): 'No matching distribution'})
    installer = Installer(tmp_path, tmp_path / 'python', shell, pause=0)
    installer.bootstrap()
    with pytest.raises(CommandError):
        installer.install('x', '-r', 'a.txt')
    assert all(' -m pip ' in line for line in shell.seen)


# preflight ---------------------------------------------------------------------------------


def test_every_lack_is_one_line_with_a_remedy(tmp_path, monkeypatch):
    nothing = SimpleNamespace(free=1 << 30)
    monkeypatch.setenv('CUDA_HOME', str(tmp_path))
    lines = [
        preflight.check_compiler(which=lambda name: None),
        preflight.check_headers(tmp_path),
        preflight.check_disk(tmp_path / 'not' / 'yet', 8, usage=lambda _: nothing),
        preflight.check_nvcc(which=lambda name: None),
        preflight.check_network({'PIP_INDEX_URL': 'http://127.0.0.1:9', 'HOME': str(tmp_path)}, 2),
        pythons.refusal('/usr/bin/python3', (3, 13)),
    ]
    assert all(line and '\n' not in line for line in lines)
    for line, remedy in zip(
        lines,
        ['build-essential', '-dev', '8 GB', 'CUDA_HOME', 'PIP_INDEX_URL', 'python3.11-venv'],
        strict=True,
    ):
        assert remedy in line


def test_what_is_there_is_not_complained_about(tmp_path, monkeypatch):
    (tmp_path / 'Python.h').touch()
    assert preflight.check_compiler(which=lambda name: name) is None
    assert preflight.check_headers(tmp_path) is None
    assert preflight.check_disk(tmp_path, 0) is None
    environ = {'PIP_INDEX_URL': 'file:///x', 'HOME': str(tmp_path)}
    assert preflight.check_network(environ) is None
    error = urllib.error.HTTPError('http://x', 404, 'no', None, None)
    opener = SimpleNamespace(open=lambda *_, **__: (_ for _ in ()).throw(error))
    monkeypatch.setattr(preflight.urllib.request, 'build_opener', lambda *_: opener)
    assert preflight.check_network({'PIP_INDEX_URL': 'http://x', 'HOME': str(tmp_path)}) is None


@given(st.tuples(st.integers(2, 4), st.integers(0, 20)))
def test_python_range(version):
    assert pythons.supported(version) == (version in {(3, 10), (3, 11), (3, 12)})


def test_another_python_is_looked_for(tmp_path):
    for name, minor in (('python3.12', 8), ('python3.10', 10)):
        (tmp_path / name).write_text(f'#!/bin/sh\necho 3 {minor}\n')
        (tmp_path / name).chmod(0o755)
    (tmp_path / 'python3.11').write_text('#!/bin/sh\nexit 127\n')  # a shim without a Python
    (tmp_path / 'python3.11').chmod(0o755)
    assert pythons.find(tmp_path, path=str(tmp_path)) == str(tmp_path / 'python3.10')
    assert pythons.find(tmp_path, path='') is None


# mmcv's wheel ------------------------------------------------------------------------------


def test_the_cache_key_tells_apart_what_a_wheel_is_bound_to():
    base = dict(mmcv='2.1.0', torch='2.12.1', python=(3, 11), cuda='cpu', machine='x86_64')
    other = dict(mmcv='2.2.0', torch='2.11', python=(3, 12), cuda='cu130-9.0', machine='aarch64')
    keys = {wheel_cache.wheel_key(**base)}
    keys |= {wheel_cache.wheel_key(**{**base, name: value}) for name, value in other.items()}
    assert len(keys) == 6 and all('/' not in key and ';' not in key for key in keys)
    assert wheel_cache.cache_root({'XDG_CACHE_HOME': '/c'}) == Path('/c/mmdistill/wheels')
    assert wheel_cache.cache_root({'HOME': '/h'}) == Path('/h/.cache/mmdistill/wheels')


def test_a_wheel_is_found_for_its_python_only_and_published_whole(tmp_path, monkeypatch):
    machine = os.uname().machine
    wheel = tmp_path / f'mmcv-2.1.0-cp311-cp311-linux_{machine}.whl'
    wheel.write_bytes(b'content')
    assert wheel_cache.matching(tmp_path, 'mmcv', '2.1.0', (3, 11)) == [wheel]
    assert wheel_cache.matching(tmp_path, 'mmcv', '2.1.0', (3, 12)) == []
    assert wheel_cache.matching(tmp_path / 'none', 'mmcv', '2.1.0', (3, 11)) == []
    folder = tmp_path / 'cache'
    with monkeypatch.context() as patch:
        patch.setattr(os, 'fsync', lambda _: (_ for _ in ()).throw(OSError('full')))
        with pytest.raises(OSError, match='full'):
            wheel_cache.publish(wheel, folder)
    assert wheel_cache.matching(folder, 'mmcv', '2.1.0', (3, 11)) == []
    assert wheel_cache.publish(wheel, folder).read_bytes() == b'content'
    links = wheel_cache.link_folders('https://x file:///y /z', {'MMDISTILL_WHEELS': '/a:/b'})
    assert links == [Path('/a'), Path('/b'), Path('/y'), Path('/z')]


def make_sdist(folder: Path) -> Path:
    """Packs a source tree with three dispatchers and one kernel."""
    sources = folder / 'mmcv-2.1.0'
    (sources / mmcv_build.DISPATCHERS / 'cpu').mkdir(parents=True)
    for name in ('a.cpp', 'b.cpp', 'pybind.cpp', 'cpu/a.cpp'):
        (sources / mmcv_build.DISPATCHERS / name).write_text(f'// {name}\n')
    sdist = folder / 'mmcv-2.1.0.tar.gz'
    subprocess.run(['tar', '-C', folder, '-czf', sdist, sources.name], check=True)
    shutil.rmtree(sources)
    return sdist


def test_the_unity_file_holds_each_dispatcher_once(tmp_path):
    target = mmcv_build.unpack(make_sdist(tmp_path), tmp_path / 'unity', unity=True)
    folder = target / mmcv_build.DISPATCHERS
    assert sorted(path.name for path in folder.glob('*.cpp')) == [
        'dispatchers_unity.cpp',
        'pybind.cpp',
    ]
    text = (folder / 'dispatchers_unity.cpp').read_text()
    assert text == '#include "a.inc"\n#include "b.inc"\n'
    assert (folder / 'cpu' / 'a.cpp').exists()
    (target / 'object.o').touch()  # an interrupted build goes on with its objects
    assert (mmcv_build.unpack(Path('gone'), target, unity=True) / 'object.o').exists()
    plain = mmcv_build.unpack(make_sdist(tmp_path), tmp_path / 'plain', unity=False)
    assert len(list((plain / mmcv_build.DISPATCHERS).glob('*.cpp'))) == 3


def test_the_plain_build_follows_a_failed_fast_build(tmp_path, monkeypatch, shell):
    tried = []

    def compile_wheel(shell, python, source, env):
        tried.append((source.name, env['CFLAGS'], env['FORCE_CUDA']))
        if source.name == 'unity':
            raise CommandError('no', '')
        return source / 'x.whl'

    monkeypatch.setattr(mmcv_build, 'compile_wheel', compile_wheel)
    wheel = mmcv_build.build(shell, Path('python'), make_sdist(tmp_path), tmp_path)
    assert wheel == tmp_path / 'plain' / 'x.whl'
    assert tried == [('unity', '-g0 -O2', '0'), ('plain', '-g0 -O2', '0')]


def test_build_settings_for_both_routes():
    assert mmcv_build.jobs(cpus=8, memory=5 << 30) == 2 and mmcv_build.jobs(1, 1 << 30) == 1
    gpu = mmcv_build.build_environment('8.0;9.0')
    assert gpu['FORCE_CUDA'] == '1' and gpu['TORCH_CUDA_ARCH_LIST'] == '8.0;9.0'
    assert mmcv_build.build_environment()['CUDA_VISIBLE_DEVICES'] == ''


class FakeInstaller:
    """Remembers what it installs."""

    def __init__(self, shell):
        self.shell, self.python, self.installed = shell, Path('python'), []

    def install(self, stage, *arguments):
        self.installed.append(arguments[-1])
        if isinstance(arguments[-1], Path) and arguments[-1].read_text() == 'half a file':
            raise CommandError('not a wheel', '')


@pytest.fixture
def mmcv(tmp_path, monkeypatch, shell):
    """The mmcv stage with an empty cache; ``works`` says which wheels' operators run."""
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    monkeypatch.setenv('MMDISTILL_WHEELS', str(tmp_path / 'links'))
    monkeypatch.setattr(mmcv_stage, 'pip_settings', dict)
    todo = plan.Plan(copy_of_checkout(tmp_path / 'repo'), PY, plan.Route())
    installer, stamps = FakeInstaller(shell), state.Stamps(tmp_path / 'stamps')
    stage = mmcv_stage.MmcvStage(todo, installer, stamps, tmp_path / 'site')
    name = (
        f'mmcv-{todo.mmcv_version}-cp{PY[0]}{PY[1]}-cp{PY[0]}{PY[1]}-linux_{os.uname().machine}.whl'
    )
    works = {'compiled'}

    def compile_it(search):
        (tmp_path / 'out').mkdir(exist_ok=True)
        (tmp_path / 'out' / name).write_text('compiled')
        return tmp_path / 'out' / name, True

    monkeypatch.setattr(stage, '_compile', compile_it)
    monkeypatch.setattr(stage, '_ops_work', lambda: installer.installed[-1].read_text() in works)
    return SimpleNamespace(
        stage=stage, name=name, works=works, installer=installer, links=tmp_path / 'links'
    )


def put(folder: Path, name: str, content: str) -> None:
    """Writes a pretended wheel."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(content)


def test_a_wheel_is_compiled_once_and_then_comes_from_the_cache(mmcv):
    mmcv.stage.install()
    assert (mmcv.stage.folder / mmcv.name).read_text() == 'compiled'
    mmcv.stage.prepare()
    mmcv.stage.install()
    assert mmcv.installer.installed[-1] == mmcv.stage.folder / mmcv.name


def test_a_wheel_from_a_folder_of_links_is_used_and_kept(mmcv):
    mmcv.works.add('given')
    put(mmcv.links, mmcv.name, 'given')
    mmcv.stage.install()
    assert mmcv.installer.installed == [mmcv.links / mmcv.name]
    assert (mmcv.stage.folder / mmcv.name).read_text() == 'given'


def test_a_wheel_that_does_not_work_is_replaced(mmcv):
    put(mmcv.stage.folder, mmcv.name, 'built against another torch')
    put(mmcv.links, mmcv.name, 'for another machine')
    mmcv.stage.install()
    assert (mmcv.stage.folder / mmcv.name).read_text() == 'compiled'
    assert (mmcv.links / mmcv.name).exists()
    assert len(mmcv.installer.installed) == 2


@pytest.mark.parametrize('place', ['cache', 'links'])
def test_a_damaged_wheel_is_replaced(mmcv, place):
    put(mmcv.stage.folder if place == 'cache' else mmcv.links, mmcv.name, 'half a file')
    mmcv.stage.install()
    assert (mmcv.stage.folder / mmcv.name).read_text() == 'compiled'
    assert (mmcv.links / mmcv.name).exists() == (place == 'links')


def test_a_compiled_wheel_that_cannot_be_installed_is_an_error(mmcv, monkeypatch):
    def fail(*_):
        raise CommandError('no room', '')

    monkeypatch.setattr(mmcv.installer, 'install', fail)
    with pytest.raises(CommandError, match='no room'):
        mmcv.stage.install()


def test_a_compiled_wheel_that_does_not_work_is_an_error(mmcv):
    mmcv.works.clear()
    with pytest.raises(SetupError, match='do not run'):
        mmcv.stage.install()
    assert mmcv.stage.ready_wheel() is None


def test_an_error_of_the_compiling_thread_is_raised_in_the_main_one(mmcv, monkeypatch):
    def fail(search):
        raise CommandError('compiler failed', 'line 3')

    monkeypatch.setattr(mmcv.stage, '_compile', fail)
    mmcv.stage.prepare()
    with pytest.raises(CommandError, match='compiler failed'):
        mmcv.stage.install()


# xtcocotools' wheel --------------------------------------------------------------------------


@pytest.fixture
def pose(tmp_path, monkeypatch, shell):
    """A set-up with an empty cache whose pip writes a pretended wheel of xtcocotools."""
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    root = copy_of_checkout(tmp_path / 'repo')
    setup = engine.Setup(root, plan.Plan(root, PY, plan.Route()), shell)
    setup.installer = FakeInstaller(shell)
    version = wheel_cache.pinned(root / 'requirements' / 'pose-nodeps.txt', 'xtcocotools')
    tag = f'cp{PY[0]}{PY[1]}'
    name = f'xtcocotools-{version}-{tag}-{tag}-linux_{os.uname().machine}.whl'
    setup.installer.pip = lambda stage, *words: put(words[-2], name, 'compiled')
    folder = wheel_cache.cache_root() / f'xtcocotools-{version}_numpy2'
    return SimpleNamespace(setup=setup, wheel=folder / name)


@pytest.mark.parametrize(
    ('cached', 'kept'), [(None, 'compiled'), ('whole', 'whole'), ('half a file', 'compiled')]
)
def test_xtcocotools_is_compiled_where_the_cache_has_no_whole_wheel(pose, cached, kept):
    if cached is not None:
        put(pose.wheel.parent, pose.wheel.name, cached)
    pose.setup.do_pose()
    assert pose.wheel.read_text() == kept
    installed = pose.setup.installer.installed
    assert installed.count(pose.wheel) == (2 if cached == 'half a file' else 1)


@pytest.mark.parametrize(
    ('todo', 'cached', 'asked'),
    [(['pose'], False, True), (['pose'], True, False), (['mmcv'], True, True), (['dev'], 0, False)],
)
def test_a_compiler_is_asked_for_where_something_is_compiled(
    pose, monkeypatch, todo, cached, asked
):
    for name in ('disk', 'network', 'nvcc'):
        monkeypatch.setattr(preflight, f'check_{name}', lambda *_: None)
    monkeypatch.setattr(preflight, 'check_compiler', lambda: 'no gcc')
    monkeypatch.setattr(preflight, 'check_headers', lambda: None)
    monkeypatch.setattr(mmcv_stage, 'pip_settings', dict)
    make_dist(pose.setup.site, 'mmcv')  # somebody's mmcv may turn out not to work
    if cached:
        put(pose.wheel.parent, pose.wheel.name, 'whole')
    assert engine.lacks(pose.setup, todo, first=False) == (['no gcc'] if asked else [])


# the whole, with stages that do nothing ------------------------------------------------------


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """A checkout whose stages only write their names; ``trip`` makes one of them fail."""
    root = copy_of_checkout(tmp_path / 'repo')
    done, trip = [], []
    site = plan.site_packages(root / '.venv', PY)

    def create(setup):
        shutil.rmtree(setup.venv, ignore_errors=True)
        (setup.venv / 'bin').mkdir(parents=True)
        (setup.venv / 'bin' / 'python').symlink_to(sys.executable)

    def stage(name):
        def act(setup):
            if name in trip:
                raise SetupError(f'{name} failed')
            done.append(name)
            if name == 'torch':
                pretend_installed(site, root)

        return act

    monkeypatch.setattr(engine, 'create', create)
    monkeypatch.setattr(engine, 'lacks', lambda *_, **__: [])
    monkeypatch.setattr(engine.MmcvStage, 'prepare', lambda self: None)
    for name in plan.STAGES:
        monkeypatch.setattr(engine.Setup, f'do_{name}', stage(name))
    before = signal.getsignal(signal.SIGTERM)
    yield SimpleNamespace(root=root, done=done, trip=trip, site=site)
    signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize('broken', plan.STAGES)
def test_after_a_failure_anywhere_the_next_call_does_the_rest_once(fake, broken, capsys):
    fake.trip.append(broken)
    assert engine.main(fake.root) == 1
    assert f'{broken} failed' in capsys.readouterr().err
    fake.trip.clear()
    assert engine.main(fake.root) == 0
    assert sorted(fake.done) == sorted(plan.STAGES)
    assert engine.main(fake.root) == 0 and len(fake.done) == len(plan.STAGES)


def test_a_missing_interpreter_rebuilds_everything(fake):
    assert engine.main(fake.root) == 0
    (fake.root / '.venv' / 'bin' / 'python').unlink()
    fake.done.clear()
    assert engine.main(fake.root) == 0
    assert sorted(fake.done) == sorted(plan.STAGES)


def test_half_installed_packages_of_an_interrupted_call_are_dropped(fake, capsys):
    assert engine.main(fake.root) == 0
    info = make_dist(fake.site)
    (info / 'RECORD').unlink()
    state.write_atomic(fake.root / '.venv' / '.mmdistill' / 'unfinished', '')
    state.Stamps(fake.root / '.venv' / '.mmdistill').forget('dev')
    engine.main(fake.root)
    assert not info.exists() and 'thing-1.0' in capsys.readouterr().out


def test_a_repair_drops_what_is_damaged_and_does_all_stages(fake, monkeypatch, capsys):
    monkeypatch.setattr(engine, 'adoptable', lambda setup: True)
    assert engine.main(fake.root) == 0
    info = make_dist(fake.site)
    (fake.site / 'thing' / '__init__.py').write_text('x')
    fake.done.clear()
    assert engine.main(fake.root) == 0 and fake.done == [] and info.exists()
    assert engine.main(fake.root, repair=True) == 0
    assert sorted(fake.done) == sorted(plan.STAGES)
    assert not info.exists() and 'thing-1.0' in capsys.readouterr().out
    assert engine.main(fake.root) == 0 and len(fake.done) == len(plan.STAGES)


def test_what_the_machine_lacks_is_said_before_anything_is_done(fake, monkeypatch, capsys):
    monkeypatch.setattr(engine, 'lacks', lambda *_, **__: ['gcc missing; get it', 'no disk'])
    assert engine.main(fake.root) == 2
    assert capsys.readouterr().err.splitlines() == [
        'make setup: gcc missing; get it',
        'make setup: no disk',
    ]
    assert fake.done == [] and not (fake.root / '.venv').exists()


def test_ctrl_c_says_that_the_next_call_goes_on(fake, monkeypatch, capsys):
    def interrupted(setup):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(engine.Setup, 'do_hosts', interrupted)
        assert engine.main(fake.root) == 130
    assert 'goes on from here' in capsys.readouterr().err
    assert engine.main(fake.root) == 0


def test_nothing_leaks_in_from_another_python(monkeypatch):
    monkeypatch.setenv('PYTHONPATH', '/elsewhere')
    monkeypatch.setenv('VIRTUAL_ENV', '/elsewhere')
    env = engine.clean_environment()
    assert 'PYTHONPATH' not in env and 'VIRTUAL_ENV' not in env and env['PIP_USER'] == '0'


# Makefile and requirement files -------------------------------------------------------------


def test_every_working_target_calls_setup():
    lines = (ROOT / 'Makefile').read_text().splitlines()
    rules = dict(
        line.split('#')[0].split(':', 1) for line in lines if line[:1].isalpha() and ' ##' in line
    )
    assert {'setup', 'test', 'lint', 'demo', 'clean', 'help'} <= set(rules)
    for name in set(rules) - {'setup', 'clean', 'help'}:
        assert rules[name].split() == ['setup'], name


def test_make_hands_on_what_is_asked_for():
    command = ['make', '-n', 'setup', 'REPAIR=1', 'CUDA=0']
    # a make above this one would have this one print its folder
    env = {name: value for name, value in os.environ.items() if not name.startswith('MAKE')}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=True)
    said = done.stdout
    assert 'tools/setup_env.py' in said
    assert said.split('setup_env.py')[1].split() == ['--cuda', '0', '--repair']


def test_the_lock_agrees_with_the_pins():
    lock = (ROOT / 'requirements' / 'lock.txt').read_text()
    for name in (
        'torch',
        'torchvision',
        'mmengine',
        'mmdet',
        'mmdet3d',
        'mmsegmentation',
        'spconv',
    ):
        file = next(
            path
            for path in (ROOT / 'requirements').glob('*.txt')
            if path.name != 'lock.txt' and f'\n{name}==' in '\n' + path.read_text()
        )
        assert f'\n{name}=={wheel_cache.pinned(file, name)}\n' in lock
    with pytest.raises(ValueError, match=r'lock\.txt'):
        wheel_cache.pinned(ROOT / 'requirements' / 'lock.txt', 'no-such-thing')


def test_stamps_are_readable_by_people(fake):
    engine.main(fake.root)
    text = (fake.root / '.venv' / '.mmdistill' / 'route.json').read_text()
    assert json.loads(text)['tag'] == 'cpu'
