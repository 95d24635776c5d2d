//! Runtimes that are not ours: a command whose stdout is the text, or a URL that answers with JSON.

use crate::playbook::Runtime;
use crate::record::Unable;
use crate::subject::{Answer, OutsideRuntime, OutsideText, SubjectInfo};
use serde_json::{Value as Json, json};
use std::process::Stdio;
use std::time::Duration;
use tokio::process::Command;

/// One runtime of a playbook.
pub struct Outside {
    name: String,
    command: Option<Vec<String>>,
    url: Option<String>,
    optional: bool,
    limit: Duration,
}

impl Outside {
    /// The runtime `name`; a call may take `timeout_s` seconds.
    pub fn new(name: &str, runtime: &Runtime, timeout_s: u64) -> Outside {
        Outside {
            name: name.to_owned(),
            command: runtime.command.clone(),
            url: runtime.url.as_ref().map(|url| url.value.clone()),
            optional: runtime.optional,
            limit: Duration::from_secs(timeout_s),
        }
    }

    /// A runtime that is not there: a Skip only where the playbook calls it optional.
    fn missing(&self, why: impl std::fmt::Display) -> Unable {
        if self.optional {
            return Unable::Missing(format!("runtime `{}`: {why}", self.name));
        }
        self.failed("missing", why)
    }

    fn late(&self) -> Unable {
        self.failed("timeout", format!("no answer within {} s", self.limit.as_secs()))
    }

    fn failed(&self, kind: &str, why: impl std::fmt::Display) -> Unable {
        Unable::Failed { kind: kind.into(), message: format!("runtime `{}`: {why}", self.name) }
    }

    fn run(&self, command: &[String], model: &str, prompt: &str, tokens: usize) -> Answer<OutsideText> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| self.failed("io", error))?;
        let ended = runtime.block_on(async {
            tokio::time::timeout(self.limit, self.run_to_end(command, model, prompt, tokens)).await
        });
        // A command that does not end in time is killed when its future is dropped.
        ended.unwrap_or_else(|_| Err(self.late()))
    }

    async fn run_to_end(
        &self,
        command: &[String],
        model: &str,
        prompt: &str,
        tokens: usize,
    ) -> Answer<OutsideText> {
        let fill = |word: &String| {
            word.replace("{model}", model)
                .replace("{tokens}", &tokens.to_string())
                .replace("{prompt}", prompt)
        };
        let words: Vec<String> = command.iter().map(fill).collect();
        let (program, arguments) =
            words.split_first().ok_or_else(|| self.failed("usage", "an empty command"))?;
        let child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| self.missing(format!("`{program}` cannot be started: {error}")))?;
        let output = child.wait_with_output().await.map_err(|error| self.failed("io", error))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            let last = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it said nothing");
            return Err(self.failed("crash", format!("`{program}` ended with {}: {last}", output.status)));
        }
        let text =
            String::from_utf8(output.stdout).map_err(|_| self.failed("io", "its output is not UTF-8"))?;
        Ok(OutsideText { text, tokens: None })
    }

    fn post(&self, url: &str, prompt: &str, tokens: usize) -> Answer<OutsideText> {
        let body = json!({
            "prompt": prompt,
            "n_predict": tokens,
            "temperature": 0,
            "top_k": 1,
            "cache_prompt": false,
            "return_tokens": true,
        });
        let agent: ureq::Agent =
            ureq::Agent::config_builder().timeout_global(Some(self.limit)).build().into();
        let answer = agent.post(url).send_json(&body).map_err(|error| match error {
            ureq::Error::Timeout(_) => self.late(),
            ureq::Error::StatusCode(code) => self.failed("io", format!("{url} answered with status {code}")),
            ureq::Error::Io(error) => self.missing(format!("{url} cannot be reached: {error}")),
            ureq::Error::HostNotFound | ureq::Error::ConnectionFailed => {
                self.missing(format!("{url} cannot be reached"))
            }
            error => self.failed("io", error),
        })?;
        let json: Json = answer
            .into_body()
            .read_json()
            .map_err(|error| self.failed("io", format!("its JSON: {error}")))?;
        let text =
            json["content"].as_str().ok_or_else(|| self.failed("io", "the answer has no text `content`"))?;
        let ids = json["tokens"].as_array().filter(|ids| !ids.is_empty());
        let id = |id: &Json| id.as_u64().and_then(|id| u32::try_from(id).ok());
        Ok(OutsideText { text: text.to_owned(), tokens: ids.and_then(|ids| ids.iter().map(id).collect()) })
    }
}

