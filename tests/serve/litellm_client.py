"""litellm, by both of the protocols."""
import json
import os

os.environ['LITELLM_LOCAL_MODEL_COST_MAP'] = 'True'  # no table from the network
import litellm

from serve.openai_client import weather
from serve.running import same, true

hi = [{'role': 'user', 'content': 'Hi, what can you help me with?'}]


def check(address, key):
    litellm.suppress_debug_info = True
    litellm.telemetry = False
    beginning = 'I am a pocket-sized model'
    for model, base in (('openai/pocket', address + '/v1'), ('anthropic/pocket', address)):
        ask = dict(model=model, api_base=base, api_key=key, messages=hi, max_tokens=24, temperature=0, num_retries=0)
        if model.startswith('openai'):
            ask['extra_body'] = {'reasoning_effort': 'none'}
        whole = litellm.completion(**ask)
        true(whole.choices[0].message.content.startswith(beginning), model + ': text')
        same((whole.choices[0].finish_reason, whole.usage.completion_tokens), ('length', 24), model + ': reason and usage')
        streamed = ''.join(chunk.choices[0].delta.content or '' for chunk in litellm.completion(**ask, stream=True))
        same(streamed, whole.choices[0].message.content, model + ': streamed')
        forced = {**ask, 'max_tokens': 200, 'tools': [weather], 'tool_choice': 'required', 'parallel_tool_calls': False}
        call = litellm.completion(**forced).choices[0].message.tool_calls[0].function
        true(call.name == 'weather' and 1 <= json.loads(call.arguments)['days'] <= 99, model + ': a call')
        chunks = list(litellm.completion(**forced, stream=True))
        built = litellm.stream_chunk_builder(chunks).choices[0].message.tool_calls[0].function
        same(json.loads(built.arguments), json.loads(call.arguments), model + ': a streamed call')
        for change, kind, what in (({'api_key': 'secret-2'}, litellm.AuthenticationError, 'a wrong key'),
                                   ({'messages': [{'role': 'user', 'content': 'word ' * 6000}]},
                                    litellm.ContextWindowExceededError, 'too long')):
            try:
                litellm.completion(**{**ask, **change})
            except kind:
                continue
            raise SystemExit(f'{model}: {what}: no {kind.__name__}')
