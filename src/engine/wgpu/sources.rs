//! The text of `kernels/`, compiled in.

/// The WGSL of part `name`, the file's name without its ending. The tests look every name up, so an unknown one, which
/// would be this program's own mistake, gives an empty text that no kernel compiles with.
pub(super) fn source(name: &str) -> &'static str {
    SOURCES.iter().find(|(n, _)| *n == name).map_or("", |(_, text)| text)
}

/// Every part, by name.
pub(super) const SOURCES: &[(&str, &str)] = &[
    ("accumulate", include_str!("../../../kernels/accumulate.wgsl")),
    ("activation", include_str!("../../../kernels/activation.wgsl")),
    ("add", include_str!("../../../kernels/add.wgsl")),
    ("argmax", include_str!("../../../kernels/argmax.wgsl")),
    ("attention", include_str!("../../../kernels/attention.wgsl")),
    ("attention_combine", include_str!("../../../kernels/attention_combine.wgsl")),
    ("bench_cooperative", include_str!("../../../kernels/bench_cooperative.wgsl")),
    ("bench_f16", include_str!("../../../kernels/bench_f16.wgsl")),
    ("bench_f32", include_str!("../../../kernels/bench_f32.wgsl")),
    ("bench_int8", include_str!("../../../kernels/bench_int8.wgsl")),
    ("bench_read", include_str!("../../../kernels/bench_read.wgsl")),
    ("cooperative", include_str!("../../../kernels/cooperative.wgsl")),
    ("dequantize_apr_q4", include_str!("../../../kernels/dequantize_apr_q4.wgsl")),
    ("dequantize_apr_q8", include_str!("../../../kernels/dequantize_apr_q8.wgsl")),
    ("dequantize_bf16", include_str!("../../../kernels/dequantize_bf16.wgsl")),
    ("dequantize_f16", include_str!("../../../kernels/dequantize_f16.wgsl")),
    ("dequantize_f32", include_str!("../../../kernels/dequantize_f32.wgsl")),
    ("dequantize_iq1_m", include_str!("../../../kernels/dequantize_iq1_m.wgsl")),
    ("dequantize_iq1_s", include_str!("../../../kernels/dequantize_iq1_s.wgsl")),
    ("dequantize_iq2_s", include_str!("../../../kernels/dequantize_iq2_s.wgsl")),
    ("dequantize_iq2_xs", include_str!("../../../kernels/dequantize_iq2_xs.wgsl")),
    ("dequantize_iq2_xxs", include_str!("../../../kernels/dequantize_iq2_xxs.wgsl")),
    ("dequantize_iq3_s", include_str!("../../../kernels/dequantize_iq3_s.wgsl")),
    ("dequantize_iq3_xxs", include_str!("../../../kernels/dequantize_iq3_xxs.wgsl")),
    ("dequantize_iq4_nl", include_str!("../../../kernels/dequantize_iq4_nl.wgsl")),
    ("dequantize_iq4_xs", include_str!("../../../kernels/dequantize_iq4_xs.wgsl")),
    ("dequantize_mxfp4", include_str!("../../../kernels/dequantize_mxfp4.wgsl")),
    ("dequantize_q2_k", include_str!("../../../kernels/dequantize_q2_k.wgsl")),
    ("dequantize_q3_k", include_str!("../../../kernels/dequantize_q3_k.wgsl")),
    ("dequantize_q4_0", include_str!("../../../kernels/dequantize_q4_0.wgsl")),
    ("dequantize_q4_1", include_str!("../../../kernels/dequantize_q4_1.wgsl")),
    ("dequantize_q4_k", include_str!("../../../kernels/dequantize_q4_k.wgsl")),
    ("dequantize_q5_0", include_str!("../../../kernels/dequantize_q5_0.wgsl")),
    ("dequantize_q5_1", include_str!("../../../kernels/dequantize_q5_1.wgsl")),
    ("dequantize_q5_k", include_str!("../../../kernels/dequantize_q5_k.wgsl")),
    ("dequantize_q6_k", include_str!("../../../kernels/dequantize_q6_k.wgsl")),
    ("dequantize_q8_0", include_str!("../../../kernels/dequantize_q8_0.wgsl")),
    ("dequantize_tq1_0", include_str!("../../../kernels/dequantize_tq1_0.wgsl")),
    ("dequantize_tq2_0", include_str!("../../../kernels/dequantize_tq2_0.wgsl")),
    ("embed", include_str!("../../../kernels/embed.wgsl")),
    ("epilogue", include_str!("../../../kernels/epilogue.wgsl")),
    ("kv_half", include_str!("../../../kernels/kv_half.wgsl")),
    ("kv_single", include_str!("../../../kernels/kv_single.wgsl")),
    ("layer_norm", include_str!("../../../kernels/layer_norm.wgsl")),
    ("levels", include_str!("../../../kernels/levels.wgsl")),
    ("matmul", include_str!("../../../kernels/matmul.wgsl")),
    ("matmul_half", include_str!("../../../kernels/matmul_half.wgsl")),
    ("matmul_wide", include_str!("../../../kernels/matmul_wide.wgsl")),
    ("matvec", include_str!("../../../kernels/matvec.wgsl")),
    ("matvec_half", include_str!("../../../kernels/matvec_half.wgsl")),
    ("norm_heads", include_str!("../../../kernels/norm_heads.wgsl")),
    ("products", include_str!("../../../kernels/products.wgsl")),
    ("quantize_activations_wide", include_str!("../../../kernels/quantize_activations_wide.wgsl")),
    ("rms_norm", include_str!("../../../kernels/rms_norm.wgsl")),
    ("rope_store", include_str!("../../../kernels/rope_store.wgsl")),
    ("round_activations_half", include_str!("../../../kernels/round_activations_half.wgsl")),
    ("scale", include_str!("../../../kernels/scale.wgsl")),
    ("side_16", include_str!("../../../kernels/side_16.wgsl")),
    ("side_8", include_str!("../../../kernels/side_8.wgsl")),
    ("top_k", include_str!("../../../kernels/top_k.wgsl")),
    ("unit_f32", include_str!("../../../kernels/unit_f32.wgsl")),
    ("unit_wide", include_str!("../../../kernels/unit_wide.wgsl")),
];

