//! Chat templates, in the environment that HF transformers gives them: block tags take their line with them,
//! `tojson` writes JSON as Python does, and methods of Python's strings and dictionaries work.
//!
//! There is no clock: `strftime_now` is undefined, and templates that ask whether it is defined take their
//! fixed date. `{% generation %}` is not supported.

use super::{TokenizerSpec, pycompat};
use crate::error::{Error, Kind, Result};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Value, ValueKind};
use minijinja::{Environment, ErrorKind};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One message of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChatMessage {
    /// `system`, `user` or `assistant`, or what else the template knows.
    pub role: String,
    /// The text.
    pub content: String,
}

/// Writes `messages` as the template of `spec` does.
pub(super) fn render(
    spec: &TokenizerSpec,
    messages: &[ChatMessage],
    add_generation_prompt: bool,
) -> Result<String> {
    let Some(source) = &spec.chat_template else {
        return Err(
            Error::unsupported("chat template", "the model has none").hint("give the prompt as plain text")
        );
    };
    let env = environment();
    let template =
        env.template_from_str(source).map_err(|e| Error::unsupported("chat template", e.to_string()))?;
    let mut context: BTreeMap<&str, Value> = BTreeMap::new();
    let message =
        |m: &ChatMessage| Value::from_pairs([("role", m.role.as_str()), ("content", m.content.as_str())]);
    context.insert("messages", messages.iter().map(message).collect());
    context.insert("add_generation_prompt", add_generation_prompt.into());
    for (name, id) in
        [("bos_token", spec.bos), ("eos_token", spec.eos), ("unk_token", spec.unk), ("pad_token", spec.pad)]
    {
        if let Some(token) = id.and_then(|id| spec.tokens.get(id as usize)) {
            context.insert(name, token.text.as_str().into());
        }
    }
    template.render(context).map_err(|e| match refusal(&e) {
        Some(message) => Error::new(Kind::Usage, "chat template", format!("refuses the messages: {message}")),
        None => Error::unsupported("chat template", e.to_string()),
    })
}

fn environment() -> Environment<'static> {
    let mut env = Environment::new();
    // A template comes with the model file: one that never ends is an error, not a hang.
    env.set_fuel(Some(FUEL));
    env.set_syntax(
        SyntaxConfig::builder()
            .trim_blocks(true)
            .lstrip_blocks(true)
            .build()
            .expect("the default delimiters are distinct"),
    );
    env.add_filter("tojson", to_json);
    env.add_function("raise_exception", |message: String| -> std::result::Result<Value, minijinja::Error> {
        Err(minijinja::Error::new(ErrorKind::InvalidOperation, format!("{REFUSAL}{message}")))
    });
    env.set_unknown_method_callback(pycompat::call);
    env
}

/// Instructions that rendering may take: thousands of times what the templates of the field need.
const FUEL: u64 = 10_000_000;

/// Marks an error as raised by the template itself.
const REFUSAL: &str = "raise_exception: ";

fn refusal(error: &minijinja::Error) -> Option<&str> {
    error.detail()?.strip_prefix(REFUSAL)
}

/// `json.dumps(value, ensure_ascii=False, indent=…)`: a space after every colon and, on one line, every comma.
fn to_json(value: &Value, options: Kwargs) -> std::result::Result<Value, minijinja::Error> {
    let indent: Option<usize> = options.get("indent")?;
    let _: Option<bool> = options.get("ensure_ascii")?;
    options.assert_all_used()?;
    let mut text = String::new();
    write_json(value, indent, 0, &mut text)?;
    Ok(Value::from_safe_string(text))
}

