// Four neighbours of a key or value as the cache keeps them in fast numerics: f16, two to a word.
//
// Contract: contracts/kernels/kv_cache.yaml. CPU twin: src/engine/cpu/cache.rs.

alias Kept = vec2<u32>;

fn keep(x: vec4<f32>) -> Kept {
    return vec2<u32>(pack2x16float(x.xy), pack2x16float(x.zw));
}

fn kept(x: Kept) -> vec4<f32> {
    return vec4<f32>(unpack2x16float(x.x), unpack2x16float(x.y));
}
