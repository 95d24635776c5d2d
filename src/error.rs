//! One error type: what went wrong, where, and what to do now.
//!
//! An error is read by a person at a CI log, so it always names its subject (a path, a key, a tensor),
//! the place inside it (byte, line, index) where there is one, and a hint where there is something to do.
//! The [`Kind`] decides the exit code; nothing else is ever parsed out of an error.

use std::fmt;
use std::path::Path;

/// A result whose error is [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What kind of trouble; the command line turns it into an exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A file or folder that should be there is not, or cannot be read.
    Io,
    /// A file that breaks its format: truncated, out of bounds, inconsistent, hostile.
    Malformed,
    /// A well-formed thing that this program does not do: a dtype, family, pre-tokenizer, format version.
    Unsupported,
    /// A checkpoint that breaks its family or format contract: missing, extra or misshapen tensors.
    Contract,
    /// A NaN or infinite weight.
    NonFinite,
    /// A conversion that would lose information and was not asked to.
    Lossy,
    /// A wrong argument or an invalid playbook or contract; nothing was run.
    Usage,
    /// The environment: an adapter, an outside program or a writable folder is missing.
    Environment,
    /// A computation that failed though its inputs were valid; a defect of this program.
    Internal,
}

/// What went wrong, where, and what now. Displays as `subject: at: what (hint)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// What kind of trouble.
    pub kind: Kind,
    /// A path, a command, a key: the thing that is at fault.
    pub subject: String,
    /// The place inside the subject: `byte 8192`, `line 3, column 7`, ``tensor `blk.0.attn_q.weight` ``.
    pub at: Option<String>,
    /// What is wrong there: a fragment in lower case without a period.
    pub what: String,
    /// What to do now, if there is something.
    pub hint: Option<String>,
}

impl Error {
    /// An error of `kind` about `subject`.
    pub fn new(kind: Kind, subject: impl Into<String>, what: impl Into<String>) -> Self {
        Error { kind, subject: subject.into(), at: None, what: what.into(), hint: None }
    }

    /// An I/O error about `path`.
    pub fn io(path: impl AsRef<Path>, source: &std::io::Error) -> Self {
        Error::new(Kind::Io, path.as_ref().display().to_string(), source.to_string())
    }

    /// A broken file at `path`.
    pub fn malformed(path: impl AsRef<Path>, what: impl Into<String>) -> Self {
        Error::new(Kind::Malformed, path.as_ref().display().to_string(), what)
    }

    /// Something that is valid but not supported.
    pub fn unsupported(subject: impl Into<String>, what: impl Into<String>) -> Self {
        Error::new(Kind::Unsupported, subject, what)
    }

    /// Names the place inside the subject.
    #[must_use]
    pub fn at(mut self, at: impl Into<String>) -> Self {
        self.at = Some(at.into());
        self
    }

    /// Says what to do now.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.subject)?;
        if let Some(at) = &self.at {
            write!(f, "{at}: ")?;
        }
        f.write_str(&self.what)?;
        if let Some(hint) = &self.hint {
            write!(f, "; {hint}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}
