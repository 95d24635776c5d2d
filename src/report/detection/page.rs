//! The score as a page of Markdown: shares first, then tables, then every instance that went wrong.

use super::{Group, Row, Score, Share};
use crate::record::RunRecord;
use crate::report::markdown::escape;
use std::fmt::Write;

/// The page. Names and texts stand in code spans, so that nothing in them is Markdown.
pub(super) fn render(record: &RunRecord, score: &Score) -> String {
    let mut page = String::new();
    // Writing to a String cannot fail.
    let _ = write_page(&mut page, record, score);
    page
}

fn write_page(page: &mut String, record: &RunRecord, score: &Score) -> std::fmt::Result {
    writeln!(page, "# Detection: {}\n", code(score.playbook))?;
    writeln!(page, "| | instances | share | 95 % interval |\n|---|---:|---:|---|")?;
    share(page, "caught (a failure or a refusal by any gate)", &score.caught)?;
    share(page, "of those in a tensor or layer: named it, or its layer, first", &score.named)?;
    share(page, "of those caught: gave the right cause", &score.cause_named)?;
    share(page, "false alarms (unbroken artifacts)", &score.false_alarms)?;
    writeln!(page, "\nIntervals are Clopper and Pearson's. Run {}.", code(&record.started_at))?;
    table(page, "Caught by class of defect", "class", &score.by_class)?;
    table(page, "Caught by model", "model", &score.by_model)?;
    table(page, "Caught by artifact", "artifact", &score.by_artifact)?;
    if !score.first_gate.is_empty() {
        writeln!(page, "\n## Which gate spoke first\n\n| gate | times |\n|---|---:|")?;
        for (gate, times) in &score.first_gate {
            writeln!(page, "| {} | {times} |", name(gate))?;
        }
    }
    table(page, "Each gate, of the instances that it was asked about", "gate", &score.by_gate)?;
    rows(page, "Missed", "Every defect was caught.", &score.missed)?;
    rows(
        page,
        "Caught, but not named",
        "Every defect in a tensor or layer that was caught was named.",
        &score.unnamed,
    )?;
    rows(page, "False alarms", "No unbroken artifact was flagged.", &score.alarms)?;
    if !score.without_answer.is_empty() {
        writeln!(page, "\n## Without an outcome\n")?;
        for id in &score.without_answer {
            writeln!(page, "- {}", code(id))?;
        }
    }
    table(page, "Caught by defect", "defect", &score.by_defect)
}

/// Bytes of a text that others wrote.
const LONGEST: usize = 600;

/// In a list.
fn code(text: &str) -> String {
    escape::code(text, LONGEST)
}

/// In a table.
fn name(text: &str) -> String {
    escape::name(text, LONGEST)
}

fn share(page: &mut String, what: &str, share: &Share) -> std::fmt::Result {
    let Share { hits, n, low, high } = *share;
    if n == 0 {
        return writeln!(page, "| {what} | 0 of 0 | | |");
    }
    let percent = 100.0 * hits as f64 / n as f64;
    writeln!(
        page,
        "| {what} | {hits} of {n} | {percent:.1} % | {:.1} to {:.1} % |",
        low * 100.0,
        high * 100.0
    )
}

fn table(page: &mut String, title: &str, column: &str, groups: &[Group]) -> std::fmt::Result {
    if groups.is_empty() {
        return Ok(());
    }
    writeln!(page, "\n## {title}\n\n| {column} | instances | share | 95 % interval |\n|---|---:|---:|---|")?;
    groups.iter().try_for_each(|group| share(page, &name(&group.name), &group.caught))
}

fn rows(page: &mut String, title: &str, none: &str, rows: &[Row]) -> std::fmt::Result {
    writeln!(page, "\n## {title}\n")?;
    if rows.is_empty() {
        return writeln!(page, "{none}");
    }
    for row in rows {
        writeln!(page, "- {}", code(&row.case))?;
        writeln!(page, "  - planted: {}", code(&row.planted))?;
        writeln!(page, "  - {}", code(&row.why))?;
        if let Some(known) = &row.known {
            writeln!(page, "  - known: {}", code(known))?;
        }
        writeln!(page, "  - {}", code(&row.reproduce))?;
    }
    Ok(())
}
