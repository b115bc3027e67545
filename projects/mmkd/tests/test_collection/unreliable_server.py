"""Chat completions that often fail: ``unreliable_server.py SEED SECONDS``; prints its port.

``GET /counts`` tells how many calls were answered, and how often each question was.
"""

import asyncio
import random
import sys
from collections import Counter

from aiohttp import web


def application(seed, seconds):
    """The server."""
    luck, answered, calls = random.Random(seed), Counter(), Counter()

    async def answer(request):
        """An answer, or a fault."""
        body = await request.json()
        calls['all'] += 1
        await asyncio.sleep(seconds)
        fate = luck.random()
        if fate < 0.03:
            return web.Response(status=503)
        if fate < 0.06:
            return web.Response(status=429, headers={'Retry-After': '0'})
        if fate < 0.08:
            return web.Response(text='{"choices": [{"mess', content_type='application/json')
        if fate < 0.10:
            request.transport.close()
            return web.Response()
        text = body['messages'][-1]['content']
        answered[text] += 1
        key = request.headers.get('Authorization', '')
        if 'forbidden' in text:
            return web.json_response(dict(error=dict(message=f'wrong: {key}')), status=400)
        message = dict(role='assistant', content=f'answer to {text}')
        usage = dict(prompt_tokens=5, completion_tokens=7, total_tokens=12)
        choices = [dict(index=0, message=message, finish_reason='stop')]
        return web.json_response(dict(choices=choices, usage=usage))

    async def counts(request):
        """What was asked until now."""
        return web.json_response(dict(calls=calls['all'], answered=answered))

    app = web.Application()
    app.router.add_post('/v1/chat/completions', answer)
    app.router.add_get('/counts', counts)
    return app


async def main():
    """Serves until it is killed."""
    runner = web.AppRunner(application(int(sys.argv[1]), float(sys.argv[2])))
    await runner.setup()
    site = web.TCPSite(runner, '127.0.0.1', 0)
    await site.start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.Event().wait()


if __name__ == '__main__':
    asyncio.run(main())
