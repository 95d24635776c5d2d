//! The operations of a model's own forward pass: each with the model's weights, at its sizes, on random activations.

use super::Judge;
use super::attention::Heard;
use super::head::Table;
use super::products::Pair;
use crate::Result;
use crate::engine::decoder::Decoder;
use crate::engine::reference::Reference;
use crate::engine::{Activation, Backend, LayerWeights, ModelWeights, Norm};
use crate::models::{Ffn, NormKind, Weight};

/// Tokens of a product: one, a few, and more than one tile of any kernel. A backend may have a kernel for each.
const TOKENS: [usize; 3] = [1, 3, 70];

/// Tokens of what treats each by itself.
const FEW: usize = 3;

/// Positions of the attention that crosses the first multiple of 256, and the widest window that is seen in it.
const DEEP: [usize; 3] = [270, 290, 291];
const WIDEST: usize = 275;

impl<B: Backend> Judge<'_, B> {
    /// Every weight that `decoder` has loaded, which is the reference's of `weights`.
    pub(super) fn own_weights(
        &mut self,
        decoder: &Decoder<B>,
        weights: &ModelWeights<Reference>,
    ) -> Result<()> {
        let Decoder { weights: own, config, .. } = decoder;
        let hidden = config.hidden_size;
        let embedding =
            Table { name: "token_embd.weight", found: &own.token_embd, expected: &weights.token_embd };
        self.embed(embedding)?;
        if let (Some(found), Some(expected)) = (&own.position_embd, &weights.position_embd) {
            self.add_positions(Table { name: "position_embd.weight", found, expected })?;
        }
        if config.embed_scale != 1.0 {
            let x = self.activations(FEW * hidden);
            self.scale(config.embed_scale, hidden, &x)?;
        }
        for (l, (found, expected)) in own.layers.iter().zip(&weights.layers).enumerate() {
            self.norms_of(l, found, expected)?;
            for n in TOKENS {
                self.products_of(l, config.ffn, (found, expected), n)?;
            }
        }
        for local in [false, true] {
            let window = config.window.filter(|_| local).map(|w| w.size);
            if !(0..config.n_layers).any(|l| config.is_local(l) == local) {
                continue;
            }
            let rope = decoder.local_rope.as_ref().filter(|_| local).or(decoder.rope.as_ref());
            for ends in [&[5, 6][..], &DEEP] {
                let window = window.map(|w| w.min(WIDEST));
                let heard = Heard { heads: &decoder.heads, rope, window, ends };
                self.attention("own heads", &heard)?;
            }
        }
        self.norm("output_norm", &own.output_norm, &weights.output_norm, hidden)?;
        let head = match (&own.output, &weights.output) {
            (Some(found), Some(expected)) => Table { name: "output.weight", found, expected },
            (_, _) => embedding,
        };
        self.head(&own.output_norm, head, embedding)
    }

    fn norms_of(
        &mut self,
        l: usize,
        found: &LayerWeights<B>,
        expected: &LayerWeights<Reference>,
    ) -> Result<()> {
        let hidden = expected.attn_norm.weight.len();
        let plain = [
            ("attn_norm", Some(&found.attn_norm), Some(&expected.attn_norm)),
            ("post_attn_norm", found.post_attn_norm.as_ref(), expected.post_attn_norm.as_ref()),
            ("ffn_norm", Some(&found.ffn_norm), Some(&expected.ffn_norm)),
            ("post_ffn_norm", found.post_ffn_norm.as_ref(), expected.post_ffn_norm.as_ref()),
        ];
        for (part, found, expected) in plain {
            if let (Some(found), Some(expected)) = (found, expected) {
                self.norm(&format!("{l}.{part}"), found, expected, hidden)?;
            }
        }
        if let (Some(found), Some(expected)) = (&found.qk_norm, &expected.qk_norm) {
            for (part, found, expected) in
                [("q_norm", &found.0, &expected.0), ("k_norm", &found.1, &expected.1)]
            {
                self.norm_heads(&format!("{l}.{part}"), found, expected, 5)?;
            }
        }
        Ok(())
    }

    /// Every product of a layer, alone or fused as the decoder has it, of `n` tokens.
    fn products_of(
        &mut self,
        l: usize,
        ffn: Ffn,
        (found, expected): (&LayerWeights<B>, &LayerWeights<Reference>),
        n: usize,
    ) -> Result<()> {
        let parts = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"];
        let [q, k, v, o, gate, up, down] = parts.map(|part| format!("{l}.{part}.weight"));
        let columns = |w: &Weight| w.tensor.shape.row_len();
        let x = self.activations(n * columns(&expected.q_proj.weight));
        self.linear(
            [
                Pair { name: &q, found: &found.q_proj, expected: &expected.q_proj },
                Pair { name: &k, found: &found.k_proj, expected: &expected.k_proj },
                Pair { name: &v, found: &found.v_proj, expected: &expected.v_proj },
            ],
            &x,
        )?;
        let up = Pair { name: &up, found: &found.up_proj, expected: &expected.up_proj };
        self.linear([up], &x)?;
        match (ffn, &found.gate_proj, &expected.gate_proj) {
            (Ffn::SiluGated | Ffn::GeluGated, Some(found), Some(expected)) => {
                let gate = Pair { name: &gate, found, expected };
                self.linear([gate], &x)?;
                let activation = if ffn == Ffn::SiluGated { Activation::Silu } else { Activation::GeluTanh };
                self.gated(activation, gate, up, &x)?;
            }
            (Ffn::GeluTanh | Ffn::SiluGated | Ffn::GeluGated, _, _) => self.gelu(up, &x)?,
        }
        for pair in [
            Pair { name: &o, found: &found.o_proj, expected: &expected.o_proj },
            Pair { name: &down, found: &found.down_proj, expected: &expected.down_proj },
        ] {
            let x = self.activations(n * columns(&pair.expected.weight));
            self.linear_add(pair, &x)?;
        }
        Ok(())
    }

    /// `scale`, of rows of `width`.
    pub(super) fn scale(&mut self, factor: f32, width: usize, x: &[f32]) -> Result<()> {
        let mut found = self.backend.upload(width, x)?;
        self.backend.scale(factor, &mut found)?;
        let expected: Vec<f32> = x.iter().map(|x| x * factor).collect();
        let found = self.backend.download(&found)?;
        self.hold(("scale", "residual"), &format!("times {factor}"), width, &expected, &found)
    }

    /// `norm` of a few tokens.
    fn norm(&mut self, name: &str, found: &Norm<B>, expected: &Norm<Reference>, width: usize) -> Result<()> {
        let x = self.activations(FEW * width);
        self.norm_rows(name, found, expected, &x)
    }

    /// `norm` of `x`.
    pub(super) fn norm_rows(
        &mut self,
        name: &str,
        found: &Norm<B>,
        expected: &Norm<Reference>,
        x: &[f32],
    ) -> Result<()> {
        let width = expected.weight.len();
        let contract = match expected.rule.kind {
            NormKind::Rms => "rms_norm",
            NormKind::Layer => "layer_norm",
        };
        let (mut out, mut reference) = (self.backend.buffer(width), Reference.buffer(width));
        self.backend.norm(found, &self.backend.upload(width, x)?, &mut out)?;
        Reference.norm(expected, &Reference.upload(width, x)?, &mut reference)?;
        let place = format!("`{name}`, {} tokens of {width}", x.len() / width);
        let (found, expected) = (self.backend.download(&out)?, Reference.download(&reference)?);
        self.hold(("norm", contract), &place, width, &expected, &found)
    }

    /// `norm_heads` of a few tokens of so many heads.
    pub(super) fn norm_heads(
        &mut self,
        name: &str,
        found: &Norm<B>,
        expected: &Norm<Reference>,
        heads: usize,
    ) -> Result<()> {
        let head_dim = expected.weight.len();
        let width = heads * head_dim;
        let x = self.activations(FEW * width);
        let (mut out, mut reference) = (self.backend.upload(width, &x)?, Reference.upload(width, &x)?);
        self.backend.norm_heads(found, head_dim, &mut out)?;
        Reference.norm_heads(expected, head_dim, &mut reference)?;
        let place = format!("`{name}`, {FEW} tokens of {heads} heads of {head_dim}");
        let (found, expected) = (self.backend.download(&out)?, Reference.download(&reference)?);
        self.hold(("norm_heads", "rms_norm"), &place, width, &expected, &found)
    }
}
