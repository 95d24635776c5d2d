// Four neighbours of a key or value as the cache keeps them in exact numerics: f32.
//
// Contract: contracts/kernels/kv_cache.yaml. CPU twin: src/engine/cpu/cache.rs.

alias Kept = vec4<f32>;

fn keep(x: vec4<f32>) -> Kept {
    return x;
}

fn kept(x: Kept) -> vec4<f32> {
    return x;
}
