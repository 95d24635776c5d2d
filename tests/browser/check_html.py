#!/usr/bin/env python3
"""Opens HTML reports in a real browser and looks at them as a reviewer would.

    tests/browser/check_html.py [--pictures DIR] REPORT.html...

Each report is opened by headless Chromium in five views: light, dark, a narrow window, paper, and without scripts.
In each: no message on the console and no request for anything but the file itself; verdict and every failed case in
sight; nothing wider than the window; no text over other text inside a drawing; text in at least the contrast that
WCAG AA asks for. Paper also gives a PDF. What failed is in the `report.json` that lies beside each report. A page
that breaks each of these rules is opened first: a check that does not notice it proves nothing.

Needs Debian's `chromium` (`apt-get install --no-install-recommends chromium`; CHROMIUM names another) and nothing
beyond the standard library: it speaks to the browser through a pipe.
"""

import argparse
import base64
import json
import os
import pathlib
import select
import shutil
import subprocess
import sys
import tempfile
import time

PATIENCE = 60  # seconds for any one answer of the browser

VIEWS = {
    "light": dict(width=1280, height=800, media="screen", scheme="light"),
    "dark": dict(width=1280, height=800, media="screen", scheme="dark"),
    "narrow": dict(width=360, height=740, media="screen", scheme="light"),
    "print": dict(width=718, height=1000, media="print", scheme="dark"),
    "noscript": dict(width=1280, height=800, media="screen", scheme="light", scripts=False),
}

# What is wrong with the page as it is laid out, as a list of sentences.
LOOK = r"""
(() => {
  const wrong = [];
  const root = document.documentElement;
  if (root.scrollWidth > root.clientWidth + 1) {
    const wide = [...document.querySelectorAll('body *')].filter(e => !e.closest('.scroll, .unseen, thead') &&
      e.getBoundingClientRect().right > root.clientWidth + 1).slice(-3).map(e => e.outerHTML.slice(0, 120));
    wrong.push(`wider than the window: ${root.scrollWidth} > ${root.clientWidth}: ${wide.join(' | ')}`);
  }
  const seen = e => e.checkVisibility({ contentVisibilityAuto: true, opacityProperty: true,
    visibilityProperty: true }) && !e.closest('.unseen');
  for (const svg of document.querySelectorAll('svg')) {
    if (!seen(svg)) continue;
    const frame = svg.getBoundingClientRect();
    const texts = [...svg.querySelectorAll('text')].map(t => [t.textContent, t.getBoundingClientRect()]);
    texts.forEach(([text, a], n) => {
      if (a.left < frame.left - 2 || a.right > frame.right + 2)
        wrong.push(`text leaves its drawing: ${text}`);
      for (const [other, b] of texts.slice(n + 1)) {
        const across = Math.min(a.right, b.right) - Math.max(a.left, b.left);
        const down = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
        if (across > 1 && down > 3) wrong.push(`text over text: ${text} / ${other}`);
      }
    });
  }
  const rgba = c => { const m = c.match(/[\d.]+/g).map(Number); return [m[0], m[1], m[2], m.length > 3 ? m[3] : 1]; };
  const light = c => { const f = v => { v /= 255; return v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; };
    return 0.2126 * f(c[0]) + 0.7152 * f(c[1]) + 0.0722 * f(c[2]); };
  const behind = e => { for (; e; e = e.parentElement) { const c = rgba(getComputedStyle(e).backgroundColor);
    if (c[3] > 0.99) return c; } return [255, 255, 255, 1]; };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const pale = new Set();
  let words = 0;
  while (walker.nextNode()) {
    const e = walker.currentNode.parentElement;
    if (!walker.currentNode.textContent.trim() || !seen(e) || e.closest('title, desc')) continue;
    words++;
    const style = getComputedStyle(e);
    const ink = rgba(e.namespaceURI.endsWith('svg') ? style.fill : style.color);
    const [a, b] = [light(ink), light(behind(e))].sort((x, y) => y - x);
    const size = parseFloat(style.fontSize);
    const needed = size >= 24 || (size >= 18.66 && style.fontWeight >= 700) ? 3 : 4.5;
    const contrast = (a + 0.05) / (b + 0.05);
    if (contrast < needed) pale.add(`${e.tagName}.${e.className.baseVal ?? e.className}: ${contrast.toFixed(2)}`);
  }
  for (const p of pale) wrong.push(`too little contrast: ${p}`);
  if (words < 10) wrong.push(`only ${words} pieces of text in sight`);
  return wrong;
})()
"""

