#!/usr/bin/env bash
# Our speed beside llama.cpp's, run in turns on the same files with the same threads; the result is benches/RESULTS.md.
#
#   LLAMA_BENCH=/path/to/llama-bench benches/peers.sh      with a llama-bench that is there already
#   BUILD_PEER=1 benches/peers.sh                          builds one first, into target/peer
#
# How one is built, natively, from the source package of llama-cpp-python (needs pip, cmake, ninja or make, a C++ compiler):
#
#   pip download --no-binary llama-cpp-python --no-deps llama-cpp-python
#   tar xf llama_cpp_python-*.tar.gz && cd llama_cpp_python-*/vendor/llama.cpp
#   mv .git git-of-the-package     # a dangling link, on which the build would go round in circles
#   cmake -B build -DCMAKE_BUILD_TYPE=Release -DGGML_NATIVE=ON -DGGML_OPENMP=ON -DLLAMA_CURL=OFF
#   cmake --build build --target llama-bench
#
# MODELS (default: models) holds what `make pull` brings: smollm2-135m-instruct and qwen2.5-coder-0.5b-instruct; a model
# that is not there is left out. Random models of 230 million weights need nothing. Also: THREADS (2), REPEAT (5),
# BACKEND (cpu-fast), ENCODINGS, WORK (target/peers: converted files, and the JSON of every run).
set -euo pipefail
cd "$(dirname "$0")/.."

THREADS=${THREADS:-2}
REPEAT=${REPEAT:-5}
BACKEND=${BACKEND:-cpu-fast}
MODELS=${MODELS:-models}
WORK=${WORK:-target/peers}
ENCODINGS=${ENCODINGS:-f32 f16 q8_0 q4_0 q4_1 q5_0 q5_1 q4_k_m q5_k_m q6_k}

build_peer() {
    local folder=target/peer
    mkdir -p "$folder"
    if [ ! -x "$folder"/llama_cpp_python-*/vendor/llama.cpp/build/bin/llama-bench ]; then
        pip download --no-binary llama-cpp-python --no-deps --dest "$folder" llama-cpp-python
        tar xf "$folder"/llama_cpp_python-*.tar.gz -C "$folder"
        local source
        source=$(echo "$folder"/llama_cpp_python-*/vendor/llama.cpp)
        if [ -e "$source/.git" ] || [ -L "$source/.git" ]; then mv "$source/.git" "$source/git-of-the-package"; fi
        cmake -S "$source" -B "$source/build" \
            -DCMAKE_BUILD_TYPE=Release -DGGML_NATIVE=ON -DGGML_OPENMP=ON -DLLAMA_CURL=OFF
        cmake --build "$source/build" --target llama-bench -j "$(nproc)"
    fi
    LLAMA_BENCH=$(echo "$PWD/$folder"/llama_cpp_python-*/vendor/llama.cpp/build/bin/llama-bench)
}

if [ -z "${LLAMA_BENCH:-}" ] && [ "${BUILD_PEER:-0}" = 1 ]; then build_peer; fi
if [ ! -x "${LLAMA_BENCH:-}" ]; then
    echo "no llama-bench: set LLAMA_BENCH, or BUILD_PEER=1 to build one" >&2
    exit 2
fi

cargo build --release --quiet
RUNNER=target/release/apr-qa-runner
PEER="$LLAMA_BENCH -o json -m {model} -t {threads} -p {prompt} -n {gen} -d {depth} -r 1"
mkdir -p "$WORK"
rm -f "$WORK"/*.json

# The source of conversions: the first of a folder's files with the most bits.
source_of() {
    local folder=$1 pattern found
    if [ -f "$folder/config.json" ]; then echo "$folder"; return; fi
    for pattern in '*f32*.gguf' '*f16*.gguf' '*q8_0*.gguf' '*.gguf'; do
        found=$(find "$folder" -maxdepth 1 -name "$pattern" 2>/dev/null | sort | head -n 1)
        if [ -n "$found" ]; then echo "$found"; return; fi
    done
}

measure() { # NAME ENCODING ARGUMENTS...
    local name=$1 encoding=$2
    shift 2
    echo "$name $encoding" >&2
    "$RUNNER" bench "$@" --backend "$BACKEND" --threads "$THREADS" --prompt 512 --gen 128 --repeat "$REPEAT" \
        --peer "$PEER" --json > "$WORK/$name.$encoding.json"
}

for encoding in $ENCODINGS; do
    for slug in smollm2-135m-instruct qwen2.5-coder-0.5b-instruct; do
        source=$(source_of "$MODELS/$slug")
        if [ -z "$source" ]; then
            echo "$MODELS/$slug is not there: left out" >&2
            continue
        fi
        file=$WORK/$slug-$encoding.gguf
        # Speed does not care that a second quantisation loses.
        [ -f "$file" ] || "$RUNNER" convert "$source" "$file" --quantize "$encoding" --allow-lossy > /dev/null
        measure "$slug" "$encoding" "$file"
    done
    measure random-230m "$encoding" --random-model 230m --quantize "$encoding" --write "$WORK/random-$encoding.gguf"
    rm -f "$WORK/random-$encoding.gguf"
done

python3 benches/peers.py "$WORK" > benches/RESULTS.md
echo "written: benches/RESULTS.md" >&2
