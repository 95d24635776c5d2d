//! `schema`: the JSON Schema of playbooks, as `playbooks/playbook.schema.json` holds it.

use crate::playbook;

/// Arguments of `schema`.
#[derive(clap::Args)]
pub struct Args {}

/// Prints the schema.
pub fn execute(_: &Args) -> crate::Result<u8> {
    super::print_text(&playbook::json_schema())?;
    Ok(0)
}
