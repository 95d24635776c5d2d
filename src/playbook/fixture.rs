//! A small catalog and playbook for the tests of this module.

use super::{
    AgainstRule, Case, Catalog, Format, GateInfo, Ground, Param, ParamDefault, Playbook, parse, plan,
};

/// Gates of every shape.
pub(super) struct Shapes;

const PARITY: &[Param] = &[
    Param { name: "max_mismatches", doc: "most differing tokens", default: Some(ParamDefault::Required) },
    Param {
        name: "counting",
        doc: "which text is compared",
        default: Some(ParamDefault::Choice(&["free_running", "teacher_forced"])),
    },
    Param { name: "ceiling", doc: "most", default: None },
    Param { name: "encoding", doc: "the coarsest", default: Some(ParamDefault::DerivedWord) },
];

const OTHERS: &[Param] =
    &[Param { name: "tolerance", doc: "most that may differ", default: Some(ParamDefault::Number(0.5)) }];

impl Catalog for Shapes {
    fn gate(&self, id: &str) -> Option<GateInfo> {
        let (id, per_prompt, needs_backend, against) = match id {
            "token-parity" => ("token-parity", true, true, AgainstRule::None),
            "quant-drift" => ("quant-drift", false, true, AgainstRule::Artifact),
            "round-trip" => ("round-trip", false, true, AgainstRule::ArtifactOrSource),
            "runtime-parity" => ("runtime-parity", true, true, AgainstRule::BackendOrRuntime),
            "tensor-names" => ("tensor-names", false, false, AgainstRule::ArtifactOrSource),
            _ => return None,
        };
        let params = if id == "token-parity" { PARITY } else { OTHERS };
        Some(GateInfo { id, per_prompt, needs_backend, against, params })
    }

    fn gate_ids(&self) -> Vec<&'static str> {
        vec!["token-parity", "quant-drift", "round-trip", "runtime-parity", "tensor-names"]
    }

    fn defects(&self) -> Vec<&'static str> {
        vec!["everywhere", "gguf-only"]
    }

    fn defect_applies(&self, defect: &str, ground: &Ground) -> bool {
        defect == "everywhere" || ground.format == Format::Gguf
    }

    fn battery(&self) -> Vec<&'static str> {
        vec!["tensor-names", "round-trip"]
    }

    fn backend_names(&self) -> Vec<&'static str> {
        vec!["reference", "cpu"]
    }
}

/// Two models, five artifacts of which one is of one model only, two suites.
pub(super) const PLAYBOOK: &str = "\
version: 1
name: demo
models:
  tiny-llama: {source: ../oracle/models/tiny-llama, family: llama, perplexity_ceiling: 9}
  real: {source: ../models/real, optional: true}
prompts:
  hello: {text: Hello}
  code: {text: 'def f(n):'}
artifacts:
  safetensors: {source: true}
  apr-int8: {from: source, format: apr, quantize: int8}
  apr-int4: {from: source, format: apr, quantize: int4}
  gguf: {from: apr-int8, format: gguf}
  vendor: {file: vendor.gguf, models: [real]}
runtimes:
  llama: {command: [llama-completion, -m, '{model}', -p, '{prompt}'], optional: true}
suites:
  parity:
    - gate: token-parity
      limits: {max_mismatches: 3, counting: teacher_forced}
      timeout: 90s
    - gate: quant-drift
      artifacts: [apr-int8]
      against: apr-int4
    - gate: runtime-parity
      models: [tiny-llama]
      artifacts: [gguf]
      backends: [cpu, reference]
      prompts: [hello]
      against: llama
  files:
    - gate: tensor-names
    - gate: round-trip
      artifacts: [apr-int4]
      expect: fail
      reason: four bits are too few for this model
";

/// [`PLAYBOOK`], parsed.
pub(super) fn playbook() -> Playbook {
    parse("playbooks/demo.yaml", PLAYBOOK).expect("the fixture is valid")
}

/// [`PLAYBOOK`], planned.
pub(super) fn cases() -> Vec<Case> {
    plan(&playbook(), &Shapes).expect("the fixture is valid")
}
