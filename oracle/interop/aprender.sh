#!/bin/sh
# The `apr` command (crate apr-cli) loads what `convert --dialect aprender` writes: `apr check` passes, `apr run` answers.
#
#   oracle/interop/aprender.sh RUNNER APR MODEL [int8|int4] [ORACLE_DIR]
#
# RUNNER is apr-qa-runner, APR is aprender's command, MODEL an HF folder, a GGUF or an APR file. With ORACLE_DIR
# (oracle/<slug>) the text of `apr run` is compared with the recorded one; it counts, but as a note: an engine of its
# own may choose another token where two are close.
set -u
[ $# -ge 3 ] || { sed -n '2,8s/^# \{0,1\}//p' "$0"; exit 2; }
runner=$1 apr=$2 model=$3 encoding=${4:-int8} oracle=${5:-}
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
failed=0
row() { printf '%-28s  %-4s  %s\n' "$1" "$2" "$3"; [ "$2" = FAIL ] && failed=$((failed + 1)); return 0; }

if "$runner" convert "$model" "$work/model.apr" --quantize "$encoding" --dialect aprender >"$work/out" 2>&1; then
    row convert ok "$encoding"
else
    row convert FAIL "$(tail -n 1 "$work/out")"
    exit 1
fi
# In JSON mode `apr check` exits 0 whatever it found, so its own count is read.
"$apr" check "$work/model.apr" --no-gpu --json >"$work/check.json" 2>"$work/err"
verdict=$(python3 - "$work/check.json" <<'PY'
import json, sys
try:
    report = json.load(open(sys.argv[1]))
except ValueError as e:
    print(f"FAIL no JSON: {e}")
    sys.exit()
bad = [f"{s['name']}: {s.get('details', '')}" for s in report.get("stages", []) if str(s.get("status", "")).upper() != "PASS"]
print("ok" if report.get("all_passed") else "FAIL", f"{report.get('passed')} of {report.get('total')} stages", "; ".join(bad[:3]))
PY
)
row "apr check" "${verdict%% *}" "${verdict#* }"
for file in "$here"/../prompts/*.txt; do
    name=$(basename "$file" .txt)
    if "$apr" run "$work/model.apr" -p "$(cat "$file")" -n 32 --no-gpu --json >"$work/run.json" 2>"$work/err"; then
        verdict=$(python3 - "$work/run.json" "${oracle:+$oracle/$name.json}" <<'PY'
import json, sys
text = open(sys.argv[1], encoding="utf-8").read()
try:
    text = json.loads(text[text.index("{"):]).get("text") or ""
except ValueError:
    text = ""
note = ""
if sys.argv[2]:
    want = json.load(open(sys.argv[2], encoding="utf-8"))["text"]
    note = "as recorded" if text.strip() == want.strip() else "not as recorded"
print("ok" if text.strip() else "FAIL", repr(text[:60]), note)
PY
)
        row "apr run $name" "${verdict%% *}" "${verdict#* }"
    else
        row "apr run $name" FAIL "exit $?: $(tail -n 1 "$work/err")"
    fi
done
[ "$failed" -eq 0 ]
