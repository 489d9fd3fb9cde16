"""langchain-openai's ChatOpenAI."""
import typing

import pydantic
from langchain_core.exceptions import ContextOverflowError
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI

from serve.running import same, true

question = 'Hi, what can you help me with?'


class Answer(pydantic.BaseModel):
    """How it went."""
    verdict: typing.Literal['yes', 'no']
    points: int = pydantic.Field(ge=0, le=9)


@tool
def clock(zone: typing.Literal['UTC', 'CET']) -> str:
    """Tells the time."""
    return 'noon in ' + zone


def check(address, key):
    def model(**more):
        return ChatOpenAI(base_url=address + '/v1', api_key=key, model='pocket', max_retries=0, reasoning_effort='none',
                          **{'temperature': 0, 'max_tokens': 24, **more})

    whole = model().invoke(question)
    true(whole.content.startswith('I am a pocket-sized model'), 'langchain: invoke')
    same(whole.usage_metadata['output_tokens'], 24, 'langchain: usage')
    parts = list(model(stream_usage=True).stream(question))
    same(''.join(part.content for part in parts), whole.content, 'langchain: stream')
    same(sum(part.usage_metadata['output_tokens'] for part in parts if part.usage_metadata), 24, 'langchain: usage of a stream')
    true(model().invoke([SystemMessage('Be short.'), HumanMessage(question), AIMessage('No.'), HumanMessage('Why?')]).content,
         'langchain: a conversation')

    talker = model(max_tokens=200).bind_tools([clock], tool_choice='any', parallel_tool_calls=False)
    called = talker.invoke(question)
    same((called.tool_calls[0]['name'], len(called.tool_calls), called.invalid_tool_calls), ('clock', 1, []), 'langchain: a call')
    told = clock.invoke(called.tool_calls[0]['args'])
    true(told.startswith('noon in '), 'langchain: a call that can be done')
    whole = None
    for part in talker.stream(question):
        whole = part if whole is None else whole + part
    same(whole.tool_calls[0]['args'], called.tool_calls[0]['args'], 'langchain: a streamed call')
    back = [HumanMessage(question), called, ToolMessage(told, tool_call_id=called.tool_calls[0]['id'])]
    true(isinstance(model().bind_tools([clock]).invoke(back), AIMessage), 'langchain: its result goes back')
    for method in ('json_schema', 'function_calling'):
        given = model(max_tokens=200).with_structured_output(Answer, method=method).invoke(question)
        true(isinstance(given, Answer), 'langchain: structured by ' + method)
    try:
        model().invoke('word ' * 6000)
    except ContextOverflowError:
        return
    raise SystemExit('langchain: too long: no ContextOverflowError')
