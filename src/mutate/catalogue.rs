//! Every kind of defect, one row each, in the order in which reports list them.

use super::{Class, Defect, Site, blocks, container, head, layers, norms, rows, settings, tokenizer, values};
use crate::playbook::{Dialect, Format, Ground};
use crate::quant::Quantize;
use Class::*;
use Site::{File, Layer, Setting, Tensor};

/// Families whose GGUF stores rows of q and k as interleaved pairs.
const PAIRED: &[&str] = &["llama", "mistral"];
/// Families that store them as halves everywhere.
const HALVED: &[&str] = &["qwen2", "qwen3", "gemma3", "phi3"];
const ROTARY: &[&str] = &["llama", "mistral", "qwen2", "qwen3", "gemma3", "phi3"];
const GROUPED: &[&str] = ROTARY;
const FUSED: &[&str] = &["gpt2", "phi3"];
const APART: &[&str] = &["llama", "mistral", "qwen2", "qwen3", "gemma3"];
const BIASED: &[&str] = &["qwen2", "gpt2"];
const WINDOWED: &[&str] = &["mistral", "phi3", "gemma3"];

/// The catalogue. What each stands for is told in its own line; several are tickets of aprender (GH-…).
#[rustfmt::skip] // one row a line
pub const DEFECTS: &[Defect] = &[
    row("rope-permutation-missing", "rows of q or k in a llama-type GGUF stay as halves; the writer forgot the permutation", Rope, Tensor, &["rows-interleaved"], |g| gguf(g) && g.is_of(PAIRED), rows::ROPE_MISSING),
    row("rope-permutation-doubled", "rows of q or k in a llama-type GGUF are put into pairs twice", Rope, Tensor, &["rows-interleaved"], |g| gguf(g) && g.is_of(PAIRED), rows::ROPE_DOUBLED),
    row("rope-permutation-unwanted", "rows of q or k are put into pairs where the family, or the container, has halves", Rope, Tensor, &["rows-interleaved"], |g| g.is_of(HALVED) || (!gguf(g) && g.is_of(PAIRED)), rows::ROPE_UNWANTED),
    row("rope-permutation-wrong-heads", "rows of k are permuted with the number of query heads", Rope, Tensor, &["rows-permuted-by-wrong-heads"], |g| gguf(g) && g.is_of(PAIRED) && g.is_of(GROUPED), rows::ROPE_HEADS),
    row("rope-bias-unpermuted", "the bias of q or k is in another row order than its weight", Rope, Tensor, &["rows-interleaved"], |g| g.is_of(&["qwen2"]), rows::ROPE_BIAS),
    row("square-transposed", "a square weight is transposed, which no shape tells", Layout, Tensor, &["transposed"], |g| !g.is_of(&["qwen3"]), rows::SQUARE_TRANSPOSED),
    row("weight-transposed", "a weight is written column by column beneath its right shape", Layout, Tensor, &["transposed"], always, rows::TRANSPOSED),
    row("embedding-transposed", "embedding or head is written column by column (GH-187, GH-202)", Layout, Tensor, &["transposed"], always, rows::EMBEDDING_TRANSPOSED),
    row("conv1d-untransposed", "a Conv1D weight of GPT-2 keeps its [in, out] order", Layout, Tensor, &["transposed"], |g| g.is_of(&["gpt2"]) && g.format != Format::Safetensors && g.dialect.is_none(), head::CONV1D),
    row("fused-order", "the parts of a fused q, k and v are in another order", Layout, Tensor, &["swapped-tensors"], |g| g.is_of(FUSED) && g.format != Format::Apr, layers::FUSED_ORDER),
    row("qkv-fused", "q, k and v are fused in a file that has them apart (GH-192)", Layout, Layer, &["swapped-tensors"], |g| g.is_of(APART), layers::QKV_FUSED),
    row("names-of-hf", "tensors have the names of Hugging Face where short ones are due (GH-190)", Layout, File, &["tensor-names"], |g| g.format != Format::Safetensors && g.dialect.is_none(), head::OTHER_NAMES),
    row("masks-exported", "GPT-2's causal masks are exported as weights", Layout, Tensor, &["extra-tensor"], |g| g.is_of(&["gpt2"]) && g.format != Format::Safetensors, head::MASKS),
    row("scales-exported", "scales of a quantised source are exported as weights", Layout, Tensor, &["extra-tensor"], |g| g.format == Format::Safetensors, head::RAW_SCALES),
    row("attention-swapped", "two of q, k, v and o with one shape are in each other's place", Order, Tensor, &["swapped-tensors"], always, layers::ATTENTION_SWAPPED),
    row("gate-up-swapped", "gate and up are in each other's place", Order, Tensor, &["swapped-tensors"], |g| g.is_of(ROTARY), layers::GATE_UP_SWAPPED),
    row("norms-swapped", "two norms of a layer are in each other's place", Order, Tensor, &["swapped-tensors"], always, layers::NORMS_SWAPPED),
    row("layer-shifted", "from one layer on every layer holds the next one's weights", Order, Layer, &["shifted-layer", "duplicated-layer"], always, layers::SHIFTED),
    row("layer-duplicated", "a layer holds the weights of another", Order, Layer, &["duplicated-layer", "shifted-layer"], always, layers::DUPLICATED),
    row("layer-missing", "the tensors of a declared layer are not there", Order, Layer, &["dropped-layer"], always, layers::MISSING),
    row("layer-dropped", "a layer is left out and the others moved up", Order, Setting, &["dropped-layer"], always, layers::DROPPED),
    row("tensors-lost", "half of the layers' tensors are not there (GH-194)", Order, Tensor, &["dropped-layer", "missing-tensor"], always, layers::TENSORS_LOST),
    row("norm-plus-one", "1 is added to a norm: folded twice, or where no family does", Norms, Tensor, &["norm-plus-one"], always, norms::PLUS_ONE),
    row("norm-minus-one", "1 is taken from a norm: not folded where it is due", Norms, Tensor, &["norm-minus-one"], always, norms::MINUS_ONE),
    row("norm-zeroed", "a norm is all zero (GH-189)", Norms, Tensor, &["zeroed"], always, norms::ZEROED),
    row("bias-dropped", "biases are not written", Biases, Tensor, &["bias-dropped"], |g| g.is_of(BIASED), norms::BIAS_DROPPED),
    row("bias-zeroed", "a bias is all zero", Biases, Tensor, &["bias-zeroed", "zeroed"], |g| g.is_of(BIASED), norms::BIAS_ZEROED),
    row("tied-head-broken", "a tied model has a head of its own, or an untied one has none", Vocabulary, Tensor, &["tied-head"], always, head::TIE_BROKEN),
    row("embedding-permuted", "rows of embedding or head are in another order", Vocabulary, Tensor, &["embedding-permuted", "rows-permuted"], always, rows::EMBEDDING_PERMUTED),
    row("vocabulary-padding-lost", "the last rows of the vocabulary are cut off", Vocabulary, Tensor, &["vocabulary-padding"], always, head::PADDING_LOST),
    row("embed-scale-folded", "gemma's factor of the embedding is folded into the weights", Vocabulary, Tensor, &["embed-scale", "scaled"], |g| g.is_of(&["gemma3"]), head::EMBED_SCALE),
    row("positions-shifted", "GPT-2's learned positions are moved by one", Vocabulary, Tensor, &["rows-permuted", "offset"], |g| g.is_of(&["gpt2"]), rows::POSITIONS_SHIFTED),
    row("tensor-zeroed", "a weight is all zero", Values, Tensor, &["zeroed"], always, values::ZEROED),
    row("rows-zeroed", "a sixteenth of the rows of a weight is zero", Values, Tensor, &["zeroed", "rows-zeroed"], always, values::ROWS_ZEROED),
    row("tensor-scaled", "a weight is multiplied by 1.05", Values, Tensor, &["scaled"], always, values::SCALED),
    row("tensor-noise", "a weight has noise of 20 dB", Values, Tensor, &["noise"], always, values::NOISE),
    row("bf16-as-f16", "two-byte floats of one kind are read as the other", Values, Tensor, &["bf16-as-f16", "wrong-dtype"], |g| !g.in_blocks() && g.quantize != Some(Quantize::F32), values::HALVES_CONFUSED),
    row("non-finite", "a weight or a scale is NaN or infinite (GH-172, GH-177)", Values, Tensor, &["non-finite"], |g| g.dialect.is_none() || !g.in_blocks(), values::NON_FINITE),
    row("weight-bit-flipped", "the highest exponent bit of one plain weight is flipped", Values, Tensor, &["bit-flipped"], always, values::WEIGHT_BIT),
    row("quants-truncated", "eight-bit quants are cut towards zero instead of rounded", Values, Tensor, &["noise", "scaled"], |g| g.dialect.is_none() && matches!(g.quantize, Some(Quantize::Int8 | Quantize::Q8_0)), values::TRUNCATED),
    row("scale-bit-flipped", "the highest exponent bit of one block's scale is flipped", Blocks, Tensor, &["bit-flipped"], in_halves, blocks::SCALE_BIT),
    row("scale-sign-flipped", "the sign of every scale of a weight is flipped", Blocks, Tensor, &["sign-flipped"], in_halves, blocks::SCALE_SIGN),
    row("nibbles-swapped", "low and high nibbles are swapped", Blocks, Tensor, &["nibble-order"], in_nibbles, blocks::NIBBLES_SWAPPED),
    row("nibbles-interleaved", "nibbles are neighbors where halves are due, or the other way round", Blocks, Tensor, &["nibble-order"], in_nibbles, blocks::NIBBLES_INTERLEAVED),
    row("blocks-rotated", "the blocks of every row are moved by one", Blocks, Tensor, &["block-rotated"], in_halves, blocks::BLOCKS_ROTATED),
    row("minimum-lost", "the minimums of blocks are lost", Blocks, Tensor, &["minimum-lost"], with_minimum, blocks::MINIMUM_LOST),
    row("fields-scrambled", "high bits of five-bit blocks, or packed scales, are in reverse order", Blocks, Tensor, &["bit-flipped", "noise", "block-fields"], with_fields, blocks::FIELDS_SCRAMBLED),
    row("dtype-mislabelled", "a tensor is labelled with another type", Class::Container, Tensor, &["wrong-dtype", "bf16-as-f16"], always, container::MISLABELLED),
    row("dtype-as-f32", "a tensor is labelled F32, the default of a careless reader (GH-186)", Class::Container, Tensor, &["wrong-dtype"], always, container::AS_F32),
    row("private-dtype-numbers", "types are written by a numbering of the writer's own (GH-191)", Class::Container, Tensor, &["wrong-dtype"], |g| { g.format != Format::Safetensors && g.dialect.is_none() && matches!(g.quantize, None | Some(Quantize::Bf16 | Quantize::Int8 | Quantize::Int4 | Quantize::Q8_0 | Quantize::Q4_0)) && !g.is_of(&["gpt2"]) }, container::PRIVATE_NUMBERS),
    row("dims-reversed", "the dimensions of a weight are in the other order", Class::Container, Tensor, &["dims-reversed", "transposed"], always, container::DIMS_REVERSED),
    row("offset-by-a-block", "a tensor is read from one block too late", Class::Container, Tensor, &["offset"], |g| g.dialect.is_none(), container::OFF_BY_A_BLOCK),
    row("offsets-shifted", "every place after one tensor is an alignment unit too far", Class::Container, File, &["offset"], always, container::OFFSETS_SHIFTED),
    row("cut-short", "the file ends early", Class::Container, File, &["offset"], always, container::CUT_SHORT),
    row("key-twice", "a metadata key stands twice", Class::Container, File, &["key-twice"], always, container::KEY_TWICE),
    row("shard-skipped", "a shard is not there", Class::Container, Tensor, &["missing-shard"], |g| g.format == Format::Safetensors, container::SHARD_SKIPPED),
    row("shard-index-stale", "the index of shards is that of another set", Class::Container, Tensor, &["missing-shard"], |g| g.format == Format::Safetensors, container::SHARD_STALE),
    row("config-lost", "the folder has no config.json (GH-182)", Class::Container, File, &["config-lost"], |g| g.format == Format::Safetensors, container::CONFIG_LOST),
    row("rope-theta", "the rotary base is the default instead of the model's", Settings, Setting, &["rope-theta"], |g| g.is_of(ROTARY), settings::THETA),
    row("rope-scaling", "rotary scaling is lost, or appears where there is none", Settings, Setting, &["rope-scaling"], |g| g.is_of(ROTARY), settings::SCALING),
    row("norm-eps", "another epsilon of the norms", Settings, Setting, &["norm-eps"], always, settings::EPS),
    row("kv-heads", "as many key heads as query heads", Settings, Setting, &["head-count"], |g| g.is_of(GROUPED), settings::KV_HEADS),
    row("head-dim-derived", "the head width is taken as hidden over heads", Settings, Setting, &["head-dim"], |g| g.is_of(&["qwen3"]), settings::HEAD_DIM),
    row("attention-scale", "another scale of the attention scores", Settings, Setting, &["attention-scale"], |g| { (g.format == Format::Apr && g.is_of(ROTARY)) || (g.format == Format::Safetensors && g.is_of(&["gemma3"])) }, settings::ATTENTION_SCALE),
    row("window-lost", "the attention window is not said", Settings, Setting, &["window"], |g| g.is_of(WINDOWED), settings::WINDOW_LOST),
    row("window-size", "another attention window", Settings, Setting, &["window"], |g| g.is_of(WINDOWED), settings::WINDOW_SIZE),
    row("window-pattern", "full attention on other layers", Settings, Setting, &["window"], |g| g.is_of(&["gemma3"]), settings::WINDOW_PATTERN),
    row("local-theta", "the local layers have the rotary base of the others", Settings, Setting, &["rope-theta", "window"], |g| g.is_of(&["gemma3"]), settings::LOCAL_THETA),
    row("context-cut", "a shorter context", Settings, Setting, &["context-length"], always, settings::CONTEXT),
    row("layer-count", "another number of layers than the file has", Settings, Setting, &["dropped-layer", "layer-count"], always, settings::LAYER_COUNT),
    row("tie-flag", "tied is said of an untied head, or untied of a tied one", Settings, Setting, &["tied-head"], |g| g.format != Format::Gguf && g.dialect.is_none(), settings::TIE_FLAG),
    row("switch-unknown", "soft caps or an activation that the decoder does not have", Settings, Setting, &["switch"], |g| g.format == Format::Safetensors, settings::SWITCH),
    row("family-renamed", "the file names another family", Settings, Setting, &["family"], always, settings::FAMILY),
    row("bos-rule", "BOS is lost where it is added, or added where it is not", Class::Tokenizer, Site::Tokenizer, &["bos"], always, tokenizer::BOS_RULE),
    row("bos-twice", "BOS is added by the tokenizer and by the chat template", Class::Tokenizer, Site::Tokenizer, &["bos", "chat-template"], always, tokenizer::BOS_TWICE),
    row("bos-wrong", "another token is BOS", Class::Tokenizer, Site::Tokenizer, &["bos"], always, tokenizer::BOS_WRONG),
    row("eos-wrong", "another token is EOS, or one of several is lost", Class::Tokenizer, Site::Tokenizer, &["eos"], always, tokenizer::EOS_WRONG),
    row("merges-truncated", "merge rules, or the order of scores, are lost", Class::Tokenizer, Site::Tokenizer, &["merges"], always, tokenizer::MERGES),
    row("tokens-swapped", "two tokens are in each other's place", Class::Tokenizer, Site::Tokenizer, &["token-swapped"], always, tokenizer::SWAPPED),
    row("pre-tokenizer", "text is cut in another way before it is merged", Class::Tokenizer, Site::Tokenizer, &["pre-tokenizer"], always, tokenizer::PRE),
    row("special-as-normal", "a special token is typed as ordinary text", Class::Tokenizer, Site::Tokenizer, &["token-type"], always, tokenizer::SPECIAL_AS_NORMAL),
    row("chat-template", "the chat template is trimmed, or another model's", Class::Tokenizer, Site::Tokenizer, &["chat-template"], always, tokenizer::TEMPLATE),
    row("vocabulary-cut", "the last token is not in the vocabulary", Class::Tokenizer, Site::Tokenizer, &["vocabulary-padding", "token-swapped", "vocabulary"], always, tokenizer::VOCABULARY_CUT),
    row("tokenizer-lost", "the file has no tokenizer (GH-182, GH-185)", Class::Tokenizer, Site::Tokenizer, &["tokenizer-lost"], always, tokenizer::LOST),
];