fn write_json(
    value: &Value,
    indent: Option<usize>,
    depth: usize,
    out: &mut String,
) -> std::result::Result<(), minijinja::Error> {
    let line = |depth: usize, out: &mut String| {
        if let Some(indent) = indent {
            out.push('\n');
            out.extend(std::iter::repeat_n(' ', indent.min(16) * depth));
        }
    };
    let comma = if indent.is_some() { "," } else { ", " };
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    let (open, close) = match value.kind() {
        ValueKind::Seq | ValueKind::Iterable => ('[', ']'),
        ValueKind::Map => ('{', '}'),
        ValueKind::None => {
            out.push_str("null");
            return Ok(());
        }
        ValueKind::Bool => {
            out.push_str(if value.is_true() { "true" } else { "false" });
            return Ok(());
        }
        ValueKind::Number => {
            out.push_str(&value.to_string());
            return Ok(());
        }
        ValueKind::String => {
            out.push_str(&quoted(value.as_str().unwrap_or_default()));
            return Ok(());
        }
        kind => {
            return Err(minijinja::Error::new(ErrorKind::BadSerialization, format!("{kind} is not JSON")));
        }
    };
    out.push(open);
    for (i, item) in value.try_iter()?.enumerate() {
        out.push_str(if i == 0 { "" } else { comma });
        line(depth + 1, out);
        if close == '}' {
            out.push_str(&quoted(&item.to_string()));
            out.push_str(": ");
            write_json(&value.get_item(&item)?, indent, depth + 1, out)?;
        } else {
            write_json(&item, indent, depth + 1, out)?;
        }
    }
    if value.len() != Some(0) {
        line(depth, out);
    }
    out.push(close);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::{Token, TokenKind, TokenizerModel};
    use super::*;

    fn spec(template: &str) -> TokenizerSpec {
        let tokens =
            ["<s>", "</s>"].map(|t| Token { text: t.to_owned(), score: 0.0, kind: TokenKind::Control });
        TokenizerSpec {
            model: TokenizerModel::SentencePiece,
            tokens: tokens.to_vec(),
            merges: Vec::new(),
            bos: Some(0),
            eos: Some(1),
            more_eos: Vec::new(),
            unk: None,
            pad: None,
            add_bos: false,
            add_eos: false,
            add_space_prefix: false,
            nfc: false,
            chat_template: Some(template.to_owned()),
        }
    }

    fn said(pairs: &[(&str, &str)]) -> Vec<ChatMessage> {
        pairs.iter().map(|(r, c)| ChatMessage { role: r.to_string(), content: c.to_string() }).collect()
    }

    #[test]
    fn a_template_that_never_ends_is_an_error() {
        let nested =
            "{% for a in range(99999) %}{% for b in range(99999) %}{{ a * b }}{% endfor %}{% endfor %}";
        let error = render(&spec(nested), &said(&[("user", "Hi")]), true).expect_err("out of fuel");
        assert!(error.to_string().contains("fuel"), "{error}");
    }

    fn rendered(template: &str) -> String {
        render(&spec(template), &said(&[("user", " Hi "), ("assistant", "Yo")]), true).expect("renders")
    }

    #[test]
    fn a_turn_template_with_a_default_system_message() {
        let template = "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nBe kind.<|im_end|>\n' }}{% endif %}\
            {{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";
        let got = render(&spec(template), &said(&[("user", "2+2?")]), true).expect("renders");
        assert_eq!(
            got,
            "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\n2+2?<|im_end|>\n<|im_start|>assistant\n"
        );
        let got = render(&spec(template), &said(&[("system", "S"), ("user", "U")]), false).expect("renders");
        assert_eq!(got, "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nU<|im_end|>\n");
    }

    #[test]
    fn a_tool_template_without_tools() {
        let template = "{%- if tools %}\n    {{- 'TOOLS' }}\n{%- else %}\n    {%- if messages[0]['role'] == 'system' %}\n        {{- 'S:' + messages[0]['content'] + '\\n' }}\n    {%- else %}\n        {{- 'S:default\\n' }}\n    {%- endif %}\n{%- endif %}\n\
            {%- for message in messages %}\n    {%- if (message.role == \"user\") or (message.role == \"system\" and not loop.first) or (message.role == \"assistant\" and not message.tool_calls) %}\n        {{- message.role + '\\n' + message.content + '\\n' }}\n    {%- elif message.role == \"tool\" %}\n        {%- if (loop.index0 == 0) or (messages[loop.index0 - 1].role != \"tool\") %}\n            {{- 'T' }}\n        {%- endif %}\n    {%- endif %}\n{%- endfor %}\n{%- if add_generation_prompt %}\n    {{- 'assistant\\n' }}\n{%- endif %}\n";
        assert_eq!(rendered(template), "S:default\nuser\n Hi \nassistant\nYo\nassistant\n");
    }

    #[test]
    fn blocks_take_their_line_and_one_final_newline_goes() {
        assert_eq!(rendered("a\n  {% if true %}\nb\n  {% endif %}\nc\n"), "a\nb\nc");
    }

    #[test]
    fn python_methods_namespaces_slices_and_loop_controls_work() {
        assert_eq!(
            rendered("{{ messages[0].content.strip() + '|' + messages[0]['role'].upper() }}"),
            "Hi|USER"
        );
        assert_eq!(
            rendered(
                "{% for m in messages[1:] %}{{ m.content.startswith('Y') }}{{ m.get('x', 'none') }}{% endfor %}"
            ),
            "Truenone"
        );
        assert_eq!(
            rendered("{% for k, v in messages[1].items() %}{{ k }}={{ v }};{% endfor %}"),
            "role=assistant;content=Yo;"
        );
        assert_eq!(
            rendered(
                "{% set ns = namespace(n=0) %}{% for m in messages %}{% if m.role == 'assistant' %}{% break %}{% endif %}{% set ns.n = ns.n + 1 %}{% endfor %}{{ ns.n }}"
            ),
            "1"
        );
        assert_eq!(
            rendered(
                "{{ 'a</think>b'.split('</think>')[-1].lstrip('\\n') }}{{ bos_token }}{{ strftime_now is defined }}"
            ),
            "b<s>False"
        );
    }

    #[test]
    fn to_json_writes_as_python_does() {
        assert_eq!(rendered("{{ messages[1] | tojson }}"), r#"{"role": "assistant", "content": "Yo"}"#);
        assert_eq!(
            rendered("{{ [1, 'é<', [], true, none] | tojson(indent=2) }}"),
            "[\n  1,\n  \"é<\",\n  [],\n  true,\n  null\n]"
        );
    }

    #[test]
    fn a_refusal_is_the_users_and_a_missing_template_is_said() {
        let error =
            render(&spec("{{ raise_exception('roles must alternate') }}"), &[], false).expect_err("raised");
        assert_eq!(
            (error.kind, error.what.as_str()),
            (Kind::Usage, "refuses the messages: roles must alternate")
        );
        assert_eq!(render(&spec("{% if %}"), &[], false).expect_err("syntax").kind, Kind::Unsupported);
        let none = TokenizerSpec { chat_template: None, ..spec("") };
        assert!(render(&none, &[], false).expect_err("none").to_string().contains("the model has none"));
    }
}
