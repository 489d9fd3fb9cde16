"""What is shown of a text, and to whom: markdown, hostile text, keyboard, screen readers, contrast, narrow windows."""
from browser import Keys
from page_case import HOSTILE, MARKDOWN, PageCase


class ReadingTest(PageCase):
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
