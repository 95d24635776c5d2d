//! Conversion: a pure plan, then a writer.
