"""The program itself: wrong options, what it finds on disk, signals, and bytes that are no request."""
import http.client
import os
import pathlib
import re
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
import time

from serve.running import Running, done, same, true

question = {'messages': [{'role': 'user', 'content': 'Hi, what can you help me with?'}], 'max_tokens': 20, 'temperature': 0}
chat = '/v1/chat/completions'


def ends(tqkv, arguments, code, *parts):
    """`tqkv serve ARGUMENTS` ends by itself with `code` and one line of error that has `parts`."""
    told = subprocess.run([str(tqkv), 'serve', *map(str, arguments)], capture_output=True, text=True, timeout=60)
    lines = [line for line in told.stderr.splitlines() if line.startswith('tqkv: ')]
    what = f'serve {arguments}: {told.stderr!r}'
    same((told.returncode, told.stdout), (code, ''), what)
    true(lines and not any('serves' in line for line in lines), what)
    for part in parts:
        true(part in lines[-1], f'{what}: no {part!r} in the last line')


def check_refusals(tqkv, model, folder):
    port = ['--port', '0']
    with socket.create_server(('127.0.0.1', 0)) as taken:
        number = taken.getsockname()[1]
        ends(tqkv, [model, '--port', number], 1, str(number), 'another program listens there')
    ends(tqkv, [model, *port, '--host', '0.0.0.0'], 2, '--host', '--api-key', '--insecure')
    ends(tqkv, [model, *port, '--host', 'no.such.host.invalid', '--insecure'], 1, 'no.such.host.invalid')
    ends(tqkv, [model, *port, '--host', '203.0.113.7', '--insecure'], 1, '203.0.113.7')
    empty = folder / 'empty'
    empty.write_text('\n')
    ends(tqkv, [model, *port, '--api-key', empty], 1, str(empty), 'no key')
    empty.write_text('one\ntwo\n')
    ends(tqkv, [model, *port, '--api-key', empty], 1, 'one line')
    ends(tqkv, [model, *port, '--api-key', folder / 'nothing'], 1, 'nothing')
    ends(tqkv, [folder, *port], 1, 'config.json')
    ends(tqkv, [folder / 'nothing', *port], 1, 'nothing')
    ends(tqkv, [model, *port, '--prefix-cache', '1000000GB'], 1, '--prefix-cache')
    ends(tqkv, [model, *port, '--prefix-cache', 'much'], 2, '--prefix-cache')
    ends(tqkv, [model, *port, '--context-per-request', 1_000_000], 2, '1000000', '32768')
    ends(tqkv, [model, *port, '--context-per-request', 15], 2, '--context-per-request')
    ends(tqkv, [model, *port, '--context', 4096], 2, '--context')
    ends(tqkv, [model, *port, '--markup', 'latin'], 2, 'latin')
    ends(tqkv, [model, *port, '--parallel', 0], 2, '--parallel')
    ends(tqkv, [model, '--port', 70000], 2, '--port')
    ends(tqkv, [model, *port, '--no-such'], 2, '--no-such')
    ends(tqkv, [], 2, 'MODEL')
    occupied = folder / 'file'
    occupied.write_text('mine')
    ends(tqkv, [model, *port, '--prefix-save', occupied], 1, str(occupied))
    ends(tqkv, [model, '--unix', occupied], 1, str(occupied))
    same(occupied.read_text(), 'mine', 'a file that is no socket')


def check_signals(tqkv, model):
    for number in (signal.SIGTERM, signal.SIGINT):
        with Running(tqkv, model) as server:
            stream = server.open_stream(chat, {**question, 'max_tokens': 150, 'ignore_eos': True})
            stream.readline()
            server.process.send_signal(number)
            text = stream.read().decode()
            true(text.endswith('data: [DONE]\n\n') and '"finish_reason":"length"' in text, 'a stream ends whole: ' + text[-300:])
            same(server.process.wait(20), 0, 'exit code')
            true('ending' in server.log(), server.log())
    with Running(tqkv, model) as server:
        stream = server.open_stream(chat, {**question, 'max_tokens': 30000, 'ignore_eos': True})
        stream.readline()
        server.process.send_signal(signal.SIGTERM)
        server.waits_for(lambda: 'ending' in server.log(), 'the first signal')
        true(server.process.poll() is None, 'a stream is not cut by the first signal')
        server.process.send_signal(signal.SIGTERM)
        begin = time.monotonic()
        code = server.process.wait(10)
        true(code in (-signal.SIGTERM, 128 + signal.SIGTERM), f'exit code of the second signal: {code}')
        true(time.monotonic() - begin < 3, 'the second signal ends it at once')
    with Running(tqkv, model, '--drain', 0) as server:
        stream = server.open_stream(chat, {**question, 'max_tokens': 30000, 'ignore_eos': True})
        stream.readline()
        same(server.stop(seconds=10), 0, 'exit code where answers are cut')
    with Running(tqkv, model) as server:
        same(server.stop(), 0, 'exit code of an idle server')


