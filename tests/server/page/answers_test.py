"""Answers: how they come, how they are stopped and continued, what is shown of errors."""
import re

from browser import Keys
from page_case import PageCase


class AnswersTest(PageCase):
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

    # ---- Stop, continue, errors
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
