// A unit of 32 columns in f16, on its way to cooperative matrices. They belong to subgroups of SUBGROUP threads, GROUPS of
// which make a workgroup.
//
// Contract: contracts/kernels/matmul_half.yaml.
// x  [n, x_stride] vectors, as round_activations_half.wgsl writes them: 32 columns of f16 to four of them, and the scale of
//    the row in the last one

enable f16;
enable wgpu_cooperative_matrix;

const GROUPS: u32 = 4u;
const THREADS: u32 = GROUPS * SUBGROUP;

// Vectors of a unit of x.
const X_UNIT: u32 = 4u;

// Units of 32 columns whose products are one chain: 256 columns.
const CHAIN: u32 = 8u;

// The four numbers of two words.
fn four_halves(low: u32, high: u32) -> vec4<f16> {
    return vec4<f16>(vec4<f32>(unpack2x16float(low), unpack2x16float(high)));
}

// The scale of a token.
fn scale_of(token: u32) -> f32 {
    return bitcast<f32>(x[token * p.x_stride + p.units * X_UNIT].x);
}