def check_saved(tqkv, model, folder):
    saved = folder / 'saved'
    with Running(tqkv, model, '--prefix-save', saved) as server:
        first = server.ask(chat, question)[1]
        same(server.stop(), 0, 'exit code')
    files = sorted(saved.iterdir())
    true(files and all(path.suffix == '.prefix' for path in files), f'{files}')
    # Damaged in the middle, cut, empty, foreign, a folder with such a name: named, left, and never trusted.
    damaged = bytearray(files[0].read_bytes())
    damaged[len(damaged) // 2] ^= 255
    strange = {files[0].name: bytes(damaged), 'question-0000000000000001.prefix': bytes(damaged[:1000]),
               'system-0000000000000002.prefix': b'', 'answer-0000000000000003.prefix': b'tqkv' * 9999}
    for name, content in strange.items():
        (saved / name).write_bytes(content)
    (saved / 'answer-0000000000000004.prefix').mkdir()
    (saved / 'notes.txt').write_text('mine')
    with Running(tqkv, model, '--prefix-save', saved) as server:
        for name in [*strange, 'answer-0000000000000004.prefix']:
            true(re.search(re.escape(name) + ' is left alone: .', server.log()), f'{name}: {server.log()}')
        same(server.ask(chat, {**question, 'tqkv': {'exact': True}})[1]['choices'], first['choices'], 'an answer beside damaged files')
        same(server.stop(), 0, 'exit code')
    for name, content in list(strange.items())[1:]:
        same((saved / name).read_bytes(), content, 'a file that is left alone')
    true((saved / 'answer-0000000000000004.prefix').is_dir() and (saved / 'notes.txt').read_text() == 'mine', 'other things')
    with Running(tqkv, model, '--prefix-save', saved, '--backend', 'baseline') as server:  # those of another format
        same(server.ask(chat, question)[0], 200, 'an answer beside files of another format')
        same(server.stop(), 0, 'exit code')


def check_full_disk(tqkv, model, folder):
    small = folder / 'small'
    small.mkdir()
    if os.geteuid() != 0 or subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=64k', 'tmpfs', str(small)],
                                           capture_output=True).returncode != 0:
        return print('skipped: a full disk: no file system can be mounted')
    try:
        with Running(tqkv, model, '--prefix-save', small) as server:
            for _ in range(3):
                same(server.ask(chat, question)[0], 200, 'an answer with a full disk')
            server.waits_for(lambda: 'a prefix is not saved' in server.log(), 'a full disk is told of')
            same(server.log().count('a prefix is not saved'), 1, 'it is told once')
            same(server.stop(), 0, 'exit code with a full disk')
        same(list(small.iterdir()), [], 'nothing half is left')
    finally:
        subprocess.run(['umount', str(small)], check=True)


def check_deleted(tqkv, model, folder):
    copy = folder / 'copy'
    shutil.copytree(model, copy)
    with Running(tqkv, copy) as server:
        before = server.ask(chat, {**question, 'max_tokens': 5})[1]['choices']
        shutil.rmtree(copy)
        same(server.ask(chat, {**question, 'max_tokens': 5})[1]['choices'], before, 'an answer of a model that is deleted')
        same(server.stop(), 0, 'exit code')


