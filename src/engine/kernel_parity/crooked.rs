//! A backend with one operation that leaves its contract by little: what the judge must find and name.

use super::{Judge, KernelResult, OPERATIONS};
use crate::Result;
use crate::contract::kernels::Kernel;
use crate::engine::decoder::Decoder;
use crate::engine::random_model::{config, gemma_like, model};
use crate::engine::reference::{Cache, Reference, Rows};
use crate::engine::{Activation, Angles, Backend, Engine, Heads, Linear, Norm, Part};
use crate::models::Weight;
use crate::tensor::DType;
use std::collections::BTreeSet;

/// The reference, of which this operation is wrong by one and a half times its tolerance in its last element.
struct Crooked(&'static str);

impl Crooked {
    /// Bends the last element of what `operation` gave, where that is the wrong one.
    fn bend(&self, operation: &str, contract: &str, values: &mut [f32]) {
        if self.0 != operation {
            return;
        }
        let tolerance = Kernel::load(contract).expect("a built-in contract").tolerance;
        let numbers: Vec<f32> = values.iter().copied().filter(|v| v.is_finite()).collect();
        if let Some(last) = values.last_mut() {
            let bent = f64::from(*last) + 1.5 * tolerance.bound(&numbers);
            *last = if tolerance.max_error == 0.0 { last.next_up() } else { bent as f32 };
        }
    }

    fn bend_rows(&self, operation: &str, contract: &str, rows: &mut Rows) -> Result<()> {
        let mut values = Reference.download(rows)?;
        self.bend(operation, contract, &mut values);
        rows.replace(values);
        Ok(())
    }
}

fn straight(linear: &Linear<Crooked>) -> Linear<Reference> {
    Linear { weight: linear.weight.clone(), bias: linear.bias.clone() }
}

fn straight_norm(norm: &Norm<Crooked>) -> Norm<Reference> {
    Norm { rule: norm.rule, weight: norm.weight.clone(), bias: norm.bias.clone() }
}

impl Backend for Crooked {
    type Buffer = Rows;
    type Matrix = Weight;
    type Vector = Vec<f32>;
    type Cache = Cache;
    type Chosen = Vec<Option<u32>>;

    fn name(&self) -> &'static str {
        "crooked"
    }

    fn matrix(&self, weight: &Weight) -> Result<Weight> {
        Reference.matrix(weight)
    }

    fn vector(&self, values: Vec<f32>) -> Result<Vec<f32>> {
        Ok(values)
    }

    fn buffer(&self, width: usize) -> Rows {
        Reference.buffer(width)
    }

    fn upload(&self, width: usize, values: &[f32]) -> Result<Rows> {
        Reference.upload(width, values)
    }

    fn download(&self, buffer: &Rows) -> Result<Vec<f32>> {
        Reference.download(buffer)
    }

    fn cache(&self, heads: &Heads) -> Cache {
        Reference.cache(heads)
    }

    fn chosen(&self, most: usize) -> Result<Vec<Option<u32>>> {
        Reference.chosen(most)
    }

    fn read_chosen(&self, chosen: &Vec<Option<u32>>) -> Result<Vec<Option<u32>>> {
        Reference.read_chosen(chosen)
    }

    fn embed(&self, table: &Weight, ids: &[u32], x: &mut Rows) -> Result<()> {
        Reference.embed(table, ids, x)?;
        self.bend_rows("embed", "embedding", x)
    }

    fn embed_chosen(&self, table: &Weight, chosen: &Vec<Option<u32>>, x: &mut Rows) -> Result<()> {
        Reference.embed_chosen(table, chosen, x)?;
        self.bend_rows("embed_chosen", "embedding", x)
    }

    fn scale(&self, factor: f32, x: &mut Rows) -> Result<()> {
        Reference.scale(factor, x)?;
        self.bend_rows("scale", "residual", x)
    }

    fn add(&self, x: &Rows, residual: &mut Rows) -> Result<()> {
        Reference.add(x, residual)?;
        self.bend_rows("add", "residual", residual)
    }

    fn norm_heads(&self, norm: &Norm<Self>, head_dim: usize, x: &mut Rows) -> Result<()> {
        Reference.norm_heads(&straight_norm(norm), head_dim, x)?;
        self.bend_rows("norm_heads", "rms_norm", x)
    }

    fn add_positions(&self, table: &Weight, positions: &[usize], x: &mut Rows) -> Result<()> {
        Reference.add_positions(table, positions, x)?;
        self.bend_rows("add_positions", "embedding", x)
    }

    fn norm(&self, norm: &Norm<Self>, x: &Rows, out: &mut Rows) -> Result<()> {
        Reference.norm(&straight_norm(norm), x, out)?;
        self.bend_rows("norm", "rms_norm", out)
    }

    fn linear<const N: usize>(
        &self,
        weights: [&Linear<Self>; N],
        x: &Rows,
        outs: [&mut Rows; N],
    ) -> Result<()> {
        for (weight, out) in weights.into_iter().zip(outs) {
            Reference.linear([&straight(weight)], x, [&mut *out])?;
            self.bend_rows("linear", "matmul", out)?;
        }
        Ok(())
    }

    fn linear_add(&self, weight: &Linear<Self>, x: &Rows, residual: &mut Rows) -> Result<()> {
        Reference.linear_add(&straight(weight), x, residual)?;
        self.bend_rows("linear_add", "matmul", residual)
    }

    fn rope_store(
        &self,
        heads: &Heads,
        angles: Option<&Angles>,
        (q, k, v): (&mut Rows, &mut Rows, &Rows),
        parts: &mut [Part<'_, Cache>],
    ) -> Result<()> {
        Reference.rope_store(heads, angles, (&mut *q, k, v), parts)?;
        self.bend_rows("rope_store", "rope", q)
    }

    fn attend(
        &self,
        heads: &Heads,
        window: Option<usize>,
        q: &Rows,
        parts: &[Part<'_, Cache>],
        out: &mut Rows,
    ) -> Result<()> {
        Reference.attend(heads, window, q, parts, out)?;
        self.bend_rows("attend", "attention", out)
    }

    fn gated(
        &self,
        activation: Activation,
        gate: &Linear<Self>,
        up: &Linear<Self>,
        x: &Rows,
        out: &mut Rows,
    ) -> Result<()> {
        Reference.gated(activation, &straight(gate), &straight(up), x, out)?;
        self.bend_rows("gated", "swiglu", out)
    }

    fn gelu(&self, up: &Linear<Self>, x: &Rows, out: &mut Rows) -> Result<()> {
        Reference.gelu(&straight(up), x, out)?;
        self.bend_rows("gelu", "swiglu", out)
    }

    fn head(
        &self,
        norm: &Norm<Self>,
        head: &Weight,
        x: &Rows,
        rows: &[usize],
        logits: &mut [f32],
    ) -> Result<()> {
        Reference.head(&straight_norm(norm), head, x, rows, logits)?;
        self.bend("head", "matmul", logits);
        Ok(())
    }

    fn choose(
        &self,
        norm: &Norm<Self>,
        head: &Weight,
        x: &Rows,
        row: usize,
        chosen: &mut Vec<Option<u32>>,
    ) -> Result<()> {
        Reference.choose(&straight_norm(norm), head, x, row, chosen)?;
        if self.0 == "choose" {
            let vocab = head.tensor.shape.rows() as u32;
            chosen.iter_mut().flatten().for_each(|id| *id = (*id + 1) % vocab);
        }
        Ok(())
    }

    fn best(
        &self,
        norm: &Norm<Self>,
        head: &Weight,
        x: &Rows,
        row: usize,
        k: usize,
    ) -> Result<Vec<(u32, f32)>> {
        let mut best = Reference.best(&straight_norm(norm), head, x, row, k)?;
        if self.0 == "best" {
            best.reverse();
        }
        Ok(best)
    }
}

fn faulty(results: &[KernelResult]) -> BTreeSet<&'static str> {
    results.iter().filter(|r| r.worst > 1.0 && !r.faults.is_empty()).map(|r| r.operation).collect()
}

#[test]
fn a_fault_of_any_operation_is_found_and_named_on_made_up_shapes() {
    for wrong in ["nothing"].iter().chain(OPERATIONS) {
        let backend = Crooked(wrong);
        let mut judge = Judge::new(&backend);
        judge.edges(&[DType::Q8_0]).expect("the reference computes everything");
        let results = judge.results();
        assert!(results.iter().all(|r| r.compared > 0), "{results:?}");
        let mut found = faulty(&results);
        if *wrong == "attend" {
            // What is kept is seen by attending to it.
            assert!(found.remove("rope_store"));
        }
        let expected: BTreeSet<&str> = [*wrong].into_iter().filter(|w| *w != "nothing").collect();
        assert_eq!(found, expected);
    }
}

#[test]
fn a_fault_on_a_models_own_weights_is_named_with_its_tensor() {
    let model = model(&config("llama"), DType::Q8_0, 3);
    let mut broken = model.clone();
    // One byte of one block: the backend multiplies with another weight than the file's.
    let weight = broken.weights.get_mut("1.down_proj.weight").expect("there");
    let mut bytes = weight.tensor.bytes.to_vec();
    bytes[2] ^= 1;
    weight.tensor.bytes = crate::tensor::Bytes::from_vec(bytes);
    let results = Decoder::load(Reference, &broken).expect("whole").judge_kernels(&model).expect("computed");
    assert_eq!(faulty(&results), BTreeSet::from(["linear_add"]));
    let wrong = results.iter().find(|r| r.operation == "linear_add").expect("told");
    let whole = "`1.down_proj.weight` [256, 512] Q8_0";
    assert!(wrong.faults.iter().all(|f| f.place.starts_with(whole) && f.at.1 == 0), "{:?}", wrong.faults);
}

#[test]
fn every_backend_is_sound_on_the_weights_of_every_family() {
    use crate::engine::cpu::{Cpu, Numerics};
    let cases = [
        (config("llama"), DType::Q4_K),
        (config("qwen2"), DType::AprQ8),
        (config("gpt2"), DType::BF16),
        (gemma_like(), DType::Q5_1),
    ];
    for (config, dtype) in cases {
        let model = model(&config, dtype, 3);
        let check = |engine: &dyn Engine| {
            let results = engine.judge_kernels(&model).expect("computed");
            let name = engine.backend_name();
            assert!(faulty(&results).is_empty(), "{name} {} {dtype}: {results:#?}", config.family);
            assert!(results.iter().all(|r| r.compared > 0 && r.worst <= 1.0), "{name}: {results:#?}");
        };
        for numerics in [Numerics::Exact, Numerics::Fast] {
            let cpu = Cpu::new(2, numerics).expect("threads");
            check(&Decoder::load(cpu, &model).expect("whole"));
            #[cfg(feature = "wgpu")]
            if let Some(gpu) = crate::engine::wgpu::for_tests(numerics) {
                check(&Decoder::load(gpu, &model).expect("whole"));
            }
        }
    }
}
