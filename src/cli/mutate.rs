//! `mutate`: plant a defect of the catalogue into a copy of a model, or list the catalogue.

use crate::mutate::{self, DEFECTS};
use crate::{Error, Kind, Result};
use serde_json::json;
use std::path::PathBuf;

/// What to break and how.
#[derive(clap::Args)]
#[command(
    after_help = "The copy differs from MODEL in the defect alone; the same seed plants the same bytes.\n\
    A defect that nothing in MODEL can have is an error (exit 1)."
)]
pub struct Args {
    /// Model folder, GGUF or APR file to copy.
    #[arg(required_unless_present = "list")]
    model: Option<PathBuf>,
    /// Id of the defect; `--list` shows all.
    #[arg(long, value_name = "NAME", required_unless_present = "list")]
    defect: Option<String>,
    /// Where the defect is put: layer, tensor, token; the same seed puts it in the same place.
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// The broken copy, which must not be there yet.
    #[arg(short, long, value_name = "OUT", required_unless_present = "list")]
    output: Option<PathBuf>,
    /// List the catalogue, one defect a line, instead.
    #[arg(long, conflicts_with_all = ["model", "defect", "output"])]
    list: bool,
    /// Print JSON: of a planted defect what was done and what a gate must name.
    #[arg(long)]
    json: bool,
}

/// Plants or lists.
///
/// # Errors
/// As [`mutate::apply`]; [`Kind::Usage`] for a defect that is not in the catalogue.
pub fn execute(args: &Args) -> Result<u8> {
    let (Some(model), Some(name), Some(output)) = (&args.model, &args.defect, &args.output) else {
        print!("{}", if args.json { list_json() } else { list() });
        return Ok(0);
    };
    let unknown = || {
        Error::new(Kind::Usage, "--defect", format!("there is no defect `{name}`"))
            .hint("`mutate --list` shows the catalogue")
    };
    let defect = mutate::find(name).ok_or_else(unknown)?;
    let planted = mutate::apply(defect, model, output, args.seed)?;
    if args.json {
        let text =
            json!({ "planted": planted, "causes": defect.causes, "class": defect.class, "seed": args.seed });
        println!("{text:#}");
    } else {
        println!("{}: {}", planted.defect, planted.what);
    }
    Ok(0)
}

fn list() -> String {
    let width = DEFECTS.iter().map(|d| d.id.len()).max().unwrap_or(0);
    DEFECTS.iter().map(|d| format!("{:width$}  {:10}  {}\n", d.id, d.class.name(), d.what)).collect()
}

fn list_json() -> String {
    format!("{:#}\n", json!(DEFECTS))
}
