"""The openai package: responses, which Codex speaks."""
import json

import openai

from serve.openai_client import refused, weather
from serve.running import same, true

question = 'Hi, what can you help me with?'
plain = dict(model='pocket', input=question, reasoning={'effort': 'none'})
tool = {'type': 'function', 'strict': True, **weather['function']}


def check(address, key):
    client = openai.OpenAI(base_url=address + '/v1', api_key=key, max_retries=0)
    ask = dict(**plain, max_output_tokens=24, temperature=0)
    whole = client.responses.create(**ask)
    same((whole.status, whole.incomplete_details.reason), ('incomplete', 'max_output_tokens'), 'responses: cut')
    true(whole.output_text.startswith('I am a pocket-sized model'), 'responses: text')
    again = client.responses.create(**ask)
    true(again.usage.input_tokens_details.cached_tokens > 0, 'responses: what was known')
    same(again.output_text, whole.output_text, 'responses: again')
    with client.responses.stream(**ask) as events:
        kinds, numbers, text = [], [], ''
        for event in events:
            kinds.append(event.type)
            numbers.append(event.sequence_number)
            text += event.delta if event.type == 'response.output_text.delta' else ''
    same((kinds[0], kinds[-1], numbers), ('response.created', 'response.incomplete', list(range(len(numbers)))),
         'responses: events')
    same(text, whole.output_text, 'responses: streamed')

    thought = client.responses.create(model='pocket', input=question, max_output_tokens=20, temperature=0)
    same(([item.type for item in thought.output][0], thought.usage.output_tokens_details.reasoning_tokens), ('reasoning', 20),
         'responses: thinking')

    forced = dict(**plain, instructions='Be short.', tools=[tool, {'type': 'web_search'}], tool_choice='required',
                  parallel_tool_calls=False, max_output_tokens=200, temperature=1, seed=4)
    seed = forced.pop('seed')
    called = client.responses.create(**forced, extra_body={'seed': seed})
    same(([item.type for item in called.output], called.status), (['function_call'], 'completed'), 'responses: a forced call')
    arguments = json.loads(called.output[0].arguments)
    true(1 <= arguments['days'] <= 99, 'responses: arguments')
    with client.responses.stream(**forced, extra_body={'seed': seed}) as events:
        final = events.get_final_response()
    same((final.output[0].name, json.loads(final.output[0].arguments)), ('weather', arguments), 'responses: a streamed call')
    back = [{'role': 'user', 'content': question}, *called.output,
            {'type': 'function_call_output', 'call_id': called.output[0].call_id, 'output': 'rain'}]
    told = client.responses.create(**{**plain, 'input': back}, tools=[tool], tool_choice='none', max_output_tokens=8)
    true(told.output_text, 'responses: the result of a call goes back')

    form = {'type': 'json_schema', 'name': 'mark', 'strict': True,
            'schema': {'type': 'object', 'properties': {'mark': {'enum': ['a', 'b']}}, 'required': ['mark'],
                       'additionalProperties': False}}
    held = client.responses.create(**plain, text={'format': form}, max_output_tokens=60)
    true(json.loads(held.output_text)['mark'] in ('a', 'b'), 'responses: structured')
    refused(openai.BadRequestError, 400, 'previous_response_id',
            lambda: client.responses.create(**plain, previous_response_id=whole.id), 'responses: nothing is kept')
