#!/bin/sh
# NEON under qemu's user emulation: the library's tests of everything that has NEON code, which hold it against the scalar
# definition, on a processor with SDOT and on one without; then what the program says for AArch64 and for this machine,
# bit for bit.
#
#   sh tests/neon/run.sh [test filter …]
#
# PROGRAM may name a program of the same sources for this machine; without it, one is built.
#
# It needs, and says so where one is missing: Rust's standard library for AArch64 (`rustup target add
# aarch64-unknown-linux-gnu`), a C compiler that links for it (Debian's gcc-aarch64-linux-gnu and libc6-dev-arm64-cross)
# and qemu-aarch64 (Debian's qemu-user or qemu-user-static).
set -eu
cd "$(dirname "$0")/../.."

lacks() {
    echo "test-neon: cannot run here: there is no $1; $2" >&2
    exit 1
}

target=aarch64-unknown-linux-gnu
linker=${CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER:-aarch64-linux-gnu-gcc}

std=$("${RUSTC:-rustc}" --print target-libdir --target "$target")
ls "$std"/libstd-*.rlib >/dev/null 2>&1 ||
    lacks "Rust standard library for $target" "\`rustup target add $target\` installs it"
command -v "$linker" >/dev/null ||
    lacks "$linker" "Debian's packages gcc-aarch64-linux-gnu and libc6-dev-arm64-cross bring it"
libc=$("$linker" -print-file-name=libc.so.6)
# Without the library, the compiler prints the bare name.
[ "$libc" != libc.so.6 ] ||
    lacks "C library for $linker" "Debian's package libc6-dev-arm64-cross brings it"
qemu=$(command -v qemu-aarch64 || command -v qemu-aarch64-static) ||
    lacks "qemu-aarch64" "Debian's packages qemu-user and qemu-user-static bring it"

export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-target}/neon"
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER="$linker"
# Where qemu finds /lib of that architecture.
export QEMU_LD_PREFIX="${QEMU_LD_PREFIX:-$(dirname "$(dirname "$(readlink -m "$libc")")")}"
# Optimised, because an emulator multiplies the cost of every instruction.
export CARGO_PROFILE_DEV_OPT_LEVEL=1 CARGO_PROFILE_TEST_OPT_LEVEL=1
export CARGO_PROFILE_DEV_DEBUG=0 CARGO_PROFILE_TEST_DEBUG=0

# The processor `max` has SDOT, a Cortex-A72 has not and would stop at one.
[ $# -gt 0 ] || set -- engine:: quant:: stats::exponentials
for processor in max cortex-a72; do
    echo "== tests on qemu's $processor"
    CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER="$qemu -cpu $processor" \
        cargo test --locked --no-default-features --lib --target "$target" -- "$@"
done

echo "== the program for $target and for this machine"
cargo build --locked --no-default-features --bin apr-qa-runner --target "$target"
if [ -z "${PROGRAM:-}" ]; then
    cargo build --locked --no-default-features --bin apr-qa-runner
    PROGRAM=$CARGO_TARGET_DIR/debug/apr-qa-runner
fi
there=$CARGO_TARGET_DIR/$target/debug/apr-qa-runner
work=$CARGO_TARGET_DIR/answers
rm -rf "$work"
mkdir -p "$work"

# Tokens and the log-probabilities of all others at every step, in all digits; the speed is left out.
answer() {
    "$@" --prompt "The quick brown fox" --max-tokens 24 --logprobs 100000 --json >"$work/whole"
    sed '/tok_per_sec/d; /inference_time_ms/d' "$work/whole"
}

compared=0
for model in oracle/models/*; do
    name=$(basename "$model")
    for encoding in f32 q8_0 q4_0 q4_k_m; do
        file=$work/$name-$encoding.gguf
        "$PROGRAM" convert "$model" "$file" --quantize "$encoding" --allow-lossy >/dev/null
        for backend in cpu cpu-fast; do
            answer "$PROGRAM" generate "$file" --backend "$backend" >"$work/here"
            for processor in max cortex-a72; do
                answer "$qemu" -cpu "$processor" "$there" generate "$file" --backend "$backend" >"$work/there"
                cmp "$work/here" "$work/there" || {
                    echo "test-neon: $name $encoding on $backend: another answer on $processor" >&2
                    exit 1
                }
                compared=$((compared + 1))
            done
        done
        rm "$file"
    done
done
echo "test-neon: $compared answers are equal"