def check_garbage(tqkv, model):
    long = b'a' * 70_000
    with Running(tqkv, model) as server:
        sent = [b'\0' * 3000, b'GET / HTTP/9.9\r\n\r\n', b'\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03' + b'x' * 500,
                b'POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n',
                b'POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd',
                b'POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n',
                b'GET /' + long + b' HTTP/1.1\r\n\r\n', b'GET / HTTP/1.1\r\nx: ' + long + b'\r\n\r\n',
                b'GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n' * 50, b'\r\n\r\n\r\n', b'']
        for content in sent:
            with socket.create_connection(('127.0.0.1', server.port), timeout=20) as line:
                try:
                    line.sendall(content)
                    line.shutdown(socket.SHUT_WR)
                    answer = b''
                    while more := line.recv(65536):
                        answer += more
                except OSError:
                    continue  # the server has closed while bytes were still coming
                if content.startswith(b'GET /health'):
                    same(answer.count(b'HTTP/1.1 200 '), 50, 'requests behind each other')
                else:
                    true(not answer or re.match(rb'HTTP/1\.1 (4\d\d|50[15]) ', answer), f'{content[:60]}: {answer[:200]}')
        for body in (b'', b'{', b'[]', b'"x"', b'\xff', b'[' * 100_000, b'{"messages":' * 50_000, b'{}'):
            connection = http.client.HTTPConnection('127.0.0.1', server.port, timeout=20)
            connection.request('POST', chat, body, {'Content-Type': 'application/json'})
            answer = connection.getresponse()
            same(answer.status, 400, f'a body {body[:20]}: {answer.read()[:200]}')
            connection.close()
        same(server.ask('/nothing')[0], 404, 'no such path')
        same(server.ask(chat)[0], 405, 'another method')
        same(server.ask(chat, question, {'Content-Type': 'text/plain'})[0], 415, 'another type')
        same(server.ask(chat, question, {'Origin': 'http://evil.example'})[0], 403, 'a page of another site')
        same(server.ask(chat, question, {'Host': 'evil.example'})[0], 403, 'another name of this machine')
        same(server.ask(chat, question)[0], 200, 'a request after all that')
        same(server.stop(), 0, 'exit code')


def check_short(tqkv, model):
    """A context that is shorter than a piece of a prompt."""
    with Running(tqkv, model, '--context-per-request', 40) as server:
        status, body = server.ask(chat, {**question, 'max_tokens': 1000})
        # The last token of an answer takes no room.
        same((status, body['choices'][0]['finish_reason'], body['usage']['total_tokens']), (200, 'length', 41), 'a short context')
        status, body = server.ask(chat, {'messages': [{'role': 'user', 'content': 'a b c d e f g h i j k l m n o ' * 4}]})
        same((status, body['error']['code']), (400, 'context_length_exceeded'), 'too long for a short context')


def check_queue(tqkv, model):
    with Running(tqkv, model, '--parallel', 1, '--queue', 0) as server:
        stream = server.open_stream(chat, {**question, 'max_tokens': 30000, 'ignore_eos': True})
        stream.readline()
        same([server.ask(chat, {**question, 'stream': stream_too})[0] for stream_too in (False, True)], [429, 429], 'a full queue')
        stream.close()
        stream.connection.close()
        server.waits_for(lambda: ' left after ' in server.log(), 'a client that leaves is noticed')
        same(server.ask(chat, question)[0], 200, 'its place is free')
        true('refused with 429' in server.log(), server.log())


def check_places(tqkv, model, folder):
    """A unix socket that only its owner can use; and the key."""
    path = folder / 'socket'
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen([str(tqkv), 'serve', str(model), '--unix', str(path)], stdout=subprocess.PIPE, stderr=errors, text=True)
        try:
            true(str(path) in process.stdout.readline(), 'it says where it listens')
            same(stat.S_IMODE(path.stat().st_mode) & 0o077, 0, 'others cannot use the socket')
            with socket.socket(socket.AF_UNIX) as line:
                line.connect(str(path))
                line.sendall(b'GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n')
                true(line.recv(4096).startswith(b'HTTP/1.1 200 '), 'health by the socket')
            process.terminate()
            same(process.wait(20), 0, 'exit code')
            true(not path.exists(), 'the socket goes with the program')
        finally:
            process.kill()
            process.wait()
            process.stdout.close()
    key = folder / 'key'
    key.write_text('secret-1\n')
    with Running(tqkv, model, '--api-key', key) as server:
        same([server.ask(path)[0] for path in ('/health', '/', '/v1/models', '/plan', '/metrics')], [200, 200, 401, 401, 401], 'no key')
        same(server.ask('/v1/models', headers={'Authorization': 'Bearer secret-1'})[0], 200, 'the key')
        true('secret-1' not in server.log() and 'secret' not in str(server.ask('/v1/models')), 'the key is told to nobody')


def run(tqkv, model, long):
    del long
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        check_refusals(tqkv, model, folder)
        check_signals(tqkv, model)
        check_saved(tqkv, model, folder)
        check_full_disk(tqkv, model, folder)
        check_deleted(tqkv, model, folder)
        check_garbage(tqkv, model)
        check_short(tqkv, model)
        check_queue(tqkv, model)
        check_places(tqkv, model, folder)
    done('program')
