"""The doctor reports on any machine, and says how to mend what it finds."""

import subprocess
import sys
from types import SimpleNamespace

import pytest

from mmdistill import doctor
from mmdistill.doctor import Finding, examine, main, numbers, render


def test_here_nothing_blocks(capsys):
    assert main([]) == 0
    out = capsys.readouterr().out
    for name in ('python', 'torch', 'mmengine', 'mmcv ops', 'nms_rotated', 'mmdet3d', 'cpu'):
        assert f' {name} ' in out
    assert '0 blocking' in out


@pytest.mark.parametrize(
    ('missing', 'blocks'),
    [
        (['torch'], ['torch']),
        (['numpy'], ['numpy']),
        (['mmpose', 'spconv', 'mmseg', 'mmdet3d', 'mmcv'], ['mmdet3d', 'mmcv']),
    ],
    ids=lambda names: names[0],
)
def test_without_packages_it_still_reports_and_names_the_remedy(missing, blocks):
    code = f"""
import sys
from importlib import metadata
missing, version = {missing!r}, metadata.version

class Hide:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in missing:
            raise ModuleNotFoundError(f'No module named {{name!r}}')

def hidden_version(name):
    if name in missing:
        raise metadata.PackageNotFoundError(name)
    return version(name)

sys.meta_path.insert(0, Hide())
metadata.version = hidden_version
from mmdistill import doctor
checks = (doctor.check_frame, doctor.check_hosts, doctor.check_ops)
found = doctor.examine(checks[: 1 if missing[0] in ('torch', 'numpy') else 3])
print(doctor.render(found))
sys.exit(any(finding.status == 'fail' for finding in found))
"""
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    lines = done.stdout.splitlines()
    for name in missing:
        row = next(n for n, line in enumerate(lines) if line.split()[1:2] == [name])
        assert lines[row].startswith('fail' if name in blocks else 'warn'), done.stdout
        assert 'mend it with: ' in lines[row + 1]
    assert done.returncode == 1, done.stdout + done.stderr


def test_it_runs_without_any_package(tmp_path):
    code = (
        f'import sys; sys.path.insert(0, {str(doctor.PACKAGE.parent)!r})\n'
        'import runpy; runpy.run_module("mmdistill.doctor", run_name="__main__")'
    )
    done = subprocess.run([sys.executable, '-I', '-S', '-c', code], capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    assert 'fail  torch' in done.stdout and 'blocking' in done.stdout
    assert 'Traceback' not in done.stderr


def test_operators_that_answer_wrongly_are_a_failure(monkeypatch):
    import torch

    class Ops:
        """Operators that keep every box."""

        @staticmethod
        def nms_rotated(boxes, scores, threshold):
            return boxes, torch.arange(3)

        @staticmethod
        def get_compiling_cuda_version():
            return 'not available'

    load = doctor.load
    monkeypatch.setattr(
        doctor, 'load', lambda name: (Ops, '') if name == 'mmcv.ops' else load(name)
    )
    found = {finding.name: finding for finding in doctor.check_ops()}
    assert found['nms_rotated'].status == 'fail' and found['nms_rotated'].remedy


def test_a_check_that_breaks_becomes_a_finding():
    def check_weather():
        raise OSError('rain\nand more')
        yield

    (finding,) = examine((check_weather,))
    assert finding.status == 'fail' and finding.name == 'weather'
    assert finding.detail == 'OSError: rain'


def test_a_module_that_breaks_at_import_is_reported(tmp_path, monkeypatch):
    (tmp_path / 'broken_host.py').write_text('raise OSError("libGL.so.1: cannot open")')
    (tmp_path / 'leaving_host.py').write_text('raise SystemExit(3)')
    monkeypatch.syspath_prepend(tmp_path)
    assert doctor.load('broken_host') == (None, 'OSError: libGL.so.1: cannot open')
    assert doctor.load('leaving_host')[0] is None


def test_the_remedy_fits_where_the_package_lies(tmp_path):
    assert doctor.setup_line('pip x', tmp_path / 'mmdistill') == 'pip x'
    lines = [doctor.reinstall_line(name) for name in ('mmdet3d==1.4.0', 'no-such-thing==1')]
    assert lines == [f'make -C {doctor.PACKAGE.parent} setup{more}' for more in (' REPAIR=1', '')]
    (tmp_path / 'Makefile').touch()
    assert doctor.setup_line('pip x', tmp_path / 'mmdistill') == f'make -C {tmp_path} setup'


def test_remedies_of_an_installed_package_are_commands(monkeypatch):
    """What is there but broken has to be installed by force."""
    monkeypatch.setattr(doctor, 'setup_line', lambda otherwise, **_: otherwise)
    monkeypatch.setattr(doctor, 'load', lambda name: (None, 'ImportError: broken'))
    monkeypatch.setattr(doctor.sys, 'version_info', (3, 9))
    checks = (doctor.check_python, doctor.check_frame, doctor.check_hosts, doctor.check_ops)
    remedies = {found.name: found.remedy for found in examine(checks) if found.remedy}
    assert remedies.pop('python').startswith('python3.11 -m venv ')
    assert {'torch', 'mmdet3d', 'mmcv ops'} <= set(remedies)
    for line in remedies.values():
        assert line.startswith(f'{doctor.PIP} --force-reinstall --no-deps '), line


def test_a_gpu_that_mmcv_was_not_compiled_for_has_a_command(monkeypatch):
    cuda = SimpleNamespace(
        is_available=lambda: True, device_count=lambda: 1, get_device_name=lambda index: 'card'
    )
    ops = SimpleNamespace(get_compiling_cuda_version=lambda: 'not available')
    modules = {'torch': SimpleNamespace(cuda=cuda), 'mmcv.ops': ops}
    monkeypatch.setattr(doctor, 'load', lambda name: (modules[name], ''))
    assert list(doctor.check_devices())[-1].remedy.endswith(' setup CUDA=1')
    monkeypatch.setattr(doctor, 'setup_line', lambda otherwise, **_: otherwise)
    line = list(doctor.check_devices())[-1].remedy
    assert line.startswith(f'FORCE_CUDA=1 {doctor.PIP} ') and 'CUDA=1' not in line.split()[1:]


def test_the_exit_code_follows_the_worst_finding(monkeypatch):
    for status, code in (('ok', 0), ('warn', 0), ('fail', 1)):
        monkeypatch.setattr(doctor, 'examine', lambda s=status: [Finding('a', s, 'b')])
        assert main([]) == code


def test_rows_and_counts():
    text = render([Finding('a', 'ok', 'fine'), Finding('longer', 'fail', 'bad', 'make x')])
    assert text.splitlines() == [
        'ok    a       fine',
        'fail  longer  bad',
        '              mend it with: make x',
        '1 blocking, 0 warnings',
    ]
    assert numbers('2.12.1+cpu') == (2, 12, 1) and numbers('2.0.0rc4') == (2, 0)


def test_the_tested_releases_are_the_pinned_ones():
    needs = doctor.PACKAGE.parent / 'requirements'
    pins = '\n'.join(path.read_text() for path in needs.glob('*.txt'))
    for distribution, tested, _ in doctor.HOSTS.values():
        assert f'\n{distribution}=={tested}\n' in '\n' + pins