impl OutsideRuntime for Outside {
    fn name(&self) -> &str {
        &self.name
    }

    fn complete(&self, subject: &SubjectInfo, prompt: &str, tokens: usize) -> Answer<OutsideText> {
        match (&self.command, &self.url) {
            (Some(command), _) => self.run(command, &subject.path, prompt, tokens),
            (None, Some(url)) => self.post(url, prompt, tokens),
            (None, None) => Err(self.failed("usage", "it has neither a command nor a URL")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::playbook::{At, Located};
    use std::io::{Read, Write};
    use std::net::TcpListener;

    fn info() -> SubjectInfo {
        SubjectInfo {
            model: "m".into(),
            artifact: "a".into(),
            path: "models/m.gguf".into(),
            backend: "cpu".into(),
        }
    }

    fn by_command(words: &[&str], timeout_s: u64) -> Outside {
        let command = Some(words.iter().map(|w| (*w).to_owned()).collect());
        Outside::new("other", &Runtime { command, url: None, optional: true }, timeout_s)
    }

    #[test]
    fn a_commands_stdout_is_the_text_unstripped() {
        let other = by_command(&["printf", "%s|%s|%s ", "{model}", "{prompt}", "{tokens}"], 20);
        let said = other.complete(&info(), "two words", 5).expect("printf is everywhere");
        assert_eq!(said.text, "models/m.gguf|two words|5 ");
    }

    #[test]
    fn a_missing_program_a_failing_one_and_an_endless_one_are_told_apart() {
        let missing = by_command(&["/nowhere/no-such-program"], 20).complete(&info(), "p", 1);
        assert!(matches!(missing, Err(Unable::Missing(_))), "{missing:?}");
        let kind = |answer: Answer<OutsideText>| match answer {
            Err(Unable::Failed { kind, .. }) => kind,
            other => panic!("{other:?}"),
        };
        assert_eq!(kind(by_command(&["false"], 20).complete(&info(), "p", 1)), "crash");
        assert_eq!(kind(by_command(&["sleep", "30"], 1).complete(&info(), "p", 1)), "timeout");
    }

    #[test]
    fn a_url_gets_the_prompt_and_gives_text_and_tokens() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("one request");
            let mut seen = Vec::new();
            let mut buffer = [0u8; 4096];
            while !seen.ends_with(b"}") {
                let n = stream.read(&mut buffer).expect("a request");
                seen.extend_from_slice(&buffer[..n]);
            }
            let body = r#"{"content":" Paris","tokens":[7,8]}"#;
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            stream.write_all(answer.as_bytes()).expect("a reader");
            String::from_utf8_lossy(&seen).into_owned()
        });
        let url = Some(Located { value: format!("http://127.0.0.1:{port}/completion"), at: At::default() });
        let other = Outside::new("server", &Runtime { command: None, url, optional: false }, 20);
        let said = other.complete(&info(), "say \"it\"\n", 2).expect("an answer");
        assert_eq!(said, OutsideText { text: " Paris".into(), tokens: Some(vec![7, 8]) });
        let request = server.join().expect("the server ended");
        assert!(request.starts_with("POST /completion HTTP/1.1\r\n"), "{request}");
        let body = request.split("\r\n\r\n").nth(1).expect("a body");
        let body: Json = serde_json::from_str(body).expect("JSON");
        assert_eq!(body["prompt"], "say \"it\"\n");
        assert_eq!(body["n_predict"], 2);
    }
}
