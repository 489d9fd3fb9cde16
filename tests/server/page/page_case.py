"""What the tests of the page share: a browser, a server whose answers are scripted, and texts that a model could write."""
import os
import pathlib
import tempfile
import unittest

from browser import CONTRASTS, Browser, Keys
from fake_server import Server

PAGE = pathlib.Path(os.environ['TQKV_PAGE'])
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


class PageCase(unittest.TestCase):
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
