//! Where reports go and how they are rendered, the same for every command that runs cases.

use crate::report::{JunitDialect, JunitInconclusive, RenderOptions};
use crate::runner::Destinations;
use clap::ValueEnum;
use std::path::PathBuf;

/// Where reports go.
#[derive(clap::Args)]
#[command(next_help_heading = "Reports")]
pub struct ReportArgs {
    /// Folder of all reports and of the evidence; default: the playbook's, else reports/NAME.
    #[arg(long, value_name = "DIR", env = "APR_QA_REPORT_DIR")]
    report_dir: Option<PathBuf>,
    /// Write a further copy of the JUnit XML here.
    #[arg(long, value_name = "PATH")]
    report_junit: Option<PathBuf>,
    /// Write a further copy of the Markdown report here.
    #[arg(long, value_name = "PATH")]
    report_md: Option<PathBuf>,
    /// Write a further copy of the HTML report here: one file, for a browser or for paper.
    #[arg(long, value_name = "PATH")]
    report_html: Option<PathBuf>,
    /// Write a further copy of the run record here, as JSON.
    #[arg(long, value_name = "PATH")]
    report_json: Option<PathBuf>,
    #[command(flatten)]
    rendering: RenderArgs,
}

/// How reports are rendered.
#[derive(clap::Args)]
pub struct RenderArgs {
    /// `strict` leaves out of the JUnit XML what the Jenkins schema does not know.
    #[arg(long, value_name = "DIALECT", default_value = "full")]
    junit_dialect: Dialect,
    /// How an inconclusive case stands in the JUnit XML.
    #[arg(long, value_name = "AS", default_value = "failure")]
    junit_inconclusive: Inconclusive,
}

#[derive(Clone, Copy, ValueEnum)]
enum Dialect {
    Full,
    Strict,
}

#[derive(Clone, Copy, ValueEnum)]
enum Inconclusive {
    Failure,
    Skipped,
}

impl ReportArgs {
    /// As the runner takes them.
    pub fn destinations(&self) -> Destinations {
        Destinations {
            folder: self.report_dir.clone(),
            junit: self.report_junit.clone(),
            markdown: self.report_md.clone(),
            html: self.report_html.clone(),
            json: self.report_json.clone(),
        }
    }

    /// How reports are rendered.
    pub fn render(&self) -> RenderOptions {
        self.rendering.options()
    }
}

impl RenderArgs {
    /// As reports take them.
    pub fn options(&self) -> RenderOptions {
        RenderOptions {
            junit_dialect: match self.junit_dialect {
                Dialect::Full => JunitDialect::Full,
                Dialect::Strict => JunitDialect::Strict,
            },
            junit_inconclusive: match self.junit_inconclusive {
                Inconclusive::Failure => JunitInconclusive::Failure,
                Inconclusive::Skipped => JunitInconclusive::Skipped,
            },
        }
    }
}
