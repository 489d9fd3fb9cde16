"""A server that ends, loads or lies behind a proxy; a page that is loaded again."""
import pathlib

from browser import Keys
from page_case import PageCase


class ServerTest(PageCase):
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
