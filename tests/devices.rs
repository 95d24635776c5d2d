//! Adapters as users meet them: listed, asked for, missing; and playbooks whose backends may be missing.

use super::cli::{code, stderr};
use serde_json::Value as Json;
use std::process::{Command, Output};

/// Runs with this adapter asked for. Where `hidden`, no driver of this machine shows itself, so that there is none.
fn runner(arguments: &[&str], adapter: &str, hidden: bool) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_apr-qa-runner"));
    command.args(arguments).env("APR_QA_ADAPTER", adapter).env_remove("GITHUB_ACTIONS");
    if hidden {
        for variable in ["VK_DRIVER_FILES", "VK_ICD_FILENAMES"] {
            command.env(variable, "/nowhere");
        }
    }
    command.output().expect("the binary was built with the tests")
}

fn parsed(output: &Output) -> Json {
    assert_eq!(code(output), 0, "{}", stderr(output));
    serde_json::from_slice(&output.stdout).expect("stdout is one JSON value")
}

/// What this machine has; none where no driver is installed, or the program was built without GPU backends.
fn adapters() -> Vec<Json> {
    let output = runner(&["devices", "--json"], "", false);
    if code(&output) == 3 {
        return Vec::new();
    }
    parsed(&output)["adapters"].as_array().expect("a list").clone()
}

#[test]
fn a_machine_without_adapters_says_so() {
    for (arguments, adapter) in [
        (&["devices"][..], ""),
        (&["devices", "--json"][..], "0"),
        (&["devices", "--adapter", "cpu"][..], ""),
    ] {
        let output = runner(arguments, adapter, true);
        assert_eq!((code(&output), output.stdout.len()), (3, 0), "{arguments:?}");
        let said = stderr(&output);
        if cfg!(feature = "wgpu") {
            assert!(said.contains("no GPU adapter") && said.contains("mesa-vulkan-drivers"), "{said}");
        } else {
            assert!(said.contains("built without GPU backends") && said.contains("feature `wgpu`"), "{said}");
        }
    }
}

#[test]
fn adapters_are_listed_and_the_one_asked_for_is_marked() {
    let all = adapters();
    for (i, adapter) in all.iter().enumerate() {
        let name = adapter["name"].as_str().expect("a name");
        let limits = adapter["limits"].as_object().expect("limits");
        assert!(limits.len() == 8 && limits.values().all(Json::is_u64), "{adapter}");
        let listed = parsed(&runner(&["devices", "--json"], &i.to_string(), false));
        assert_eq!((&listed["chosen"], &listed["adapters"][i]), (&Json::from(i), adapter));
        let text = runner(&["devices", "--adapter", &i.to_string()], "no such adapter", false);
        let text = String::from_utf8_lossy(&text.stdout).into_owned();
        assert!(text.contains(&format!("* {i}  {name}")), "the flag goes before the variable: {text}");
    }
    if let Some(first) = all.first() {
        let output = runner(&["devices"], "no such adapter", false);
        assert_eq!(code(&output), 3);
        assert!(stderr(&output).contains(first["name"].as_str().expect("a name")), "{}", stderr(&output));
    }
}
