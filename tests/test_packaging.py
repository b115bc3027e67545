"""What an installed mmdistill brings along: metadata, `.mim`, licence."""

import re
import shutil
import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

import mmdistill

ROOT = Path(__file__).resolve().parents[1]
MIM = Path(mmdistill.__file__).parent / '.mim'


@pytest.fixture(scope='module')
def source(tmp_path_factory):
    """A copy of what belongs to the package, so that building leaves nothing in the checkout."""
    target = tmp_path_factory.mktemp('source')
    for name in ('mmdistill', 'configs', 'tools', 'requirements'):
        skip = shutil.ignore_patterns('__pycache__', '.mim')
        shutil.copytree(ROOT / name, target / name, ignore=skip)
    for name in ('setup.py', 'pyproject.toml', 'MANIFEST.in', 'LICENSE', 'CITATION.cff'):
        shutil.copy(ROOT / name, target)
    for name in ('model-index.yml', 'Makefile', 'README.md'):
        if (ROOT / name).exists():
            shutil.copy(ROOT / name, target)
    return target


def build(source, hook, folder):
    """Calls a hook of the build backend and returns the file it made."""
    code = f'import setuptools.build_meta as b; print("\\n" + b.{hook}({str(folder)!r}))'
    done = subprocess.run([sys.executable, '-c', code], cwd=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder / done.stdout.split()[-1]


def test_an_editable_install_gets_links_for_mim(source, tmp_path):
    build(source, 'build_editable', tmp_path)
    mim = source / 'mmdistill' / '.mim'
    for name in ('configs', 'tools', 'model-index.yml'):
        assert (mim / name).is_symlink() and (mim / name).samefile(source / name)
    before = sorted(path.name for path in mim.iterdir())
    build(source, 'build_editable', tmp_path)  # again, over what is there
    assert sorted(path.name for path in mim.iterdir()) == before
    shutil.rmtree(mim)


def test_a_wheel_holds_copies_for_mim_and_the_licence(source, tmp_path):
    with zipfile.ZipFile(build(source, 'build_wheel', tmp_path)) as wheel:
        names = wheel.namelist()
        about = next(name for name in names if name.endswith('METADATA'))
        text = wheel.read(about).decode()
    assert 'mmdistill/.mim/model-index.yml' in names
    assert 'mmdistill/.mim/configs/hssda/metafile.yml' in names
    assert 'mmdistill/doctor.py' in names
    assert any(name.endswith('LICENSE') for name in names)
    assert not [name for name in names if name.startswith(('tests/', 'tools/', 'configs/'))]
    assert f'Version: {mmdistill.__version__}' in text
    for extra in ('det3d', 'pose', 'seg', 'all', 'dev'):
        assert f'Provides-Extra: {extra}' in text
    assert not (source / 'mmdistill' / '.mim').exists()


def test_a_wheel_can_be_built_from_the_source_archive(source, tmp_path):
    sdist = build(source, 'build_sdist', tmp_path)
    subprocess.run(['tar', '-C', tmp_path, '-xzf', sdist], check=True)
    (unpacked,) = (path for path in tmp_path.iterdir() if path.is_dir())
    with zipfile.ZipFile(build(unpacked, 'build_wheel', tmp_path)) as wheel:
        assert 'mmdistill/.mim/tools/setup_env.py' in wheel.namelist()


def test_the_installed_package_is_this_checkout_with_mim():
    assert metadata.version('mmdistill') == mmdistill.__version__
    assert Path(mmdistill.__file__).parents[1] == ROOT
    assert (MIM / 'model-index.yml').is_file() and (MIM / 'configs').is_dir()


def test_the_model_index_leads_to_metafiles_and_configs():
    imports = yaml.safe_load((ROOT / 'model-index.yml').read_text())['Import']
    for path in imports:
        meta = yaml.safe_load((ROOT / path).read_text())
        collections = {entry['Name'] for entry in meta['Collections']}
        for entry in meta['Collections']:
            assert (ROOT / entry['Code']['URL']).is_file(), entry['Code']['URL']
        for model in meta['Models']:
            assert (ROOT / model['Config']).is_file(), model['Config']
            assert model['In Collection'] in collections
            assert Path(model['Config']).stem == model['Name']


def test_the_pinned_releases_lie_within_the_ranges_of_the_extras():
    declared = {}
    for line in metadata.requires('mmdistill'):
        requirement = Requirement(line)
        declared.setdefault(requirement.name.replace('_', '-'), requirement.specifier)
    for file in (ROOT / 'requirements').glob('*.txt'):
        for name, version in re.findall(r'^([\w.-]+)==([^\s;#]+)', file.read_text(), re.M):
            allowed = declared.get(name.replace('_', '-'))
            assert allowed is None or version in allowed, f'{file.name}: {name}=={version}'


def test_licence_and_citation_agree():
    licence = (ROOT / 'LICENSE').read_text()
    assert 'Apache License' in licence and 'Version 2.0, January 2004' in licence
    assert 'END OF TERMS AND CONDITIONS' in licence
    cite = yaml.safe_load((ROOT / 'CITATION.cff').read_text())
    assert cite['license'] == 'Apache-2.0' and cite['version'] == mmdistill.__version__


def test_the_ci_script_runs_the_tests_and_keeps_their_exit_code(tmp_path):
    for code in (0, 1, 3):
        repo = tmp_path / str(code) / 'repo'
        (repo / '.ci').mkdir(parents=True)
        (repo.parent / 'shared' / 'data').mkdir(parents=True)
        shutil.copy(ROOT / '.ci' / 'run', repo / '.ci' / 'run')
        (repo / 'fake').write_text(f'#!/bin/sh\necho "made $1 in $MMDISTILL_DATA"; exit {code}\n')
        (repo / 'fake').chmod(0o755)
        (repo / 'fake').rename(repo / 'make')
        env = {'PATH': f'{repo}:/usr/bin:/bin', 'HOME': str(tmp_path)}
        done = subprocess.run(
            ['bash', repo / '.ci' / 'run'], cwd='/', env=env, capture_output=True, text=True
        )
        assert done.returncode == code
        assert f'made test in {repo.parent / "shared" / "data"}' in done.stdout
        assert done.stdout.splitlines()[-1] == f'exit code: {code}'
        env['MMDISTILL_DATA'] = '/mine'
        done = subprocess.run(
            ['bash', repo / '.ci' / 'run'], env=env, capture_output=True, text=True
        )
        assert 'made test in /mine' in done.stdout
