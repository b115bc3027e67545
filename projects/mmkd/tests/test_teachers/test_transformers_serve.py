"""Answers of a real server, ``transformers serve``, with a small saved model."""

import asyncio
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
import torch
from tiny_llama import byte_tokenizer, tiny_llama

from mmkd.teachers.hf_local import HFLocalTeacher
from mmkd.teachers.openai_compat import OpenAICompatTeacher
from mmkd.traces.schema import Sampling

START = 180
"""Seconds that it may take to start on a busy machine."""
GREEDY = Sampling(temperature=0.0, max_tokens=8)
pytest.importorskip('fastapi')
pytest.importorskip('uvicorn')


def question(text):
    """Messages of a question."""
    return [dict(role='user', content=text)]


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """A saved model with its tokenizer."""
    path = tmp_path_factory.mktemp('tiny_llama')
    tiny_llama(dtype=torch.float32).save_pretrained(path)
    byte_tokenizer().save_pretrained(path)
    return str(path)


@pytest.fixture(scope='module')
def base_url(folder, tmp_path_factory):
    """Address of a server that runs meanwhile."""
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    log = tmp_path_factory.mktemp('serve') / 'log.txt'
    command = [str(Path(sys.executable).with_name('transformers')), 'serve', folder]
    command += ['--host', '127.0.0.1', '--port', str(port), '--device', 'cpu']
    with log.open('wb') as out:
        process = subprocess.Popen(
            command, stdout=out, stderr=out, env={**os.environ, 'HF_HUB_OFFLINE': '1'}
        )
    try:
        _wait(f'http://127.0.0.1:{port}/health', process, log)
        yield f'http://127.0.0.1:{port}/v1'
    finally:
        process.kill()
        process.wait()


def _wait(url, process, log):
    """Waits until a server answers."""
    end = time.monotonic() + START
    while time.monotonic() < end:
        assert process.poll() is None, log.read_text()
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise AssertionError(f'no server after {START} s: {log.read_text()}')


def ask(teacher, texts):
    """Greedy replies."""

    async def work():
        async with teacher:
            return await asyncio.gather(
                *(teacher.agenerate(question(each), GREEDY) for each in texts)
            )

    return asyncio.run(work())


def test_a_served_model_answers_like_the_local_one(folder, base_url):
    texts = ['what is it?', 'why', 'a b c']
    served = ask(OpenAICompatTeacher(folder, dict(base_url=base_url, max_concurrency=2)), texts)
    local = ask(HFLocalTeacher(folder), texts)
    for one, other in zip(served, local, strict=True):
        assert (one.status, one.error, one.attempts) == ('ok', '', 1)
        assert one.text == other.text and one.finish_reason == other.finish_reason
        assert one.usage == other.usage
    assert len({each.text for each in served}) == 3
