"""pip's configuration (index, proxy, certificate), and the same told to uv."""

from __future__ import annotations

import configparser
import os
from pathlib import Path

DEFAULT_INDEX = 'https://pypi.org/simple'
OPTIONS = (
    'index-url',
    'extra-index-url',
    'find-links',
    'no-index',
    'proxy',
    'cert',
    'trusted-host',
    'constraint',
)


def _files(environ) -> list:
    """Lists pip's configuration files, the weakest first."""
    home = Path(environ.get('HOME', '/'))
    system = environ.get('XDG_CONFIG_DIRS', '') or '/etc/xdg'
    user = environ.get('XDG_CONFIG_HOME', '') or str(home / '.config')
    files = [Path(folder, 'pip', 'pip.conf') for folder in reversed(system.split(':')) if folder]
    files += [Path('/etc/pip.conf'), home / '.pip' / 'pip.conf', Path(user, 'pip', 'pip.conf')]
    return files + ([Path(environ['PIP_CONFIG_FILE'])] if environ.get('PIP_CONFIG_FILE') else [])


def pip_settings(environ=None) -> dict:
    """Reads the options that say where pip gets packages from.

    Args:
        environ: Environment variables, the process's by default.

    Returns:
        Option name (as on pip's command line) to its value; only those that are set.
    """
    environ = os.environ if environ is None else environ
    settings = {}
    for path in _files(environ):
        parser = configparser.RawConfigParser()
        try:
            parser.read(path, encoding='utf-8')
        except (OSError, configparser.Error, UnicodeDecodeError):
            continue
        for section in ('global', 'install'):
            if parser.has_section(section):
                for name, value in parser.items(section):
                    settings[name.replace('_', '-')] = value
    for name in OPTIONS:
        value = environ.get('PIP_' + name.upper().replace('-', '_'))
        if value is not None:
            settings[name] = value
    return {name: settings[name] for name in OPTIONS if settings.get(name)}


def uv_environment(settings: dict, environ=None) -> dict:
    """Translates pip's options into uv's variables, where the user has not set those.

    Args:
        settings: What ``pip_settings`` returned.
        environ: Environment variables, the process's by default.

    Returns:
        Variables to add to uv's environment.
    """
    environ = os.environ if environ is None else environ
    words = {name: value.split() for name, value in settings.items()}
    variables = {
        'UV_NO_PROGRESS': '1',
        'UV_PYTHON_DOWNLOADS': 'never',
        'UV_HTTP_TIMEOUT': '180',
        'UV_DEFAULT_INDEX': settings.get('index-url'),
        'UV_INDEX': ' '.join(words.get('extra-index-url', [])),
        'UV_FIND_LINKS': ','.join(words.get('find-links', [])),
        'UV_INSECURE_HOST': ' '.join(words.get('trusted-host', [])),
        'UV_CONSTRAINT': ' '.join(words.get('constraint', [])),
        'SSL_CERT_FILE': settings.get('cert'),
    }
    if 'extra-index-url' in settings:
        variables['UV_INDEX_STRATEGY'] = 'unsafe-best-match'  # pip looks at all indexes alike
    if 'proxy' in settings:
        proxy = settings['proxy']
        proxy = proxy if '://' in proxy else 'http://' + proxy
        variables.update(HTTP_PROXY=proxy, HTTPS_PROXY=proxy)
    return {k: v for k, v in variables.items() if v and k not in environ}
