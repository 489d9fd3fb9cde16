"""kill -9 under load, while states are being saved: the next start takes what is whole, and answers as a fresh server does."""
import http.client
import random
import signal
import tempfile
import threading
import pathlib
import time

from serve.running import Running, done, same, true

options = ('--context-per-request', 4096, '--prefix-cache', '100MB')


def chat(text, **more):
    return {'messages': [{'role': 'system', 'content': text}, {'role': 'user', 'content': 'What does this mean?'}],
            'max_tokens': 16, **more}


def load(server, text, seed):
    """Asks until the server is gone."""
    dice = random.Random(seed)
    try:
        while True:
            at = dice.randrange(len(text) - 4000)
            server.ask('/v1/chat/completions', chat(text[at:at + dice.choice((100, 900, 3000))], seed=seed))
    except (OSError, http.client.HTTPException, ValueError):
        pass


def run(tqkv, model, long):
    text = (model.parent / 'texts/documents.txt').read_text()
    dice = random.Random(5)
    asked = [chat(text[at:at + 2000], seed=at, temperature=1, logprobs=True, tqkv={'exact': True}) for at in (0, 700, 9000)]

    def answers(server):
        given = [server.ask('/v1/chat/completions', body) for body in asked]
        same([status for status, _ in given], [200] * len(asked), 'answers')
        return [body['choices'] for _, body in given], [body['usage']['prompt_tokens_details']['cached_tokens'] for _, body in given]

    with Running(tqkv, model, *options) as server:
        fresh, _ = answers(server)
    with tempfile.TemporaryDirectory() as folder:
        known = 0
        for number in range(100 if long else 3):
            with Running(tqkv, model, *options, '--prefix-save', folder) as server:
                true('left alone' not in server.log(), 'what was being written is no file of ours: ' + server.log())
                given, cached = answers(server)
                same(given, fresh, f'answers after {number} sudden ends')
                known += sum(cached)
                threads = [threading.Thread(target=load, args=(server, text, 10 * number + i)) for i in range(4)]
                for thread in threads:
                    thread.start()
                time.sleep(dice.uniform(0.3, 1.5))
                server.process.send_signal(signal.SIGKILL)
                server.process.wait()
                for thread in threads:
                    thread.join()
        with Running(tqkv, model, *options, '--prefix-save', folder) as server:
            given, cached = answers(server)
            same(given, fresh, 'answers after the last sudden end')
            true(known + sum(cached) > 0, 'states outlive a sudden end')
            same(server.stop(), 0, 'exit code')
        names = [path.name for path in pathlib.Path(folder).iterdir()]
        same([name for name in names if not name.endswith('.prefix')], [], 'what is left in the folder')
    done('killed')
