"""The openai package: chat and completions."""
import json
import typing

import openai
import pydantic

from serve.running import same, true

hi = [{'role': 'user', 'content': 'Hi, what can you help me with?'}]
plain = dict(model='pocket', messages=hi, reasoning_effort='none')
weather = {'type': 'function', 'function': {
    'name': 'weather', 'description': 'Tells the weather of a city.',
    'parameters': {'type': 'object', 'required': ['city', 'days'], 'additionalProperties': False,
                   'properties': {'city': {'type': 'string', 'maxLength': 12}, 'days': {'type': 'integer', 'minimum': 1,
                                                                                        'maximum': 99}}}}}
clock = {'type': 'function', 'function': {
    'name': 'clock', 'parameters': {'type': 'object', 'required': ['zone'], 'properties': {'zone': {'enum': ['UTC', 'CET']}}}}}
end_of_thinking = '8187'  # in the pocket model's tokenizer
forced = dict(**plain, tools=[weather, clock], parallel_tool_calls=False, max_tokens=200)


class Review(pydantic.BaseModel):
    kind: typing.Literal['praise', 'blame']
    stars: int = pydantic.Field(ge=1, le=5)
    words: list[typing.Literal['good', 'bad', 'fair']] = pydantic.Field(min_length=1, max_length=3)


def refused(kind, status, part, action, what):
    """`action` raises `kind`, whose message has `part`; its body."""
    try:
        action()
    except kind as error:
        same(error.status_code, status, what + ': status')
        true(part in error.message, f'{what}: its message: {error.message}')
        same(sorted(error.body), ['code', 'message', 'param', 'type'], what + ': members of the error')
        return error.body
    raise SystemExit(f'{what}: nothing was raised')


def whole_stream(chunks):
    """Thinking, text, calls [(name, arguments)], reasons, usage of a chat stream with one choice."""
    thinking, text, calls, reasons, usage, ids = '', '', {}, [], None, set()
    for chunk in chunks:
        ids.add(chunk.id)
        true(usage is None, 'usage comes last')
        usage = chunk.usage
        for choice in chunk.choices:
            delta = choice.delta
            more = getattr(delta, 'reasoning_content', None) or ''
            true(not (more and text), 'thinking comes before the text')
            thinking += more
            text += delta.content or ''
            reasons += [choice.finish_reason] if choice.finish_reason else []
            for call in delta.tool_calls or []:
                known = calls.setdefault(call.index, [call.function.name, '', call.id])
                true((call.id is None) == (known[1] != '' or known[2] != call.id), 'the id of a call comes once')
                known[1] += call.function.arguments or ''
    same(len(ids), 1, 'one id in a stream')
    return thinking, text, [(name, arguments) for name, arguments, _ in calls.values()], reasons, usage


def check_chat(client):
    ask = dict(**plain, max_tokens=40, temperature=0)
    whole = client.chat.completions.create(**ask)
    true(whole.choices[0].message.content.startswith('I am a pocket-sized model'), 'chat: what it was trained to say')
    same((whole.choices[0].finish_reason, whole.usage.completion_tokens, whole.model), ('length', 40, 'org/pocket'), 'chat')
    same(whole.usage.total_tokens, whole.usage.prompt_tokens + 40, 'chat: usage')
    again = client.chat.completions.create(**ask)
    same(again.choices[0].message.content, whole.choices[0].message.content, 'chat: again')
    true(0 < again.usage.prompt_tokens_details.cached_tokens < again.usage.prompt_tokens, 'chat: what was known')
    chunks = client.chat.completions.create(**ask, stream=True, stream_options={'include_usage': True})
    thinking, text, calls, reasons, usage = whole_stream(chunks)
    same((thinking, text, calls, reasons), ('', whole.choices[0].message.content, [], ['length']), 'chat: stream')
    same((usage.prompt_tokens, usage.completion_tokens), (whole.usage.prompt_tokens, 40), 'chat: usage of the stream')
    with client.chat.completions.create(**{**ask, 'max_tokens': 1000}, stream=True) as left:  # and is left
        next(iter(left))

    seeded = dict(**plain, max_tokens=30, temperature=2, extra_body={'tqkv': {'exact': True}})
    one, two, other = (client.chat.completions.create(**seeded, seed=seed) for seed in (7, 7, 8))
    same(one.choices[0].message.content, two.choices[0].message.content, 'chat: a seed gives an answer')
    true(one.choices[0].message.content != other.choices[0].message.content, 'chat: another seed gives another')
    unseeded = client.chat.completions.create(**seeded)
    told = client.chat.completions.create(**seeded, seed=unseeded.tqkv['seed'])
    same(told.choices[0].message.content, unseeded.choices[0].message.content, 'chat: the seed that it told of')


