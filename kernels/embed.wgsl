// Rows of a table: x[t] = table[ids[t]], or x[t] += table[ids[t]] where ACCUMULATE is set (learned positions).
//
// Contract: contracts/kernels/embedding.yaml. CPU twin: src/engine/cpu/mod.rs (`embed`, `add_positions`).
// quants, fields  the shard: `rows` rows of the table from `first_row` on, in the encoding of its file
// ids             words; those of this pass begin at `ids_at`
// x               [n, stride] f32, the first `units * 32` columns of a row
// Workgroup (64): one token; its lanes take the units of 32 columns in turn, so neighbours read neighbouring blocks.
// A token whose row lies in another shard is left to the dispatch of that shard.

struct Params {
    blocks: u32,
    units: u32,
    stride: u32,
    width: u32,
    ids_at: u32,
    first_row: u32,
    rows: u32,
}

var<immediate> p: Params;

@group(0) @binding(0) var<storage, read> quants: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read> fields: array<u32>;
@group(0) @binding(2) var<storage, read> grids: array<u32>;
@group(0) @binding(3) var<storage, read> ids: array<u32>;
@group(0) @binding(4) var<storage, read_write> x: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let token = group.x;
    let id = ids[p.ids_at + token];
    if (id < p.first_row || id >= p.first_row + p.rows) {
        return;
    }
    for (var unit = lane; unit < p.units; unit += 64u) {
        let row = values((id - p.first_row) * p.units + unit);
        for (var i = 0u; i < 8u; i++) {
            let w = row[i];
            for (var j = 0u; j < 4u; j++) {
                let column = unit * 32u + i * 4u + j;
                if (column < p.width) {
                    let at = token * p.stride + column;
                    if (ACCUMULATE) {
                        x[at] = x[at] + w[j];
                    } else {
                        x[at] = w[j];
                    }
                }
            }
        }
    }
}
