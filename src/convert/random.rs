//! Models of seeded random weights in the shapes of known sizes, for measuring speed where nothing can be downloaded.
//!
//! A weight is made of pieces of 256 elements, drawn from a pool that our own quantiser encoded from normal numbers:
//! every block is valid, and gigabytes take seconds.

use super::recipe::{self, About, Subject};
use super::rule;
use crate::contract::families::Role;
use crate::formats::gguf::{self, GgufHeader};
use crate::formats::{Checkpoint, Container, GgufValue, NamedTensor, TensorSource};
use crate::models::{FAMILIES, Ffn, ModelConfig, NormKind, Position, RopeScaling};
use crate::quant::{self, Quantize};
use crate::stats::Dice;
use crate::tensor::{Bytes, DType, Shape, Tensor};
use crate::tokenizer::{Token, TokenKind, TokenizerModel, TokenizerSpec};
use crate::{Error, Kind, Result};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Elements of a piece: a multiple of every block length, and a divisor of every row length below.
const PIECE: usize = 256;
/// Pieces of a pool.
const POOL: usize = 1024;

/// The shape of a random model, all of the llama family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RandomModel {
    /// How it is asked for: `230m`.
    pub name: &'static str,
    hidden: usize,
    wide: usize,
    layers: usize,
    heads: usize,
    kv_heads: usize,
    vocab: usize,
    context: usize,
    theta: u32,
    tied: bool,
}

/// Every size there is.
pub const RANDOM_MODELS: &[RandomModel] = &[
    // Rows of every matrix are whole blocks of 256, so that no K-quant falls back to another encoding.
    RandomModel {
        name: "230m",
        hidden: 1024,
        wide: 2816,
        layers: 16,
        heads: 16,
        kv_heads: 4,
        vocab: 32_000,
        context: 8192,
        theta: 100_000,
        tied: true,
    },
    // TinyLlama.
    RandomModel {
        name: "1.1b",
        hidden: 2048,
        wide: 5632,
        layers: 22,
        heads: 32,
        kv_heads: 4,
        vocab: 32_000,
        context: 2048,
        theta: 10_000,
        tied: false,
    },
    // Llama 3 8B.
    RandomModel {
        name: "8b",
        hidden: 4096,
        wide: 14_336,
        layers: 32,
        heads: 32,
        kv_heads: 8,
        vocab: 128_256,
        context: 8192,
        theta: 500_000,
        tied: false,
    },
];

/// A random model of `shape` in memory, as a GGUF of the recipe `quantize` would open. The same seed gives the same
/// bytes.
///
/// # Errors
/// [`Kind::Unsupported`] where the recipe has an encoding that this program does not write.
pub fn random(shape: &RandomModel, quantize: Quantize, seed: u64) -> Result<Checkpoint> {
    let config = shape.config();
    let mut pools = BTreeMap::new();
    let mut tensors = Vec::new();
    for (i, (name, role, dims)) in shape.tensors().into_iter().enumerate() {
        let dims = Shape::from(dims.as_slice());
        let tensor = match role {
            Role::Norm => ones(dims),
            Role::Embedding | Role::Positions | Role::Head | Role::Linear | Role::Bias => {
                let dtype = encoding(&config, quantize, role, &name, dims.row_len());
                let mut dice = Dice::new(seed, &name);
                let pool = match pools.entry((dtype.name(), dims.row_len())) {
                    std::collections::btree_map::Entry::Occupied(pool) => pool.into_mut(),
                    std::collections::btree_map::Entry::Vacant(empty) => {
                        empty.insert(pool(dtype, dims.row_len(), seed)?)
                    }
                };
                drawn(dtype, dims, pool, &mut dice)?
            }
        };
        tensors.push(NamedTensor { name, tensor, offset: i as u64, file: 0 });
    }
    let path = PathBuf::from(format!("random {} {}", shape.name, quantize.name()));
    let header = GgufHeader { version: 3, alignment: 32, metadata: metadata(&config, quantize, &path)? };
    Checkpoint::new(path.clone(), Container::Gguf(header), vec![path], tensors)
}

/// Writes a checkpoint made by [`random`] to a GGUF file.
///
/// # Errors
/// Those of [`gguf::write`].
pub fn write_random(path: &Path, checkpoint: &Checkpoint) -> Result<()> {
    let Container::Gguf(header) = &checkpoint.container else {
        return Err(Error::new(Kind::Internal, "random model", "is no GGUF"));
    };
    let tensors: Vec<TensorSource> = checkpoint.tensors().iter().map(TensorSource::from).collect();
    gguf::write(path, &header.metadata, &tensors)
}

