"""Chromium without a window, and what tests of a page need of it."""
import json
import shutil
import time

from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

# Of every element that shows text: its own colour on the first ground behind it, as a ratio (WCAG 2.2, section 1.4.3).
CONTRASTS = """
const parts = text => text.match(/[\\d.]+/g).map(Number);
const over = (top, below) => { const a = top[3] ?? 1; return [0, 1, 2].map(i => top[i] * a + below[i] * (1 - a)); };
const light = color => { const [r, g, b] = color.map(c => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
const ground = at => { if (!at) return [255, 255, 255]; const c = parts(getComputedStyle(at).backgroundColor);
  return (c[3] ?? 1) === 1 ? c : over(c, ground(at.parentElement)); };
const found = [];
for (const at of document.querySelectorAll('body *')) {
  const own = [...at.childNodes].filter(n => n.nodeType === 3).map(n => n.data.trim()).join('') || (at.value ?? '');
  if (!own || !at.checkVisibility({opacityProperty: true, visibilityProperty: true}) || at.closest('.unseen, script, style, :disabled')) continue;
  const below = ground(at), [a, b] = [light(over(parts(getComputedStyle(at).color), below)), light(below)];
  found.push([(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), at.tagName + '.' + at.className, own.slice(0, 40)]);
}
return found;
"""


class Browser:
    def __init__(self, downloads):
        options = webdriver.ChromeOptions()
        for argument in ('--headless=new', '--no-sandbox', '--disable-dev-shm-usage', '--disable-gpu', '--window-size=1200,900',
                         '--disable-background-timer-throttling', '--disable-renderer-backgrounding', '--disable-backgrounding-occluded-windows'):
            options.add_argument(argument)
        options.set_capability('goog:loggingPrefs', {'browser': 'ALL', 'performance': 'ALL'})
        self.driver = webdriver.Chrome(options=options, service=Service(shutil.which('chromedriver')))
        self.driver.set_script_timeout(60)
        self.cdp('Browser.setDownloadBehavior', behavior='allow', downloadPath=str(downloads))
        self.requests = []

    def cdp(self, command, **given):
        return self.driver.execute_cdp_cmd(command, given)

    def quit(self):
        self.driver.quit()

    def run(self, script, *given):
        return self.driver.execute_script(script, *given)

    def all(self, selector):
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def one(self, selector):
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def text(self, selector):
        """What the last such element shows, '' where there is none."""
        return self.run('const all = document.querySelectorAll(arguments[0]); return all.length ? all[all.length - 1].innerText.trim() : ""', selector)

    def shown(self, selector):
        return self.run('return [...document.querySelectorAll(arguments[0])].some(at => at.checkVisibility({visibilityProperty: true}))', selector)

    def click(self, selector):
        """As a user's click on the last such element, wherever it is scrolled to."""
        self.run('const all = document.querySelectorAll(arguments[0]); all[all.length - 1].click()', selector)

    def keys(self, *keys):
        """To what has the focus. A pair is a key that is held and one that is pressed."""
        chain = ActionChains(self.driver, duration=0)
        for key in keys:
            if isinstance(key, tuple):
                chain.key_down(key[0]).send_keys(key[1]).key_up(key[0])
            else:
                chain.send_keys(key)
        chain.perform()

    def focused(self):
        return self.run('const at = document.activeElement; return at.id || at.getAttribute("aria-label") || at.innerText || at.tagName')

    def wait(self, what, condition, seconds=20):
        """Until `condition` gives something true."""
        end = time.monotonic() + seconds
        while True:
            value = condition()
            if value:
                return value
            if time.monotonic() > end:
                raise AssertionError(f'{what}: not within {seconds} s. The page shows: {self.run("return document.body.innerText")[-600:]}')
            time.sleep(0.02)

    def media(self, **features):
        self.cdp('Emulation.setEmulatedMedia', features=[{'name': name.replace('_', '-'), 'value': value} for name, value in features.items()])

    def width(self, width, height=700):
        self.cdp('Emulation.setDeviceMetricsOverride', width=width, height=height, deviceScaleFactor=1, mobile=width < 500)

    def reset(self):
        self.cdp('Emulation.clearDeviceMetricsOverride')
        self.media()

    def console(self):
        """What the console has beyond the browser's own words about requests that failed."""
        return [entry for entry in self.driver.get_log('browser') if entry['source'] != 'network']

    def addresses(self):
        """Of all requests since the last call."""
        found = []
        for entry in self.driver.get_log('performance'):
            message = json.loads(entry['message'])['message']
            if message['method'] == 'Network.requestWillBeSent':
                found.append(message['params']['request']['url'])
        return found

    def tree(self):
        """(role, name) of all that a reader of screens is told of."""
        nodes = self.cdp('Accessibility.getFullAXTree')['nodes']
        return [(node['role']['value'], node.get('name', {}).get('value', '')) for node in nodes if not node.get('ignored') and 'role' in node]
