//! The importance of weight columns on a text: the sum over tokens of the squared input to every column, as
//! llama.cpp's `llama-imatrix` collects it, from chunks of a text, each in a fresh context.

use super::LoadedModel;
use crate::engine::{Observer, Op, Tap};
use crate::formats::imatrix::{Importance, ImportanceMatrix};
use crate::models::{FAMILIES, Family, gguf_name};
use crate::{Error, Kind, Result};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

/// Sums of squares by GGUF name. In f64: a text has more tokens than f32 has digits.
type Sums = BTreeMap<String, Vec<f64>>;

/// Runs whole chunks of `ctx` tokens and adds up the squares of what every linear weight is multiplied with. With
/// `bos`, the first token of every chunk is replaced by it. A rest shorter than `ctx` is left out. `dataset` names
/// the text.
///
/// # Errors
/// [`Kind::Usage`] for a text of less than one chunk or a `ctx` beyond the model's context; [`Kind::NonFinite`]
/// where an input overflows.
pub fn importance(
    model: &LoadedModel,
    ids: &[u32],
    ctx: usize,
    bos: Option<u32>,
    dataset: &str,
) -> Result<ImportanceMatrix> {
    let longest = model.config().max_positions;
    if !(1..=longest).contains(&ctx) {
        let what = format!("{ctx} tokens per chunk are out of range");
        return Err(Error::new(Kind::Usage, "ctx", what).hint(format!("use 1 to {longest}")));
    }
    if ids.len() < ctx {
        let what = format!("{} tokens are less than one chunk of {ctx}", ids.len());
        return Err(Error::new(Kind::Usage, "text", what).hint("give a longer text or a smaller --ctx"));
    }
    let id = model.config().family.as_str();
    let family = *FAMILIES.iter().find(|f| f.id() == id).ok_or_else(|| {
        Error::new(
            Kind::Internal,
            "importance",
            format!("a model of family `{id}` was loaded, which is in no table"),
        )
    })?;
    let sums: Arc<Mutex<Sums>> = Arc::default();
    let mut session = model.session();
    session.observe(Box::new(Collector { family, sums: Arc::clone(&sums) }));
    let mut chunks = 0u32;
    for chunk in ids.chunks_exact(ctx) {
        let mut chunk = chunk.to_vec();
        if let Some(bos) = bos {
            chunk[0] = bos;
        }
        session.reset();
        session.prefill(&chunk)?;
        chunks += 1;
    }
    drop(session);
    let sums = std::mem::take(&mut *sums.lock().unwrap_or_else(|p| p.into_inner()));
    let tokens = u64::from(chunks) * ctx as u64;
    let entry = |(name, sums): (String, Vec<f64>)| {
        let sums: Vec<f32> = sums.into_iter().map(|s| s as f32).collect();
        match sums.iter().position(|s| !s.is_finite()) {
            None => Ok((name, Importance { sums, counts: vec![tokens] })),
            Some(column) => {
                let error =
                    Error::new(Kind::NonFinite, "importance", "the sum of squared inputs is not finite");
                Err(error.at(format!("tensor `{name}`, column {column}")))
            }
        }
    };
    Ok(ImportanceMatrix {
        entries: sums.into_iter().map(entry).collect::<Result<_>>()?,
        chunk_count: chunks,
        chunk_size: u32::try_from(ctx).unwrap_or(u32::MAX),
        datasets: vec![dataset.to_owned()],
    })
}

/// Adds up the squares of what linear weights are multiplied with.
struct Collector {
    family: &'static dyn Family,
    sums: Arc<Mutex<Sums>>,
}

impl Observer for Collector {
    fn wants(&self, op: Op) -> bool {
        !reads(op).is_empty()
    }

    fn see(&mut self, tap: Tap, inputs: Vec<f32>) -> Result<Option<Arc<Vec<f32>>>> {
        let layer = tap.layer.unwrap_or_default();
        for part in reads(tap.op) {
            // Of weights that GGUF fuses, one name stands for several parts with the same inputs: the first counts.
            let name = |part: &str| gguf_name(self.family, &format!("{layer}.{part}.weight"));
            let Some(own) = name(part) else { continue };
            let repeated = (*part == "k_proj" || *part == "v_proj") && name("q_proj").as_ref() == Some(&own);
            if repeated || (*part == "up_proj" && name("gate_proj").as_ref() == Some(&own)) {
                continue;
            }
            // A poisoned lock means that another observer panicked; its sums are still whole.
            let mut sums = self.sums.lock().unwrap_or_else(|p| p.into_inner());
            add_squares(sums.entry(own).or_default(), inputs.len() / tap.n, &inputs);
        }
        Ok(None)
    }
}

/// The linear weights that are multiplied with the output of an operation.
fn reads(op: Op) -> &'static [&'static str] {
    match op {
        Op::AttnNorm => &["q_proj", "k_proj", "v_proj"],
        Op::Attention => &["o_proj"],
        Op::FfnNorm => &["gate_proj", "up_proj"],
        Op::Activated => &["down_proj"],
        Op::Embedding
        | Op::Positions
        | Op::QProj
        | Op::KProj
        | Op::VProj
        | Op::QNorm
        | Op::KNorm
        | Op::QRotated
        | Op::KRotated
        | Op::OProj
        | Op::PostAttnNorm
        | Op::AttnResidual
        | Op::GateProj
        | Op::UpProj
        | Op::DownProj
        | Op::PostFfnNorm
        | Op::LayerOutput
        | Op::OutputNorm
        | Op::Logits => &[],
    }
}

/// `sums[c] += x[t, c]²` for every row of `inputs`, `[n, width]`.
fn add_squares(sums: &mut Vec<f64>, width: usize, inputs: &[f32]) {
    sums.resize(width, 0.0);
    for row in inputs.chunks_exact(width) {
        sums.iter_mut().zip(row).for_each(|(sum, x)| *sum += f64::from(*x) * f64::from(*x));
    }
}
