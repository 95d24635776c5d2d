// Activations, and the exponential that they and attention share.
//
// Contracts: contracts/kernels/{silu,gelu,swiglu,softmax}.yaml. CPU twin: src/engine/cpu/elementwise.rs, whose
// operations these are: the exponential of a driver may be off by many units in the last place. The rounding is a builtin,
// as adding and taking away a large number, which the CPU does, may be left out by a compiler of shaders.

// exp(x) for x in -87..=88, clamped to it: 2^n times the Taylor sum of exp(r) to the 7th power, with
// n = round(x / ln 2) and |r| <= ln 2 / 2. NaN stays NaN, told by its bits: a driver may assume that there is none.
fn exponential(argument: f32) -> f32 {
    if ((bitcast<u32>(argument) & 0x7fffffffu) > 0x7f800000u) {
        return argument;
    }
    let x = min(max(argument, -87.0), 88.0);
    let n = round(x * 1.4426950408889634);
    let r = fma(n, 2.1219444e-4, fma(n, -0.6933594, x));
    var sum = 1.0 / 5040.0;
    sum = fma(sum, r, 1.0 / 720.0);
    sum = fma(sum, r, 1.0 / 120.0);
    sum = fma(sum, r, 1.0 / 24.0);
    sum = fma(sum, r, 1.0 / 6.0);
    sum = fma(sum, r, 0.5);
    sum = fma(sum, r, 1.0);
    sum = fma(sum, r, 1.0);
    return sum * bitcast<f32>(u32(i32(n) + 127) << 23u);
}

// x / (1 + exp(-x)).
fn silu(x: f32) -> f32 {
    return x / (1.0 + exponential(-x));
}

// x / (1 + exp(-2 u)) with u = sqrt(2/pi) (x + 0.044715 x³): the same function as x/2 (1 + tanh u).
fn gelu(x: f32) -> f32 {
    return x / (1.0 + exponential(-1.595769 * fma(x * x * x, 0.044715, x)));
}
