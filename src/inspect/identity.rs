//! The identity of a model's weights: equal exactly where an engine computes the same with them, bit for bit.
//!
//! Names, encodings, shapes and blocks in canonical order enter, so neither container nor stored order of rows does.

use super::view::{View, Viewed};
use crate::{Error, Kind, Result};
use sha2::{Digest, Sha256};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// SHA-256 over all weights of `view`. `threads` share the tensors.
///
/// # Errors
/// Where a tensor whose blocks are not those of its canonical rows cannot be decoded; the first by name.
pub fn identity(view: &View, threads: usize) -> Result<[u8; 32]> {
    let mut tensors: Vec<&Viewed> = view.tensors.iter().collect();
    tensors.sort_by(|a, b| a.name().cmp(b.name()));
    let next = AtomicUsize::new(0);
    let work = || {
        let mut done: Vec<(usize, Result<[u8; 32]>)> = Vec::new();
        loop {
            let i = next.fetch_add(1, Ordering::Relaxed);
            let Some(tensor) = tensors.get(i) else { return done };
            done.push((i, of_tensor(tensor)));
        }
    };
    let mut digests: Vec<(usize, Result<[u8; 32]>)> = thread::scope(|scope| {
        let workers: Vec<_> = (1..threads.max(1)).map(|_| scope.spawn(work)).collect();
        let mut all = work();
        for worker in workers {
            all.extend(worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
        all
    });
    digests.sort_by_key(|(i, _)| *i);
    if digests.is_empty() {
        return Err(Error::new(Kind::Contract, "weights", "there are none"));
    }
    let mut whole = Sha256::new();
    for (_, digest) in digests {
        whole.update(digest?);
    }
    Ok(whole.finalize().into())
}

fn of_tensor(tensor: &Viewed) -> Result<[u8; 32]> {
    let mut hash = Sha256::new();
    hash.update((tensor.name().len() as u64).to_le_bytes());
    hash.update(tensor.name());
    hash.update([tensor.dtype() as u8, tensor.shape().ndim() as u8]);
    tensor.shape().0.iter().for_each(|n| hash.update((*n as u64).to_le_bytes()));
    match tensor.blocks()? {
        Some(bytes) => hash.update(bytes),
        // The values of such a tensor are all that an engine sees of it.
        None => {
            hash.update([0xff]);
            tensor.values()?.iter().for_each(|v| hash.update(v.to_le_bytes()));
        }
    }
    Ok(hash.finalize().into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::convert::{ConvertOptions, convert, encodings, twin};
    use crate::formats::open;
    use crate::inspect::{view, view_of_model};
    use crate::quant::Quantize;
    use std::path::Path;

    #[test]
    fn containers_of_one_model_are_identical_and_so_is_its_twin() {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("oracle/models/tiny-llama");
        let folder = tempfile::tempdir().expect("a temporary folder");
        let reference = open(&source).expect("a sound model");
        let made = |name: &str, quantize| {
            let path = folder.path().join(name);
            let options = ConvertOptions { quantize: Some(quantize), ..ConvertOptions::default() };
            convert(&source, &path, &options).expect("converts");
            open(&path).expect("a sound conversion")
        };
        let of = |checkpoint: &_| identity(&view(checkpoint).expect("bound"), 2).expect("decodes");
        let (gguf, apr) = (made("a.gguf", Quantize::Q8_0), made("a.apr", Quantize::Q8_0));
        assert_eq!(of(&gguf), of(&apr));
        assert_ne!(of(&gguf), of(&reference));
        assert_ne!(of(&gguf), of(&made("b.gguf", Quantize::Q4_0)));
        let types = encodings(&gguf).expect("bound");
        let twin = view_of_model(&twin(&reference, &types, 1).expect("encodes"));
        assert_eq!(identity(&twin, 1).expect("decodes"), of(&gguf));
    }
}
