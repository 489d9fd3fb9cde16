"""A server with the protocol of tqkv whose answers are scripted. The question says what comes:

  words N        N words, one an event, `pause` seconds apart
  think N        N words of thinking, then an answer
  markdown       the text Server.markdown, in pieces
  queue          places in a queue and the progress of the prompt, each until Server.step() is called
  hold           a few words, then comments only, until Server.step() is called
  silent         a few words, then nothing at all, until Server.step() is called
  error          an error in place of an answer;  late error: one in the stream
  die            a few words, then the connection breaks
  long           an answer that ends at its most tokens
  tool           a call of a tool
Everything else is answered with "You said: …". A conversation that ends in an answer is gone on with.
"""
import base64, gzip, hashlib, http.server, json, re, threading, time

PREFIX = '/prefix/'


def policy(html):
    def source(tag):
        text = re.search(f'<{tag}>(.*?)</{tag}>', html, re.S).group(1)
        return "'sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() + "'"
    return (f"default-src 'none'; connect-src 'self'; img-src 'self' data:; style-src {source('style')}; "
            f"script-src {source('script')}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'

    def log_message(self, *_):
        pass

    def whole(self, status, body, kind='application/json', **headers):
        body = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {'Content-Type': kind, 'Content-Length': len(body), 'Cache-Control': 'no-store', **headers}.items():
            self.send_header(name.replace('_', '-'), str(value))
        self.end_headers()
        self.wfile.write(body)

    def error(self, status, message, code=None):
        self.whole(status, {'error': {'message': message, 'type': 'invalid_request_error', 'param': None, 'code': code}})

    def do_GET(self):
        owner = self.server.owner
        owner.paths.append(self.path)
        path = self.path[len(PREFIX):] if self.path.startswith(PREFIX) else None
        if owner.bad_gateway:
            self.whole(502, b'<h1>Bad gateway</h1>', 'text/html')
        elif path == '':
            self.whole(200, gzip.compress(owner.html.encode()), 'text/html; charset=utf-8', Content_Encoding='gzip',
                       Content_Security_Policy=policy(owner.html))
        elif path == 'health':
            self.whole(503 if owner.loading else 200, {'status': 'loading' if owner.loading else 'ok'})
        elif not self.may():
            self.error(401, 'The key is wrong.', 'invalid_api_key')
        elif path == 'v1/models':
            self.whole(200, {'object': 'list', 'data': [
                {'id': name, 'object': 'model', 'created': 1, 'owned_by': 'tqkv', 'max_model_len': 8192,
                 'tqkv': {'context': 8192, 'cache': 'turboquant:key=3.5:value=3'}} for name in ('qwen3.5-35b', 'pocket')]})
        elif path == 'plan':
            self.whole(200, owner.plan)
        else:
            self.error(404, 'There is no such path.')

    def may(self):
        key = self.server.owner.key
        return not key or self.headers.get('Authorization') == f'Bearer {key}'

    def do_POST(self):
        owner = self.server.owner
        owner.paths.append(self.path)
        body = self.rfile.read(int(self.headers.get('Content-Length', 0)))
        path = self.path[len(PREFIX):] if self.path.startswith(PREFIX) else None
        if owner.bad_gateway:
            self.whole(502, b'<h1>Bad gateway</h1>', 'text/html')
        elif not self.may():
            self.error(401, 'The key is wrong.', 'invalid_api_key')
        elif path == 'tokenize':
            self.whole(200, {'tokens': list(range(len(json.loads(body)['content'].split())))})
        elif path == 'v1/chat/completions':
            request = json.loads(body)
            owner.requests.append(request)
            owner.bodies.append(body.decode())
            self.answer(request)
        else:
            self.error(404, 'There is no such path.')

    # ---- Streams
    def raw(self, text):
        data = text.encode()
        self.wfile.write(f'{len(data):x}\r\n'.encode() + data + b'\r\n')
        self.wfile.flush()

    def event(self, data):
        self.raw('data: ' + (data if isinstance(data, str) else json.dumps({'id': 'chatcmpl-1', 'object': 'chat.completion.chunk', 'created': 1,
                                                                           'model': 'qwen3.5-35b', **data})) + '\n\n')

    def delta(self, reason=None, **delta):
        self.count += 1
        self.event({'choices': [{'index': 0, 'delta': delta, 'logprobs': None, 'finish_reason': reason}]})

    def words(self, count, kind='content', first=0):
        for i in range(first, first + count):
            self.delta(**{kind: ('Word ' if i == 0 else f'word{i}. ' if i % 5 == 4 else f'word{i} ')})
            time.sleep(self.server.owner.pause)

    def wait(self, comment=None):
        """Until the test says so, or the client is gone."""
        owner = self.server.owner
        while not owner.steps.acquire(timeout=0.2):
            if comment is not None:
                self.raw(f':{comment}\n\n')
            if owner.ended:
                raise ConnectionError

    def answer(self, request):
        owner = self.server.owner
        self.count = 0
        last = request['messages'][-1]
        question = next(m['content'] for m in reversed(request['messages']) if m['role'] == 'user')
        if question == 'error':
            return self.error(400, 'The prompt has 9000 tokens, and the context has 8192.', 'context_length_exceeded')
        self.send_response(200)
        for name, value in {'Content-Type': 'text/event-stream', 'Cache-Control': 'no-store', 'Transfer-Encoding': 'chunked'}.items():
            self.send_header(name, value)
        self.end_headers()
        try:
            reason = self.script(request, last, question)
            if reason is None:
                return
            self.delta(reason)
            self.event({'choices': [], 'usage': {
                'prompt_tokens': 1240, 'completion_tokens': self.count, 'total_tokens': 1240 + self.count,
                'prompt_tokens_details': {'cached_tokens': 1180}, 'completion_tokens_details': {'reasoning_tokens': 0}},
                'tqkv': {'cache': 'turboquant:key=3.5:value=3', 'seed': 18446744073709551557, 'prompt_tps': 310.4,
                         'generation_tps': 42.6, 'queue_s': 0.1, 'reuse': {'from': 1180, 'parted_at': 1204}}})
            self.event('[DONE]')
            self.wfile.write(b'0\r\n\r\n')
        except OSError:
            owner.gone += 1
            self.close_connection = True

    def script(self, request, last, question):
        owner = self.server.owner
        self.delta(role='assistant', content='')
        word = question.split()
        if request.get('continue_final_message'):
            self.delta(content=' and this goes on.')
            return 'stop'
        if word[0] == 'words':
            self.words(int(word[1]))
        elif word[0] == 'think':
            self.words(int(word[1]), 'reasoning_content')
            self.delta(content='So this is **the answer**.')
        elif question == 'markdown':
            text = owner.markdown
            for i in range(0, len(text), 7):
                self.delta(content=text[i:i + 7])
        elif question == 'queue':
            for comment in ('queue 3', 'queue 1', 'prompt 512/2048', 'prompt 2048/2048'):
                self.raw(f': {comment}\n\n')
                self.wait('')
            self.words(3)
        elif question in ('hold', 'silent'):
            self.words(5)
            self.wait('' if question == 'hold' else None)
            self.words(5, first=5)
        elif question == 'late error':
            self.words(3)
            self.event(json.dumps({'error': {'message': 'The memory ran out.', 'type': 'server_error', 'param': None, 'code': None}}))
            self.wfile.write(b'0\r\n\r\n')
            return None
        elif question == 'die':
            self.words(5)
            self.close_connection = True
            self.connection.close()
            return None
        elif question == 'long':
            self.words(4)
            return 'length'
        elif question == 'tool':
            self.delta(tool_calls=[{'index': 0, 'id': 'call_a1', 'type': 'function', 'function': {'name': 'get_weather', 'arguments': ''}}])
            for piece in ('{"city": "Pa', 'ris"}'):
                self.delta(tool_calls=[{'index': 0, 'function': {'arguments': piece}}])
            return 'tool_calls'
        else:
            self.delta(content=f'You said: {question}')
        return 'stop'


class Http(http.server.ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, *given):
        self.open = set()
        super().__init__(*given)

    def get_request(self):
        connection, address = super().get_request()
        self.open.add(connection)
        return connection, address

    def shutdown_request(self, request):
        self.open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, *_):
        pass  # clients leave


