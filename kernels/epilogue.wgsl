// What becomes of a finished product: `p.epilogue` says which, alike for all threads. The products of a gate stand in `out`
// already when those of the up projection come.
//
// Contracts: contracts/kernels/{matmul,residual,swiglu,gelu}.yaml. CPU twin: src/engine/cpu/sink.rs.

const SET: u32 = 0u;       // out = v
const ADD: u32 = 1u;       // out += v
const SILU_GATE: u32 = 2u; // out = silu(out) * v
const GELU_GATE: u32 = 3u; // out = gelu(out) * v
const GELU: u32 = 4u;      // out = gelu(v)

fn finish(at: u32, value: f32) {
    switch p.epilogue {
        case ADD: { out[at] = out[at] + value; }
        case SILU_GATE: { out[at] = silu(out[at]) * value; }
        case GELU_GATE: { out[at] = gelu(out[at]) * value; }
        case GELU: { out[at] = gelu(value); }
        default: { out[at] = value; }
    }
}
