"""What the checks share: run apr-qa-runner, collect rows, print them as a table, exit 1 if one is bad."""

import json
import os
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
# Strings on which tokenizers part ways. Lines that begin with special tokens are the matter of their own unit tests.
HARD = [
    "Hello, world!", " leading", "trailing ", "two  blanks   three", "\ttab\t\ttabs", "line\nbreak\n\nbreaks\r\nend\n", "    indented\n        more",
    "1234567890 3.14 1,000,000 2024-02-29", "it's we're I'LL they'd can't", "naïve café “quoted” – dash…", "ÀÉÎÕÜ ßẞ ſ", "日本語のテキスト。你好，世界", "안녕하세요",
    "Привет, мир", "مرحبا بالعالم", "שלום עולם", "🙂👍🏽👨‍👩‍👧 flags 🇫🇷", "def f(x):\n    return x**2  # ok\n", "a=b!=c<=d->e::f", "<tag attr=\"v\">&amp;</tag>",
    "x² + y³ = ∑ ½", "\u00a0no-break\u3000wide", "snake_case camelCase SCREAMING_CASE", "https://example.org/a?b=c&d=%20#e", "----====....####", "\u200bzero\u200dwidth", "((([[[{{{}}}]]])))",
]

# Qwen's tokenizer.json composes these first (NFC); llama.cpp does not, so its ids differ from transformers'.
DECOMPOSED = ["e\u0301 o\u0308", "\u1112\u1161\u11ab"]


def prompts():
    """The four prompts of the oracle, by name."""
    folder = os.path.join(HERE, "..", "prompts")
    found = {}
    for name in sorted(os.listdir(folder)):
        with open(os.path.join(folder, name), encoding="utf-8") as f:
            found[name.removesuffix(".txt")] = f.read().strip()
    return found


def runner(binary, *arguments):
    """The JSON that a subcommand prints."""
    done = subprocess.run([binary, *arguments, "--json"], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join([os.path.basename(binary), *arguments[:2]])} exits {done.returncode}: {done.stderr.strip()}")
    return json.loads(done.stdout)


class Table:
    """Rows of (what, verdict, detail)."""

    def __init__(self, quiet_passes=False):
        self.rows, self.quiet_passes = [], quiet_passes

    def add(self, what, good, detail=""):
        self.rows.append((what, good, detail))

    def finish(self):
        """Print, and give the exit code. No row at all is a failure: nothing was measured."""
        bad = [row for row in self.rows if not row[1]]
        width = max([len(row[0]) for row in self.rows], default=0)
        for what, good, detail in self.rows:
            if not (good and self.quiet_passes):
                print(f"{what:<{width}}  {'ok  ' if good else 'FAIL'}  {detail}".rstrip())
        print(f"{len(self.rows)} checked, {len(bad)} failed")
        return 1 if bad or not self.rows else 0


def first_difference(ours, theirs):
    """In words, or an empty string."""
    if ours == theirs:
        return ""
    at = next((i for i, (a, b) in enumerate(zip(ours, theirs)) if a != b), min(len(ours), len(theirs)))
    return f"differ at {at}: ours {ours[at:at + 4]}, theirs {theirs[at:at + 4]} (lengths {len(ours)}, {len(theirs)})"


def end(main):
    """Run a check and leave with its exit code; what keeps it from measuring is one line, and a failure."""
    try:
        sys.exit(main())
    except (RuntimeError, OSError, ValueError) as e:
        sys.exit(f"error: {e}")