TEXT = "document.body.innerText"
UNFOLDED = """[...document.querySelectorAll('details')].every(d => [...d.children].every(c => c.checkVisibility(
  { contentVisibilityAuto: true })))"""

# Breaks every rule: asks for things, runs and fails a script, is too wide, too pale, and writes over itself.
BAD = """<!DOCTYPE html><html><head><title>bad</title>{policy}
<script>console.error("said"); throw new Error("thrown")</script></head>
<body style="background:#fff"><p style="color:#bbb">pale</p><div style="width:5000px">wide</div>
<img src="http://127.0.0.1:9/x.png"><svg width="90" height="20"><text x="0" y="12">over</text>
<text x="1" y="12">over</text></svg></body></html>"""
POLICY = """<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">"""


class Browser:
    """Headless Chromium, spoken to in its DevTools protocol through a pipe: JSON, each message ended by a zero."""

    def __init__(self, program, home):
        to_read, self.write_to = os.pipe()
        self.read_from, to_write = os.pipe()

        def pipes():
            # The protocol asks for descriptors 3 and 4; moved up first, lest one stand in the other's place.
            high = [os.dup2(fd, 200 + n) for n, fd in enumerate((to_read, to_write))]
            os.dup2(high[0], 3)
            os.dup2(high[1], 4)

        command = [program, "--headless", "--remote-debugging-pipe", "--no-sandbox", "--disable-gpu",
                   "--disable-dev-shm-usage", "--no-first-run", "--hide-scrollbars", f"--user-data-dir={home}",
                   "about:blank"]
        self.log = open(pathlib.Path(home) / "stderr.txt", "w+b")
        self.process = subprocess.Popen(command, preexec_fn=pipes, close_fds=False, stdin=subprocess.DEVNULL,
                                        stdout=subprocess.DEVNULL, stderr=self.log)
        os.close(to_read)
        os.close(to_write)
        self.buffer, self.messages, self.count = b"", [], 0

    def close(self):
        try:
            self.call("Browser.close")
        except (OSError, RuntimeError):
            pass
        try:
            self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()

    def read(self):
        deadline = time.monotonic() + PATIENCE
        while b"\0" not in self.buffer:
            ready, _, _ = select.select([self.read_from], [], [], max(0, deadline - time.monotonic()))
            piece = os.read(self.read_from, 1 << 20) if ready else b""
            if not piece:
                self.log.seek(0)
                said = self.log.read().decode(errors="replace")[-2000:]
                raise RuntimeError(f"the browser {'said nothing' if not ready else 'went away'}: {said}")
            self.buffer += piece
        line, self.buffer = self.buffer.split(b"\0", 1)
        return json.loads(line)

    def call(self, method, session=None, **params):
        self.count += 1
        message = {"id": self.count, "method": method, "params": params}
        if session:
            message["sessionId"] = session
        os.write(self.write_to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self.read()
            if answer.get("id") == self.count:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer["result"]
            self.messages.append(answer)

    def wait_for(self, method, session):
        while True:
            for n, message in enumerate(self.messages):
                if message.get("method") == method and message.get("sessionId") == session:
                    return self.messages.pop(n)
            self.messages.append(self.read())


def visit(browser, url, view, picture=None):
    """Opens `url` in one view. Returns what is wrong, the text in sight, and whether everything is unfolded."""
    browser.messages.clear()
    target = browser.call("Target.createTarget", url="about:blank")["targetId"]
    session = browser.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]

    def call(method, **params):
        return browser.call(method, session, **params)

    for domain in ("Page", "Runtime", "Log", "Network"):
        call(f"{domain}.enable")
    call("Emulation.setDeviceMetricsOverride", width=view["width"], height=view["height"], deviceScaleFactor=1,
         mobile=False)
    scheme = [{"name": "prefers-color-scheme", "value": view["scheme"]}]
    call("Emulation.setEmulatedMedia", media=view["media"], features=scheme)
    if not view.get("scripts", True):
        call("Emulation.setScriptExecutionDisabled", value=True)
    call("Page.navigate", url=url)
    browser.wait_for("Page.loadEventFired", session)
    time.sleep(0.2)

    def ask(expression):
        answer = call("Runtime.evaluate", expression=expression, returnByValue=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(f"{answer['exceptionDetails']}")
        return answer["result"].get("value")

    wrong = ask(LOOK)
    text = ask(TEXT)
    unfolded = ask(UNFOLDED)
    background = ask("getComputedStyle(document.body).backgroundColor")
    for message in browser.messages:
        if message.get("sessionId") != session:
            continue
        method, params = message["method"], message["params"]
        if method == "Runtime.consoleAPICalled":
            wrong.append(f"console: {[a.get('value') for a in params['args']]}")
        elif method == "Runtime.exceptionThrown":
            wrong.append(f"exception: {params['exceptionDetails'].get('text')}")
        elif method == "Log.entryAdded":
            wrong.append(f"browser log: {params['entry']['text'][:200]}")
        elif method == "Network.requestWillBeSent":
            asked = params["request"]["url"]
            if asked != url and not asked.startswith("data:"):
                wrong.append(f"asks for {asked}")
    if picture:
        picture.parent.mkdir(parents=True, exist_ok=True)
        if view["media"] == "print":
            pdf = call("Page.printToPDF", printBackground=False, preferCSSPageSize=True)
            picture.with_suffix(".pdf").write_bytes(base64.b64decode(pdf["data"]))
        size = call("Page.getLayoutMetrics")["cssContentSize"]
        whole = dict(x=0, y=0, width=view["width"], height=min(size["height"], 12000), scale=1)
        for name, options in (("", {}), ("-whole", dict(clip=whole, captureBeyondViewport=True))):
            shot = call("Page.captureScreenshot", format="png", **options)
            picture.with_name(f"{picture.name}{name}.png").write_bytes(base64.b64decode(shot["data"]))
    browser.call("Target.closeTarget", targetId=target)
    return wrong, text, unfolded, background


def control(browser, folder):
    """The checks must notice a page that breaks every rule, with a policy that refuses and without one."""
    missing = []
    for policy, expected in (("", ["console:", "exception:", "asks for http://127.0.0.1:9"]),
                             (POLICY, ["browser log:"])):
        page = folder / "bad.html"
        page.write_text(BAD.replace("{policy}", policy))
        wrong = visit(browser, page.as_uri(), VIEWS["light"])[0]
        expected = expected + ["wider than the window", "text over text", "too little contrast"]
        missing += [e for e in expected if not any(w.startswith(e) for w in wrong)]
    return [f"the check does not notice: {e}" for e in missing]


def check(browser, report, pictures):
    wrong = []
    record = json.loads(report.with_name("report.json").read_bytes())
    failed = [c for c in record["cases"] if c["verdict"] in ("fail", "error", "inconclusive")]
    verdict = {0: "PASS", 1: "FAIL", 3: "ENVIRONMENT", 4: "ERROR", 5: "INCONCLUSIVE", 6: "NOTHING"}
    needed = [verdict.get(record["exit_code"], "INTERRUPTED"), record["playbook"]]
    needed += [c["id"] for c in failed[:500]]
    backgrounds = {}
    for name, view in VIEWS.items():
        picture = pictures / f"{report.parent.name}-{name}" if pictures else None
        found, text, unfolded, backgrounds[name] = visit(browser, report.as_uri(), view, picture)
        wrong += [f"{name}: {w}" for w in found]
        wrong += [f"{name}: not in sight: {w}" for w in needed if w not in text]
        first = text[:600]
        if needed[0] not in first:
            wrong.append(f"{name}: the verdict is not on the first screen")
        if view["media"] == "print" and not unfolded:
            wrong.append(f"{name}: something stays folded on paper")
    if backgrounds["light"] == backgrounds["dark"]:
        wrong.append("dark is as light")
    if backgrounds["print"] != "rgb(255, 255, 255)":
        wrong.append(f"paper is not white but {backgrounds['print']}")
    return wrong


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=pathlib.Path, help="folder for screenshots and PDFs")
    parser.add_argument("reports", nargs="+", type=pathlib.Path)
    arguments = parser.parse_args()
    names = [os.environ.get("CHROMIUM"), "chromium", "chromium-browser", "google-chrome"]
    program = next((p for p in map(shutil.which, filter(None, names)) if p), None)
    if program is None:
        sys.exit("no chromium: apt-get install --no-install-recommends chromium, or name one with CHROMIUM=")
    failures = 0
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home:
        browser = Browser(program, home)
        try:
            wrong = control(browser, pathlib.Path(home))
            for line in wrong:
                print(line)
            failures += len(wrong)
            for report in arguments.reports:
                wrong = check(browser, report.resolve(), arguments.pictures)
                failures += len(wrong)
                for line in wrong:
                    print(f"{report}: {line}")
                print(f"{report}: {len(VIEWS)} views, {len(wrong)} problems")
        finally:
            browser.close()
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