impl RandomModel {
    fn config(&self) -> ModelConfig {
        let head_dim = self.hidden / self.heads;
        ModelConfig {
            family: "llama".to_owned(),
            hidden_size: self.hidden,
            n_layers: self.layers,
            n_heads: self.heads,
            n_kv_heads: self.kv_heads,
            head_dim,
            intermediate_size: self.wide,
            vocab_size: self.vocab,
            max_positions: self.context,
            norm: NormKind::Rms,
            norm_eps: 1e-5,
            position: Position::Rope { theta: self.theta as f32, dim: head_dim },
            rope_scaling: RopeScaling::None,
            window: None,
            qk_norm: false,
            post_norms: false,
            embed_scale: 1.0,
            ffn: Ffn::SiluGated,
            tied_embeddings: self.tied,
            attn_scale: 1.0 / (head_dim as f32).sqrt(),
        }
    }

    /// Name, role and shape of every tensor, in the order of llama.cpp's converter.
    fn tensors(&self) -> Vec<(String, Role, Vec<usize>)> {
        let (hidden, wide) = (self.hidden, self.wide);
        let kv = hidden / self.heads * self.kv_heads;
        let mut all = vec![("token_embd.weight".to_owned(), Role::Embedding, vec![self.vocab, hidden])];
        for l in 0..self.layers {
            let mut add = |part: &str, role, dims: &[usize]| {
                all.push((format!("blk.{l}.{part}.weight"), role, dims.to_vec()));
            };
            add("attn_norm", Role::Norm, &[hidden]);
            add("attn_q", Role::Linear, &[hidden, hidden]);
            add("attn_k", Role::Linear, &[kv, hidden]);
            add("attn_v", Role::Linear, &[kv, hidden]);
            add("attn_output", Role::Linear, &[hidden, hidden]);
            add("ffn_norm", Role::Norm, &[hidden]);
            add("ffn_gate", Role::Linear, &[wide, hidden]);
            add("ffn_up", Role::Linear, &[wide, hidden]);
            add("ffn_down", Role::Linear, &[hidden, wide]);
        }
        all.push(("output_norm.weight".to_owned(), Role::Norm, vec![hidden]));
        if !self.tied {
            all.push(("output.weight".to_owned(), Role::Head, vec![self.vocab, hidden]));
        }
        all
    }
}

/// What the recipe makes of a matrix.
fn encoding(config: &ModelConfig, quantize: Quantize, role: Role, gguf: &str, row_len: usize) -> DType {
    rule::plain(quantize, role).unwrap_or_else(|| {
        let layer = gguf.split('.').nth(1).and_then(|l| l.parse().ok()).unwrap_or(0);
        recipe::mix(quantize, &Subject { about: About::new(config, false), gguf, layer, row_len }).dtype
    })
}

fn ones(shape: Shape) -> Tensor {
    let bytes = 1f32.to_le_bytes().repeat(shape.numel());
    Tensor { dtype: DType::F32, shape, bytes: Bytes::from_vec(bytes) }
}

/// [`POOL`] pieces of normal numbers whose products with activations neither grow nor vanish.
fn pool(dtype: DType, row_len: usize, seed: u64) -> Result<Vec<u8>> {
    let mut dice = Dice::new(seed, dtype.name());
    let deviation = 0.5 / (row_len as f64).sqrt();
    let values: Vec<f32> = (0..POOL * PIECE).map(|_| (deviation * dice.normal()) as f32).collect();
    quant::from_f32(dtype, &Shape::from([POOL, PIECE]), &values)
}

fn drawn(dtype: DType, shape: Shape, pool: &[u8], dice: &mut Dice) -> Result<Tensor> {
    let (n, piece) = (shape.numel() / PIECE, pool.len() / POOL);
    let mut bytes = Vec::with_capacity(n * piece);
    for _ in 0..n {
        // The power of two divides the range of the bits, so every piece is equally likely.
        let at = dice.bits() as usize % POOL * piece;
        bytes.extend_from_slice(&pool[at..at + piece]);
    }
    if dtype.nbytes(&shape) != Some(bytes.len()) {
        return Err(Error::new(Kind::Internal, "random model", format!("{shape} is not made of pieces")));
    }
    Ok(Tensor { dtype, shape, bytes: Bytes::from_vec(bytes) })
}

/// The keys of llama.cpp's converter, with a tokenizer of bytes and made-up words.
fn metadata(config: &ModelConfig, quantize: Quantize, path: &Path) -> Result<Vec<(String, GgufValue)>> {
    let family = FAMILIES
        .iter()
        .find(|f| f.id() == config.family)
        .ok_or_else(|| Error::new(Kind::Internal, "random model", "its family is not in the table"))?;
    let text = |s: &str| GgufValue::String(s.to_owned());
    let mut keys = vec![
        ("general.architecture".to_owned(), text(&family.contract().gguf.architecture)),
        ("general.type".to_owned(), text("model")),
        ("general.name".to_owned(), text(&path.display().to_string())),
    ];
    keys.extend(family.write_gguf(config));
    keys.push(("general.file_type".to_owned(), GgufValue::U32(quantize.file_type())));
    keys.push(("general.quantization_version".to_owned(), GgufValue::U32(2)));
    keys.extend(tokenizer(config.vocab_size).to_gguf());
    Ok(keys)
}

