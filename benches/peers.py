"""The table of benches/RESULTS.md from the JSON of `apr-qa-runner bench --peer`: peers.py FOLDER

A floor is the smaller of two things: a ratio to the peer, and a share of the machine's limit measured in the same run,
60 % of the read bandwidth in generation, 40 % of the peak of the instruction used in prompts (75 % for F32 and F16).
"""

import datetime
import json
import pathlib
import platform
import subprocess
import sys

# Encodings: floor of the ratio in generation, in prompts.
FLOORS = {
    ("f32", "f16"): (1.2, 1.1),
    ("q8_0",): (1.2, 1.6),
    ("q4_0",): (1.2, 1.5),
    ("q4_1", "q5_0", "q5_1"): (1.3, 2.0),
    ("q4_k_m", "q5_k_m", "q6_k"): (1.3, 1.5),
}


def said(*command):
    done = subprocess.run(command, capture_output=True, text=True)
    return done.stdout.strip() if done.returncode == 0 else "unknown"


def processor():
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def cells(row, what, floor, limit):
    """Ours, the peer's, the ratio, the share of the limit, and whether the floor is held."""
    ours = row[f"{what}_tokens_per_s"]
    theirs = sorted(row["peer"][f"{what}_tokens_per_s"])
    ratio = row["peer"][f"{what}_ratio"]
    share = row["gen_share_of_read" if what == "gen" else "prompt_share_of_peak"]
    held = ratio["median"] >= floor or (share is not None and share >= limit)
    return [
        f"{ours:.1f}",
        f"{theirs[len(theirs) // 2]:.1f}",
        f"{ratio['median']:.2f} ({ratio['min']:.2f} to {ratio['max']:.2f})",
        "" if share is None else f"{100 * share:.0f} %",
        f"{floor} or {100 * limit:.0f} %",
        "yes" if held else "**no**",
    ]


def table(runs, what):
    head = ["model", "encoding", "ours", "peer", "ratio", "share of limit", "floor", "held"]
    lines = ["| " + " | ".join(head) + " |", "|---|---|---:|---:|---:|---:|---|---|"]
    for encodings, (generation, prompt) in FLOORS.items():
        for encoding in encodings:
            plain = encoding in ("f32", "f16")
            floor, limit = (generation, 0.60) if what == "gen" else (prompt, 0.75 if plain else 0.40)
            for name, run in runs.get(encoding, []):
                line = [name, encoding, *cells(run["results"][0], what, floor, limit)]
                lines.append("| " + " | ".join(line) + " |")
    return "\n".join(lines)


def main():
    folder = pathlib.Path(sys.argv[1])
    runs, every = {}, []
    for path in sorted(folder.glob("*.json")):
        name, encoding = path.stem.rsplit(".", 1)
        run = json.loads(path.read_text())
        runs.setdefault(encoding, []).append((name, run))
        every.append(run)
    if not every:
        sys.exit(f"{folder} holds no measurements")
    first = every[0]
    best = {key: max(run["limits"][key] or 0 for run in every) for key in first["limits"]}
    limits = ", ".join(
        f"{what} {best[key] / 1e9:.1f} {unit}"
        for key, what, unit in [
            ("read_bytes_per_s", "read", "GB/s"),
            ("f32_operations_per_s", "f32", "GFLOP/s"),
            ("int8_operations_per_s", "int8", "GOP/s"),
            ("bf16_operations_per_s", "bf16", "GFLOP/s"),
        ]
        if best[key]
    )
    print(f"""# Our speed beside llama.cpp's

Written by `benches/peers.sh`; tokens per second, ours and the peer's in turns on the same file, medians of
{first["repeat"]} pairs, ratios pair by pair as median (least to most).

- Machine: {processor()}, {first["usable_cpus"]} processors, {first["threads"]} threads, {first["instruction_set"]}
- Date: {datetime.date.today()}; commit {said("git", "rev-parse", "--short", "HEAD")}; backend `{first["results"][0]["backend"]}`
- Best limits of all runs: {limits}; each share is of the limits of its own run

## Generation of {first["gen"]} tokens

{table(runs, "gen")}

## Prompt of {first["prompt"]} tokens

{table(runs, "prompt")}""")


main()
