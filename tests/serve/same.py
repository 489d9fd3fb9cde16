"""Answers are the same to the byte alone, in company, and on a warm server: for several formats, with one thread and two."""
import random
from concurrent.futures import ThreadPoolExecutor

from serve.running import Running, done, same

formats = ('baseline', 'turboquant', 'turboquant:window=64')
tool = {'type': 'function', 'function': {'name': 'note', 'parameters': {
    'type': 'object', 'required': ['word', 'mark'],
    'properties': {'word': {'type': 'string', 'maxLength': 8}, 'mark': {'enum': ['a', 'b', 3]}}}}}


def requests(model, count, seed, long):
    """(path, body): chats, conversations, raw prompts, forced calls; some begin like others."""
    text = (model.parent / 'texts/documents.txt').read_text()
    dice = random.Random(seed)
    systems = [text[at:at + size] for at, size in ((0, 300), (0, 900), (9000, 700))]
    for number in range(count):
        at, size = dice.randrange(len(text) - 4000), dice.choice((10, 80, 400, 1200, 3000 if long else 700))
        question = text[at:at + size] + ' What does this mean?'
        body = {'max_tokens': dice.choice((8, 16, 40 if long else 24)), 'temperature': dice.choice((0, 0.7, 1.5)), 'seed': number,
                'logprobs': True, 'top_logprobs': 3, 'tqkv': {'exact': True}}
        kind = dice.choice(('chat', 'chat', 'long chat', 'call', 'raw', 'choices'))
        if kind == 'raw':
            del body['top_logprobs']
            yield '/v1/completions', {**body, 'logprobs': 3, 'prompt': question}
            continue
        body['messages'] = [{'role': 'system', 'content': dice.choice(systems)}, {'role': 'user', 'content': question}]
        if kind == 'long chat':
            body['messages'] += [{'role': 'assistant', 'content': 'It is ' + text[:90]}, {'role': 'user', 'content': 'Go on.'}]
        elif kind == 'call':
            body.update(tools=[tool], tool_choice='required', reasoning_effort='none', max_tokens=40)
        elif kind == 'choices':
            body.update(n=3, stop=[' the', '\n'])
        yield '/v1/chat/completions', body


def said(answer):
    """What does not change from answer to answer."""
    status, body = answer
    same(status, 200, f'an answer: {body}')
    for choice in body['choices']:
        for call in choice.get('message', {}).get('tool_calls') or []:
            del call['id']
    return body['choices'], body['usage']['completion_tokens']


def run(tqkv, model, long):
    per_server = 34 if long else 7
    for number, form in enumerate(formats):
        for threads in (1, 2):
            asked = list(requests(model, per_server, 10 * number + threads, long))
            options = ('--markup', 'qwen3.5', '--backend', form, '--threads', threads, '--context-per-request', 8192, '--quiet')
            with Running(tqkv, model, *options, '--prefix-cache', 0, '--parallel', 3) as server:
                alone = [said(server.ask(*one)) for one in asked]
            with Running(tqkv, model, *options, '--parallel', 16) as server, ThreadPoolExecutor(16) as pool:
                for order in (list(range(per_server)), list(range(per_server))[::-1]):
                    answers = list(pool.map(lambda i: (i, said(server.ask(*asked[i]))), order))
                    for i, answer in answers:
                        same(answer, alone[i], f'{form}, {threads} threads, request {i}: {asked[i]}')
    done('same')