fn tokenizer(vocab: usize) -> TokenizerSpec {
    let token = |text: String, kind, score| Token { text, score, kind };
    let mut tokens = vec![
        token("<unk>".to_owned(), TokenKind::Unknown, 0.0),
        token("<s>".to_owned(), TokenKind::Control, 0.0),
        token("</s>".to_owned(), TokenKind::Control, 0.0),
    ];
    tokens.extend((0..=255).map(|byte| token(format!("<0x{byte:02X}>"), TokenKind::Byte, 0.0)));
    let words = tokens.len()..vocab;
    tokens.extend(words.map(|id| token(format!("\u{2581}w{id}"), TokenKind::Normal, -(id as f32))));
    TokenizerSpec {
        model: TokenizerModel::SentencePiece,
        tokens,
        merges: Vec::new(),
        bos: Some(1),
        eos: Some(2),
        more_eos: Vec::new(),
        unk: Some(0),
        pad: None,
        add_bos: true,
        add_eos: false,
        add_space_prefix: true,
        nfc: false,
        chat_template: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{formats, models};

    /// A small shape whose rows are whole pieces.
    const TINY: RandomModel = RandomModel {
        name: "tiny",
        hidden: 256,
        wide: 512,
        layers: 4,
        heads: 4,
        kv_heads: 2,
        vocab: 300,
        context: 64,
        theta: 10_000,
        tied: true,
    };

    #[test]
    fn every_shape_is_made_of_whole_pieces() {
        for shape in RANDOM_MODELS {
            for (name, role, dims) in shape.tensors() {
                assert!(role == Role::Norm || dims[1].is_multiple_of(PIECE), "{} {name}", shape.name);
            }
        }
    }

    #[test]
    fn every_recipe_opens_as_a_model_of_finite_weights() {
        for &quantize in Quantize::ALL {
            let model = models::open(&random(&TINY, quantize, 1).expect("encodable")).expect("sound");
            assert_eq!(model.config, TINY.config(), "{}", quantize.name());
            let gate = &model.weights["0.gate_proj.weight"].tensor;
            assert_eq!(gate.dtype, quantize.main(), "{}", quantize.name());
            let values = quant::to_f32(gate).expect("decodable");
            let spread = (values.iter().map(|v| f64::from(v * v)).sum::<f64>() / values.len() as f64).sqrt();
            assert!((spread * 256f64.sqrt() - 0.5).abs() < 0.1, "{}: {spread}", quantize.name());
        }
    }

    #[test]
    fn a_recipe_mixes_as_in_a_conversion_and_a_seed_decides_the_bytes() {
        let of = |seed| random(&TINY, Quantize::Q4_K_M, seed).expect("encodable");
        let (a, b, c) = (of(1), of(1), of(2));
        let bytes = |c: &Checkpoint, name: &str| c.get(name).expect("there").tensor.bytes.to_vec();
        assert_eq!(a.get("token_embd.weight").expect("there").tensor.dtype, DType::Q6_K);
        assert_eq!(a.get("blk.0.attn_q.weight").expect("there").tensor.dtype, DType::Q4_K);
        assert_eq!(bytes(&a, "blk.1.ffn_up.weight"), bytes(&b, "blk.1.ffn_up.weight"));
        assert_ne!(bytes(&a, "blk.1.ffn_up.weight"), bytes(&c, "blk.1.ffn_up.weight"));
        assert_ne!(bytes(&a, "blk.1.ffn_up.weight"), bytes(&a, "blk.2.ffn_up.weight"));
    }

    #[test]
    fn a_written_one_opens_as_the_same_model_with_a_tokenizer() {
        let folder = tempfile::tempdir().expect("a writable folder");
        let path = folder.path().join("random.gguf");
        let made = random(&TINY, Quantize::Q8_0, 3).expect("encodable");
        write_random(&path, &made).expect("writable");
        let read = formats::open(&path).expect("a GGUF");
        let (ours, theirs) = (models::open(&made).expect("sound"), models::open(&read).expect("sound"));
        assert_eq!(ours.config, theirs.config);
        for (name, weight) in &ours.weights {
            assert_eq!(*weight.tensor.bytes, *theirs.weights[name].tensor.bytes, "{name}");
        }
        assert_eq!(TokenizerSpec::from_checkpoint(&read).expect("a tokenizer"), tokenizer(300));
    }
}
