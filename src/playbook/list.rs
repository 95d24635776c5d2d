//! The expanded cases, for people and as JSON.

use super::{Case, ParamValue};
use serde_json::{Value as Json, json};

/// One line per case id, suites set apart, and the count at the end.
pub fn list(cases: &[Case]) -> String {
    let mut text = String::new();
    let mut suite = None;
    for case in cases {
        if suite != Some(&case.suite) {
            if suite.is_some() {
                text.push('\n');
            }
            suite = Some(&case.suite);
        }
        text.push_str(&case.id);
        if case.expect_fail.is_some() {
            text.push_str("  (expected to fail)");
        }
        if case.optional {
            text.push_str("  (optional)");
        }
        text.push('\n');
    }
    let noun = if cases.len() == 1 { "case" } else { "cases" };
    text.push_str(&format!("\n{} {noun}\n", cases.len()));
    text
}

/// The cases as a JSON array, in plan order.
pub fn list_json(cases: &[Case]) -> Json {
    cases.iter().map(case_json).collect()
}

fn case_json(case: &Case) -> Json {
    let limits: serde_json::Map<String, Json> = case
        .limits
        .iter()
        .map(|(name, limit)| {
            let value = match &limit.value {
                ParamValue::Number(n) => json!(n),
                ParamValue::Text(t) => json!(t),
            };
            (name.clone(), value)
        })
        .collect();
    let prompts: Vec<&str> = case.prompts.iter().map(|p| p.0.as_str()).collect();
    json!({
        "id": case.id,
        "suite": case.suite,
        "gate": case.gate,
        "model": case.model,
        "artifact": case.artifact,
        "backend": Some(&case.backend).filter(|b| !b.is_empty()),
        "prompt": case.prompt.as_ref().map(|p| &p.0),
        "prompts": prompts,
        "against": case.against,
        "tokens": case.tokens,
        "limits": limits,
        "expect_fail": case.expect_fail,
        "optional": case.optional,
        "optional_backends": case.optional_backends,
        "timeout_s": case.timeout_s,
        "line": case.at.line,
    })
}

#[cfg(test)]
mod tests {
    use super::super::fixture;
    use super::*;

    #[test]
    fn every_case_is_listed_once_and_counted() {
        let cases = fixture::cases();
        let text = list(&cases);
        for case in &cases {
            assert_eq!(
                text.lines().filter(|l| l.split("  ").next() == Some(&case.id)).count(),
                1,
                "{}",
                case.id
            );
        }
        assert!(text.ends_with(&format!("\n{} cases\n", cases.len())));
        assert!(text.contains("files/round-trip/tiny-llama/apr-int4/cpu  (expected to fail)\n"), "{text}");
    }

    #[test]
    fn json_says_what_the_case_holds() {
        let json = list_json(&fixture::cases());
        let first = &json[0];
        assert_eq!(first["id"], "parity/token-parity/tiny-llama/safetensors/cpu/hello");
        assert_eq!(first["limits"]["max_mismatches"], 3.0);
        assert_eq!(first["limits"]["counting"], "teacher_forced");
        assert_eq!((&first["timeout_s"], &first["line"]), (&json!(90), &json!(19)));
    }
}
