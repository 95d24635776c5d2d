//! What a token costs: bytes that generation must read, operations that a prompt must do.

use super::SpeedOptions;
use crate::engine::{is_fast, needs_adapter};
use crate::models::Model;
use crate::quant::tiled;
use crate::tensor::DType;

/// Work of one model under one measurement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Work {
    /// Bytes of weights that each generated token reads: layers, norms, head and one row of the embedding.
    pub weight_bytes: u64,
    /// Bytes of keys and values that it reads, on the average of the generation.
    pub cache_bytes: u64,
    /// Operations of the whole prompt in products with weights, two for a multiply-add; the head is computed for its
    /// last token only.
    pub prompt_operations: u64,
    /// The encoding of most of them.
    pub main: DType,
}

/// What the products of a prompt are computed with at best.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Product {
    /// f32 fused multiply-add.
    Fma,
    /// Dot products of bytes.
    Int8,
    /// Cooperative matrices of f16.
    Cooperative,
}

impl Work {
    /// Of `model`, whose keys and values take `cache_element` bytes each.
    pub fn of(model: &Model, options: &SpeedOptions, cache_element: usize) -> Work {
        let c = &model.config;
        let (mut layers, mut bytes) = (0u64, 0u64);
        let mut by_encoding: Vec<(DType, u64)> = Vec::new();
        let mut head = 0;
        for (name, weight) in &model.weights {
            let tensor = &weight.tensor;
            let (size, n) = (tensor.bytes.len() as u64, tensor.shape.numel() as u64);
            let is_head = name == "output.weight" || (c.tied_embeddings && name == "token_embd.weight");
            let is_table = name == "token_embd.weight" || name == "position_embd.weight";
            if is_head {
                head = n;
                bytes += size;
            } else if is_table {
                // One row of it.
                bytes += size / (tensor.shape.rows() as u64).max(1);
            } else {
                bytes += size;
                if tensor.shape.0.len() == 2 {
                    layers += n;
                    match by_encoding.iter_mut().find(|(dtype, _)| *dtype == tensor.dtype) {
                        Some((_, elements)) => *elements += n,
                        None => by_encoding.push((tensor.dtype, n)),
                    }
                }
            }
        }
        let main = by_encoding.iter().max_by_key(|(_, n)| *n).map_or(DType::F32, |(dtype, _)| *dtype);
        Work {
            weight_bytes: bytes,
            cache_bytes: cache_bytes(model, options, cache_element),
            prompt_operations: 2 * (layers * options.prompt as u64 + head.min(head * options.prompt as u64)),
            main,
        }
    }
}

impl Product {
    /// What the backend of that name multiplies weights of this encoding with, on an adapter that has `cooperative`
    /// matrices or not.
    pub fn of(backend: &str, weights: DType, cooperative: bool) -> Product {
        let half = weights == DType::F16 || weights.is_quantized();
        if cooperative && half && is_fast(backend) && needs_adapter(backend) {
            return Product::Cooperative;
        }
        // On the GPU every encoding in blocks is multiplied in integers, on the processor those that have tiles.
        let integer = match (is_fast(backend), needs_adapter(backend)) {
            (true, true) => weights.is_quantized(),
            (true, false) => tiled::is_tiled(weights),
            (false, _) => false,
        };
        if integer { Product::Int8 } else { Product::Fma }
    }

    /// `f32`, `int8` or `cooperative`.
    pub fn name(self) -> &'static str {
        match self {
            Product::Fma => "f32",
            Product::Int8 => "int8",
            Product::Cooperative => "cooperative",
        }
    }
}

/// Bytes of an element of keys and values on the backend of that name: halves in `fast` numerics, else f32.
pub fn cache_element_bytes(backend: &str) -> usize {
    if is_fast(backend) { size_of::<u16>() } else { size_of::<f32>() }
}

/// Keys and values of the positions that a generated token sees, on the average; windows see no more than their size.
fn cache_bytes(model: &Model, options: &SpeedOptions, element: usize) -> u64 {
    let c = &model.config;
    let seen = options.depth + options.generate.div_ceil(2);
    let positions: usize = (0..c.n_layers)
        .map(|l| match &c.window {
            Some(window) if c.is_local(l) => seen.min(window.size),
            Some(_) | None => seen,
        })
        .sum();
    (positions * 2 * c.n_kv_heads * c.head_dim * element) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::random_model;

    #[test]
    fn bytes_and_operations_are_those_of_the_layers_and_the_head() {
        // llama: not tied. Two layers of q, k, v, o and three of the feed-forward, F16.
        let model = random_model::model(&random_model::config("llama"), DType::F16, 1);
        let layer = 256 * 256 * 2 + 2 * 64 * 256 + 3 * 256 * 512;
        let options = SpeedOptions { prompt: 10, generate: 4, depth: 8 };
        let work = Work::of(&model, &options, 4);
        let norms = 5 * 256 * 4;
        let head = 131 * 256;
        assert_eq!(work.weight_bytes, 2 * (2 * layer + head + 256) + norms);
        assert_eq!(work.prompt_operations, 2 * (10 * 2 * layer + head));
        assert_eq!(work.cache_bytes, 2 * 10 * 2 * 64 * 4);
        assert_eq!(work.main, DType::F16);
    }

    #[test]
    fn a_tied_head_is_read_once_and_windows_bound_the_cache() {
        let config = random_model::gemma_like();
        assert!(config.tied_embeddings);
        let model = random_model::model(&config, DType::F32, 1);
        let options = SpeedOptions { prompt: 0, generate: 0, depth: 100 };
        let work = Work::of(&model, &options, 2);
        let all: u64 = model.weights.values().map(|w| w.tensor.bytes.len() as u64).sum();
        assert_eq!((work.weight_bytes, work.prompt_operations), (all, 0));
        // One of the two layers sees the last 37 positions.
        assert_eq!(work.cache_bytes, (100 + 37) * 2 * 64 * 2);
    }

    #[test]
    fn only_fast_numerics_multiply_blocks_as_integers() {
        assert_eq!(Product::of("cpu-fast", DType::Q4_K, true), Product::Int8);
        assert_eq!(Product::of("cpu-fast", DType::F16, true), Product::Fma);
        assert_eq!(Product::of("cpu", DType::Q4_K, true), Product::Fma);
        let bytes = ["cpu-fast", "cpu", "wgpu-fast", "wgpu"].map(cache_element_bytes);
        // A program without GPU backends knows their names.
        assert_eq!(bytes, [2, 4, 2, 4]);
    }
}