def check_choices(client):
    open_question = [{'role': 'user', 'content': 'Write about strings.'}]
    ask = dict(**{**plain, 'messages': open_question}, max_tokens=12, temperature=1, seed=3, n=3)
    several = client.chat.completions.create(**ask, logprobs=True, top_logprobs=4)
    same([choice.index for choice in several.choices], [0, 1, 2], 'n')
    true(len({choice.message.content for choice in several.choices}) > 1, 'n: choices differ')
    ends = sum(choice.finish_reason == 'stop' for choice in several.choices)  # the token that ends an answer has no text
    same(several.usage.completion_tokens - ends, sum(len(c.logprobs.content) for c in several.choices), 'n: tokens')
    for choice in several.choices:
        for token in choice.logprobs.content:
            true(token.logprob <= 0 and len(token.top_logprobs) == 4, 'logprobs: of a token')
            same(sorted((t.logprob for t in token.top_logprobs), reverse=True), [t.logprob for t in token.top_logprobs],
                 'logprobs: the likeliest comes first')
        same(b''.join(bytes(t.bytes) for t in choice.logprobs.content).decode(), choice.message.content, 'logprobs: the text')
    streams = {0: '', 1: '', 2: ''}
    for chunk in client.chat.completions.create(**ask, stream=True):
        for choice in chunk.choices:
            streams[choice.index] += choice.delta.content or ''
    same(list(streams.values()), [choice.message.content for choice in several.choices], 'n: streamed')

    ask = dict(**plain, max_tokens=40, temperature=0)
    text = client.chat.completions.create(**ask).choices[0].message.content
    stopped = client.chat.completions.create(**ask, stop=['never said', ' model'])
    same((stopped.choices[0].message.content, stopped.choices[0].finish_reason), (text[:text.index(' model')], 'stop'), 'stop')
    _, streamed, _, reasons, _ = whole_stream(client.chat.completions.create(**ask, stop=' model', stream=True))
    same((streamed, reasons), (text[:text.index(' model')], ['stop']), 'stop: streamed')
    biased = client.chat.completions.create(**{**ask, 'max_tokens': 5}, logit_bias={'100': 100})
    true(len(set(biased.choices[0].message.content)) <= 20, 'logit_bias')


def check_thinking(client):
    ask = dict(model='pocket', messages=hi, max_tokens=60, temperature=0)
    whole = client.chat.completions.create(**ask)
    message = whole.choices[0].message
    true(message.reasoning_content and '<think>' not in message.reasoning_content, 'thinking')
    same((message.content, whole.usage.completion_tokens_details.reasoning_tokens), ('', 60), 'thinking: all of it')
    thinking, text, _, _, _ = whole_stream(client.chat.completions.create(**ask, stream=True))
    same((thinking, text), (message.reasoning_content, ''), 'thinking: streamed')
    # The end of thinking is made likely, so that both parts come.
    shown = client.completions.create(model='pocket', prompt=[int(end_of_thinking)], max_tokens=1, echo=True)
    true(shown.choices[0].text.startswith('</think>'), 'thinking: the id of its end')
    for seed in range(20):
        body = dict(**{**ask, 'max_tokens': 30, 'temperature': 3}, seed=seed, logit_bias={end_of_thinking: 18})
        both = client.chat.completions.create(**body)
        message = both.choices[0].message
        if message.content and getattr(message, 'reasoning_content', None):
            break
    true(message.content and 'think>' not in message.content + message.reasoning_content, 'thinking: apart')
    true(both.usage.completion_tokens_details.reasoning_tokens < 30, 'thinking: counted')
    thinking, text, _, _, _ = whole_stream(client.chat.completions.create(**body, stream=True))
    same((thinking, text), (message.reasoning_content, message.content), 'thinking: apart, streamed')
    # What was thought goes back in.
    client.chat.completions.create(**{**plain, 'messages': [*hi, message.model_dump(exclude_none=True), *hi]}, max_tokens=4)


def check_tools(client):
    for choice, names in (('required', ('weather', 'clock')), ({'type': 'function', 'function': {'name': 'clock'}}, ('clock',)),
                          ({'type': 'function', 'function': {'name': 'weather'}}, ('weather',))):
        for seed in range(2):
            ask = dict(**forced, tool_choice=choice, seed=seed, temperature=1)
            whole = client.chat.completions.create(**ask)
            same((len(whole.choices[0].message.tool_calls), whole.choices[0].finish_reason), (1, 'tool_calls'), 'tools: one call')
            call = whole.choices[0].message.tool_calls[0].function
            arguments = json.loads(call.arguments)
            true(call.name in names, 'tools: ' + call.name)
            if call.name == 'clock':
                true(arguments['zone'] in ('UTC', 'CET'), 'tools: an enum')
            else:
                true(1 <= arguments['days'] <= 99 and len(arguments['city']) <= 12, f'tools: {arguments}')
            _, text, calls, reasons, _ = whole_stream(client.chat.completions.create(**ask, stream=True))
            same((text, reasons), ('', ['tool_calls']), 'tools: streamed')
            same([(name, json.loads(given)) for name, given in calls], [(call.name, arguments)], 'tools: streamed arguments')
            with client.chat.completions.stream(**ask) as events:
                final = events.get_final_completion().choices[0].message.tool_calls[0].function
            same((final.name, final.arguments), (call.name, call.arguments), 'tools: put together by the package')
    message = whole.choices[0].message
    result = {'role': 'tool', 'tool_call_id': message.tool_calls[0].id, 'content': 'rain'}
    told = client.chat.completions.create(**{**forced, 'messages': [*hi, message.model_dump(exclude_none=True), result]},
                                          tool_choice='none')
    true(told.choices[0].message.content and not told.choices[0].message.tool_calls, 'tools: their result goes back')


