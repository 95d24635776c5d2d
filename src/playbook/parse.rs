//! Text to [`Playbook`]: every fault of form is reported at once, with its place.

use super::check::check;
use super::diagnostics::{Diagnostics, Gather};
use super::located::At;
use super::schema::Playbook;
use super::schema_json::schema;
use super::source::Source;
use super::tree;

/// Parses a playbook. `file` is its name as it is to be shown and the base of its relative paths.
///
/// # Errors
/// [`Diagnostics`] with every unknown key, missing key, wrong type and value that can be found without knowing
/// the gates; those are [`plan`](super::plan())'s.
pub fn parse(file: &str, text: &str) -> Result<Playbook, Diagnostics> {
    // A byte order mark is no part of the text, and some editors write one.
    let source = Source::new(file, text.strip_prefix('\u{feff}').unwrap_or(text));
    let tree = tree::read(&source)?;
    let mut gather = Gather::new(&source);
    check(&tree, &schema(), &mut gather);
    gather.finish(())?;
    let mut playbook: Playbook = tree::decode(&source)?;
    playbook.source = source;
    Ok(playbook)
}

/// Parses a playbook from bytes, which must be UTF-8.
///
/// # Errors
/// As [`parse`], and at the first byte that is not UTF-8.
pub fn parse_bytes(file: &str, bytes: &[u8]) -> Result<Playbook, Diagnostics> {
    match std::str::from_utf8(bytes) {
        Ok(text) => parse(file, text),
        Err(error) => {
            let good = String::from_utf8_lossy(&bytes[..error.valid_up_to()]);
            let line = good.matches('\n').count() as u32 + 1;
            let column = good.rsplit('\n').next().unwrap_or("").chars().count() as u32 + 1;
            let source = Source::new(file, &String::from_utf8_lossy(bytes));
            let message = format!("byte {} is not UTF-8", error.valid_up_to());
            let hint = Some("save the playbook as UTF-8".to_owned());
            Err(Diagnostics::one(&source, At { line, column }, message, hint))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::schema::{Format, Origin, ParamValue, Seconds};
    use super::*;
    use crate::quant::Quantize;

    const GOOD: &str = "\
version: 1
name: demo
x-anything: [&eight apr-int8]
models:
  tiny.b: {source: ../m}
  tiny-a: {source: ../a, perplexity_ceiling: 9}
prompts:
  hello: {text: \"Hi\\n\"}
artifacts:
  apr-int8: {from: source, format: apr, quantize: int8}
  vendor: {file: x.gguf, models: [tiny-a], optional: true}
suites:
  parity:
    - gate: token-parity
      artifacts: [*eight]
      limits: {max_mismatches: 3, counting: free_running}
      timeout: 2m
";

    #[test]
    fn reads_a_playbook_with_its_places() {
        let playbook = parse("playbooks/demo.yaml", GOOD).expect("a good playbook");
        assert_eq!(playbook.models.names().collect::<Vec<_>>(), ["tiny.b", "tiny-a"], "file order");
        let int8 = playbook.artifacts.get("apr-int8").expect("named above");
        assert_eq!(int8.quantize, Some(Quantize::Int8));
        let Some(Origin::Converted { from, format: Format::Apr }) = int8.origin() else { panic!("{int8:?}") };
        assert_eq!((from.value.as_str(), from.at), ("source", At { line: 10, column: 20 }));
        let (suite, uses) = playbook.suites.iter().next().expect("one suite");
        assert_eq!((suite.value.as_str(), suite.at), ("parity", At { line: 13, column: 3 }));
        let gate = &uses[0];
        assert_eq!(gate.gate.at, At { line: 14, column: 13 });
        let aliased = &gate.artifacts.as_ref().expect("given")[0];
        assert_eq!((aliased.value.as_str(), aliased.at), ("apr-int8", At { line: 15, column: 19 }));
        let limit = gate.limits.get("max_mismatches").expect("given");
        assert_eq!((&limit.value, limit.at), (&ParamValue::Number(3.0), At { line: 16, column: 32 }));
        assert_eq!(gate.timeout, Some(Seconds(120)));
        assert_eq!(playbook.resolve("../m"), std::path::Path::new("playbooks/../m"));
        assert_eq!(playbook.backends[0].name.value, "cpu");
    }

    #[test]
    fn a_byte_order_mark_is_no_text() {
        assert!(parse("p.yaml", &format!("\u{feff}{GOOD}")).is_ok());
    }

    #[test]
    fn bytes_that_are_not_text_have_a_place() {
        let error = parse_bytes("p.yaml", b"version: 1\nname: \xff\n").expect_err("not UTF-8");
        assert_eq!(error.items()[0].at, At { line: 2, column: 7 });
        assert_eq!(error.items()[0].message, "byte 17 is not UTF-8");
    }

    /// Bombs, deep nests and cycles end in one complaint, quickly.
    #[test]
    fn hostile_yaml_is_refused() {
        let deep = format!("a: {}{}", "[".repeat(5000), "]".repeat(5000));
        let indented: String = (0..2000).map(|n| format!("{}k:\n", " ".repeat(n))).collect();
        let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for n in 1..12 {
            let aliases = vec![format!("*a{}", n - 1); 10].join(", ");
            bomb.push_str(&format!("a{n}: &a{n} [{aliases}]\n"));
        }
        let huge = "x: 1 #".to_owned() + &"y".repeat(2 << 20);
        let many: String = (0..60_000).map(|n| format!("k{n}: 1\n")).collect();
        let documents = "---\na: 1\n".repeat(2000);
        let texts =
            [deep, indented, bomb, huge, many, documents, "a: &a [*a]".into(), "a: &a {b: *a}".into()];
        for text in texts {
            let error = parse("p.yaml", &text).expect_err("refused");
            assert!(error.to_string().len() < 4000, "{}", error.to_string().len());
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_gets_an_answer(text in "[ -~\n\t&*é{}\\[\\]:#|>!'\"-]{0,200}") {
            if let Err(error) = parse("p.yaml", &text) {
                proptest::prop_assert!(error.count() > 0 && !error.to_string().is_empty());
            }
        }

        #[test]
        fn a_damaged_playbook_gets_an_answer(at in 0..GOOD.len(), byte in 0u8..=255) {
            let mut bytes = GOOD.as_bytes().to_vec();
            bytes[at] = byte;
            if let Err(error) = parse_bytes("p.yaml", &bytes) {
                proptest::prop_assert!(error.count() > 0 && !error.to_string().is_empty());
            }
        }
    }
}
