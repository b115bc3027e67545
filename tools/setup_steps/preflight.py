"""What must be on the machine before anything is installed, each lack in one line."""

from __future__ import annotations

import importlib.util
import os
import shutil
import ssl
import subprocess
import sys
import sysconfig
import urllib.error
import urllib.request
from pathlib import Path

from . import pip_config

GIGABYTE = 1 << 30


def check_venv_module():
    """Says when the modules that make virtual environments are missing."""
    if all(importlib.util.find_spec(name) for name in ('venv', 'ensurepip')):
        return None
    name = 'python{}.{}-venv'.format(*sys.version_info[:2])
    return f'the venv module is missing; get it with: apt-get install {name}'


def check_compiler(which=shutil.which):
    """Says when the C or C++ compiler is missing."""
    lacking = [name for name in ('gcc', 'g++') if not which(name)]
    if not lacking:
        return None
    return f'{" and ".join(lacking)} missing; get it with: apt-get install build-essential'


def check_headers(include=None):
    """Says when Python.h is missing."""
    include = Path(include or sysconfig.get_paths()['include'])
    if (include / 'Python.h').is_file():
        return None
    name = 'python{}.{}-dev'.format(*sys.version_info[:2])
    return f'{include}/Python.h is missing; get it with: apt-get install {name}'


def check_disk(folder: Path, gigabytes: float, usage=shutil.disk_usage):
    """Says when a file system has too little room."""
    while not folder.exists():
        folder = folder.parent
    free = usage(folder).free / GIGABYTE
    if free >= gigabytes:
        return None
    return (
        f'{free:.1f} GB free on the disk of {folder}, {gigabytes:g} GB needed; '
        'free some, or make .venv a link to a folder on a larger disk'
    )


def check_network(environ=None, timeout: float = 20.0):
    """Says when pip's index does not answer; any answer counts, an error page too."""
    environ = os.environ if environ is None else environ
    settings = pip_config.pip_settings(environ)
    index = settings.get('index-url', pip_config.DEFAULT_INDEX).rstrip('/')
    if 'no-index' in settings or environ.get('UV_OFFLINE') or not index.startswith('http'):
        return None
    proxies = urllib.request.getproxies()
    if 'proxy' in settings:
        proxies = {'http': settings['proxy'], 'https': settings['proxy']}
    try:
        context = ssl.create_default_context(cafile=settings.get('cert'))
        if settings.get('trusted-host'):
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        opener = urllib.request.build_opener(
            urllib.request.ProxyHandler(proxies), urllib.request.HTTPSHandler(context=context)
        )
        opener.open(urllib.request.Request(index + '/mmengine/'), timeout=timeout).close()
    except urllib.error.HTTPError:
        return None
    except (OSError, ValueError) as error:
        reason = getattr(error, 'reason', error)
        return (
            f'no answer from {index} ({reason}); connect to the network, or name a mirror or proxy '
            'with: export PIP_INDEX_URL=https://... HTTPS_PROXY=http://...'
        )
    return None


def check_nvcc(which=shutil.which):
    """Says when the CUDA compiler is missing."""
    if which('nvcc') or Path(os.environ.get('CUDA_HOME', '/usr/local/cuda'), 'bin/nvcc').exists():
        return None
    return (
        'nvcc is missing; install the CUDA toolkit (https://developer.nvidia.com/cuda-downloads) '
        'and set CUDA_HOME, or leave out CUDA=1'
    )


def gpu_architectures(run=subprocess.run) -> str:
    """Returns the compute capabilities of the GPUs here as ``8.0;9.0``, else ``9.0``."""
    query = ['nvidia-smi', '--query-gpu=compute_cap', '--format=csv,noheader']
    try:
        out = run(query, capture_output=True, text=True, timeout=30).stdout
    except (OSError, subprocess.TimeoutExpired):
        return '9.0'
    return ';'.join(sorted({word for word in out.split() if word[:1].isdigit()})) or '9.0'