def check_structured(client):
    for seed in range(2):
        parsed = client.chat.completions.parse(**plain, response_format=Review, max_tokens=300, temperature=1, seed=seed)
        review = parsed.choices[0].message.parsed
        true(isinstance(review, Review) and parsed.choices[0].finish_reason == 'stop', 'structured: parse()')
    schema = {'type': 'json_schema', 'json_schema': {'name': 'review', 'strict': True, 'schema': {
        'type': 'object', 'properties': {'ok': {'type': 'boolean'}, 'points': {'type': 'integer', 'minimum': 0, 'maximum': 9}},
        'required': ['ok', 'points'], 'additionalProperties': False}}}
    ask = dict(**plain, response_format=schema, max_tokens=200, temperature=1, seed=5)
    value = json.loads(client.chat.completions.create(**ask).choices[0].message.content)
    same((sorted(value), type(value['ok'])), (['ok', 'points'], bool), 'structured: strict')
    _, text, _, _, _ = whole_stream(client.chat.completions.create(**ask, stream=True))
    same(json.loads(text), value, 'structured: streamed')
    loose = client.chat.completions.create(**plain, response_format={'type': 'json_object'}, max_tokens=400, temperature=0)
    if loose.choices[0].finish_reason == 'stop':
        true(isinstance(json.loads(loose.choices[0].message.content), dict), 'structured: any object')
    bad = {'type': 'json_schema', 'json_schema': {'name': 'x', 'schema': {'type': 'string', 'pattern': 'a+'}}}
    refused(openai.BadRequestError, 400, 'pattern', lambda: client.chat.completions.create(**plain, response_format=bad),
            'structured: a keyword that is not known')


def check_completions(client):
    ask = dict(model='pocket', prompt='The standard library of C++', max_tokens=16, temperature=0)
    whole = client.completions.create(**ask, logprobs=2)
    same(''.join(whole.choices[0].logprobs.tokens), whole.choices[0].text, 'completion: logprobs')
    same(''.join(chunk.choices[0].text for chunk in client.completions.create(**ask, stream=True)), whole.choices[0].text,
         'completion: streamed')
    pair = client.completions.create(**{**ask, 'prompt': [ask['prompt'], 'Rust has']}, n=2)
    same([choice.index for choice in pair.choices], [0, 1, 2, 3], 'completion: two prompts, two choices')
    same(pair.choices[0].text, whole.choices[0].text, 'completion: the first of several prompts')


def check_refusals(client, address):
    ask = client.chat.completions.create
    same(refused(openai.NotFoundError, 404, 'gpt-9', lambda: ask(**{**plain, 'model': 'gpt-9'}), 'another model')['code'],
         'model_not_found', 'another model: code')
    long = [{'role': 'user', 'content': 'word ' * 6000}]
    told = refused(openai.BadRequestError, 400, '4096', lambda: ask(**{**plain, 'messages': long}), 'too long')
    same(told['code'], 'context_length_exceeded', 'too long: code')
    same(refused(openai.BadRequestError, 400, 'temperature', lambda: ask(**plain, temperature=-1), 'a range')['param'],
         'temperature', 'a range: param')
    picture = [{'role': 'user', 'content': [{'type': 'image_url', 'image_url': {'url': 'data:image/png;base64,AA'}}]}]
    refused(openai.BadRequestError, 400, 'image', lambda: ask(**{**plain, 'messages': picture}), 'a picture')
    refused(openai.InternalServerError, 501, '/v1/embeddings',
            lambda: client.embeddings.create(model='pocket', input='x'), 'embeddings')
    stranger = openai.OpenAI(base_url=address + '/v1', api_key='secret-2', max_retries=0)
    same(refused(openai.AuthenticationError, 401, 'key', lambda: stranger.chat.completions.create(**plain), 'a wrong key')['code'],
         'invalid_api_key', 'a wrong key: code')
    refused(openai.AuthenticationError, 401, 'key', lambda: stranger.models.list(), 'a wrong key for the models')


def check(address, key):
    client = openai.OpenAI(base_url=address + '/v1', api_key=key, max_retries=0)
    same([model.id for model in client.models.list()], ['org/pocket'], 'models')
    same(client.models.retrieve('pocket').id, 'org/pocket', 'a model by its short name')
    check_chat(client)
    check_choices(client)
    check_thinking(client)
    check_tools(client)
    check_structured(client)
    check_completions(client)
    check_refusals(client, address)
