"""The packages that most programs use, against the program with the pocket model and Qwen3.5's markup."""
import subprocess
import sys
import tempfile

from serve import anthropic_client, langchain_client, litellm_client, openai_client, openai_responses
from serve.running import Running, done


def run(tqkv, model, long):
    del long
    server_tests = model.parent.parent / 'tests/server'
    subprocess.run([sys.executable, server_tests / 'clients-test', server_tests / 'streams'], check=True)
    with tempfile.NamedTemporaryFile('w') as key_file:
        key_file.write('secret-1\n')
        key_file.flush()
        with Running(tqkv, model, '--markup', 'qwen3.5', '--name', 'org/pocket', '--context-per-request', 4096,
                     '--api-key', key_file.name) as server:
            for client in (openai_client, openai_responses, anthropic_client, langchain_client, litellm_client):
                client.check(server.address, 'secret-1')
    done('clients')
