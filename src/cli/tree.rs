//! `tree MODEL`: layers as a tree with sizes.

use crate::inspect::{self, Node};
use crate::tensor::Shape;
use crate::{Error, Kind, Result, formats, models};
use serde::Serialize;
use std::fmt::Write;
use std::path::PathBuf;

/// Arguments of `tree`.
#[derive(clap::Args)]
pub struct Args {
    /// HF model folder, GGUF or APR file.
    model: PathBuf,
    /// Only tensors whose name matches this pattern; `*` stands for any characters, `?` for one.
    #[arg(long, value_name = "GLOB")]
    filter: Option<String>,
    /// Show only the first N levels; sizes count everything below.
    #[arg(long, value_name = "N")]
    depth: Option<usize>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Output {
    file: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    architecture: Option<String>,
    /// Counted in the tree.
    num_layers: usize,
    #[serde(flatten)]
    root: Node,
}

/// Prints the tree.
pub fn execute(args: &Args) -> Result<u8> {
    let filter = args.filter.as_deref().map(super::tensors::glob).transpose()?;
    let checkpoint = formats::open(&args.model)?;
    let mut root = inspect::tree(&checkpoint, &|name| filter.as_ref().is_none_or(|f| f.is_match(name)));
    if root.tensor_count == 0 {
        let what = match &args.filter {
            Some(pattern) => format!("no tensor matches `{pattern}`"),
            None => "it holds no tensor".to_owned(),
        };
        let kind = if args.filter.is_some() { Kind::Usage } else { Kind::Contract };
        return Err(Error::new(kind, args.model.display().to_string(), what));
    }
    let num_layers = root.layers();
    if let Some(depth) = args.depth {
        cut(&mut root, depth);
    }
    let output = Output {
        file: args.model.display().to_string(),
        architecture: models::config(&checkpoint).ok().map(|c| c.family),
        num_layers,
        root,
    };
    if args.json {
        super::print_json(&output)?;
    } else {
        let mut out = String::new();
        draw(&output.root, "", "", &mut out);
        let _ = writeln!(out, "{num_layers} layers, {} tensors", output.root.tensor_count);
        super::print_text(&out)?;
    }
    Ok(0)
}

fn cut(node: &mut Node, depth: usize) {
    match depth.checked_sub(1) {
        None => node.children.clear(),
        Some(below) => node.children.iter_mut().for_each(|child| cut(child, below)),
    }
}

/// One line per node: `first` leads its own line, `rest` those below it.
fn draw(node: &Node, first: &str, rest: &str, out: &mut String) {
    // Writing to a String cannot fail.
    let _ = match (&node.shape, node.dtype) {
        (Some(shape), Some(dtype)) => {
            let layout = node.layout.map(|layout| format!(", {layout}")).unwrap_or_default();
            let shape = Shape(shape.clone());
            writeln!(out, "{first}{} {shape} {dtype}{layout} {} bytes", node.name, node.total_size)
        }
        _ => writeln!(out, "{first}{} ({} tensors, {} bytes)", node.name, node.tensor_count, node.total_size),
    };
    for (i, child) in node.children.iter().enumerate() {
        let last = i + 1 == node.children.len();
        let (branch, below) =
            if last { ("\u{2514}\u{2500} ", "   ") } else { ("\u{251c}\u{2500} ", "\u{2502}  ") };
        draw(child, &format!("{rest}{branch}"), &format!("{rest}{below}"), out);
    }
}
