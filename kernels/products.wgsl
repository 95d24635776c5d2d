// What the kernels of products share: sizes, what is bound, and what becomes of a sum.
//
// quants, fields, grids  the shard: `rows` rows from `first_row` on, in the encoding of its file, `units` of 32 columns each
// x     [n, x_stride] vectors of four words: what they hold, the kernel says; columns past the width are 0
// bias  [rows of the whole weight] f32, read where `has_bias` is set
// out   [n, out_stride] f32
// Contracts: contracts/kernels/{matmul,matmul_wide,matmul_half}.yaml.

struct Params {
    blocks: u32,
    units: u32,
    rows: u32,
    first_row: u32,
    n: u32,
    x_stride: u32,
    out_stride: u32,
    has_bias: u32,
    epilogue: u32, // as in epilogue.wgsl
    lanes: u32,    // of matvec.wgsl
}

var<immediate> p: Params;

@group(0) @binding(0) var<storage, read> quants: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read> fields: array<u32>;
@group(0) @binding(2) var<storage, read> grids: array<u32>;
@group(0) @binding(3) var<storage, read> x: array<vec4<u32>>;
@group(0) @binding(4) var<storage, read> bias: array<f32>;
@group(0) @binding(5) var<storage, read_write> out: array<f32>;

// Stores the sum of a token and a row of the shard; nothing where one of them is past the end.
fn store(token: u32, row: u32, sum: f32) {
    if (token < p.n && row < p.rows) {
        let r = p.first_row + row;
        var total = sum;
        if (p.has_bias != 0u) {
            total += bias[r];
        }
        finish(token * p.out_stride + r, total);
    }
}