/// Panics with naga's words where `kernel` is no valid WGSL on a device that can do so much.
#[cfg(test)]
pub(super) fn validate(kernel: &super::pipelines::Kernel, capabilities: naga::valid::Capabilities) {
    let (name, text) = (kernel.name(), kernel.wgsl());
    let module = naga::front::wgsl::parse_str(&text)
        .unwrap_or_else(|e| panic!("{name}: {}", e.emit_to_string_with_path(&text, &name)));
    let mut validator = naga::valid::Validator::new(naga::valid::ValidationFlags::all(), capabilities);
    if let Err(e) = validator.validate(&module) {
        panic!("{name}: {}", e.emit_to_string_with_path(&text, &name));
    }
    assert_eq!(module.entry_points.len(), 1, "{name}");
}

#[cfg(test)]
mod tests {
    use super::super::pipelines::Kernel;
    use super::super::planes::layout;
    use super::*;
    use crate::quant::CODECS;
    use std::collections::BTreeSet;

    #[test]
    fn every_file_of_the_folder_is_a_part() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/kernels");
        let mut files: Vec<String> = std::fs::read_dir(folder)
            .unwrap()
            .filter_map(|entry| Some(entry.unwrap().file_name().to_str()?.strip_suffix(".wgsl")?.to_owned()))
            .collect();
        files.sort_unstable();
        let mut parts: Vec<&str> = SOURCES.iter().map(|(name, _)| *name).collect();
        parts.sort_unstable();
        assert_eq!(files, parts);
    }

    /// Every kernel, of every encoding, as the backend puts it together.
    fn kernels() -> Vec<Kernel> {
        let mut all: Vec<Kernel> = [
            "rms_norm",
            "layer_norm",
            "norm_heads",
            "add",
            "scale",
            "argmax",
            "top_k",
            "quantize_activations_wide",
            "round_activations_half",
        ]
        .map(|op| Kernel::new(&[op]))
        .into();
        for kept in ["kv_single", "kv_half"] {
            all.push(Kernel::new(&["rope_store", kept]));
            all.push(Kernel::new(&["attention", kept, "activation"]));
        }
        all.push(Kernel::new(&["attention_combine", "activation"]));
        for layout in CODECS.iter().filter_map(|codec| layout(codec.dtype())) {
            let with = |parts: &[&'static str]| {
                let levels = layout.levels.then_some("levels");
                Kernel::new(&parts.iter().copied().chain(levels).chain([layout.kernel]).collect::<Vec<_>>())
            };
            all.extend([true, false].map(|accumulate| with(&["embed"]).with("ACCUMULATE", accumulate)));
            let product =
                |parts: &[&'static str]| with(&[parts, &["products", "activation", "epilogue"]].concat());
            let few = |parts| [1, 4].map(|n| product(parts).with("TOKENS: u32", n));
            all.extend(few(&["matvec", "unit_f32"]));
            all.push(product(&["matmul"]));
            if layout.levels {
                all.extend(few(&["matvec", "unit_wide", "accumulate"]));
                all.push(product(&["matmul_wide", "accumulate"]));
            }
            for (side, op) in
                ["side_8", "side_16"].into_iter().flat_map(|s| [(s, "matvec_half"), (s, "matmul_half")])
            {
                all.push(product(&[op, "cooperative", side]).with("SUBGROUP: u32", 32));
            }
        }
        all
    }

    #[test]
    fn every_kernel_is_valid_wgsl_and_every_part_belongs_to_one() {
        use naga::valid::Capabilities;
        let plain = Capabilities::IMMEDIATES | Capabilities::SHADER_FLOAT16_IN_FLOAT32;
        let cooperative = plain | Capabilities::SHADER_FLOAT16 | Capabilities::COOPERATIVE_MATRIX;
        let mut used = BTreeSet::new();
        for kernel in kernels() {
            // Others ask for nothing that an adapter may lack.
            validate(&kernel, if kernel.parts.contains(&"cooperative") { cooperative } else { plain });
            used.extend(kernel.parts);
        }
        let measures = |part: &&str| part.starts_with("bench_");
        let unused: Vec<&str> =
            SOURCES.iter().map(|(part, _)| *part).filter(|p| !used.contains(p) && !measures(p)).collect();
        assert!(unused.is_empty(), "no kernel has {unused:?}");
    }
}
