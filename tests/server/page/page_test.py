"""The page in Chromium, against a server whose answers are scripted.  page_test.py PAGE [names of tests]"""
import json
import pathlib
import re
import sys
import tempfile
import unittest

from browser import CONTRASTS, Browser, Keys
from fake_server import Server

PAGE = pathlib.Path(sys.argv.pop(1))
HOSTILE = """<img src=x onerror="document.title='taken'"> and <script>document.title='taken'</script> and <b>bold</b>

[a link](javascript:document.title='taken') [other](JaVaScRiPt:alert(1)) [data](data:text/html,x) [file](file:///etc/passwd) [own](v1/models)
![image](https://example.invalid/pixel.png) <javascript:alert(1)> [good](https://example.com/a_(b)) mailto: <mailto:a@example.com>

| half | a table

| a | b |
|---|
| 1 | 2 | 3 | 4 |

1. one
      - deep
   ```
   never closed <b>
"""
MARKDOWN = """## Heading

Some **strong** and *soft* text with `code`, ~~struck~~, snake_case_name and 2 * 3 * 4. See https://example.com/x_y_z.

1. one
2. two
   - inner
     more
3. three

- [x] done
- [ ] open

| name | bits |
|:-----|-----:|
| f16 | 16 |
| `a|b` | 3.5 |

> quoted
> twice

```python
def f(x):
    return "<b>" * x
```

---
The end.
"""


class PageTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.downloads = pathlib.Path(cls.folder.name)
        cls.html = PAGE.read_text()
        cls.browser = Browser(cls.downloads)

    @classmethod
    def tearDownClass(cls):
        cls.browser.quit()
        cls.folder.cleanup()

    def setUp(self):
        self.server = Server(self.html)
        # A port may have been an earlier test's: each test has an empty store.
        self.browser.cdp('Storage.clearDataForOrigin', origin=self.server.address[:-len('/prefix/')], storageTypes='all')
        self.browser.reset()
        self.browser.addresses()
        self.browser.driver.get_log('browser')
        self.open()

    def tearDown(self):
        b = self.browser
        for handle in b.driver.window_handles[1:]:
            b.driver.switch_to.window(handle)
            b.driver.close()
        b.driver.switch_to.window(b.driver.window_handles[0])
        console, addresses = b.console(), b.addresses()
        b.run('sessionStorage.clear()')
        b.driver.get('about:blank')
        self.server.kill()
        self.assertEqual(console, [])
        for address in addresses:
            self.assertTrue(address.startswith((self.server.address, 'data:', 'blob:', 'about:')), address)
        for path in self.server.paths:
            self.assertTrue(path.startswith('/prefix/'), path)

    def open(self, address=None):
        self.browser.driver.get(address or self.server.address)
        self.ready()

    def ready(self):
        self.browser.wait('the page', lambda: self.browser.run('return document.documentElement.dataset.ready'))
        self.browser.wait('the server', lambda: self.browser.text('#server-text') == 'The server answers.' and self.browser.run('return server.models.length && server.plan'))

    def ask(self, text):
        self.browser.run('document.getElementById("draft").focus()')
        self.browser.keys(text, Keys.ENTER)

    def answered(self, count=1):
        b = self.browser
        b.wait('an answer', lambda: b.run('return document.querySelectorAll(".turn.assistant").length') >= count and not self.busy())

    def busy(self):
        return self.browser.run('return document.getElementById("send").dataset.now') == 'stop'

    def hold(self, question='hold'):
        self.ask(question)
        self.browser.wait('some words', lambda: 'word4.' in self.browser.text('.assistant > .body'))

    def bodies(self, role='assistant'):
        return self.browser.run('return [...document.querySelectorAll(`.turn.${arguments[0]} > .body`)].map(at => at.innerText.trim())', role)

    def stored(self):
        return self.browser.driver.execute_async_script('const done = arguments[0]; store.run("readonly", (_, m) => m.getAll()).then(done)')

    def contrast(self):
        low = [found for found in self.browser.run(CONTRASTS) if found[0] < 4.5]
        self.assertEqual(low, [])

    # ---- Streams
    def test_an_answer_streams_and_shows_its_figures(self):
        b = self.browser
        self.ask('words 40')
        self.answered()
        self.assertTrue(self.bodies()[0].startswith('Word word1 word2'))
        self.assertTrue(self.bodies()[0].endswith('word39.'))
        figures = b.text('.assistant .figures')
        for part in ('42 tokens', '43 tok/s', 'prompt 310 tok/s', 'reused 1,180 of 1,240', 'seed 18446744073709551557'):
            self.assertIn(part, figures)
        request = self.server.requests[0]
        self.assertEqual(request['messages'], [{'role': 'user', 'content': 'words 40'}])
        self.assertEqual((request['stream'], request['stream_options'], request['model']), (True, {'include_usage': True}, 'qwen3.5-35b'))
        self.assertEqual(b.text('#context .words'), 'Context 1,282 of 8,192')
        self.assertIn('Cache 1.33 GB of 4.52 GB · turboquant:key=3.5:value=3', b.text('#cache-meter'))
        self.assertIn('snapshots 300 MB', b.one('#cache-meter').get_attribute('aria-label'))
        self.assertEqual(b.driver.title, 'words 40 – tqkv')

    def test_it_draws_at_most_each_50_ms(self):
        b = self.browser
        b.run('window.drawn = 0; const own = draw; window.draw = id => { ++window.drawn; own(id); }; window.began = performance.now()')
        self.server.pause = 0.001
        self.ask('words 600')
        self.answered()
        drawn, took = b.run('return [window.drawn, performance.now() - window.began]')
        self.assertEqual(self.bodies()[0].count('word'), 599)
        self.assertLess(drawn, took / 50 + took / 500 + 10)

    def test_thinking_is_folded_with_its_seconds(self):
        b = self.browser
        self.server.pause = 0.05
        self.ask('think 60')
        b.wait('thinking', lambda: re.fullmatch(r'Thinking, [1-9]\d* s, about \d+ tok/s', b.text('.progress span')))
        self.assertEqual(b.text('.fold summary'), 'Thoughts so far')
        self.answered()
        self.assertRegex(b.text('.fold summary'), r'^Thought for ([3-9]|\d\d) s$')
        self.assertEqual(self.bodies(), ['So this is the answer.'])
        self.assertFalse(b.shown('.fold .body'))
        b.click('.fold summary')
        b.wait('the thoughts', lambda: 'word59' in b.text('.fold .body'))
        self.ask('words 3')
        self.answered(2)
        self.assertEqual(self.server.requests[1]['messages'][1], {'role': 'assistant', 'content': 'So this is **the answer**.'})

    def test_queue_and_prompt_show_how_far_they_are(self):
        b = self.browser
        self.ask('queue')
        for words in ('In the queue: place 3', 'In the queue: place 1', 'Reading the prompt: 512 of 2,048 tokens'):
            b.wait(words, lambda: b.text('.progress span') == words)
            if 'prompt' not in words:
                self.assertFalse(b.shown('progress'))
            else:
                self.assertEqual(b.run('const p = document.querySelector("progress"); return [p.value, p.max]'), [512, 2048])
            self.server.step()
        b.wait('the prompt', lambda: b.text('.progress span') == 'Reading the prompt: 2,048 of 2,048 tokens')
        self.server.step()
        self.answered()

    def test_a_silent_stream_is_shown_as_stalled_and_a_slow_one_is_not(self):
        b = self.browser
        self.hold('silent')
        b.wait('the stall', lambda: b.text('.progress span').startswith('Nothing has come for '))
        self.assertTrue(b.shown('.progress.stalled'))
        self.server.step()
        self.answered()
        self.assertTrue(self.bodies()[0].endswith('word9.'))
        self.hold('hold')
        self.assertFalse(b.run('return new Promise(done => setTimeout(() => done(document.querySelector(".stalled:not([hidden])") !== null), 3600))'))
        self.server.step()
        self.answered(2)

    def test_a_call_of_a_tool_is_shown(self):
        self.ask('tool')
        self.answered()
        self.assertEqual(self.browser.text('.fold:not([hidden]) summary'), 'Calls get_weather')
        self.browser.click('.turn .fold:not([hidden]) summary')
        self.assertEqual(self.browser.text('.turn .fold pre'), '{"city": "Paris"}')

    # ---- Stop, go on, errors
    def test_a_stopped_answer_is_kept_and_goes_on(self):
        b = self.browser
        self.hold()
        b.keys(Keys.ESCAPE)
        self.answered()
        b.wait('the server sees it', lambda: self.server.gone == 1)
        self.assertEqual(self.bodies(), ['Word word1 word2 word3 word4.'])
        self.assertIn('Stopped', b.text('.figures'))
        b.click('.go-on')
        self.answered()
        self.assertEqual(self.bodies(), ['Word word1 word2 word3 word4. and this goes on.'])
        request = self.server.requests[1]
        self.assertIs(request['continue_final_message'], True)
        self.assertEqual(request['messages'][-1]['role'], 'assistant')
        self.assertEqual(request['messages'][-1]['content'], 'Word word1 word2 word3 word4. ')
        self.assertFalse(b.shown('.go-on'))
        self.assertNotIn('continue_final_message', self.server.requests[0])

    def test_the_button_stops_and_the_length_can_be_passed(self):
        b = self.browser
        self.hold()
        b.click('#send')
        self.answered()
        self.ask('long')
        self.answered(2)
        self.assertIn('Most tokens reached', b.text('.figures'))
        b.click('.go-on')
        self.answered(2)
        self.assertTrue(self.bodies()[1].endswith('and this goes on.'))

    def test_errors_are_shown_in_the_servers_words(self):
        b = self.browser
        self.ask('error')
        self.answered()
        self.assertEqual(b.text('.problem'), 'The prompt has 9000 tokens, and the context has 8192.')
        self.assertEqual(b.run('return document.querySelector(".problem").getAttribute("role")'), 'alert')
        self.ask('late error')
        self.answered(2)
        self.assertEqual(b.text('.problem'), 'The memory ran out.')
        self.assertEqual(self.bodies()[1], 'Word word1 word2')
        self.ask('die')
        self.answered(3)
        self.assertEqual(b.text('.problem'), 'The connection to the server was lost.')
        b.click('.turn:last-child [aria-label="Answer again"]')
        self.answered(3)
        self.assertEqual(b.text('.turn:last-child .branch'), '2/2')

    def test_a_key_is_sent_and_kept_only_if_asked(self):
        b = self.browser
        self.server.key = 'secret'
        self.ask('words 3')
        self.answered()
        self.assertEqual(b.text('.problem'), 'The key is wrong. Set the API key in the settings.')
        for keeps in (False, True):
            b.click('#open-settings')
            b.run('document.getElementById("key").value = "secret"; document.getElementById("key-keep").checked = arguments[0]', keeps)
            b.click('#settings [type=submit]')
            self.assertEqual(b.run('return [sessionStorage.getItem("tqkv.key"), localStorage.getItem("tqkv.key")]'),
                             [None, 'secret'] if keeps else ['secret', None])
        b.click('.turn:last-child [aria-label="Answer again"]')
        self.answered()
        self.assertEqual(self.bodies(), ['Word word1 word2'])

    # ---- A server that ends, a page that is loaded again
    def test_a_page_that_is_loaded_again_has_what_came(self):
        b = self.browser
        self.hold()
        b.wait('it is stored', lambda: any('word4' in m['content'] for m in self.stored()))
        b.driver.refresh()
        self.ready()
        self.assertEqual(self.bodies(), ['Word word1 word2 word3 word4.'])
        b.wait('the cut', lambda: b.text('.problem') == 'The answer was cut off.')
        b.wait('the server sees it', lambda: self.server.gone == 1)
        b.click('.go-on')
        self.answered()
        self.assertTrue(self.bodies()[0].endswith('and this goes on.'))
        self.assertFalse(b.shown('.problem'))

    def test_all_but_answers_works_while_the_server_is_down(self):
        b = self.browser
        self.ask('words 3')
        self.answered()
        self.hold()
        self.server.kill()
        b.wait('the loss', lambda: b.text('.problem') == 'The connection to the server was lost.')
        b.wait('the notice', lambda: 'The server does not answer.' in b.text('#notice'))
        self.assertEqual(self.bodies()[1], 'Word word1 word2 word3 word4.')
        self.ask('words 2')
        self.answered(3)
        self.assertEqual(b.text('.problem'), 'The server does not answer.')
        b.click('#new')
        b.wait('a new one', lambda: b.shown('#empty'))
        b.click('#list .choose')
        b.wait('the old one', lambda: len(self.bodies()) == 3)
        b.click('#open-plan')
        b.wait('the plan', lambda: b.shown('#plan-table'))
        b.click('#plan .close')
        b.click('.turn:last-child [aria-label^="Delete"]')
        b.wait('one less', lambda: len(self.bodies()) == 2)
        b.click('.turn:last-child [aria-label^="Delete"]')
        b.click('#toast button')
        b.wait('it is back', lambda: len(self.bodies()) == 2)
        self.server.start()
        b.wait('the server', lambda: not b.shown('#notice'))
        b.run('const all = document.querySelectorAll(".turn.user"); all[all.length - 1].querySelector("[aria-label^=Delete]").click()')
        b.wait('two less', lambda: len(self.bodies()) == 2)
        b.click('.go-on')
        self.answered(2)
        self.assertTrue(self.bodies()[1].endswith('word4. and this goes on.'))

    def test_a_browser_that_keeps_nothing_is_enough_for_a_while(self):
        b = self.browser
        script = b.cdp('Page.addScriptToEvaluateOnNewDocument', source='''for (const name of ["localStorage", "sessionStorage", "indexedDB"])
            Object.defineProperty(window, name, {get() { throw new DOMException("no", "SecurityError"); }}); delete window.BroadcastChannel''')['identifier']
        try:
            self.open()
            self.assertEqual(b.text('#toast'), 'This browser keeps no conversations: they are gone when the page is closed.')
            self.ask('first')
            self.answered()
            b.click('#new')
            b.wait('a new one', lambda: b.shown('#empty'))
            b.click('#list .choose')
            b.wait('the old one', lambda: self.bodies() == ['You said: first'])
            b.click('#open-settings')
            b.run('document.getElementById("s-top_k").value = "5"; document.getElementById("key").value = "k"')
            b.click('#settings [type=submit]')
            self.ask('second')
            self.answered(2)
            self.assertEqual(self.server.requests[1]['top_k'], 5)
        finally:
            b.cdp('Page.removeScriptToEvaluateOnNewDocument', identifier=script)
            self.open()

    def test_a_model_that_loads_is_waited_for(self):
        b = self.browser
        self.server.loading = True
        self.browser.run('look()')
        b.wait('the notice', lambda: b.text('#notice') == 'The model is loading.')
        self.server.loading = False
        b.wait('the model', lambda: not b.shown('#notice'))

    def test_a_proxy_without_its_server_is_a_server_that_is_down(self):
        b = self.browser
        b.run('''window.seen = new Set(); new MutationObserver(() => seen.add(document.getElementById("notice").textContent))
            .observe(document.getElementById("notice"), {childList: true, subtree: true, characterData: true})''')
        self.server.bad_gateway = True
        self.ask('words 3')
        self.answered()
        self.assertEqual(b.text('.problem'), 'The server does not answer.')
        b.run('window.looked = 0; const own = ask; window.ask = (...given) => { ++window.looked; return own(...given); }')
        b.wait('two looks', lambda: b.run('return looked') >= 2)
        self.assertEqual(b.run('return [...seen]'), ['The server does not answer. Your conversations are still here.'])
        self.server.bad_gateway = False
        b.wait('the server', lambda: not b.shown('#notice'))

    def test_the_protocol_knows_what_is_sent(self):
        # tests/server/page_test.cpp reads the same lines as the server does.
        b = self.browser
        self.ask('tool')
        self.answered()
        settings = {'temperature': 0.7, 'top_p': 0.9, 'top_k': 20, 'min_p': 0.05, 'repetition_penalty': 1.1, 'presence_penalty': 0.5,
                    'frequency_penalty': -0.5, 'max_tokens': 256, 'stop': ['END'], 'thinking': 'on', 'seed': '-9007199254740993'}
        b.run('settings = arguments[0]; open.system = "Be short."', settings)
        self.ask('hold')
        b.wait('some words', lambda: 'word4.' in b.text('.turn:last-child .body'))
        b.keys(Keys.ESCAPE)
        self.answered(2)
        b.run('messages.get(open.leaf).reasoning = "Hm."')
        b.click('.go-on')
        self.answered(2)
        expected = (pathlib.Path(__file__).parent / 'requests.txt').read_text().splitlines()
        self.assertEqual(self.server.bodies, expected)

    # ---- Conversations
    def test_an_edited_question_is_a_branch(self):
        b = self.browser
        self.ask('first')
        self.answered()
        self.ask('second')
        self.answered(2)
        b.keys((Keys.ALT, Keys.ARROW_UP))
        b.keys((Keys.CONTROL, 'a'), 'changed', Keys.ENTER)
        b.wait('the branch', lambda: self.bodies() == ['You said: first', 'You said: changed'] and not self.busy())
        self.assertEqual([m['content'] for m in self.server.requests[2]['messages']], ['first', 'You said: first', 'changed'])
        self.assertEqual(b.text('.turn:nth-child(3) .branch'), '2/2')
        b.click('.turn:nth-child(3) [aria-label="Earlier branch"]')
        b.wait('the old branch', lambda: self.bodies() == ['You said: first', 'You said: second'])
        self.assertEqual(b.text('.turn:nth-child(3) .branch'), '1/2')
        b.driver.refresh()
        self.ready()
        self.assertEqual(self.bodies(), ['You said: first', 'You said: second'])
        b.click('.turn:nth-child(3) [aria-label="Later branch"]')
        b.wait('the new branch', lambda: self.bodies()[1] == 'You said: changed')

    def test_deleted_things_come_back(self):
        b = self.browser
        self.ask('first')
        self.answered()
        self.ask('second')
        self.answered(2)
        b.click('.turn:nth-child(3) [aria-label^="Delete"]')
        b.wait('one question', lambda: self.bodies('user') == ['first'])
        b.wait('the store', lambda: len(self.stored()) == 2)
        b.click('#toast button')
        b.wait('two questions', lambda: self.bodies('user') == ['first', 'second'])
        b.click('#list .drop')
        b.wait('nothing', lambda: b.shown('#empty') and not b.all('#list li'))
        b.wait('the store', lambda: not self.stored())
        b.click('#toast button')
        b.wait('all', lambda: self.bodies('user') == ['first', 'second'])
        b.driver.refresh()
        self.ready()
        self.assertEqual(self.bodies('user'), ['first', 'second'])

    def test_a_deleted_answer_that_still_streams_stays_deleted(self):
        b = self.browser
        self.hold()
        b.click('#list .drop')
        b.wait('the server sees it', lambda: self.server.gone == 1)
        b.wait('nothing', lambda: b.shown('#empty') and not self.busy())
        self.assertEqual(self.stored(), [])
        self.hold()
        b.click('.turn:first-child [aria-label^="Delete"]')
        b.wait('the server sees it', lambda: self.server.gone == 2)
        b.wait('nothing', lambda: b.shown('#empty') and not self.busy() and not b.all('#list .busy'))
        b.wait('the store', lambda: not self.stored())

    def test_two_conversations_stream_at_once(self):
        b = self.browser
        self.hold()
        b.click('#new')
        b.wait('a new one', lambda: b.shown('#empty'))
        self.ask('words 5')
        b.wait('its answer', lambda: self.bodies() == ['Word word1 word2 word3 word4.'] and not self.busy())
        self.server.step()
        b.wait('the other', lambda: not b.all('#list .busy'))
        b.run('[...document.querySelectorAll("#list .choose")].find(at => at.innerText.startsWith("hold")).click()')
        b.wait('its words', lambda: self.bodies()[0].endswith('word9.'))

    def test_tabs_show_the_same(self):
        b = self.browser
        self.ask('first')
        self.answered()
        here = b.driver.current_window_handle
        address = b.driver.current_url
        b.driver.switch_to.new_window('window')
        self.open(address)
        self.assertEqual(self.bodies(), ['You said: first'])
        other = b.driver.current_window_handle
        b.driver.switch_to.window(here)
        self.ask('hold')
        b.wait('words', lambda: 'word4.' in self.bodies()[-1])
        b.driver.switch_to.window(other)
        b.wait('words there', lambda: 'word4.' in self.bodies()[-1])
        self.assertEqual(b.text('.turn:last-child .progress span'), 'An answer comes in another tab.')
        self.server.step()
        b.wait('the end there', lambda: self.bodies()[-1].endswith('word9.') and not b.shown('.progress'))
        b.click('#list .drop')
        b.driver.switch_to.window(here)
        b.wait('nothing', lambda: b.shown('#empty') and not b.all('#list li'))

    def test_what_is_exported_is_imported(self):
        b = self.browser
        self.ask('think 5')
        self.answered()
        b.keys((Keys.ALT, Keys.ARROW_UP))
        b.keys((Keys.CONTROL, 'a'), 'other', Keys.ENTER)
        self.answered()
        b.wait('the branch', lambda: self.bodies() == ['You said: other'])
        b.click('#export')
        file = self.downloads / 'tqkv-conversation.json'
        b.wait('the file', lambda: file.exists() and file.stat().st_size)
        data = json.loads(file.read_text())
        self.assertEqual(len(data['conversations'][0]['messages']), 4)
        b.click('#list .drop')
        b.wait('nothing', lambda: not b.all('#list li'))
        b.one('#file').send_keys(str(file))
        b.wait('the conversation', lambda: self.bodies() == ['You said: other'])
        b.click('.turn:first-child [aria-label="Earlier branch"]')
        b.wait('the branch', lambda: self.bodies() == ['So this is the answer.'])
        self.assertIn('seed 18446744073709551557', b.text('.figures'))
        for wrong in ('no json', '[]', '{"format":"tqkv conversations","version":1,"conversations":[{"messages":[{"role":"boss"}]}]}',
                      '{"format":"tqkv conversations","version":1,"conversations":[1]}'):
            file.write_text(wrong)
            b.one('#file').send_keys(str(file))
            b.wait('a refusal', lambda: 'The file is not taken' in b.text('#toast'))
        self.assertEqual(len(b.all('#list li')), 1)
        file.unlink()

    def test_settings_are_sent_as_they_are_set(self):
        b = self.browser
        b.click('#open-settings')
        for name, value in {'system': 'Be short.', 's-temperature': '0.7', 's-top_k': '20', 's-max_tokens': '64', 's-seed': '9007199254740993',
                            's-thinking': 'off', 's-stop': 'END\nSTOP', 'model-choice': 'pocket'}.items():
            b.run('document.getElementById(arguments[0]).value = arguments[1]', name, value)
        b.click('#settings [type=submit]')
        self.assertEqual(b.text('#system-note'), 'System message: Be short.')
        self.ask('words 2')
        self.answered()
        request = self.server.requests[0]
        self.assertEqual(request['messages'][0], {'role': 'system', 'content': 'Be short.'})
        self.assertEqual((request['temperature'], request['top_k'], request['max_tokens'], request['stop'], request['model']), (0.7, 20, 64, ['END', 'STOP'], 'pocket'))
        self.assertEqual(request['chat_template_kwargs'], {'enable_thinking': False})
        self.assertIn('"seed":9007199254740993}', self.server.bodies[0])
        self.assertNotIn('top_p', request)
        b.driver.refresh()
        self.ready()
        b.click('#open-settings')
        self.assertEqual(b.run('return ["system", "s-temperature", "s-seed"].map(id => document.getElementById(id).value)'), ['Be short.', '0.7', '9007199254740993'])

    def test_a_conversation_is_renamed(self):
        b = self.browser
        self.ask('words 2')
        self.answered()
        b.click('#title')
        b.keys((Keys.CONTROL, 'a'), 'A better name', Keys.ENTER)
        b.wait('the name', lambda: b.text('#list .choose') == 'A better name' and b.driver.title == 'A better name – tqkv')

    def test_500_messages_stay_fluent(self):
        b = self.browser
        messages = [{'id': str(i), 'parent': str(i - 1) if i else None, 'role': 'assistant' if i % 2 else 'user', 'created': i,
                     'content': MARKDOWN if i % 2 else f'Question {i}'} for i in range(500)]
        file = self.downloads / 'long.json'
        file.write_text(json.dumps({'format': 'tqkv conversations', 'version': 1, 'conversations': [{'title': 'Long', 'leaf': '499', 'messages': messages}]}))
        b.one('#file').send_keys(str(file))
        b.wait('500 messages', lambda: len(b.all('.turn')) == 500)
        b.driver.refresh()
        self.ready()
        shown = b.driver.execute_async_script('''const done = arguments[0], began = performance.now();
            show(open.id).then(() => requestAnimationFrame(() => setTimeout(() => done(performance.now() - began))))''')
        b.wait('its end', lambda: b.run('const log = document.getElementById("log"); return log.scrollHeight - log.scrollTop - log.clientHeight < 60'))
        b.run('''window.took = []; document.getElementById("draft").addEventListener("keydown", () => { const began = performance.now();
            requestAnimationFrame(() => setTimeout(() => took.push(performance.now() - began))); }, true); document.getElementById("draft").focus()''')
        for key in 'a keystroke is seen at once':
            b.keys(key)
        took = sorted(b.run('return took'))
        self.server.pause = 0.02
        b.keys(Keys.ENTER)
        b.wait('an answer', lambda: len(b.all('.turn')) == 502 and not self.busy())
        b.run('window.took = []')
        self.ask('words 60')
        for key in 'while an answer streams':
            b.keys(key)
        streaming = sorted(b.run('return took'))
        b.wait('the answer', lambda: len(b.all('.turn')) == 504 and not self.busy())
        print(f'500 messages are shown in {shown:.0f} ms; a keystroke takes {took[len(took) // 2]:.1f} ms (median; most {took[-1]:.1f}), '
              f'while an answer streams {streaming[len(streaming) // 2]:.1f} ms (most {streaming[-1]:.1f})')
        self.assertLess(took[len(took) // 2], 50)
        self.assertLess(streaming[len(streaming) // 2], 50)
        self.assertLess(shown, 3000)

    def test_an_answer_is_followed_unless_its_reader_goes_up(self):
        b = self.browser
        b.width(500, 400)
        self.ask('words 200')
        self.answered()
        left = lambda: b.run('const log = document.getElementById("log"); return log.scrollHeight - log.scrollTop - log.clientHeight')
        b.wait('the end', lambda: left() < 2)
        b.keys(Keys.PAGE_UP)
        b.wait('a page up', lambda: left() > 100 and b.shown('#down'))
        b.click('#down')
        b.wait('the end', lambda: left() < 2)
        self.server.pause = 0.02
        self.ask('words 200')
        b.wait('words', lambda: 'word60' in b.text('.turn:last-child .body'))
        b.wait('the end', lambda: left() < 2)
        b.run('document.getElementById("log").scrollBy(0, -30)')
        before = b.run('return document.getElementById("log").scrollTop')
        b.wait('more words', lambda: 'word160' in b.text('.turn:last-child .body'))
        self.assertEqual(b.run('return document.getElementById("log").scrollTop'), before)
        b.keys(Keys.ESCAPE)
        self.answered(2)

    # ---- Text of a model
    def test_markdown_is_shown(self):
        b = self.browser
        self.server.markdown = MARKDOWN
        self.ask('markdown')
        self.answered()
        inside = lambda selector: b.run('return [...document.querySelectorAll(".assistant > .body " + arguments[0])].map(at => at.innerText)', selector)
        self.assertEqual(inside('> h3'), ['Heading'])
        self.assertEqual((inside('strong'), inside('em'), inside('s')), (['strong'], ['soft'], ['struck']))
        self.assertEqual(len(inside('> ol > li')), 3)
        self.assertEqual(inside('> ol ul > li'), ['inner\nmore'])
        self.assertEqual(b.run('return [...document.querySelectorAll(".body input")].map(at => at.checked)'), [True, False])
        self.assertEqual((inside('th'), inside('td')), (['name', 'bits'], ['f16', '16', 'a|b', '3.5']))
        self.assertEqual(inside('blockquote'), ['quoted\ntwice'])
        self.assertEqual(inside('pre code'), ['def f(x):\n    return "<b>" * x'])
        self.assertEqual(len(inside('hr')), 1)
        self.assertIn('snake_case_name and 2 * 3 * 4', inside('p')[0])
        self.assertEqual(b.run('const a = document.querySelector(".body a"); return [a.href, a.rel, a.target]'),
                         ['https://example.com/x_y_z', 'noopener noreferrer', '_blank'])
        # The way it came makes no difference to what is shown.
        self.assertTrue(b.run('''const whole = document.createElement("div"); showMarkdown(whole, arguments[0]);
            return whole.innerHTML === document.querySelector(".assistant > .body").innerHTML''', MARKDOWN))
        b.cdp('Browser.grantPermissions', permissions=['clipboardReadWrite', 'clipboardSanitizedWrite'])
        b.click('.code button')
        b.wait('the copy', lambda: b.text('.code button') == 'Copied')
        self.assertEqual(b.run('return navigator.clipboard.readText()'), 'def f(x):\n    return "<b>" * x')

    def test_hostile_text_stays_text(self):
        b = self.browser
        self.server.markdown = HOSTILE
        self.ask('markdown')
        self.answered()
        self.assertEqual(b.driver.title, 'markdown – tqkv')
        self.assertEqual(b.run('return document.querySelectorAll(".body img, .body script, .body b, .body iframe, .body object, .body form").length'), 0)
        self.assertIn('<img src=x onerror=', self.bodies()[0])
        self.assertIn('never closed <b>', self.bodies()[0])
        self.assertEqual(b.run('return [...document.querySelectorAll(".body a")].map(at => at.href)'),
                         ['https://example.invalid/pixel.png', 'https://example.com/a_(b)', 'mailto:a@example.com'])
        self.assertIn('[a link](javascript:', self.bodies()[0])

    def test_no_text_takes_long(self):
        b = self.browser
        for name, text in {'line': 'x' * 1_000_000, 'stars': '*' * 100_000, 'pairs': '**a ' * 20_000, 'open': '[' * 50_000, 'links': '[a](' * 20_000,
                           'quotes': '>' * 20_000, 'lists': '\n'.join(' ' * (2 * i) + '- a' for i in range(1000)), 'ticks': ' '.join('`' * i for i in range(1, 300)),
                           'table': '|' * 30_000 + '\n' + '|-' * 30_000 + '\n' + '|a' * 30_000, 'fences': '```\n' * 10_000, 'spaces': '# ' + ' ' * 100_000 + '#',
                           'rule': '- ' * 50_000, 'angles': '<' * 50_000, 'addresses': 'https://' * 10_000, 'lines': 'a\n\n' * 10_000, 'low': '_a' * 20_000,
                           'strong': '**' * 10_000 + 'a' + '**' * 10_000, 'pipes': 'a|b\n' * 20_000, 'escapes': '\\*' * 20_000}.items():
            took = b.run('''const at = document.createElement("div"), began = performance.now();
                showMarkdown(at, arguments[0]); return performance.now() - began''', text)
            self.assertLess(took, 1500, name)
        # Parts of a text, as they come.
        for text in (MARKDOWN, HOSTILE):
            self.assertTrue(b.run('''const grown = document.createElement("div"), whole = document.createElement("div");
                for (let i = 0; i <= arguments[0].length; ++i) showMarkdown(grown, arguments[0].slice(0, i));
                showMarkdown(whole, arguments[0]);
                return grown.isEqualNode(whole)''', text))

    # ---- Everybody
    def test_all_is_reached_by_keyboard(self):
        b = self.browser
        b.keys('first line', (Keys.SHIFT, Keys.ENTER), 'second line', Keys.ENTER)
        self.answered()
        self.assertEqual(self.server.requests[0]['messages'][0]['content'], 'first line\nsecond line')
        self.assertEqual(b.focused(), 'draft')
        seen = []
        for _ in range(60):
            b.keys(Keys.TAB)
            seen.append(b.focused())
            self.assertTrue(b.run('''const s = getComputedStyle(document.activeElement), f = getComputedStyle(document.getElementById("composer"));
                return document.activeElement === document.body || document.activeElement.id === "draft" && f.boxShadow !== "none" || s.outlineStyle !== "none"'''), seen[-1])
        for name in ('new', 'import', 'export', 'open-plan', 'open-settings', 'title', 'Edit', 'Copy', 'Answer again', 'Delete from here on', 'send', 'cache-meter', 'skip'):
            self.assertIn(name, seen)
        while b.focused() != 'open-settings':
            b.keys(Keys.TAB)
        b.keys(Keys.ENTER)
        b.wait('settings', lambda: b.shown('#settings'))
        b.keys(Keys.ESCAPE)
        b.wait('no settings', lambda: not b.shown('#settings'))
        self.assertEqual(b.focused(), 'open-settings')
        b.keys((Keys.ALT, Keys.ARROW_UP))
        self.assertEqual(b.focused(), 'Edit the question')
        b.keys(Keys.ESCAPE)
        self.assertEqual(b.focused(), 'draft')
        self.assertFalse(b.all('.editor'))

    def test_readers_of_screens_are_told_what_is_there(self):
        b = self.browser
        self.server.markdown = MARKDOWN
        self.ask('markdown')
        self.answered()
        self.hold()
        tree = b.tree()
        for node in (('navigation', 'Conversations'), ('banner', ''), ('main', 'Conversation'), ('form', 'Question'), ('textbox', 'Your question'), ('button', 'Stop'),
                     ('button', 'Settings'), ('button', 'Memory plan'), ('meter', 'Context'), ('article', 'Question 1'), ('article', 'Answer 1'), ('article', 'Answer 2'),
                     ('log', 'Spoken text'), ('group', 'Code, python'), ('group', 'Table'), ('heading', 'markdown'), ('button', 'Edit')):
            self.assertIn(node, tree)
        for role, name in tree:
            if role in ('button', 'link', 'textbox', 'meter', 'combobox', 'checkbox', 'spinbutton', 'dialog', 'form', 'navigation', 'image'):
                self.assertNotEqual(name, '', role)
        spoken = b.run('return [...document.getElementById("spoken").children].map(at => at.innerText)')
        self.assertEqual(spoken[-1], 'Word word1 word2 word3 word4.')
        self.server.step()
        self.answered(2)
        b.wait('the end', lambda: b.run('return document.getElementById("spoken").lastChild.innerText') == 'The answer is complete.')
        b.click('#open-plan')
        b.wait('the plan', lambda: b.shown('#plan-table'))
        tree = b.tree()
        self.assertIn(('dialog', 'Memory plan'), tree)
        self.assertIn(('rowheader', 'keys and values'), tree)
        self.assertTrue(any(role == 'image' and name.startswith('21.2 GB are used and 24.5 GB are planned of 32 GB.') for role, name in tree), tree)
        b.click('#plan .close')
        b.click('#open-settings')
        names = [name for role, name in b.tree() if role in ('spinbutton', 'textbox', 'combobox', 'checkbox')]
        for name in ('System message', 'Temperature', 'Top p', 'Seed', 'Thinking', 'API key', 'Model', 'Keep it in this browser'):
            self.assertIn(name, names)
        self.assertNotIn('', names)

    def test_text_has_contrast_in_light_and_dark(self):
        b = self.browser
        self.server.markdown = MARKDOWN
        for question in ('markdown', 'think 3', 'error'):
            self.ask(question)
            b.wait('an answer', lambda: not self.busy())
        grounds = []
        for scheme in ('light', 'dark'):
            b.media(prefers_color_scheme=scheme)
            grounds.append(b.run('return getComputedStyle(document.body).backgroundColor'))
            self.contrast()
            for dialog in ('settings', 'plan'):
                b.click(f'#open-{dialog}')
                self.contrast()
                b.click(f'#{dialog} .close')
        self.assertEqual(grounds, ['rgb(255, 255, 255)', 'rgb(27, 30, 34)'])

    def test_nothing_moves_where_it_is_not_wanted(self):
        self.browser.media(prefers_reduced_motion='reduce')
        self.hold()
        self.assertEqual(self.browser.run('return getComputedStyle(document.querySelector(".progress"), "::before").animationName'), 'none')

    def test_320_pixels_are_enough(self):
        b = self.browser
        b.width(320)
        self.server.markdown = MARKDOWN + 'x' * 5000 + '\n\n```\n' + 'y' * 500 + '\n```\n\n|' + 'a long column|' * 20 + '\n|' + '-|' * 20 + '\n|' + 'cell|' * 20 + '\n'
        self.ask('markdown')
        self.answered()
        self.ask('z' * 300)
        self.answered(2)
        b.keys((Keys.ALT, Keys.ARROW_UP))
        wide = '''const log = document.getElementById("log"); return [document.documentElement.scrollWidth <= innerWidth, document.body.scrollWidth <= innerWidth,
            log.scrollWidth <= log.clientWidth, [...document.querySelectorAll("header *, #foot *, .turn, .foot *, dialog[open] *")]
            .filter(at => at.checkVisibility({visibilityProperty: true}) && !at.closest(".unseen") && at.getBoundingClientRect().right > innerWidth + 0.5).map(at => at.id || at.className)]'''
        self.assertEqual(b.run(wide), [True, True, True, []])
        b.keys(Keys.ESCAPE)
        self.assertFalse(b.shown('#new'))
        b.click('#menu')
        b.wait('conversations', lambda: b.shown('#new') and b.run('return document.getElementById("nav").getBoundingClientRect().x === 0'))
        self.assertEqual(b.focused(), 'new')
        b.keys(Keys.ESCAPE)
        self.assertEqual(b.focused(), 'menu')
        for dialog in ('settings', 'plan'):
            b.click(f'#open-{dialog}')
            b.wait(dialog, lambda: b.shown(f'#{dialog}'))
            self.assertEqual(b.run(wide), [True, True, True, []])
            self.assertTrue(b.run('const at = document.querySelector("dialog[open]"); return at.scrollWidth <= at.clientWidth'))
            b.click(f'#{dialog} .close')


if __name__ == '__main__':
    unittest.main(verbosity=2)
