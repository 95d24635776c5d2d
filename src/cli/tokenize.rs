//! `tokenize MODEL`: text to ids, or with `--decode` ids to text.

use super::model;
use crate::tokenizer::Tokenizer;
use crate::{Error, Kind, Result, formats};
use serde::Serialize;
use std::path::PathBuf;

/// Arguments of `tokenize`.
#[derive(clap::Args)]
#[command(group = clap::ArgGroup::new("input").required(true))]
pub struct Args {
    /// HF model folder, GGUF or APR file.
    model: PathBuf,
    /// Text to encode.
    #[arg(long, value_name = "TEXT", group = "input")]
    text: Option<String>,
    /// File to encode, taken as it is.
    #[arg(long, value_name = "FILE", group = "input")]
    text_file: Option<PathBuf>,
    /// Ids to decode, separated by commas or spaces.
    #[arg(long, value_name = "IDS", group = "input")]
    decode: Option<String>,
    /// Add no begin or end token; when decoding, keep special tokens out of the text.
    #[arg(long)]
    no_special: bool,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Encoded {
    ids: Vec<u32>,
    tokens: Vec<String>,
}

#[derive(Serialize)]
struct Decoded {
    ids: Vec<u32>,
    text: String,
}

/// Encodes or decodes.
pub fn execute(args: &Args) -> Result<u8> {
    let tokenizer = Tokenizer::from_checkpoint(&formats::open(&args.model)?)?;
    if let Some(list) = &args.decode {
        let ids = parse_ids(list, tokenizer.vocab_size())?;
        let text = tokenizer.decode(&ids, args.no_special);
        if args.json {
            super::print_json(&Decoded { ids, text })?;
        } else {
            super::print_text(&format!("{text}\n"))?;
        }
        return Ok(0);
    }
    let text = match (&args.text, &args.text_file) {
        (Some(text), _) => text.clone(),
        (None, Some(file)) => model::read_text(file)?,
        (None, None) => return Err(Error::new(Kind::Usage, "tokenize", "no text").hint("give --text TEXT")),
    };
    let ids = tokenizer.encode(&text, !args.no_special)?;
    if args.json {
        let piece = |&id: &u32| tokenizer.piece(id).unwrap_or_default().to_owned();
        let tokens = ids.iter().map(piece).collect();
        super::print_json(&Encoded { ids, tokens })?;
    } else {
        let words: Vec<String> = ids.iter().map(u32::to_string).collect();
        super::print_text(&format!("{}\n", words.join(" ")))?;
    }
    Ok(0)
}

fn parse_ids(list: &str, vocab_size: usize) -> Result<Vec<u32>> {
    let words = list.split(|c: char| c == ',' || c.is_whitespace()).filter(|w| !w.is_empty());
    words
        .map(|word| match word.parse::<u32>() {
            Ok(id) if (id as usize) < vocab_size => Ok(id),
            Ok(id) => Err(Error::new(
                Kind::Usage,
                "--decode",
                format!("id {id} is outside the vocabulary of {vocab_size}"),
            )),
            Err(_) => Err(Error::new(Kind::Usage, "--decode", format!("`{word}` is no token id"))),
        })
        .collect()
}
