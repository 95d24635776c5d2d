#!/usr/bin/env python3
"""llama.cpp and apr-qa-runner say the same: ids of hard strings, and 32 greedy tokens on the four prompts.

  python oracle/interop/llama_cpp.py target/release/apr-qa-runner LLAMA_SERVER FILE.gguf [--model OTHER]

LLAMA_SERVER is llama.cpp's `llama-server`; it is started on a loopback port with a float32 cache and stopped again.
--model has apr-qa-runner use another artifact of the same model (the HF folder, the APR file) than llama.cpp does.
llama.cpp multiplies with 8-bit activations, so where the two best logits are close its choice may differ: --at-most
says how many of 32 tokens may.
"""

import argparse
import json
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request

from checks import HARD, Table, end, first_difference, prompts, runner


class Server:
    """llama-server while the `with` block lasts."""

    def __init__(self, program, model, threads):
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.port = s.getsockname()[1]
        self.command = [program, "-m", model, "--host", "127.0.0.1", "--port", str(self.port), "-t", str(threads), "-c", "1024", "-np", "1", "-ctk", "f32", "-ctv", "f32", "-fa", "off", "--no-warmup"]

    def __enter__(self):
        self.log = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(self.command, stdout=self.log, stderr=self.log)
        for _ in range(600):
            if self.process.poll() is not None:
                break
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=2) as answer:
                    if answer.status == 200:
                        return self
            except (urllib.error.URLError, OSError):
                pass
            time.sleep(0.2)
        self.__exit__()
        self.log.seek(0)
        raise RuntimeError("llama-server does not load the file:\n" + "\n".join(self.log.read().splitlines()[-12:]))

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()

    def ask(self, path, body):
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", json.dumps(body).encode(), {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=600) as answer:
            return json.load(answer)


def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("runner", help="the apr-qa-runner program")
    args.add_argument("server", help="the llama-server program")
    args.add_argument("file", help="the GGUF for llama.cpp")
    args.add_argument("--model", help="what apr-qa-runner loads (default: the same file)")
    args.add_argument("--at-most", type=int, default=0, metavar="N", help="tokens of 32 that may differ (default: 0)")
    args.add_argument("--threads", type=int, default=2)
    args.add_argument("--only-tokenize", action="store_true", help="compare ids, generate nothing")
    a = args.parse_args()
    model = a.model or a.file
    table = Table()
    with Server(a.server, a.file, a.threads) as server:
        for text in HARD + list(prompts().values()):
            theirs = server.ask("/tokenize", {"content": text, "add_special": True, "parse_special": True})["tokens"]
            ours = runner(a.runner, "tokenize", model, f"--text={text}")["ids"]
            difference = first_difference(ours, theirs)
            table.add(f"ids of {text[:24]!r}", not difference, difference)
        for name, prompt in {} if a.only_tokenize else prompts().items():
            answer = server.ask("/completion", {"prompt": prompt, "n_predict": 32, "temperature": 0, "top_k": 1, "cache_prompt": False, "return_tokens": True, "repeat_penalty": 1})
            theirs, ours = answer["tokens"], runner(a.runner, "generate", model, f"--prompt={prompt}", "-n", "32")["tokens"]
            if len(ours) == len(theirs) + 1 and answer.get("stop_type") == "eos":
                ours = ours[:-1]  # llama.cpp does not report the end token, we do
            off = sum(x != y for x, y in zip(ours, theirs)) + abs(len(ours) - len(theirs))
            table.add(f"greedy {name}", off <= a.at_most and len(theirs) > 0 or ours == theirs, f"{len(theirs)} tokens, {off} differ; {first_difference(ours, theirs)}")
    return table.finish()


if __name__ == "__main__":
    end(main)