class Server:
    def __init__(self, html):
        self.html, self.markdown, self.pause = html, '', 0.002
        self.paths, self.requests, self.bodies, self.gone = [], [], [], 0
        self.loading, self.bad_gateway, self.key, self.port = False, False, '', 0
        self.plan = {'limit': 32_000_000_000, 'planned': 24_500_000_000, 'used': 21_200_000_000, 'kinds': [
            {'kind': 'weights', 'planned': 19_500_000_000, 'used': 19_500_000_000},
            {'kind': 'keys and values', 'planned': 2_600_000_000, 'used': 900_000_000},
            {'kind': 'state', 'planned': 520_000_000, 'used': 130_000_000},
            {'kind': 'snapshots', 'planned': 1_400_000_000, 'used': 300_000_000},
            {'kind': 'working memory', 'planned': 480_000_000, 'used': 370_000_000}]}
        self.start()

    def start(self):
        self.ended, self.steps = False, threading.Semaphore(0)
        self.http = Http(('127.0.0.1', self.port), Handler)
        self.http.owner = self
        self.port = self.http.server_address[1]
        self.thread = threading.Thread(target=self.http.serve_forever, args=(0.05,), daemon=True)
        self.thread.start()

    def step(self):
        self.steps.release()

    def kill(self):
        """As a process that ends: the port is closed, and so is every connection."""
        self.ended = True
        self.http.shutdown()
        self.http.server_close()
        for connection in list(self.http.open):
            try:
                connection.shutdown(2)
            except OSError:
                pass

    @property
    def address(self):
        return f'http://127.0.0.1:{self.port}{PREFIX}'


if __name__ == '__main__':
    import pathlib
    import sys
    server = Server(pathlib.Path(sys.argv[1]).read_text())
    server.pause = 0.03
    print(server.address)
    while True:
        time.sleep(1)
