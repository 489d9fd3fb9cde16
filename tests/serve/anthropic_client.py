"""The anthropic package: messages, which Claude Code speaks."""
import anthropic

from serve.running import same, true

hi = [{'role': 'user', 'content': 'Hi, what can you help me with?'}]
tool = {'name': 'weather', 'description': 'Tells the weather of a city.',
        'input_schema': {'type': 'object', 'required': ['city', 'days'], 'properties': {
            'city': {'type': 'string', 'maxLength': 12}, 'days': {'type': 'integer', 'minimum': 1, 'maximum': 99}}}}


def refused(kind, status, name, part, action, what):
    try:
        action()
    except kind as error:
        same((error.status_code, error.body['type'], error.body['error']['type']), (status, 'error', name), what)
        return true(part in error.body['error']['message'], f'{what}: {error.body}')
    raise SystemExit(f'{what}: nothing was raised')


def check_text(client):
    ask = dict(model='pocket', max_tokens=24, messages=hi, extra_body={'temperature': 0})
    whole = client.messages.create(**ask)
    same((whole.stop_reason, whole.usage.output_tokens, [block.type for block in whole.content]), ('max_tokens', 24, ['text']),
         'messages')
    true(whole.content[0].text.startswith('I am a pocket-sized model'), 'messages: text')
    prompt = client.messages.count_tokens(model='pocket', messages=hi).input_tokens
    again = client.messages.create(**ask)
    same(again.content[0].text, whole.content[0].text, 'messages: again')
    same(again.usage.input_tokens + again.usage.cache_read_input_tokens, prompt, 'messages: count_tokens')
    true(again.usage.cache_read_input_tokens > 0, 'messages: what was known')
    with client.messages.stream(**ask) as events:
        same(''.join(events.text_stream), whole.content[0].text, 'messages: streamed')
        same(events.get_final_message().stop_reason, 'max_tokens', 'messages: end of the stream')
    stopped = client.messages.create(**ask, stop_sequences=[' model'])
    same((stopped.stop_reason, stopped.stop_sequence), ('stop_sequence', ' model'), 'messages: stop')
    begun = [*hi, {'role': 'assistant', 'content': 'I am a pocket'}]
    true(client.messages.create(**{**ask, 'messages': begun}).content[0].text.startswith('-sized model'),
         'messages: an answer that goes on')
    blocks = [{'type': 'text', 'text': 'x-anthropic-billing-header: 17'}, {'type': 'text', 'text': 'Be short.'}]
    with_header, without = (client.messages.count_tokens(model='pocket', messages=hi, system=system).input_tokens
                            for system in (blocks, blocks[1:]))
    same(with_header, without, 'messages: a line that changes with each request is left out')


def check_tools(client):
    for choice in ({'type': 'any', 'disable_parallel_tool_use': True},
                   {'type': 'tool', 'name': 'weather', 'disable_parallel_tool_use': True}):
        ask = dict(model='pocket', max_tokens=200, messages=hi, tools=[tool], tool_choice=choice,
                   extra_body={'temperature': 1, 'seed': 2})
        whole = client.messages.create(**ask)
        same(([block.type for block in whole.content], whole.stop_reason), (['tool_use'], 'tool_use'), 'messages: a forced call')
        given = whole.content[0].input
        true(1 <= given['days'] <= 99 and len(given['city']) <= 12, 'messages: input of a call')
        with client.messages.stream(**ask) as events:
            streamed = events.get_final_message()
        same((streamed.content[0].name, streamed.content[0].input), ('weather', given), 'messages: a streamed call')
    result = {'type': 'tool_result', 'tool_use_id': whole.content[0].id, 'content': 'rain'}
    back = [*hi, streamed.to_param(), {'role': 'user', 'content': [result]}]
    told = client.messages.create(model='pocket', max_tokens=8, messages=back, tools=[tool], tool_choice={'type': 'none'})
    same([block.type for block in told.content], ['text'], 'messages: the result of a call goes back')


def check_thinking(client):
    ask = dict(model='pocket', max_tokens=60, messages=hi, thinking={'type': 'enabled', 'budget_tokens': 1024},
               extra_body={'temperature': 0})
    with client.messages.stream(**ask) as events:
        thought = ''.join(event.thinking for event in events if event.type == 'thinking')
        final = events.get_final_message()
    same((final.content[0].type, final.content[0].thinking), ('thinking', thought), 'messages: thinking')
    true(thought and '<think>' not in thought, 'messages: thinking alone')


def check(address, key):
    client = anthropic.Anthropic(base_url=address, api_key=key, max_retries=0)
    same([model.id for model in client.models.list()], ['org/pocket'], 'messages: models')
    check_text(client)
    check_tools(client)
    check_thinking(client)
    ask = dict(model='pocket', max_tokens=4, messages=hi)
    refused(anthropic.NotFoundError, 404, 'not_found_error', 'claude', lambda: client.messages.create(**{**ask, 'model': 'claude-9'}),
            'messages: another model')
    long = [{'role': 'user', 'content': 'word ' * 6000}]
    refused(anthropic.BadRequestError, 400, 'invalid_request_error', 'prompt is too long', lambda: client.messages.create(**{**ask, 'messages': long}),
            'messages: too long')
    stranger = anthropic.Anthropic(base_url=address, api_key='secret-2', max_retries=0)
    refused(anthropic.AuthenticationError, 401, 'authentication_error', 'key', lambda: stranger.messages.create(**ask),
            'messages: a wrong key')
    bearer = anthropic.Anthropic(base_url=address, auth_token=key, max_retries=0)
    same(bearer.messages.create(**ask).usage.output_tokens, 4, 'messages: the key as a bearer')