const fn row(
    id: &'static str,
    what: &'static str,
    class: Class,
    site: Site,
    causes: &'static [&'static str],
    applies: fn(&Ground) -> bool,
    plant: super::Plant,
) -> Defect {
    Defect { id, what, class, site, causes, applies, plant }
}

fn always(_: &Ground) -> bool {
    true
}

fn gguf(ground: &Ground) -> bool {
    ground.format == Format::Gguf
}

/// Blocks with an f16 scale each, which aprender's int8 does not have.
fn in_halves(ground: &Ground) -> bool {
    let apr_int8 = ground.dialect == Some(Dialect::Aprender) && ground.quantize == Some(Quantize::Int8);
    ground.in_blocks() && !apr_int8
}

fn in_nibbles(ground: &Ground) -> bool {
    use Quantize::*;
    matches!(ground.quantize, Some(Int4 | Q4_0 | Q4_1 | Q5_0 | Q5_1 | Q4_K_S | Q4_K_M | Q5_K_S | Q5_K_M))
}

fn with_minimum(ground: &Ground) -> bool {
    matches!(ground.quantize, Some(Quantize::Q4_1 | Quantize::Q5_1))
}

fn with_fields(ground: &Ground) -> bool {
    matches!(ground.quantize, Some(Quantize::Q5_0 | Quantize::Q5_1 | Quantize::Q4_K_M | Quantize::Q5_K_M))
}
